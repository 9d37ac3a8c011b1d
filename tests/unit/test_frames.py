"""Frames of a run: what each row says, and that percentiles come from merged histograms."""

from __future__ import annotations

import copy
import time

import numpy as np
import pandas as pd
import pytest

from loadbench import testing as synthetic
from loadbench.agent.histogram import ALPHA, pack, unpack
from loadbench.analysis import frames
from loadbench.analysis.columns import COLUMNS, column, percentile_column
from loadbench.analysis.intervals import ROWS, Intervals
from loadbench.errors import InvalidInput, LoadbenchError
from loadbench.model import Interval, LoadTest, ScriptRevision
from loadbench.model.interval import ROW_COLUMNS, ROW_PERCENTILES
from loadbench.model.interval import column as row_column

FRAMES = [frames.timeline, frames.endpoints, frames.failures]


@pytest.fixture(scope="module")
def made() -> synthetic.Synthetic:
    return synthetic.run(seed="frames", seconds=40, endpoints=5, rps=120, failure_ratio=0.05, untimed_ratio=0.02)


def is_near(found: float, exact: float) -> bool:
    return abs(found - exact) <= ALPHA * exact * (1 + 1e-9)


@pytest.mark.parametrize("build", FRAMES)
def test_columns_and_dtypes_are_those_of_the_registry(made, build):
    for documents in (made.documents, made.documents[:1], []):
        frame = build(made.run, documents)
        assert set(frame.columns) <= set(COLUMNS)
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
            name: column(name).dtype for name in frame.columns
        }
    assert len(build(made.run, [])) == 0
    assert list(build(made.run, []).columns) == list(build(made.run, made.documents).columns)


@pytest.mark.parametrize("build", FRAMES)
def test_inputs_are_not_changed(made, build):
    before = copy.deepcopy(made.documents)
    build(made.run, made.documents)
    assert made.documents == before


def test_timeline_counts_and_percentiles_are_the_truth_of_each_interval(made):
    frame = frames.timeline(made.run, made.documents)
    assert frame["elapsed_s"].tolist() == [float(second) for second in range(1, 41)]
    assert frame["timestamp"][0] == pd.Timestamp("2026-03-14T09:26:54Z")
    for seq, raw in made.raw.groupby("seq"):
        row, timed = frame.iloc[seq], raw.ms.dropna()
        assert (row.requests, row.failures) == (len(raw), raw.failed.sum())
        assert row.requests_per_s == len(raw)
        assert row.failures_per_s == raw.failed.sum()
        assert row.mean_ms == pytest.approx(timed.mean())
        for q in (50, 95, 99):
            assert is_near(row[f"p{q}_ms"], synthetic.nearest_rank(timed, q))
    assert frame["users"].tolist() == [document["users"] for document in made.documents]
    assert frame["cpu_percent"].iloc[-1] == 20.0 + 0.5 * made.run.target_users


def test_rates_divide_by_the_measured_length_of_an_interval(made):
    document = copy.deepcopy(made.documents[3]) | {"durationMs": 2500.0}
    frame = frames.timeline(made.run, [document])
    assert frame["requests_per_s"][0] == pytest.approx(document["requests"] / 2.5)


def test_sources_at_one_timestamp_share_a_row():
    made = synthetic.run(seed="sources", seconds=10, rps=200, sources=3, sigma=0.8)
    frame, detail = frames.timeline(made.run, made.documents), frames.endpoints(made.run, made.documents)
    assert len(made.documents) == 30
    assert len(frame) == 10
    assert frame["users"].iloc[-1] == 60
    assert frame["cpu_percent"].iloc[-1] == 30.0
    for seq, raw in made.raw.groupby("seq"):
        assert frame["requests_per_s"][seq] == len(raw)
        assert is_near(frame["p95_ms"][seq], synthetic.nearest_rank(raw.ms, 95))
    assert detail.groupby("timestamp")["requests"].sum().tolist() == frame["requests"].tolist()
    assert not detail.duplicated(["timestamp", "method", "name"]).any()


