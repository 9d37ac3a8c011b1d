"""Verdicts, both ways: noise is not called a change more often than stated, and a planted change is found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from loadbench import testing as synthetic
from loadbench.analysis import packed
from loadbench.analysis.columns import COLUMNS
from loadbench.analysis.condense import condense
from loadbench.analysis.effect import effect, holm
from loadbench.analysis.measurements import Sample, Side, measure
from loadbench.analysis.summary import summary
from loadbench.analysis.validity import Validity
from loadbench.analysis.verdict import VERDICTS, Verdict, headline, to_frame
from loadbench.errors import InvalidInput, NotFound
from tests.sides import a_side, asked, compared

NOISE = {"run_sd": 0.02, "interval_sd": 0.05, "correlation": 0.9}
"""What docs/statistics.md states its rates for: ten minutes at 50 requests/s, intervals of 5 s."""


def simulate(cases: int, pool: int, new: int = 1, *, planted: tuple[float, ...] = ()) -> dict[str, float]:
    """Give how often all requests' p95 was called changed: with nothing planted, with each slowdown, and with exactly
    the smallest change that each comparison said it could detect."""
    hits = {"none": 0, "smallest": 0} | {f"{change:g}": 0 for change in planted}
    for case in range(cases):
        reference = a_side("reference", pool, seed=f"{pool} {case}", **NOISE)
        truth = asked(reference, a_side("new", new, seed=f"{pool} {case}", **NOISE))[0]
        hits["none"] += truth.verdict in ("slower", "faster")
        for change in planted:
            slower = a_side("new", new, seed=f"{pool} {case} {change}", slowdown=1 + change, **NOISE)
            hits[f"{change:g}"] += asked(reference, slower)[0].verdict == "slower"
        slowdown = 1 + truth.smallest_percent / 100
        hits["smallest"] += (
            asked(reference, a_side("new", new, seed=f"{pool} {case}", slowdown=slowdown, **NOISE))[0].verdict
            == "slower"
        )
    return {name: count / cases for name, count in hits.items()}


def is_at_most(rate: float, stated: float, cases: int) -> bool:
    """Whether a rate counted over so many cases is no evidence, at 1 %, against the stated one."""
    return stats.binomtest(round(rate * cases), cases, stated, alternative="greater").pvalue > 0.01


def is_at_least(rate: float, stated: float, cases: int) -> bool:
    return stats.binomtest(round(rate * cases), cases, stated, alternative="less").pvalue > 0.01


def test_200_cases_keep_the_rates_that_are_stated():
    rates = simulate(200, 5, planted=(0.10,))
    assert is_at_most(rates["none"], 0.05, 200), rates
    assert is_at_least(rates["0.1"], 0.67, 200), rates
    assert is_at_least(rates["smallest"], 0.8, 200), rates
    assert is_at_most(rates["smallest"], 0.8, 200), rates


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("pool", "new", "ten", "fifteen"), [(3, 1, 0.36, 0.60), (5, 1, 0.67, 0.92), (8, 1, 0.77, 0.98), (5, 5, 0.97, 0.99)]
)
def test_1000_cases_keep_the_rates_that_are_stated(pool, new, ten, fifteen, record_property):
    rates = simulate(1000, pool, new, planted=(0.10, 0.15))
    record_property("rates", str(rates))
    assert is_at_most(rates["none"], 0.05, 1000), rates
    assert is_at_least(rates["0.1"], ten, 1000), rates
    assert is_at_least(rates["0.15"], fifteen, 1000), rates
    assert is_at_least(rates["smallest"], 0.8, 1000), rates
    assert is_at_most(rates["smallest"], 0.8, 1000), rates


def family_rate(cases: int, **how) -> float:
    alarms = 0
    for case in range(cases):
        sides = [
            a_side(label, 5, seed=f"family {case}", endpoints=3, rps=90, **NOISE, **how) for label in ("new", "old")
        ]
        alarms += any(each.verdict in ("slower", "faster") for each in compared(*sides).family)
    return alarms / cases


def test_a_whole_table_of_verdicts_raises_no_more_false_alarms_than_one():
    assert is_at_most(family_rate(20), 0.05, 20)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_1000_tables_raise_no_more_false_alarms_than_stated():
    rate = family_rate(1000)
    assert rate <= 0.05


@pytest.mark.long
@pytest.mark.timeout(600)
def test_1000_tables_of_rates_raise_no_more_false_alarms_than_stated():
    alarms = 0
    for case in range(1000):
        sides = [a_side(label, 4, seed=f"rates {case}", endpoints=2, failure_ratio=0.004, **NOISE) for label in "ab"]
        alarms += compared(*sides).rates()["verdict"].isin(["higher", "lower"]).any()
    assert alarms <= 50


def test_an_effect_is_that_of_scipy():
    rng = np.random.default_rng(7)
    before, after = rng.normal(4, 0.02, 6), rng.normal(4.1, 0.05, 4)
    found = effect(before, after)
    truth = stats.ttest_ind(after, before, equal_var=False)
    interval = truth.confidence_interval(0.95)
    assert (found.p, found.freedom) == pytest.approx((truth.pvalue, truth.df))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    one = effect(before, after[:1])
    error = before.std(ddof=1) * math.sqrt(1 + 1 / 6)  # of a prediction
    low, high = stats.t.interval(0.95, 5, loc=after[0] - before.mean(), scale=error)
    assert (one.low, one.high) == pytest.approx((low, high))
    assert one.p == pytest.approx(2 * stats.t.sf(abs(after[0] - before.mean()) / error, 5))
    assert effect(after[:1], before).low == pytest.approx(-one.high)
    assert (one.p < 0.05) == (one.low > 0 or one.high < 0)


def test_holm_is_that_of_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_one_run_against_one_is_never_a_verdict_however_large_the_change():
    found = asked(a_side("old", 1), a_side("new", 1, slowdown=3.0))[0]
    assert found.verdict == "inconclusive"
    assert found.p is None
    assert found.low_percent is None
    assert found.effect_percent == pytest.approx(200, rel=0.1)
    assert "one run on each side" in found.because
    assert "baseline" in found.because
    assert asked(a_side("old", 2), a_side("new", 1, slowdown=3.0))[0].verdict == "inconclusive"
    assert asked(a_side("old", 3), a_side("new", 1, slowdown=3.0))[0].verdict == "slower"
    assert asked(a_side("old", 1), a_side("new", 3, slowdown=1 / 3))[0].verdict == "faster"


def test_a_verdict_in_one_line():
    reference, new = a_side("revision 6", 5), a_side("revision 7", 5, slowdown=1.12)
    found = asked(reference, new)[0]
    q = [np.log(measure(side.samples).quantiles([95])[:, -1, 0]) for side in (reference, new)]
    truth = stats.ttest_ind(q[1], q[0], equal_var=False)
    low, high = (100 * math.expm1(end) for end in truth.confidence_interval(0.95))
    size = 100 * math.expm1(q[1].mean() - q[0].mean())
    assert found.p == pytest.approx(truth.pvalue)
    assert repr(found) == (
        f"slower: p95 {size:+.1f} % (95 % interval {low:+.1f} to {high:+.1f} %), "
        f"p<0.001, 5 runs against 5; smallest detectable change {found.smallest_percent:.1f} %"
    )
    with pytest.raises(TypeError, match="no yes or no"):
        bool(found)


def test_no_difference_is_only_said_where_one_would_have_been_found():
    quiet = {"run_sd": 0.01, "interval_sd": 0.02}
    found = asked(a_side("old", 8, **quiet), a_side("new", 8, **quiet))[0]
    assert found.verdict == "no difference found"
    assert found.smallest_percent < 10
    assert max(-found.low_percent, found.high_percent) < 10
    loud = {"run_sd": 0.10}
    found = asked(a_side("old", 3, **loud), a_side("new", 3, **loud))[0]
    assert found.verdict == "inconclusive"
    assert found.smallest_percent > 10
    assert "10 % matters" in found.because
    assert "runs on each side would do" in found.because
    strict = asked(a_side("old", 8, **quiet), a_side("new", 8, **quiet), important_percent=0.5)[0]
    assert strict.verdict == "inconclusive"


def test_too_few_requests_for_a_percentile_are_no_verdict():
    few = {"seconds": 60, "rps": 3.0}
    slow, fine = asked(a_side("old", 5, **few), a_side("new", 5, slowdown=2.0, **few), (99, 50))
    assert slow.verdict == "inconclusive"
    assert "too few requests for a p99" in slow.because
    assert "1,000" in slow.because
    assert fine.verdict == "slower"


def test_what_cannot_be_compared_says_why_and_may_be_allowed():
    reference, new = a_side("old", 5), a_side("new", 5, users=40, slowdown=1.5)
    found = compared(new, reference).verdict()
    assert found.verdict == "not comparable"
    assert found.because == "users differs (20 or 40)"
    assert found.p is None
    allowed = compared(new, reference, allowed=frozenset({"users"})).verdict()
    assert allowed.verdict == "slower"
    assert allowed.notes == ("users differs (20 or 40)",)
    assert repr(allowed).endswith("; users differs (20 or 40)")

    broken = a_side("new", 5, validity=Validity("INVALID", ("the run failed",)))
    assert "INVALID (the run failed), and 4 more" in compared(broken, reference).verdict().because
    assert compared(broken, reference, trust=True).verdict().verdict != "not comparable"
    doubtful = a_side("new", 5, validity=Validity("SUSPECT", ("2 workers lost",)))
    assert "SUSPECT (2 workers lost)" in repr(compared(doubtful, reference).verdict())
    nothing = Side("new", (Sample(new.samples[0].run, None, Validity("VALID")),))
    assert "nothing in this window" in compared(nothing, reference, allowed=frozenset({"users"})).verdict().because


def test_endpoints_of_one_side_are_listed_without_a_verdict():
    old, new = a_side("old", 3, endpoints=["/a", "/b"]), a_side("new", 3, endpoints=["/a", "/c"])
    made = compared(new, old)
    assert {each.endpoint_label for each in made.family} == {"GET /a", "Aggregated"}
    assert made.verdict("GET /c").because == "only in new"
    assert made.verdict("GET /b").because == "only in old"
    row = made.differences().loc["endpoints only here"]
    assert (row["old"], row["new"]) == ("GET /b", "GET /c")
    with pytest.raises(NotFound, match="there are: GET /a"):
        made.verdict("GET /z")


def test_verdicts_of_a_table_are_corrected_and_one_question_is_not():
    made = compared(a_side("new", 5, endpoints=4, slowdown={2: 1.25}), a_side("old", 5, endpoints=4))
    table = made.verdicts()
    assert set(table.columns) <= set(COLUMNS)
    assert set(table["verdict"]) <= set(VERDICTS)
    assert len(table) == 5 * 3
    assert made.family[0].tested == 15
    slow = table[table["verdict"] == "slower"]
    name = "/api/resource-02"
    assert set(slow["name"]) == {name, "Aggregated"}
    assert (slow["name"] == name).sum() == 3
    slow = slow[slow["name"] == name]
    one = made.verdict(f"GET {name}")
    assert one.tested == 1
    assert one.p < slow.set_index("percentile").loc[95, "p_adjusted"]
    assert one.verdict == "slower"
    assert made.headline.startswith(f"slower: GET {name} ")
    assert made.headline.endswith(" of 15 tested")
    assert to_frame([]).columns.tolist() == table.columns.tolist()
    assert headline([]).startswith("inconclusive")


def test_many_sides_are_one_family():
    made = compared(a_side("a", 3), a_side("b", 3, slowdown=1.4), a_side("old", 3))
    assert {each.side: each.verdict for each in made.family if each.percentile == 95}["b"] == "slower"
    assert {each.tested for each in made.family} == {12}  # 2 sides x (1 endpoint + all) x 3 percentiles
    with pytest.raises(InvalidInput, match="side must be one of a, b"):
        made.verdict()
    assert made.verdict(side="b").verdict == "slower"
    with pytest.raises(InvalidInput, match="important_percent"):
        compared(a_side("a", 3), a_side("b", 3), important_percent=0)


def test_runs_that_hardly_scatter_are_judged_on_a_finer_scale_than_buckets():
    still = {"run_sd": 0.0005, "interval_sd": 0.0, "rps": 400.0}
    alarms = sum(
        asked(a_side("old", 5, seed=case, **still), a_side("new", 5, seed=case, **still))[0].verdict
        in ("slower", "faster")
        for case in range(30)
    )
    assert is_at_most(alarms / 30, 0.05, 30)


def test_throughput_and_failures_are_judged_too():
    old = a_side("old", 4, endpoints=2, failure_ratio=0.002)
    made = compared(a_side("new", 4, endpoints=2, failure_ratio=0.03, rps=40), old).rates()
    assert set(made.columns) <= set(COLUMNS)
    by = made.set_index(["name", "figure"])
    failed, rate = by.loc[("Aggregated", "failure_ratio")], by.loc[("Aggregated", "requests_per_s")]
    assert failed["verdict"] == "higher"
    assert failed["effect"] == pytest.approx(2.8, abs=0.5)
    assert failed["low"] < 2.8 < failed["high"]
    assert failed["unit"] == "points"
    assert rate["verdict"] == "lower"
    assert rate["effect"] == pytest.approx(-20, abs=2)
    same = compared(a_side("new", 4, failure_ratio=0.0), a_side("old", 4, failure_ratio=0.0)).rates()
    assert set(same["verdict"]) == {"no difference found"}
    alone = compared(a_side("new", 1), a_side("old", 1)).rates()
    assert set(alone["verdict"]) == {"inconclusive"}


def test_the_table_has_the_figures_of_the_summary_and_their_changes():
    made = [synthetic.run(seed=name, seconds=40, endpoints=3, slowdown=slow) for name, slow in (("a", 1.3), ("b", 1.0))]
    sides = [
        Side(name, (Sample(each.run, condense(each.run, each.documents), Validity("VALID")),))
        for name, each in zip(("new", "old"), made, strict=True)
    ]
    table = compared(*sides).table()
    assert set(table.columns) - {f"p{q}_percent" for q in (50, 95, 99)} <= set(COLUMNS)
    for each, side in zip(made, ("new", "old"), strict=True):
        own = table[table["side"] == side].set_index("name")
        truth = summary(each.run, each.documents).set_index("name")
        for column in ("requests", "failure_ratio", "requests_per_s", "mean_ms", "p50_ms", "p95_ms", "p99_ms"):
            assert own[column].to_dict() == pytest.approx(truth[column].to_dict()), column
    new, old = (table[(table["side"] == side) & (table["name"] == "Aggregated")].iloc[0] for side in ("new", "old"))
    truth = [synthetic.nearest_rank(each.raw.ms, 95) for each in made]
    assert new["p95_percent"] == pytest.approx(100 * (truth[0] / truth[1] - 1), abs=0.5)
    assert new["mean_percent"] == pytest.approx(100 * (made[0].raw.ms.mean() / made[1].raw.ms.mean() - 1))
    assert math.isnan(old["p95_percent"])
    assert table["side"].iloc[0] == "old"


def test_runs_drawn_without_intervals_are_as_those_drawn_with_them():
    how = {"seconds": 120, "endpoints": 2, "rps": 80.0, "interval_s": 5.0, "run_sd": 0.05, "interval_sd": 0.1}
    slow = [synthetic.run(seed=f"slow {case}", failure_ratio=0.02, **how) for case in range(25)]
    whole = [np.log(summary(each.run, each.documents)[["p50_ms", "p95_ms"]].to_numpy()) for each in slow]
    quick = [synthetic.condensed(seed=f"quick {case}", failure_ratio=0.02, **how) for case in range(100)]
    short = [np.log(summary(each.run, [each.document])[["p50_ms", "p95_ms"]].to_numpy()) for each in quick]
    for place in np.ndindex(3, 2):
        a, b = np.array([each[place] for each in whole]), np.array([each[place] for each in short])
        assert stats.ttest_ind(a, b, equal_var=False).pvalue > 0.001, place
        assert stats.levene(a, b).pvalue > 0.001, place
    documents = [each.document for each in quick]
    failures, requests = (packed.column(documents, field).reshape(100, 2).sum(axis=1) for field in ("failures", "n"))
    assert np.mean(failures / requests) == pytest.approx(0.02, rel=0.03)


def test_a_verdict_is_frozen():
    found = asked(a_side("old", 3), a_side("new", 3))[0]
    assert isinstance(replace(found, verdict="faster"), Verdict)
    with pytest.raises(AttributeError):
        found.verdict = "faster"
