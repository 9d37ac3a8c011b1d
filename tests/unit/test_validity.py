"""The stamp of a run: each reason is given where it holds, and not where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from loadbench import testing
from loadbench.agent import wire
from loadbench.analysis.condense import condense
from loadbench.analysis.validity import Validity, judge, pacing_ms
from loadbench.analysis.windows import find, named
from loadbench.errors import InvalidInput
from loadbench.model import Endpoint, Gap, LoadTestRun, RunStatus, SourceState

MADE = testing.run(seed="valid", seconds=40, users=20, ramp_s=5, rps=40, origin="launched")
STEADY = named(find(MADE.run, MADE.documents), "steady")
DOCUMENTS = [document for document in MADE.documents if document["seq"] >= 5]


def stamp(run: dict[str, Any] | None = None, *, window: Any = STEADY, **how: Any) -> Validity:
    """Judge a good run with some fields of its record changed, and some of the condensed document in `part`."""
    part = condense(MADE.run, DOCUMENTS) | how.pop("part", {})
    return judge(MADE.run.model_copy(update=run or {}), part, window=window, **how)


def test_a_good_run_is_valid_and_says_no_more():
    assert stamp() == judge(MADE.run, DOCUMENTS, window=STEADY) == Validity("VALID")
    assert repr(stamp()) == str(stamp()) == "VALID"
    assert judge(MADE.run, MADE.documents) == Validity("VALID")


STOPPED = {"status": RunStatus.STOPPED, "stop_reason": "user"}
ONE_GAP = (Gap(source="master-0", from_seq=3, to_seq=5, requests=1200),)
BAD = [
    ({"status": RunStatus.FAILED, "error": "boom\nmore"}, {}, "INVALID: the run failed: boom"),
    ({"status": RunStatus.RUNNING}, {}, "SUSPECT: the run goes on"),
    (STOPPED | {"duration_sec": 60}, {}, "SUSPECT: stopped by user after 40 s of 60 s"),
    ({"origin": "synthetic"}, {}, "SUSPECT: synthetic: made up, not measured"),
    (
        {"endpoints": (*MADE.run.endpoints, Endpoint(method="", name=wire.OTHER))},
        {},
        'SUSPECT: endpoints beyond 2,000 are one row, "(other)": name them by route',
    ),
    ({"completeness": "gaps", "gaps": ONE_GAP}, {}, "SUSPECT: 3 intervals missing in 1 gap, 1,200 requests"),
    ({"completeness": "gaps"}, {}, "SUSPECT: intervals are missing"),
    ({"completeness": "unknown"}, {}, "SUSPECT: not known whether all intervals arrived"),
    ({"workers_lost": 2}, {}, "SUSPECT: 2 workers lost"),
    ({"clock_skew_ms": -2500}, {}, "SUSPECT: clocks differ by 2.5 s"),
    (
        {"sources": (SourceState(source="m", last_seq=9, requests=1, failures=0, dropped=1),)},
        {},
        "SUSPECT: 1 interval dropped by a full spool",
    ),
    ({"target_users": 30}, {}, "SUSPECT: 20 of 30 users reached"),
    ({"target_users": 50}, {}, "INVALID: 20 of 50 users reached"),
    ({}, {"usersMin": 17}, "SUSPECT: no steady load: between 17 and 20 users"),
    ({"metadata": {"offered_per_s": 50}}, {"requests": 1400}, "SUSPECT: 40 of 50 requests/s achieved"),
    ({"metadata": {"offered_per_s": 100}}, {"requests": 1400}, "INVALID: 40 of 100 requests/s achieved"),
    ({}, {"cpuBusyMs": 7000.0}, "SUSPECT: load generator above 90 % of a core for 20 % of the time"),
    ({}, {"cpuBusyMs": 21000.0}, "INVALID: load generator above 90 % of a core for 60 % of the time"),
    ({}, {"durationMs": 32000.0}, "SUSPECT: 3 s of 35 s are missing"),
    ({}, {"durationMs": 20000.0}, "INVALID: 15 s of 35 s are missing"),
    ({}, {"n": [0], "untimed": [0]}, "INVALID: no request was measured"),
    ({}, {"n": [9], "untimed": [9], "sumMs": [90.0]}, "SUSPECT: no percentiles: imported without distributions"),
    ({}, {"n": [9], "untimed": [9], "sumMs": [0.0]}, "SUSPECT: no percentiles: no request had a response time"),
    ({}, {"n": [250], "untimed": [51]}, "SUSPECT: p95 needs 200 requests, there are 199"),
]


@pytest.mark.parametrize(("run", "part", "expected"), BAD, ids=[each[2] for each in BAD])
def test_what_is_wrong_is_said(run, part, expected):
    assert str(stamp(run, part=part)) == expected


GOOD = [
    (STOPPED | {"duration_sec": 41}, {}),
    ({"origin": "external"}, {}),
    ({"origin": "imported", "completeness": "unknown"}, {}),
    ({"clock_skew_ms": 2000}, {}),
    ({"target_users": 21}, {}),
    ({}, {"usersMin": 18}),
    ({"metadata": {"offered_per_s": 42}}, {"requests": 1400}),
    ({}, {"cpuBusyMs": 1700.0}),
    ({}, {"durationMs": 34600.0}),
    ({}, {"n": [250], "untimed": [50]}),
]


@pytest.mark.parametrize(("run", "part"), GOOD, ids=str)
def test_what_is_nearly_wrong_is_not(run, part):
    assert stamp(run, part=part) == Validity("VALID")


@pytest.mark.parametrize(("percentile", "enough"), [(50, 20), (90, 100), (95, 200), (99, 1000), (99.9, 10_000)])
def test_a_percentile_needs_ten_requests_beyond_it(percentile, enough):
    def level(n: int) -> str:
        return stamp(part={"n": [n], "untimed": [0]}, percentiles=[percentile]).level

    assert (level(enough), level(enough - 1)) == ("VALID", "SUSPECT")


def test_a_steady_window_must_be_long_enough_and_any_must_have_intervals():
    short = DOCUMENTS[:9]
    assert str(judge(MADE.run, short, window="steady")) == "SUSPECT: steady for 9 s only, less than 10 s"
    assert judge(MADE.run, short, window="deploy") == Validity("VALID")
    assert judge(MADE.run, DOCUMENTS[:10], window="steady") == Validity("VALID")
    assert str(judge(MADE.run, [], window="deploy")) == "INVALID: no interval lies in window deploy"
    assert str(judge(MADE.run, None)) == "INVALID: no interval was stored"


def test_lost_intervals_are_seen_in_time_too():
    made = testing.run(seed="lost", seconds=40, users=20, ramp_s=1, lost=(20, 21), origin="launched")
    run = made.run.model_copy(update={"completeness": "complete"})
    assert str(judge(run, made.documents, window="steady")) == "SUSPECT: 2 s of 40 s are missing"


def test_the_gravest_reason_comes_first_and_none_is_lost():
    run = {"workers_lost": 1, "target_users": 50, "clock_skew_ms": 9000}
    assert str(stamp(run)) == "INVALID: 20 of 50 users reached; 1 worker lost; clocks differ by 9.0 s"


def test_a_run_that_stopped_in_its_ramp_says_that_its_load_did_not_stand():
    made = testing.run(seed="ramp only", seconds=30, users=100, ramp_s=60, origin="launched")
    reasons = judge(made.run, made.documents, window=find(made.run, made.documents)[0]).reasons
    assert "50 of 100 users reached" in reasons
    assert "no steady load: between 2 and 50 users" in reasons


def test_a_generator_that_was_busy_in_a_source_is_found_in_the_intervals():
    made = testing.run(seed="busy", seconds=40, users=20, ramp_s=1, origin="launched")
    for document in made.documents[:10]:
        document["cpuPercent"] = 97.0
    assert str(judge(made.run, made.documents)) == "SUSPECT: load generator above 90 % of a core for 25 % of the time"


def test_the_pace_is_read_from_the_metadata():
    def paced(**metadata: Any) -> LoadTestRun:
        return MADE.run.model_copy(update={"metadata": metadata})

    assert pacing_ms(paced(pacing_ms=2000)) == 2000.0
    for metadata in ({}, {"pacing_ms": 0}, {"pacing_ms": "2 s"}, {"pacing_ms": True}):
        with pytest.raises(InvalidInput, match="give interval_ms, or set pacing_ms in its metadata"):
            pacing_ms(paced(**metadata))