@pytest.mark.parametrize("only", [None, (2, 0)])
def test_what_is_stored_of_the_rows_tells_the_same_as_their_histograms(only):
    made = synthetic.run(seed="rows", seconds=40, endpoints=4, rps=9, failure_ratio=0.2, untimed_ratio=0.2)
    documents = [{field: each[field] for field in ROWS if field in each} for each in made.documents]
    table = frames.endpoints_of_rows(made.run, documents, only=only)
    pd.testing.assert_frame_equal(table, frames.endpoints(made.run, made.documents, only=only), check_exact=True)
    assert table["p99_ms"].isna().any()
    assert frames.endpoints_of_rows(made.run, documents, percentiles=(), only=only).equals(
        frames.endpoints(made.run, made.documents, percentiles=(), only=only)
    )


def test_intervals_of_the_first_versions_are_read(made):
    def first(document):
        arrays = {field: list(row_column(document, field)) for field in ROW_COLUMNS}
        return {k: v for k, v in (document | arrays).items() if k not in ROW_PERCENTILES.values()}

    older = [first(document) for document in made.documents]
    for documents in (older, [*older[:7], *made.documents[7:]]):
        pd.testing.assert_frame_equal(frames.endpoints(made.run, documents), frames.endpoints(made.run, made.documents))
    assert first(Interval.from_mongo(older[0]).to_mongo() | dict.fromkeys(ROW_PERCENTILES.values(), ())) == older[0]
    assert "rowP50Ms" not in Interval.from_mongo(older[0]).to_mongo()


def test_rows_that_do_not_tell_are_left_to_the_histograms(made):
    assert frames.endpoints_of_rows(made.run, made.documents, percentiles=(50, 99.9)) is None
    older = [{field: each[field] for field in each if not field.startswith("row")} for each in made.documents]
    assert frames.endpoints_of_rows(made.run, [*made.documents[:-1], older[-1]]) is None
    two = synthetic.run(seed="two", seconds=3, sources=2)
    assert frames.endpoints_of_rows(two.run, two.documents) is None


def test_endpoints_are_the_truth_of_each_interval_and_endpoint(made):
    frame = frames.endpoints(made.run, made.documents, percentiles=(50, 99.9))
    assert list(frame.columns[-4:]) == ["min_ms", "p50_ms", "p99.9_ms", "max_ms"]
    truth = made.raw.groupby(["seq", "endpoint"])
    assert len(frame) == len(truth)
    for (_, row), ((seq, endpoint), raw) in zip(frame.iterrows(), truth, strict=True):
        timed = raw.ms.dropna()
        assert (row.elapsed_s, row["name"]) == (seq + 1, made.run.endpoints[endpoint].name)
        assert (row.requests, row.failures) == (len(raw), raw.failed.sum())
        if len(timed):
            assert (row.min_ms, row.max_ms) == (timed.min(), timed.max())
            assert row.mean_ms == pytest.approx(timed.mean())
            assert is_near(row.p50_ms, synthetic.nearest_rank(timed, 50))
            assert is_near(row["p99.9_ms"], synthetic.nearest_rank(timed, 99.9))
        else:
            assert row[["min_ms", "max_ms", "mean_ms", "p50_ms"]].isna().all()


def test_order_of_documents_does_not_matter(made):
    for build in FRAMES:
        pd.testing.assert_frame_equal(build(made.run, made.documents[::-1]), build(made.run, made.documents))


