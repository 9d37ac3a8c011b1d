"""Windows: the named parts of a run. Ramp, steady and drain are found here; people may set these and others.

Users tell when the load stood still; where an import has none, the rate of requests does. What is left of a warm-up
after that, a cold cache or a pool that fills, is found on the distributions of the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA
from loadbench.analysis.condense import FRAGMENT
from loadbench.analysis.intervals import BUCKETS, Document, Intervals
from loadbench.errors import InvalidInput, one_of
from loadbench.model import LoadTestRun, Window

WHOLE = "whole"
RAMP = "ramp"
STEADY = "steady"
DRAIN = "drain"
LEVEL = 0.02
"""Users are on a level as long as they differ from it by at most this share of it."""
NEARLY = 0.8
"""Of levels on which users stood nearly as long as on the longest, the highest is the steady one."""
LEVELS = 12
LEAST_INTERVALS = 3
LEAST_SHARE = 0.1
"""Where users stood for fewer intervals, or a smaller share of the run, they passed by: that is no steady state."""

COARSE = 20
"""Buckets to a bin of the distributions that a warm-up is looked for in: a bin is 22 % wide."""
BINS = math.ceil(BUCKETS / COARSE)
BIN_WIDTH = COARSE * math.log(GAMMA)
MAX_ROWS = 400
BLOCKS = 40
LEAST_BLOCKS = 8
LEAST_REQUESTS = 50
"""Blocks of a warm-up check are as many as these allow: so many intervals, or with so many requests in each."""
SHIFTED = 0.1
"""A warm-up is over when response times are off by less than 10 %, or by no more than they are later on."""

MAX_POINTS = 600
RISEN, CLEARLY = 0.6, 4.0
"""Without users: in a ramp the first third has less than this share of the steady rate, beyond so many deviations."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What windows are found on: of each interval end, length, users and requests; coarse histograms of rows of them.

    Seconds count from the start of the run. A row of `histogram` is of the intervals that end in (from, to].
    """

    end_s: np.ndarray
    duration_s: np.ndarray
    users: np.ndarray
    requests: np.ndarray
    histogram: np.ndarray
    from_s: np.ndarray
    to_s: np.ndarray


def find(run: LoadTestRun, documents: Sequence[Document]) -> tuple[Window, ...]:
    """Answer "when did the load still rise, when did it stand, when did it fall?".

    Parameters
    ----------
    run : LoadTestRun
    documents : sequence of documents
        Its stored intervals, in any order.

    Returns
    -------
    tuple of Window
        "ramp", "steady" and "drain", in this order, all with `found`; without a ramp or a drain where there is none.
        There is always a "steady". It is the whole run if the load never stood still: `validity.judge` says so then.

    Notes
    -----
    The steady level is that on which users stood longest, and its stretch the one that has most time on the level, less
    the time off it. An interval in which users still rose belongs to the ramp, a fragment at the end to the drain.

    A warm-up after the ramp is found on the distributions of up to 40 blocks: the leading blocks belong to the ramp as
    long as their distance from the second half of the stretch is above 10 % and above twice what nine of ten blocks of
    that half have. The distance is that of Wasserstein between the logarithms of the response times, the sum over all
    bins of |F(x) - G(x)| times the width of a bin: the factor by which times are off, on average. A stall later on
    moves no edge.

    References
    ----------
    Ramdas, Garcia Trillos, Cuturi: On Wasserstein two-sample testing and related families of nonparametric tests, 2017.
    Hoad, Robinson, Davies: Automating warm-up length estimation, JORS 2010 (truncation of a leading part only).
    """
    return cut(trace(run, documents)) if documents else (Window(name=STEADY, found=True),)


def effective(run: LoadTestRun, found: Sequence[Window]) -> tuple[Window, ...]:
    """Give the windows of a run: those found, and those that people set, which win by name."""
    given = {window.name: window for window in run.windows}
    kept = [given.pop(window.name, window) for window in found]
    return (*kept, *given.values())


def named(windows: Sequence[Window], name: str) -> Window:
    """Give the window of that name; "whole" is the whole run.

    Raises
    ------
    InvalidInput
        If there is none; the message names those there are.
    """
    if name == WHOLE:
        return Window(name=WHOLE, found=True)
    for window in windows:
        if window.name == name:
            return window
    raise one_of("window", name, [WHOLE, *(window.name for window in windows)])


def span(window: tuple[float, float | None]) -> Window:
    """Give a window without a name of its own from its (start_s, end_s), in seconds from the start of the run.

    Raises
    ------
    InvalidInput
        If it is no such pair, or ends before it starts.
    """
    try:
        start_s, end_s = window
        start_s, end_s = float(start_s or 0), None if end_s is None else float(end_s)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"window must be a name, or (start_s, end_s) in seconds from the start of the run; not {window!r}",
            field="window",
        ) from None
    return Window.build(name="custom", start_s=max(0.0, start_s), end_s=end_s)


def trace(run: LoadTestRun, documents: Sequence[Document]) -> Trace:
    """Read what windows are found on from stored intervals, at least one."""
    data = Intervals.read(run, documents)
    number, entries = len(data.slot_ms), data.entries
    duration_s = np.zeros(number)
    np.maximum.at(duration_s, data.slot, data.total("durationMs") / 1000)
    row = np.arange(number) // math.ceil(number / MAX_ROWS)
    rows = int(row[-1]) + 1
    key = row[data.row_slot[entries.row]] * BINS + (entries.bucket - FIRST_BUCKET) // COARSE
    histogram = np.bincount(key, weights=entries.count, minlength=rows * BINS).reshape(rows, BINS)
    end_s = data.elapsed_s
    first, last = np.searchsorted(row, np.arange(rows)), np.searchsorted(row, np.arange(rows), side="right") - 1
    return Trace(
        end_s=end_s,
        duration_s=duration_s,
        users=np.bincount(data.slot, weights=np.nan_to_num(data.total("users")), minlength=number),
        requests=np.bincount(data.row_slot, weights=data.column("n"), minlength=number),
        histogram=histogram.astype(np.float32),
        from_s=end_s[first] - duration_s[first],
        to_s=end_s[last],
    )


def join(traces: Sequence[Trace]) -> Trace:
    """Put the traces of neighbouring parts of a run behind each other; at least one."""
    fields = Trace.__dataclass_fields__
    return Trace(**{name: np.concatenate([getattr(part, name) for part in traces]) for name in fields})


def cut(traced: Trace) -> tuple[Window, ...]:
    """Find ramp, steady and drain on a trace; see `find`."""
    whole = np.flatnonzero(traced.duration_s >= FRAGMENT * np.median(traced.duration_s))
    last = int(whole[-1])
    users = traced.users[: last + 1]
    rate = traced.requests[: last + 1] / np.maximum(traced.duration_s[: last + 1], 1e-9)
    risen, end = _stood(users, traced.duration_s[: last + 1]) if users.any() else _held(rate)
    end_s = traced.end_s
    start_s = float(end_s[risen - 1]) if risen else 0.0
    drain_s = float(end_s[end]) if end < len(end_s) - 1 else None
    start_s = _warm(traced, start_s, float(end_s[end]))
    if start_s <= 0:
        start_s = 0.0
    found = [Window(name=STEADY, start_s=start_s, end_s=drain_s, found=True)]
    if start_s:
        found.insert(0, Window(name=RAMP, start_s=0.0, end_s=start_s, found=True))
    if drain_s:
        found.append(Window(name=DRAIN, start_s=drain_s, end_s=None, found=True))
    return tuple(found)


def _stood(users: np.ndarray, duration_s: np.ndarray) -> tuple[int, int]:
    """Give the first interval in which users were on the steady level all the time, and the last one."""
    values, place = np.unique(users, return_inverse=True)
    lasted_s = np.bincount(place, weights=duration_s)
    stretches = []
    for level in values[np.argsort(lasted_s)[::-1][:LEVELS]]:
        if level > 0:
            on = np.abs(users - level) <= LEVEL * level
            stretches.append((level, *_densest(np.where(on, duration_s, -duration_s))))
    longest = max(score for _, score, _, _ in stretches)
    _, _, first, last = max(stretch for stretch in stretches if stretch[1] >= NEARLY * longest)
    if last - first + 1 < max(LEAST_INTERVALS, LEAST_SHARE * len(users)):
        return 0, len(users) - 1
    return (first + 1 if first else 0), last  # users are counted at the end of an interval: they rose within it


def _densest(weights: np.ndarray) -> tuple[float, int, int]:
    """Give the largest sum of neighbouring weights, with the first and the last of them (Kadane's algorithm)."""
    running = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(running)
    last = int(np.argmax(running[1:] - lowest[:-1]))
    first = int(np.argmin(running[: last + 1]))
    return float(running[last + 1] - running[first]), first, last


def _held(rate: np.ndarray) -> tuple[int, int]:
    """Give the first and the last interval at the steady rate of requests, for want of users."""
    number = len(rate)
    width = math.ceil(number / MAX_POINTS)
    points = np.add.reduceat(rate, np.arange(0, number, width)) / np.diff([*range(0, number, width), number])
    up, down = _rise(points), _rise(points[::-1])
    first, last = up * width, min(number, (len(points) - down) * width) - 1
    if last - first + 1 < max(LEAST_INTERVALS, LEAST_SHARE * number):
        return 0, number - 1
    return first, last


def _rise(points: np.ndarray) -> int:
    """Give over how many points a series rises from zero to its level; 0 if it does not.

    The level is the median of the middle half, the length of the rise that with the least squares.
    """
    number = len(points)
    middle = points[number // 4 : max(number // 4 + 1, 3 * number // 4)]
    level = float(np.median(middle))
    if level <= 0 or number < 2 * LEAST_INTERVALS:
        return 0
    noise = 1.4826 * float(np.median(np.abs(middle - level)))
    seen = points[: 3 * number // 4]
    place = np.arange(1, len(seen) + 1)
    lengths = np.arange(1, len(seen) + 1)
    expected = level * np.minimum(1.0, place[None, :] / lengths[:, None])
    length = int(lengths[np.argmin(((seen - expected) ** 2).sum(axis=1))])
    early = seen[: math.ceil(length / 3)]
    below = min(RISEN * level, level - CLEARLY * noise / math.sqrt(len(early)))
    return length if length >= 2 and early.mean() < below else 0


def _warm(traced: Trace, start_s: float, end_s: float) -> float:
    """Give the moment from which response times are those of the rest of the steady stretch: `start_s` or later."""
    inside = (traced.from_s >= start_s - 1e-6) & (traced.to_s <= end_s + 1e-6)
    histogram, to_s = traced.histogram[inside], traced.to_s[inside]
    requests = float(histogram.sum())
    blocks = int(min(BLOCKS, len(histogram), requests // LEAST_REQUESTS))
    if blocks < LEAST_BLOCKS:
        return start_s
    begins = np.arange(blocks) * len(histogram) // blocks
    block = np.add.reduceat(histogram, begins, axis=0)
    later = block[blocks // 2 :]
    total = block.sum(axis=1)
    share = np.cumsum(block, axis=1) / np.maximum(total, 1)[:, None]
    usual = np.cumsum(later.sum(axis=0)) / max(1.0, float(later.sum()))
    distance = np.where(total > 0, np.abs(share - usual).sum(axis=1) * BIN_WIDTH, 0.0)
    limit = max(SHIFTED, 2 * float(np.quantile(distance[blocks // 2 :], 0.9)))
    cold = int(np.argmin(np.append(distance > limit, False)))
    if cold == 0 or cold >= blocks // 2:  # what goes on for half of the stretch is no warm-up
        return start_s
    return float(to_s[begins[cold] - 1])
