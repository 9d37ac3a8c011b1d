"""The figures of a run by interval, as arrays: what charts are drawn from, whole or a part at a time.

A part is read as documents, made into series, and forgotten; series of neighbouring parts are joined. So the length of
a run bounds what a chart costs in time, but not in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loadbench.analysis.intervals import Document, Intervals, slots

Series = dict[str, np.ndarray]
"""Name -> a value for each slot, by time; missing ones are nan. The names are those of `FIGURES` and percentiles."""

FIGURES = (
    "end_ms", "duration_ms", "users", "workers", "requests", "failures", "requests_per_s", "failures_per_s",
    "mean_ms", "min_ms", "max_ms", "cpu_percent",
)  # fmt: skip
STORED = {50.0: "p50Ms", 95.0: "p95Ms", 99.0: "p99Ms"}
"""The percentiles of all requests of an interval that its document holds ready-made, from merged histograms."""
TOTALS = (
    "source", "seq", "timestamp", "durationMs", "users", "workers", "requests", "failed", "avgMs", "cpuPercent",
    *STORED.values(),
)  # fmt: skip
"""What `of_totals` reads of a document: one part in twenty of it, and no histogram."""
FRAGMENT = 0.5


def percentile_name(percentile: float) -> str:
    """Name a percentile: `p95`, `p99.9`."""
    return f"p{percentile:.10g}"


def of_totals(documents: Sequence[Document], percentiles: Sequence[float]) -> Series | None:
    """Give the figures of all requests from the totals of each interval.

    Returns
    -------
    Series or None
        Without `min_ms` and `max_ms`. None if totals do not tell: a percentile is not in `STORED`, or several sources
        reported together, so that their histograms have to be merged.
    """
    if any(percentile not in STORED for percentile in percentiles):
        return None
    slot_ms, slot = slots(documents)
    if len(slot_ms) < len(documents):
        return None
    documents = [documents[index] for index in np.argsort(slot)]

    def given(field: str) -> np.ndarray:
        values = (document.get(field) for document in documents)
        return np.fromiter((np.nan if value is None else value for value in values), np.float64, len(documents))

    requests, failures, duration_ms = given("requests"), given("failed"), given("durationMs")
    return {
        "end_ms": slot_ms,
        "duration_ms": duration_ms,
        "users": given("users"),
        "workers": given("workers"),
        "requests": requests,
        "failures": failures,
        "requests_per_s": 1000 * requests / duration_ms,
        "failures_per_s": 1000 * failures / duration_ms,
        "mean_ms": given("avgMs"),
        "cpu_percent": given("cpuPercent"),
        **{percentile_name(percentile): given(STORED[percentile]) for percentile in percentiles},
    }


def of_intervals(data: Intervals, percentiles: Sequence[float]) -> Series:
    """Give the figures of each slot, all histograms of its rows merged."""
    number, slot, row_slot = len(data.slot_ms), data.slot, data.row_slot
    requests, failures, duration_ms = data.counts("n"), data.counts("failures"), data.total("durationMs")
    timed = data.column("n") > data.column("untimed")

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(slot, weights=values, minlength=number)

    def extreme(which: np.ufunc, values: np.ndarray, slots_of: np.ndarray) -> np.ndarray:
        worst = -np.inf if which is np.fmax else np.inf
        found = np.full(number, worst)
        which.at(found, slots_of, values)
        return np.where(np.isinf(found), np.nan, found)

    times = data.timed(row_slot, number)
    sum_ms = np.bincount(row_slot, weights=data.column("sumMs"), minlength=number)
    quantiles = data.entries.quantiles(row_slot, number, percentiles)
    return {
        "end_ms": data.slot_ms,
        "duration_ms": extreme(np.fmax, duration_ms, slot),
        "users": added(data.total("users")),
        "workers": added(data.total("workers")),
        "requests": added(requests),
        "failures": added(failures),
        "requests_per_s": added(1000 * requests / duration_ms),
        "failures_per_s": added(1000 * failures / duration_ms),
        "mean_ms": np.divide(sum_ms, times, out=np.full(number, np.nan), where=times > 0),
        "min_ms": extreme(np.fmin, data.column("minMs")[timed], row_slot[timed]),
        "max_ms": extreme(np.fmax, data.column("maxMs")[timed], row_slot[timed]),
        "cpu_percent": extreme(np.fmax, data.total("cpuPercent"), slot),
        **dict(zip(map(percentile_name, percentiles), quantiles.T, strict=True)),
    }


def join(parts: Sequence[Series]) -> Series:
    """Put the series of neighbouring parts of a run behind each other; at least one part."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(series: Series, chosen: np.ndarray) -> Series:
    """Give some slots of the series, by position or by mask."""
    return {name: values[chosen] for name, values in series.items()}


def without_fragments(series: Series) -> Series:
    """Leave out intervals shorter than half of the usual one, such as that in which a run ends.

    The rates of the few requests in some milliseconds are noise, and would be the highest peaks of a chart.
    """
    duration_ms = series["duration_ms"]
    if not len(duration_ms):
        return series
    return take(series, duration_ms >= FRAGMENT * np.median(duration_ms))


def holes(series: Series) -> list[tuple[int, int]]:
    """Give the stretches of time, (from, to] in Unix ms, of which there is no interval though there are around it."""
    end_ms, duration_ms = series["end_ms"], series["duration_ms"]
    if len(end_ms) < 2:
        return []
    begin_ms = end_ms - duration_ms
    usual_ms = np.median(duration_ms)
    after = np.flatnonzero(begin_ms[1:] - end_ms[:-1] > usual_ms / 2)
    return [(int(end_ms[index]), round(float(begin_ms[index + 1]))) for index in after]
