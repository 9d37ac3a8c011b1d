"""What must not get in: each row answers with its status, a problem document, and no trace in MongoDB.

A case is named after its row of the table of bad input, B01 to B32; `test_bad_input_table` sees that none is missing.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import requests

from loadbench.agent import wire
from loadbench.agent.histogram import pack
from loadbench.model import LoadTestRun
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import BODY_TIMEOUT_S, IDLE_TIMEOUT_S, Receiver
from tests.api_client import Agent, a_heartbeat, a_test_start, a_test_stop, body_of, get, raw, route, status_of
from tests.builders import a_run, an_interval_push
from tests.stored import contents
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

METRICS = route(wire.METRICS)


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    with Receiver(store) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def lasting(mongod: Mongod) -> Iterator[tuple[Agent, Store, LoadTestRun]]:
    """A receiver for all requests that are refused: they leave nothing behind."""
    with Store.open(mongod.find_or_start().replace("/loadbench?", "/test_receiver_bad_input?")) as store:
        run = store.runs.add(a_run())
        with Receiver(store) as receiver:
            yield Agent(receiver.url, store.tokens.create_push(run.id)), store, run
        store.database.client.drop_database(store.database.name)


@pytest.fixture
def refusing(lasting: tuple[Agent, Store, LoadTestRun]) -> Iterator[tuple[Agent, LoadTestRun]]:
    agent, store, run = lasting
    before = contents(store)
    yield agent, run
    assert contents(store) == before


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
    "B01-empty": b"",
    "B01-null": b"null",
    "B01-list": b"[]",
    "B01-string": b'"x"',
    "B02-truncated": whole()[:-10],
    "B02-trailing": whole() + b"x",
    "B02-single-quotes": whole().replace(b'"', b"'"),
    "B02-comment": b"/* */" + whole(),
    "B03-utf-16": whole().decode().encode("utf-16"),
    "B03-utf-16-without-mark": whole().decode().encode("utf-16-le"),
    "B03-utf-32": whole().decode().encode("utf-32"),
    "B03-bom": b"\xef\xbb\xbf" + whole(),
    "B04-invalid-utf-8": replaced(b"/cart", b"/c\xffrt"),
    "B05-nan": replaced(b'"durationMs": 1000.0', b'"durationMs": NaN'),
    "B05-infinity": replaced(b'"durationMs": 1000.0', b'"durationMs": Infinity'),
    "B05-minus-infinity": replaced(b'"durationMs": 1000.0', b'"durationMs": -Infinity'),
    "B05-nan-in-a-column": replaced(b'"sumMs": [60.0', b'"sumMs": [NaN'),
    "B06-1e999": replaced(b'"durationMs": 1000.0', b'"durationMs": 1e999'),
    "B06-1e999-in-a-column": whole().replace(b'"sumMs": [60.0', b'"sumMs": [1e999'),
    "B07-2**63-for-seq": whole(seq=2**63),
    "B07-2**63-in-total": whole(cumRequests=2**63),
    "B07-2**63": whole(users=2**63),
    "B07-2**63-in-a-column": whole(bytes=[2**63, 0]),
    "B08-5000-digits": replaced(b'"users": 2', b'"users": ' + b"9" * 5000),
    "B09-negative": whole(n=[-3, 1]),
    "B09-failures-over-n": whole(failures=[4, 1]),
    "B09-buckets-not-n": whole(n=[2, 1]),
    "B09-cum-under-n": whole(cumRequests=1),
    "B09-column-too-short": whole(n=[3]),
    "B09-negative-time": whole(sumMs=[-1.0, 0.0]),
    "B10-true": whole(users=True),
    "B10-true-version": whole(version=True),
    "B10-true-in-a-column": whole(n=[3, True]),
    "B10-text": whole(users="5"),
    "B10-float": whole(users=5.5),
    "B11-unknown-field": whole(surprise=1),
    "B13-lone-surrogate": replaced(b"/cart", b"/\\ud800"),
    "B13-lone-surrogate-in-a-key": replaced(b'"users": 2', b'"users": 2, "\\udc00": 1'),
    "B14-nul-in-a-key": replaced(b'"users": 2', b'"users": 2, "a\\u0000": 1'),
    "B14-nul": replaced(b"/cart", b"/\\u0000"),
    "B14-newline": replaced(b"/cart", b"/a\\nb"),
    "B15-$where": whole(**{"$where": "1"}),
    "B15-a.b": whole(**{"a.b": 1}),
    "B15-empty-key": whole(**{"": 1}),
    "B15-operator-for-a-value": whole(source={"$gt": ""}),
    "B15-histograms-by-key": whole(histograms={"$inc": {"a.b": 1}}),
    "B16-nesting-2000": nested(2000),
    "B16-nesting-100000": nested(100_000),
    "B17-name-of-10-000": replaced(b"/cart", b"/" * 10_000),
    "B17-name-of-257": replaced(b"/cart", b"/" * 257),
    "B17-2001-rows": whole(endpoints=[{"method": "GET", "name": f"/{i}"} for i in range(2001)]),
    "B28-seq--1": whole(seq=-1),
    "B30-run-id-../x": whole(runId="../x"),
    "B30-run-id-of-300": whole(runId="r" * 300),
    "B30-run-id-in-other-digits": whole(runId="run-١٢"),
    "B30-source-with-colon": whole(source="a:b"),
    "B31-zero": whole(timestamp=0),
    "B31-seconds": whole(timestamp=1_795_000_000),
    "B31-year-1970": whole(timestamp=86_400_000),
    "B31-year-9999": whole(timestamp=253_370_764_800_000),
    "version-2": whole(version=2),
    "B09-histograms-not-base64": whole(histograms="!!"),
    "B09-histograms-not-packed": whole(histograms=base64.b64encode(b"\x09" * 40).decode()),
    "B09-histograms-of-huge-number": whole(histograms=base64.b64encode(b"\x01\0\0\0\xff\xff\xff\xff").decode()),
    "B09-bucket-out-of-range": whole(histograms=base64.b64encode(pack(({30_000: 3}, {}, {}, {1: 1}))).decode()),
    "duration-0": whole(durationMs=0),
    "duration-of-nothing": whole(durationMs=5e-324),
    "sums-that-overflow": whole(sumMs=[1e308, 1e308]),
    "B09-error-of-no-row": whole(errors=[[9, "x", 1]]),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_that_are_refused(refusing: tuple[Agent, LoadTestRun], body: bytes) -> None:
    agent, run = refusing
    problem = assert_problem(agent.send(wire.METRICS, body.replace(b"RUN", run.id.encode())), 400)
    assert len(problem["detail"]) < 400


@pytest.mark.parametrize("verb", [wire.METRICS, wire.TEST_START, wire.TEST_STOP, wire.HEARTBEAT])
def test_a_body_of_which_nothing_was_changed_is_taken(agent: Agent, run: LoadTestRun, verb: str) -> None:
    """Without this, a row might be refused for another reason than its own."""
    assert agent.send(verb, RIGHT[verb](run.id)).status_code in (200, 201)


def test_b31_the_field_that_is_wrong_is_named(agent: Agent, run: LoadTestRun) -> None:
    problem = assert_problem(agent.push_body(run.id, timestamp=1_795_000_000), 400)
    assert problem["field"] == "timestamp"
    assert "looks like seconds" in problem["detail"]


RIGHT = {
    wire.METRICS: lambda run_id: whole(runId=run_id),
    wire.TEST_START: lambda run_id: body_of(a_test_start(an_interval_push(run_id))),
    wire.TEST_STOP: lambda run_id: body_of(a_test_stop(run_id, 0)),
    wire.HEARTBEAT: lambda run_id: body_of(a_heartbeat(run_id)),
}
OTHERS = {
    "B01-empty": lambda body: b"",
    "B01-null": lambda body: b"null",
    "B01-list": lambda body: b"[]",
    "B02-truncated": lambda body: body[:-1],
    "B02-trailing": lambda body: body + b"x",
    "B02-single-quotes": lambda body: body.replace(b'"', b"'"),
    "B02-comment": lambda body: b"/* */" + body,
    "B03-utf-16": lambda body: body.decode().encode("utf-16"),
    "B03-bom": lambda body: b"\xef\xbb\xbf" + body,
    "B04-invalid-utf-8": lambda body: body.replace(b'"source":"', b'"source":"\xff'),
    "B05-nan": lambda body: body.replace(b'"version":1', b'"version":NaN'),
    "B06-1e999": lambda body: body.replace(b'"version":1', b'"version":1e999'),
    "B07-2**63": lambda body: body.replace(b'"timestamp":', b'"timestamp":9223372036854775808,"t":'),
    "B08-5000-digits": lambda body: body.replace(b'"timestamp":', b'"timestamp":' + b"9" * 5000),
    "B10-text": lambda body: body.replace(b'"version":1', b'"version":"1"'),
    "B10-true": lambda body: body.replace(b'"timestamp":1795000000000', b'"timestamp":true'),
    "B11-unknown-field": lambda body: body.replace(b'"version":1', b'"version":1,"surprise":1'),
    "B13-lone-surrogate": lambda body: body.replace(b'"source":"', b'"source":"\\ud800'),
    "B14-nul": lambda body: body.replace(b'"source":"', b'"source":"\\u0000'),
    "B15-operator": lambda body: body.replace(b'"version":1', b'"version":1,"$where":"1"'),
    "B16-nesting-100000": lambda body: nested(100_000),
    "B30-run-id-../x": lambda body: body.replace(b'"runId":"run-', b'"runId":"../'),
    "B31-seconds": lambda body: body.replace(b'"timestamp":1795000000000', b'"timestamp":1795000000'),
}


@pytest.mark.parametrize("verb", [wire.TEST_START, wire.TEST_STOP, wire.HEARTBEAT])
@pytest.mark.parametrize("spoil", OTHERS.values(), ids=OTHERS)
def test_the_other_routes_refuse_too(
    refusing: tuple[Agent, LoadTestRun], verb: str, spoil: Callable[[bytes], bytes]
) -> None:
    agent, run = refusing
    right = RIGHT[verb](run.id).replace(b"1795000001000", b"1795000000000")
    assert spoil(right) != right
    assert_problem(agent.send(verb, spoil(right)), 400)


def test_b12_of_a_key_given_twice_the_last_one_holds(agent: Agent, store: Store, run: LoadTestRun) -> None:
    body = whole(runId=run.id).replace(b'"users": 2', b'"users": 2, "users": 7')
    assert agent.send(wire.METRICS, body).status_code == 201
    assert store.ledger.documents(run.id)[0]["users"] == 7


NAMES = {
    "html": "<img src=x onerror=alert(1)>",
    "rtl": "/\u202egpj.exe",
    "operator": "$where",
    "path": "a.b",
    "formula": "=cmd()",
    "unicode": "/café/日本語/🛒",
    "256-characters": "/" * 256,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_b18_names_are_only_values(agent: Agent, store: Store, run: LoadTestRun, name: str) -> None:
    endpoints = [{"method": "GET", "name": "/"}, {"method": "POST", "name": name}]
    assert agent.push_body(run.id, endpoints=endpoints, errors=[[1, f"{name}\x00", 1]]).status_code == 201
    assert store.runs.get(run.id).endpoints[1].name == name
    assert store.ledger.documents(run.id)[0]["errors"][0]["message"] == f"{name}\x00"


def test_b18_a_name_cannot_colour_a_terminal(agent: Agent, store: Store, run: LoadTestRun) -> None:
    endpoints = [{"method": "GET", "name": "/"}, {"method": "POST", "name": "/\x1b[31mred\x1b[0m"}]
    assert agent.push_body(run.id, endpoints=endpoints).status_code == 201
    assert store.runs.get(run.id).endpoints[1].name == "/ [31mred [0m"


def test_b28_a_jump_of_seq_is_stored_and_shows_as_a_gap(agent: Agent, store: Store, run: LoadTestRun) -> None:
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
def test_b26_tokens_that_are_none(refusing: tuple[Agent, LoadTestRun], header: str | None) -> None:
    agent, run = refusing
    header = header.replace("{token}", agent.token) if header else header
    answer = agent.send(wire.METRICS, an_interval_push(run.id), Authorization=header)
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_b26_the_work_for_a_token_is_the_same_whatever_is_wrong_with_it(
    receiver: Receiver, agent: Agent, store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is hashed and looked up once, as 43 characters or fewer; none is told from another by what is done."""
    looked_up: list[str] = []
    find = store.tokens.run_of
    monkeypatch.setattr(receiver._store.tokens, "run_of", lambda token: looked_up.append(token) or find(token))
    with Receiver(store) as counted:
        for header in ("", "Bearer", "Bearer " + "w" * 43, "Bearer tok\xe9n", "Bearer " + "x" * 10_000, "Basic YTpi"):
            looked_up.clear()
            sent = Agent(counted.url, agent.token).send(wire.METRICS, an_interval_push(run.id), Authorization=header)
            assert (sent.status_code, [len(token) for token in looked_up]) == (401, [43]), header[:20]


