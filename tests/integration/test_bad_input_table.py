"""The rows of the table of bad input that are about more than one request: what is kept, shown and handed out later.

Each row B01 to B32 has a case that is named after it, here or beside the receiver's and the API's other tests.
"""

from __future__ import annotations

import base64
import csv
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from loadbench import exports
from loadbench.agent import wire
from loadbench.agent.histogram import pack
from loadbench.analysis.validity import judge
from loadbench.control import ControlPlane
from loadbench.model import Endpoint, LoadTestRun
from loadbench.store import Store
from loadbench.store.database import ENV_URI
from loadbench.workbench import Workbench
from server.app import ROUTES, Receiver
from server.ingest import MAX_SOURCES
from server.operation import parameters
from tests.api_client import Agent, a_heartbeat, raw, status_of
from tests.builders import HISTOGRAMS, a_run, a_test, an_interval
from tests.executed import run_page
from tests.rest_client import Client, a_token
from tests.stored import contents

pytestmark = pytest.mark.integration

ROW = re.compile(r"(?:\[|[_-])[Bb](\d\d)[_-]")
HOME_OF_ROWS = ("test_bad_input_table.py", "test_receiver_bad_input.py", "test_api.py")


def test_every_row_has_a_case(request: pytest.FixtureRequest) -> None:
    """Collected anew, whatever part of the tests is asked for."""
    folder = request.node.getparent(pytest.Dir)
    modules = [pytest.Module.from_parent(folder, path=Path(__file__).with_name(name)) for name in HOME_OF_ROWS]
    names = [item.name for module in modules for item in _functions(module)]
    assert {int(row) for name in names for row in ROW.findall(name)} == set(range(1, 33))


def _functions(collector: pytest.Collector) -> Iterator[pytest.Item]:
    for node in collector.collect():
        if isinstance(node, pytest.Item):
            yield node
        else:
            yield from _functions(node)


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    receiver = Receiver(store)
    receiver = Receiver(store, control=ControlPlane(store, receiver_url=lambda: receiver.url))
    with receiver:
        yield receiver


@pytest.fixture
def run(store: Store) -> LoadTestRun:
    return store.runs.add(a_run(store.load_tests.add(a_test())))


@pytest.fixture
def agent(receiver: Receiver, store: Store, run: LoadTestRun) -> Agent:
    return Agent(receiver.url, store.tokens.create_push(run.id))


def test_b17_of_5000_names_2000_are_kept_and_the_rest_is_one_row(agent: Agent, store: Store, run: LoadTestRun) -> None:
    for seq in range(5):
        names = [Endpoint(method="GET", name=f"/{1000 * seq + number}") for number in range(1000)]
        rows = {"failures": (0,) * 1000, "untimed": (1,) * 1000, "n": (1,) * 1000, "bytes": (7,) * 1000}
        rows |= dict.fromkeys(("sum_ms", "failed_sum_ms", "min_ms", "max_ms"), (0.0,) * 1000)
        nothing = base64.b64encode(pack(({},) * 2000)).decode()
        totals = {"cum_requests": 1000 * (seq + 1), "cum_failures": 0}
        answer = agent.push(run.id, seq, endpoints=tuple(names), histograms=nothing, errors=(), **rows, **totals)
        assert answer.status_code == 201
    found = store.runs.get(run.id)
    kept = found.endpoints
    assert any(wire.OTHER in reason for reason in judge(found, None).reasons)
    assert len(kept) == wire.MAX_ROWS + 1
    assert [endpoint.name for endpoint in kept].count(wire.OTHER) == 1
    assert sum(document["requests"] for document in store.ledger.documents(run.id)) == 5000


HOSTILE = "/<img src=x onerror=alert(1)>\u202e"
MESSAGE = "\x1b[31mred\x1b[0m</script><script>alert(2)</script>\u202e"


