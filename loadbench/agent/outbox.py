"""The outbox: what Locust's greenlets hand over is spooled and sent without holding up the loop."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from loadbench.agent import wire
from loadbench.agent.collector import Interval
from loadbench.agent.recorder import Clock
from loadbench.agent.sender import Sender, letter
from loadbench.agent.settings import Settings
from loadbench.agent.spool import Letter, Spool

FINISHED_EVERY_S = 0.25
"""How often a run that is over looks whether all of it is delivered."""

log = logging.getLogger(__name__)


class Outbox:
    """The spool and the one greenlet that empties it, which nobody ever kills.

    sqlite runs in a real thread: an append takes 0.3 ms at the median but 9 ms and more when the disk is slow, and on
    the loop every user would wait for it and the target be blamed.

    Parameters
    ----------
    settings : Settings
        Whose run it is, and where its messages go.
    role : str
        What this process is: the first part of the name of the source.
    on_status : callable
        Takes the run's status as each answer tells it.
    state : callable
        Gives what the heartbeat says while there is nothing else to send; None for silence.
    """

    def __init__(
        self, settings: Settings, *, role: str, on_status: Callable[[str], None], state: Callable[[], str | None]
    ) -> None:
        self.source = f"{role}-{uuid.uuid4().hex}"
        self._run_id = settings.run_id
        self._state = state
        self._wake, self._closing, self._sent = Event(), Event(), Event()
        self._closed = False
        self._disk = ThreadPool(1)
        self._notices: list[str] = []
        self._spool = Spool(settings.spool, warn=self._notices.append)  # logged here: its thread has no gevent hub
        self._sender = Sender(
            self._spool, url=settings.url, token=settings.token, on_status=on_status, off_loop=self._on_disk
        )
        gevent.spawn(self._send)

    def __repr__(self) -> str:
        return f"<Outbox of {self.source}>"

    @property
    def dropped(self) -> int:
        """How many intervals were given up."""
        return self._spool.dropped

    def put(self, kind: str, body: dict[str, Any], *, clock: Clock, seq: int = 0) -> None:
        """Spool a message; it is durable when this returns."""
        self._write(letter(kind, self._head(clock) | body, seq=seq))

    def put_interval(self, interval: Interval) -> None:
        """Spool an interval."""
        self._write(letter(wire.METRICS, interval, seq=interval["seq"]))

    @property
    def waiting(self) -> int:
        """How many messages the receiver has not acknowledged."""
        return 0 if self._closed else self._on_disk(self._spool.__len__)

    def finish(self) -> None:
        """Wait until all is delivered, at the pace that the receiver allows, and close."""
        while self.waiting:
            gevent.sleep(FINISHED_EVERY_S)
        self.close(FINISHED_EVERY_S)

    def close(self, within_s: float) -> None:
        """Wait for the receiver at most so long; what is left stays in the spool."""
        if self._closed:
            return
        self._closing.set()
        self._wake.set()
        self._sent.wait(within_s)
        if self._closed:
            return
        left = self._on_disk(self._spool.__len__)
        self._on_disk(lambda: self._spool.close(remove_if_empty=True))
        self._closed = True
        if self._sent.is_set():
            self._disk.kill()  # a persistent master has a thread for each run otherwise
        self._log_notices()
        if left:
            log.warning("%d messages are not delivered; they wait in %s", left, self._spool.path)

    def _write(self, message: Letter) -> None:
        self._on_disk(self._spool.append, message)
        self._log_notices()
        self._wake.set()

    def _head(self, clock: Clock) -> dict[str, Any]:
        return {
            "version": wire.WIRE_VERSION,
            "runId": self._run_id,
            "source": self.source,
            "timestamp": clock.now_ms(),
        }

    def _send(self) -> None:
        self._sender.run(wake=self._wake, closing=self._closing, heartbeat=self._heartbeat)
        self._sent.set()

    def _heartbeat(self) -> dict[str, Any] | None:
        state = self._state()
        return None if state is None else self._head(Clock()) | {"state": state}

    def _on_disk(self, action: Callable[..., Any], *args: Any) -> Any:
        return self._disk.apply(action, args)

    def _log_notices(self) -> None:
        while self._notices:
            log.warning("%s", self._notices.pop(0))
