"""Seals: what is read from one is what its intervals say, whatever came late, was deleted or was set meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from loadbench import sealing, testing
from loadbench.analysis import frames
from loadbench.analysis.condense import condense
from loadbench.analysis.intervals import within
from loadbench.analysis.summary import summary
from loadbench.analysis.windows import find
from loadbench.catalogue import Catalogue
from loadbench.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from loadbench.model import Interval, LoadTestRun, RunStatus, Window, now_ms
from loadbench.store import Store
from server.app import Receiver
from server.ingest import Ingest
from tests.api_client import Agent
from tests.builders import a_run, a_test, an_interval, an_interval_push
from tests.rest_client import Client, a_token
from tests.scripts import STEADY as SCRIPT
from tests.waiting import wait_until

pytestmark = pytest.mark.integration
PLACED = {"seconds": 60, "users": 40, "rps": 60, "ramp_s": 10, "drain_s": 5}


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    with Receiver(store) as receiver:
        yield receiver


@pytest.fixture
def api(receiver: Receiver, store: Store) -> Client:
    return Client(receiver.url, a_token(store, "admin"))


@pytest.fixture
def made(request: pytest.FixtureRequest) -> testing.Synthetic:
    return testing.run(seed=f"sealed {request.node.name}", **PLACED)


def sealed_documents(store: Store, run: LoadTestRun) -> int:
    return store.database["run_summaries"].count_documents({"runId": run.id})


def table(run: LoadTestRun, documents) -> pd.DataFrame:
    return summary(run, documents, percentiles=(1, 50, 95, 99.9))


def test_a_seal_says_what_the_intervals_say(store, made):
    run = testing.keep(store, made)
    fresh, read = sealing.seal(store, run), sealing.seal(store, run)
    assert sealed_documents(store, run) == 5
    assert read == fresh
    assert read.windows == find(made.run, made.documents)
    for window in (Window(name="whole"), *read.windows):
        inside = within(run, made.documents, start_s=window.start_s, end_s=window.end_s)
        expected = table(run, inside)
        pd.testing.assert_frame_equal(table(run, read.documents(window.name)), expected, rtol=1e-12)
        assert read.parts[window.name]["intervals"] == len(inside)
    steady = made.raw[(made.raw.seq >= 10) & (made.raw.seq < 56)]
    exact = testing.nearest_rank(steady.ms, 99)
    assert summary(run, read.documents("steady")).iloc[-1]["p99_ms"] == pytest.approx(exact, rel=0.0051)
    with pytest.raises(InvalidInput, match="window must be one of whole, ramp, steady, drain; not 'noon'"):
        read.documents("noon")


def test_a_long_run_is_sealed_part_by_part(store, made, monkeypatch):
    run = testing.keep(store, made)
    at_once = sealing.seal(store, run)
    store.run_summaries.delete(run.id)
    monkeypatch.setattr(sealing, "STRETCH_ROWS", 40)
    monkeypatch.setattr(sealing, "STRETCH_LEAST", 7)
    in_parts = sealing.seal(store, run)
    assert in_parts.windows == at_once.windows
    for name, part in at_once.parts.items():
        pd.testing.assert_frame_equal(table(run, [in_parts.parts[name]]), table(run, [part]), rtol=1e-12)
        assert in_parts.parts[name]["users"] == pytest.approx(part["users"])


def test_many_seals_are_one_query_and_only_the_windows_asked_for(store):
    runs = [testing.keep(store, testing.run(seed=f"many {number}", **PLACED)) for number in range(3)]
    sealing.seals(store, runs)
    store.ledger.delete(runs[1].id)  # nothing of the intervals is read any more
    found = sealing.seals(store, runs[::-1], windows=["ramp"])
    assert [seal.run.id for seal in found] == [run.id for run in runs[::-1]]
    assert {name for seal in found for name in seal.parts} == {"ramp", "steady"}


def test_a_run_that_goes_on_is_not_kept(store, made):
    running = made.run.model_copy(update={"status": RunStatus.RUNNING, "finished_at": None})
    run = testing.keep(store, testing.Synthetic(running, made.documents, made.raw))
    assert sealing.seal(store, run).parts["whole"]["intervals"] == 60
    assert sealed_documents(store, run) == 0


def test_a_run_without_intervals_has_a_seal_without_parts(store):
    run = store.runs.add(a_run(status=RunStatus.FAILED, stop_reason="error", error="no such host"))
    for _ in range(2):
        seal = sealing.seal(store, run)
        assert (dict(seal.parts), [window.name for window in seal.windows]) == ({}, ["steady"])
        assert str(seal.validity).startswith("INVALID: the run failed: no such host; no interval lies in window steady")
    assert summary(run, seal.documents("steady")).empty


@pytest.fixture
def lost(store: Store) -> LoadTestRun:
    """A run that was given up as lost after its seconds 0 and 1; second 2 is still somewhere."""
    run = store.runs.add(a_run(store.load_tests.add(a_test())))
    for seq in (0, 1):
        push = an_interval_push(run.id, seq)
        assert Ingest(store).metrics(push, None).verdict == "created"
    return store.runs.move(run.id, RunStatus.FAILED, stop_reason="lost")


def requests_of(store: Store, run: LoadTestRun) -> int:
    return sealing.seal(store, store.runs.get(run.id)).parts["whole"]["requests"]


def test_an_interval_that_comes_late_makes_the_seal_anew(store, receiver, lost):
    agent = Agent(receiver.url, store.tokens.create_push(lost.id))
    assert requests_of(store, lost) == 8
    assert store.runs.get(lost.id).late_intervals == 0
    assert agent.push(lost.id, 2).status_code == 201
    assert store.runs.get(lost.id).late_intervals == 1
    assert requests_of(store, lost) == 12
    assert agent.push(lost.id, 2).status_code == 200  # nobody knows whether the first try got as far as to count
    assert store.runs.get(lost.id).late_intervals == 2
    assert requests_of(store, lost) == 12
    assert agent.heartbeat(lost.id).status_code == 200
    assert store.runs.get(lost.id).late_intervals == 2


def test_an_interval_that_arrives_as_the_run_ends_is_in_the_seal(store, monkeypatch):
    run = store.runs.add(a_run(store.load_tests.add(a_test())))
    ingest = Ingest(store)
    ingest.metrics(an_interval_push(run.id, 0), None)
    append = store.ledger.append

    def sealed_meanwhile(interval: Interval):
        store.runs.move(run.id, RunStatus.FAILED, stop_reason="lost")
        assert requests_of(store, run) == 4
        return append(interval)

    monkeypatch.setattr(store.ledger, "append", sealed_meanwhile)
    assert ingest.metrics(an_interval_push(run.id, 1), None).verdict == "created"
    ended = store.runs.get(run.id)
    assert (ended.status, ended.late_intervals) == (RunStatus.FAILED, 1)
    assert ended.last_metrics.cum_requests == 4, "a run that is over is not renewed"
    assert requests_of(store, run) == 8


def test_an_interval_that_arrives_while_the_seal_is_made_makes_it_old(store, lost, monkeypatch):
    read = store.ledger.documents

    def one_more_behind_its_back(run_id: str, **how):
        documents = read(run_id, **how)
        monkeypatch.setattr(store.ledger, "documents", read)
        Ingest(store).metrics(an_interval_push(run_id, 2), None)
        return documents

    monkeypatch.setattr(store.ledger, "documents", one_more_behind_its_back)
    assert requests_of(store, lost) == 8
    assert requests_of(store, lost) == 12


def test_documents_of_different_makings_are_no_seal(store, made):
    run = testing.keep(store, made)
    right = sealing.seal(store, run)
    kept = store.database["run_summaries"]
    kept.update_one({"_id": f"{run.id}:steady"}, {"$set": {"stamp": "other", "part.n": []}})
    assert sealing.seal(store, run) == right
    kept.delete_one({"_id": f"{run.id}:steady"})
    assert sealing.seals(store, [run], windows=["steady"])[0].parts["steady"] == right.parts["steady"]


def test_setting_a_window_moves_what_is_in_it(store, made):
    run, catalogue = testing.keep(store, made), Catalogue(store)
    sealing.seal(store, run)
    run = catalogue.set_window(run.id, "steady", 20, 40, by="ann")
    assert (run.windows, run.updated_by) == ((Window(name="steady", start_s=20, end_s=40),), "ann")
    run = catalogue.set_window(run.id, "deploy", 30, by="ann")
    run = catalogue.set_window(run.id, "steady", 20, 50, by="ann")
    seal = sealing.seal(store, run)
    assert {window.name: window.found for window in seal.windows} == {
        "ramp": True, "steady": False, "drain": True, "deploy": False,
    }  # fmt: skip
    assert [seal.parts[name]["intervals"] for name in ("whole", "steady", "deploy")] == [60, 30, 30]
    run = catalogue.remove_window(run.id, "steady", by="ann")
    assert sealing.seal(store, run).parts["steady"]["intervals"] == 46
    for name, start_s, end_s, why in (
        ("whole", 0, 5, "the whole run is always a window"),
        ("noon", 5, 5, "must end after it starts"),
        ("Noon", 0, 5, "name must be 1 to 32 lower-case letters"),
    ):
        with pytest.raises(InvalidInput, match=why):
            catalogue.set_window(run.id, name, start_s, end_s, by="ann")
    with pytest.raises(NotFound, match=r"no window 'steady' was set on .*; those that were: deploy"):
        catalogue.remove_window(run.id, "steady", by="ann")


def test_the_summary_outlives_the_intervals(store, api, made):
    run, catalogue = testing.keep(store, made), Catalogue(store)
    before = table(run, sealing.seal(store, run).documents("steady"))
    store.run_summaries.delete(run.id)
    at = run.finished_at + 3 * 24 * 3600 * 1000
    assert catalogue.purge(2, now_ms=at) == 1
    run = store.runs.get(run.id)
    assert store.ledger.documents(run.id) == []
    pd.testing.assert_frame_equal(table(run, sealing.seal(store, run).documents("steady")), before)
    answer = api.get(f"/v1/runs/{run.id}/summary", window="steady").json()
    assert answer["totalRequests"] == before.iloc[-1]["requests"]
    assert answer["purgedAt"] == at
    with pytest.raises(Conflict, match="were deleted by retention: its windows stay as they are"):
        catalogue.set_window(run.id, "steady", 1, 5, by="ann")
    with pytest.raises(NotFound, match="only its summary is left, of the whole run and of its windows by name"):
        sealing.condensed(store, run, (10, 20))
    store.run_summaries.delete(run.id)
    with pytest.raises(NotFound, match="before it had a seal: only its totals are left"):
        sealing.seal(store, run)


def test_a_deleted_run_takes_its_seal_along(store, made, monkeypatch):
    run, catalogue = testing.keep(store, made), Catalogue(store)
    sealing.seal(store, run)
    catalogue.delete_run(run.id)
    assert sealed_documents(store, run) == 0
    run = testing.keep(store, made)
    put = store.run_summaries.put
    monkeypatch.setattr(store.run_summaries, "put", lambda *a: (catalogue.delete_run(run.id), put(*a)))
    sealing.seal(store, run)
    assert sealed_documents(store, run) == 0


def test_a_run_of_two_thousand_endpoints_has_a_seal(store):
    endpoints, buckets = 2000, 700
    names = tuple({"method": "GET", "name": f"/a/{number:04}"} for number in range(endpoints))
    run = store.runs.add(a_run(status=RunStatus.FINISHED, started_at=1_795_000_000_000, endpoints=names))
    header = np.array([1, 2 * endpoints], "<u4").tobytes() + np.full(2 * endpoints, buckets, "<u4").tobytes()
    bucket = np.tile(np.arange(buckets), 2 * endpoints).astype("<i2")
    counts = np.random.default_rng(1).integers(1, 90, len(bucket)).astype("<u4")
    histograms = header + bucket.tobytes() + counts.tobytes()
    assert len(histograms) > 16_000_000
    n = counts.reshape(endpoints, -1).sum(axis=1).tolist()
    arrays = {"n": n, "failures": [1] * endpoints, "untimed": [0] * endpoints, "bytes": [123456] * endpoints}
    arrays |= {name: [1234.5] * endpoints for name in ("sumMs", "failedSumMs", "minMs", "maxMs")}
    part = an_interval(run.id, 0).to_mongo() | arrays | {"endpoints": list(range(endpoints)), "histograms": histograms}
    windows = (Window(name="steady", found=True),)
    condensed = condense(run, [part])
    sealing._keep(store, sealing.Seal(run, windows, sealing.judge(run, condensed), {
        "whole": condensed, "steady": condensed,
    }))  # fmt: skip
    read = sealing.seal(store, run)
    assert {name: found["histograms"] for name, found in read.parts.items()} == dict.fromkeys(
        ("whole", "steady"), condensed["histograms"]
    )


def test_the_supervisor_seals_what_has_ended(bench, store):
    fields = {"origin": "external", "status": RunStatus.RUNNING, "lease_expires_at": now_ms() + 60_000}
    run = store.runs.add(a_run(**fields))
    Ingest(store).metrics(an_interval_push(run.id, 0), None)
    control = bench._backend.control
    wait_until(lambda: run.id in control._active, within_s=10, message="the supervisor has not seen the run")
    assert sealed_documents(store, run) == 0
    store.runs.move(run.id, RunStatus.FINISHED, stop_reason="duration")
    wait_until(lambda: sealed_documents(store, run), within_s=10, message="the run was not sealed")
    assert requests_of(store, run) == 4


def test_a_handle_answers_for_any_window_group_and_outcome(bench, store, made):
    test = bench.create_test("kit", SCRIPT, target_url="http://127.0.0.1:9", check=False)
    run = bench.run(testing.keep(store, made, test.record).id)
    raw = made.raw[(made.raw.seq >= 20) & (made.raw.seq < 40)]
    window, group = (20, 40), ["GET /api/resource-00", "*-03"]
    some = raw[raw.endpoint.isin([0, 3])]
    for percentile in (50, 99):
        exact = testing.nearest_rank(some.ms, percentile)
        assert run.quantile(percentile, window=window, endpoints=group) == pytest.approx(exact, rel=0.0051)
    failed = raw[raw.failed].ms
    assert run.quantile((50,), window=window, outcome="failed")["requests"].tolist() == [len(failed)]
    assert run.share_above(100, window=window) == pytest.approx((raw.ms > 100).mean(), abs=0.01)
    assert sum(run.histogram(window="whole").values()) == len(made.raw)
    assert run.cdf([100], window=window)["share"].iloc[0] == 1 - run.share_above(100, window=window)
    good = raw[~raw.failed].ms
    apdex = ((good <= 90).sum() + ((good > 90) & (good <= 360)).sum() / 2) / len(raw)
    assert run.apdex(90, window=window) == pytest.approx(apdex, abs=0.01)
    with pytest.raises(InvalidInput, match="give interval_ms, or set pacing_ms"):
        run.corrected()
    run.annotate(metadata={"pacing_ms": 100})
    assert (run.corrected()["estimate_requests"] > 0).all()
    run.set_window("steady", 20, 40)
    assert run.summary(window="steady").iloc[-1]["requests"] == len(raw) == run.windows().loc["steady", "requests"]
    assert run.summary().iloc[-1]["requests"] == len(made.raw)
    assert len(run.timeline(window="steady")) == 20
    pd.testing.assert_frame_equal(run.timeline(), frames.timeline(made.run, made.documents), rtol=1e-9)
    assert "p99.9_ms" in run.timeline((99.9,), window=window)
    assert set(run.endpoints(window="steady", endpoints=group)["name"]) == {"/api/resource-00", "/api/resource-03"}
    assert str(run.validity()) == "SUSPECT: synthetic: made up, not measured"
    assert repr(run).endswith("SUSPECT: synthetic: made up, not measured>")
    assert run.summary(window="steady").attrs["validity"] == str(run.validity())
    run.remove_window("steady")
    assert run.windows().loc["steady", "start_s"] == 10.0


def test_windows_and_validity_over_rest(store, api, made):
    run = testing.keep(store, made)
    whole, steady = (api.get(f"/v1/runs/{run.id}/summary", **query).json() for query in ({}, {"window": "steady"}))
    assert [whole["window"], steady["window"]] == ["whole", "steady"]
    assert [(w["name"], w["startS"], w.get("endS")) for w in steady["windows"]] == [
        ("ramp", 0, 10), ("steady", 10, 56), ("drain", 56, None),
    ]  # fmt: skip
    assert steady["validity"] == {"level": "SUSPECT", "reasons": ["synthetic: made up, not measured"]}
    inside = made.raw[(made.raw.seq >= 10) & (made.raw.seq < 56)]
    assert (whole["totalRequests"], steady["totalRequests"]) == (len(made.raw), len(inside))
    assert steady["intervals"] == 46
    for path in ("graph", "metrics/timeseries", "metrics/scatter", "metrics/aggregate", "requests"):
        by_name = api.get(f"/v1/runs/{run.id}/{path}", window="steady")
        assert by_name.status_code == 200, by_name.text
        assert by_name.json() == api.get(f"/v1/runs/{run.id}/{path}", **{"from": 10, "to": 56}).json(), path
        wrong = api.get(f"/v1/runs/{run.id}/{path}", window="noon")
        assert wrong.status_code == 400
        assert "window must be one of whole, ramp, steady, drain; not 'noon'" in wrong.text
    one = api.get(f"/v1/runs/{run.id}/summary", window="steady", endpoint="GET /api/resource-01").json()
    assert one["totalRequests"] == (inside.endpoint == 1).sum()
    both = api.get(f"/v1/runs/{run.id}/summary", window="steady", **{"from": 1})
    assert both.status_code == 400
    custom = api.get(f"/v1/runs/{run.id}/summary", **{"from": 10, "to": 56}).json()
    assert custom["window"] == "custom"
    assert custom["percentiles"] == steady["percentiles"]


def test_windows_are_set_over_rest(store, api, made):
    run = testing.keep(store, made)
    etag = api.get(f"/v1/runs/{run.id}").headers["ETag"]
    body = {"windows": [{"name": "steady", "startS": 20, "endS": 40, "found": True}]}
    changed = api.patch(f"/v1/runs/{run.id}", body, **{"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert changed.json()["windows"] == [{"name": "steady", "startS": 20, "endS": 40, "found": False}]
    assert api.patch(f"/v1/runs/{run.id}", body, **{"If-Match": etag}).status_code == 412
    assert api.get(f"/v1/runs/{run.id}/summary", window="steady").json()["intervals"] == 20
    twice = {"windows": [{"name": "a", "startS": 1}, {"name": "a", "startS": 2}]}
    for wrong in (twice, {"windows": [{"name": "whole"}]}, {"windows": [{"name": "a", "startS": 5, "endS": 5}]}):
        refused = api.patch(f"/v1/runs/{run.id}", wrong)
        assert 400 <= refused.status_code < 423, refused.text
    assert api.patch(f"/v1/runs/{run.id}", {"windows": []}).json()["windows"] == []
    with pytest.raises(PreconditionFailed):
        Catalogue(store).update_run(run.id, by="ann", if_match=etag + "x", windows=())
    assert store.runs.get(run.id).updated_at <= now_ms()
