"""The collector: on the master or local runner it merges the rows of a second and makes the intervals of them.

Seconds are counted since the test start on this process. A worker that counts differently is mapped by the clock in its
reports: the smallest difference between when a report came and what the worker's clock said is the offset of its clock.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from loadbench.agent import wire
from loadbench.agent.histogram import pack
from loadbench.agent.recorder import (
    BYTES,
    ERRORS,
    FAILED,
    FAILED_SUM,
    FAILURES,
    MAX,
    MAX_ENDPOINTS,
    MIN,
    OK,
    OTHER_ENDPOINT,
    SUM,
    UNTIMED,
    N,
    Row,
    Rows,
    add_row,
    empty_row,
)

GRACE_S = 1.6
"""How long after its end a second waits for a worker that has not reported past it."""
BODY_LIMIT = wire.MAX_BODY_BYTES - 32_768  # the rest is for what a test-stop message adds

Interval = dict[str, Any]
Endpoints = dict[tuple[str, str], Row]


class Gauges(NamedTuple):
    """What is measured at an instant, not counted."""

    users: int
    workers: int = 0
    workers_expected: int = 0
    cpu_percent: float | None = None


class Collector:
    """Adds rows up per second and numbers the intervals 0, 1, 2, ...

    Rows that come after their second was given out are counted in the next interval, so that the totals are exact.
    """

    def __init__(self, run_id: str, source: str, *, origin_ms: int) -> None:
        self._head = {"version": wire.WIRE_VERSION, "runId": run_id, "source": source}
        self._origin_ms = origin_ms
        self._start = 0  # the first second not given out
        self._seq = 0
        self._seconds: dict[int, Endpoints] = {}
        self._known: set[tuple[str, str]] = set()
        self._gauges: dict[int, Gauges] = {}
        self._offsets: dict[str, float] = {}
        self._through: dict[str, int] = {}
        self._requests = self._failures = 0

    @property
    def workers(self) -> frozenset[str]:
        """The workers that have reported."""
        return frozenset(self._through)

    def add(self, rows: Rows, *, shift: int = 0) -> None:
        """Add rows whose seconds are `shift` behind those of this process."""
        for second, method, name, row in rows:
            label = (method, name)
            if label not in self._known:
                if len(self._known) < MAX_ENDPOINTS:
                    self._known.add(label)
                else:
                    label = OTHER_ENDPOINT
            endpoints = self._seconds.setdefault(max(second + shift, self._start), {})
            if label in endpoints:
                add_row(endpoints[label], row)
            else:
                endpoints[label] = row

    def report(self, worker: str, elapsed: float, rows: Rows, *, now: float) -> float:
        """Take a worker's report.

        Parameters
        ----------
        worker : str
            The id of the worker.
        elapsed : float
            What the worker's clock said when it made the report: it has given all rows before that. Seconds.
        rows : Rows
            Its rows since its last report, by the worker's seconds.
        now : float
            Seconds since the test start on this process.

        Returns
        -------
        float
            `elapsed` on the clock of this process.
        """
        offset = min(now - elapsed, self._offsets.get(worker, math.inf))
        self._offsets[worker] = offset
        shift = math.floor(offset + 0.5)
        self.add(rows, shift=shift)
        self._through[worker] = max(math.floor(elapsed) + shift, self._through.get(worker, 0))
        return elapsed + offset

    def due(self, now: float, gauges: Gauges, *, live: Iterable[str] = (), dropped: int = 0) -> list[Interval]:
        """Give the intervals of the seconds that are complete.

        Parameters
        ----------
        now : float
            Seconds since the test start.
        gauges : Gauges
            As they are now.
        live : iterable of str
            The workers to wait for, at most `GRACE_S`. Empty on a local runner.
        dropped : int
            How many intervals of this source the spool has dropped so far.
        """
        for second in range(self._start, math.floor(now)):
            self._gauges.setdefault(second, gauges)
        through = min((self._through.get(worker, 0) for worker in live), default=math.inf)
        intervals = []
        while now >= self._start + 1 and (through > self._start or now >= self._start + 1 + GRACE_S):
            endpoints = self._seconds.pop(self._start, {})
            sampled = self._gauges.pop(self._start)
            intervals.append(self._interval(endpoints, sampled, end=self._start + 1, dropped=dropped))
            self._start += 1
        return intervals

    def close(self, end: float, gauges: Gauges, *, dropped: int = 0) -> list[Interval]:
        """Give all that is left; the last interval ends `end` seconds after the test start and is marked final."""
        intervals = self.due(max(end, self._start), gauges, dropped=dropped)
        end = max(end, self._start + 0.001)
        rest: Endpoints = {}
        for second in sorted(self._seconds):
            for label, row in self._seconds.pop(second).items():
                _put(rest, label, row)
        return [*intervals, self._interval(rest, gauges, end=end, dropped=dropped, final=True)]

    def _interval(
        self, endpoints: Endpoints, gauges: Gauges, *, end: float, dropped: int, final: bool = False
    ) -> Interval:
        self._requests += sum(row[N] for row in endpoints.values())
        self._failures += sum(row[FAILURES] for row in endpoints.values())
        interval = self._head | {
            "timestamp": self._origin_ms + round(end * 1000),
            "seq": self._seq,
            "durationMs": round((end - self._start) * 1000, 3),
            "users": gauges.users,
            "workers": gauges.workers,
            "workersExpected": gauges.workers_expected,
            "cumRequests": self._requests,
            "cumFailures": self._failures,
            "dropped": dropped,
            "final": final,
        }
        if gauges.cpu_percent is not None:
            interval["cpuPercent"] = round(gauges.cpu_percent, 1)
        self._seq += 1
        while True:
            arrays = _arrays(endpoints)
            if len(endpoints) <= 1 or not _may_be_large(arrays) or len(encode(interval | arrays)) <= BODY_LIMIT:
                return interval | arrays
            endpoints = _folded(endpoints)


def encode(message: dict[str, Any]) -> bytes:
    """Give the body of a message: compact JSON in UTF-8."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _put(endpoints: Endpoints, label: tuple[str, str], row: Row) -> None:
    add_row(endpoints.setdefault(label, empty_row()), row)


