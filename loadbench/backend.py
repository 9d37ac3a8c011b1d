"""What a process that looks after runs holds: the store, the receiver and the control plane, opened together."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from loadbench.control import ACTIVE, ControlPlane
from loadbench.errors import ReceiverError
from loadbench.home import data_home
from loadbench.store import Store
from server.app import Receiver

_shared: dict[str, Backend] = {}
_lock = threading.Lock()


class Backend:
    """Store, receiver and control plane of one MongoDB in this process.

    `left_overs` says what the spools of runs that ended unheard still held when it was opened: run id -> messages.
    """

    def __init__(
        self, mongodb_uri: str | None = None, *, host: str = "127.0.0.1", port: int | None = None,
        allowed_hosts: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.store = Store.open(mongodb_uri)
        try:
            self.receiver = self._listen(host, port, allowed_hosts)
        except ReceiverError:
            self.store.close()
            raise
        self.control = ControlPlane(self.store, receiver_url=lambda: self.receiver.url)
        self.left_overs = self.control.deliver_left_overs()
        self.control.supervise()

    @property
    def store_line(self) -> str:
        """Where the data is, without the password."""
        return repr(self.store)

    @classmethod
    def shared(cls, mongodb_uri: str | None = None, *, port: int | None = None) -> Backend:
        """Give this process's backend of a MongoDB, the same one each time: a start cell may run twice."""
        key = f"{mongodb_uri or os.environ.get('LOADBENCH_MONGODB_URI', '')} {data_home()}"
        with _lock:
            backend = _shared.get(key)
            if backend is None:
                # A busy cell must let the receiver's thread in soon: 4.5 ms instead of 16 ms to answer a push.
                sys.setswitchinterval(0.0005)
                backend = _shared[key] = cls(mongodb_uri, port=port)
                atexit.register(backend.close)
            elif port not in (None, 0, backend.receiver.port):
                raise ReceiverError(
                    f"this process receives on port {backend.receiver.port} already: close that Workbench first, or "
                    "leave port out"
                )
            return backend

    def close(self) -> None:
        """Stop looking after runs and listening. The runs' own processes go on."""
        with _lock:
            for key in [key for key, backend in _shared.items() if backend is self]:
                del _shared[key]
        self.control.close()
        self.receiver.stop()
        self.store.close()

    def _listen(self, host: str, port: int | None, allowed_hosts: tuple[str, ...]) -> Receiver:
        """Listen where runs that an earlier process left behind are pushing to, so that their figures flow again."""
        memory = data_home() / "receiver.json"
        wanted = self._ports_of_active_runs()
        if port is not None:
            receiver = Receiver(self.store, host=host, port=port, extra_ports=wanted, allowed_hosts=allowed_hosts)
            return receiver.start()
        last = _last_port(memory)
        receiver = self._first_free([*wanted, last, 0], host, wanted, allowed_hosts)
        with contextlib.suppress(OSError):
            memory.write_text(json.dumps({"port": receiver.port}))
        return receiver

    def _first_free(self, ports: list[int], host: str, extra: list[int], allowed_hosts: tuple[str, ...]) -> Receiver:
        for candidate in ports[:-1]:
            with contextlib.suppress(ReceiverError):
                others = [port for port in extra if port != candidate]
                return Receiver(
                    self.store, host=host, port=candidate, extra_ports=others, allowed_hosts=allowed_hosts
                ).start()
        return Receiver(self.store, host=host, port=ports[-1], allowed_hosts=allowed_hosts).start()

    def _ports_of_active_runs(self) -> list[int]:
        urls = [urlsplit(run.receiver_url) for run in self.store.runs.find(status=ACTIVE) if run.receiver_url]
        return sorted({url.port for url in urls if url.hostname == "127.0.0.1" and url.port})


def _last_port(memory: Path) -> int:
    try:
        return int(json.loads(memory.read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