def test_b26_a_token_of_another_run_is_none(agent: Agent, store: Store) -> None:
    other = store.runs.add(a_run())
    before = contents(store)
    for send in (agent.push, agent.stop):
        answer = send(other.id, 0)
        assert_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert contents(store) == before


def test_b26_a_revoked_token_is_refused_within_seconds(
    agent: Agent, store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.base.TOKEN_TTL_S", 0.2)
    assert agent.push(run.id, 0).status_code == 201
    store.tokens.revoke(run.id)
    wait_until(lambda: agent.push(run.id, 1).status_code == 401, within_s=3, message="the token is refused")


@pytest.mark.parametrize("part", ["account_id", "org_id", "project_id"])
def test_b27_a_run_of_another_tenant_and_no_run_look_the_same(agent: Agent, store: Store, part: str) -> None:
    other = store.runs.add(a_run(**{part: "others"}))
    before = contents(store)
    for send in (agent.push, agent.stop):
        answers = [send(other.id, 0), send("run-0000000000000000", 0)]
        assert answers[0].content == answers[1].content
        assert_problem(answers[0], 404)
        assert dict(answers[0].headers) | {"Date": ""} == dict(answers[1].headers) | {"Date": ""}
    assert contents(store) == before
    store.database["load_test_runs"].delete_many({})
    own = agent.push(store.tokens.run_of(agent.token), 0)
    assert own.content == answers[0].content


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": "http://127.0.0.1"}, 403, id="B25-origin"),
        pytest.param({"Origin": "http://127.0.0.1:{port}"}, 403, id="B25-own-origin"),
        pytest.param({"Origin": "null"}, 403, id="B25-origin-null"),
        pytest.param({"Content-Type": "text/plain"}, 415, id="B25-text"),
        pytest.param({"Content-Type": None}, 415, id="B25-no-type"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, 415, id="B25-form"),
        pytest.param({"Content-Encoding": "gzip"}, 400, id="B20-gzip"),
        pytest.param({"Host": "evil.example"}, 421, id="B24-evil"),
        pytest.param({"Host": "127.0.0.1"}, 421, id="B24-no-port"),
        pytest.param({"Host": "127.0.0.1:1"}, 421, id="B24-other-port"),
        pytest.param({"Host": "127.0.0.1.evil.example:{port}"}, 421, id="B24-begins-like-ours"),
    ],
)
def test_heads_that_are_refused(
    refusing: tuple[Agent, LoadTestRun], headers: dict[str, str | None], status: int
) -> None:
    agent, run = refusing
    assert_problem(agent.send(wire.METRICS, an_interval_push(run.id), **_of(agent, headers)), status)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "application/json; charset=utf-8"}, id="B25-json"),
        pytest.param({"Content-Encoding": "identity"}, id="B20-identity"),
        pytest.param({"Host": "localhost:{port}"}, id="B24-localhost"),
        pytest.param({"Host": "LOCALHOST:{port}"}, id="B24-capitals"),
        pytest.param({"Host": "[::1]:{port}"}, id="B24-ipv6"),
    ],
)
def test_heads_that_are_taken(agent: Agent, run: LoadTestRun, headers: dict[str, str]) -> None:
    assert agent.send(wire.METRICS, an_interval_push(run.id), **_of(agent, headers)).status_code == 201


