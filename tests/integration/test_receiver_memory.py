"""What a real `loadbench serve` holds in memory while clients send it what it must refuse: rows B19 to B23."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadbench.agent import wire
from loadbench.model import LoadTestRun
from loadbench.store import Store
from tests.api_client import Agent, get, raw, status_of
from tests.builders import a_run
from tests.serving import Server
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.long]

MB = 1_000_000
GROWTH = 64 * MB
BOMB_GROWTH = 10 * MB


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Server]:
    server = Server(store.uri, tmp_path / "serve.log")
    yield server
    server.close()


@pytest.fixture
def run(store: Store) -> LoadTestRun:
    return store.runs.add(a_run())


@pytest.fixture
def agent(server: Server, store: Store, run: LoadTestRun) -> Agent:
    agent = Agent(server.url, store.tokens.create_push(run.id))
    for seq in range(100):  # what it needs for its normal work
        assert agent.push(run.id, seq).status_code == 201
    return agent


def head(agent: Agent, *lines: str) -> bytes:
    own = [f"POST {wire.ROUTE_PREFIX}{wire.METRICS} HTTP/1.1", f"Host: {agent.url.removeprefix('http://')}"]
    own += ["Content-Type: application/json", f"Authorization: Bearer {agent.token}"]
    return "\r\n".join([*own, *lines, "", ""]).encode()


def many(count: int, send, *arguments) -> set[int]:
    """Send the same again and again, eight at a time; give the statuses of the answers."""
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: status_of(send(*arguments)), range(count)))


def chunked(agent: Agent, size: int) -> bytes:
    chunk = b"%x\r\n%s\r\n" % (65_536, b" " * 65_536)
    return head(agent, "Transfer-Encoding: chunked") + chunk * (size // 65_536) + b"0\r\n\r\n"


def test_bad_input_leaves_the_receiver_as_small_as_it_was(
    server: Server, agent: Agent, run: LoadTestRun, record_property
) -> None:
    server.forget_peak()
    before = server.memory()
    oversize = head(agent, "Content-Length: 2000000") + b" " * 2_000_000
    assert many(200, raw, server.port, oversize) == {413}  # B19
    bomb = gzip.compress(bytes(50 * MB))
    peak, rss = server.memory("VmHWM"), server.memory()
    packed = head(agent, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
    plain = head(agent, f"Content-Length: {len(bomb)}") + bomb
    server.forget_peak()
    assert many(50, raw, server.port, packed) == {400}  # B20
    assert many(50, raw, server.port, plain) == {400}
    bomb_growth = server.memory("VmHWM") - rss
    assert many(50, raw, server.port, chunked(agent, 2 * MB)) == {413}
    assert many(20, raw, server.port, chunked(agent, 50 * MB)) <= {400, 413}
    for length in ("-5", "+5", "2\r\nContent-Length: 3", "2\r\nTransfer-Encoding: chunked"):  # B21
        assert many(50, raw, server.port, head(agent, f"Content-Length: {length}") + b"{}") == {400}
    with ExitStack() as stack:
        # B22, B23. With a token, a slow body takes one of the places of the 32 in flight; without, it takes none.
        stranger = Agent(agent.url, "lbp_" + "x" * 43)
        starts = [b"", head(agent)[:60], head(stranger, "Content-Length: 5000") + b"{"] * 100
        starts += [head(agent, "Content-Length: 5000") + b"{"] * 20
        slow = [stack.enter_context(_sent(server.port, start)) for start in starts]
        wait_until(lambda: _in_flight(server) <= 20, within_s=5, message="strangers hold places")
        times = _times(agent, run, 100)
        assert all(_is_closed(connection, within_s=12) for connection in slow)
    growth = max(peak, server.memory("VmHWM")) - before
    figures = {"growth_mb": growth / MB, "rss_growth_mb": (server.memory() - before) / MB}
    figures |= {"bomb_growth_mb": bomb_growth / MB, "ack_p95_ms": statistics.quantiles(times, n=20)[-1]}
    for name, value in figures.items():
        record_property(name, round(value, 1))
    print(f"refused bodies, then 320 slow or idle connections: { {k: round(v, 1) for k, v in figures.items()} }")  # noqa: T201
    assert growth <= GROWTH
    assert bomb_growth < BOMB_GROWTH


def _in_flight(server: Server) -> int:
    return int(re.search(r"(?m)^loadbench_requests_in_flight (\d+)$", get(f"{server.url}/metrics").text)[1])


def _sent(port: int, start: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(start)
    return connection


def _times(agent: Agent, run: LoadTestRun, first: int) -> list[float]:
    """Push a hundred intervals, and give what each took in ms."""
    answers = [agent.push(run.id, seq) for seq in range(first, first + 100)]
    assert {answer.status_code for answer in answers} == {201}
    return [1000 * answer.elapsed.total_seconds() for answer in answers]


def _is_closed(connection: socket.socket, *, within_s: float) -> bool:
    """Say whether the server ends a connection; what it answers before that does not count."""
    deadline = time.monotonic() + within_s
    with contextlib.suppress(ConnectionResetError, TimeoutError):
        while time.monotonic() < deadline:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not connection.recv(65_536):
                return True
        return False
    return time.monotonic() < deadline
