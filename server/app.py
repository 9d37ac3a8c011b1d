"""The receiver: one Tornado application in its own thread and loop, next to a notebook or as `loadbench serve`.

`/healthz` answers 200 while the loop runs, `/readyz` 200 only while MongoDB answers, `/metrics` is Prometheus text:

==========================================  ===================================================================
loadbench_intervals_stored_total            intervals written to the ledger
loadbench_intervals_duplicate_total         intervals that came again with the same content
loadbench_intervals_conflict_total          intervals that came again with other content
loadbench_requests_rejected_total{status}   requests answered with 4xx or 5xx
loadbench_requests_in_flight                requests being read or worked on; at most 32
loadbench_ingest_seconds                    histogram of the time from an interval's first byte to its journaled write
==========================================  ===================================================================
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from loadbench.errors import ReceiverError
from loadbench.store import Store
from server import api, charts, comparisons, docs, gates, history, ingest, openapi, schedules
from server.base import DRAIN_BYTES, THREADS, Handler, HostNames, Meters, NotFoundHandler, Service
from server.operation import pattern
from server.watch import GateWatch

if TYPE_CHECKING:
    from loadbench.control import ControlPlane

logger = logging.getLogger("loadbench.receiver")

ROUTES = [*api.routes, *charts.routes, *comparisons.routes, *gates.routes, *schedules.routes, *history.routes]
"""What the API serves: its description at /openapi.json is made of this table."""

BODY_TIMEOUT_S = 9.0
IDLE_TIMEOUT_S = 9.0
MAX_HEADER_BYTES = 32 * 1024
BACKLOG = 512
JOIN_TIMEOUT_S = 10.0

Callback = Callable[[dict[str, Any]], None]


class HealthHandler(Handler):
    limited = False

    async def get(self) -> None:
        self.reply(200, {"status": "ok"})


class ReadyHandler(Handler):
    limited = False

    async def get(self) -> None:
        await self.run(self.service.store.database.command, "ping")
        self.reply(200, {"status": "ready"})


class MetricsHandler(Handler):
    limited = False

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish("\n".join(self.service.meters.lines()) + "\n")


class Feed:
    """Who wants to hear of a run: subscriptions may come from any thread, callbacks run in the server's."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._status: dict[str, str] = {}
        self._lock = threading.Lock()

    def subscribe(self, run_id: str, callback: Callback) -> Callable[[], None]:
        with self._lock:
            self._callbacks.setdefault(run_id, []).append(callback)

        def unsubscribe() -> None:
            with self._lock:
                callbacks = self._callbacks.get(run_id, [])
                if callback in callbacks:
                    callbacks.remove(callback)
                if not callbacks:
                    self._callbacks.pop(run_id, None)
                    self._status.pop(run_id, None)

        return unsubscribe

    def publish(self, run_id: str, status: str, document: dict[str, Any] | None) -> None:
        """Tell a new interval, and the status where it is another one than was last told."""
        with self._lock:
            callbacks = list(self._callbacks.get(run_id, ()))
            if not callbacks:
                return
            changed = self._status.get(run_id) != status
            self._status[run_id] = status
        events = [document] if document is not None else []
        if changed:
            events.append({"status": str(status)})
        for event in events:
            for callback in callbacks:
                self._tell(callback, event)

    def _tell(self, callback: Callback, event: dict[str, Any]) -> None:
        # A view that fails must neither cost the agent its answer nor the other views their event.
        try:
            callback(event)
        except Exception:
            logger.exception("a subscriber failed")


def make_app(service: Service) -> Application:
    """Build the application: the routes of each module, and problem documents for the rest."""
    own = {"service": service}
    return Application(
        [
            *ingest.routes(service),
            *[(pattern(template), handler, own) for template, handler in (*ROUTES, *docs.routes)],
            *openapi.routes_of(service, ROUTES),
            ("/healthz", HealthHandler, own),
            ("/readyz", ReadyHandler, own),
            ("/metrics", MetricsHandler, own),
        ],
        default_handler_class=NotFoundHandler,
        default_handler_args=own,
        log_function=_log,
    )


def _log(handler: RequestHandler) -> None:
    request = handler.request
    logger.debug("%d %s %s %.1f ms", handler.get_status(), request.method, request.path, 1000 * request.request_time())


