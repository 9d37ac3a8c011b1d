"""The receiver's verbs as functions, and a raw socket for what no HTTP library would send."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from loadbench.agent import wire
from loadbench.messages import Heartbeat, IntervalPush, TestStart, TestStop
from loadbench.model import Record, RunEnvironment
from tests.builders import an_interval_push

ENVIRONMENT = RunEnvironment(
    locust="2.47.0", python="3.11.7", host="box", workers=0, user_classes=("Browser", "Buyer"), script_sha256="ab" * 32
)


def route(verb: str) -> str:
    return wire.ROUTE_PREFIX + verb


def body_of(message: Record) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def a_test_start(push: IntervalPush, **changes: Any) -> TestStart:
    """The start that comes before an interval."""
    fields = {"version": 1, "run_id": push.run_id, "source": push.source, "timestamp": push.timestamp - 1000}
    return TestStart(**(fields | {"environment": ENVIRONMENT} | changes))


def a_test_stop(run_id: str, seq: int, *, reason: str = "duration", **changes: Any) -> TestStop:
    """The end of a run of `seq + 1` intervals; the last one is in it."""
    final = an_interval_push(run_id, seq, final=True)
    fields = {"version": 1, "run_id": run_id, "source": final.source, "timestamp": final.timestamp + 5}
    fields |= {"reason": reason, "auto_stopped": reason == "duration", "last_seq": seq, "final": final}
    return TestStop(**(fields | changes))


def a_heartbeat(run_id: str, **changes: Any) -> Heartbeat:
    push = an_interval_push(run_id)
    fields = {"version": 1, "run_id": run_id, "source": push.source, "timestamp": push.timestamp, "state": "running"}
    return Heartbeat(**(fields | changes))


@dataclass
class Agent:
    """Pushes as an agent does, and gives back what the receiver answered."""

    url: str
    token: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, verb: str, body: bytes | Record, **headers: str) -> requests.Response:
        """POST a body; a header given as None is left out."""
        data = body if isinstance(body, bytes) else body_of(body)
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with requests.Session() as session:
            session.trust_env = False
            return session.post(
                self.url + route(verb), data=data, headers={**sent, **self.headers, **headers}, timeout=8
            )

    def start(self, run_id: str, **changes: Any) -> requests.Response:
        return self.send(wire.TEST_START, a_test_start(an_interval_push(run_id), **changes))

    def push(self, run_id: str, seq: int, **changes: Any) -> requests.Response:
        return self.send(wire.METRICS, an_interval_push(run_id, seq, **changes))

    def push_body(self, run_id: str, **changes: Any) -> requests.Response:
        """Push seq 0 with keys of the JSON changed, checked by nobody on this side."""
        body = json.loads(body_of(an_interval_push(run_id))) | changes
        return self.send(wire.METRICS, json.dumps(body).encode())

    def stop(self, run_id: str, seq: int, **changes: Any) -> requests.Response:
        return self.send(wire.TEST_STOP, a_test_stop(run_id, seq, **changes))

    def heartbeat(self, run_id: str) -> requests.Response:
        return self.send(wire.HEARTBEAT, a_heartbeat(run_id))


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=8)


def raw(port: int, data: bytes, *, within_s: float = 12.0) -> bytes:
    """Send bytes as they are, and read until the server closes or has answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while not _whole(answer) and (chunk := connection.recv(65536)):
                answer += chunk
        return answer


def status_of(answer: bytes) -> int:
    """The status of a raw answer; 0 if the connection was closed without one."""
    match = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(match[1]) if match else 0


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])
