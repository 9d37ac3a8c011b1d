"""Why a total changed: because other things were requested, or because the same things took longer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame
from loadbench.analysis.measurements import Measurements, quantiles_of

ORDERS = 50
"""Pairs of orders (each with its reverse) in which a percentile's change is taken apart."""
DOMINANT = 0.8


def why_mean(reference: Measurements, new: Measurements) -> pd.DataFrame:
    """Answer "did the mean of all requests change by the mix of traffic, or by response times, and whose?".

    Parameters
    ----------
    reference, new : Measurements
        Of the same endpoints; runs are merged.

    Returns
    -------
    DataFrame
        A row per endpoint, the largest contribution first, and a last row Aggregated, their exact sum: method, name,
        share_reference_ratio, share_ratio, reference_ms and value_ms (means), mix_ms, latency_ms, change_ms = mix_ms +
        latency_ms.

    Notes
    -----
    With shares s and means m of the sides A and B, the mean of both sides written with a bar, M that of the totals:
    latency = s_bar (m_B - m_A), mix = (s_B - s_A) (m_bar - M_bar). They add up to M_B - M_A exactly, and are the
    Shapley values of the two factors. An endpoint that one side lacks has the mean of the other there.

    References
    ----------
    Kitagawa: Components of a Difference Between Two Rates. Journal of the American Statistical Association 50, 1955.
    """
    before, after = reference.merged(), new.merged()
    shares = _share(before), _share(after)
    means = [_mean(each) for each in (before, after)]
    filled = [np.where(np.isnan(own), other, own) for own, other in (means, means[::-1])]
    used = (shares[0] > 0) | (shares[1] > 0)
    low, high = (np.where(used, values, 0.0) for values in filled)
    totals = [float(share @ values) for share, values in zip(shares, (low, high), strict=True)]
    mix = (shares[1] - shares[0]) * ((low + high) / 2 - sum(totals) / 2)
    latency = (shares[0] + shares[1]) / 2 * (high - low)
    return _table(reference, shares, [*means], totals, mix, latency)


def why_percentile(
    reference: Measurements, new: Measurements, percentile: float = 95.0, *, seed: int = 0
) -> pd.DataFrame:
    """Answer "did a percentile of all requests change by the mix of traffic, or by response times, and whose?".

    Parameters
    ----------
    reference, new : Measurements
        Of the same endpoints; runs are merged.
    percentile : float
        In [0, 100].
    seed : int
        Of the orders; the same seed gives the same figures.

    Returns
    -------
    DataFrame
        As of `why_mean`, of the percentile: reference_ms and value_ms are those of the endpoint, and the row
        Aggregated is the exact sum of the contributions.

    Notes
    -----
    A percentile of the total is that of the endpoints' histograms, weighted with their shares. From the weights and
    histograms of the reference, those of the new side are put in one by one, in an order drawn at random, and each step
    changes the percentile by its contribution; these are averaged over `ORDERS` orders and their reverses. In every
    order they add up to the whole change, so they do on average: Shapley values by sampling.

    References
    ----------
    Shapley: A Value for n-Person Games. 1953. Castro, Gómez, Tejada: Polynomial calculation of the Shapley value based
    on sampling. Computers & Operations Research 36, 2009.
    """
    before, after = reference.merged(), new.merged()
    shares = _share(before), _share(after)
    quantiles = [each.quantiles([percentile])[0, :, 0] for each in (before, after)]
    shapes = _shapes(before, after)
    mix, latency = _shapley(shares, shapes, before.first_bucket, percentile, seed)
    totals = [quantiles[0][-1], quantiles[1][-1]]
    return _table(reference, shares, [quantiles[0][:-1], quantiles[1][:-1]], totals, mix, latency)


def kind(why: pd.DataFrame) -> str:
    """Name what a decomposition shows: "mix shift", "latency shift", "mix and latency shift" or "no shift"."""
    mix, latency = (float(why[column].iloc[-1]) for column in ("mix_ms", "latency_ms"))
    size = abs(mix) + abs(latency)
    if not size > 0:
        return "no shift"
    if abs(mix) >= DOMINANT * size:
        return "mix shift"
    return "latency shift" if abs(latency) >= DOMINANT * size else "mix and latency shift"


