"""What must not get in: each row answers with its status, a problem document, and no trace in MongoDB."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import requests

from loadbench.agent import wire
from loadbench.agent.histogram import pack
from loadbench.model import LoadTestRun
from loadbench.store import Store
from server.app import BODY_TIMEOUT_S, IDLE_TIMEOUT_S, Receiver
from tests.api_client import Agent, body_of, get, raw, route, status_of
from tests.builders import a_run, an_interval_push
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

METRICS = route(wire.METRICS)


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    with Receiver(store) as receiver:
        yield receiver


@pytest.fixture
def run(store: Store) -> LoadTestRun:
    return store.runs.add(a_run())


@pytest.fixture
def agent(receiver: Receiver, store: Store, run: LoadTestRun) -> Agent:
    return Agent(receiver.url, store.tokens.create_push(run.id))


def assert_problem(answer: requests.Response, status: int) -> dict[str, Any]:
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(problem) <= {"type", "title", "status", "detail", "field"}
    assert "Traceback" not in answer.text
    assert "\n" not in problem["detail"]
    return problem


def whole(**changes: Any) -> bytes:
    """A right body, with some keys changed."""
    fields = json.loads(body_of(an_interval_push("RUN")))
    return json.dumps(fields | changes).encode()


def nested(depth: int) -> bytes:
    return b'{"version": ' + b"[" * depth + b"]" * depth + b"}"


def replaced(old: bytes, new: bytes) -> bytes:
    body = whole()
    assert old in body
    return body.replace(old, new, 1)


BODIES = {
    "B1 empty": b"",
    "B1 null": b"null",
    "B1 list": b"[]",
    "B1 string": b'"x"',
    "B2 truncated": whole()[:-10],
    "B2 trailing": whole() + b"x",
    "B2 single quotes": whole().replace(b'"', b"'"),
    "B2 comment": b"/* */" + whole(),
    "B3 utf-16": whole().decode().encode("utf-16"),
    "B3 bom": b"\xef\xbb\xbf" + whole(),
    "B4 invalid utf-8": replaced(b"/cart", b"/c\xffrt"),
    "B5 NaN": replaced(b'"durationMs": 1000.0', b'"durationMs": NaN'),
    "B5 Infinity": replaced(b'"durationMs": 1000.0', b'"durationMs": Infinity'),
    "B6 1e999": replaced(b'"durationMs": 1000.0', b'"durationMs": 1e999'),
    "B6 1e999 in a column": whole().replace(b'"sumMs": [60.0', b'"sumMs": [1e999'),
    "B7 2**63": whole(users=2**63),
    "B7 2**63 in a column": whole(bytes=[2**63, 0]),
    "B8 5000 digits": replaced(b'"users": 2', b'"users": ' + b"9" * 5000),
    "B9 negative": whole(n=[-3, 1]),
    "B9 failures over n": whole(failures=[4, 1]),
    "B9 buckets not n": whole(n=[2, 1]),
    "B9 cum under n": whole(cumRequests=1),
    "B9 column too short": whole(n=[3]),
    "B9 negative time": whole(sumMs=[-1.0, 0.0]),
    "B10 true": whole(users=True),
    "B10 text": whole(users="5"),
    "B10 float": whole(users=5.5),
    "B11 unknown field": whole(surprise=1),
    "B13 lone surrogate": replaced(b"/cart", b"/\\ud800"),
    "B14 NUL": replaced(b"/cart", b"/\\u0000"),
    "B14 newline": replaced(b"/cart", b"/a\\nb"),
    "B15 $where": whole(**{"$where": "1"}),
    "B15 a.b": whole(**{"a.b": 1}),
    "B15 empty key": whole(**{"": 1}),
    "B15 operator for a value": whole(source={"$gt": ""}),
    "B15 histograms by key": whole(histograms={"$inc": {"a.b": 1}}),
    "B16 nesting 2000": nested(2000),
    "B16 nesting 100000": nested(100_000),
    "B17 name of 10 000": replaced(b"/cart", b"/" * 10_000),
    "B17 2001 rows": whole(endpoints=[{"method": "GET", "name": f"/{i}"} for i in range(2001)]),
    "B28 seq -1": whole(seq=-1),
    "B30 run id ../x": whole(runId="../x"),
    "B30 run id of 300": whole(runId="r" * 300),
    "B30 run id in other digits": whole(runId="run-١٢"),
    "B30 source with colon": whole(source="a:b"),
    "B31 zero": whole(timestamp=0),
    "B31 seconds": whole(timestamp=1_795_000_000),
    "B31 year 9999": whole(timestamp=253_370_764_800_000),
    "version 2": whole(version=2),
    "histograms not base64": whole(histograms="!!"),
    "histograms not packed": whole(histograms=base64.b64encode(b"\x09" * 40).decode()),
    "histograms of huge number": whole(histograms=base64.b64encode(b"\x01\0\0\0\xff\xff\xff\xff").decode()),
    "bucket out of range": whole(histograms=base64.b64encode(pack(({30_000: 3}, {}, {}, {1: 1}))).decode()),
    "duration 0": whole(durationMs=0),
    "duration of nothing": whole(durationMs=5e-324),
    "sums that overflow": whole(sumMs=[1e308, 1e308]),
    "error of no row": whole(errors=[[9, "x", 1]]),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_that_are_refused(agent: Agent, store: Store, run: LoadTestRun, body: bytes) -> None:
    problem = assert_problem(agent.send(wire.METRICS, body.replace(b"RUN", run.id.encode())), 400)
    assert len(problem["detail"]) < 400
    assert store.ledger.documents(run.id) == []


def test_the_field_that_is_wrong_is_named(agent: Agent, run: LoadTestRun) -> None:
    problem = assert_problem(agent.push_body(run.id, timestamp=1_795_000_000), 400)
    assert problem["field"] == "timestamp"
    assert "looks like seconds" in problem["detail"]


@pytest.mark.parametrize("verb", [wire.TEST_START, wire.TEST_STOP, wire.HEARTBEAT])
@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"runId": NaN}', nested(100_000)])
def test_the_other_routes_refuse_too(agent: Agent, verb: str, body: bytes) -> None:
    assert_problem(agent.send(verb, body), 400)


def test_of_a_key_given_twice_the_last_one_holds(agent: Agent, store: Store, run: LoadTestRun) -> None:
    body = whole(runId=run.id).replace(b'"users": 2', b'"users": 2, "users": 7')
    assert agent.send(wire.METRICS, body).status_code == 201
    assert store.ledger.documents(run.id)[0]["users"] == 7


NAMES = ["<img src=x onerror=alert(1)>", "/\u202egpj.exe", "$where", "a.b", "=cmd()", "/café/日本語/🛒"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_only_values(agent: Agent, store: Store, run: LoadTestRun, name: str) -> None:
    endpoints = [{"method": "GET", "name": "/"}, {"method": "POST", "name": name}]
    assert agent.push_body(run.id, endpoints=endpoints, errors=[[1, f"{name}\x00", 1]]).status_code == 201
    assert store.runs.get(run.id).endpoints[1].name == name
    assert store.ledger.documents(run.id)[0]["errors"][0]["message"] == f"{name}\x00"


def test_a_jump_of_seq_is_stored_and_shows_as_a_gap(agent: Agent, store: Store, run: LoadTestRun) -> None:
    assert agent.push(run.id, 0).status_code == 201
    assert agent.push(run.id, 1_000_000).status_code == 201
    assert agent.stop(run.id, 1_000_001).json() == {"status": "Finished"}
    over = store.runs.get(run.id)
    assert (over.completeness, over.gaps[0].from_seq, over.gaps[0].to_seq) == ("gaps", 1, 999_999)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer lbp_wrong",
        "Bearer tok\xe9n",
        "Bearer " + "x" * 10_000,
        "Basic dXNlcjpwYXNz",
        "Token {token}",
        "{token}",
        "Bearer {token} {token}",
        "Bearer {token}, Bearer {token}",
    ],
)
def test_tokens_that_are_none(agent: Agent, store: Store, run: LoadTestRun, header: str | None) -> None:
    header = header.replace("{token}", agent.token) if header else header
    answer = agent.send(wire.METRICS, an_interval_push(run.id), Authorization=header)
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert store.ledger.documents(run.id) == []


def test_a_revoked_token_is_refused_within_seconds(
    agent: Agent, store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.base.TOKEN_TTL_S", 0.2)
    assert agent.push(run.id, 0).status_code == 201
    store.tokens.revoke(run.id)
    wait_until(lambda: agent.push(run.id, 1).status_code == 401, within_s=3, message="the token is refused")


def test_another_run_and_no_run_look_the_same(agent: Agent, store: Store) -> None:
    other = store.runs.add(a_run())
    for send in (agent.push, agent.stop):
        answers = [send(other.id, 0), send("run-0000000000000000", 0)]
        assert answers[0].content == answers[1].content
        assert_problem(answers[0], 404)
    store.database["load_test_runs"].delete_many({})
    own = agent.push(store.tokens.run_of(agent.token), 0)
    assert own.content == answers[0].content


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 201),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "identity"}, 201),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Host": "localhost:{port}"}, 201),
        ({"Host": "LOCALHOST:{port}"}, 201),
        ({"Host": "[::1]:{port}"}, 201),
    ],
)
def test_heads(agent: Agent, receiver: Receiver, run: LoadTestRun, headers: dict[str, str | None], status: int) -> None:
    headers = {name: value and value.replace("{port}", str(receiver.port)) for name, value in headers.items()}
    answer = agent.send(wire.METRICS, an_interval_push(run.id), **headers)
    assert answer.status_code == status
    if status != 201:
        assert_problem(answer, status)


def test_hosts_that_are_allowed(store: Store, run: LoadTestRun) -> None:
    with Receiver(store, allowed_hosts=("Perf.Example", "proxy.example:8443")) as receiver:
        hosts = ["perf.example", f"perf.example:{receiver.port}", "proxy.example:8443", "proxy.example", "evil.example"]
        answers = [get(f"{receiver.url}/healthz", Host=host).status_code for host in hosts]
    assert answers == [200, 200, 200, 421, 421]


def test_all_addresses_answer_to_the_address_that_was_called(store: Store) -> None:
    with Receiver(store, host="0.0.0.0") as receiver:
        hosts = [f"127.0.0.1:{receiver.port}", f"localhost:{receiver.port}", f"192.0.2.7:{receiver.port}"]
        assert [get(f"{receiver.url}/healthz", Host=host).status_code for host in hosts] == [200, 200, 421]
        assert get(f"http://127.0.0.2:{receiver.port}/healthz").status_code == 200


@pytest.mark.parametrize("size", [wire.MAX_BODY_BYTES + 1, 2_000_000, 6_000_000])
def test_a_body_that_is_too_large(agent: Agent, size: int) -> None:
    if size < 4 * wire.MAX_BODY_BYTES:
        assert_problem(agent.send(wire.METRICS, b" " * size), 413)
    else:  # too large to be read to its end: answered at once
        assert status_of(raw(_port(agent), _head(agent, f"Content-Length: {size}"))) == 413
    expects = _head(agent, f"Content-Length: {size}", "Expect: 100-continue")
    assert status_of(raw(_port(agent), expects)) == 413


def test_a_body_at_the_limit_is_read(agent: Agent, run: LoadTestRun) -> None:
    body = whole(runId=run.id)
    assert agent.send(wire.METRICS, body + b" " * (wire.MAX_BODY_BYTES - len(body))).status_code == 201


def test_a_chunked_body_that_is_too_large(agent: Agent, run: LoadTestRun) -> None:
    assert _chunked(agent, [whole(runId=run.id)]) == 201
    assert _chunked(agent, [b" " * 65_536] * 32) == 413
    memory = psutil.Process().memory_info().rss
    assert _chunked(agent, [b" " * 65_536] * 800) in (0, 400, 413)
    assert psutil.Process().memory_info().rss - memory < 10_000_000


def test_a_gzip_bomb_is_not_unpacked(agent: Agent) -> None:
    memory = psutil.Process().memory_info().rss
    bomb = gzip.compress(bytes(50_000_000))
    assert_problem(agent.send(wire.METRICS, bomb, **{"Content-Encoding": "gzip"}), 415)
    assert psutil.Process().memory_info().rss - memory < 10_000_000


def _port(agent: Agent) -> int:
    return int(agent.url.rpartition(":")[2])


def _head(agent: Agent, *lines: str, host: str | None = "{url}") -> bytes:
    head = [f"POST {METRICS} HTTP/1.1", "Content-Type: application/json", f"Authorization: Bearer {agent.token}"]
    if host is not None:
        head.append(f"Host: {host.replace('{url}', agent.url.removeprefix('http://'))}")
    return "\r\n".join([*head, *lines, "", ""]).encode()


def _chunked(agent: Agent, chunks: list[bytes]) -> int:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return status_of(raw(_port(agent), _head(agent, "Transfer-Encoding: chunked") + body))


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2", "Content-Length: 2"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: -5",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 99999999999999999999",),
    ],
    ids=" & ".join,
)
def test_lengths_that_are_none(agent: Agent, lines: tuple[str, ...]) -> None:
    assert status_of(raw(_port(agent), _head(agent, *lines) + b"{}")) == 400


def test_hosts_missing_and_twice(agent: Agent) -> None:
    assert status_of(raw(_port(agent), _head(agent, "Content-Length: 2", host=None) + b"{}")) == 400
    twice = _head(agent, "Content-Length: 2", "Host: evil.example")
    assert status_of(raw(_port(agent), twice + b"{}")) == 400


@pytest.mark.parametrize("slow", ["head", "body"])
def test_slow_clients_are_cut_off(store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    assert max(BODY_TIMEOUT_S, IDLE_TIMEOUT_S) <= 10
    monkeypatch.setattr("server.app.BODY_TIMEOUT_S", 0.5)
    monkeypatch.setattr("server.app.IDLE_TIMEOUT_S", 0.5)
    with Receiver(store) as receiver:
        agent = Agent(receiver.url, store.tokens.create_push(run.id))
        head = _head(agent, "Content-Length: 5000")
        started = time.monotonic()
        assert status_of(raw(receiver.port, head[:60] if slow == "head" else head + b"{")) == 0
        assert 0.4 < time.monotonic() - started < 3
        wait_until(lambda: receiver.meters.in_flight == 0, within_s=2, message="its place is free again")
        assert agent.push(run.id, 0).status_code == 201


def test_300_idle_connections(agent: Agent, run: LoadTestRun) -> None:
    def median_s(first: int) -> float:
        answers = [agent.push(run.id, seq) for seq in range(first, first + 30)]
        assert {answer.status_code for answer in answers} == {201}
        return statistics.median(answer.elapsed.total_seconds() for answer in answers)

    alone = median_s(0)
    memory = psutil.Process().memory_info().rss
    with ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", _port(agent)), timeout=5))
            if number % 2:
                connection.sendall(b"POST / HTTP/1.1\r\n")
        crowded = median_s(100)
    assert crowded < max(0.05, 3 * alone)
    assert psutil.Process().memory_info().rss - memory < 64_000_000


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "FOO"])
def test_methods_that_a_push_route_does_not_have(agent: Agent, method: str) -> None:
    answer = requests.request(method, agent.url + METRICS, timeout=5)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert_problem(answer, 405)


@pytest.mark.parametrize("path", ["/v1", METRICS + "/", METRICS + "/../../x", "/%00", "/%ff", "/v1/internal"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_paths_that_are_none(agent: Agent, path: str, method: str) -> None:
    answer = requests.request(method, agent.url + path, data=b"{}" if method != "GET" else None, timeout=5)
    assert_problem(answer, 404)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_the_other_paths_are_read_only(agent: Agent, path: str) -> None:
    assert get(agent.url + path).status_code == 200
    answer = requests.post(agent.url + path, json={}, timeout=5)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_a_fault_of_the_server_shows_no_inside(
    agent: Agent, store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.ledger, "append", lambda interval: 1 / 0)
    problem = assert_problem(agent.push(run.id, 0), 500)
    assert problem["type"] == "internal"
    assert "division" not in problem["detail"]
