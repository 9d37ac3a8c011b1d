"""Shift function: by how much each quantile of the response times changed, with bands.

A change of the median and one of the tail are different troubles; one number for both hides which it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame
from loadbench.analysis.effect import CONFIDENCE, effect
from loadbench.analysis.intervals import Document, Intervals, Outcome
from loadbench.analysis.measurements import Measurements, quantiles_of
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun

LEVELS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
WITHIN = "within-run noise only"
BETWEEN = "noise between runs"
BLOCK_S = 60.0
RESAMPLES = 400
FEWEST_BLOCKS = 4


@dataclass(frozen=True, eq=False)
class Stretch:
    """The histograms of a run's intervals: axes interval, bucket."""

    counts: np.ndarray
    first_bucket: int
    interval_s: float


def stretch(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
) -> Stretch:
    """Read the histograms of each interval, those of the endpoints merged (all if left out)."""
    data = Intervals.read(run, documents, endpoints=endpoints)
    entries = data.of(outcome)
    first = int(entries.bucket.min(initial=10**6)) if len(entries.bucket) else 0
    buckets = int(entries.bucket.max(initial=first)) - first + 1 if len(entries.bucket) else 0
    number = len(data.slot_ms)
    key = data.row_slot[entries.row] * buckets + entries.bucket - first
    counts = np.bincount(key, weights=entries.count, minlength=number * buckets).reshape(number, buckets)
    return Stretch(counts, first, data.duration_s() / number if number else 1.0)


def shift_within(
    reference: Stretch,
    new: Stretch,
    *,
    levels: Sequence[float] = LEVELS,
    block_s: float = BLOCK_S,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Answer "by how much does each quantile of one run differ from that of another?".

    Parameters
    ----------
    reference, new : Stretch
    levels : sequence of float
        Percentiles, in (0, 100).
    block_s : float
        Length of the blocks of neighbouring intervals that are drawn together, in seconds.
    resamples, seed : int
        The same seed gives the same bands.

    Returns
    -------
    DataFrame
        A row per level: percentile, reference_ms, value_ms, change_ms, change_low_ms, change_high_ms. The band is of
        each level alone, at 95 %, and of the noise within the two runs only: how much whole runs scatter is not in it.
        No rows if one side has no requests.

    Raises
    ------
    InvalidInput
        If the blocks are no longer than nothing.

    Notes
    -----
    Moving block bootstrap: blocks of intervals are drawn with replacement, so that what neighbouring seconds share
    stays together; the percentiles of the merged histograms are read from each resample of both runs. The band is
    from the 2.5 % to the 97.5 % quantile of their differences, and then made wider, as a run has few blocks: by
    sqrt(1 / (1 - l / n)) for blocks of l among n intervals, and by the ratio of Student's to the normal quantile with
    as many degrees of freedom as there are blocks, less one for each run. A block is at most a quarter of its run.
    The band of short runs still holds the truth less often than 95 %; docs/statistics.md has the measured rates.

    References
    ----------
    Künsch: The jackknife and the bootstrap for general stationary observations. Annals of Statistics 17, 1989.
    Doksum: Empirical probability plots and statistical inference for nonlinear models in the two-sample case. Annals
    of Statistics 2, 1974. Rousselet, Pernet, Wilcox: Beyond differences in means: robust graphical methods to compare
    two groups in neuroscience. European Journal of Neuroscience 46, 2017.
    """
    if not block_s > 0:
        raise InvalidInput(f"block_s must be above 0; not {block_s!r}", field="block_s")
    rng = np.random.default_rng(seed)
    sides = (reference, new)
    if any(each.counts.sum() == 0 for each in sides):
        return _frame([], [], [], [], [])
    middle = [quantiles_of(each.counts.sum(axis=0), each.first_bucket, levels) for each in sides]
    drawn = [quantiles_of(_resampled(each, rng, block_s, resamples), each.first_bucket, levels) for each in sides]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(drawn[1] - drawn[0], [tail, 100 - tail], axis=0)
    change, wider = middle[1] - middle[0], _wider(sides, block_s)
    return _frame(
        levels, middle[0], middle[1], change - wider * np.abs(change - low), change + wider * np.abs(high - change)
    )


def _length(given: Stretch, block_s: float) -> int:
    """Give the length of a block in intervals: at most a quarter of the run."""
    return max(1, min(len(given.counts) // FEWEST_BLOCKS, round(block_s / given.interval_s)))


def _wider(sides: Sequence[Stretch], block_s: float) -> float:
    shares = [_length(each, block_s) / len(each.counts) for each in sides]
    freedom = sum(1 / share - 1 for share in shares)
    if freedom <= 0:
        return 1.0
    from scipy.special import ndtri, stdtrit  # heavy, and needed only to compare

    upper = (1 + CONFIDENCE) / 2
    return math.sqrt(1 / (1 - sum(shares) / len(shares))) * float(stdtrit(freedom, upper) / ndtri(upper))


def _resampled(given: Stretch, rng: np.random.Generator, block_s: float, resamples: int) -> np.ndarray:
    """Draw blocks with replacement, and add up what they hold: axes resample, bucket."""
    number = len(given.counts)
    length = _length(given, block_s)
    blocks = -(-number // length)
    starts = rng.integers(0, number - length + 1, (resamples, blocks))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(resamples, -1)[:, :number]
    weights = np.zeros((resamples, number))
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1.0)
    return weights @ given.counts


def shift_between(
    reference: Measurements, new: Measurements, place: int, *, levels: Sequence[float] = LEVELS
) -> pd.DataFrame:
    """Answer "by how much does each quantile of these runs differ from that of those?".

    Parameters
    ----------
    reference, new : Measurements
        Of the same endpoints.
    place : int
        Which endpoint; -1 for the total.
    levels : sequence of float
        Percentiles, in (0, 100).

    Returns
    -------
    DataFrame
        As of `shift_within`, the times being geometric means over the runs. The band is of each level alone, at 95 %,
        of the noise between runs; missing with too few runs.

    Notes
    -----
    The interval of `loadbench.analysis.effect.effect` on the logarithm of each run's quantile, times that of the
    reference.
    """
    before, after = (np.log(each.quantiles(levels)[:, place]) for each in (reference, new))
    if np.isnan(before).any() or np.isnan(after).any() or not len(before) or not len(after):
        return _frame([], [], [], [], [])
    found = [effect(before[:, level], after[:, level]) for level in range(len(levels))]
    middle = np.exp(before.mean(axis=0)), np.exp(after.mean(axis=0))
    low, high = (
        [
            np.nan if each is None else base * np.expm1(getattr(each, end))
            for each, base in zip(found, middle[0], strict=True)
        ]
        for end in ("low", "high")
    )
    return _frame(levels, *middle, low, high)


def _frame(
    levels: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> pd.DataFrame:
    return frame(
        {
            "percentile": list(levels),
            "reference_ms": before,
            "value_ms": after,
            "change_ms": np.asarray(after, float) - np.asarray(before, float),
            "change_low_ms": low,
            "change_high_ms": high,
        }
    )
