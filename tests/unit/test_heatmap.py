"""Heatmap, its regions, levels of load, errors and percentiles over time: every count and percentile as in the raw
requests of made-up runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loadbench import testing as synthetic
from loadbench.agent.histogram import ALPHA
from loadbench.analysis.columns import COLUMNS, column
from loadbench.analysis.errors_over_time import errors_over_time
from loadbench.analysis.heatmap import MAX_COLUMNS, MAX_ROWS, heatmap, who
from loadbench.analysis.load_levels import load_levels
from loadbench.analysis.time_columns import percentiles_over_time
from loadbench.errors import InvalidInput
from loadbench.testing import nearest_rank


@pytest.fixture(scope="module")
def made() -> synthetic.Synthetic:
    return synthetic.run(
        seed="grid", seconds=90, rps=60, stalled=(40, 41), stall_ms=2000, failure_ratio=0.05, untimed_ratio=0.02
    )


def timed(made: synthetic.Synthetic) -> pd.DataFrame:
    return made.raw[made.raw.ms.notna()]


@pytest.mark.parametrize("columns", [300, 40, 7, 1])
@pytest.mark.parametrize("rows", [120, 20, 1])
def test_cells_add_up_to_the_requests_of_their_time_and_of_their_band(made, columns, rows):
    grid = heatmap(made.run, made.documents, columns=columns, rows=rows)
    raw = timed(made)
    assert grid.counts.shape == (len(grid.edges_ms) - 1, len(grid.edges_s) - 1)
    assert grid.counts.shape[1] <= columns
    assert grid.counts.shape[0] <= rows
    middle_s = raw.seq + 0.5
    by_time = np.histogram(middle_s, grid.edges_s)[0]
    assert grid.counts.sum(axis=0).tolist() == by_time.tolist()
    # Buckets hold (low, high]; numpy's [low, high) differs for no time that is not an edge itself.
    by_band = np.histogram(raw.ms, grid.edges_ms)[0]
    assert grid.counts.sum(axis=1).tolist() == by_band.tolist()
    cells = np.histogram2d(raw.ms, middle_s, [grid.edges_ms, grid.edges_s])[0]
    assert (grid.counts == cells).all()


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_outcomes_and_endpoints_are_kept_apart(made, outcome):
    raw = timed(made)
    chosen = raw[(raw.failed == (outcome == "failed")) & raw.endpoint.isin([1, 3])]
    grid = heatmap(made.run, made.documents, endpoints=[1, 3], outcome=outcome)
    assert grid.counts.sum() == len(chosen)


def test_columns_have_the_percentiles_of_their_requests(made):
    grid = heatmap(made.run, made.documents, columns=30, percentiles=(50, 95))
    raw = timed(made)
    of_column = np.searchsorted(grid.edges_s, raw.seq + 0.5) - 1
    for index, row in grid.percentiles.iterrows():
        ms = raw.ms[of_column == index]
        assert row.requests == len(ms)
        for q in (50, 95):
            assert row[f"p{q}_ms"] == pytest.approx(nearest_rank(ms, q), rel=ALPHA * 1.001)


def test_rates_are_by_measured_time_and_shares_by_column(made):
    grid = heatmap(made.run, made.documents, columns=45)
    assert np.nansum(grid.rate_per_s * grid.covered_s) == pytest.approx(len(timed(made)))
    assert np.nansum(grid.share, axis=0) == pytest.approx(np.ones(45))


def test_a_gap_is_a_column_of_its_own_that_was_not_measured():
    made = synthetic.run(seed="gap", seconds=60, lost=(20, 21, 22, 23, 50))
    grid = heatmap(made.run, made.documents)
    unmeasured = np.flatnonzero(grid.covered_s == 0)
    assert [tuple(grid.edges_s[[i, i + 1]]) for i in unmeasured] == [(20.0, 24.0), (50.0, 51.0)]
    assert np.isnan(grid.rate_per_s[:, unmeasured]).all()
    assert grid.counts.sum() == len(made.raw)


def test_two_sources_share_the_grid():
    made = synthetic.run(seed="two", seconds=30, sources=2)
    assert heatmap(made.run, made.documents).counts.sum() == len(made.raw)
    assert heatmap(made.run, made.documents).covered_s.sum() == 30


@pytest.mark.parametrize("seconds", [1, 299, 300, 301, 1700])
def test_grids_are_bounded_and_measured_throughout(seconds):
    made = synthetic.run(seed="long", seconds=seconds, rps=3, endpoints=1, sigma=3)
    grid = heatmap(made.run, made.documents)
    assert grid.counts.shape[0] <= MAX_ROWS
    assert grid.counts.shape[1] <= MAX_COLUMNS
    assert grid.counts.sum() == len(made.raw)
    assert grid.covered_s.min() > 0
    assert grid.edges_s[[0, -1]].tolist() == [0, seconds]


def test_nothing_gives_an_empty_grid(made):
    for documents in ([], [document for document in made.documents if document["seq"] > 1000]):
        grid = heatmap(made.run, documents)
        assert grid.counts.size == 0
        assert grid.percentiles.empty
    untimed = synthetic.run(seed="untimed", seconds=3, untimed_ratio=1)
    assert heatmap(untimed.run, untimed.documents).counts.size == 0


@pytest.mark.parametrize(("field", "value"), [("columns", 0), ("columns", 301), ("rows", 0), ("rows", 121)])
def test_the_size_has_limits(made, field, value):
    with pytest.raises(InvalidInput, match=f"{field} must be in 1 to") as refused:
        heatmap(made.run, made.documents, **{field: value})
    assert refused.value.field == field


def test_who_counts_the_requests_of_a_region_and_their_share_of_the_loss(made):
    found = who(made.run, made.documents, window_s=(39, 43), band_ms=(1000, None), threshold_ms=1000)
    raw = timed(made)
    region = raw[raw.seq.between(39, 42) & (raw.ms > 1000)]
    lost = (raw.ms > 1000).sum()
    assert found.requests.sum() == len(region)
    assert found.region_ratio.sum() == pytest.approx(1)
    assert found.loss_ratio.sum() == pytest.approx(len(region) / lost)
    assert found.requests.is_monotonic_decreasing
    for _, row in found.iterrows():
        index = [str(each) for each in made.run.endpoints].index(f"{row.method} {row['name']}")
        mine = region[(region.endpoint == index) & (region.failed == (row.outcome == "failed"))]
        assert row.requests == row.slow == len(mine)


def test_who_finds_the_planted_culprit():
    made = synthetic.run(seed="culprit", seconds=60, slowdown={2: 12.0}, weights=(1, 1, 1, 1))
    found = who(made.run, made.documents, band_ms=(600, None))
    assert found["name"].iloc[0] == made.run.endpoints[2].name
    assert found.loss_ratio.iloc[0] > 0.9
    assert found.loss_ratio.sum() == pytest.approx(1)


def test_who_of_nothing_and_of_a_band_upside_down(made):
    nothing = who(made.run, made.documents, band_ms=(1e8, None))
    assert nothing.empty
    assert list(nothing.columns) == list(who(made.run, made.documents).columns)
    with pytest.raises(InvalidInput, match="band must end above its start"):
        who(made.run, made.documents, band_ms=(100, 50))


def test_levels_merge_the_requests_of_intervals_with_as_many_users():
    made = synthetic.run(seed="levels", seconds=80, ramp_s=60, users=6, rps=80)
    found = load_levels(made.run, made.documents, against="users", percentiles=(50, 95))
    users = pd.Series({document["seq"]: document["users"] for document in made.documents})
    raw = made.raw.assign(users=made.raw.seq.map(users))
    assert found.users.tolist() == sorted(users.unique())
    assert found.intervals.tolist() == users.value_counts().sort_index().tolist()
    for _, row in found.iterrows():
        ms = raw.ms[raw.users == row.users]
        assert row.requests == len(ms)
        assert row.p95_ms == pytest.approx(nearest_rank(ms, 95), rel=ALPHA * 1.001)
        assert row.requests_per_s == pytest.approx(len(ms) / row.intervals)


def test_levels_of_a_rate_are_bounded_and_lose_no_request(made):
    for levels in (1, 5, 20):
        found = load_levels(made.run, made.documents, against="requests_per_s", levels=levels)
        assert 1 <= len(found) <= levels
        assert found.requests.sum() == len(timed(made))
        assert found.requests_per_s.is_monotonic_increasing
    only = load_levels(made.run, made.documents, endpoints=[1])
    assert only.requests.sum() == (timed(made).endpoint == 1).sum()
    assert only.requests_per_s.max() > 30, "the load is that of all endpoints"
    with pytest.raises(InvalidInput, match="against must be one of"):
        load_levels(made.run, made.documents, against="moon")


@pytest.mark.parametrize("columns", [1, 7, 120])
def test_errors_over_time_add_up_to_the_failures(made, columns):
    found = errors_over_time(made.run, made.documents, columns=columns)
    assert found.elapsed_s.nunique() <= columns
    assert found["count"].sum() == made.raw.failed.sum()
    width_s = 90 if columns == 1 else 13 if columns == 7 else 1
    assert (found.failures_per_s * width_s).to_numpy() == pytest.approx(found["count"].to_numpy())
    span = np.ceil((made.raw.seq + 0.5) / width_s) * width_s
    expected = made.raw[made.raw.failed].groupby(span).size()
    assert found.groupby("elapsed_s")["count"].sum().tolist() == expected.tolist()


@pytest.mark.parametrize("columns", [10, 300])
def test_percentiles_over_time_merge_the_requests_of_each_endpoint(made, columns):
    found = percentiles_over_time(made.run, made.documents, columns=columns, percentiles=(95,))
    width_s = 9 if columns == 10 else 1
    raw = timed(made).assign(end_s=np.ceil((timed(made).seq + 0.5) / width_s) * width_s)
    assert found.requests.sum() == len(raw)
    names = [each.name for each in made.run.endpoints]
    for _, row in found.iloc[::7].iterrows():
        ms = raw.ms[(raw.end_s == row.elapsed_s) & (raw.endpoint == names.index(row["name"]))]
        assert row.requests == len(ms)
        assert row.p95_ms == pytest.approx(nearest_rank(ms, 95), rel=ALPHA * 1.001)


@pytest.mark.parametrize(
    "make", [who, load_levels, errors_over_time, percentiles_over_time], ids=lambda make: make.__name__
)
def test_frames_are_of_the_registry_whatever_their_length(made, make):
    full, empty = make(made.run, made.documents), make(made.run, [])
    assert len(full) > 0
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert set(full.columns) <= set(COLUMNS)
    assert {name: str(full[name].dtype) for name in full} == {name: column(name).dtype for name in full}
