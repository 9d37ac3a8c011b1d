"""What every handler shares: who may ask, how much at once, and how an error reads.

A request is refused before its body is used: wrong `Host` 421, method 405, `Origin` where there must be none 403, not
JSON 415, over 1 MiB 413, no valid token 401, more than 32 in flight 429. Errors are `application/problem+json`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from pymongo.errors import ConnectionFailure, DocumentTooLarge, ExecutionTimeout
from tornado.httputil import split_host_and_port
from tornado.web import HTTPError, RequestHandler, stream_request_body

from loadbench.agent import wire
from loadbench.catalogue import Catalogue
from loadbench.errors import (
    Conflict,
    InvalidInput,
    LoadbenchError,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
    TargetUnreachable,
)
from loadbench.model import invalid_input
from loadbench.store import Store

if TYPE_CHECKING:  # given as an object: the server does not import what launches
    from loadbench.control import ControlPlane

logger = logging.getLogger("loadbench.receiver")
logger.addHandler(logging.NullHandler())  # the receiver never prints: its output would land in whichever cell ran last

THREADS = 4
MAX_IN_FLIGHT = 32
DRAIN_BYTES = 4 * wire.MAX_BODY_BYTES
"""How much of a refused body is read and thrown away, so that the client gets to read why."""
ANSWER_WITHIN_S = 4.8  # an agent gives up after 5 s
LONG_S = 60.0
TOKEN_TTL_S = 5.0
MAX_TOKEN = 256
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "[::]", ""})  # noqa: S104 - compared with, not bound to

T = TypeVar("T")
Record = TypeVar("Record", bound=BaseModel)


class Refused(HTTPError):
    """A request that gets an error answer; `kind` is the `type` of the problem document."""

    def __init__(
        self, status: int, kind: str, detail: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.problem = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        if field:
            self.problem["field"] = field
        self.headers = headers or {}


def refusal(error: LoadbenchError | ValidationError | ConnectionFailure | DocumentTooLarge) -> Refused:
    """Say over HTTP what an error of the product means."""
    if isinstance(error, ValidationError):
        error = invalid_input(error)
    match error:
        case InvalidInput():
            return Refused(400, "invalid_input", str(error), field=error.field)
        case NotFound():
            return Refused(404, "not_found", str(error))
        case PreconditionFailed():
            return Refused(412, "precondition_failed", str(error), field="If-Match")
        case TargetUnreachable():
            return Refused(422, "target_unreachable", str(error), field="targetUrl")
        case Conflict():
            return Refused(409, "conflict", str(error))
        case DocumentTooLarge():
            return Refused(413, "too_large", "this is more than one MongoDB document can hold")
        case StoreUnavailable():
            return unavailable(str(error))
        case LoadbenchError():
            return Refused(503, "unavailable", str(error), headers={"Retry-After": "1"})
        case _:
            return unavailable("MongoDB does not answer")


def unavailable(detail: str) -> Refused:
    return Refused(503, "store_unavailable", f"{detail.rstrip('.')}; try again", headers={"Retry-After": "1"})


class HostNames:
    """The names under which this server may be addressed: those that it is bound to, and those that it was told."""

    def __init__(self, host: str, ports: Iterable[int], allowed: Iterable[str] = ()) -> None:
        host = f"[{host}]" if ":" in host else host.lower()
        self._any = host in _ANY_ADDRESS
        self._names = _LOOPBACK if self._any or host in _LOOPBACK or host.startswith("127.") else frozenset()
        self._names |= {host} - _ANY_ADDRESS
        self._ports = frozenset(ports)
        self._allowed = frozenset(split_host_and_port(name.lower()) for name in allowed)

    def allow(self, header: str, local_address: Callable[[], str]) -> bool:
        """Say whether a `Host` header names this server; `local_address` is what the client really connected to."""
        name, port = split_host_and_port(header.lower())
        if (name, port) in self._allowed or ((name, None) in self._allowed and port in self._ports):
            return True
        if (port or 80) not in self._ports:
            return False
        return name in self._names or (self._any and name == local_address())


class PushTokens:
    """Which run a push token is for; answers are kept for a few seconds, refusals are not."""

    def __init__(self, lookup: Callable[[str], str | None]) -> None:
        self._lookup = lookup
        self._known: dict[bytes, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def known(self, header: str) -> str | None:
        """Answer from memory, without blocking."""
        digest, now, run_id = _sha256(bearer(header)[0]), time.monotonic(), None
        with self._lock:
            for known, (expires, of_run) in self._known.items():
                if hmac.compare_digest(known, digest) and expires > now:
                    run_id = of_run
        return run_id

    def run_of(self, header: str) -> str | None:
        """Answer from the store. The work is the same for every wrong token, whatever is wrong with it."""
        token, usable = bearer(header)
        run_id = self._lookup(token)
        if run_id is None or not usable:
            return None
        now = time.monotonic()
        with self._lock:
            self._known = {digest: entry for digest, entry in self._known.items() if entry[0] > now}
            self._known[_sha256(token)] = (now + TOKEN_TTL_S, run_id)
        return run_id


def bearer(header: str) -> tuple[str, bool]:
    """Read the token of an `Authorization` header; something of its length that is no token where there is none."""
    scheme, _, token = header.partition(" ")
    usable = scheme.lower() == "bearer" and token.isascii() and 0 < len(token) <= MAX_TOKEN
    return (token, True) if usable else ("-" * 43, False)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Meters:
    """The receiver's own figures. Touched only in the server's thread."""

    BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

    def __init__(self) -> None:
        self.in_flight = 0
        self.intervals: Counter[str] = Counter({"created": 0, "duplicate": 0, "conflict": 0})
        self.rejected: Counter[int] = Counter()
        self._buckets = [0] * (len(self.BOUNDS_S) + 1)
        self._seconds = 0.0

    def ingested(self, seconds: float) -> None:
        self._seconds += seconds
        self._buckets[sum(seconds > bound for bound in self.BOUNDS_S)] += 1

    def lines(self) -> Iterator[str]:
        """Write the figures in Prometheus' text format."""
        for verdict, name in (("created", "stored"), ("duplicate", "duplicate"), ("conflict", "conflict")):
            yield f"# TYPE loadbench_intervals_{name}_total counter"
            yield f"loadbench_intervals_{name}_total {self.intervals[verdict]}"
        yield "# TYPE loadbench_requests_rejected_total counter"
        for status, n in sorted(self.rejected.items()):
            yield f'loadbench_requests_rejected_total{{status="{status}"}} {n}'
        yield "# TYPE loadbench_requests_in_flight gauge"
        yield f"loadbench_requests_in_flight {self.in_flight}"
        yield "# TYPE loadbench_ingest_seconds histogram"
        seen = 0
        for bound, n in zip((*map(str, self.BOUNDS_S), "+Inf"), self._buckets, strict=True):
            seen += n
            yield f'loadbench_ingest_seconds_bucket{{le="{bound}"}} {seen}'
        yield f"loadbench_ingest_seconds_sum {self._seconds:.6f}"
        yield f"loadbench_ingest_seconds_count {seen}"