def _share(whole: Measurements) -> np.ndarray:
    """Give each endpoint's share of the requests that have a time."""
    weight = np.where(whole.timed[0].sum() > 0, whole.timed[0], whole.requests[0])[:-1]
    return weight / max(weight.sum(), 1)


def _mean(whole: Measurements) -> np.ndarray:
    n = np.where(whole.timed[0].sum() > 0, whole.timed[0], whole.requests[0])[:-1]
    return np.divide(whole.sum_ms[0][:-1], n, out=np.full(len(n), np.nan), where=n > 0)


def _shapes(before: Measurements, after: Measurements) -> tuple[np.ndarray, np.ndarray]:
    """Give each endpoint's histogram as shares of its requests; of one that a side lacks, that of the other side."""
    counts = [each.counts[0, :-1] for each in (before, after)]
    shapes = [each / np.maximum(each.sum(axis=1, keepdims=True), 1) for each in counts]
    return tuple(np.where(own.sum(axis=1, keepdims=True) > 0, own, other) for own, other in (shapes, shapes[::-1]))


def _shapley(
    shares: tuple[np.ndarray, np.ndarray],
    shapes: tuple[np.ndarray, np.ndarray],
    first_bucket: int,
    percentile: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    number = len(shares[0])
    contribution = np.zeros(2 * number)
    if not number or not shares[0].sum() or not shares[1].sum():
        return contribution[:number], contribution[number:]
    rng = np.random.default_rng(seed)
    orders = [order for _ in range(ORDERS) for order in _both_ways(rng.permutation(2 * number))]
    for order in orders:
        share, shape = shares[0].copy(), shapes[0].copy()
        path = np.empty((2 * number + 1, shape.shape[1]))
        path[0] = share @ shape
        for step, player in enumerate(order, 1):
            endpoint = player % number
            old = share[endpoint] * shape[endpoint]
            if player < number:
                share[endpoint] = shares[1][endpoint]
            else:
                shape[endpoint] = shapes[1][endpoint]
            path[step] = path[step - 1] - old + share[endpoint] * shape[endpoint]
        contribution[order] += np.diff(_percentile_of(path, first_bucket, percentile))
    contribution /= len(orders)
    return contribution[:number], contribution[number:]


def _both_ways(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return order, order[::-1]


def _percentile_of(weights: np.ndarray, first_bucket: int, percentile: float) -> np.ndarray:
    """Read a percentile of each row; a row that is empty on the way has none, and takes that of the row before."""
    found = quantiles_of(np.maximum(weights, 0.0), first_bucket, [percentile])[:, 0]
    return pd.Series(found).ffill().to_numpy()


def _table(
    reference: Measurements,
    shares: tuple[np.ndarray, np.ndarray],
    values: list[np.ndarray],
    totals: list[float],
    mix: np.ndarray,
    latency: np.ndarray,
) -> pd.DataFrame:
    kept = np.flatnonzero((shares[0] > 0) | (shares[1] > 0))
    order = kept[np.argsort(-np.abs(mix + latency)[kept], kind="stable")]
    endpoints = [reference.endpoints[place] for place in order] + [reference.endpoints[-1]]
    return frame(
        {
            "method": [method for method, _ in endpoints],
            "name": [name for _, name in endpoints],
            "share_reference_ratio": [*shares[0][order], shares[0].sum()],
            "share_ratio": [*shares[1][order], shares[1].sum()],
            "reference_ms": [*values[0][order], totals[0]],
            "value_ms": [*values[1][order], totals[1]],
            "mix_ms": [*mix[order], mix.sum()],
            "latency_ms": [*latency[order], latency.sum()],
            "change_ms": [*(mix + latency)[order], (mix + latency).sum()],
        }
    )
