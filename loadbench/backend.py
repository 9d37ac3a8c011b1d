"""What a process that looks after runs holds: the store, the receiver and the control plane, opened together."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from loadbench.clusters import Clusters, Configuration
from loadbench.control import ACTIVE, ControlPlane, retention_days
from loadbench.errors import ReceiverError, StoreUnavailable
from loadbench.home import data_home
from loadbench.model import Cluster
from loadbench.scheduler import Scheduler
from loadbench.store import Store
from server.app import Receiver

SERVE_PORT = 8765
ASK_EVERY_S = 0.5
_shared: dict[str, Backend | Reader] = {}
_lock = threading.Lock()
log = logging.getLogger(__name__)


class Backend:
    """Store, receiver and control plane of one MongoDB in this process.

    What is left out is what `loadbench.toml` says of it; then it has its default. `left_overs` says what the spools of
    runs that ended unheard still held when it was opened: run id -> messages. `keeps_schedules` is for
    `loadbench serve`: a notebook's kernel comes and goes, and fires nothing. A `patient` one listens, and answers 503,
    while MongoDB is not there yet; it does the rest as soon as it is.
    """

    def __init__(
        self, mongodb_uri: str | None = None, *, host: str | None = None, port: int | None = None,
        allowed_hosts: tuple[str, ...] = (), advertised_url: str | None = None,
        clusters: Iterable[Cluster] | None = None, keeps_schedules: bool = False, patient: bool = False,
    ) -> None:  # fmt: skip
        told = Configuration.read()
        host = host or told.receiver.host or "127.0.0.1"
        port = told.receiver.port if port is None else port
        advertised_url = advertised_url or told.receiver.advertised_url
        allowed_hosts = (*allowed_hosts, *told.receiver.allowed_hosts)
        if advertised_url:
            allowed_hosts = (*allowed_hosts, urlsplit(advertised_url).netloc)
        known = Clusters(told.cluster if clusters is None else clusters)
        kept_days = retention_days(told.retention.days)
        self.store = Store.open(mongodb_uri, patient=patient)
        self.control = ControlPlane(
            self.store, receiver_url=lambda: self.receiver.url, advertised_url=advertised_url, clusters=known,
            retention_days=kept_days,
        )  # fmt: skip
        with contextlib.ExitStack() as opened:
            opened.callback(self.store.close)
            self.receiver = self._listen(host, port, allowed_hosts)
            opened.callback(self.receiver.stop)
            self.left_overs = {} if self.store.silence else self.control.deliver_left_overs()
            opened.pop_all()
        self.scheduler = Scheduler(self.store, self.control) if keeps_schedules else None
        self._closed, self._waiting = threading.Event(), None
        if self.store.silence:
            self._waiting = threading.Thread(target=self._wait_for_mongodb, name="loadbench-waiting", daemon=True)
            self._waiting.start()
        else:
            self._look_after_runs()
        if keeps_schedules:
            _remember_server({"pid": os.getpid(), "url": self.receiver.url, "advertisedUrl": advertised_url})

    def _look_after_runs(self) -> None:
        self.control.supervise()
        if self.scheduler is not None:
            self.scheduler.start()

    def _wait_for_mongodb(self) -> None:
        while not self._closed.wait(ASK_EVERY_S):
            try:
                self.store.prepare()
                self.left_overs = self.control.deliver_left_overs()
            except StoreUnavailable as error:
                log.debug("%s", error)
            except Exception:  # whatever it is, this must not be the end of a receiver that nobody looks at
                log.exception("MongoDB is there, but cannot be used; it is tried again")
            else:
                log.warning("MongoDB answers now: runs are looked after")
                self._look_after_runs()
                return

    @property
    def store_line(self) -> str:
        """Where the data is, without the password."""
        return repr(self.store)

    @property
    def receiver_url(self) -> str:
        """Where pushes arrive."""
        return self.receiver.url

    @classmethod
    def shared(
        cls, mongodb_uri: str | None = None, *, port: int | None = None, host: str | None = None,
        advertised_url: str | None = None, clusters: Iterable[Cluster] | None = None,
    ) -> Backend:  # fmt: skip
        """Give this process's backend of a MongoDB, the same one each time: a start cell may run twice."""
        clusters = None if clusters is None else Clusters(clusters)
        key = f"{mongodb_uri or os.environ.get('LOADBENCH_MONGODB_URI', '')} {data_home()}"
        with _lock:
            backend = _shared.get(key)
            if backend is None:
                # A busy cell must let the receiver's thread in soon: 4.5 ms instead of 16 ms to answer a push.
                sys.setswitchinterval(0.0005)
                backend = cls(mongodb_uri, port=port, host=host, advertised_url=advertised_url, clusters=clusters)
                _shared[key] = backend
                atexit.register(backend.close)
            elif port not in (None, 0, backend.receiver.port):
                raise ReceiverError(
                    f"this process receives on port {backend.receiver.port} already: close that Workbench first, or "
                    "leave port out"
                )
            elif host not in (None, backend.receiver.host):
                raise ReceiverError(
                    f"this process receives on {backend.receiver.host} already: close that Workbench first, or leave "
                    "host out"
                )
            if clusters is not None:
                backend.control.clusters = clusters
            backend.control.advertised_url = advertised_url or backend.control.advertised_url
            return backend

    def close(self) -> None:
        """Stop looking after runs and listening. The runs' own processes go on."""
        with _lock:
            for key in [key for key, backend in _shared.items() if backend is self]:
                del _shared[key]
        self._closed.set()
        if self._waiting is not None:
            self._waiting.join(timeout=10)
        if self.scheduler is not None:
            self.scheduler.close()
            _forget_server()
        self.control.close()
        self.receiver.stop()
        self.store.close()

    def _listen(self, host: str, port: int | None, allowed_hosts: tuple[str, ...]) -> Receiver:
        """Listen where runs that an earlier process left behind are pushing to, so that their figures flow again."""
        memory = data_home() / "receiver.json"
        wanted = self._ports_of_active_runs(host)
        if port is not None:
            return self._receiver(host=host, port=port, extra_ports=wanted, allowed_hosts=allowed_hosts).start()
        last = _last_port(memory)
        receiver = self._first_free([*wanted, last, 0], host, wanted, allowed_hosts)
        with contextlib.suppress(OSError):
            memory.write_text(json.dumps({"port": receiver.port}))
        return receiver

    def _first_free(self, ports: list[int], host: str, extra: list[int], allowed_hosts: tuple[str, ...]) -> Receiver:
        for candidate in ports[:-1]:
            with contextlib.suppress(ReceiverError):
                others = [port for port in extra if port != candidate]
                return self._receiver(
                    host=host, port=candidate, extra_ports=others, allowed_hosts=allowed_hosts
                ).start()
        return self._receiver(host=host, port=ports[-1], allowed_hosts=allowed_hosts).start()

    def _receiver(self, **where: Any) -> Receiver:
        return Receiver(self.store, control=self.control, **where)

    def _ports_of_active_runs(self, host: str) -> list[int]:
        if self.store.silence:
            return []
        urls = [urlsplit(run.receiver_url) for run in self.store.runs.find(status=ACTIVE) if run.receiver_url]
        return sorted({url.port for url in urls if url.hostname in ("127.0.0.1", host) and url.port})


