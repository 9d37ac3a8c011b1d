"""The band of a baseline, and the estimate of a run, against figures that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from live_documents import a_run

from loadbench.analysis.band import band
from loadbench.estimate import estimate
from loadbench.model import LastMetrics, RunStatus


def timeline(*rows: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["elapsed_s", "requests_per_s", "p95_ms"])


def test_the_band_is_the_range_of_all_runs_within_each_stretch():
    one = timeline((1, 10, 100), (5, 30, 120), (6, 20, 90))
    other = timeline((2, 5, np.nan), (9, 50, 300))
    found = band([one, other, timeline()])
    assert found.runs == 2
    assert found.elapsed_s.tolist() == [2.5, 7.5]
    assert found.low.tolist() == [[5, 100], [20, 90]]
    assert found.high.tolist() == [[30, 120], [50, 300]]
    rows = np.frombuffer(found.binary(), "<f4").reshape(-1, 5)
    assert rows[0].tolist() == [2.5, 5, 30, 100, 120]


def test_the_band_of_a_long_run_has_few_stretches_and_loses_no_extreme():
    seconds = np.arange(1, 3601)
    p95 = np.random.default_rng(1).lognormal(4, 0.3, 3600)
    found = band([pd.DataFrame({"elapsed_s": seconds, "requests_per_s": 1.0, "p95_ms": p95})])
    assert len(found.elapsed_s) == 120
    assert (found.low[:, 1].min(), found.high[:, 1].max()) == (p95.min(), p95.max())


def test_without_intervals_there_is_no_band():
    assert band([]) is None
    assert band([timeline()]) is None


def last(requests: int, *, users: int = 10, spawn_rate: float = 10.0, seconds: int = 60):
    metrics = LastMetrics(
        timestamp=a_run().started_at, users=users, total_rps=1.0, errors_per_sec=0.0, cum_requests=requests,
        cum_failures=0,
    )  # fmt: skip
    finished_at = a_run().started_at + 1000 * seconds
    return a_run(
        status=RunStatus.FINISHED, target_users=users, spawn_rate=spawn_rate, finished_at=finished_at,
        last_metrics=metrics,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("users", "spawn_rate", "seconds", "expected"),
    [
        pytest.param(10, 10.0, 60, 595, id="the same again"),
        pytest.param(20, 20.0, 60, 1190, id="twice the users"),
        pytest.param(10, 10.0, 120, 1195, id="twice as long, the ramp only once"),
        pytest.param(100, 1.0, 60, 1800, id="over before all are there"),
    ],
)
def test_requests_follow_from_the_last_run(users: int, spawn_rate: float, seconds: int, expected: int):
    # 10 users, all there after 1 s: 10 x 59.5 user-seconds; 595 requests are one per user and second.
    found = estimate(users=users, spawn_rate=spawn_rate, duration_sec=seconds, last=last(595))
    assert found.requests == expected
    assert found.based_on == a_run().id


def test_an_estimate_is_one_true_line():
    first = estimate(users=1, spawn_rate=1, duration_sec=60)
    assert repr(first) == (
        "1 user, all there after 1 s; 60 s in all; 1 Locust process; "
        "no finished run yet to tell the number of requests from"
    )
    found = estimate(users=100, spawn_rate=1, duration_sec=60, workers=2, last=last(595))
    assert (found.reached_users, found.ramp_s, found.processes) == (60, 60, 3)
    assert "only 60 of them there at the end" in repr(found)
    assert "about 1,800 requests" in repr(found)
