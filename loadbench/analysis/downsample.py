"""Which intervals to draw of a run that has more than a chart can show: chosen, never averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

PEAK_SHARE = 10
"""One point in so many is kept for the highest values of each peak series, wherever they are."""


def thin(series: Sequence[np.ndarray], limit: int, *, peaks: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Choose which points of some series to draw, the same of all, so that peaks and gaps stay.

    Parameters
    ----------
    series : sequence of arrays of float
        At least one, all of one length, in the order of time; nan where a value is missing.
    limit : int
        How many points to draw at most, 4 or more. Each series keeps its highest point from twice their number + 2 on.
    peaks : sequence of arrays of float
        Series whose highest values stay even where they crowd: `limit // 10` values of each that are above its median.

    Returns
    -------
    array of int
        Ascending positions: all of them if they are few, else the first, the last, the peaks, and of each of many
        stretches of equal length the highest, the lowest and the first missing point of each series. The stretches are
        as short as the limit allows. Points are chosen, never averaged: the mean of percentiles is no percentile.
    """
    n = len(series[0])
    if n <= limit:
        return np.arange(n)
    fixed = np.unique(np.concatenate([[0, n - 1], *(_highest(each, limit // PEAK_SHARE) for each in peaks)]))
    stretches = _Stretches(series)
    best = np.union1d(fixed, stretches.choose(n)[: limit - len(fixed)])
    short, long = n // limit, n  # `long` fits, `short` would choose more points than there may be
    while long - short > 1:
        size = (short + long) // 2
        chosen = np.union1d(fixed, stretches.choose(size))
        if len(chosen) <= limit:
            best, long = chosen, size
        else:
            short = size
    return best.astype(np.int64)


def _highest(values: np.ndarray, number: int) -> np.ndarray:
    """Give the positions of the highest values, of equal ones the earliest."""
    low = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(-low, kind="stable")[:number]
    known = values[~np.isnan(values)]
    return order[low[order] > np.median(known)] if len(known) else order[:0]


class _Stretches:
    """The extremes of each series within stretches of any length."""

    def __init__(self, series: Sequence[np.ndarray]) -> None:
        self._n = len(series[0])
        missing = [np.isnan(values) for values in series]
        self._low = [np.where(nan, np.inf, values) for values, nan in zip(series, missing, strict=True)]
        self._high = [np.where(nan, -np.inf, values) for values, nan in zip(series, missing, strict=True)]
        self._missing = [nan for nan in missing if nan.any()]

    def choose(self, size: int) -> np.ndarray:
        """Give positions, the most important first: the highest, the lowest, the first that are missing."""
        return np.concatenate(list(self._positions(size)))

    def _positions(self, size: int) -> Iterator[np.ndarray]:
        for values in self._high:
            yield self._first(values, size, np.argmax, -np.inf)
        for values in self._low:
            yield self._first(values, size, np.argmin, np.inf)
        for nan in self._missing:
            position = self._first(nan, size, np.argmax, False)
            yield position[nan[position]]

    def _first(self, values: np.ndarray, size: int, which: np.ufunc, filler: float) -> np.ndarray:
        padded = np.full(-(-self._n // size) * size, filler, dtype=values.dtype)
        padded[: self._n] = values
        return which(padded.reshape(-1, size), axis=1) + np.arange(0, len(padded), size)
