"""Runs of other tools: what real Locust wrote, a JMeter file, and CSV files for spreadsheets."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from loadbench import imports, sheets
from loadbench.cli import main
from loadbench.errors import Conflict, InvalidInput
from loadbench.model import Scope
from tests import scripts

T0 = 1_795_000_000_000


@pytest.fixture(scope="module")
def locust_run(tmp_path_factory):
    """What plain Locust wrote of a short run, and what the shop counted."""
    from loadbench.demo_target import ShopServer

    folder = tmp_path_factory.mktemp("locust")
    (folder / "locustfile.py").write_text(scripts.RAW_LOG)
    with ShopServer(port=0, seed=3, failures=0.1) as shop:
        command = [sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "-u", "4", "-r", "4"]
        command += ["-t", "6s", "--host", shop.url, "--csv", "load", "--csv-full-history", "--exit-code-on-error", "0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return folder / "load", shop.total()


def jtl(path: Path, *, samples: int = 5000, seed: int = 1) -> dict[str, list[tuple[int, bool]]]:
    """Write a JTL file and give what is in it: label -> (elapsed, success)."""
    chance, truth = random.Random(seed), {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = ["timeStamp", "elapsed", "label", "responseCode", "responseMessage", "threadName", "dataType"]
        names += ["success", "failureMessage", "bytes", "sentBytes", "grpThreads", "allThreads", "URL", "Latency"]
        writer.writerow([*names, "IdleTime", "Connect"])
        for number in range(samples):
            elapsed, good = int(chance.lognormvariate(4, 1)), chance.random() > 0.05
            label = chance.choice(["home", "=search()", "cart"])
            truth.setdefault(label, []).append((elapsed, good))
            code, message = ("200", "OK") if good else ("500", "Internal Server Error")
            start = T0 + number * 4
            writer.writerow([start, elapsed, label, code, message, "t", "text", str(good).lower(), "", 100, 5, 8, 8,
                             "https://shop.example/x", 1, 0, 0])  # fmt: skip
    return truth


def nearest_rank(values: list[int], percentile: float) -> int:
    return sorted(values)[max(1, math.ceil(percentile / 100 * len(values))) - 1]


def everything(store) -> dict[str, int]:
    return {name: store.database[name].count_documents({}) for name in ("load_test_runs", "metrics_timeseries")}


def test_a_real_locust_run_says_the_same_as_locust(bench, store, locust_run, tmp_path):
    prefix, (served, failed) = locust_run
    stats = pd.read_csv(f"{prefix}_stats.csv", keep_default_na=False).set_index("Name")
    test = bench.create_test("plain", scripts.STEADY, target_url="http://127.0.0.1:9", check=False)
    run = bench.import_csv(prefix, test=test, notes="old times", tags=["ci"])
    table = run.summary().set_index("name")
    for name in ("/api/products", "/api/search", "Aggregated"):
        row = stats.loc[name]
        assert table.loc[name, ["requests", "failures"]].tolist() == [row["Request Count"], row["Failure Count"]]
        assert table.loc[name, "mean_ms"] == pytest.approx(row["Average Response Time"], rel=0.001)
    assert 0.7 * served < table.loc["Aggregated", "requests"] <= served
    assert 0 < table.loc["Aggregated", "failures"] <= failed
    assert table["p95_ms"].isna().all()
    assert math.isnan(run.quantile(95))
    assert run.timeline()["requests"].sum() == table.loc["Aggregated", "requests"]
    assert run.timeline()["users"].max() == 4
    assert run.failures()["count"].sum() == table.loc["Aggregated", "failures"]
    record = run.record
    assert (record.origin, record.status, record.completeness) == ("imported", "Finished", "unknown")
    assert record.metadata["importedFrom"] == "load_stats_history.csv, load_stats.csv, load_failures.csv"
    assert record.notes.startswith("old times")
    assert "Locust's own rounded percentiles of the whole run:\nGET /api/products:" in record.notes
    assert "imported from Locust CSV" in repr(run)
    assert "no percentiles: imported without distributions" in run._repr_html_()
    assert "It holds no distributions" in repr(sheets.run_headline(run))
    assert "old times" in repr(sheets.settings(run))
    assert list(test.runs().index) == [run.id]
    assert bench.import_csv(prefix, test="plain").id == run.id
    assert everything(store)["load_test_runs"] == 1


def test_a_jtl_has_true_percentiles(bench, store, tmp_path):
    truth = jtl(tmp_path / "nightly.jtl")
    run = bench.import_jtl(tmp_path / "nightly.jtl")
    table = run.summary((50, 95, 99)).set_index("name")
    for label, samples in truth.items():
        times = [elapsed for elapsed, _ in samples]
        assert table.loc[label, "requests"] == len(samples)
        assert table.loc[label, "failures"] == sum(not good for _, good in samples)
        assert table.loc[label, ["min_ms", "max_ms"]].tolist() == [min(times), max(times)]
        assert table.loc[label, "mean_ms"] == pytest.approx(sum(times) / len(times))
        for percentile in (50, 95, 99):
            assert table.loc[label, f"p{percentile}_ms"] == pytest.approx(nearest_rank(times, percentile), rel=0.005)
    assert (run.record.status, run.record.completeness, run.record.origin) == ("Finished", "complete", "imported")
    assert (run.record.name, run.record.target_url) == ("nightly", "https://shop.example")
    assert store.ledger.check(run.record) == ("complete", [])
    assert run.record.last_metrics.cum_requests == 5000
    assert run.timeline()["users"].max() == 8
    assert bench.import_jtl(tmp_path / "nightly.jtl").id == run.id
    assert bench.import_jtl(tmp_path / "nightly.jtl", name="other").id != run.id
    run.delete()
    assert bench.import_jtl(tmp_path / "nightly.jtl").id == run.id
    assert "All of it is here" in repr(sheets.run_headline(run))


def test_an_imported_run_can_be_a_baseline_and_is_not_purged_for_its_age(bench, store, tmp_path):
    test = bench.create_test("jmeter", scripts.STEADY, target_url="http://127.0.0.1:9", check=False)
    jtl(tmp_path / "a.jtl", samples=50)
    run = bench.import_jtl(tmp_path / "a.jtl", test=test)
    assert test.set_baseline(run).baseline().ids == [run.id]
    with pytest.raises(Conflict):
        run.delete()
    test.remove_baseline()
    store.runs.update(run.id, finished_at=run.record.finished_at - 10**10)
    assert bench._catalogue.purge(1) == 0


def test_nothing_half_made_is_left(bench, store, tmp_path, monkeypatch):
    path = tmp_path / "cut.jtl"
    jtl(path, samples=300)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InvalidInput, match=r"cut\.jtl line 301 has \d+ columns"):
        bench.import_jtl(path)
    path.write_bytes(whole)
    with pytest.raises(InvalidInput, match="target_url"):
        bench.import_jtl(path, target_url="nowhere")
    assert everything(store) == {"load_test_runs": 0, "metrics_timeseries": 0}

    def fill(intervals):
        store.ledger.append(intervals[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(bench._backend.store.ledger, "fill", fill)
    with pytest.raises(KeyboardInterrupt):
        bench.import_jtl(path)
    assert everything(store) == {"load_test_runs": 0, "metrics_timeseries": 0}
    # A killed process cannot tidy up: the next import does.
    recording = imports.read_jtl(path, progress=False)
    monkeypatch.undo()
    run = imports.keep(store, recording, Scope.parse("a/b/c"), by="ann", progress=False)
    store.database.load_test_runs.delete_one({"_id": run.id})
    again = imports.keep(store, recording, Scope.parse("a/b/c"), by="ann", progress=False)
    assert store.ledger.check(again) == ("complete", [])


@pytest.mark.long
def test_a_large_file_is_streamed(tmp_path):
    """The peak of memory must not grow with the file: the same seconds, four times the samples."""
    program = (
        "import resource, sys; from loadbench import imports\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "recording = imports.read_jtl(sys.argv[1], progress=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, sum(r[1] for s in recording.spans "
        "for r in s.columns))\n"
    )
    text = "timeStamp,elapsed,label,success,failureMessage\n"
    rows = "".join(
        f"{T0 + number % 20_000},{number % 400},page {number % 20},true,{'x' * 100}\n" for number in range(20_000)
    )
    grown = []
    for times in (4, 16):
        path = tmp_path / f"{times}.jtl"
        with path.open("w") as file:
            file.write(text)
            for _ in range(times):
                file.write(rows)
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
        kilobytes, samples = map(int, done.stdout.split())
        assert samples == 20_000 * times
        grown.append(kilobytes)
    assert path.stat().st_size > 40_000_000
    assert grown[1] < grown[0] + 8_000, grown


def test_csv_for_spreadsheets_holds_no_formula(bench, tmp_path):
    jtl(tmp_path / "x.jtl", samples=200)
    run = bench.import_jtl(tmp_path / "x.jtl")
    for table in ("timeline", "summary", "endpoints", "failures"):
        path = run.export(tmp_path / f"{table}.csv", table)
        cells = [cell for line in csv.reader(path.read_text().splitlines()) for cell in line]
        assert not [cell for cell in cells if cell[:1] in "=+@" and cell], table
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert summary["name"].tolist() == ["'=search()", "cart", "home", "Aggregated"]
    assert summary["requests"].iloc[-1] == 200
    assert len(pd.read_csv(tmp_path / "timeline.csv")) == len(run.timeline())
    with pytest.raises(InvalidInput, match="table must be one of timeline, summary, endpoints, failures"):
        run.export(tmp_path / "y.csv", "everything")
    with pytest.raises(InvalidInput, match="cannot write"):
        run.export(tmp_path / "x.jtl" / "y.csv")


@pytest.fixture
def loadbench(store, tmp_path, monkeypatch, capsys):
    """Run a command on the test run's MongoDB, in this process, and give what it printed."""
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, expect: int = 0) -> str:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == expect, printed
        return printed.out if expect == 0 else printed.err

    return run


