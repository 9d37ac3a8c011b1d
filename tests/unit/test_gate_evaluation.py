"""Gates against the truth: every request of a made-up run, with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from loadbench import testing
from loadbench.analysis.columns import COLUMNS
from loadbench.analysis.condense import condense
from loadbench.analysis.gates import evaluate, parse, table
from loadbench.analysis.intervals import within
from loadbench.model import Window

MADE = testing.run(
    seed="gates", seconds=90, rps=120, endpoints=["/a", "/b", ("POST", "/cart")], failure_ratio=0.02,
    stalled=range(30, 43), stall_ms=900, sources=2,
)  # fmt: skip
RAW = MADE.raw
STEADY = Window(name="steady", start_s=10, end_s=80)
IN_STEADY = RAW[(RAW.seq >= 10) & (RAW.seq < 80)]
NAMES = {"GET /a": [0], "GET *": [0, 1], "/cart": [2]}


def near(value):
    return pytest.approx(value, rel=0.0051)


def judged(text, **options):
    return evaluate(text, MADE.run, MADE.documents, **{"window": STEADY} | options)


def apdex(rows, ms):
    good = rows[~rows.failed].ms
    return ((good <= ms).sum() + ((good > ms) & (good <= 4 * ms)).sum() / 2) / len(rows)


TRUTH = {
    "p50": lambda rows: near(testing.nearest_rank(rows.ms, 50)),
    "p99": lambda rows: near(testing.nearest_rank(rows.ms, 99)),
    "mean": lambda rows: pytest.approx(rows.ms.mean()),
    "min": lambda rows: pytest.approx(rows.ms.min()),
    "max": lambda rows: pytest.approx(rows.ms.max()),
    "requests": lambda rows: len(rows),
    "requests/s": lambda rows: pytest.approx(len(rows) / 70),
    "errors": lambda rows: rows.failed.sum(),
    "errors/s": lambda rows: pytest.approx(rows.failed.sum() / 70),
    "error rate": lambda rows: pytest.approx(rows.failed.mean()),
    "apdex(100ms)": lambda rows: pytest.approx(apdex(rows, 100), abs=0.01),
}
LIMIT = {"ms": "1ms", "ratio": "1%", "/s": "1", "count": "1", "": "0.5"}


@pytest.mark.parametrize("endpoint", [None, *NAMES])
@pytest.mark.parametrize("figure", TRUTH)
def test_the_figure_of_a_window_is_that_of_its_requests(figure, endpoint):
    rows = IN_STEADY if endpoint is None else IN_STEADY[IN_STEADY.endpoint.isin(NAMES[endpoint])]
    of = f'of "{endpoint}"' if endpoint else ""
    unit = parse("p95 < 1s" if figure[0] == "p" else f"{figure} > {LIMIT[_unit(figure)]}").unit
    found = judged(f"{figure} {of} > {LIMIT[unit]}")
    assert found.value == TRUTH[figure](rows)
    part = [condense(MADE.run, within(MADE.run, MADE.documents, start_s=10, end_s=80))]
    sealed = evaluate(found.gate, MADE.run, part, window="steady")
    assert (sealed.value, sealed.passed, sealed.window) == (pytest.approx(found.value), found.passed, "steady")


def _unit(figure):
    times = ("p50", "p99", "mean", "min", "max")
    return "ms" if figure in times else {"requests": "count", "errors": "count", "error rate": "ratio"}.get(
        figure, "" if figure.startswith("apdex") else "/s"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("p95 > 100ms", False), ("p95 < 100ms", False), ("p95 < 5s", True), ("p95 > 5s", True),
        ("requests/s > 1", True), ("requests/s < 1", True), ("requests/s >= 1000", False), ("requests/s < 1000", False),
        ("errors = 0", False), ("error rate > 50%", True), ("apdex(1ms) >= 0.9", False), ("apdex(1ms) < 0.9", False),
    ],
)  # fmt: skip
def test_what_is_bad_breaks_and_what_is_good_must_hold(text, passed):
    assert judged(text).passed is passed


def sliding(percentile, seconds):
    ends = range(10 + seconds - 1, 80)
    return np.array(
        [testing.nearest_rank(RAW.ms[(RAW.seq > end - seconds) & (RAW.seq <= end)], percentile) for end in ends]
    )


def by_second(percentile):
    return IN_STEADY.groupby("seq").ms.agg(lambda ms: testing.nearest_rank(ms, percentile)).to_numpy()


def test_over_is_the_percentile_of_each_merged_stretch():
    truth = sliding(95, 10)
    found = judged("p95 over 10s <= 800ms")
    assert found.value == near(truth.max())
    assert (found.passed, found.at_s) == (False, 20 + int(np.argmax(truth > 800)))
    assert judged("p95 over 10s <= 3s").passed is True


def test_for_needs_every_second_of_a_stretch():
    bad = by_second(95) > 800
    assert bad.sum() == 13
    found = judged("p95 > 800ms for 13s")
    assert (found.passed, found.at_s) == (False, 43)
    assert found.value == near(by_second(95)[20:33].min())
    assert found.because == "over 800 ms from 30 s to 43 s"
    held = judged("p95 > 800ms for 14s")
    assert held.passed is True
    assert held.value == near(max(by_second(95)[start : start + 14].min() for start in range(57)))


def test_a_share_of_the_seconds_is_counted_in_seconds():
    share = float((by_second(95) < 800).mean())
    found = judged("81% of seconds p95 < 800ms")
    assert (found.value, found.limit, found.unit, found.passed) == (pytest.approx(share), 0.81, "ratio", True)
    assert judged("82% of seconds p95 < 800ms").passed is False
    assert judged("18% of seconds p95 > 800ms").passed is False
    assert judged("19% of seconds p95 > 800ms").passed is True


def test_a_gap_ends_a_stretch():
    made = testing.run(seed="gap", seconds=40, rps=100, stalled=range(10, 30), stall_ms=900, lost=[19])
    broken = evaluate("p95 > 800ms for 10s", made.run, made.documents)
    assert (broken.passed, broken.at_s) == (False, 30)
    assert evaluate("p95 > 800ms for 11s", made.run, made.documents).passed is True


def test_a_baseline_is_its_middle_run():
    pool = [testing.run(seed=f"base {slow}", seconds=60, rps=80, slowdown=slow) for slow in (1.0, 1.3, 1.1, 9.0)]
    truth = sorted(testing.nearest_rank(made.raw.ms, 99) for made in pool)
    baseline = [(made.run, made.documents) for made in pool]
    found = judged("p99 <= 1.2 x baseline", baseline=baseline)
    assert found.limit == near(1.2 * truth[1])
    assert "middle of 4 runs" in found.because
    assert judged("requests/s >= 0.1 x baseline", baseline=baseline).passed is True
    assert judged("p95 over 10s > 3 x baseline for 5s", baseline=baseline).passed is False


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('p95 of "GET /nowhere" < 1s', "no endpoint 'GET /nowhere'"),
        ("p99 <= 1.2 x baseline", "no baseline"),
        ("p99.99 < 1s", "p99.99 needs 10000"),
        ("p99.9 over 5s < 1s", "p99.9 needs 1000 in a stretch"),
        ("p95 > 1s for 5min", "it needs 300 s; the steady window has 70 s"),
        ("p95 over 5min > 1s", "it needs 300 s; the steady window has 70 s"),
    ],
)
def test_what_cannot_be_judged_is_not_passed(text, why):
    found = judged(text)
    assert found.passed is None
    assert why in found.because


def test_a_window_without_requests_or_intervals_is_not_judged():
    idle = testing.run(seed="idle", seconds=10, rps=0.0)
    assert "no requests" in evaluate("errors = 0", idle.run, idle.documents).because
    assert evaluate("requests/s >= 1", idle.run, idle.documents).passed is False
    assert "no intervals" in judged("p95 < 1s", window=Window(name="late", start_s=500)).because
    untimed = testing.run(seed="untimed", seconds=10, untimed_ratio=1.0)
    for text in ("p95 < 1s", "mean < 1s", "50% of seconds p95 < 1s", "p95 over 5s < 1s", "max > 1s for 3s"):
        assert evaluate(text, untimed.run, untimed.documents).passed is None, text


def test_results_as_a_frame():
    found = table([judged("p95 < 1ms"), judged("p99 <= baseline")])
    assert set(found.columns) <= set(COLUMNS)
    assert found["passed"].isna().tolist() == [False, True]
    assert table([]).dtypes.to_dict() == found.dtypes.to_dict()
    assert repr(judged("errors = 0")).startswith("<GateResult broken: errors = 0; ")


def test_a_run_of_holes_has_no_stretch():
    made = testing.run(seed="holes", seconds=40, rps=100, lost=range(0, 40, 4))
    for gate in ("p95 > 1ms for 10s", "p95 over 10s > 1ms"):
        assert evaluate(gate, made.run, made.documents).because == "no 10 s without a gap in the whole window", gate
