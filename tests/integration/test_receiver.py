"""The receiver over real HTTP on a real store: what agents push, and how often."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from loadbench.agent import wire
from loadbench.agent.histogram import ALPHA
from loadbench.errors import ReceiverError
from loadbench.messages import TestStop
from loadbench.model import Endpoint, LoadTestRun, RunStatus, SourceState, now_ms
from loadbench.model.interval import column
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from server.app import __doc__ as receiver_page
from server.base import MAX_IN_FLIGHT
from server.ingest import MAX_SOURCES
from tests.api_client import ENVIRONMENT, Agent, a_test_stop, body_of, get
from tests.builders import CART, HOME_PAGE, SOURCE, START_MS, a_run, a_test, an_interval, an_interval_push
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    with Receiver(store) as receiver:
        yield receiver
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("loadbench-receiver")]


@pytest.fixture
def run(store: Store) -> LoadTestRun:
    return store.runs.add(a_run(store.load_tests.add(a_test())))


@pytest.fixture
def agent(receiver: Receiver, store: Store, run: LoadTestRun) -> Agent:
    return Agent(receiver.url, store.tokens.create_push(run.id))


def test_a_run_from_start_to_finish(agent: Agent, store: Store, run: LoadTestRun) -> None:
    answers = [agent.start(run.id), agent.push(run.id, 0), agent.push(run.id, 1), agent.heartbeat(run.id)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (201, {"status": "Running"}),
        (201, {"status": "Running"}),
        (201, {"status": "Running"}),
        (200, {"status": "Running"}),
    ]
    running = store.runs.get(run.id)
    assert (running.started_at, running.environment) == (START_MS, ENVIRONMENT)
    assert 20_000 < running.lease_expires_at - now_ms() <= 30_000
    assert (running.last_metrics.cum_requests, running.last_metrics.total_rps) == (8, 4.0)
    stopped = agent.stop(run.id, 2)
    assert (stopped.status_code, stopped.json()) == (201, {"status": "Finished"})
    over = store.runs.get(run.id)
    assert (over.status, over.stop_reason, over.completeness) == (RunStatus.FINISHED, "duration", "complete")
    assert over.finished_at == START_MS + 3005
    assert store.load_tests.get(run.load_test_id).recent_runs[0].status is RunStatus.FINISHED


def test_what_is_stored_of_an_interval(agent: Agent, store: Store, run: LoadTestRun) -> None:
    before = now_ms()
    agent.push(run.id, 0, duration_ms=2000.0)
    [document] = store.ledger.documents(run.id)
    figures = {name: document[name] for name in ("requests", "failed", "totalRps", "errorsPerSec", "errorRate")}
    assert figures == {"requests": 4, "failed": 1, "totalRps": 2.0, "errorsPerSec": 0.5, "errorRate": 0.25}
    assert document["_id"] == f"{run.id}:{SOURCE}:0"
    assert document["p50Ms"] == pytest.approx(20, rel=ALPHA)
    assert document["p95Ms"] == pytest.approx(40, rel=ALPHA)
    assert document["errors"] == [{"endpoint": 1, "message": "500 Internal Server Error", "n": 1}]
    assert round(document["timestamp"].timestamp() * 1000) == START_MS + 1000
    assert before <= document["receivedAt"] <= now_ms()
    assert store.runs.get(run.id).endpoints == (HOME_PAGE, CART)


def test_endpoints_keep_their_place(agent: Agent, store: Store, run: LoadTestRun) -> None:
    agent.push(run.id, 0)
    agent.push(run.id, 1, endpoints=(Endpoint(method="GET", name="/new"), HOME_PAGE))
    assert [column(document, "endpoints") for document in store.ledger.documents(run.id)] == [(0, 1), (2, 0)]


def test_a_repeated_interval_counts_once(agent: Agent, store: Store, run: LoadTestRun) -> None:
    push = an_interval_push(run.id)
    spelled_otherwise = json.dumps(dict(sorted(json.loads(body_of(push)).items())), indent=2).encode()
    first = agent.send(wire.METRICS, push)
    again = agent.send(wire.METRICS, push)
    reordered = agent.send(wire.METRICS, spelled_otherwise)
    other = agent.push(run.id, 0, users=3)
    assert [answer.status_code for answer in (first, again, reordered, other)] == [201, 200, 200, 409]
    assert other.json()["type"] == "conflict"
    [document] = store.ledger.documents(run.id)
    assert document["users"] == 2


def test_many_at_once_store_each_interval_once(agent: Agent, store: Store, run: LoadTestRun) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda seq: agent.push(run.id, seq).status_code, [*range(20), *range(20)]))
    assert sorted(statuses) == [200] * 20 + [201] * 20
    assert sorted(document["seq"] for document in store.ledger.documents(run.id)) == list(range(20))


def test_the_first_interval_starts_a_pending_run(agent: Agent, store: Store, run: LoadTestRun) -> None:
    assert agent.push(run.id, 0).json() == {"status": "Running"}
    assert store.runs.get(run.id).started_at == START_MS
    assert agent.start(run.id).status_code == 201
    assert store.runs.get(run.id).environment == ENVIRONMENT
    assert agent.start(run.id).status_code == 200


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("duration", RunStatus.FINISHED),
        ("shape", RunStatus.FINISHED),
        ("script", RunStatus.FINISHED),
        ("user", RunStatus.STOPPED),
        ("gate", RunStatus.STOPPED),
        ("workers-lost", RunStatus.FAILED),
    ],
)
def test_how_a_running_run_ends(agent: Agent, store: Store, run: LoadTestRun, reason: str, status: RunStatus) -> None:
    agent.push(run.id, 0)
    answers = [agent.stop(run.id, 1, reason=reason, workers_lost=2) for _ in range(2)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(201, status), (200, status)]
    over = store.runs.get(run.id)
    assert (over.status, over.stop_reason) == (status, reason)
    assert (over.completeness, over.gaps) == ("gaps", ())  # what the two workers had counted last
    assert (over.workers_lost, bool(over.error)) == (2, status is RunStatus.FAILED)


def test_a_run_asked_to_stop_ends_stopped_and_keeps_why(agent: Agent, store: Store, run: LoadTestRun) -> None:
    agent.push(run.id, 0)
    store.runs.move(run.id, RunStatus.STOPPING, stop_reason="gate")
    assert agent.push(run.id, 1).json() == {"status": "Stopping"}
    assert agent.heartbeat(run.id).json() == {"status": "Stopping"}
    assert agent.stop(run.id, 2, reason="duration").json() == {"status": "Stopped"}
    assert store.runs.get(run.id).stop_reason == "gate"


def test_a_stop_alone_ends_a_pending_run(agent: Agent, store: Store, run: LoadTestRun) -> None:
    assert agent.stop(run.id, 0, error="boom").json() == {"status": "Finished"}
    over = store.runs.get(run.id)
    assert (over.started_at, over.completeness, over.error) == (START_MS, "complete", "boom")


CUTS = {
    "after the interval": lambda store, stop: None,
    "after the source was closed": lambda store, stop: store.runs.close_source(stop.run_id, _state(stop)),
    "between the two moves": lambda store, stop: (
        store.runs.close_source(stop.run_id, _state(stop)),
        store.runs.move(stop.run_id, RunStatus.STOPPING, stop_reason="user"),
    ),
    "after the end": lambda store, stop: (
        store.runs.close_source(stop.run_id, _state(stop)),
        store.runs.move(stop.run_id, RunStatus.STOPPING, stop_reason="user"),
        store.runs.move(stop.run_id, RunStatus.STOPPED, stop_reason="user", finished_at=stop.timestamp),
    ),
}


def _state(stop: TestStop) -> SourceState:
    totals = {"requests": stop.final.cum_requests, "failures": stop.final.cum_failures}
    return SourceState(source=stop.source, last_seq=stop.last_seq, **totals)


@pytest.mark.parametrize("cut", CUTS)
def test_a_stop_cut_off_anywhere_and_repeated_gives_the_same_end(
    agent: Agent, store: Store, run: LoadTestRun, cut: str
) -> None:
    stop = a_test_stop(run.id, 1, reason="user")
    agent.push(run.id, 0)
    agent.send(wire.METRICS, stop.final)  # the part of the work that was done before the crash
    CUTS[cut](store, stop)
    answer = agent.send(wire.TEST_STOP, stop)
    assert (answer.status_code, answer.json()) == (200, {"status": "Stopped"})
    over = store.runs.get(run.id)
    assert (over.stop_reason, over.completeness, over.finished_at) == ("user", "complete", stop.timestamp)
    assert [(state.source, state.last_seq, state.requests) for state in over.sources] == [(SOURCE, 1, 8)]


def test_a_gap_shows_and_a_late_interval_closes_it(agent: Agent, store: Store, run: LoadTestRun) -> None:
    agent.push(run.id, 0)
    agent.stop(run.id, 3)
    over = store.runs.get(run.id)
    assert over.completeness == "gaps"
    assert [(gap.from_seq, gap.to_seq, gap.requests) for gap in over.gaps] == [(1, 2, 8)]
    assert [agent.push(run.id, seq).status_code for seq in (2, 1, 1)] == [201, 201, 200]
    over = store.runs.get(run.id)
    assert (over.completeness, over.gaps) == ("complete", ())


def test_a_run_that_is_over_takes_no_more(agent: Agent, store: Store, run: LoadTestRun) -> None:
    agent.push(run.id, 0)
    agent.stop(run.id, 1)
    late = [agent.push(run.id, 2), agent.push(run.id, 0, source="other"), agent.heartbeat(run.id)]
    assert [(answer.status_code, answer.json()["type"]) for answer in late] == [(409, "run_closed")] * 3
    assert len(store.ledger.documents(run.id)) == 2


def test_a_run_given_up_as_lost_is_completed_by_late_data(agent: Agent, store: Store, run: LoadTestRun) -> None:
    agent.push(run.id, 0)
    store.runs.move(run.id, RunStatus.FAILED, stop_reason="lost", error="its processes are gone")
    assert agent.push(run.id, 1).json() == {"status": "Failed"}
    assert agent.stop(run.id, 2).json() == {"status": "Finished"}
    over = store.runs.get(run.id)
    assert (over.stop_reason, over.completeness, over.error) == ("duration", "complete", None)


def test_a_run_whose_processes_were_killed_takes_what_their_spool_still_holds(
    agent: Agent, store: Store, run: LoadTestRun
) -> None:
    agent.push(run.id, 0)
    store.runs.move(run.id, RunStatus.STOPPING, stop_reason="user")
    store.runs.move(run.id, RunStatus.STOPPED)
    assert agent.push(run.id, 1).status_code == 201
    assert agent.stop(run.id, 2, reason="user").json() == {"status": "Stopped"}
    assert store.runs.get(run.id).completeness == "complete"


def test_workers_lost_and_skew_are_noted(agent: Agent, store: Store, run: LoadTestRun) -> None:
    push = an_interval_push(run.id, workers=1, workers_expected=2)
    agent.send(wire.METRICS, push, **{wire.SENT_AT_HEADER: str(now_ms() - 5000)})
    running = store.runs.get(run.id)
    assert running.workers_lost == 1
    assert 5000 <= running.clock_skew_ms < 7000
    assert agent.send(wire.METRICS, push, **{wire.SENT_AT_HEADER: "soon"}).status_code == 200


def test_too_many_sources(agent: Agent, store: Store, run: LoadTestRun) -> None:
    for number in range(MAX_SOURCES - 1):
        store.ledger.append(an_interval(run.id, source=f"old-{number}"))
    assert agent.push(run.id, 0).status_code == 201
    refused = agent.push(run.id, 0, source="one-more")
    assert (refused.status_code, refused.json()["type"]) == (429, "too_many_sources")
    assert agent.push(run.id, 1).status_code == 201


def test_endpoints_beyond_the_limit_are_folded(agent: Agent, store: Store, run: LoadTestRun) -> None:
    store.runs.endpoint_indices(
        run.id, [Endpoint(method="GET", name=f"/{number}") for number in range(wire.MAX_ROWS - 1)]
    )
    assert agent.push(run.id, 0).status_code == 201
    names = [(endpoint.method, endpoint.name) for endpoint in store.runs.get(run.id).endpoints[wire.MAX_ROWS - 1 :]]
    assert names == [("GET", "/"), ("", wire.OTHER)]
    [document] = store.ledger.documents(run.id)
    assert [column(document, field) for field in ("n", "failures", "minMs")] == [(3, 1), (0, 1), (10.0, 40.0)]
    assert agent.push(run.id, 1, endpoints=(CART, Endpoint(method="GET", name="/more"))).status_code == 201
    document = store.ledger.documents(run.id)[1]
    assert [column(document, field) for field in ("n", "failures", "bytes")] == [(4,), (1,), (320,)]
    assert document["p50Ms"] == pytest.approx(20, rel=ALPHA)


def test_subscribers_hear_of_new_intervals_and_of_the_status(
    receiver: Receiver, agent: Agent, store: Store, run: LoadTestRun, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[dict] = []
    unsubscribe = receiver.subscribe(run.id, heard.append)
    receiver.subscribe(run.id, lambda _: 1 / 0)
    with caplog.at_level(logging.ERROR, "loadbench.receiver"):
        for answer in (agent.push(run.id, 0), agent.push(run.id, 0), agent.push(run.id, 1), agent.stop(run.id, 2)):
            assert answer.status_code < 300
    assert [event.get("seq", event.get("status")) for event in heard] == [0, "Running", 1, 2, "Finished"]
    assert heard[0] == store.ledger.documents(run.id)[0]
    assert "a subscriber failed" in caplog.text
    unsubscribe()
    agent.push(run.id, 1)
    assert len(heard) == 5


def test_more_than_32_in_flight_are_sent_away(
    receiver: Receiver, agent: Agent, store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, append = threading.Event(), store.ledger.append
    monkeypatch.setattr(store.ledger, "append", lambda interval: (go_on.wait(4), append(interval))[1])
    with ThreadPoolExecutor(MAX_IN_FLIGHT + 8) as pool:
        held = [pool.submit(agent.push, run.id, seq) for seq in range(MAX_IN_FLIGHT)]
        wait_until(lambda: f"in_flight {MAX_IN_FLIGHT}" in _health(receiver), within_s=3, message="all in flight")
        refused = agent.push(run.id, 99)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        go_on.set()
        assert {future.result().status_code for future in held} == {201}
    wait_until(lambda: "in_flight 0" in _figures(receiver), within_s=3, message="none in flight")


def _health(receiver: Receiver) -> str:
    return "\n".join(receiver.meters.lines())


def _figures(receiver: Receiver) -> str:
    return get(f"{receiver.url}/metrics").text


def test_figures_of_the_receiver_itself(receiver: Receiver, agent: Agent, run: LoadTestRun) -> None:
    agent.push(run.id, 0), agent.push(run.id, 0), agent.push(run.id, 0, users=9), agent.push("run-x", 0)
    lines = _figures(receiver).splitlines()
    for line in (
        "loadbench_intervals_stored_total 1",
        "loadbench_intervals_duplicate_total 1",
        "loadbench_intervals_conflict_total 1",
        'loadbench_requests_rejected_total{status="404"} 1',
        'loadbench_requests_rejected_total{status="409"} 1',
        "loadbench_ingest_seconds_count 3",
    ):
        assert line in lines
    for line in lines:
        if line.startswith("# TYPE "):
            assert line.split()[2] in receiver_page


def test_a_second_receiver_on_the_same_store_takes_over(
    receiver: Receiver, agent: Agent, store: Store, run: LoadTestRun
) -> None:
    with Receiver(store) as second:
        other = Agent(second.url, agent.token)
        answers = [agent.push(run.id, 0), other.push(run.id, 0), other.push(run.id, 1), agent.stop(run.id, 2)]
        assert [answer.status_code for answer in answers] == [201, 200, 201, 201]
    assert store.runs.get(run.id).completeness == "complete"


def test_start_and_stop_again(receiver: Receiver, agent: Agent, run: LoadTestRun) -> None:
    url = receiver.url
    assert receiver.start() is receiver
    assert repr(receiver) == f"<Receiver {url} listening>"
    receiver.stop()
    receiver.stop()
    assert repr(receiver) == f"<Receiver {url} stopped>"
    assert receiver.start().url == url
    assert agent.push(run.id, 0).status_code == 201


def test_extra_ports_are_bound_where_they_are_free(store: Store, run: LoadTestRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        earlier = free.getsockname()[1]
        free.close()
        with Receiver(store, extra_ports=(taken.getsockname()[1], earlier)) as receiver:
            agent = Agent(f"http://127.0.0.1:{earlier}", store.tokens.create_push(run.id))
            assert earlier != receiver.port
            assert agent.push(run.id, 0).status_code == 201


def test_a_taken_port_names_who_has_it(store: Store) -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            port = int(other.stdout.readline())
            with pytest.raises(ReceiverError) as raised:
                Receiver(store, port=port).start()
        finally:
            other.kill()
    assert str(raised.value).startswith(f"Port {port} is taken by pid {other.pid} (python")
    assert str(raised.value).endswith("): stop it or choose another port")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loadbench-receiver")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "192.0.2.1"}, "192.0.2.1 is not an address of this machine"),
        ({"host": "no.such.host.invalid"}, "Cannot resolve the bind address"),
        ({"port": 70_000}, "Port must be in 0-65535; not 70000"),
    ],
)
def test_a_place_where_nobody_can_listen(store: Store, options: dict, message: str) -> None:
    with pytest.raises(ReceiverError, match=message):
        Receiver(store, **options).start()


@pytest.fixture
def own_mongod(tmp_path: Path) -> Iterator[Mongod]:
    """A mongod that a test may stop."""
    mongod = Mongod(tmp_path / "home")
    mongod.find_or_start()
    try:
        yield mongod
    finally:
        mongod.stop()


def test_mongodb_away_and_back(own_mongod: Mongod) -> None:
    uri = own_mongod.find_or_start()
    with Store.open(uri) as store:
        run = store.runs.add(a_run())
        token = store.tokens.create_push(run.id)
        own_mongod.stop()
        with Receiver(store) as receiver:
            agent = Agent(receiver.url, token)
            assert get(f"{receiver.url}/healthz").status_code == 200
            assert get(f"{receiver.url}/readyz").status_code == 503
            away = agent.push(run.id, 0)
            assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
            assert away.headers["Content-Type"] == "application/problem+json"
            assert away.elapsed.total_seconds() < 5
            assert own_mongod.find_or_start() == uri
            wait_until(lambda: agent.push(run.id, 0).ok, within_s=5, message="the receiver recovers alone")
            assert get(f"{receiver.url}/readyz").status_code == 200


def test_mongodb_paused(own_mongod: Mongod) -> None:
    with Store.open(own_mongod.find_or_start()) as store, Receiver(store) as receiver:
        run = store.runs.add(a_run())
        agent = Agent(receiver.url, store.tokens.create_push(run.id))
        assert agent.push(run.id, 0).status_code == 201
        process = psutil.Process(own_mongod.status().pid)
        process.suspend()
        try:
            with ThreadPoolExecutor(12) as pool:
                answers = list(pool.map(lambda seq: agent.push(run.id, seq), range(1, 13)))
        finally:
            process.resume()
        assert {answer.status_code for answer in answers} == {503}
        assert max(answer.elapsed.total_seconds() for answer in answers) < 5.2
        for seq in range(1, 13):
            wait_until(lambda seq=seq: agent.push(run.id, seq).ok, within_s=10, message=f"{seq} is stored")
        assert agent.stop(run.id, 13).json() == {"status": "Finished"}
        assert store.runs.get(run.id).completeness == "complete"
