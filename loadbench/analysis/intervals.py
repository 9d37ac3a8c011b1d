"""Stored intervals decoded into flat numpy arrays: what every frame and summary is computed from.

Three levels, each a set of arrays of one length: *intervals* (a document each), *rows* (an endpoint within an interval)
and *entries* (a bucket of a histogram of a row). Decoding is linear; quantiles of any grouping come from one sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA, LAST_BUCKET, Histogram
from loadbench.analysis import packed
from loadbench.errors import InvalidInput, one_of
from loadbench.model import LoadTestRun
from loadbench.model.interval import ROW_PERCENTILES, Document

Outcome = Literal["all", "ok", "failed"]
OUTCOMES = ("all", "ok", "failed")
BUCKETS = LAST_BUCKET - FIRST_BUCKET + 1
DENSE_GROUPS = 512
TOGETHER = 0.75
"""Sources report together if the ends of their intervals are less than this share of an interval apart."""

# What has to be read of a document; the rest (errors, hashes) may be projected away.
FIELDS = (
    "source", "seq", "timestamp", "durationMs", "users", "workers", "requests", "failed", "cpuPercent",
    "endpoints", "n", "failures", "untimed", "sumMs", "failedSumMs", "minMs", "maxMs", "bytes", "histograms",
)  # fmt: skip


ROWS = (*(field for field in FIELDS if field != "histograms"), *ROW_PERCENTILES.values())
"""What tells of each row of an interval, with percentiles that are ready-made, and without any histogram."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The buckets of some histograms, ready to be grouped: which row, which bucket, how many requests."""

    row: np.ndarray
    bucket: np.ndarray
    count: np.ndarray

    def totals(self, group: np.ndarray, groups: int) -> np.ndarray:
        """Count the requests of each group; `group` gives the group of each row."""
        return np.bincount(group[self.row], weights=self.count, minlength=groups).astype(np.int64)

    def quantiles(self, group: np.ndarray, groups: int, percentiles: Sequence[float]) -> np.ndarray:
        """Merge the histograms of each group and read percentiles from the merged ones.

        Parameters
        ----------
        group : array of int
            The group of each row, in [0, groups).
        groups : int
            How many groups there are.
        percentiles : sequence of float
            Each in [0, 100].

        Returns
        -------
        array of float64, shape (groups, len(percentiles))
            Milliseconds, within 0.5 % of the order statistic of rank ceil(p / 100 * n); nan for an empty group.

        Notes
        -----
        Merging is adding, so it is enough to sort all entries by (group, bucket) and to look each rank up in the
        running sum of the counts.
        """
        result = np.full((groups, len(percentiles)), np.nan)
        if not len(percentiles):
            return result
        key, count = self._added_up(group, groups)
        running = np.concatenate([[0], np.cumsum(count)])
        edges = running[np.searchsorted(key, np.arange(groups + 1) * BUCKETS)]
        before, totals = edges[:-1], np.diff(edges)
        filled = totals > 0
        ascending = np.argsort(percentiles)  # looked up in ascending order, what was read last is still in the cache
        ranks = [before[filled] + nearest_rank(percentiles[index], totals[filled]) for index in ascending]
        found = key[np.searchsorted(running, np.stack(ranks, axis=1)) - 1] % BUCKETS + FIRST_BUCKET
        result[np.ix_(filled, ascending)] = values_of(found)
        return result

    def histograms(self, group: np.ndarray, groups: int) -> list[Histogram]:
        """Merge the histograms of each group."""
        table = np.bincount(self._keys(group), weights=self.count, minlength=groups * BUCKETS).astype(np.int64)
        merged = []
        for counts in table.reshape(groups, BUCKETS):
            used = np.flatnonzero(counts)
            merged.append(dict(zip((used + FIRST_BUCKET).tolist(), counts[used].tolist(), strict=True)))
        return merged

    def _keys(self, group: np.ndarray) -> np.ndarray:
        """Number the pairs of a group and a bucket."""
        return (group * BUCKETS - FIRST_BUCKET)[self.row] + self.bucket

    def _added_up(self, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the numbers of the pairs of a group and a bucket, ascending, and their counts."""
        key = self._keys(group)
        if groups <= DENSE_GROUPS:  # counting is 10 times faster than sorting while the table fits into the cache
            counts = np.bincount(key, weights=self.count, minlength=1).astype(np.int64)
            used = np.flatnonzero(counts)
            return used, counts[used]
        order = np.argsort(key, kind="stable")
        return key[order], self.count[order]

    def extremes(self, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the times that stand for the lowest and the highest bucket of each group, nan for an empty one."""
        low, high = np.full(groups, LAST_BUCKET + 1), np.full(groups, FIRST_BUCKET - 1)
        np.minimum.at(low, group[self.row], self.bucket)
        np.maximum.at(high, group[self.row], self.bucket)
        empty = low > high
        return tuple(np.where(empty, np.nan, values_of(edge)) for edge in (low, high))


def stored_percentiles(histograms: bytes, rows: int) -> dict[str, Any]:
    """Read the percentiles that an interval holds ready-made from its packed histograms.

    Returns
    -------
    dict
        Fields of `loadbench.model.Interval`, in milliseconds: `p50_ms` and so on, of all requests, left out if none had
        a time; `row_p50_ms` and so on, a value for each row, 0 if no request of it had a time.
    """
    row, bucket, count, _ = packed.entries([{"histograms": histograms}], np.array([rows]), np.ones(rows, bool))
    entries, percentiles = Entries(row, bucket, count), tuple(ROW_PERCENTILES)
    of_all = entries.quantiles(np.zeros(rows, np.int64), 1, percentiles)[0]
    of_rows = np.nan_to_num(entries.quantiles(np.arange(rows), rows, percentiles))
    found = {f"row_p{q:g}_ms": tuple(column) for q, column in zip(percentiles, of_rows.T.tolist(), strict=True)}
    if len(row):
        found |= {f"p{q:g}_ms": value for q, value in zip(percentiles, of_all.tolist(), strict=True)}
    return found


def values_of(buckets: np.ndarray) -> np.ndarray:
    """Give the time, in milliseconds, that stands for each bucket (`loadbench.agent.histogram.value_of`)."""
    return 2 * GAMMA ** buckets.astype(float) / (GAMMA + 1)


def nearest_rank(percentile: float, n: np.ndarray) -> np.ndarray:
    """Give ceil(percentile / 100 * n), at least 1, free of the rounding of 0.07 * 100 = 7.000000000000001."""
    exact = percentile * n / 100
    whole = np.rint(exact)
    rank = np.where(np.abs(exact - whole) < 1e-9 * np.maximum(exact, 1), whole, np.ceil(exact))
    return np.maximum(rank, 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Intervals:
    """Decoded documents. `slot` numbers the times at which they end; sources that report together share a slot."""

    documents: Sequence[Document]
    origin_ms: float
    slot_ms: np.ndarray
    slot: np.ndarray
    interval: np.ndarray
    endpoint: np.ndarray
    entries: Entries
    entry_failed: np.ndarray
    chosen: np.ndarray

    @classmethod
    def read(
        cls,
        run: LoadTestRun,
        documents: Sequence[Document],
        *,
        endpoints: Sequence[int] | None = None,
        histograms: bool = True,
    ) -> Intervals:
        """Decode raw documents of `metrics_timeseries`. They are not changed.

        Parameters
        ----------
        endpoints : sequence of int, optional
            Leave out the rows of all other endpoints; the intervals themselves stay.
        histograms : bool
            If not, there are no entries, and the documents need no histograms.
        """
        documents = list(documents)
        slot_ms, slot = slots(documents)
        rows = packed.rows(documents)
        endpoint = packed.column(documents, "endpoints")
        interval = np.repeat(np.arange(len(documents)), rows)
        chosen = np.ones(len(endpoint), bool) if endpoints is None else np.isin(endpoint, list(endpoints))
        told = (documents, rows, chosen) if histograms else ((), rows[:0], chosen[:0])
        row, bucket, count, failed = packed.entries(*told)
        return cls(
            documents=documents,
            origin_ms=origin_ms(run, documents),
            slot_ms=slot_ms,
            slot=slot,
            interval=interval[chosen],
            endpoint=endpoint[chosen],
            entries=Entries(row, bucket, count),
            entry_failed=failed,
            chosen=chosen,
        )

    @property
    def elapsed_s(self) -> np.ndarray:
        """Seconds from the start of the run to the end of each slot."""
        return (self.slot_ms - self.origin_ms) / 1000

    @property
    def row_slot(self) -> np.ndarray:
        return self.slot[self.interval]

    def column(self, field: str) -> np.ndarray:
        """Give one column of the documents, a value for each row."""
        return packed.column(self.documents, field)[self.chosen]

    def timed(self, group: np.ndarray, groups: int) -> np.ndarray:
        """Count the requests of each group that its sum of times is of; `group` gives the group of each row.

        Requests without a time are in no histogram and not in the sum. A row with a sum but no histogram was imported
        from a file without distributions: its sum is of all its requests.
        """
        n, untimed = self.column("n"), self.column("untimed")
        without = (untimed == n) & (self.column("sumMs") > 0)
        return np.bincount(group, weights=np.where(without, n, n - untimed), minlength=groups)

    def counts(self, field: str) -> np.ndarray:
        """Add one array field up, a value for each interval."""
        return np.bincount(self.interval, weights=self.column(field), minlength=len(self.documents))

    def total(self, field: str, dtype: Any = np.float64) -> np.ndarray:
        """Give one scalar field of the documents, a value for each interval; nan where it is absent."""
        values = (document.get(field) for document in self.documents)
        missing = np.nan if dtype is np.float64 else 0
        return np.fromiter((missing if value is None else value for value in values), dtype, len(self.documents))

    def duration_s(self) -> float:
        """Seconds that the intervals cover; sources that report together cover the same time."""
        longest = np.zeros(len(self.slot_ms))
        np.maximum.at(longest, self.slot, self.total("durationMs"))
        return float(longest.sum()) / 1000

    def of(self, outcome: Outcome) -> Entries:
        """Give the entries of all, of the successful ("ok") or of the failed requests."""
        if outcome not in OUTCOMES:
            raise one_of("outcome", outcome, OUTCOMES)
        if outcome == "all":
            return self.entries
        chosen = self.entry_failed if outcome == "failed" else ~self.entry_failed
        return Entries(self.entries.row[chosen], self.entries.bucket[chosen], self.entries.count[chosen])


def timestamps_ms(documents: Sequence[Document]) -> np.ndarray:
    """Give the end of each interval in Unix milliseconds. A date without a zone is UTC, as MongoDB means it."""
    return np.fromiter((_unix_ms(document["timestamp"]) for document in documents), np.int64, len(documents))


def slots(documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
    """Find out which intervals tell of the same time.

    Returns
    -------
    slot_ms : array of int64
        The end of each slot in Unix milliseconds, ascending: that of its last interval.
    slot : array of int
        The slot of each document. A source has one interval in a slot; the ends of several sources may be apart by
        less than three quarters of a usual interval, because each counts its seconds from its own start.
    """
    end_ms = timestamps_ms(documents)
    sources = [document["source"] for document in documents]
    if len(set(sources)) < 2:
        return np.unique(end_ms, return_inverse=True)
    reach_ms = TOGETHER * float(np.median([document["durationMs"] for document in documents]))
    slot, slot_ms = np.zeros(len(documents), np.int64), []
    first_ms, members = 0, set()
    for index in np.argsort(end_ms, kind="stable").tolist():
        moment = int(end_ms[index])
        apart = not slot_ms or sources[index] in members or moment - first_ms >= reach_ms
        if apart and not (slot_ms and moment == slot_ms[-1]):
            slot_ms.append(moment)
            first_ms, members = moment, set()
        slot_ms[-1] = moment
        members.add(sources[index])
        slot[index] = len(slot_ms) - 1
    return np.array(slot_ms, np.int64), slot


def whole_slots(documents: Sequence[Document]) -> Sequence[Document]:
    """Leave out the last slot, which may go on in what was not read; all are given if they are of one slot."""
    _, slot = slots(documents)
    last = int(slot.max(initial=0))
    return [document for document, number in zip(documents, slot, strict=True) if number < last] or documents


def origin_ms(run: LoadTestRun, documents: Sequence[Document]) -> float:
    """Give the moment from which elapsed seconds count: the run's start, or that of its first interval."""
    if run.started_at is not None:
        return float(run.started_at)
    return min((_unix_ms(document["timestamp"]) - document["durationMs"] for document in documents), default=0.0)


def within(
    run: LoadTestRun, documents: Sequence[Document], *, start_s: float | None = None, end_s: float | None = None
) -> list[Document]:
    """Choose the whole intervals that end within (start_s, end_s], in seconds from the start of the run.

    Raises
    ------
    InvalidInput
        If the window ends before it starts.
    """
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise InvalidInput(f"the window must end after it starts; not {start_s:g} s to {end_s:g} s", field="end_s")
    elapsed = (timestamps_ms(documents) - origin_ms(run, documents)) / 1000
    low = -np.inf if start_s is None else start_s
    high = np.inf if end_s is None else end_s
    return [document for document, end in zip(documents, elapsed, strict=True) if low < end <= high]


def endpoint_names(run: LoadTestRun, endpoint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the method and the name of each endpoint index."""
    if len(endpoint) and int(endpoint.max()) >= len(run.endpoints):
        raise InvalidInput(
            f"the intervals of {run.id} name endpoint {int(endpoint.max())}, the run knows {len(run.endpoints)}: "
            "read the run again after its intervals",
            field="run",
        )
    methods = np.array([each.method for each in run.endpoints], dtype=object)
    names = np.array([each.name for each in run.endpoints], dtype=object)
    return methods[endpoint], names[endpoint]


def _unix_ms(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
