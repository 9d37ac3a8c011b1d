"""Capacity from a load sweep: the Universal Scalability Law, its knee, and how many users keep a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadbench.errors import InvalidInput

DRAWS = 1000
CONFIDENCE = 0.95
MIN_LEVELS = 3
ACHIEVED_RATIO = 0.95
"""Below this share of what was offered, the load generator did not keep up, or the think time is not what it was."""
BUSY_CPU_PERCENT = 90.0


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; the bounds are nan where the measurements do not tell."""

    value: float
    low: float
    high: float

    def __repr__(self) -> str:
        interval = "" if math.isnan(self.low) else f" (95 % interval {self.low:.3g} to {self.high:.3g})"
        return f"{self.value:.3g}{interval}"


@dataclass(frozen=True)
class ScalabilityLaw:
    """A fitted Universal Scalability Law.

    `per_user` (lambda, requests/s of one user alone), `contention` (sigma), `crosstalk` (kappa, also called coherency),
    `knee` (users of the highest throughput; inf where throughput never falls), `measured` (fewest and most users),
    `error_sd` (of the logarithm of throughput around the law; nan without a degree of freedom), and the `draws` of the
    three parameters that intervals come from.
    """

    per_user: Estimate
    contention: Estimate
    crosstalk: Estimate
    knee: Estimate
    measured: tuple[float, float]
    error_sd: float
    draws: np.ndarray

    @property
    def knee_is_measured(self) -> bool:
        """Whether the knee lies within the levels measured: beyond them it is an extrapolation."""
        return self.measured[0] <= self.knee.value <= self.measured[1]

    def __str__(self) -> str:
        most = f"{self.measured[1]:,.0f}"
        if not self.knee_is_measured:
            beyond = f"; the law puts it at about {self.knee.value:,.0f}, an extrapolation"
            told = f"no knee within what was measured (up to {most} users)"
            return f"{told}{beyond}" if math.isfinite(self.knee.value) else told
        return f"knee at about {self.knee.value:,.0f} users{_interval(self.knee.low, self.knee.high, self.measured[1])}"

    def at(self, users: Sequence[float] | np.ndarray) -> pd.DataFrame:
        """Give the throughput that the law says, with its interval.

        Returns
        -------
        DataFrame
            users, requests_per_s, low, high (nan without a degree of freedom), extrapolated (beyond what was measured).
        """
        number = np.asarray(users, float)
        law = [self.per_user.value, self.contention.value, self.crosstalk.value]
        low = high = np.full(len(number), np.nan)
        if len(self.draws):
            curves = throughput(number[None, :], *(self.draws[:, place, None] for place in range(3)))
            low, high = np.quantile(curves, _tails(), axis=0)
        outside = (number < self.measured[0]) | (number > self.measured[1])
        return pd.DataFrame(
            {
                "users": number,
                "requests_per_s": throughput(number, *law),
                "low": low,
                "high": high,
                "extrapolated": outside,
            }
        )


@dataclass(frozen=True)
class Capacity:
    """How many users keep a limit. `users` is 0 if fewer than `measured` do, inf if all of it does."""

    limit: str
    users: float
    low: float
    high: float
    measured: tuple[float, float]
    noise: str

    def __repr__(self) -> str:
        fewest, most = (f"{number:,.0f}" for number in self.measured)
        if self.users == 0:
            return f"fewer than {fewest} users keep {self.limit}: the smallest level measured breaks it"
        if math.isinf(self.users):
            sure = "" if math.isnan(self.low) or math.isinf(self.low) else f" (95 % sure of {self.low:,.0f})"
            return f"at least {most} users keep {self.limit}{sure}: it was not broken within what was measured"
        interval = _interval(self.low, self.high, self.measured[1])
        return f"about {self.users:,.0f} users{interval} keep {self.limit}; {self.noise}"


def throughput(users: np.ndarray, per_user: float, contention: float, crosstalk: float) -> np.ndarray:
    """Give the throughput of the Universal Scalability Law, in requests/s."""
    users = np.asarray(users, float)
    return per_user * users / (1 + contention * (users - 1) + crosstalk * users * (users - 1))