def bind(port: int, host: str) -> socket.socket:
    """Listen, or raise ReceiverError that says in one line who is in the way."""
    if not 0 <= port <= 65_535:
        raise ReceiverError(f"Port must be in 0-65535; not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno is None or error.errno < 0:  # of getaddrinfo
            message = f"Cannot resolve the bind address {host}: use an address of this machine"
        elif error.errno == errno.EADDRINUSE:
            message = f"Port {port} is taken{_holder(port)}: stop it or choose another port"
        elif error.errno == errno.EADDRNOTAVAIL:
            message = f"{host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all of its addresses"
        elif error.errno == errno.EACCES:
            message = f"Port {port} needs privileges: choose one above 1023"
        else:
            message = f"Cannot listen on {host}:{port} ({os.strerror(error.errno)}): choose another address"
        raise ReceiverError(message) from None
    listening.setblocking(False)
    return listening


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass  # somebody else's process, or one that has just ended: the message does without it
    return ""


class Receiver:
    """Takes what agents push, and stores it.

    Parameters
    ----------
    store : Store
    host : str
        Address to listen on. Anything but loopback lets other machines reach it.
    port : int
        0 lets the system choose; the choice is kept over `stop` and `start`.
    extra_ports : iterable of int
        Bound as well where they are free, so that runs started against an earlier receiver find this one.
    allowed_hosts : iterable of str
        Further names, `name` or `name:port`, under which clients may address this receiver.
    control : ControlPlane, optional
        What starts and stops runs for the API; without one, it refuses to.
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        extra_ports: Iterable[int] = (),
        allowed_hosts: Iterable[str] = (),
        control: ControlPlane | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._store = store
        self._extra_ports = tuple(extra_ports)
        self._allowed_hosts = tuple(allowed_hosts)
        self._control = control
        self.meters = Meters()
        self._feed = Feed()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Receiver {self.url} {'listening' if self.is_running else 'stopped'}>"

    def __enter__(self) -> Receiver:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 - compared with
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Receiver:
        """Listen; on a running receiver, do nothing.

        Raises
        ------
        ReceiverError
            If the port is taken, naming the process that holds it, or the address is not of this machine.
        """
        with self._lock:
            if self.is_running:
                return self
            sockets = [bind(self.port, self.host)]
            self.port = sockets[0].getsockname()[1]
            ports = {self.port}
            for port in self._extra_ports:
                if port in ports:
                    continue
                try:
                    sockets.append(bind(port, self.host))
                except ReceiverError as error:
                    logger.info("not listening on an earlier port: %s", error)
                else:
                    ports.add(port)
            self._serve_in_thread(sockets, HostNames(self.host, ports, self._allowed_hosts))
            return self

    def stop(self) -> None:
        """Stop listening, end what is in flight, and join the thread."""
        with self._lock:
            thread, loop, stopping = self._thread, self._loop, self._stopping
            if thread is None:
                return
            if thread.is_alive() and loop is not None and stopping is not None:
                loop.call_soon_threadsafe(stopping.set)
            if thread is not threading.current_thread():
                thread.join(JOIN_TIMEOUT_S)
            self._thread = None

    def wait(self) -> None:
        """Block until the receiver is stopped; Ctrl-C gets through."""
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join(0.5)

    def subscribe(self, run_id: str, callback: Callback) -> Callable[[], None]:
        """Call back, in the receiver's thread, for each newly stored interval of a run and each change of its status.

        Parameters
        ----------
        run_id : str
        callback : callable
            Takes the interval's document, or `{"status": ...}`. Must be quick; what it raises is logged.

        Returns
        -------
        callable
            Ends the subscription.
        """
        return self._feed.subscribe(run_id, callback)

    def _serve_in_thread(self, sockets: list[socket.socket], names: HostNames) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets, names, ready)), name="loadbench-receiver", daemon=True
        )
        self._thread.start()
        if not ready.wait(JOIN_TIMEOUT_S):
            raise ReceiverError("The receiver's thread does not come up: restart the kernel")

    async def _serve(self, sockets: list[socket.socket], names: HostNames, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="loadbench-receiver")
        watch = GateWatch(self._store, self._control)
        service = Service(
            self._store, names=names, feed=self._feed, executor=executor, meters=self.meters, control=self._control,
            watch=watch,
        )  # fmt: skip
        server = HTTPServer(
            make_app(service),
            max_body_size=DRAIN_BYTES,
            max_header_size=MAX_HEADER_BYTES,
            max_buffer_size=2 * DRAIN_BYTES,
            body_timeout=BODY_TIMEOUT_S,
            idle_connection_timeout=IDLE_TIMEOUT_S,
        )
        server.add_sockets(sockets)
        ready.set()
        try:
            await self._stopping.wait()
        finally:
            server.stop()
            await server.close_all_connections()
            executor.shutdown(wait=True, cancel_futures=True)
            watch.close()
