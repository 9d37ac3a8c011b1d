"""The points a live view draws: what each stored interval of a run comes to, however and whenever it arrived."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from loadbench.agent.histogram import value_of
from loadbench.analysis import packed
from loadbench.model.interval import ROW_PERCENTILES, column

COLUMNS = ("seq", "end_s", "duration_s", "users", "requests_per_s", "failures_per_s", "p50_ms", "p95_ms", "p99_ms")
ENDPOINT_COLUMNS = ("requests_per_s", "failures_per_s", "p50_ms", "p95_ms", "p99_ms")
QUANTILES = (0.5, 0.95, 0.99)


FRAGMENT_MS = 500
"""An interval shorter than this, the last of a run, is counted but not drawn: rates of so few requests are noise."""


def endpoint_row(document: Mapping[str, Any], endpoint: int) -> tuple[float, ...]:
    """Give ENDPOINT_COLUMNS of one endpoint in one stored interval, percentiles from its own merged histograms.

    An endpoint without requests has a rate of 0 and no percentiles (nan); a fragment of an interval has neither.
    """
    if document["durationMs"] < FRAGMENT_MS:
        return (math.nan,) * len(ENDPOINT_COLUMNS)
    endpoints = column(document, "endpoints")
    if endpoint not in endpoints:
        return (0.0, 0.0, math.nan, math.nan, math.nan)
    row, seconds = endpoints.index(endpoint), document["durationMs"] / 1000
    requests, failures, untimed = (column(document, field)[row] for field in ("n", "failures", "untimed"))
    return (requests / seconds, failures / seconds, *_percentiles(document, row, has_times=requests > untimed))


def _percentiles(document: Mapping[str, Any], row: int, *, has_times: bool) -> tuple[float, ...]:
    """Give p50, p95 and p99 of one row: as they were stored, else from its own histograms."""
    stored = ROW_PERCENTILES.values()
    if not has_times:
        return (math.nan,) * len(QUANTILES)
    if all(field in document for field in stored):
        return tuple(column(document, field)[row] for field in stored)
    return _quantiles(document, len(column(document, "endpoints")), row)


def _quantiles(document: Mapping[str, Any], rows: int, row: int) -> tuple[float, ...]:
    """Merge the histograms of one row and give QUANTILES, without decoding the others."""
    lengths, buckets, counts = packed.sections(document, rows)
    ends = np.cumsum(np.frombuffer(lengths, "<u4").reshape(-1, 2).sum(axis=1), dtype=np.int64)
    of_row = slice(int(ends[row - 1]) if row else 0, int(ends[row]))
    bucket = np.frombuffer(buckets, "<i2")[of_row]
    order = np.argsort(bucket, kind="stable")
    seen = np.cumsum(np.frombuffer(counts, "<u4")[of_row][order], dtype=np.int64)
    ranks = [max(1, math.ceil(q * int(seen[-1]))) for q in QUANTILES]
    return tuple(value_of(int(bucket[order[np.searchsorted(seen, rank)]])) for rank in ranks)


class Points:
    """The intervals a view has seen, in the order of their arrival; each (source, seq) counts once."""

    def __init__(self) -> None:
        self.documents: list[Mapping[str, Any]] = []
        self.rows: list[tuple[float, ...]] = []
        self.t0_ms: float | None = None
        self.latest: Mapping[str, Any] | None = None
        self._seen: dict[str, set[int]] = {}
        self._next: dict[str, int] = {}
        self._highest: dict[str, int] = {}

    def add(self, document: Mapping[str, Any]) -> bool:
        """Take an interval; False if it is known."""
        source, seq = document["source"], document["seq"]
        seen = self._seen.setdefault(source, set())
        if seq < self._next.get(source, 0) or seq in seen:
            return False
        seen.add(seq)
        following = self._next.get(source, 0)
        while following in seen:
            seen.discard(following)
            following += 1
        self._next[source] = following
        self._highest[source] = max(self._highest.get(source, -1), seq)
        end_ms = _unix_ms(document["timestamp"])
        if self.t0_ms is None:
            self.t0_ms = end_ms - document["durationMs"]
        if self.latest is None or end_ms >= _unix_ms(self.latest["timestamp"]):
            self.latest = document
        self.documents.append(document)
        figures = (document.get(name) for name in ("totalRps", "errorsPerSec", "p50Ms", "p95Ms", "p99Ms"))
        drawn = document["durationMs"] >= FRAGMENT_MS
        self.rows.append(
            (
                seq,
                (end_ms - self.t0_ms) / 1000,
                document["durationMs"] / 1000,
                document["users"],
                *(_number(value if drawn else None) for value in figures),
            )
        )
        return True

    def position(self, *, patience: int | None = None) -> dict[str, int]:
        """Say how far each source is known without a gap: what `read_after` needs.

        A gap more than `patience` intervals behind the newest is passed over, so that one lost interval does not make
        every later reading longer.
        """
        return {
            source: max(self._next[source] - 1, highest - patience if patience is not None else -1)
            for source, highest in self._highest.items()
        }

    def missing(self) -> int:
        """Count the intervals that others have overtaken."""
        return sum(self._highest[source] + 1 - self._next[source] - len(self._seen[source]) for source in self._highest)

    def binary(self, first: int, endpoints: Sequence[int]) -> bytes:
        """Give the rows from number `first` on as float32: COLUMNS, then ENDPOINT_COLUMNS of each endpoint."""
        rows: Iterable[tuple[float, ...]] = self.rows[first:]
        if endpoints:
            rows = [
                row + tuple(value for endpoint in endpoints for value in endpoint_row(document, endpoint))
                for row, document in zip(rows, self.documents[first:], strict=True)
            ]
        return np.array(rows, dtype="<f4").tobytes()

    def frame(self) -> pd.DataFrame:
        """Give the timeline as the DataFrame that `plots.timeline` draws."""
        rows = sorted(self.rows, key=lambda row: row[1])
        data = pd.DataFrame(rows, columns=COLUMNS)
        start_s = float((data["end_s"] - data["duration_s"]).min()) if rows else 0.0
        moments = ((data["end_s"] * 1000).round() + (self.t0_ms or 0)).astype("int64")
        return data.assign(
            elapsed_s=data["end_s"] - start_s, timestamp=pd.to_datetime(moments, unit="ms", utc=True).dt.as_unit("ms")
        )


def _unix_ms(moment: datetime | int | float) -> float:
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    return float(moment)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