def fit(
    users: Sequence[float], requests_per_s: Sequence[float], *, draws: int = DRAWS, seed: int = 0
) -> ScalabilityLaw:
    """Answer "how does throughput grow with users, and where does it stop growing?".

    Parameters
    ----------
    users : sequence of float
        At least MIN_LEVELS different numbers of users, each above 0; a level may be there several times.
    requests_per_s : sequence of float
        The throughput of each, above 0.
    draws : int
        Number of simulated sweeps that intervals come from.
    seed : int
        Of these.

    Returns
    -------
    ScalabilityLaw
        Its intervals cover 95 %; nan if there are no more measurements than the three parameters.

    Raises
    ------
    InvalidInput
        If there are too few levels, or a value is not above 0.

    Notes
    -----
    ::

        X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)),   N* = sqrt((1 - sigma) / kappa)

    N / X is linear in 1/lambda, sigma/lambda and kappa/lambda, none of which is negative. They are found by
    non-negative least squares of the relative deviations, as noise of a throughput grows with it. Intervals are those
    of a parametric bootstrap: sweeps drawn around the fitted law with lognormal noise of the standard deviation of the
    residuals, itself drawn for the degrees of freedom that are left.

    References
    ----------
    Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6. Efron and Tibshirani, "An Introduction to
    the Bootstrap", 1993, section 6.5. Lawson and Hanson, "Solving Least Squares Problems", 1974 (nnls).
    """
    number, rate = np.asarray(users, float), np.asarray(requests_per_s, float)
    if len(np.unique(number)) < MIN_LEVELS:
        raise InvalidInput(
            f"a scalability law needs at least {MIN_LEVELS} different numbers of users; not {len(np.unique(number))}",
            field="users",
        )
    if not ((number > 0) & (rate > 0) & np.isfinite(rate)).all():
        raise InvalidInput("users and requests_per_s must be above 0: leave levels without requests out", field="users")
    best = _least_squares(number, rate)
    freedom = len(number) - 3
    residual = np.log(rate) - np.log(throughput(number, *best))
    error_sd = math.sqrt(float(residual @ residual) / freedom) if freedom > 0 else math.nan
    drawn = np.empty((0, 3))
    if freedom > 0:
        rng = np.random.default_rng(seed)
        sd = error_sd * np.sqrt(freedom / rng.chisquare(freedom, (draws, 1)))
        made = throughput(number, *best) * np.exp(sd * rng.standard_normal((draws, len(number))))
        drawn = np.array([_least_squares(number, sweep) for sweep in made])
    knees = np.array([_knee(*each) for each in drawn])
    return ScalabilityLaw(
        *(_estimate(best[place], drawn[:, place]) for place in range(3)),
        knee=_estimate(_knee(*best), knees),
        measured=(float(number.min()), float(number.max())),
        error_sd=error_sd,
        draws=drawn,
    )


