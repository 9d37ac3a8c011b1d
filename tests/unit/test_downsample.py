"""What is left out of a chart, and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadbench.analysis.downsample import thin

VALUES = st.floats(0, 1e6) | st.just(float("nan"))


@given(st.lists(VALUES, max_size=300), st.integers(8, 40))
def test_one_series_keeps_peaks_ends_gaps_and_the_limit(values: list[float], limit: int):
    array = np.array(values, dtype=float)
    chosen = thin([array], limit)
    assert len(chosen) <= limit
    assert list(chosen) == sorted(set(chosen.tolist()))
    if len(array):
        assert chosen[0] == 0
        assert chosen[-1] == len(array) - 1
        assert np.isnan(array).any() == np.isnan(array[chosen]).any()
    if not np.isnan(array).all():
        assert np.nanmax(array[chosen]) == np.nanmax(array)
        assert np.nanmin(array[chosen]) == np.nanmin(array)


@given(st.integers(0, 10_000), st.integers(1, 24), st.integers(40, 120))
def test_many_series_keep_the_highest_of_each_and_the_limit(seed: int, number: int, limit: int):
    rng = np.random.default_rng(seed)
    series = list(rng.lognormal(size=(number, 700)))
    chosen = thin(series, limit, peaks=series[:2])
    assert len(chosen) <= limit
    assert len(set(chosen.tolist())) == len(chosen)
    for values in series:
        assert values.argmax() in chosen


def keeps_extremes(values: np.ndarray, chosen: np.ndarray, size: int) -> bool:
    parts = [np.arange(start, min(start + size, len(values))) for start in range(0, len(values), size)]
    kept = [values[np.intersect1d(part, chosen)] for part in parts]
    return all(
        len(left) and (left.max(), left.min()) == (values[part].max(), values[part].min())
        for part, left in zip(parts, kept, strict=True)
    )


def test_of_each_stretch_the_highest_and_the_lowest_stay():
    rng = np.random.default_rng(1)
    series = [rng.random(3600) for _ in range(3)]
    chosen = thin(series, 500)
    fits = 3600 // (498 // 6) + 1  # so long are stretches if no point is an extreme of two series
    assert any(all(keeps_extremes(values, chosen, size) for values in series) for size in range(7, fits + 1))
    assert len(chosen) > 450, "the points that there may be are used"


def test_peaks_stay_even_where_they_crowd():
    rng = np.random.default_rng(2)
    p99, errors = rng.lognormal(4, 0.2, 3600), np.zeros(3600)
    stalls = np.arange(1000, 1050)
    p99[stalls] = 3000 + rng.permutation(50)
    errors[[7, 8, 9, 3598]] = [1, 2, 3, 1]
    chosen = thin([rng.random(3600), p99, errors], 500, peaks=(errors, p99))
    assert set(stalls) <= set(chosen.tolist())
    assert {7, 8, 9, 3598} <= set(chosen.tolist())


def test_a_value_is_never_made_up():
    values = np.array([5.0, 1.0, 9.0, 2.0] * 100)
    assert set(values[thin([values], 40)].tolist()) <= {5.0, 1.0, 9.0, 2.0}


@pytest.mark.parametrize("values", [[], [1.0], [float("nan")] * 100, [3.0] * 100])
def test_series_without_peaks(values: list[float]):
    array = np.array(values)
    assert len(thin([array], 10, peaks=[array])) <= max(10, 0)
    assert len(thin([array], 10)) >= min(len(values), 2)
