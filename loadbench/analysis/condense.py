"""Many intervals made into one document that tells the same of the whole, so that a long run is read part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadbench.agent.histogram import FIRST_BUCKET, PACKED_VERSION
from loadbench.analysis.intervals import BUCKETS, Document, Intervals
from loadbench.model import LoadTestRun

_SUMS = {"n": int, "failures": int, "untimed": int, "sumMs": float, "failedSumMs": float, "bytes": int}


def condense(
    run: LoadTestRun, documents: Sequence[Document], *, endpoints: Sequence[int] | None = None
) -> dict[str, Any] | None:
    """Add intervals up.

    Parameters
    ----------
    run : LoadTestRun
    documents : sequence of documents
        Its stored intervals, in any order.
    endpoints : sequence of int, optional
        The endpoints wanted, by their place in the run's list; all if left out.

    Returns
    -------
    dict or None
        A document such as those given: their counts and sums added, their histograms merged. `durationMs` is the time
        that they cover. `loadbench.analysis.summary.summary` of several such, of parts of a run that follow each other,
        is that of all their intervals. None without intervals.
    """
    if not documents:
        return None
    data = Intervals.read(run, documents, endpoints=endpoints)
    present, group = np.unique(data.endpoint, return_inverse=True)
    number = len(present)
    timed = data.column("n") > data.column("untimed")
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(low, group[timed], data.column("minMs", np.float64)[timed])
    np.maximum.at(high, group[timed], data.column("maxMs", np.float64)[timed])
    sums = {
        field: np.bincount(group, weights=data.column(field, dtype), minlength=number).astype(dtype).tolist()
        for field, dtype in _SUMS.items()
    }
    return {
        "_id": f"{run.id}:condensed:{int(data.slot_ms[-1])}",
        "source": "condensed",
        "seq": 0,
        "timestamp": max(document["timestamp"] for document in documents),
        "durationMs": 1000 * data.duration_s(),
        "endpoints": present.tolist(),
        **sums,
        "minMs": np.where(np.isinf(low), 0.0, low).tolist(),
        "maxMs": np.where(np.isinf(high), 0.0, high).tolist(),
        "histograms": _packed(data, group, number),
    }


def _packed(data: Intervals, group: np.ndarray, groups: int) -> bytes:
    """Merge the histograms of each group, and write them as `loadbench.agent.histogram.pack` does."""
    entries = data.entries
    histogram = 2 * group[entries.row] + data.entry_failed
    key, count = _added_up(histogram * BUCKETS + (entries.bucket - FIRST_BUCKET), entries.count)
    lengths = np.bincount(key // BUCKETS, minlength=2 * groups)
    return b"".join(
        (
            np.array([PACKED_VERSION, 2 * groups], "<u4").tobytes(),
            lengths.astype("<u4").tobytes(),
            (key % BUCKETS + FIRST_BUCKET).astype("<i2").tobytes(),
            count.astype("<u4").tobytes(),
        )
    )


def _added_up(key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each key once, ascending, and its count."""
    if key.size and int(key.max()) < 4 * key.size:  # a table of all keys is no larger than what it is made of
        total = np.bincount(key, weights=count).astype(np.int64)
        used = np.flatnonzero(total)
        return used, total[used]
    order = np.argsort(key, kind="stable")
    unique, start = np.unique(key[order], return_index=True)
    return unique, np.add.reduceat(count[order], start) if len(start) else count
