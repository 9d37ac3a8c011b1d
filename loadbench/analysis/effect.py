"""How large a change is, and how sure: the effect of one side's runs against the other's, a run being one value.

Requests of one run are no independent witnesses of a change: they share the run's luck. So a run gives one value here,
such as the logarithm of its p95, and what a side says is told by the spread between its runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""Of intervals; 1 - CONFIDENCE is the rate of false alarms, of all that is tested together."""
POWER = 0.8
"""How often a change of the stated smallest size is found."""
LEAST_POOL = 3
"""One run can be judged against so many others at least."""


@dataclass(frozen=True)
class Effect:
    """A difference new - reference, in the scale of the values.

    `low` and `high` bound it with CONFIDENCE; `p` is the probability of a difference at least as large where there is
    none; `error` is the standard error and `freedom` its degrees of freedom.
    """

    size: float
    error: float
    freedom: float
    low: float
    high: float
    p: float

    def smallest(self, tested: int = 1) -> float:
        """Give the smallest difference that these runs could have shown, in POWER of such comparisons.

        Parameters
        ----------
        tested : int
            Number of differences tested together; the threshold is that of Bonferroni.

        Notes
        -----
        (t(1 - alpha / (2 tested), f) + t(POWER, f)) * error, with t the quantile of Student's distribution. The error
        is the estimated one, in the threshold and here alike, so a true difference of this size is found with
        P(T > -t(POWER, f)) = POWER, whatever the unknown spread is.

        References
        ----------
        Bloom: Minimum Detectable Effects. Evaluation Review 19(5), 1995.
        """
        from scipy.special import stdtrit  # heavy, and needed only to compare

        alpha = (1 - CONFIDENCE) / tested
        return float((stdtrit(self.freedom, 1 - alpha / 2) + stdtrit(self.freedom, POWER)) * self.error)


def effect(reference: Sequence[float], new: Sequence[float], *, floor: float = 0.0) -> Effect | None:
    """Answer "by how much do the new runs differ, and how sure is that?".

    Parameters
    ----------
    reference, new : sequence of float
        A value for each run, on a scale on which runs scatter alike and about normally (a logarithm, an angle).
    floor : float
        Variance that a single value has at least, because of how it was measured.

    Returns
    -------
    Effect or None
        None if there are too few runs to know how much runs scatter: fewer than 2 on both sides, or 1 against fewer
        than `LEAST_POOL`.

    Notes
    -----
    One against k: size / (s sqrt(1 + 1/k)) has Student's distribution with k - 1 degrees of freedom, s being the
    standard deviation of the k; the interval is that of a prediction. m against k: Welch's test, with the degrees of
    freedom of Satterthwaite.

    References
    ----------
    Hahn, Meeker: Statistical Intervals, 1991, section 4.2 (prediction of one future value).
    Welch: The generalization of "Student's" problem when several different population variances are involved.
    Biometrika 34, 1947.
    """
    before, after = np.asarray(reference, float), np.asarray(new, float)
    counts = len(before), len(after)
    if min(counts) == 0 or (min(counts) == 1 and max(counts) < LEAST_POOL):
        return None
    if min(counts) == 1:
        pool = before if counts[0] > 1 else after
        error = math.sqrt(max(pool.var(ddof=1), floor) * (1 + 1 / len(pool)))
        freedom = len(pool) - 1.0
    else:
        parts = [max(values.var(ddof=1), floor) / len(values) for values in (before, after)]
        error = math.sqrt(sum(parts))
        freedom = _satterthwaite(parts, counts)
    return _effect(float(after.mean() - before.mean()), error, freedom)


def _satterthwaite(parts: Sequence[float], counts: Sequence[int]) -> float:
    if sum(parts) == 0:
        return float(sum(counts) - 2)
    shares = [part / sum(parts) for part in parts]
    return 1 / sum(share**2 / (count - 1) for share, count in zip(shares, counts, strict=True))


def _effect(size: float, error: float, freedom: float) -> Effect:
    # As scipy.stats.t, without a millisecond of checks each; heavy, and needed only to compare.
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = float(2 * stdtr(freedom, -abs(size) / error)) if error > 0 else float(size == 0)
    return Effect(size, error, freedom, size - reach, size + reach, p)


def holm(p: Sequence[float]) -> np.ndarray:
    """Correct p-values for being several, so that the rate of any false alarm among them stays below 1 - CONFIDENCE.

    Notes
    -----
    The i-th smallest of m, counted from 0, is multiplied by m - i, and is no smaller than those before it. It holds
    however the values depend on each other.

    References
    ----------
    Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 1979.
    """
    given = np.asarray(p, float)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * (len(given) - np.arange(len(given))))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def runs_needed(spread: float, important: float, *, tested: int = 1, most: int = 100) -> int | None:
    """Say how many runs on each side would show a change, given the standard deviation of a single run.

    Parameters
    ----------
    spread : float
        Standard deviation of a run's value.
    important : float
        The difference to be found, in the same scale.
    """
    for runs in range(2, most + 1):
        expected = _effect(0.0, spread * math.sqrt(2 / runs), 2.0 * runs - 2)
        if expected.smallest(tested) <= important:
            return runs
    return None