@pytest.fixture
def bench(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """A workbench that reads; what a report's notebook opens finds the same MongoDB."""
    monkeypatch.setenv(ENV_URI, store.uri)
    bench = Workbench("acme/shop/checkout", "staging", mongodb_uri=store.uri, receive=False)
    yield bench
    bench.close()


def test_b18_a_hostile_name_is_escaped_in_every_output(
    agent: Agent, store: Store, bench: Workbench, tmp_path: Path
) -> None:
    test = store.load_tests.add(a_test(name="<img src=x onerror=alert(3)>"))
    run = store.runs.add(a_run(test))
    agent = Agent(agent.url, store.tokens.create_push(run.id))
    rows = [{"method": "GET", "name": "/"}, {"method": "POST", "name": HOSTILE}]
    for seq in range(3):
        pushed = agent.push_body(
            run.id, seq=seq, endpoints=rows, errors=[[1, MESSAGE, 1]], timestamp=1_795_000_001_000 + 1000 * seq,
            cumRequests=4 * (seq + 1), cumFailures=seq + 1,
        )  # fmt: skip
        assert pushed.status_code == 201
    assert agent.stop(run.id, 3).status_code == 201
    handle = bench.run(run.id)
    charts = [handle.export(tmp_path / f"{name}.html", name) for name in ("timeline", "errors", "heatmap", "load")]
    outputs = {
        "card of the run": handle._repr_html_(),
        "card of the test": bench.test(test.name)._repr_html_(),
        "summary": handle.summary()._repr_html_(),
        "report": run_page(store, store.runs.get(run.id), tmp_path / "run.html").read_text(),
    } | {path.name: path.read_text() for path in charts}
    assert "&lt;img src=x" in outputs["card of the test"]
    assert "&lt;img src=x" in outputs["report"]
    for where, text in outputs.items():
        assert not re.search(r"<img src=x|<script>alert", text), where
        assert "\x1b" not in text, where
    del outputs["summary"]  # a frame shows the data as they are: of them pandas escapes the HTML
    assert [where for where, text in outputs.items() if "\u202e" in text] == []


@pytest.mark.long
@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "a-byte-a-second"])
def test_b22_slow_clients_are_cut_off_within_ten_seconds(agent: Agent, run: LoadTestRun, drip: bytes) -> None:
    """With the limits as they are; a client that goes on sending gains nothing by it."""
    port = int(agent.url.rpartition(":")[2])
    line = (
        f"POST {wire.ROUTE_PREFIX}metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {agent.token}\r\n"
    )
    whole = f"{line}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    chunked = f"{line}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n"
    starts = [b"", line.encode(), whole.encode(), chunked.encode()]
    with ThreadPoolExecutor(len(starts)) as pool:
        took = list(pool.map(lambda start: _closed_after_s(port, start, drip), starts))
    assert all(0.5 < seconds <= 10 for seconds in took), took
    assert agent.push(run.id, 0).status_code == 201


def _closed_after_s(port: int, start: bytes, drip: bytes) -> float:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(start)
        while time.monotonic() - began < 15:
            try:
                if connection.recv(4096) == b"":
                    break
            except TimeoutError:
                connection.sendall(drip)
            except ConnectionError:
                break
    return time.monotonic() - began


def test_b26_an_expired_token_is_none(receiver: Receiver, store: Store) -> None:
    token = a_token(store, expires_at=int(time.time() * 1000) + 300)
    client = Client(receiver.url, token)
    assert client.get("/v1/runs").status_code == 200
    time.sleep(0.4)
    before = contents(store)
    assert client.get("/v1/runs").status_code == 401
    assert contents(store) == before


def test_b28_a_replay_counts_once_and_other_content_is_a_conflict(agent: Agent, store: Store, run: LoadTestRun) -> None:
    answers = [agent.push(run.id, 0), agent.push(run.id, 0)]
    before = contents(store)["metrics_timeseries"]
    answers += [agent.push(run.id, 0, users=3), agent.push(run.id, 0, source="another"), agent.push(run.id, 10**6)]
    assert [answer.status_code for answer in answers] == [201, 200, 409, 201, 201]
    assert answers[2].json()["type"] == "conflict"
    assert set(before) < set(contents(store)["metrics_timeseries"])
    assert [document["users"] for document in store.ledger.documents(run.id)] == [2, 2, 2]


