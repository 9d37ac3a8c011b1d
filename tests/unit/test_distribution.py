"""Histogram algebra against numpy on the raw requests that made-up runs consist of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loadbench import testing
from loadbench.agent.histogram import bucket_of, value_of
from loadbench.analysis import distribution
from loadbench.analysis.columns import COLUMNS
from loadbench.analysis.condense import condense
from loadbench.analysis.selection import places
from loadbench.errors import InvalidInput
from loadbench.model.interval import ROW_COLUMNS, column

NAMES = ("/api/products", "/api/cart", ("POST", "/api/cart"), "/item?id=[id]")
MADE = testing.run(
    seed="algebra", seconds=40, rps=300, endpoints=NAMES, failure_ratio=0.1, untimed_ratio=0.02, stalled=(7, 8)
)
RAW = MADE.raw.dropna(subset="ms")
GROUPS = [None, (0,), (1, 2)]
OUTCOMES = ["all", "ok", "failed"]


def chosen(endpoints, outcome) -> np.ndarray:
    rows = RAW if endpoints is None else RAW[RAW.endpoint.isin(endpoints)]
    return rows[{"all": rows.failed | True, "ok": ~rows.failed, "failed": rows.failed}[outcome]].ms.to_numpy()


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("endpoints", GROUPS)
def test_the_exact_quantile_lies_between_the_bounds(endpoints, outcome):
    exact = chosen(endpoints, outcome)
    q = (0, 1, 25, 50, 90, 95, 99, 99.9, 100)
    found = distribution.quantiles(MADE.run, MADE.documents, q, endpoints=endpoints, outcome=outcome)
    truth = np.array([testing.nearest_rank(exact, each) for each in q])
    assert (found["low_ms"] <= truth * (1 + 1e-9)).all()
    assert (truth <= found["high_ms"] * (1 + 1e-9)).all()
    assert np.abs(found["ms"] / truth - 1).max() <= 0.005 + 1e-9
    assert (found["high_ms"] / found["low_ms"]).max() < 1.0101
    assert set(found["requests"]) == {len(exact)}
    assert set(found.columns) <= set(COLUMNS)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_shares_and_the_cdf_are_those_of_the_requests(outcome):
    exact = chosen(None, outcome)
    merged = distribution.histogram(MADE.run, MADE.documents, outcome=outcome)
    for ms in (0.5, 40, 120, 3050, 1e5):
        share = distribution.share_above(merged, ms)
        assert (exact > ms * 1.0051).mean() <= share <= (exact > ms / 1.0051).mean()
    curve = distribution.cdf(merged, 50)
    assert 20 <= len(curve) <= 50
    assert curve["share"].is_monotonic_increasing
    truth = [(exact <= ms * (1 + 1e-9)).mean() for ms in curve["ms"]]
    assert curve["share"].to_numpy() == pytest.approx(truth, abs=1e-12)
    assert curve["share"].iloc[-1] == 1.0
    given = distribution.cdf(merged, [500, 50])
    assert given["ms"].tolist() == [50.0, 500.0]
    assert given["share"].tolist() == [1 - distribution.share_above(merged, ms) for ms in (50, 500)]


def test_apdex_counts_failures_as_frustrated():
    ok, failed = chosen(None, "ok"), chosen(None, "failed")
    merged = [distribution.histogram(MADE.run, MADE.documents, outcome=outcome) for outcome in ("ok", "failed")]

    def exact(threshold: float) -> float:
        satisfied, tolerated = (ok <= threshold).sum(), ((ok > threshold) & (ok <= 4 * threshold)).sum()
        return (satisfied + tolerated / 2) / (len(ok) + len(failed))

    for threshold in (30, 80, 200):
        assert exact(threshold / 1.0051) <= distribution.apdex(*merged, threshold) <= exact(threshold * 1.0051)
    assert distribution.apdex({bucket_of(100): 3, bucket_of(300): 1}, {bucket_of(5): 1}, 150) == pytest.approx(3.5 / 5)
    assert math.isnan(distribution.apdex({}, {}, 100))


def hdr_corrected(times: np.ndarray, interval_ms: float) -> np.ndarray:
    """What HdrHistogram does, value by value."""
    added = [times]
    for time_ms in times[times >= 2 * interval_ms]:
        added.append(np.arange(time_ms - interval_ms, interval_ms * (1 - 1e-12), -interval_ms))
    return np.concatenate(added)


@pytest.mark.parametrize("interval_ms", [100.0, 250.0, 1000.0])
def test_the_correction_is_that_of_hdrhistogram(interval_ms):
    times = RAW.ms.to_numpy()
    exact = hdr_corrected(times, interval_ms)
    merged = distribution.histogram(MADE.run, MADE.documents)
    frame = distribution.estimate(merged, interval_ms, (50, 90, 99, 99.9))
    truth = [testing.nearest_rank(exact, q) for q in (50, 90, 99, 99.9)]
    assert frame["estimate_ms"].to_numpy() == pytest.approx(truth, rel=0.02)
    assert frame["estimate_requests"].iloc[0] == pytest.approx(len(exact) - len(times), rel=0.01)
    assert frame["ms"].to_numpy() == pytest.approx(
        [testing.nearest_rank(times, q) for q in (50, 90, 99, 99.9)], rel=0.0051
    )
    assert (frame["estimate_ms"] >= frame["ms"])[:2].all()
    assert set(frame.columns) <= set(COLUMNS)


def test_the_correction_of_one_request_by_hand():
    seen = value_of(bucket_of(1000))
    filled = distribution.corrected({bucket_of(1000): 2}, 300.0)
    assert filled == {bucket_of(seen): 2, bucket_of(seen - 300): 2, bucket_of(seen - 600): 2}
    assert distribution.corrected({bucket_of(500): 4}, 300.0) == {bucket_of(500): 4}
    assert distribution.corrected({}, 300.0) == {}
    with pytest.raises(InvalidInput, match="interval_ms must be the time between two requests"):
        distribution.corrected({}, 0)


def test_without_requests_nothing_is_claimed():
    nothing = distribution.quantiles(MADE.run, [], (50, 99))
    assert nothing["ms"].isna().all()
    assert nothing["requests"].tolist() == [0, 0]
    assert math.isnan(distribution.share_above({}, 10))
    assert distribution.cdf({}).empty
    assert distribution.estimate({}, 10, 50)["ms"].isna().all()
    for wrong in (-1, math.inf, True, "3"):
        with pytest.raises(InvalidInput, match="a threshold is a number of milliseconds"):
            distribution.share_above({}, wrong)
    with pytest.raises(InvalidInput, match="points must be at least 2"):
        distribution.cdf({5: 1}, 1)


def test_condensing_in_parts_is_condensing_the_whole():
    whole = condense(MADE.run, MADE.documents)
    parts = [condense(MADE.run, MADE.documents[start : start + 7]) for start in range(0, 40, 7)]
    again = condense(MADE.run, parts)
    for field in sorted(whole):
        if field in ROW_COLUMNS:
            assert column(again, field) == pytest.approx(column(whole, field)), field
        else:
            exact = field in ("_id", "timestamp", "source", "histograms")
            assert again[field] == (whole[field] if exact else pytest.approx(whole[field])), field
    assert (whole["intervals"], whole["slots"], whole["requests"]) == (40, 40, len(MADE.raw))
    assert whole["users"] == pytest.approx(np.mean([document["users"] for document in MADE.documents]))
    two = testing.run(seed="two sources", seconds=20, sources=2, users=30)
    both = condense(two.run, two.documents)
    assert (both["intervals"], both["slots"], both["usersMax"]) == (40, 20, 60)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        ([], None),
        ("Aggregated", None),
        ("GET /api/cart", (1,)),
        ("/api/cart", (1, 2)),
        (["POST /api/cart", "GET /api/products", "POST /api/cart"], (2, 0)),
        ("GET /api/*", (0, 1)),
        ("*cart", (1, 2)),
        ("/item?id=[id]", (3,)),
        ("*[id]", (3,)),
    ],
)
def test_endpoint_groups(asked, expected):
    assert places(MADE.run, asked) == expected


def test_an_endpoint_that_is_not_there_is_refused_with_those_that_are():
    for wrong in ("GET /api", "GET /nothing/*", ["/api/cart", "PUT /api/cart"]):
        with pytest.raises(
            InvalidInput, match=r"no endpoint .* in run-.*; there are: GET /api/products, GET /api/cart"
        ):
            places(MADE.run, wrong)
