"""Windows that are found: planted ramps, drains and warm-ups; and what must not be taken for one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from loadbench import testing
from loadbench.analysis.windows import cut, effective, find, join, named, span, trace
from loadbench.errors import InvalidInput
from loadbench.model import Window

SEEDS = range(20)
NOISY = {"users": 100, "rps": 100.0, "endpoints": 2, "interval_sd": 0.05, "run_sd": 0.02}


def found(made: testing.Synthetic, **changes) -> dict[str, tuple[float, float | None]]:
    documents = [document | changes for document in made.documents]
    return {window.name: (window.start_s, window.end_s) for window in find(made.run, documents)}


@cache
def planted(seed: int) -> tuple[int, int, testing.Synthetic]:
    """Draw a run of 80 s with a ramp and a drain of lengths of its own, and a stall in the middle."""
    rng = np.random.default_rng(seed)
    ramp_s, drain_s = int(rng.integers(5, 30)), int(rng.integers(4, 15))
    made = testing.run(
        seed=f"planted {seed}", seconds=80, ramp_s=ramp_s, drain_s=drain_s, stalled=(50, 51, 52), **NOISY
    )
    return ramp_s, drain_s, made


@cache
def constant(seed: int) -> testing.Synthetic:
    return testing.run(seed=f"constant {seed}", seconds=80, ramp_s=1, stalled=(40, 41, 42), **NOISY)


@pytest.mark.parametrize("told", [{}, {"users": 0}], ids=["by users", "by requests"])
def test_planted_ramps_and_drains_are_found_within_two_intervals(told):
    off = []
    for seed in SEEDS:
        ramp_s, drain_s, made = planted(seed)
        windows = found(made, **told)
        steady = windows["steady"]
        assert windows == {"ramp": (0.0, steady[0]), "steady": steady, "drain": (steady[1], None)}, seed
        off += [steady[0] - ramp_s, steady[1] - (80 - drain_s + 1)]
    assert max(map(abs, off)) <= 2, off


@pytest.mark.parametrize("told", [{}, {"users": 0}], ids=["by users", "by requests"])
def test_constant_load_is_steady_from_end_to_end_though_it_stalls(told):
    wrong = [seed for seed in SEEDS if found(constant(seed), **told) != {"steady": (0.0, None)}]
    assert len(wrong) <= 1, wrong  # 6 of 500 runs with noise like this were told to warm up for some seconds


def test_a_warm_up_after_the_ramp_belongs_to_it():
    ends = []
    for seed in SEEDS:
        made = testing.run(seed=f"cold {seed}", seconds=60, ramp_s=5, stalled=range(5, 15), stall_ms=60, **NOISY)
        ends.append(found(made)["ramp"][1])
    assert np.median(np.abs(np.array(ends) - 15)) <= 2, ends
    assert min(ends) > 5, ends


def test_a_change_that_stays_is_no_warm_up():
    made = testing.run(seed="change", seconds=90, ramp_s=5, stalled=range(5, 60), stall_ms=60, **NOISY)
    assert found(made)["steady"] == (5.0, None)


def test_the_fragment_at_the_end_is_of_the_drain():
    made = testing.run(seed="fragment", seconds=40, ramp_s=5, **NOISY)
    made.documents[-1] |= {"durationMs": 120.0, "users": 0}
    assert found(made) == {"ramp": (0.0, 5.0), "steady": (5.0, 39.0), "drain": (39.0, None)}


def test_a_run_that_ended_in_its_ramp_has_what_there_is():
    made = testing.run(seed="short", seconds=12, users=100, ramp_s=60)
    assert found(made) == {"steady": (0.0, None)}


def test_short_runs_and_single_intervals_have_a_steady_window():
    for seconds in (1, 2, 3, 10):
        made = testing.run(seed=f"{seconds} s", seconds=seconds, users=10, ramp_s=1)
        assert found(made) == {"steady": (0.0, None)}
        assert "steady" in found(made, users=0)
    assert find(made.run, []) == (Window(name="steady", found=True),)
    ten = testing.run(seed="ten seconds", seconds=10, users=10, ramp_s=2)
    assert found(ten)["steady"] == (2.0, None)


def test_of_steps_the_last_and_highest_is_steady_and_a_dip_does_not_end_it():
    made = testing.run(seed="steps", seconds=90, users=40, ramp_s=1, rps=20)
    for number, document in enumerate(made.documents):
        document["users"] = 10 * (1 + number // 30) if number != 75 else 20
    assert found(made) == {"ramp": (0.0, 61.0), "steady": (61.0, None)}


def test_sources_that_report_together_have_one_ramp():
    made = testing.run(seed="two", seconds=60, ramp_s=10, sources=2, **NOISY)
    assert found(made)["steady"] == (10.0, None)


def test_a_run_read_in_parts_has_the_windows_of_the_whole():
    _, _, made = planted(3)
    parts = [trace(made.run, made.documents[start : start + 30]) for start in range(0, 80, 30)]
    assert cut(join(parts)) == find(made.run, made.documents)


def test_windows_that_people_set_win_by_name():
    made = testing.run(seed="set", seconds=60, ramp_s=10, **NOISY)
    mine = (Window(name="steady", start_s=20, end_s=50), Window(name="deploy", start_s=30, end_s=35))
    windows = effective(made.run.model_copy(update={"windows": mine}), find(made.run, made.documents))
    assert [(w.name, w.start_s, w.end_s, w.found) for w in windows] == [
        ("ramp", 0.0, 10.0, True),
        ("steady", 20.0, 50.0, False),
        ("deploy", 30.0, 35.0, False),
    ]
    assert named(windows, "deploy") == mine[1]
    assert named(windows, "whole") == Window(name="whole", found=True)
    with pytest.raises(InvalidInput, match="window must be one of whole, ramp, steady, deploy; not 'drain'"):
        named(windows, "drain")


@pytest.mark.parametrize("wrong", [(5, 5), (9, 3), 7, ("a", "b"), (1, 2, 3)])
def test_a_window_in_seconds_must_be_one(wrong):
    with pytest.raises(InvalidInput, match="window"):
        span(wrong)
    assert span((3, None)).start_s == 3.0
