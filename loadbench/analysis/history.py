"""The history of a test: where a series of runs changed, and by how much.

A change point is the first run after a change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np

from loadbench.errors import InvalidInput

ALPHA = 0.01
"""How often a window of runs without any change is said to have one."""
WINDOW_RUNS = 200
"""A longer series is searched in windows: to search n runs takes n^2 steps, and old runs tell little of new ones."""
SEGMENT_RUNS = 3
"""A change is told from an outlier by this many runs on both sides of it."""
MIN_RUNS = 2 * SEGMENT_RUNS
SHORT_RUNS = 20
"""Below it, there are too few permutations to reach ALPHA: the largest t statistic is tested instead."""
PERMUTATIONS = 499
SIMULATIONS = 4999
OUTLIER_SDS = 5.0
_AROUND = 7
_BATCH = 50
_ENOUGH = 20

Scale = Literal["log", "ratio"]


@dataclass(frozen=True)
class Effect:
    """A change of the level: in percent, or in percentage points for a ratio; nan bounds where runs are too few."""

    change: float
    low: float
    high: float


@dataclass(frozen=True)
class ChangePoint:
    """A change: `index` is the first run after it; `column` of the series shows it most, by `effect`."""

    index: int
    p: float
    column: int
    effect: Effect


@dataclass(frozen=True)
class Trend:
    """A series cut where it changed: the segment of each run (from 0), the changes, and which runs stand out."""

    segment: np.ndarray
    changes: tuple[ChangePoint, ...]
    outlier: np.ndarray


def trend(
    values: np.ndarray,
    *,
    scale: Scale = "log",
    alpha: float = ALPHA,
    seed: int = 0,
    confirmed: Collection[int] = (),
    dismissed: Collection[int] = (),
) -> Trend:
    """Answer "when did it change, and by how much?".

    Parameters
    ----------
    values : array of float, shape (runs,) or (runs, figures)
        In order of time: one figure, such as p95 in ms, or several that describe the distribution of a run.
    scale : {"log", "ratio"}
        "log" for times and rates, at least 0; "ratio" for shares in [0, 1].
    alpha : float
        In (0, 1): how often WINDOW_RUNS runs without a change may be said to have one.
    seed : int
        Of the permutations: the same series gives the same answer.
    confirmed : collection of int
        Runs that a person has said to be the first after a change: the series begins anew at each.
    dismissed : collection of int
        Runs that a person has said to be no change: a change found within SEGMENT_RUNS of one is not reported.

    Returns
    -------
    Trend
        No changes if there are fewer than MIN_RUNS runs and none is confirmed.

    Raises
    ------
    InvalidInput
        If alpha is not in (0, 1), or a value does not fit the scale.

    Notes
    -----
    Each part between confirmed changes is bisected where `split` finds a change, until none is left. Of a part longer
    than WINDOW_RUNS, as many of its first runs are; then as many from the last change on or, without one, from the
    middle of the window on. A change in the last quarter of a window is left to the next one, which has more runs after
    it. The effect of a
    change is `effect` of the segments on its two sides, outliers left out. Where there are several figures, it is that
    of the figure with the largest Welch t, its interval widened for their number (Bonferroni).
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must be in (0, 1); not {alpha!r}", field="alpha")
    series = _transformed(np.atleast_2d(np.asarray(values, float).T).T, scale)
    outlier, smooth = outliers(series)
    found = dict.fromkeys(sorted(confirmed), np.nan)
    edges = [0, *found, len(series)]
    for start, end in pairwise(edges):
        found |= _searched(smooth, start, end, alpha=alpha, seed=seed)
    cuts = sorted(found)
    edges = [0, *cuts, len(series)]
    changes = []
    for place, index in enumerate(cuts):
        before, after = np.arange(edges[place], index), np.arange(index, edges[place + 2])
        if index not in confirmed and any(abs(index - other) < SEGMENT_RUNS for other in dismissed):
            continue
        p = found[index]
        if np.isnan(p):
            first, last = max(edges[place], index - WINDOW_RUNS // 2), min(edges[place + 2], index + WINDOW_RUNS // 2)
            p = _fixed_p(smooth[first:last], index - first, seed)
        column, size = _largest(series, _without(before, outlier), _without(after, outlier), scale)
        changes.append(ChangePoint(index, p, column, size))
    segment = np.searchsorted(cuts, np.arange(len(series)), side="right")
    return Trend(segment, tuple(changes), outlier)


def split(series: np.ndarray, *, seed: int = 0) -> tuple[int, float]:
    """Answer "where did this series most probably change, and could it be chance?".

    Parameters
    ----------
    series : array of float, shape (runs, figures)
        At least MIN_RUNS runs; on a scale on which noise does not depend on the level.
    seed : int
        Of the permutations.

    Returns
    -------
    tuple of int and float
        The first run after the change, and the p-value: the share of series without a change in which some place looks
        at least as much like one. So the search for the place is paid for.

    Notes
    -----
    From SHORT_RUNS runs on: E-divisive. The place maximises the energy statistic of the runs before it (X, m of them)
    and of those from it to any later end (Y, n of them: a change that was taken back is one too), with distances |.|
    between the rows::

        Q = m n / (m + n) * (2 / (m n) sum |x_i - y_j| - sum_(i<k) |x_i - x_k| / C(m, 2) - the same of y)

    and p = (1 + number of random orders of the runs with a largest Q at least as large) / (1 + their number), for
    PERMUTATIONS orders, or fewer as soon as there are so many large ones that p cannot be small. With fewer runs no
    order is rare enough; then the place maximises |t| of Student's two-sample test of the
    mean of the figures, and p is that of the largest |t| of as many independent normal values, by simulation.

    References
    ----------
    Matteson and James, "A nonparametric approach for multiple change point analysis of multivariate data", JASA 109,
    2014, equations 5 to 8. Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991. Worsley, "On
    the likelihood ratio test for a shift in location of normal populations", JASA 74, 1979, for the short series.
    """
    runs = len(series)
    if runs < SHORT_RUNS:
        t = _t_statistics(series.mean(axis=1)[None, :])[0]
        null = _largest_t(runs)
        return SEGMENT_RUNS + int(t.argmax()), (1 + int((null >= t.max()).sum())) / (1 + len(null))
    distance = _distances(series)
    observed, place = _energy(distance, np.arange(runs)[None, :])[0]
    rng = np.random.default_rng([seed, runs])
    reached = done = 0
    while done < PERMUTATIONS and reached < _ENOUGH:
        orders = rng.permuted(np.tile(np.arange(runs), (min(_BATCH, PERMUTATIONS - done), 1)), axis=1)
        reached += int((_energy(distance, orders)[:, 0] >= observed * (1 - 1e-12)).sum())
        done += len(orders)
    return int(place), (1 + reached) / (1 + done)


def effect(before: np.ndarray, after: np.ndarray, *, scale: Scale = "log", confidence: float = 0.95) -> Effect:
    """Answer "by how much did the level change, and how sure is that?".

    Parameters
    ----------
    before, after : array of float
        The figures of the runs, as `trend` takes them.
    scale : {"log", "ratio"}
        As for `trend`.
    confidence : float
        Of the interval, in (0, 1).

    Returns
    -------
    Effect
        For "log" the ratio of the geometric means, in percent; for "ratio" the difference of the means in percentage
        points. The interval is Welch's; nan if a side has a single run.

    Notes
    -----
    t = (mean y - mean x) / sqrt(s_x^2 / m + s_y^2 / n), with the degrees of freedom of Welch and Satterthwaite, on the
    logarithms of the figures. The interval takes the place of the change as known: a change that was searched for is
    over-estimated a little where it is not much larger than the noise.

    References
    ----------
    Welch, "The generalization of 'Student's' problem", Biometrika 34, 1947.
    """
    from scipy import stats  # heavy, and needed for nothing else

    x, y = (np.log(_positive(side)) if scale == "log" else np.asarray(side, float) for side in (before, after))
    shift = float(y.mean() - x.mean())
    margin = np.nan
    if min(len(x), len(y)) > 1:
        interval = (
            stats.ttest_ind(y, x, equal_var=False).confidence_interval(confidence) if np.ptp(x) + np.ptp(y) else None
        )
        margin = float(interval.high - interval.low) / 2 if interval else 0.0
    ends = np.array([shift, shift - margin, shift + margin])
    return Effect(*(100 * (np.expm1(ends) if scale == "log" else ends)).tolist())


def outliers(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answer "which runs stand out alone?", and give the series with them drawn in.

    Returns
    -------
    tuple of arrays
        A mask of runs that lie OUTLIER_SDS robust standard deviations from the median of the runs around them, and the
        series with each figure at most that far from it, so that one odd run is neither a change nor hides one.

    Notes
    -----
    Hampel's filter, with windows of 7 runs and one scale for the whole series: 1.4826 times the median distance from
    the median of the window. A level that lasts passes it as it is.

    References
    ----------
    Hampel, "The influence curve and its role in robust estimation", JASA 69, 1974.
    """
    if len(series) < _AROUND:
        return np.zeros(len(series), bool), series
    from scipy.ndimage import median_filter  # heavy, and needed for nothing else

    middle = median_filter(series, size=(_AROUND, 1), mode="reflect")
    away = series - middle
    # The window holds the run itself, which draws the median to it: a seventh of the noise is not seen.
    reach = OUTLIER_SDS * 1.4826 * np.median(np.abs(away), axis=0) * np.sqrt(_AROUND / (_AROUND - 1))
    reach = np.where(reach > 0, reach, np.inf)
    return (np.abs(away) > reach).any(axis=1), middle + np.clip(away, -reach, reach)


def _searched(series: np.ndarray, start: int, end: int, *, alpha: float, seed: int) -> dict[int, float]:
    found: dict[int, float] = {}
    while end - start > WINDOW_RUNS:
        window = _bisected(series, start, start + WINDOW_RUNS, alpha=alpha, seed=seed)
        sure = {index: p for index, p in window.items() if index <= start + WINDOW_RUNS * 3 // 4}
        found |= sure
        start = max(sure, default=start + WINDOW_RUNS // 2)
    return found | _bisected(series, start, end, alpha=alpha, seed=seed)


def _bisected(series: np.ndarray, start: int, end: int, *, alpha: float, seed: int) -> dict[int, float]:
    if end - start < MIN_RUNS:
        return {}
    place, p = split(series[start:end], seed=seed)
    if p > alpha:
        return {}
    middle = start + place
    left = _bisected(series, start, middle, alpha=alpha, seed=seed)
    return left | {middle: p} | _bisected(series, middle, end, alpha=alpha, seed=seed)


def _distances(series: np.ndarray) -> np.ndarray:
    return np.linalg.norm(series[:, None, :] - series[None, :, :], axis=2)


def _energy(distance: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Give the largest Q of each order of the runs, and the place of it, a row per order."""
    runs = distance.shape[0]
    first, end = np.triu_indices(runs + 1, k=SEGMENT_RUNS)
    first, end = first[first >= SEGMENT_RUNS], end[first >= SEGMENT_RUNS]
    corner = np.zeros((len(orders), runs + 1, runs + 1))  # [a, b]: distances of the first a runs to the first b
    corner[:, 1:, 1:] = distance[orders[:, :, None], orders[:, None, :]].cumsum(axis=1).cumsum(axis=2)
    to_end = corner[:, first, end]
    whole = corner.diagonal(axis1=1, axis2=2)
    before = whole[:, first] / 2
    between = to_end - whole[:, first]
    after = whole[:, end] / 2 - before - between
    m, n = first, end - first
    q = m * n / (m + n) * (2 * between / (m * n) - before / (m * (m - 1) / 2) - after / (n * (n - 1) / 2))
    best = q.argmax(axis=1)
    return np.stack([np.take_along_axis(q, best[:, None], axis=1)[:, 0], first[best]], axis=1)


def _t_statistics(series: np.ndarray) -> np.ndarray:
    """Give |t| of Student's two-sample test at each allowed place, a row per series."""
    runs = series.shape[1]
    cut = np.arange(SEGMENT_RUNS, runs - SEGMENT_RUNS + 1)
    centred = series - series.mean(axis=1, keepdims=True)
    sums = np.cumsum(centred, axis=1)[:, cut - 1]
    shift = sums * runs / (cut * (runs - cut))
    within = (centred**2).sum(axis=1, keepdims=True) - sums**2 * runs / (cut * (runs - cut))
    error = np.sqrt(np.maximum(within, 0) / (runs - 2) * runs / (cut * (runs - cut)))
    return np.abs(np.divide(shift, error, out=np.where(shift != 0, np.inf, 0.0), where=error > 0))


@cache
def _largest_t(runs: int) -> np.ndarray:
    rng = np.random.default_rng(runs)
    return _t_statistics(rng.standard_normal((SIMULATIONS, runs))).max(axis=1)


def _fixed_p(series: np.ndarray, before: int, seed: int) -> float:
    """Give the p-value of a change at a place that was not searched for."""
    distance, rng = _distances(series), np.random.default_rng([seed, len(series)])
    runs = len(series)
    if not 0 < before < runs:
        return float("nan")

    def between(order: np.ndarray) -> float:
        return float(distance[np.ix_(order[:before], order[before:])].sum())

    observed = between(np.arange(runs)) * (1 - 1e-12)
    reached = sum(between(rng.permutation(runs)) >= observed for _ in range(PERMUTATIONS))
    return (1 + reached) / (1 + PERMUTATIONS)


def _largest(series: np.ndarray, before: np.ndarray, after: np.ndarray, scale: Scale) -> tuple[int, Effect]:
    """Find the figure that moved most for its noise, and its effect; `series` is as `_transformed` gives it."""
    back = np.exp if scale == "log" else lambda angle: np.sin(angle) ** 2
    figures = series.shape[1]
    x, y = series[before], series[after]
    spread = sum(side.var(axis=0, ddof=1) / len(side) for side in (x, y)) if min(len(x), len(y)) > 1 else 1.0
    shift = np.abs(y.mean(axis=0) - x.mean(axis=0))
    column = int(np.argmax(shift / np.sqrt(np.maximum(spread, 1e-12))))
    confidence = 1 - 0.05 / figures
    return column, effect(back(x[:, column]), back(y[:, column]), scale=scale, confidence=confidence)


def _without(rows: np.ndarray, outlier: np.ndarray) -> np.ndarray:
    kept = rows[~outlier[rows]]
    return kept if len(kept) > 1 else rows


def _transformed(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Bring figures to a scale on which noise does not depend on the level: log, or the arcsine of the square root."""
    if scale == "log":
        return np.log(_positive(values))
    if scale != "ratio":
        raise InvalidInput(f"scale must be log or ratio; not {scale!r}", field="scale")
    if not ((values >= 0) & (values <= 1)).all():
        raise InvalidInput("a ratio must be in [0, 1]: give failures / requests", field="values")
    return np.arcsin(np.sqrt(values))


def _positive(values: np.ndarray | Sequence[float]) -> np.ndarray:
    values = np.asarray(values, float)
    if not (np.isfinite(values) & (values > 0)).all():
        raise InvalidInput("a time or a rate of a run must be above 0: leave runs without requests out", field="values")
    return values