def test_the_command_line_imports_exports_and_speaks_json(loadbench, tmp_path, locust_run):
    jtl(tmp_path / "x.jtl", samples=200)
    run = json.loads(loadbench("import", "x.jtl", "--json"))
    assert (run["origin"], run["status"], run["completeness"]) == ("imported", "Finished", "complete")
    assert run["lastMetrics"]["cumRequests"] == 200
    assert "imported from Locust CSV" in loadbench("import", locust_run[0], "--target", "http://shop.example")
    listed = json.loads(loadbench("runs", "--json"))
    assert {entry["name"] for entry in listed} == {"x", "load"}
    assert loadbench("export", run["id"]).startswith("elapsed_s,timestamp,users,")
    loadbench("export", run["id"], "--table", "summary", "--output", "s.csv")
    assert "'=search()" in (tmp_path / "s.csv").read_text()
    assert json.loads(loadbench("db", "status", "--json"))["running"] is False
    assert "is a directory" in loadbench("import", tmp_path, expect=2).lower()
    (tmp_path / "old.jtl").write_text("<testResults/>")
    assert "is XML" in loadbench("import", "old.jtl", expect=2)
    assert "give target_url" in loadbench("import", locust_run[0], expect=2)
    loadbench("delete", run["id"], "--yes")
    assert "no run" in loadbench("export", run["id"], expect=3)


def test_the_command_line_registers_and_prints_the_command_once(loadbench, store):
    answer = json.loads(loadbench("external", "lab", "--target", "http://shop.example", "--users", 3, "--json"))
    assert answer["run"]["origin"] == "external"
    assert store.tokens.run_of(answer["token"]) == answer["run"]["id"]
    assert answer["token"] in answer["command"]
    shown = loadbench("external", "lab", "--target", "http://shop.example")
    assert "python -m loadbench.agent -f locustfile.py" in shown
    assert store.runs.get(answer["run"]["id"]).target_users == 3


def test_run_speaks_json(loadbench, shop, tmp_path):
    (tmp_path / "shop.py").write_text(scripts.STEADY)
    command = ("run", "shop.py", "--target", shop.url, "--users", 2, "--spawn-rate", 2, "--duration", "2s", "--json")
    answer = json.loads(loadbench(*command))
    assert answer["run"]["status"] == "Finished"
    total = answer["summary"][-1]
    assert (total["name"], total["requests"]) == ("Aggregated", shop.total()[0])
