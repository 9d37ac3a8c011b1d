"""A TCP proxy between agent and receiver that does to requests what networks do to them."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

HEAD_END = b"\r\n\r\n"
PIECE = 1024


@dataclass(frozen=True)
class Trouble:
    """What happens to one request.

    Parameters
    ----------
    reset_after : float, optional
        Share of the body after which both connections are reset.
    drop_answer : bool
        The receiver does its work, and its answer is lost with the connection.
    delay_s : float
        How much later the request arrives.
    bytes_per_s : float, optional
        How fast the body goes on.
    answer : bytes, optional
        Given instead of passing the request on.
    """

    reset_after: float | None = None
    drop_answer: bool = False
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    answer: bytes | None = None


NONE = Trouble()


@dataclass
class Proxy:
    """Listens on loopback; `trouble(number, path)` says what happens to the number-th request, counted from 0.

    Requests go to the `upstreams`, ports on loopback, in turn. `seen` has the time and path of each request, `done`
    what was done to it, `answers` what the receiver said: the path, the status, and after how many seconds.
    """

    trouble: Callable[[int, str], Trouble] = lambda number, path: NONE
    upstreams: tuple[int, ...] = ()
    seen: list[tuple[float, str]] = field(default_factory=list)
    done: list[Trouble] = field(default_factory=list)
    answers: list[tuple[str, int, float]] = field(default_factory=list)
    by_upstream: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Connection", (_Connection,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def judge(self, path: str) -> Trouble:
        with self._lock:
            trouble = self.trouble(len(self.seen), path)
            self.seen.append((time.monotonic(), path))
            self.done.append(trouble)
        return trouble

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)

    def upstream(self) -> int:
        """Say where the next request goes."""
        port = self.upstreams[sum(self.by_upstream.values()) % len(self.upstreams)]
        self.by_upstream[port] += 1
        return port


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _Connection(socketserver.BaseRequestHandler):
    proxy: Proxy

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while (request := read_message(self.request)) is not None:
                if not self._pass_on(*request):
                    return

    def _pass_on(self, head: bytes, body: bytes) -> bool:
        """Handle one request; say whether the client's connection goes on."""
        path = head.split(b" ", 2)[1].decode()
        trouble = self.proxy.judge(path)
        if trouble.answer is not None:
            self.request.sendall(trouble.answer)
            return True
        time.sleep(trouble.delay_s)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.proxy.upstream()), timeout=30) as upstream:
            part = body if trouble.reset_after is None else body[: int(len(body) * trouble.reset_after)]
            upstream.sendall(head)
            for start in range(0, len(part), PIECE):
                upstream.sendall(part[start : start + PIECE])
                time.sleep(len(part[start : start + PIECE]) / trouble.bytes_per_s if trouble.bytes_per_s else 0)
            if trouble.reset_after is not None:
                time.sleep(0.02)  # the receiver shall have begun to read
                reset(upstream)
                reset(self.request)
                return False
            answer = read_message(upstream)
        if answer is None or trouble.drop_answer:
            reset(self.request)
            return False
        self.proxy.answers.append((path, int(answer[0].split(b" ", 2)[1]), time.monotonic() - began))
        self.request.sendall(b"".join(answer))
        return True


def read_message(connection: socket.socket) -> tuple[bytes, bytes] | None:
    """Read one HTTP message, its head and its body of Content-Length; None at the end of the connection."""
    data = b""
    while HEAD_END not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(HEAD_END)
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        more = connection.recv(65536)
        if not more:
            return None
        body += more
    return head + HEAD_END, body


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def refusal(status: str, **headers: str) -> bytes:
    """Give an answer that a receiver could have given, such as 429."""
    lines = [f"HTTP/1.1 {status}", "Content-Length: 2", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n{}").encode()
