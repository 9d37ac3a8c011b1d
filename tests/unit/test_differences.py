"""Comparisons: fingerprints, mix shift and latency shift, shift functions; checked on the raw requests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from loadbench import testing as synthetic
from loadbench.agent.histogram import ALPHA, GAMMA
from loadbench.analysis import fingerprint, shift
from loadbench.analysis.columns import COLUMNS
from loadbench.analysis.condense import condense
from loadbench.analysis.decompose import kind, why_mean, why_percentile
from loadbench.analysis.measurements import Sample, measure
from loadbench.errors import InvalidInput
from tests.sides import VALID, a_side, compared

SHOP = [("GET", "/list"), ("POST", "/search"), ("POST", "/checkout")]
MEDIANS = [30.0, 80.0, 200.0]


def drawn(seed: str, **how) -> synthetic.Synthetic:
    return synthetic.run(seed=seed, seconds=120, endpoints=SHOP, rps=100, median_ms=MEDIANS, **how)


def both(reference: synthetic.Synthetic, new: synthetic.Synthetic):
    samples = [Sample(each.run, condense(each.run, each.documents), VALID) for each in (reference, new)]
    measured = measure(samples)
    return measured.of([0]), measured.of([1])


BEFORE = drawn("before", weights=[6, 3, 1])
MIXED = drawn("mixed", weights=[3, 3, 4])
SLOWER = drawn("slower", weights=[6, 3, 1], slowdown={1: 1.5})


@pytest.mark.parametrize("percentile", [50.0, 95.0, "mean"])
@pytest.mark.parametrize(("new", "name"), [(MIXED, "mix shift"), (SLOWER, "latency shift")], ids=["mix", "latency"])
def test_a_pure_shift_is_called_what_it_is(percentile, new, name):
    sides = both(BEFORE, new)
    why = why_mean(*sides) if percentile == "mean" else why_percentile(*sides, percentile)
    assert kind(why) == name
    total = why.iloc[-1]
    assert total["name"] == "Aggregated"
    parts = why.iloc[:-1]
    assert parts["mix_ms"].sum() == pytest.approx(total["mix_ms"])
    assert parts[["mix_ms", "latency_ms"]].to_numpy().sum() == pytest.approx(total["change_ms"])
    assert total["value_ms"] - total["reference_ms"] == pytest.approx(total["change_ms"])
    truth = [each.raw.ms.mean() if percentile == "mean" else synthetic.nearest_rank(each.raw.ms, percentile)
             for each in (BEFORE, new)]  # fmt: skip
    assert total["change_ms"] == pytest.approx(truth[1] - truth[0], abs=2 * ALPHA * max(truth))
    assert (parts["change_ms"].abs().diff().dropna() <= 1e-9).all()  # ranked
    if name == "latency shift":
        assert (parts["name"].iloc[0], parts["method"].iloc[0]) == ("/search", "POST")


def test_the_means_parts_are_those_of_kitagawas_formula():
    sides = both(BEFORE, MIXED)
    why = why_mean(*sides).iloc[:-1].set_index("name")
    shares, means = ([each.raw.groupby("endpoint").ms.agg(how) for each in (BEFORE, MIXED)] for how in ("size", "mean"))
    shares = [share / share.sum() for share in shares]
    for place, (_, name) in enumerate(SHOP):
        latency = (shares[0][place] + shares[1][place]) / 2 * (means[1][place] - means[0][place])
        assert why.loc[name, "latency_ms"] == pytest.approx(latency)
        assert why.loc[name, "share_ratio"] == pytest.approx(shares[1][place])
        assert why.loc[name, "reference_ms"] == pytest.approx(means[0][place])
    rates = sum((shares[1][i] - shares[0][i]) * (means[0][i] + means[1][i]) / 2 for i in range(3))
    assert why["mix_ms"].sum() == pytest.approx(rates)


def test_endpoints_that_come_and_go_are_a_mix_shift():
    old, new = a_side("old", 1, endpoints=["/a"]), a_side("new", 1, endpoints=["/a", "/b"], weights=[1, 1])
    slow = compared(new, old)
    for percentile in (95.0, "mean"):
        why = slow.why(percentile)
        assert kind(why) == "mix shift"
        assert set(why.columns) <= set(COLUMNS)
        assert np.isnan(why.set_index("name").loc["/b", "reference_ms"])
    assert kind(compared(a_side("x", 1), a_side("x", 1)).why()) == "no shift"
    assert slow.why(seed=1).equals(slow.why(seed=1))
    with pytest.raises(InvalidInput, match='percentile must be a number in \\[0, 100\\] or "mean"'):
        slow.why("median")


@pytest.mark.parametrize("outcome", ["all", "ok", "failed"])
def test_a_shift_function_of_two_runs_is_that_of_the_raw_requests(outcome):
    old, new = drawn("old", failure_ratio=0.3), drawn("new", slowdown=1.3, failure_ratio=0.3)
    stretches = [shift.stretch(each.run, each.documents, outcome=outcome) for each in (old, new)]
    found = shift.shift_within(*stretches, seed=1)
    assert set(found.columns) <= set(COLUMNS)
    kept = {"all": lambda raw: raw, "ok": lambda raw: raw[~raw.failed], "failed": lambda raw: raw[raw.failed]}[outcome]
    for row in found.itertuples():
        truth = [synthetic.nearest_rank(kept(each.raw).ms, row.percentile) for each in (old, new)]
        assert row.reference_ms == pytest.approx(truth[0], rel=0.011)
        assert row.value_ms == pytest.approx(truth[1], rel=0.011)
    assert (found["change_low_ms"] <= found["change_ms"]).all()
    assert (found["change_ms"] <= found["change_high_ms"]).all()
    middle = found[found["percentile"] == 50].iloc[0]
    assert middle["change_low_ms"] > 0
    assert shift.shift_within(*stretches, seed=1).equals(found)
    assert not shift.shift_within(*stretches, seed=2)["change_low_ms"].equals(found["change_low_ms"])
    with pytest.raises(InvalidInput, match="block_s"):
        shift.shift_within(*stretches, block_s=0)


def a_stretch(rng: np.random.Generator, intervals: int = 60, requests: int = 100) -> shift.Stretch:
    """Draw intervals of 5 s whose requests share the luck of their interval, and this the luck of the one before."""
    luck = np.zeros(intervals)
    for place in range(1, intervals):
        luck[place] = 0.7 * luck[place - 1] + 0.1 * math.sqrt(1 - 0.7**2) * rng.standard_normal()
    bucket = np.ceil((np.log(60) + luck[:, None] + 0.45 * rng.standard_normal((intervals, requests))) / np.log(GAMMA))
    bucket = bucket.astype(int) - 100
    counts = np.zeros((intervals, bucket.max() + 1))
    np.add.at(counts, (np.arange(intervals)[:, None], bucket), 1)
    return shift.Stretch(counts, 100, 5.0)


def test_bands_within_runs_hold_the_truth_where_neighbouring_seconds_share_their_luck():
    rng, inside, cases = np.random.default_rng(11), {60.0: 0, 5.0: 0}, 120
    for case in range(cases):
        pair = [a_stretch(rng, intervals=120), a_stretch(rng, intervals=120)]
        for block_s in inside:
            band = shift.shift_within(*pair, levels=(50,), seed=case, block_s=block_s, resamples=100).iloc[0]
            inside[block_s] += band["change_low_ms"] <= 0 <= band["change_high_ms"]
    # docs/statistics.md states 90 %; intervals drawn one by one claim more than they know: 64 %.
    assert stats.binomtest(inside[60.0], cases, 0.9, alternative="less").pvalue > 0.01
    assert stats.binomtest(inside[5.0], cases, 0.80, alternative="less").pvalue < 0.01


def test_a_shift_function_of_pools_has_bands_of_the_noise_between_runs():
    old, new = a_side("old", 5), a_side("new", 5, slowdown=1.2)
    made = compared(new, old)
    found = shift.shift_between(made.measured[1], made.measured[0], -1)
    verdict = made.verdict(percentile=95)
    row = found[found["percentile"] == 95].iloc[0]
    assert 100 * row["change_ms"] / row["reference_ms"] == pytest.approx(verdict.effect_percent)
    assert 100 * row["change_low_ms"] / row["reference_ms"] == pytest.approx(verdict.low_percent)
    alone = compared(a_side("new", 1), a_side("old", 1))
    assert shift.shift_between(*alone.measured, -1)["change_low_ms"].isna().all()
    empty = shift.Stretch(np.zeros((0, 0)), 0, 1.0)
    assert shift.shift_within(empty, empty).empty


def test_differences_list_what_differs_and_only_that():
    runs = [synthetic.condensed(seed=1).run, synthetic.condensed(seed=2).run]
    assert fingerprint.differences([("a", runs[:1]), ("b", runs[1:])]).empty
    changed = runs[1].model_copy(
        update={"target_users": 50, "revision_number": 3, "arguments": ("--shop=corner",),
                "target_url": "http://bob:secret@shop.example"}
    )  # fmt: skip
    found = fingerprint.differences([("a", runs), ("b", [changed])])
    assert found.columns.tolist() == ["comparability", "a", "b"]
    assert found["comparability"].to_dict() == {
        "target": "must agree", "users": "must agree", "arguments": "must agree", "revision": "listed",
    }  # fmt: skip
    assert found.loc["users", ["a", "b"]].tolist() == ["20", "50"]
    assert found.loc["arguments", ["a", "b"]].tolist() == ["–", "--shop=corner"]
    assert "secret" not in found.to_string()
    assert set(fingerprint.disagreements([*runs, changed])) == {"target", "users", "arguments"}
    everything = fingerprint.differences([("a", runs), ("b", [changed])], only_differing=False)
    assert everything.index.tolist() == list(fingerprint.FACTS)
    pooled = fingerprint.differences([("a", [runs[0], changed]), ("b", runs)])
    assert pooled.loc["revision", "a"] == "2, 3"


def test_which_facts_may_differ_is_checked():
    assert fingerprint.allowed(True) == frozenset(fingerprint.CHECKED)
    assert fingerprint.allowed(False) == frozenset()
    assert fingerprint.allowed("users") == {"users"}
    with pytest.raises(InvalidInput, match="allow_different must be one of test, target, users"):
        fingerprint.allowed(["colour"])


def test_a_script_diff_is_unified():
    diff = fingerprint.script_diff("a\nb", "a\nc", names=("revision 1", "revision 2"))
    assert diff == "--- revision 1\n+++ revision 2\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert fingerprint.script_diff("a\n", "a\n") == ""