def users_within(
    users: Sequence[float],
    values: Sequence[float],
    limit: float,
    *,
    label: str,
    within_run_sd: Sequence[float] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Capacity:
    """Answer "how many users fit under this limit?".

    Parameters
    ----------
    users, values : sequence of float
        The number of users of each run, and its response time, above 0; a level may be there several times.
    limit : float
        What the response time may not exceed, in the unit of the values.
    label : str
        The limit in words.
    within_run_sd : sequence of float, optional
        Standard deviation of the logarithm of each value, from the noise within its run: used if no level is repeated.
    draws, seed : int
        Number and seed of the simulated sweeps that the interval comes from.

    Returns
    -------
    Capacity
        Never more than was measured. Without any measure of noise, its bounds are nan.

    Notes
    -----
    Response time does not fall with load, so an isotonic regression of the logarithms of the geometric means by level
    is taken, and the users at which a line between two levels, straight in the response time, reaches the limit. Where
    response times bend upwards the line is above them: the answer is rather too small than too large. The interval is
    that of the answers for sweeps drawn around the measured one, with the standard deviation between the runs of a
    level, pooled over levels, if any is repeated.

    References
    ----------
    Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order Restrictions", 1972.
    """
    frame = pd.DataFrame({"users": np.asarray(users, float), "log": np.log(np.asarray(values, float))})
    levels = frame.groupby("users")["log"]
    level, middle, runs = levels.mean().index.to_numpy(), levels.mean().to_numpy(), levels.size().to_numpy()
    freedom = int((runs - 1).sum())
    if freedom:
        pooled = math.sqrt(float(levels.var(ddof=1).fillna(0).to_numpy() @ (runs - 1)) / freedom)
        error, noise = pooled / np.sqrt(runs), "noise between repeated runs included"
    elif within_run_sd is not None:
        error, noise = np.asarray(within_run_sd, float)[np.argsort(frame["users"].to_numpy())], "noise within runs only"
    else:
        error, noise = np.full(len(level), np.nan), "no interval: no level was repeated"
    found = _crossing(level, _isotonic(middle, runs), limit)
    low = high = math.nan
    if np.isfinite(error).all():
        rng = np.random.default_rng(seed)
        spread = np.sqrt(freedom / rng.chisquare(freedom, (draws, 1))) if freedom else 1.0
        made = middle + spread * error * rng.standard_normal((draws, len(level)))
        answers = np.array([_crossing(level, _isotonic(each, runs), limit) for each in made])
        low, high = np.quantile(answers, _tails(), method="inverted_cdf")
    else:
        noise = "no interval: no level was repeated, and runs are too short"
    return Capacity(label, found, float(low), float(high), (float(level[0]), float(level[-1])), noise)


def offered(
    users: Sequence[float], mean_ms: Sequence[float], requests_per_s: Sequence[float], *,
    think_s: float | None = None, rate_per_user: float | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Answer "did the load generator send what it was to send?".

    Parameters
    ----------
    users, mean_ms, requests_per_s : sequence of float
        Number of users, mean response time and throughput of each level.
    think_s : float, optional
        Mean time that a user waits between two requests, in seconds; left out, that of the lightest level.
    rate_per_user : float, optional
        For paced scripts (`constant_throughput`, `constant_pacing`): requests/s that each user is to send.

    Returns
    -------
    DataFrame
        think_s (as Little's law gives it at the level), offered_per_s, achieved_ratio (achieved / offered) and
        little_ms (the response time that Little's law gives for the think time), a row per level.

    Notes
    -----
    In a closed system N users are each either waiting or thinking: N = X (R + Z), Little's law. So Z = N / X - R; X
    that is offered is N / (Z + R); and R = N / X - Z. Where the generator is too busy to send in time, the think time
    that the law gives grows, and less is achieved than offered.

    References
    ----------
    Little, "A proof for the queuing formula L = lambda W", Operations Research 9, 1961. Denning and Buzen, "The
    operational analysis of queueing network models", ACM Computing Surveys 10, 1978, for the interactive form.
    """
    number, rate = np.asarray(users, float), np.asarray(requests_per_s, float)
    response_s = np.asarray(mean_ms, float) / 1000
    think = number / rate - response_s
    base = think_s if think_s is not None else float(think[number == number.min()].mean()) if len(number) else 0.0
    asked = number * rate_per_user if rate_per_user is not None else number / (max(base, 0.0) + response_s)
    return pd.DataFrame(
        {
            "think_s": think,
            "offered_per_s": asked,
            "achieved_ratio": rate / asked,
            "little_ms": 1000 * (number / rate - base),
        }
    )


def within_run_sd(values: Sequence[float]) -> float:
    """Give the standard deviation of the mean of the logarithms of a figure of consecutive intervals.

    Notes
    -----
    s / sqrt(n), with n (1 - r) / (1 + r) for n where intervals that follow each other resemble each other with a
    correlation r above 0 (AR(1)). nan for fewer than 5 intervals.

    References
    ----------
    Bayley and Hammersley, "The 'effective' number of independent observations in an autocorrelated time series", 1946.
    """
    logs = np.log(np.asarray([value for value in values if value > 0], float))
    if len(logs) < 5:
        return math.nan
    away = logs - logs.mean()
    spread = float(away @ away)
    r = min(max(float(away[1:] @ away[:-1]) / spread, 0.0), 0.9) if spread > 0 else 0.0
    return float(logs.std(ddof=1)) / math.sqrt(len(logs) * (1 - r) / (1 + r))


def _least_squares(users: np.ndarray, rate: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls  # heavy, and needed only to fit

    design = np.column_stack([np.ones_like(users), users - 1, users * (users - 1)]) * (rate / users)[:, None]
    size = np.linalg.norm(design, axis=0)
    size[size == 0] = 1.0
    alone, contention, crosstalk = nnls(design / size, np.ones_like(users))[0] / size
    alone = max(alone, 1e-12)
    return np.array([1 / alone, contention / alone, crosstalk / alone])


def _knee(per_user: float, contention: float, crosstalk: float) -> float:
    if crosstalk <= 1e-15:
        return math.inf
    return math.sqrt(max(0.0, 1 - contention) / crosstalk)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    if not len(drawn):
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(drawn, _tails(), method="inverted_cdf")
    return Estimate(float(value), float(low), float(high))


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def _isotonic(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    from scipy.optimize import isotonic_regression  # heavy, and needed only to fit

    return np.exp(isotonic_regression(logs, weights=weights.astype(float)).x)


def _crossing(level: np.ndarray, value: np.ndarray, limit: float) -> float:
    if value[0] > limit:
        return 0.0
    above = np.flatnonzero(value > limit)
    if not len(above):
        return math.inf
    end = above[0]
    share = (limit - value[end - 1]) / (value[end] - value[end - 1])
    return float(level[end - 1] + share * (level[end] - level[end - 1]))


def _interval(low: float, high: float, most: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    upper = f"over {most:,.0f}" if high > most else f"{high:,.0f}"
    return f" (95 % interval {low:,.0f} to {upper})"