class Reader:
    """The store of one MongoDB in this process and nothing else: no receiver, no supervisor, no `receiver.json`.

    It is what a report needs, which must not take runs, ports or spools from the process that looks after them.
    """

    receiver_url: str | None = None

    def __init__(self, mongodb_uri: str | None = None) -> None:
        self.store = Store.open(mongodb_uri)

    @property
    def store_line(self) -> str:
        """Where the data is, without the password."""
        return repr(self.store)

    @property
    def receiver(self) -> Receiver:
        """Refuse: there is none."""
        raise ReceiverError("this workbench only reads: make it without receive=False to start, stop or watch runs")

    control = receiver

    @classmethod
    def shared(cls, mongodb_uri: str | None = None) -> Reader:
        """Give this process's reader of a MongoDB, the same one each time."""
        key = f"reader {mongodb_uri or os.environ.get('LOADBENCH_MONGODB_URI', '')} {data_home()}"
        with _lock:
            reader = _shared.get(key)
            if reader is None:
                reader = _shared[key] = cls(mongodb_uri)
                atexit.register(reader.close)
            return reader

    def close(self) -> None:
        """Let go of MongoDB."""
        with _lock:
            for key in [key for key, backend in _shared.items() if backend is self]:
                del _shared[key]
        self.store.close()


def find_receiver() -> tuple[str, bool]:
    """Say to which URL agents can push from outside of this process, and whether a receiver answers there now.

    It is that of the `loadbench serve` that runs here, by the name that it was told to advertise; else the advertised
    one of `loadbench.toml`, else that of the notebook used last.
    """
    server = _server_here()
    if (url := server.get("url")) and _answers(url):
        return server.get("advertisedUrl") or url, True
    told = Configuration.read().receiver
    if told.advertised_url:
        return told.advertised_url, _answers(told.advertised_url)
    ports = [told.port or SERVE_PORT, _last_port(data_home() / "receiver.json")]
    urls = [f"http://127.0.0.1:{port}" for port in ports if port]
    found = next((url for url in urls if _answers(url)), None)
    return found or urls[0], found is not None


def _server_file() -> Path:
    return data_home() / "serve.json"


def _remember_server(server: dict[str, Any]) -> None:
    """Leave word of this `loadbench serve` for other commands on this machine; of several, the last one counts."""
    with contextlib.suppress(OSError):
        _server_file().write_text(json.dumps(server))


def _server_here() -> dict[str, Any]:
    try:
        found = json.loads(_server_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _forget_server() -> None:
    if _server_here().get("pid") == os.getpid():
        with contextlib.suppress(OSError):
            _server_file().unlink()


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"{url}/healthz", timeout=1).ok
        except requests.RequestException:
            return False


def _last_port(memory: Path) -> int:
    try:
        return int(json.loads(memory.read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