def test_b29_after_its_end_a_run_takes_what_is_missing_and_no_more(
    agent: Agent, store: Store, run: LoadTestRun
) -> None:
    assert [agent.push(run.id, 0).status_code, agent.stop(run.id, 3).status_code] == [201, 201]
    before = contents(store)
    late = [agent.push(run.id, 4), agent.push(run.id, 10**6), agent.push(run.id, 0, source="another")]
    late += [agent.stop(run.id, 5), agent.heartbeat(run.id)]
    assert [(answer.status_code, answer.json()["type"]) for answer in late] == [(409, "run_closed")] * 5
    assert contents(store) == before
    assert [agent.push(run.id, seq).status_code for seq in (2, 1, 3)] == [201, 201, 409]
    assert store.runs.get(run.id).completeness == "complete"


def test_b29_a_source_takes_no_more_after_its_final_interval(agent: Agent, store: Store, run: LoadTestRun) -> None:
    assert agent.push(run.id, 2, final=True).status_code == 201
    assert agent.push(run.id, 2, final=True).status_code == 200
    before = contents(store)
    late = agent.push(run.id, 3)
    assert (late.status_code, late.json()["type"]) == (409, "run_closed")
    assert contents(store) == before
    assert [agent.push(run.id, seq).status_code for seq in (0, 1)] == [201, 201]
    assert agent.push(run.id, 3, source="another").status_code == 201
    assert agent.send(wire.HEARTBEAT, a_heartbeat(run.id)).status_code == 200


def test_b29_a_run_takes_256_sources(agent: Agent, store: Store, run: LoadTestRun) -> None:
    assert MAX_SOURCES == 256
    for number in range(MAX_SOURCES):
        store.ledger.append(an_interval(run.id, source=f"worker-{number}"))
    before = contents(store)
    refused = agent.push(run.id, 0, source="one-more")
    assert (refused.status_code, refused.json()["type"]) == (429, "too_many_sources")
    assert contents(store) == before


def test_b30_an_id_that_none_could_be_is_404_on_every_path(receiver: Receiver, store: Store) -> None:
    token, port = a_token(store), receiver.port
    head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    ids = ["../x", "..%2fx", "%2e%2e", "x" * 300, quote("run-١٢"), "run-%00", "%24where", "run-1;x", "a%0ab"]
    paths = [path for path, handler in ROUTES if parameters(path) and "GET" in handler.operations]
    before, wrong = contents(store), {}
    for path in paths:
        for bad in ids:
            url = re.sub(r"\{\w+\}", lambda _, bad=bad: bad, path, count=1)
            answer = raw(port, f"GET {re.sub('{.*?}', '1', url)} HTTP/1.1\r\n{head}".encode())
            if status_of(answer) != 404 or b"Traceback" in answer:
                wrong[path, bad] = status_of(answer)
    assert wrong == {}
    assert len(paths) > 15
    assert contents(store) == before


@pytest.mark.parametrize("table", exports.TABLES)
@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_b32_a_formula_is_a_text_in_csv(store: Store, run: LoadTestRun, tmp_path: Path, name: str, table: str) -> None:
    endpoint = {"method": "=GET", "name": name}
    store.ledger.append(an_interval(run.id, errors=({"endpoint": 1, "message": name, "n": 1},)))
    record = store.runs.get(run.id).model_copy(
        update={"endpoints": tuple(Endpoint.model_construct(**endpoint) for _ in range(2))}
    )
    path = exports.export(record, store.ledger.documents(run.id), tmp_path / "x.csv", table=table)
    with path.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    texts = [cell for cell in cells if cell.lstrip("'") in (name, "=GET")]
    assert [cell for cell in cells if cell[:1] in "=@+\t\r" and cell] == []
    assert all(cell.startswith("'") for cell in texts)
    assert texts or table == "timeline"
    assert HISTOGRAMS not in path.read_bytes()