def _of(agent: Agent, headers: dict[str, str | None]) -> dict[str, str | None]:
    return {name: value and value.replace("{port}", str(_port(agent))) for name, value in headers.items()}


def test_b24_hosts_that_are_allowed(store: Store, run: LoadTestRun) -> None:
    with Receiver(store, allowed_hosts=("Perf.Example", "proxy.example:8443")) as receiver:
        hosts = ["perf.example", f"perf.example:{receiver.port}", "proxy.example:8443", "proxy.example", "evil.example"]
        answers = [get(f"{receiver.url}/healthz", Host=host).status_code for host in hosts]
    assert answers == [200, 200, 200, 421, 421]


def test_b24_all_addresses_answer_to_the_address_that_was_called(store: Store) -> None:
    with Receiver(store, host="0.0.0.0") as receiver:
        hosts = [f"127.0.0.1:{receiver.port}", f"localhost:{receiver.port}", f"192.0.2.7:{receiver.port}"]
        assert [get(f"{receiver.url}/healthz", Host=host).status_code for host in hosts] == [200, 200, 421]
        assert get(f"http://127.0.0.2:{receiver.port}/healthz").status_code == 200


@pytest.mark.parametrize("size", [wire.MAX_BODY_BYTES + 1, 2_000_000, 6_000_000])
def test_b19_a_body_that_is_too_large(refusing: tuple[Agent, LoadTestRun], size: int) -> None:
    agent, _ = refusing
    if size < 4 * wire.MAX_BODY_BYTES:
        assert_problem(agent.send(wire.METRICS, b" " * size), 413)
    else:  # too large to be read to its end: answered at once
        assert status_of(raw(_port(agent), _head(agent, f"Content-Length: {size}"))) == 413
    expects = _head(agent, f"Content-Length: {size}", "Expect: 100-continue")
    assert status_of(raw(_port(agent), expects)) == 413