class Feed(Protocol):
    """Where newly stored intervals and status changes are told (`server.app.Feed`)."""

    def publish(self, run_id: str, status: str, document: dict[str, Any] | None) -> None: ...


class Watch(Protocol):
    """What newly stored intervals are judged by (`server.watch.GateWatch`)."""

    def heard(self, run_id: str) -> None: ...


@dataclass
class Service:
    """What the handlers share; it reaches them through `initialize`."""

    store: Store
    names: HostNames
    feed: Feed
    executor: ThreadPoolExecutor
    control: ControlPlane | None = None
    watch: Watch | None = None
    catalogue: Catalogue = field(init=False)
    tokens: PushTokens = field(init=False)
    meters: Meters = field(default_factory=Meters)

    def __post_init__(self) -> None:
        self.tokens = PushTokens(self.store.tokens.run_of)
        self.catalogue = Catalogue(self.store)


@stream_request_body
class Handler(RequestHandler):
    """The base of all handlers.

    A request that is refused is still read to its end, up to DRAIN_BYTES of a body, and answered then: closing a
    connection on unread data resets it, and the client would never see the answer. One without a body too: Tornado
    closes a connection, without a word, on which it answers before it has read all, and the next request is lost.
    """

    cross_site = True
    """Whether a browser may ask from another page (it then sends an `Origin`)."""
    limited = True
    """Whether it counts as in flight; what tells how the server does must answer when it is busy, too."""

    def initialize(self, service: Service) -> None:
        self.service = service
        self._refused: Refused | None = None
        self._chunks: list[bytes] = []
        self._received = 0
        self._counted = False
        self._body_read = False

    def set_default_headers(self) -> None:
        self.set_header("Server", "loadbench")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    async def prepare(self) -> None:
        try:
            self.check()
            self._enter()
            await self.authorize()
        except Refused as refused:
            self._leave()
            expects = self.request.headers.get("Expect")
            if expects or self._announced() > DRAIN_BYTES:
                raise
            self._refused = refused
            setattr(self, self.request.method.lower(), self._refuse)  # whatever the handler does with its body

    def check(self) -> None:
        """Refuse by the request's head alone."""
        headers = self.request.headers
        if "Host" not in headers:
            raise Refused(400, "invalid_input", "the Host header is missing", field="Host")
        if not self.service.names.allow(headers["Host"], self._local_address):
            raise Refused(421, "misdirected", "this server does not answer to that Host; use the URL that it was given")
        if not self._announced_well():
            raise Refused(400, "invalid_input", "Content-Length must be one plain number", field="Content-Length")
        if self.request.method not in self.methods():
            raise self._not_allowed()
        if not self.cross_site and "Origin" in headers:
            raise Refused(403, "cross_site", "pushes do not come from web pages; send no Origin header")
        if self.request.method in _BODY_METHODS:
            self._check_body_head()

    def _check_body_head(self) -> None:
        headers = self.request.headers
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Refused(415, "unsupported_media_type", "send Content-Type: application/json", field="Content-Type")
        if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise Refused(400, "invalid_input", "send the body uncompressed", field="Content-Encoding")
        if self._announced() > wire.MAX_BODY_BYTES:
            raise self._too_large()

    async def authorize(self) -> None:
        """Refuse by who is asking. The base lets everybody in."""

    def data_received(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._refused is None and self._received > wire.MAX_BODY_BYTES:
            self._leave()
            self._refused = self._too_large()
        if self._refused is None:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def body(self) -> bytes:
        """Give the request's body, or raise why the request is refused."""
        self._body_read = True
        if self._refused is not None:
            raise self._refused
        return b"".join(self._chunks)

    def _refuse(self, *_: str, **__: str) -> None:
        self.body()

    head = get = post = delete = patch = put = options = _refuse

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that talks to MongoDB, in the executor."""
        return await self._call(self.service.executor, ANSWER_WITHIN_S, function, *args)

    async def run_long(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that may take long, such as Locust, in threads that pushes do not wait for."""
        return await self._call(None, LONG_S, function, *args)

    async def _call(
        self, executor: ThreadPoolExecutor | None, within_s: float, function: Callable[..., T], *args: Any
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(executor, function, *args), timeout=within_s)
        except (LoadbenchError, ValidationError, ConnectionFailure, ExecutionTimeout, DocumentTooLarge) as error:
            raise refusal(error) from None
        except TimeoutError:
            raise unavailable(f"there was no answer within {within_s:g} s") from None

    def reply(self, status: int, body: dict[str, Any]) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if status_code == 405 and not isinstance(error, Refused):  # a method that HTTP does not have
            error = self._not_allowed()
        if not isinstance(error, Refused):
            detail = "the request cannot be read" if status_code < 500 else "an error of this server; see its log"
            error = Refused(status_code, "invalid_request" if status_code < 500 else "internal", detail)
        for name, value in error.headers.items():
            self.set_header(name, value)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(error.problem))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, HTTPError):
            logger.info("%s %s: %s", self.request.method, self.request.path, getattr(value, "problem", value))
        else:
            logger.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))

    def on_finish(self) -> None:
        self._leave()
        if self.get_status() >= 400:
            self.service.meters.rejected[self.get_status()] += 1

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if not self._body_read:  # otherwise the work for it goes on, and `on_finish` comes
            self._leave()

    @classmethod
    def methods(cls) -> list[str]:
        """Name the HTTP methods that this handler implements."""
        return [
            m for m in RequestHandler.SUPPORTED_METHODS if getattr(cls, m.lower()) is not getattr(Handler, m.lower())
        ]

    def _enter(self) -> None:
        if not self.limited:
            return
        if self.service.meters.in_flight >= MAX_IN_FLIGHT:
            raise Refused(
                429,
                "too_many_requests",
                f"{MAX_IN_FLIGHT} requests are in flight; try again",
                headers={"Retry-After": "1"},
            )
        self.service.meters.in_flight += 1
        self._counted = True

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self.service.meters.in_flight -= 1

    def _announced_well(self) -> bool:
        length = self.request.headers.get("Content-Length", "0")
        return length.isascii() and length.isdecimal() and len(length) < 19

    def _announced(self) -> int:
        return int(self.request.headers.get("Content-Length", "0")) if self._announced_well() else 0

    def _not_allowed(self) -> Refused:
        allowed = self.methods()
        headers = {"Allow": ", ".join(allowed)}
        return Refused(405, "method_not_allowed", f"use {' or '.join(allowed) or 'another path'} here", headers=headers)

    def _too_large(self) -> Refused:
        return Refused(413, "too_large", f"a body may have at most 1 MiB ({wire.MAX_BODY_BYTES} bytes)")

    def _local_address(self) -> str:
        address = self.request.connection.stream.socket.getsockname()[0]
        return f"[{address}]" if ":" in address else address


class NotFoundHandler(Handler):
    """The answer for every path that is not in the route table."""

    def check(self) -> None:
        if not self.service.names.allow(self.request.headers.get("Host", ""), self._local_address):
            super().check()
        raise Refused(404, "not_found", "there is nothing at this path")


def parse(model: type[Record], body: bytes) -> Record:
    """Read a body: strict JSON in UTF-8, checked against a model; ValidationError otherwise."""
    return model.model_validate_json(body)
