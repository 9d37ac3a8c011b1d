"""Two small real HTTP servers for tests of the agent: a receiver that can misbehave, and a target that counts."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from loadbench import messages
from loadbench.agent import wire

MODELS: dict[str, type[messages.Message]] = {
    wire.TEST_START: messages.TestStart,
    wire.METRICS: messages.IntervalPush,
    wire.TEST_STOP: messages.TestStop,
    wire.HEARTBEAT: messages.Heartbeat,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else each answer waits 40 ms for a delayed acknowledgement
    disable_nagle_algorithm = True
    owner: ClassVar[Any]

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that went away, or a connection dropped on purpose."""


class _Served:
    """A server on a thread of its own, on a port that the system chose."""

    def __init__(self, handler: type[_Handler], port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), type(handler.__name__, (handler,), {"owner": self}))
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True)
class Received:
    """One accepted message."""

    kind: str
    body: bytes
    message: Any
    at_s: float


@dataclass
class Misbehaviour:
    """What the sink does to the next requests: refuse with a status, or keep the message and drop the connection."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop_answer: bool = False


class Sink(_Served):
    """A receiver that checks and keeps all messages.

    `misbehave(kind, number)` may return a Misbehaviour for the number-th request of a kind, counted from 1.
    """

    def __init__(self, port: int = 0, *, token: str = "t0ken") -> None:
        self.token = token
        self.status = "Running"
        self.misbehave: Callable[[str, int], Misbehaviour | None] = lambda kind, number: None
        self.received: list[Received] = []
        self.duplicates: list[Received] = []
        self.invalid: list[str] = []
        self.requests: list[tuple[float, str]] = []
        self._lock = threading.Lock()
        self._bodies: dict[tuple[str, str, int], bytes] = {}
        super().__init__(_Receive, port)

    def of(self, kind: str) -> list[Any]:
        """Give the messages of a kind, without repeats, in the order of their arrival."""
        return [received.message for received in self.received if received.kind == kind]

    @property
    def intervals(self) -> list[messages.IntervalPush]:
        """All intervals, the one within test-stop included."""
        return self.of(wire.METRICS) + [stop.final for stop in self.of(wire.TEST_STOP)]

    def accept(self, kind: str, body: bytes, authorization: str) -> tuple[int, dict[str, str], bool]:
        """Judge a request: status, headers, and whether the answer gets lost."""
        with self._lock:
            self.requests.append((time.monotonic(), kind))
            number = sum(1 for _, one in self.requests if one == kind)
            trick = self.misbehave(kind, number)
            if trick is not None and trick.status is not None:
                return trick.status, trick.headers, False
            if authorization != f"Bearer {self.token}":
                return 401, {}, False
            try:
                message = MODELS[kind].model_validate_json(body)
            except ValueError as error:
                self.invalid.append(str(error))
                return 400, {}, False
            return self._keep(Received(kind, body, message, time.monotonic())), {}, bool(trick and trick.drop_answer)

    def _keep(self, received: Received) -> int:
        if received.kind == wire.HEARTBEAT:
            self.received.append(received)
            return 200
        key = (received.message.source, received.kind, getattr(received.message, "seq", 0))
        if key in self._bodies:
            self.duplicates.append(received)
            return 200 if self._bodies[key] == received.body else 409
        self._bodies[key] = received.body
        self.received.append(received)
        return 201


class _Receive(_Handler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.removeprefix(wire.ROUTE_PREFIX)
        sent_at = int(self.headers[wire.SENT_AT_HEADER])
        assert abs(sent_at - time.time() * 1000) < 60_000
        status, headers, lost = self.owner.accept(kind, body, self.headers.get("Authorization", ""))
        if lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = {"status": self.owner.status} if status < 300 else {"title": "no", "status": status, "detail": "no"}
        self._answer(status, json.dumps(answer).encode(), headers)


class Target(_Served):
    """A system under test that counts what it served; its times spread over two decades."""

    def __init__(self) -> None:
        self.served = self.failed = 0
        self._lock = threading.Lock()
        super().__init__(_Serve)

    def count(self, *, failed: bool) -> None:
        with self._lock:
            self.served += 1
            self.failed += failed


class _Serve(_Handler):
    def do_GET(self) -> None:
        time.sleep(min(random.lognormvariate(-5.5, 0.9), 0.2))
        failed = self.path.startswith("/broken")
        self.owner.count(failed=failed)
        self._answer(500 if failed else 200, b"x" * 100)


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
