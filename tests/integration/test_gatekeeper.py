"""Gates on stored runs: one run, all runs of a test, from the notebook, the shell and over REST; with JUnit XML."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from loadbench import cli, testing
from loadbench.errors import InvalidInput
from loadbench.gatekeeper import judge, try_gates
from loadbench.model import ApiToken, RunStatus, Window, now_ms
from server.app import Receiver
from tests import builders
from tests.rest_client import Client, a_token

SLOW = {3, 7, 11, 20}
DAY_MS = 86_400_000
SCOPE = ["--scope", "acme/shop/checkout", "--env", "staging"]


def a_run(store, test, number, **options):
    options = {"seconds": 20, "rps": 60, "endpoints": ["/a", ("POST", "/cart")], "ramp_s": 5} | options
    made = testing.run(seed=f"{test.id} {number}", started_at=now_ms() - (number + 1) * DAY_MS + 3_600_000, **options)
    return testing.keep(store, made, test)


@pytest.fixture
def product(store):
    return store.load_tests.add(builders.a_test(gates=("p95 < 300ms", "errors = 0")))


@pytest.fixture
def month(store, product):
    """Thirty runs, the newest first; four of them twice as slow."""
    return [a_run(store, product, number, slowdown=3.0 if number in SLOW else 1.0, run_sd=0.02) for number in range(30)]


def test_would_the_runs_of_the_last_month_have_passed(store, product, month):
    slow = [month[number].id for number in sorted(SLOW)]
    trial = try_gates(store, product, ["p95 < 300ms"], since="30d")[0]
    assert repr(trial) == f"p95 < 300ms: would have failed 4 of 30: {', '.join(slow)}"
    began = time.perf_counter()
    again = try_gates(store, product, ["p95 < 300ms"])[0]
    took_s = time.perf_counter() - began
    assert took_s < 1.0, took_s
    table = again.to_frame()
    assert table.index.tolist() == [run.id for run in month]
    assert table.index[~table["passed"].astype(bool)].tolist() == slow
    assert "would have failed 4 of 30" in again._repr_html_()
    assert len(try_gates(store, product, ["p95 < 300ms"], last=5)[0]) == 5
    assert len(try_gates(store, product, ["p95 < 300ms"], since="10d")[0]) == 10
    day = (datetime.now(UTC) - timedelta(days=10)).isoformat()
    assert len(try_gates(store, product, ["p95 < 300ms"], since=day)[0]) == 10
    for gate in ("p95 > 300ms for 10s", "95% of seconds p50 < 120ms"):
        assert [run.id for run in try_gates(store, product, [gate])[0].failed] == slow, gate


def test_a_run_of_the_baseline_is_compared_with_the_others(store, product, month):
    store.load_tests.update(product.id, baseline_run_ids=tuple(run.id for run in month[:3]))
    trial = try_gates(store, product, ["p95 <= 1.3 x baseline"], last=8)[0]
    assert [run.id for run in trial.failed] == [month[3].id, month[7].id]
    assert [result.because.rpartition("(")[2] for _, result in trial.results[:4]] == [
        "the middle of 2 runs)", "the middle of 2 runs)", "the middle of 2 runs)", "the middle of 3 runs)",
    ]  # fmt: skip


def test_only_runs_that_ended_are_tried_and_what_is_missing_is_said(store, product):
    good = a_run(store, product, 0)
    store.runs.add(good.model_copy(update={"id": "run-failed", "status": RunStatus.FAILED}))
    trial = try_gates(store, product, ["p95 < 9s in peak"])[0]
    assert repr(trial) == "p95 < 9s in peak: would have failed 0 of 1; 1 could not be judged"
    assert trial.to_frame()["because"].tolist() == ["the run has no window peak; it has whole, ramp, steady"]
    store.runs.update(good.id, windows=(Window(name="peak", start_s=10, end_s=20),))
    assert repr(try_gates(store, product, ["p95 < 9s in peak"])[0]) == "p95 < 9s in peak: would have failed 0 of 1"
    store.ledger.delete(good.id)
    store.runs.update(good.id, purged_at=now_ms())
    assert judge(store, store.runs.get(good.id), ["p95 < 9s"])[0].passed is True  # of its seal
    assert judge(store, store.runs.get(good.id), ["p95 > 1ms for 3s"])[0].because == "its intervals are deleted"
    for wrong in ({"since": "soon"}, {"last": 0}, {"last": True}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            try_gates(store, product, ["p95 < 9s"], **wrong)
    with pytest.raises(InvalidInput, match="window must be one of whole, ramp, steady, peak"):
        judge(store, store.runs.get(good.id), ["p95 < 9s"], window="dawn")


def test_a_gate_is_of_the_steady_window_and_one_that_stops_of_all(store, product):
    run = a_run(store, product, 0, stalled=[1, 2, 3], stall_ms=900)
    gates = ["p95 > 800ms for 3s", "p95 > 800ms for 3s -> stop", "p95 > 800ms for 3s in whole"]
    results = judge(store, run, gates)
    assert [(each.passed, each.window) for each in results] == [(True, "steady"), (False, "whole"), (False, "whole")]
    assert [each.passed for each in judge(store, run, gates, window="ramp")] == [False] * 3


def shell(capsys, *words):
    code = cli.main([*words, *SCOPE])
    return code, capsys.readouterr()


@pytest.fixture
def home(store, monkeypatch):
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)


@pytest.mark.usefixtures("home")
def test_the_command_ends_with_nine_and_writes_junit(store, product, capsys, tmp_path):
    run = a_run(store, product, 0, failure_ratio=0.0, gates=("p95 < 300ms", "errors = 0"))
    code, told = shell(capsys, "gate", run.id)
    assert (code, told.out.splitlines()[-1]) == (0, "2 passed")
    file = tmp_path / "ci" / "gates.xml"
    mixed = ["--gate", "p95 < 1ms", "--gate", "p99 <= baseline", "--gate", 'p50 of "GET /a" < 9s']
    code, told = shell(capsys, "gate", run.id[:9], *mixed, "--junit", str(file))
    assert code == 9
    assert told.out.splitlines()[0].startswith("broken      p95 < 1ms ")
    assert told.out.splitlines()[-1] == "1 passed, 1 broken, 1 not judged"
    check_junit(file, run, failures=1, skipped=1)
    assert shell(capsys, "gate", run.id, "--gate", "p99 <= baseline")[0] == 0
    assert shell(capsys, "gate", run.id, "--gate", "p99 <= baseline", "--strict", "--junit", str(file))[0] == 9
    check_junit(file, run, errors=1)
    code, told = shell(capsys, "gate", run.id, "--gate", "p95 < 1ms", "--json")
    answer = json.loads(told.out)
    assert (code, answer["passed"], answer["gates"][0]["passed"]) == (9, False, False)


@pytest.mark.usefixtures("home")
def test_the_command_tries_gates_on_the_runs_of_a_test(store, product, capsys):
    runs = [a_run(store, product, number, slowdown=3.0 if number == 1 else 1.0) for number in range(3)]
    code, told = shell(capsys, "gate", "--test", "products", "--gate", "p95 < 300ms", "--since", "4w")
    assert (code, told.out) == (9, f"p95 < 300ms: would have failed 1 of 3: {runs[1].id}\n")
    assert shell(capsys, "gate", "--test", "products", "--gate", "p95 < 9s", "--json")[0] == 0
    code, told = shell(capsys, "gate", runs[0].id)
    assert (code, told.err.startswith(f"loadbench: {runs[0].id} was started without gates: give one")) == (2, True)
    code, told = shell(capsys, "gate", runs[0].id, "--gate", "p95 > 3")
    assert (code, told.err.count("\n")) == (2, 1)
    assert shell(capsys, "gate", "--test", "products", "--junit", "x.xml")[0] == 2


def check_junit(file, run, **counts):
    """The structure that CI servers read, as their schemas say it."""
    root = ET.parse(file).getroot()
    suite = root.find("testsuite")
    expected = {name: str(counts.get(name, 0)) for name in ("failures", "errors", "skipped")}
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert {name: element.get(name) for name in expected} == expected
        assert element.get("tests") == str(len(cases))
    assert [child.tag for child in suite] == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
    assert set(suite.attrib) >= {"id", "package", "name", "timestamp", "hostname", "time"}
    datetime.strptime(suite.get("timestamp"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        found = [case.find(tag) for case in cases if case.find(tag) is not None]
        assert len(found) == int(expected[count])
        assert all(each.get("message") for each in found)
    assert all(case.get("classname") == run.name and case.get("name") for case in cases)
    assert {each.get("name"): each.get("value") for each in suite.find("properties")}["runId"] == run.id


def test_over_rest(store, product):
    runs = [
        a_run(store, product, number, slowdown=3.0 if number == 1 else 1.0, gates=("p95 < 300ms",))
        for number in range(3)
    ]
    with Receiver(store) as receiver:
        client = Client(receiver.url, a_token(store, "viewer"))
        own = client.get(f"/v1/runs/{runs[1].id}/gates").json()
        assert (own["passed"], [each["gate"] for each in own["items"]]) == (False, ["p95 < 300ms"])
        assert own["items"][0]["value"] > own["items"][0]["limit"] == 300
        others = client.get(f"/v1/runs/{runs[0].id}/gates", gate=["p95<2s", "p99 <= baseline"], window="whole").json()
        assert [each["verdict"] for each in others["items"]] == ["passed", "not judged"]
        assert "passed" not in others
        tried = client.get(f"/v1/load-tests/{product.id}/gates", gate="p95 < 300ms", last=30).json()["items"][0]
        assert (tried["verdict"], tried["failed"]) == (f"would have failed 1 of 3: {runs[1].id}", 1)
        assert len(client.get(f"/v1/load-tests/{product.id}/gates").json()["items"]) == 2
        wrong = client.get(f"/v1/runs/{runs[0].id}/gates", gate="p95 > 3")
        assert (wrong.status_code, "at ^ expected a time" in wrong.json()["detail"]) == (400, True)
        other = ApiToken.build(name="other", role="viewer", account_id="zeta")
        stranger = Client(receiver.url, store.tokens.create_api(other)[1])
        assert stranger.get(f"/v1/runs/{runs[0].id}/gates").status_code == 404
        runner = Client(receiver.url, a_token(store, "runner"))
        body = client.get(f"/v1/load-tests/{product.id}").json()
        etag = client.get(f"/v1/load-tests/{product.id}").headers["ETag"]
        kept = {name: body[name] for name in ("name", "targetUrl")}
        path, match = f"/v1/load-tests/{product.id}", {"If-Match": etag}
        assert runner.put(path, kept | {"gates": ["p95 > 3"]}, **match).status_code == 400
        assert runner.put(path, kept | {"gates": ["P95 < 2000ms"]}, **match).json()["gates"] == ["p95 < 2s"]
