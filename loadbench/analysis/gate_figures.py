"""The figures that gates are about, of any stretches of a run: percentiles from merged histograms, exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loadbench.analysis.gate_grammar import Gate
from loadbench.analysis.intervals import Document, Entries, Intervals, nearest_rank, values_of
from loadbench.model import LoadTestRun

AT_ONCE = 1000
"""Stretches whose histograms are held at once: what a gate takes in memory does not grow with the run."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Neighbouring parts of a run, and what the requests chosen did in each.

    `ms_requests` are those that a mean is of: with a response time. `of_row` gives the cell of each row.
    """

    begin_s: np.ndarray
    end_s: np.ndarray
    seconds: np.ndarray
    requests: np.ndarray
    failures: np.ndarray
    timed: np.ndarray
    sum_ms: np.ndarray
    min_ms: np.ndarray
    max_ms: np.ndarray
    entries: Entries
    ok: Entries
    of_row: np.ndarray

    @classmethod
    def read(
        cls, run: LoadTestRun, documents: Sequence[Document], endpoints: Sequence[int] | None, apart: bool
    ) -> Cells:
        """Decode intervals: a cell for each moment at which some end, or, if not `apart`, one for all of them."""
        data = Intervals.read(run, documents, endpoints=endpoints)
        slots = len(data.slot_ms)
        seconds = np.zeros(slots)
        np.maximum.at(seconds, data.slot, data.total("durationMs") / 1000)
        cell, number = data.row_slot, slots
        end_s = data.elapsed_s
        begin_s = end_s - seconds
        if not apart:
            cell, number = np.zeros_like(cell), 1
            begin_s, end_s, seconds = begin_s[:1], end_s[-1:], seconds.sum(keepdims=True)
        n, untimed = data.column("n"), data.column("untimed")
        has_time = n > untimed
        low, high = np.full(number, np.inf), np.full(number, -np.inf)
        np.minimum.at(low, cell[has_time], data.column("minMs")[has_time])
        np.maximum.at(high, cell[has_time], data.column("maxMs")[has_time])
        return cls(
            begin_s=begin_s,
            end_s=end_s,
            seconds=seconds,
            requests=np.bincount(cell, weights=n, minlength=number),
            failures=np.bincount(cell, weights=data.column("failures"), minlength=number),
            timed=data.timed(cell, number),
            sum_ms=np.bincount(cell, weights=data.column("sumMs"), minlength=number),
            min_ms=low,
            max_ms=high,
            entries=data.entries,
            ok=data.of("ok"),
            of_row=cell,
        )

    def together(self) -> Cells:
        """Give one cell for all of them."""
        if len(self.end_s) == 1:
            return self
        sums = {
            name: getattr(self, name).sum(keepdims=True)
            for name in ("seconds", "requests", "failures", "timed", "sum_ms")
        }
        return replace(
            self, **sums, begin_s=self.begin_s[:1], end_s=self.end_s[-1:], min_ms=self.min_ms.min(keepdims=True),
            max_ms=self.max_ms.max(keepdims=True), of_row=np.zeros_like(self.of_row),
        )  # fmt: skip

    def figures(self, gate: Gate, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give a gate's figure for each stretch, from cell `first` to cell `last`.

        Returns
        -------
        values : array of float64
            In the unit of the gate's figure; nan where no request tells.
        requests : array of int64
            How many requests each is of; for times, those that have one.
        """
        requests, failures = _added(self.requests, first, last), _added(self.failures, first, last)
        seconds = _added(self.seconds, first, last)
        timed = _added(self.timed, first, last).astype(np.int64)
        match gate.figure:
            case "requests":
                return requests, requests.astype(np.int64)
            case "errors":
                return failures, requests.astype(np.int64)
            case "requests/s":
                return _divided(requests, seconds), requests.astype(np.int64)
            case "errors/s":
                return _divided(failures, seconds), requests.astype(np.int64)
            case "error rate":
                return _divided(failures, requests), requests.astype(np.int64)
            case "mean":
                return _divided(_added(self.sum_ms, first, last), timed), timed
            case "min":
                return self._extreme(np.minimum, first, last), timed
            case "max":
                return self._extreme(np.maximum, first, last), timed
            case "apdex":
                return self._apdex(gate.threshold_ms, first, last), timed
        return self._percentiles(gate.percentile, first, last)

    def _extreme(self, which: np.ufunc, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        values, nothing = (self.min_ms, np.inf) if which is np.minimum else (self.max_ms, -np.inf)
        if not len(first):
            return np.zeros(0)
        found = which.reduceat(np.append(values, nothing), np.stack([first, last + 1], axis=1).ravel())[::2]
        return np.where(np.isinf(found), np.nan, found)

    def _percentiles(self, percentile: float, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read a percentile from the merged histogram of each stretch; see `Entries.quantiles`."""
        values, requests = np.full(len(first), np.nan), np.zeros(len(first), np.int64)
        for part, merged, lowest in self._merged(self.entries, first, last):
            running = np.cumsum(merged, axis=1)
            total = running[:, -1]
            bucket = (running < nearest_rank(percentile, total)[:, None]).sum(axis=1) + lowest
            values[part] = np.where(total > 0, values_of(bucket), np.nan)
            requests[part] = total
        low, high = self._extreme(np.minimum, first, last), self._extreme(np.maximum, first, last)
        return np.clip(values, low, high), requests

    def _apdex(self, threshold_ms: float, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Give (satisfied + tolerating / 2) / all; see `loadbench.analysis.distribution.apdex`."""
        good, total = np.zeros(len(first)), np.zeros(len(first))
        for part, merged, _ in self._merged(self.entries, first, last):
            total[part] = merged.sum(axis=1)
        for part, merged, lowest in self._merged(self.ok, first, last):
            times = values_of(np.arange(merged.shape[1]) + lowest)
            weight = 0.5 * (times <= threshold_ms) + 0.5 * (times <= 4 * threshold_ms)
            good[part] = merged @ weight
        return _divided(good, total)

    def _merged(self, entries: Entries, first: np.ndarray, last: np.ndarray) -> Iterator[tuple[slice, np.ndarray, int]]:
        """Give, a part of the stretches at a time, their merged histograms as a table, and its lowest bucket."""
        if not len(entries.bucket) or not len(first):
            return
        lowest, width = int(entries.bucket.min()), int(entries.bucket.max() - entries.bucket.min()) + 1
        cell = self.of_row[entries.row]
        order = np.argsort(cell, kind="stable")
        cell, bucket, count = cell[order], entries.bucket[order] - lowest, entries.count[order]
        for start in range(0, len(first), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            low, high = int(first[part].min()), int(last[part].max())
            inside = slice(*np.searchsorted(cell, [low, high + 1]))
            key = (cell[inside] - low) * width + bucket[inside]
            size = high - low + 1
            counts = np.bincount(key, weights=count[inside], minlength=size * width).astype(np.int64)
            running = np.zeros((size + 1, width), np.int64)
            np.cumsum(counts.reshape(size, width), axis=0, out=running[1:])
            yield part, running[last[part] + 1 - low] - running[first[part] - low], lowest


def _added(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    running = np.concatenate([[0], np.cumsum(values)])
    return running[last + 1] - running[first]


def _divided(total: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(total, by, out=np.full(len(total), np.nan), where=np.asarray(by) > 0)
