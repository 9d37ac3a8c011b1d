"""Summaries: the truth of the raw response times, for the whole run and for windows."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from loadbench import testing as synthetic
from loadbench.agent.histogram import ALPHA, quantile
from loadbench.analysis import frames
from loadbench.analysis.columns import COLUMNS, column
from loadbench.analysis.intervals import nearest_rank
from loadbench.analysis.summary import AGGREGATED, histograms, quantiles, summary
from loadbench.errors import InvalidInput

PERCENTILES = (0, 1, 7, 50, 90, 95, 99, 99.9, 100)


@pytest.fixture(scope="module")
def made() -> synthetic.Synthetic:
    endpoints = [("GET", "/b"), ("POST", "/a"), ("GET", "/a"), ("DELETE", "/c")]
    return synthetic.run(
        seed="summary", seconds=60, endpoints=endpoints, rps=150, sigma=0.9, failure_ratio=0.08, untimed_ratio=0.01
    )


def chosen(made: synthetic.Synthetic, window: tuple[float | None, float | None], outcome: str):
    end_s = made.raw.seq + 1
    low, high = (-math.inf if window[0] is None else window[0]), (math.inf if window[1] is None else window[1])
    kept = made.raw[(low < end_s) & (end_s <= high)]
    return {"all": kept, "ok": kept[~kept.failed], "failed": kept[kept.failed]}[outcome]


@pytest.mark.parametrize("outcome", ["all", "ok", "failed"])
@pytest.mark.parametrize("window", [(None, None), (0, 10), (20, 30), (30.5, None), (None, 7.25), (59, 60)], ids=str)
def test_every_figure_is_that_of_the_raw_requests(made, window, outcome):
    table = summary(
        made.run, made.documents, percentiles=PERCENTILES, start_s=window[0], end_s=window[1], outcome=outcome
    )
    raw = chosen(made, window, outcome)
    seconds = len(chosen(made, window, "all").seq.unique())
    assert table[["method", "name"]].to_numpy().tolist() == [
        ["GET", "/a"], ["POST", "/a"], ["GET", "/b"], ["DELETE", "/c"], ["", AGGREGATED],
    ]  # fmt: skip
    for row in table.itertuples(index=False):
        index = [str(each) for each in made.run.endpoints].index(f"{row.method} {row.name}") if row.method else None
        part = raw if index is None else raw[raw.endpoint == index]
        timed = part.ms.dropna()
        assert (row.requests, row.failures) == (len(part), part.failed.sum())
        assert row.requests_per_s == pytest.approx(len(part) / seconds)
        assert row.failures_per_s == pytest.approx(part.failed.sum() / seconds)
        if len(timed):
            assert row.failure_ratio == pytest.approx(part.failed.mean())
            assert row.mean_ms == pytest.approx(timed.mean())
            assert row.min_ms == pytest.approx(timed.min(), rel=ALPHA)
            assert row.max_ms == pytest.approx(timed.max(), rel=ALPHA)
            exact = [synthetic.nearest_rank(timed, q) for q in PERCENTILES]
            found = list(row[9 : 9 + len(PERCENTILES)])
            assert found == pytest.approx(exact, rel=ALPHA * (1 + 1e-9))
    if outcome == "all":
        total = table.iloc[-1]
        assert (total.min_ms, total.max_ms) == (raw.ms.min(), raw.ms.max())
        assert total.bytes == raw.bytes.sum()
    else:
        assert table["bytes"].isna().all()


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_of_any_window_are_within_half_a_percent(seed):
    rng = np.random.default_rng(seed)
    made = synthetic.run(seed=seed, seconds=30, rps=float(rng.uniform(2, 300)), sigma=float(rng.uniform(0.1, 2)))
    start = float(rng.integers(0, 20))
    end = start + float(rng.integers(1, 10))
    found = quantiles(made.run, made.documents, PERCENTILES, start_s=start, end_s=end)
    raw = chosen(made, (start, end), "all").ms
    exact = [synthetic.nearest_rank(raw, q) for q in PERCENTILES]
    assert found.to_list() == pytest.approx(exact, rel=ALPHA * (1 + 1e-9))
    assert found.index.to_list() == [float(q) for q in PERCENTILES]


def test_merged_p99_sees_three_stalled_intervals_that_averages_hide():
    """Three stalled 5 s intervals of ten minutes: the mean of the interval p99s is no p99."""
    made = synthetic.run(
        seed="stalled", seconds=600, interval_s=5.0, endpoints=1, rps=50, sigma=0.3, stalled=(40, 70, 100)
    )
    merged = quantiles(made.run, made.documents, 99)[99]
    averaged = frames.timeline(made.run, made.documents)["p99_ms"].mean()
    exact = synthetic.nearest_rank(made.raw.ms, 99)
    assert merged == pytest.approx(exact, rel=ALPHA)
    assert merged > 3000
    assert averaged < 300


def test_histograms_are_merged_per_endpoint_and_in_all(made):
    found = histograms(made.run, made.documents)
    table = summary(made.run, made.documents)
    assert list(found) == ["GET /a", "POST /a", "GET /b", "DELETE /c", AGGREGATED]
    assert [quantile(each, 0.95) for each in found.values()] == pytest.approx(table["p95_ms"].to_list())
    assert sum(found[AGGREGATED].values()) == made.raw.ms.notna().sum()


def test_rates_count_the_idle_time_of_an_endpoint():
    made = synthetic.run(seed="idle", seconds=10, endpoints=["/busy"], rps=30)
    late = [document | {"endpoints": [], "n": [], "failures": [], "untimed": [], "sumMs": [], "failedSumMs": [],
                        "minMs": [], "maxMs": [], "bytes": [], "histograms": b"\x01" + bytes(7)}
            if document["seq"] >= 5 else document for document in made.documents]  # fmt: skip
    busy = made.raw[made.raw.seq < 5]
    assert summary(made.run, late)["requests_per_s"].to_list() == pytest.approx([len(busy) / 10] * 2)


def test_sources_that_report_together_cover_the_same_time():
    made = synthetic.run(seed="two", seconds=20, rps=100, sources=2)
    assert summary(made.run, made.documents).iloc[-1].requests_per_s == pytest.approx(len(made.raw) / 20)


def test_lost_intervals_are_left_out_of_counts_and_of_time():
    made = synthetic.run(seed="lost", seconds=20, rps=100, lost=(4, 5))
    total = summary(made.run, made.documents).iloc[-1]
    assert total.requests == len(made.raw)
    assert total.requests_per_s == pytest.approx(len(made.raw) / 18)


def test_empty_input_gives_an_empty_table_of_the_same_shape(made):
    for table in (summary(made.run, []), summary(made.run, made.documents, start_s=1000, end_s=2000)):
        assert table.empty
        assert table.dtypes.to_dict() == summary(made.run, made.documents).dtypes.to_dict()
    assert quantiles(made.run, [], [50, 99]).isna().all()
    assert histograms(made.run, []) == {}


@pytest.mark.parametrize("outcome", ["all", "ok", "failed"])
def test_columns_and_dtypes_are_those_of_the_registry(made, outcome):
    table = summary(made.run, made.documents, outcome=outcome)
    assert set(table.columns) <= set(COLUMNS)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        name: column(name).dtype for name in table.columns
    }


def test_inputs_are_not_changed(made):
    before = copy.deepcopy(made.documents)
    summary(made.run, made.documents)
    quantiles(made.run, made.documents, 50)
    histograms(made.run, made.documents)
    assert made.documents == before


def test_wrong_arguments_are_refused(made):
    with pytest.raises(InvalidInput, match=r"in \[0, 100\]; not 101"):
        quantiles(made.run, made.documents, 101)
    with pytest.raises(InvalidInput, match="outcome must be one of all, ok, failed; not 'both'"):
        summary(made.run, made.documents, outcome="both")
    with pytest.raises(InvalidInput, match="window must end after it starts"):
        summary(made.run, made.documents, start_s=10, end_s=10)


@pytest.mark.parametrize(("percentile", "n", "rank"), [(7, 100, 7), (99.9, 1000, 999), (55, 100, 55), (0, 5, 1)])
def test_ranks_are_free_of_float_noise(percentile, n, rank):
    assert nearest_rank(percentile, np.array([n])).tolist() == [rank]
