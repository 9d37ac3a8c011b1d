"""What several runs measured, run by run and endpoint by endpoint, as arrays: what comparisons are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loadbench.agent.histogram import GAMMA
from loadbench.analysis import packed
from loadbench.analysis.intervals import Document, Intervals, Outcome
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.validity import Validity
from loadbench.model import Endpoint, LoadTestRun


@dataclass(frozen=True, eq=False)
class Sample:
    """One run in one window: its record, the condensed document of the window (None without), how far it is valid."""

    run: LoadTestRun
    document: Document | None
    validity: Validity


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison: a run, or a pool of runs that are taken as repetitions of each other."""

    label: str
    samples: tuple[Sample, ...]

    @property
    def runs(self) -> tuple[LoadTestRun, ...]:
        return tuple(sample.run for sample in self.samples)


@dataclass(frozen=True, eq=False)
class Measurements:
    """Runs x endpoints, the last endpoint being the total ("Aggregated"), with a histogram for each.

    `counts` has the axes run, endpoint, bucket; `seconds` is what each run's window covers.
    """

    endpoints: tuple[tuple[str, str], ...]
    first_bucket: int
    counts: np.ndarray
    requests: np.ndarray
    failures: np.ndarray
    sum_ms: np.ndarray
    seconds: np.ndarray

    @cached_property
    def timed(self) -> np.ndarray:
        """Requests in the histograms, by run and endpoint."""
        return self.counts.sum(axis=2)

    @property
    def labels(self) -> list[str]:
        """The endpoints as people write them: "GET /api/products", and "Aggregated" at the end."""
        return [f"{method} {name}".strip() for method, name in self.endpoints]

    def of(self, runs: slice | Sequence[int]) -> Measurements:
        """Take some of the runs."""
        taken = (self.counts, self.requests, self.failures, self.sum_ms, self.seconds)
        return Measurements(self.endpoints, self.first_bucket, *(values[runs] for values in taken))

    def merged(self) -> Measurements:
        """Add the runs up into one."""
        taken = (self.counts, self.requests, self.failures, self.sum_ms, self.seconds)
        return Measurements(self.endpoints, self.first_bucket, *(values.sum(axis=0)[None] for values in taken))

    def quantiles(self, percentiles: Sequence[float]) -> np.ndarray:
        """Read percentiles of each run and endpoint, between the edges of a bucket as if it were filled evenly.

        Returns
        -------
        array of float64, shape (runs, endpoints, percentiles)
            Milliseconds; nan for an empty histogram.
        """
        return quantiles_of(self.counts, self.first_bucket, percentiles)


def quantiles_of(counts: np.ndarray, first_bucket: int, percentiles: Sequence[float]) -> np.ndarray:
    """Read percentiles from histograms along the last axis, interpolated within the bucket.

    Notes
    -----
    With c requests below a bucket that holds m of n, the percentile p is gamma ** (bucket - 1 + (p n / 100 - c) / m).
    A bucket is 1 % wide. Two runs whose percentiles lie close to an edge would else differ by 1 %, or by nothing: the
    noise between runs, which verdicts rest on, has to be seen on a finer scale. The result lies in the bucket that
    `loadbench.analysis.summary` reads, so it is within 1 % of the exact order statistic, usually much closer.
    """
    running = counts.cumsum(axis=-1)
    total = running[..., -1] if counts.shape[-1] else np.zeros(counts.shape[:-1])
    found = np.full((*counts.shape[:-1], len(percentiles)), np.nan)
    filled = total > 0
    rows, edges = counts[filled], running[filled]
    for index, percentile in enumerate(percentiles):
        rank = np.maximum(percentile * total[filled] / 100, 1e-9)
        place = np.minimum((edges < rank[:, None] * (1 - 1e-12)).sum(axis=1), max(0, counts.shape[-1] - 1))
        here = np.arange(len(rows)), place
        inside = (rank - (edges[here] - rows[here])) / np.where(rows[here] > 0, rows[here], 1)
        found[filled, index] = GAMMA ** (first_bucket + place - 1 + np.clip(inside, 0, 1))
    return found


def _endpoints(sample: Sample) -> Iterator[Endpoint]:
    return map(sample.run.endpoints.__getitem__, packed.column([sample.document], "endpoints").tolist())


def measure(samples: Sequence[Sample], *, outcome: Outcome = "all") -> Measurements:
    """Read the condensed documents of several runs, all at once.

    Parameters
    ----------
    samples : sequence of Sample
        One without a document has no requests.
    outcome : {"all", "ok", "failed"}
        Whose response times are in the histograms. Counts and sums are of all requests whatever it is.
    """
    read = [(number, sample) for number, sample in enumerate(samples) if sample.document is not None]
    pairs = sorted({(endpoint.name, endpoint.method) for _, sample in read for endpoint in _endpoints(sample)})
    place = {pair: index for index, pair in enumerate(pairs)}
    shape = (len(samples), len(pairs))
    seconds = np.zeros(len(samples))
    for number, sample in read:
        seconds[number] = sample.document["durationMs"] / 1000
    endpoints = (*((method, name) for name, method in pairs), ("", AGGREGATED))
    if not read:
        empty = np.zeros((len(samples), 1))
        return Measurements(endpoints, 0, np.zeros((len(samples), 1, 0)), empty, empty, empty, seconds)
    data = Intervals.read(read[0][1].run, [sample.document for _, sample in read])
    run_of = np.array([number for number, _ in read])[data.interval]
    names = [place[(endpoint.name, endpoint.method)] for _, sample in read for endpoint in _endpoints(sample)]
    row = run_of * shape[1] + np.array(names, np.int64)
    size = shape[0] * shape[1]

    def added(values: np.ndarray) -> np.ndarray:
        return _with_total(np.bincount(row, weights=values, minlength=size).reshape(shape))

    entries = data.of(outcome)
    first = int(entries.bucket.min(initial=0)) if len(entries.bucket) else 0
    buckets = int(entries.bucket.max(initial=first)) - first + 1 if len(entries.bucket) else 0
    key = row[entries.row] * buckets + entries.bucket - first
    counts = np.bincount(key, weights=entries.count, minlength=size * buckets).reshape(*shape, buckets)
    return Measurements(
        endpoints=endpoints,
        first_bucket=first,
        counts=_with_total(counts),
        requests=added(data.column("n")),
        failures=added(data.column("failures")),
        sum_ms=added(data.column("sumMs")),
        seconds=seconds,
    )


def _with_total(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, values.sum(axis=1, keepdims=True)], axis=1)
