"""The binaries of stored intervals as numpy arrays: the columns of their rows, and their histograms."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from loadbench.agent.histogram import PACKED_VERSION
from loadbench.errors import LoadbenchError
from loadbench.model.interval import ROW_COLUMNS, Document


class Sections(NamedTuple):
    """The parts of packed histograms, not decoded."""

    lengths: bytes
    buckets: bytes
    counts: bytes


def column(documents: Sequence[Document], field: str) -> np.ndarray:
    """Give one column of some documents, those of one after those of the other; it cannot be written to."""
    return np.frombuffer(b"".join(_parts(documents, field)), ROW_COLUMNS[field])


def rows(documents: Sequence[Document]) -> np.ndarray:
    """Count the rows of each document."""
    width = np.dtype(ROW_COLUMNS["endpoints"]).itemsize
    return np.fromiter(map(len, _parts(documents, "endpoints")), np.int64, len(documents)) // width


def _parts(documents: Sequence[Document], field: str) -> list[bytes]:
    """Give the column of each document; those of the first versions were BSON arrays."""
    parts = list(map(itemgetter(field), documents))
    if set(map(type, parts)) <= {bytes}:
        return parts
    return [part if isinstance(part, bytes) else np.array(part, ROW_COLUMNS[field]).tobytes() for part in parts]


def sections(document: Document, rows: int) -> Sections:
    """Take the packed histograms of a document apart, two of each row (`agent.histogram.pack` tells the layout).

    Raises
    ------
    LoadbenchError
        If they are of another format, or not of so many rows.
    """
    packed = document["histograms"]
    buckets = 8 + 8 * rows
    counts = buckets + (len(packed) - buckets) // 3
    if packed[:8] != _header(2 * rows):
        raise LoadbenchError(
            f"interval {document.get('_id')!r} holds histograms that this version cannot read: "
            "update loadbench, or leave the interval out"
        )
    return Sections(packed[8:buckets], packed[buckets:counts], packed[counts:])


def entries(documents: Sequence[Document], rows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
    """Read the packed histograms of the rows chosen.

    Returns
    -------
    row, bucket, count : array of int64
        For each bucket of a histogram its row (among those chosen), its index and its count; by row, then
        `failed`, then bucket.
    failed : array of bool
        Whether the count is of failed requests.
    """
    parts = [sections(document, number) for document, number in zip(documents, rows.tolist(), strict=True)]
    size = np.frombuffer(b"".join(part.lengths for part in parts), "<u4").astype(np.int64).reshape(-1, 2)
    bucket = np.frombuffer(b"".join(part.buckets for part in parts), "<i2")
    count = np.frombuffer(b"".join(part.counts for part in parts), "<u4")
    if not chosen.all():
        kept = np.repeat(chosen, size.sum(axis=1))
        size, bucket, count = size[chosen], bucket[kept], count[kept]
    row = np.repeat(np.arange(len(size)), size.sum(axis=1))
    failed = np.repeat(np.tile([False, True], len(size)), size.ravel())
    return row, bucket.astype(np.int64), count.astype(np.int64), failed


def pack(histogram: np.ndarray, bucket: np.ndarray, count: np.ndarray, number: int) -> bytes:
    """Write histograms as `loadbench.agent.histogram.pack` does.

    Parameters
    ----------
    histogram, bucket, count : array of int
        For each count its histogram, in [0, number), and its bucket: ascending by histogram, then bucket.
    number : int
        How many histograms there are.
    """
    lengths = np.bincount(histogram, minlength=number)
    columns = ((lengths, "<u4"), (bucket, "<i2"), (count, "<u4"))
    return b"".join((_header(number), *(values.astype(dtype).tobytes() for values, dtype in columns)))


def pack_columns(columns: dict[str, Any]) -> dict[str, bytes]:
    """Write columns, named as in MongoDB, as `Interval.to_mongo` does."""
    return {field: np.asarray(values, ROW_COLUMNS[field]).tobytes() for field, values in columns.items()}


def _header(number: int) -> bytes:
    return bytes((PACKED_VERSION, 0, 0, 0)) + number.to_bytes(4, "little")
