"""Many intervals made into one document that tells the same of the whole, so that a long run is read part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadbench.agent.histogram import FIRST_BUCKET
from loadbench.analysis import packed
from loadbench.analysis.intervals import BUCKETS, Document, Intervals
from loadbench.model import LoadTestRun

BUSY_PERCENT = 90.0
"""A load generator above this share of a core measures itself: it is late with requests and with their times."""
FRAGMENT = 0.5
"""An interval shorter than this share of the usual one is a fragment, such as that in which a run ends."""
_SUMS = ("n", "failures", "untimed", "sumMs", "failedSumMs", "bytes")


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
        is that of all their intervals; condensing these gives what condensing all intervals gives. None without
        intervals. Besides, of all endpoints whatever was chosen: `intervals` (documents), `slots` (different ends),
        `beginMs` (of the first interval, Unix ms), `users` (mean over time), `usersMin` (fragments left out),
        `usersMax`, `workers` (most), `requests`, `failed`, `cpuPercent` (highest; absent if unknown), `cpuBusyMs` (time
        above 90 %).
    """
    if not documents:
        return None
    data = Intervals.read(run, documents, endpoints=endpoints)
    present, group = np.unique(data.endpoint, return_inverse=True)
    number = len(present)
    timed = data.column("n") > data.column("untimed")
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(low, group[timed], data.column("minMs")[timed])
    np.maximum.at(high, group[timed], data.column("maxMs")[timed])
    columns = {field: np.bincount(group, weights=data.column(field), minlength=number) for field in _SUMS} | {
        "endpoints": present,
        "minMs": np.where(np.isinf(low), 0.0, low),
        "maxMs": np.where(np.isinf(high), 0.0, high),
    }
    return {
        "_id": f"{run.id}:condensed:{int(data.slot_ms[-1])}",
        "source": "condensed",
        "seq": 0,
        "timestamp": max(document["timestamp"] for document in documents),
        "durationMs": 1000 * data.duration_s(),
        **_load(data),
        **packed.pack_columns(columns),
        "histograms": _histograms(data, group, number),
    }


def _load(data: Intervals) -> dict[str, Any]:
    """Say what load the intervals were under, and what load the generator was under."""
    number, slot = len(data.slot_ms), data.slot
    duration_ms, users = data.total("durationMs"), np.nan_to_num(data.total("users"))
    lasting_ms = np.zeros(number)
    np.maximum.at(lasting_ms, slot, duration_ms)

    def among(field: str) -> np.ndarray:
        """Add a field up over the sources of each slot; users where the document is of a single interval."""
        given = data.total(field)
        return np.bincount(slot, weights=np.where(np.isnan(given), users, given), minlength=number)

    def counted(field: str, otherwise: float) -> float:
        return float(np.nan_to_num(data.total(field), nan=otherwise).sum())

    single = np.isnan(data.total("intervals"))
    usual_ms = np.median(duration_ms[single]) if single.any() else 0.0
    whole = np.bincount(slot, weights=~single | (duration_ms >= FRAGMENT * usual_ms), minlength=number) > 0
    cpu, busy_ms = data.total("cpuPercent"), data.total("cpuBusyMs")
    busy_ms = np.where(np.isnan(busy_ms), np.where(cpu > BUSY_PERCENT, duration_ms, 0.0), busy_ms)
    busiest_ms = np.zeros(number)
    np.maximum.at(busiest_ms, slot, busy_ms)
    begin_ms = data.total("beginMs")
    begin_ms = np.where(np.isnan(begin_ms), data.slot_ms[slot] - duration_ms, begin_ms)
    figures = {
        "intervals": int(counted("intervals", 1)),
        "slots": int(np.bincount(slot, np.nan_to_num(data.total("slots"), nan=1) / np.bincount(slot)[slot]).sum()),
        "beginMs": float(begin_ms.min()),
        "users": float(np.average(among("users"), weights=lasting_ms)) if lasting_ms.any() else 0.0,
        "usersMin": int(among("usersMin")[whole].min()),
        "usersMax": int(among("usersMax").max()),
        "workers": int(np.nan_to_num(data.total("workers")).max()),
        "requests": int(counted("requests", 0)),
        "failed": int(counted("failed", 0)),
        "cpuBusyMs": float(busiest_ms.sum()),
    }
    return figures if np.isnan(cpu).all() else figures | {"cpuPercent": float(np.nanmax(cpu))}


def _histograms(data: Intervals, group: np.ndarray, groups: int) -> bytes:
    """Merge the histograms of each group, and pack them."""
    entries = data.entries
    histogram = 2 * group[entries.row] + data.entry_failed
    key, count = _added_up(histogram * BUCKETS + (entries.bucket - FIRST_BUCKET), entries.count)
    return packed.pack(key // BUCKETS, key % BUCKETS + FIRST_BUCKET, count, 2 * groups)


def _added_up(key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each key once, ascending, and its count."""
    if key.size and int(key.max()) < 4 * key.size:  # a table of all keys is no larger than what it is made of
        total = np.bincount(key, weights=count).astype(np.int64)
        used = np.flatnonzero(total)
        return used, total[used]
    order = np.argsort(key, kind="stable")
    unique, start = np.unique(key[order], return_index=True)
    return unique, np.add.reduceat(count[order], start) if len(start) else count