def _folded(endpoints: Endpoints) -> Endpoints:
    """Count the smaller half of the endpoints as OTHER_ENDPOINT: a body that is too large would be refused whole."""
    by_size = sorted(endpoints.items(), key=lambda item: (item[0] != OTHER_ENDPOINT, item[1][N]), reverse=True)
    keep = len(by_size) // 2 if len(by_size) > 3 else 0
    folded = dict(by_size[:keep])
    for _, row in by_size[keep:]:
        _put(folded, OTHER_ENDPOINT, row)
    return folded


def _arrays(endpoints: Endpoints) -> dict[str, Any]:
    rows = list(endpoints.values())
    histograms = pack([histogram for row in rows for histogram in (row[OK], row[FAILED])])
    return {
        "endpoints": [{"method": method, "name": name} for method, name in endpoints],
        "n": [row[N] for row in rows],
        "failures": [row[FAILURES] for row in rows],
        "untimed": [row[UNTIMED] for row in rows],
        "sumMs": [round(row[SUM], 6) for row in rows],
        "failedSumMs": [round(row[FAILED_SUM], 6) for row in rows],
        "minMs": [0.0 if row[MIN] == math.inf else round(row[MIN], 6) for row in rows],
        "maxMs": [round(max(row[MAX], 0.0), 6) for row in rows],
        "bytes": [row[BYTES] for row in rows],
        "histograms": base64.b64encode(histograms).decode(),
        "errors": _errors(rows),
    }


def _errors(rows: list[Row]) -> list[tuple[int, str, int]]:
    """Give the most frequent messages; the others share one row, on the endpoint that has most of them."""
    found = [(number, text, count) for number, row in enumerate(rows) for text, count in row[ERRORS].items()]
    named = sorted((error for error in found if error[1] != wire.OTHER), key=lambda error: -error[2])
    kept = named[: wire.MAX_ERROR_ROWS]
    others = [error for error in found if error[1] == wire.OTHER] + named[wire.MAX_ERROR_ROWS :]
    if others:
        most = max(others, key=lambda error: error[2])
        kept.append((most[0], wire.OTHER, sum(count for _, _, count in others)))
    return kept


def _may_be_large(arrays: dict[str, Any]) -> bool:
    """Judge by an upper bound, so that ordinary intervals are not encoded twice."""
    text = sum(len(endpoint["method"]) + len(endpoint["name"]) for endpoint in arrays["endpoints"])
    text += sum(len(message) for _, message, _ in arrays["errors"])
    return len(arrays["histograms"]) + 200 * len(arrays["endpoints"]) + 6 * text > BODY_LIMIT