def test_failures_are_counted_by_endpoint_and_message(made):
    frame = frames.failures(made.run, made.documents)
    failed = made.raw[made.raw.failed]
    assert frame["count"].sum() == len(failed)
    assert frame["count"].is_monotonic_decreasing
    first = frame[frame["name"] == made.run.endpoints[0].name].iloc[0]
    of_first = failed[failed.endpoint == 0]
    assert first["count"] == len(of_first)
    assert first["message"] == synthetic.MESSAGES[0]
    started = pd.Timestamp(synthetic.STARTED_AT, unit="ms", tz="UTC")
    assert first["first_seen"] == started + pd.Timedelta(of_first.seq.min() + 1, "s")
    assert first["last_seen"] == started + pd.Timedelta(of_first.seq.max() + 1, "s")


def test_elapsed_counts_from_the_first_interval_when_the_start_is_unknown(made):
    run = made.run.model_copy(update={"started_at": None})
    assert frames.timeline(run, made.documents)["elapsed_s"].tolist()[:2] == [1.0, 2.0]


def test_a_run_older_than_its_intervals_is_refused(made):
    with pytest.raises(InvalidInput, match="read the run again"):
        frames.endpoints(made.run.model_copy(update={"endpoints": made.run.endpoints[:2]}), made.documents)


def test_histograms_of_another_version_are_refused(made):
    document = made.documents[0] | {"histograms": b"\x09" + made.documents[0]["histograms"][1:]}
    with pytest.raises(LoadbenchError, match="cannot read"):
        frames.timeline(made.run, [document])


@pytest.mark.parametrize("q", [-0.1, 100.1, float("nan"), "95", None, True])
def test_a_percentile_outside_0_to_100_is_refused(made, q):
    with pytest.raises(InvalidInput, match=r"percentile must be a number in \[0, 100\]"):
        frames.timeline(made.run, made.documents, percentiles=(50, q))


def test_percentile_columns_are_known_by_name():
    assert [percentile_column(q) for q in (50, 99.0, 99.9, np.float64(99.99))] == [
        "p50_ms",
        "p99_ms",
        "p99.9_ms",
        "p99.99_ms",
    ]
    assert column("p99.99_ms").unit == "ms"
    with pytest.raises(InvalidInput, match="no column 'latency'"):
        column("latency")


def test_packed_histograms_are_those_of_the_agent(made):
    for document in made.documents[:5]:
        assert pack(unpack(document["histograms"])) == document["histograms"]


def test_lists_of_records_keep_their_dtypes_when_empty(made):
    test = LoadTest(account_id="a", org_id="b", project_id="c", name="products", target_url="http://127.0.0.1:1")
    script = "cHJpbnQoMSk="
    sha = "b09b51be39cfd25a6d4deed6ef9f9a13f5d7d6bdbd45d6db6e0cbab0e7c0c9f5"
    pending = made.run.model_copy(update={"started_at": None, "finished_at": None, "last_metrics": None})
    revision = ScriptRevision.model_construct(
        load_test_id=test.id, revision_number=1, script_content=script, sha256=sha, description="first"
    )
    for build, records in (
        (frames.tests, [test]),
        (frames.runs, [made.run, pending]),
        (frames.revisions, [revision]),
    ):
        full, empty = build(records), build([])
        assert full.dtypes.to_dict() == empty.dtypes.to_dict()
        assert {full.index.name, *full.columns} <= set(COLUMNS)
    listed = frames.runs([made.run, pending])
    assert listed.loc[made.run.id, "status"].tolist() == ["Finished", "Finished"]
    assert listed["started_at"].isna().tolist() == [False, True]
    assert listed["requests"].tolist() == [len(made.raw), 0]


def test_an_hour_of_twenty_endpoints_takes_well_under_a_second():
    made = synthetic.run(seed="hour", seconds=3600, endpoints=20, rps=200)
    best = {}
    for build in FRAMES:
        for _ in range(3):
            began = time.perf_counter()
            build(made.run, made.documents)
            best[build.__name__] = min(best.get(build.__name__, 9), time.perf_counter() - began)
    assert max(best.values()) < 1, best
    assert len(Intervals.read(made.run, made.documents).endpoint) > 60_000
