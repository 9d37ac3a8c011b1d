"""Reading result files of other tools: every figure by hand, every broken line named."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadbench.analysis import frames
from loadbench.analysis.summary import quantiles, summary
from loadbench.errors import InvalidInput
from loadbench.imports import Recording, jtl, read_jtl, read_locust_csv
from loadbench.imports.recording import Endpoints
from loadbench.model import LoadTestRun
from tests.builders import a_run

T0 = 1_795_000_000_000
HEADER = (
    "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,"
    "grpThreads,allThreads,URL,Latency,IdleTime,Connect"
)


def line(at: int, ms: int, sampler: str = "home", **changes: str) -> str:
    of = {
        "timeStamp": str(T0 + at), "elapsed": str(ms), "label": sampler, "responseCode": "200",
        "responseMessage": "OK", "threadName": "t 1-1", "dataType": "text", "success": "true", "failureMessage": "",
        "bytes": "100", "sentBytes": "10", "grpThreads": "2", "allThreads": "2", "URL": "http://shop:8080/x?y=1",
        "Latency": "1", "IdleTime": "0", "Connect": "0",
    }  # fmt: skip
    return ",".join((of | changes)[name] for name in HEADER.split(","))


@pytest.fixture
def jtl_file(tmp_path):
    def write(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
        path = tmp_path / "results.jtl"
        path.write_text("\n".join([header, *lines]) + "\n", encoding)
        return path

    return write


@pytest.fixture
def locust_files(tmp_path):
    def write(history: str, stats: str = "", failures: str = "") -> Path:
        for suffix, text in (("_stats_history", history), ("_stats", stats), ("_failures", failures)):
            if text:
                (tmp_path / f"load{suffix}.csv").write_text(text)
        return tmp_path / "load"

    return write


def decoded(recording: Recording) -> tuple[LoadTestRun, list[dict]]:
    """The run and its documents, as they would be stored."""
    run = a_run(endpoints=recording.endpoints, started_at=recording.started_at)
    return run, [interval.to_mongo() for interval in recording.intervals(run.id)]


def test_a_jtl_by_hand(jtl_file):
    path = jtl_file(
        line(0, 100),
        line(50, 300, allThreads="3"),
        line(900, 200, "cart", success="false", responseCode="500", responseMessage="Oops"),
        line(3000, 40, allThreads="1"),
    )
    recording = read_jtl(path, progress=False)
    assert (recording.name, recording.started_at, recording.target_url) == ("results", T0, "http://shop:8080")
    run, documents = decoded(recording)
    timeline = frames.timeline(run, documents)
    assert timeline["requests"].tolist() == [2, 1, 0, 1]
    assert timeline["users"].tolist() == [3, 2, 2, 1]
    assert timeline["elapsed_s"].tolist() == [1, 2, 3, 3.04]
    table = summary(run, documents).set_index("name")
    assert table.loc["home", ["requests", "failures", "min_ms", "max_ms"]].tolist() == [3, 0, 40, 300]
    assert table.loc["home", "mean_ms"] == pytest.approx(440 / 3)
    assert table.loc["cart", ["requests", "failures", "bytes"]].tolist() == [1, 1, 100]
    assert quantiles(run, documents, 50).iloc[0] == pytest.approx(100, rel=0.005)
    assert frames.failures(run, documents)[["name", "message", "count"]].values.tolist() == [["cart", "500 Oops", 1]]
    assert documents[-1]["cumRequests"] == 4
    assert documents[-1]["final"]


def test_a_jtl_in_any_order_and_put_together_of_two(jtl_file, monkeypatch):
    lines = [line(137 * number % 9000, number % 50 + 1, f"l{number % 3}") for number in range(500)]
    ordered = decoded(read_jtl(jtl_file(*sorted(lines)), progress=False))[1]
    monkeypatch.setattr(jtl, "OPEN_SECONDS", 2)
    shuffled = decoded(read_jtl(jtl_file(*lines[250:], HEADER, *lines[:250]), progress=False))[1]
    assert len(ordered) == len(shuffled)
    for before, after in zip(ordered, shuffled, strict=True):
        for name in ("timestamp", "requests", "durationMs", "p50Ms", "p99Ms", "cumRequests", "avgMs"):
            assert before[name] == after[name]


@pytest.mark.parametrize("left_out", ["allThreads", "bytes", "URL", "failureMessage", "responseMessage", "success"])
def test_a_jtl_without_an_optional_column(jtl_file, left_out):
    place = HEADER.split(",").index(left_out)

    def without(text: str) -> str:
        return ",".join(part for number, part in enumerate(text.split(",")) if number != place)

    lines = [line(0, 10), line(10, 20, responseCode="404", success="false")]
    recording = read_jtl(jtl_file(*map(without, lines), header=without(HEADER)), progress=False)
    run, documents = decoded(recording)
    assert summary(run, documents).iloc[-1][["requests", "failures"]].tolist() == [2, 1]
    assert ("allThreads" in recording.notes) == (left_out == "allThreads")


def test_a_jtl_of_other_delimiters_with_quotes_and_a_byte_order_mark(jtl_file):
    lines = ['1795000000000;10;"a;b";false;"two\nlines"', "1795000000020;10;c;true;"]
    header = "timeStamp;elapsed;label;success;failureMessage"
    run, documents = decoded(read_jtl(jtl_file(*lines, header=header, encoding="utf-8-sig"), progress=False))
    assert frames.failures(run, documents)[["name", "message"]].values.tolist() == [["a;b", "two lines"]]


def test_transactions_are_not_counted_twice(jtl_file):
    whole = line(0, 30, "T", URL="null", responseMessage="Number of samples in transaction : 2; failing samples : 0")
    recording = read_jtl(jtl_file(line(0, 10), line(10, 20), whole), progress=False)
    assert decoded(recording)[1][-1]["cumRequests"] == 2
    assert "1 samples of transaction controllers are left out" in recording.notes


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line(0, 10), "1795000000000,12,home"], ["results.jtl line 3", "3 columns, the header 17", "cut off"]),
        ([line(0, 10), line(0, 10, elapsed="soon")], ["line 3", "elapsed", "'soon'"]),
        ([line(0, 10, elapsed="-5")], ["line 2", "elapsed"]),
        ([line(0, 10, timeStamp="2026/01/01 10:00:00")], ["line 2", "timeStamp", "timestamp_format=ms"]),
        ([line(0, 10, timeStamp="1795000000")], ["line 2", "milliseconds"]),
        ([line(0, 10, success="yes")], ["line 2", "success", "'yes'"]),
        ([line(0, 10), line(9 * 86_400_000, 10)], ["line 3", "9 days"]),
        ([line(0, 10), line(0, 10, label='"never closed')], ["line 3", "cut off or damaged"]),
        ([line(0, 10, label='"never closed'), *[line(0, 10)] * 2000], ["line 2", "is no CSV"]),
        ([], ["no request"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else "",
)
def test_a_broken_jtl_names_the_line(jtl_file, lines, words):
    with pytest.raises(InvalidInput) as raised:
        read_jtl(jtl_file(*lines), progress=False)
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<?xml version="1.0"?>\n<testResults/>\n', ["is XML", "output_format=csv"]),
        ("", ["is empty"]),
        (line(0, 10) + "\n", ["line 1", "no column 'timeStamp'"]),
        ("timeStamp,elapsed,label\n1795000000000,1,a\n", ["success", "responseCode"]),
        ("timeStamp,elapsed,label,success\n\x00\n", ["line 2"]),
    ],
    ids=["xml", "empty", "no header", "no verdict", "nul"],
)
def test_what_is_no_jtl(tmp_path, text, words):
    path = tmp_path / "results.jtl"
    path.write_text(text)
    with pytest.raises(InvalidInput) as raised:
        read_jtl(path, progress=False)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read_jtl(tmp_path / "none.jtl", progress=False)
    with pytest.raises(InvalidInput, match=r"no load_stats_history\.csv in .*: give the prefix"):
        read_locust_csv(tmp_path / "load", progress=False)


H = "Timestamp,User Count,Type,Name,Requests/s,Failures/s,50%,Total Request Count,Total Failure Count,"
H += "Total Median Response Time,Total Average Response Time,Total Min Response Time,Total Max Response Time,"
H += "Total Average Content Size\n"


def row(second: int, users: int, kind: str, name: str, n: int, failures: int, mean: float) -> str:
    return f"{1_795_000_000 + second},{users},{kind},{name},1.0,0.0,9,{n},{failures},9,{mean},1,99,10.0\n"


FULL = H + "".join(
    (
        row(0, 0, "", "Aggregated", 0, 0, 0),
        row(1, 2, "GET", "/a", 4, 0, 10.0),
        row(1, 2, "", "Aggregated", 4, 0, 10.0),
        row(3, 5, "GET", "/a", 10, 1, 13.0),
        row(3, 5, "POST", "/b", 2, 2, 50.0),
        row(3, 5, "", "Aggregated", 12, 3, 19.1),
    )
)
STATS = "Type,Name,Request Count,Failure Count,50%,95%,99%\nGET,/a,10,1,12,30,N/A\n,Aggregated,12,3,13,40,90\n"
FAILED = (
    "Method,Name,Error,Occurrences,First Seen,Last Seen\n"
    "GET,/a,boom,1,2026-11-18T19:06:42Z,2026-11-18T19:06:42Z\nPOST,/b,=bad,2,,\n"
)


def test_a_locust_history_by_hand(locust_files):
    recording = read_locust_csv(locust_files(FULL, STATS, FAILED), progress=False)
    run, documents = decoded(recording)
    timeline = frames.timeline(run, documents)
    assert timeline["elapsed_s"].tolist() == [1, 3]
    assert timeline["requests"].tolist() == [4, 8]
    assert timeline["requests_per_s"].tolist() == [4, 4]
    assert timeline["users"].tolist() == [2, 5]
    table = summary(run, documents).set_index("name")
    assert table.loc["Aggregated", ["requests", "failures"]].tolist() == [12, 3]
    assert table.loc["/a", ["requests", "failures", "bytes"]].tolist() == [10, 1, 100]
    assert table.loc["/a", "mean_ms"] == pytest.approx(13)
    assert timeline["mean_ms"].tolist() == pytest.approx([10, (130 - 40 + 100) / 8])
    assert table[["p50_ms", "p95_ms", "p99_ms", "min_ms", "max_ms"]].isna().all(axis=None)
    assert timeline[["p50_ms", "p95_ms", "p99_ms"]].isna().all(axis=None)
    assert "no percentiles" in recording.notes
    assert "GET /a: 10 requests, 50% 12 ms, 95% 30 ms" in recording.notes
    assert frames.failures(run, documents)[["name", "message", "count"]].values.tolist() == [
        ["/b", "=bad", 2],
        ["/a", "boom", 1],
    ]
    assert not recording.has_distributions


def test_a_locust_history_of_the_total_only(locust_files):
    rows = [text for text in FULL.splitlines(keepends=True) if "/a" not in text and "/b" not in text]
    recording = read_locust_csv(locust_files("".join(rows), STATS, FAILED), progress=False)
    run, documents = decoded(recording)
    assert summary(run, documents)[["name", "requests"]].values.tolist() == [["(all requests)", 12], ["Aggregated", 12]]
    assert "without --csv-full-history" in recording.notes
    assert read_locust_csv(locust_files(H + rows[-1]).with_name("load_stats.csv"), progress=False).name == "load"


def test_a_reset_of_locusts_counters_goes_on_counting(locust_files):
    history = H + "".join(
        (
            row(0, 1, "", "Aggregated", 5, 0, 10.0),
            row(1, 1, "", "Aggregated", 2, 0, 20.0),
            row(2, 1, "", "Aggregated", 3, 0, 20.0),
        )
    )
    documents = decoded(read_locust_csv(locust_files(history), progress=False))[1]
    assert [document["requests"] for document in documents] == [5, 2, 1]


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (FULL + "1795000004,5,GET", ["load_stats_history.csv line 8", "cut off"]),
        (FULL.replace("Total Request Count", "Requests"), ["line 1", "no column 'Total Request Count'"]),
        (FULL + row(0, 1, "", "Aggregated", 1, 0, 1), ["line 8", "several runs"]),
        (H + row(0, 1, "", "Aggregated", 1, 2, 1), ["line 2", "more failures"]),
        (H + row(0, 1, "", "Aggregated", 0, 0, 0), ["no request"]),
        (H, ["no request"]),
        (H + row(0, 1, "", "Aggregated", 1, 0, float("nan")), ["line 2", "Average Response Time"]),
    ],
    ids=["cut off", "column", "order", "failures", "idle", "header only", "nan"],
)
def test_a_broken_locust_history_names_the_line(locust_files, history, words):
    with pytest.raises(InvalidInput) as raised:
        read_locust_csv(locust_files(history), progress=False)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_endpoints_beyond_the_limit_share_one():
    endpoints = Endpoints()
    places = [endpoints.index("GET", f"/{number}") for number in range(2500)]
    assert len(endpoints.all()) == 2000
    assert endpoints.all()[-1].name == "(other)"
    assert set(places[1999:]) == {1999}
    assert endpoints.index("GET", "/7") == 7
