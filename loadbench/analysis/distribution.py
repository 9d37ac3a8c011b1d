"""The algebra of merged histograms: quantiles with their bounds, shares, the CDF, Apdex, coordinated omission.

A histogram says exactly how many requests took up to the upper edge of each of its buckets, which are 1 % wide. So
a share is exact for a time within 0.5 % of the one asked for, and a quantile lies between the edges of a known bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA, Histogram
from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.frames import extremes
from loadbench.analysis.intervals import BUCKETS, Document, Intervals, Outcome, nearest_rank, values_of
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun

CDF_POINTS = 200
TOLERATED = 4
"""Apdex: a user tolerates what takes up to so many times the threshold."""


def histogram(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
) -> Histogram:
    """Merge the histograms of some endpoints, by their place in the run's list, or of all: bucket -> requests."""
    data = Intervals.read(run, documents, endpoints=endpoints)
    return data.of(outcome).histograms(np.zeros(len(data.endpoint), np.int64), 1)[0]


def quantiles(
    run: LoadTestRun,
    documents: Sequence[Document],
    percentiles: float | Sequence[float],
    *,
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
) -> pd.DataFrame:
    """Answer "which time do q percent of the requests stay within, and how exact is that?".

    Parameters
    ----------
    percentiles : float or sequence of float
        In [0, 100].
    endpoints : sequence of int, optional
        Places in the run's list of endpoints; all if left out.
    outcome : {"all", "ok", "failed"}

    Returns
    -------
    DataFrame
        A row for each percentile: percentile, ms, low_ms, high_ms, requests (that had a time). The exact order
        statistic of rank ceil(q / 100 * n) lies in [low_ms, high_ms], and is within 0.5 % of ms. nan without requests.

    Raises
    ------
    InvalidInput
        If a percentile is not in [0, 100].

    Notes
    -----
    low_ms and high_ms are the edges gamma**(i - 1) and gamma**i of the bucket that holds the rank, cut to the exact
    extremes of the requests. They bound the error of measuring, not the noise between runs.
    """
    wanted = list(percentile_columns(percentiles).values())
    data = Intervals.read(run, documents, endpoints=endpoints)
    entries, group = data.of(outcome), np.zeros(len(data.endpoint), np.int64)
    buckets, counts = _columns(entries.histograms(group, 1)[0])
    total = int(counts.sum())
    if not total:
        nothing = [np.nan] * len(wanted)
        none = [0] * len(wanted)
        return frame({"percentile": wanted, "ms": nothing, "low_ms": nothing, "high_ms": nothing, "requests": none})
    least, most = (float(edge[0]) for edge in extremes(data, group, 1))
    rank = np.array([nearest_rank(q, np.array([total]))[0] for q in wanted])
    found = buckets[np.searchsorted(np.cumsum(counts), rank)]
    low, high = np.maximum(edges(found - 1), least), np.minimum(edges(found), most)
    if outcome != "all":  # the exact extremes are of all requests, not of those of one outcome
        low, high = edges(found - 1), edges(found)
    return frame(
        {
            "percentile": wanted,
            "ms": np.clip(values_of(found), low, high),
            "low_ms": low,
            "high_ms": high,
            "requests": [total] * len(wanted),
        }
    )


def share_above(merged: Mapping[int, int], ms: float) -> float:
    """Answer "which share of the requests took longer than this?".

    Parameters
    ----------
    merged : mapping of int to int
        A histogram.
    ms : float
        Milliseconds, at least 0.

    Returns
    -------
    float
        In [0, 1]: exact for a threshold within 0.5 % of `ms`; nan without requests.
    """
    _check_threshold(ms)
    buckets, counts = _columns(merged)
    total = counts.sum()
    return float(counts[values_of(buckets) > ms].sum() / total) if total else float("nan")


def cdf(merged: Mapping[int, int], points: int | Sequence[float] = CDF_POINTS) -> pd.DataFrame:
    """Answer "which share of the requests took at most this long?", for many times.

    Parameters
    ----------
    merged : mapping of int to int
        A histogram.
    points : int or sequence of float
        How many times at most, spread evenly over the shares; or the times in milliseconds.

    Returns
    -------
    DataFrame
        ms, share (in [0, 1], ascending). Times chosen here are upper edges of buckets, where the share is exact; for a
        time given, the share is exact for one within 0.5 % of it. No rows without requests.
    """
    buckets, counts = _columns(merged)
    total = counts.sum()
    if not total:
        return frame({"ms": [], "share": []})
    running = np.cumsum(counts) / total
    if isinstance(points, int | np.integer):
        if points < 2:
            raise InvalidInput(f"points must be at least 2, or times in milliseconds; not {points!r}", field="points")
        chosen = np.unique(np.searchsorted(running, np.linspace(running[0], 1.0, int(points)) - 1e-12))
        return frame({"ms": edges(buckets[chosen]), "share": running[chosen]})
    times = np.sort(np.asarray(list(points), float))
    return frame({"ms": times, "share": [1 - share_above(merged, ms) for ms in times]})