def test_b19_a_body_at_the_limit_is_read(agent: Agent, run: LoadTestRun) -> None:
    body = whole(runId=run.id)
    assert agent.send(wire.METRICS, body + b" " * (wire.MAX_BODY_BYTES - len(body))).status_code == 201


def test_b20_a_chunked_body_that_is_too_large(agent: Agent, run: LoadTestRun) -> None:
    assert _chunked(agent, [whole(runId=run.id)]) == 201
    assert _chunked(agent, [b" " * 65_536] * 32) == 413
    memory = psutil.Process().memory_info().rss
    assert _chunked(agent, [b" " * 65_536] * 800) in (400, 413)
    assert psutil.Process().memory_info().rss - memory < 10_000_000


def test_b20_a_gzip_bomb_is_not_unpacked(refusing: tuple[Agent, LoadTestRun]) -> None:
    agent, _ = refusing
    bomb = gzip.compress(bytes(50_000_000))
    memory = psutil.Process().memory_info().rss
    assert_problem(agent.send(wire.METRICS, bomb, **{"Content-Encoding": "gzip"}), 400)
    assert_problem(agent.send(wire.METRICS, bomb), 400)
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
def test_b21_lengths_that_are_none(refusing: tuple[Agent, LoadTestRun], lines: tuple[str, ...]) -> None:
    agent, _ = refusing
    assert status_of(raw(_port(agent), _head(agent, *lines) + b"{}")) == 400


def test_b24_hosts_missing_and_twice(refusing: tuple[Agent, LoadTestRun]) -> None:
    agent, _ = refusing
    assert status_of(raw(_port(agent), _head(agent, "Content-Length: 2", host=None) + b"{}")) == 400
    twice = _head(agent, "Content-Length: 2", "Host: evil.example")
    assert status_of(raw(_port(agent), twice + b"{}")) == 400


@pytest.mark.parametrize("slow", ["head", "body"])
def test_b22_slow_clients_are_cut_off(
    store: Store, run: LoadTestRun, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
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


def test_b23_300_idle_connections(agent: Agent, run: LoadTestRun) -> None:
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
def test_b30_methods_that_a_push_route_does_not_have(refusing: tuple[Agent, LoadTestRun], method: str) -> None:
    agent, _ = refusing
    answer = requests.request(method, agent.url + METRICS, timeout=5)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert_problem(answer, 405)


@pytest.mark.parametrize("path", ["/v1", METRICS + "/", METRICS + "/../../x", "/%00", "/%ff", "/v1/internal"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_b30_paths_that_are_none(refusing: tuple[Agent, LoadTestRun], path: str, method: str) -> None:
    agent, _ = refusing
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
