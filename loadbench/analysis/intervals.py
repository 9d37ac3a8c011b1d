"""Stored intervals decoded into flat numpy arrays: what every frame and summary is computed from.

Three levels, each a set of arrays of one length: *intervals* (a document each), *rows* (an endpoint within an interval)
and *entries* (a bucket of a histogram of a row). Decoding is linear; quantiles of any grouping come from one sort.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA, LAST_BUCKET, PACKED_VERSION, Histogram
from loadbench.errors import InvalidInput, LoadbenchError, one_of
from loadbench.model import LoadTestRun

Document = Mapping[str, Any]
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
        bucket, count = self._sorted(group, groups)
        running = np.cumsum(count)
        totals = self.totals(group, groups)
        before = np.cumsum(totals) - totals
        filled = totals > 0
        for index, percentile in enumerate(percentiles):
            rank = before[filled] + nearest_rank(percentile, totals[filled])
            result[filled, index] = values_of(bucket[np.searchsorted(running, rank)])
        return result

    def histograms(self, group: np.ndarray, groups: int) -> list[Histogram]:
        """Merge the histograms of each group."""
        key = group[self.row] * BUCKETS + (self.bucket - FIRST_BUCKET)
        table = np.bincount(key, weights=self.count, minlength=groups * BUCKETS).astype(np.int64)
        merged = []
        for counts in table.reshape(groups, BUCKETS):
            used = np.flatnonzero(counts)
            merged.append(dict(zip((used + FIRST_BUCKET).tolist(), counts[used].tolist(), strict=True)))
        return merged

    def _sorted(self, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Give buckets and counts by (group, bucket)."""
        key = group[self.row] * BUCKETS + (self.bucket - FIRST_BUCKET)
        if groups <= DENSE_GROUPS:  # counting is 10 times faster than sorting while the table fits into the cache
            counts = np.bincount(key, weights=self.count, minlength=1).astype(np.int64)
            used = np.flatnonzero(counts)
            return used % BUCKETS + FIRST_BUCKET, counts[used]
        order = np.argsort(key, kind="stable")
        return self.bucket[order], self.count[order]

    def extremes(self, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the times that stand for the lowest and the highest bucket of each group, nan for an empty one."""
        low, high = np.full(groups, LAST_BUCKET + 1), np.full(groups, FIRST_BUCKET - 1)
        np.minimum.at(low, group[self.row], self.bucket)
        np.maximum.at(high, group[self.row], self.bucket)
        empty = low > high
        return tuple(np.where(empty, np.nan, values_of(edge)) for edge in (low, high))


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
        cls, run: LoadTestRun, documents: Sequence[Document], *, endpoints: Sequence[int] | None = None
    ) -> Intervals:
        """Decode raw documents of `metrics_timeseries`. They are not changed.

        Parameters
        ----------
        endpoints : sequence of int, optional
            Leave out the rows of all other endpoints; the intervals themselves stay.
        """
        documents = list(documents)
        slot_ms, slot = slots(documents)
        lengths = np.fromiter((len(document["endpoints"]) for document in documents), np.int64, len(documents))
        endpoint = _chain(documents, "endpoints", np.int64)
        interval = np.repeat(np.arange(len(documents)), lengths)
        chosen = np.ones(len(endpoint), bool) if endpoints is None else np.isin(endpoint, list(endpoints))
        row, bucket, count, failed = _decode(documents, lengths, chosen)
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

    def column(self, field: str, dtype: Any = np.int64) -> np.ndarray:
        """Give one array field of the documents, a value for each row."""
        return _chain(self.documents, field, dtype)[self.chosen]

    def timed(self, group: np.ndarray, groups: int) -> np.ndarray:
        """Count the requests of each group that its sum of times is of; `group` gives the group of each row.

        Requests without a time are in no histogram and not in the sum. A row with a sum but no histogram was imported
        from a file without distributions: its sum is of all its requests.
        """
        n, untimed = self.column("n"), self.column("untimed")
        without = (untimed == n) & (self.column("sumMs", np.float64) > 0)
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


def _chain(documents: Sequence[Document], field: str, dtype: Any) -> np.ndarray:
    columns = [document[field] for document in documents]
    return np.fromiter(itertools.chain.from_iterable(columns), dtype, sum(map(len, columns)))


def _decode(documents: Sequence[Document], lengths: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
    """Read the packed histograms of the rows chosen: for each entry its row (among those chosen), bucket, count, and
    whether it is of failed requests."""
    sizes, buckets, counts = [], [], []
    for document, rows in zip(documents, lengths, strict=True):
        packed = document["histograms"]
        number = int.from_bytes(packed[4:8], "little")
        if packed[:1] != bytes((PACKED_VERSION,)) or number != 2 * rows:
            raise LoadbenchError(
                f"interval {document.get('_id')!r} holds histograms that this version cannot read: "
                "update loadbench, or leave the interval out"
            )
        size = np.frombuffer(packed, "<u4", number, 8)
        total, start = int(size.sum()), 8 + 4 * number
        sizes.append(size)
        buckets.append(np.frombuffer(packed, "<i2", total, start))
        counts.append(np.frombuffer(packed, "<u4", total, start + 2 * total))
    if not sizes:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, np.zeros(0, bool)
    size, bucket, count = np.concatenate(sizes), np.concatenate(buckets), np.concatenate(counts)
    if not chosen.all():
        of_chosen = np.repeat(chosen, 2)
        kept = np.repeat(of_chosen, size)
        size, bucket, count = size[of_chosen], bucket[kept], count[kept]
    histogram = np.repeat(np.arange(len(size)), size)
    bucket, count = bucket.astype(np.int64), count.astype(np.int64)
    return histogram // 2, bucket, count, (histogram % 2).astype(bool)
