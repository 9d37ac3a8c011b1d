"""The scalability law and the users that keep a limit: known truth is within the intervals as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from loadbench.analysis import scalability
from loadbench.analysis.paired import paired_effect
from loadbench.analysis.scalability import fit, offered, throughput, users_within, within_run_sd
from loadbench.errors import InvalidInput

LEVELS = np.array([5, 10, 20, 30, 40, 60, 80])
LAW = (5.0, 0.03, 0.0004)
KNEE = math.sqrt((1 - 0.03) / 0.0004)


def sweep(seed: int, users=LEVELS, sd: float = 0.02, law=LAW) -> np.ndarray:
    return throughput(users, *law) * np.exp(np.random.default_rng(seed).normal(0, sd, len(users)))


def test_without_noise_the_law_is_found_exactly():
    law = fit(LEVELS, throughput(LEVELS, *LAW))
    assert [each.value for each in (law.per_user, law.contention, law.crosstalk)] == pytest.approx(LAW)
    assert law.knee.value == pytest.approx(KNEE)
    assert str(law).startswith("knee at about 49 users")


@pytest.mark.parametrize("sd", [0.02, 0.05])
def test_intervals_cover_the_truth_in_95_of_100_sweeps(sd):
    hits = {"per_user": 0, "contention": 0, "crosstalk": 0, "knee": 0}
    truth = dict(zip(hits, (*LAW, KNEE), strict=True))
    for seed in range(100):
        law = fit(LEVELS, sweep(seed, sd=sd), draws=200, seed=seed)
        for name, value in truth.items():
            estimate = getattr(law, name)
            hits[name] += estimate.low <= value <= estimate.high
    assert min(hits.values()) >= 88, hits


def test_a_free_least_squares_fit_agrees():
    rate = sweep(3)
    found, _ = curve_fit(throughput, LEVELS.astype(float), rate, p0=(5, 0.01, 1e-4), sigma=rate, xtol=1e-12)
    law = fit(LEVELS, rate)
    mine = throughput(LEVELS, law.per_user.value, law.contention.value, law.crosstalk.value)
    assert mine == pytest.approx(throughput(LEVELS, *found), rel=0.01)


def test_no_knee_is_told_where_none_was_measured():
    for seed in range(30):
        assert not fit(LEVELS, sweep(seed, law=(5, 0.02, 0)), draws=20).knee_is_measured
    early = fit(LEVELS[:4], throughput(LEVELS[:4], *LAW))
    assert str(early).startswith(
        "no knee within what was measured (up to 30 users); the law puts it at about 49, an ext"
    )
    grid = early.at([1, 10, 30, 49])
    assert grid["extrapolated"].tolist() == [True, False, False, True]


def test_three_levels_have_a_law_but_no_interval():
    law = fit([5, 20, 80], throughput(np.array([5, 20, 80]), *LAW))
    assert law.knee.value == pytest.approx(KNEE)
    assert math.isnan(law.knee.low)
    assert str(law) == "knee at about 49 users"
    with pytest.raises(InvalidInput, match="at least 3 different"):
        fit([5, 5, 20], [1, 1, 2])


def p95_ms(users) -> np.ndarray:
    return np.interp(users, [5, 20, 40, 60, 80, 100], [100, 110, 150, 220, 340, 600])


TRUTH = float(np.interp(300, [220, 340], [60, 80]))


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_users_within_a_limit_cover_the_truth_in_95_of_100_sweeps(repeats):
    levels, hits = np.repeat([5, 20, 40, 60, 80, 100], repeats), 0
    for seed in range(100):
        values = p95_ms(levels) * np.exp(np.random.default_rng(seed).normal(0, 0.05, len(levels)))
        noise = None if repeats > 1 else np.full(len(levels), 0.05)
        told = users_within(levels, values, 300, label="p95 < 300 ms", within_run_sd=noise, draws=200, seed=seed)
        hits += told.low <= TRUTH <= told.high
    assert hits >= 88


def test_nothing_is_told_beyond_what_was_measured():
    levels = [5, 20, 40]
    some = users_within(levels, p95_ms(levels), 120, label="p95 < 120 ms", within_run_sd=[0.01] * 3)
    assert some.users == pytest.approx(25)
    assert repr(some).startswith("about 25 users (95 % interval 2")
    assert repr(some).endswith("keep p95 < 120 ms; noise within runs only")
    every = users_within(levels, p95_ms(levels), 300, label="p95 < 300 ms", within_run_sd=[0.01] * 3)
    assert math.isinf(every.users)
    assert repr(every) == "at least 40 users keep p95 < 300 ms: it was not broken within what was measured"
    none = users_within(levels, p95_ms(levels), 50, label="p95 < 50 ms", within_run_sd=[0.01] * 3)
    assert repr(none) == "fewer than 5 users keep p95 < 50 ms: the smallest level measured breaks it"
    near = users_within(levels, p95_ms(levels), 149, label="p95 < 149 ms", within_run_sd=[0.05] * 3)
    assert "to over 40)" in repr(near)
    blind = users_within(levels, p95_ms(levels), 120, label="p95 < 120 ms", within_run_sd=[math.nan] * 3)
    assert repr(blind).startswith("about 25 users keep p95 < 120 ms; no interval")


def test_what_is_offered_follows_littles_law():
    """10 users with 1 s between requests of 250 ms send 8 requests/s; if only 6 came, the generator fell behind."""
    told = offered([10, 20], [250, 600], [8.0, 12.5])
    assert told["think_s"].tolist() == pytest.approx([1.0, 1.0])
    assert told["achieved_ratio"].tolist() == pytest.approx([1.0, 1.0])
    assert told["little_ms"].tolist() == pytest.approx([250, 600])
    late = offered([10], [250], [6.0], think_s=1.0)
    assert late["achieved_ratio"].tolist() == pytest.approx([0.75])
    paced = offered([10, 20], [250, 600], [5.0, 9.0], rate_per_user=0.5)
    assert paced["offered_per_s"].tolist() == [5, 10]
    assert paced["achieved_ratio"].tolist() == pytest.approx([1.0, 0.9])


def test_noise_within_a_run_counts_what_is_correlated_once():
    rng = np.random.default_rng(0)
    white = np.exp(rng.normal(0, 0.05, 400))
    assert within_run_sd(white) == pytest.approx(0.05 / 20, rel=0.3)
    wander = np.zeros(400)
    for at in range(1, 400):
        wander[at] = 0.7 * wander[at - 1] + rng.normal(0, 0.05 * math.sqrt(1 - 0.49))
    assert within_run_sd(np.exp(wander)) > 1.7 * within_run_sd(white)
    assert math.isnan(within_run_sd([100, 110, 120]))


@pytest.mark.parametrize("spread", [0.03, 0.08])
def test_a_campaign_that_stops_when_it_is_narrow_keeps_its_confidence(spread):
    """A B B A from 4 pairs to 40, until the ratio is known within 5 %: no difference, 2,000 campaigns."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(1000):
        a, b = np.exp(rng.normal(0, spread / math.sqrt(2), (2, 40)))
        for pairs in range(4, 41, 2):
            effect = paired_effect(a[:pairs], b[:pairs])
            if effect.half_width <= 5:
                break
        wrong += not effect.low <= 0 <= effect.high
    assert wrong / 1000 <= 0.065


def test_pairs_are_free_of_a_linear_drift():
    """The system gets 2 % slower with each run; B is 10 % slower than A. A B B A."""
    drift = np.exp(0.02 * np.arange(8))
    a, b = 100 * drift[[0, 3, 4, 7]], 110 * drift[[1, 2, 5, 6]]
    assert paired_effect(a, b).change == pytest.approx(10)
    assert str(paired_effect(a[:1], b[:1])) == "+12.2 % (one pair: no interval)"
    assert str(paired_effect([], [])) == "no pair yet"
    with pytest.raises(InvalidInput):
        paired_effect([1.0], [0.0])


def test_the_registry_of_noise_is_not_touched_by_inputs():
    levels, values = np.array([5.0, 20.0, 40.0]), np.array([1.0, 2.0, 3.0])
    scalability.fit(levels, values)
    assert levels.tolist() == [5, 20, 40]
    assert values.tolist() == [1, 2, 3]
