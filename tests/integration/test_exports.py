"""Files that leave: tables are read back with other tools and compared, charts are looked into."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from loadbench import exports
from loadbench.analysis import frames
from loadbench.analysis.columns import COLUMNS
from loadbench.analysis.summary import quantiles
from loadbench.catalogue import Catalogue
from loadbench.errors import InvalidInput, NotFound
from loadbench.model import RunStatus, now_ms
from tests.builders import ENDPOINTS, a_run, a_test, an_interval

pytestmark = pytest.mark.integration

SECONDS = 5


@pytest.fixture
def run(bench):
    """A run of five seconds: 15 good requests of 10, 20 and 30 ms, and 5 of 40 ms that failed."""
    store = bench._backend.store
    test = store.load_tests.add(a_test(env_id="test"))
    run = store.runs.add(a_run(test))
    store.runs.endpoint_indices(run.id, ENDPOINTS)
    for seq in range(SECONDS):
        store.ledger.append(an_interval(run.id, seq))
    store.runs.move(run.id, RunStatus.RUNNING, started_at=now_ms())
    store.runs.move(run.id, RunStatus.FINISHED)
    return bench.run(run.id)


@pytest.mark.parametrize("table", exports.TABLES)
def test_parquet_has_the_frame_with_its_types_units_and_meanings(run, tmp_path, table):
    path = run.export(tmp_path / "deep" / f"{table}.parquet", table)
    expected = exports.table_of(run.record, run._documents(), table)
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected)
    for field in pq.read_schema(path):
        about = COLUMNS[field.name]
        assert field.metadata[b"unit"].decode() == about.unit
        assert field.metadata[b"meaning"].decode() == about.meaning


def test_the_buckets_of_histograms_hold_what_was_sent(run, tmp_path):
    found = pd.read_csv(run.export(tmp_path / "h.csv", "histograms"))
    assert list(found.columns) == ["method", "name", "outcome", "bucket_low_ms", "bucket_high_ms", "requests"]
    sent = [("GET", "ok", 10), ("GET", "ok", 20), ("GET", "ok", 30), ("POST", "failed", 40)]
    assert len(found) == len(sent)
    for row, (method, outcome, ms) in zip(found.itertuples(), sent, strict=True):
        assert (row.method, row.outcome, row.requests) == (method, outcome, SECONDS)
        assert row.bucket_low_ms < ms <= row.bucket_high_ms
        assert row.bucket_high_ms / row.bucket_low_ms == pytest.approx(1.01005, abs=1e-5)


def test_percentiles_computed_from_the_exported_buckets_are_those_of_the_run(run, tmp_path):
    found = pd.read_parquet(run.export(tmp_path / "h.parquet", "histograms")).sort_values("bucket_low_ms")
    reached = np.cumsum(found["requests"]) / found["requests"].sum()
    for q in (25, 50, 75, 95):
        row = found.iloc[int(np.searchsorted(reached, q / 100 - 1e-9))]
        exact = quantiles(run.record, run._documents(), q).iloc[0]
        assert row["bucket_low_ms"] < exact <= row["bucket_high_ms"] * 1.0001


def test_a_run_without_requests_gives_empty_tables_with_their_columns(bench, tmp_path):
    empty = bench.run(bench._backend.store.runs.add(a_run(env_id="test")).id)
    for table in exports.TABLES:
        assert pd.read_parquet(empty.export(tmp_path / f"{table}.parquet", table)).empty
    assert frames.histograms(empty.record, []).empty


def test_text_that_a_spreadsheet_would_run_is_guarded_in_csv_and_whole_in_parquet(run, tmp_path):
    endpoint = ENDPOINTS[0].model_copy(update={"name": "=HYPERLINK(1)"})
    record = run.record.model_copy(update={"endpoints": (endpoint, ENDPOINTS[1])})
    documents = run._documents()
    path = exports.export(record, documents, tmp_path / "x.csv", table="summary")
    assert "'=HYPERLINK(1)" in path.read_text()
    path = exports.export(record, documents, tmp_path / "x.parquet", table="summary")
    assert "=HYPERLINK(1)" in set(pd.read_parquet(path)["name"])


@pytest.mark.parametrize("chart", ["timeline", "distribution", "heatmap", "percentiles", "load", "errors"])
def test_a_chart_is_one_file_that_loads_nothing(run, tmp_path, chart):
    run.annotate(name="</script><img src=x>")
    text = run.export(tmp_path / "chart.html", chart).read_text()
    figure = json.loads(re.search(r'<script type="application/json" id="figure">(.*?)</script>', text)[1])
    assert figure["data"]
    head = text.partition("<body>")[0]
    assert "default-src 'none'" in head
    assert "<img src=x>" not in text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.(?!data:)", text)


def test_what_cannot_be_exported_is_one_line(run, tmp_path):
    for path, table, words in (
        ("x.csv", "everything", "timeline, summary, endpoints, failures, histograms"),
        ("x.xlsx", "timeline", ".csv, .parquet, .html"),
        ("x", "timeline", ".csv, .parquet, .html"),
        ("x.html", "everything", "heatmap"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(words)) as caught:
            run.export(tmp_path / path, table)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_purged_run_says_so_here_and_on_the_command_line(run, tmp_path, monkeypatch, capsys):
    from loadbench.cli import main

    store = run._store
    assert Catalogue(store).purge(1, now_ms=now_ms() + 3 * 86_400_000) == 1
    for path in ("x.csv", "x.parquet", "x.html"):
        with pytest.raises(NotFound, match="were deleted"):
            run.export(tmp_path / path, "timeline")
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    for more in ([], ["--output", str(tmp_path / "x.csv")]):
        assert main(["export", run.id, "--scope", "acme/shop/checkout", *more]) == 3
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "were deleted" in err
    assert list(tmp_path.iterdir()) == []