def apdex(succeeded: Mapping[int, int], failed: Mapping[int, int], threshold_ms: float) -> float:
    """Answer "how satisfied are users, from 0 to 1?".

    Parameters
    ----------
    succeeded, failed : mapping of int to int
        The histograms of successful and of failed requests.
    threshold_ms : float
        T: what takes up to T satisfies, up to 4 T is tolerated, and the rest, as every failure, frustrates.

    Returns
    -------
    float
        In [0, 1]: exact for thresholds within 0.5 % of those asked for; nan without requests.

    Notes
    -----
    (satisfied + tolerated / 2) / all. Requests without a time are not counted.

    References
    ----------
    Apdex Alliance: Application Performance Index, Technical Specification 1.1, 2007.
    """
    _check_threshold(threshold_ms)
    buckets, counts = _columns(succeeded)
    total = counts.sum() + sum(failed.values())
    if not total:
        return float("nan")
    values = values_of(buckets)
    satisfied = counts[values <= threshold_ms].sum()
    tolerated = counts[values <= TOLERATED * threshold_ms].sum() - satisfied
    return float((satisfied + tolerated / 2) / total)


def corrected(merged: Mapping[int, int], interval_ms: float) -> Histogram:
    """Estimate which times would have been seen if no request had waited for the one before it.

    A paced user who sends a request every `interval_ms` cannot send while one is under way: what a stall of the system
    would have done to the requests that were not sent is in no histogram (coordinated omission).

    Parameters
    ----------
    merged : mapping of int to int
        A histogram of requests by users who were paced.
    interval_ms : float
        How often each of these users meant to send one, in milliseconds.

    Returns
    -------
    dict of int to int
        The histogram with the requests added that were not sent. An ESTIMATE: it assumes that they would have waited
        for the end of the stall. It never has fewer requests, nor a higher maximum.

    Notes
    -----
    For each request that took t > d, where d is `interval_ms`, requests of t - d, t - 2 d, ... are added down to d:
    those that should have been sent while it was under way.

    References
    ----------
    Tene: HdrHistogram, `copyCorrectedForCoordinatedOmission(expectedIntervalBetweenValueSamples)`.
    """
    if not interval_ms > 0 or not np.isfinite(interval_ms):
        raise InvalidInput(
            f"interval_ms must be the time between two requests of a user, over 0 ms; not {interval_ms!r}",
            field="interval_ms",
        )
    buckets, counts = _columns(merged)
    added = np.zeros(BUCKETS + 1)
    upper = edges(np.arange(FIRST_BUCKET, FIRST_BUCKET + BUCKETS))
    for time_ms, count in zip(values_of(buckets).tolist(), counts.tolist(), strict=True):
        if time_ms >= 2 * interval_ms:
            added[:-1] += count * _fill(time_ms, interval_ms, upper)
    total = {int(bucket): int(count) for bucket, count in merged.items()}
    for place in np.flatnonzero(added).tolist():
        total[place + FIRST_BUCKET] = total.get(place + FIRST_BUCKET, 0) + int(added[place])
    return total


def _fill(time_ms: float, interval_ms: float, upper: np.ndarray) -> np.ndarray:
    """Count, for each bucket, the times t - k d >= d that lie in it; k = 1, 2, ..."""
    steps = np.floor(time_ms / interval_ms + 1e-9) - 1
    beyond = np.clip(np.ceil((time_ms - upper) / interval_ms) - 1, 0, steps)  # those longer than the upper edge
    return np.concatenate([[steps], beyond[:-1]]) - beyond


def estimate(merged: Mapping[int, int], interval_ms: float, percentiles: float | Sequence[float]) -> pd.DataFrame:
    """Put percentiles as they were measured beside those corrected for coordinated omission.

    Returns
    -------
    DataFrame
        A row for each percentile: percentile, ms (measured), estimate_ms (see `corrected`), requests, estimate_requests
        (those that the estimate adds).
    """
    wanted = list(percentile_columns(percentiles).values())
    filled = corrected(merged, interval_ms)
    total = sum(merged.values())
    return frame(
        {
            "percentile": wanted,
            "ms": [_quantile(merged, q) for q in wanted],
            "estimate_ms": [_quantile(filled, q) for q in wanted],
            "requests": [total] * len(wanted),
            "estimate_requests": [sum(filled.values()) - total] * len(wanted),
        }
    )


def edges(buckets: np.ndarray) -> np.ndarray:
    """Give the upper edge of each bucket in milliseconds: gamma**i."""
    return GAMMA ** buckets.astype(float)


def _quantile(merged: Mapping[int, int], percentile: float) -> float:
    buckets, counts = _columns(merged)
    if not len(buckets):
        return float("nan")
    rank = nearest_rank(percentile, np.array([counts.sum()]))
    return float(values_of(buckets[np.searchsorted(np.cumsum(counts), rank)])[0])


def _columns(merged: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Give the buckets, ascending, and their counts."""
    buckets = np.array(sorted(merged), np.int64)
    return buckets, np.array([merged[bucket] for bucket in buckets.tolist()], np.int64)


def _check_threshold(ms: float) -> None:
    if isinstance(ms, bool) or not isinstance(ms, int | float | np.number) or not 0 <= ms < np.inf:
        raise InvalidInput(f"a threshold is a number of milliseconds, at least 0; not {ms!r}", field="ms")
