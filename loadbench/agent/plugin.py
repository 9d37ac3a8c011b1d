"""The plugin: the life of one run in a Locust master or local runner, from init to the last acknowledged interval.

Event handlers only take notes and wake somebody. The recording greenlet makes the messages and puts them into the
outbox, whose sending greenlet delivers them; neither is ever killed.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import gevent
import locust
import locust.runners
from gevent.event import Event
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadbench.agent import webui, wire
from loadbench.agent.children import Children
from loadbench.agent.collector import Collector, Gauges
from loadbench.agent.guard import guarded
from loadbench.agent.outbox import Outbox
from loadbench.agent.recorder import Clock, Recorder, printable
from loadbench.agent.settings import Settings
from loadbench.agent.worker import CLOCK, FINAL, HELLO, PAYLOAD, CpuMeter, Worker

EXIT_WAIT_S = 7.5
"""How long the end of the process waits for the receiver, besides 2 s of Locust's own; the rest stays in the spool."""
FINALS_WAIT_S = 5.0
"""How long after --stop-timeout the master waits for the last reports of its workers."""
MASTER_TICK_S = 0.1
BY_ITSELF = ("duration", "shape", "script")

log = logging.getLogger(__name__)


def register() -> None:
    """Attach the plugin to Locust's events; call it before `locust.main.main`."""
    settings = Settings.take()
    if settings is None:
        log.warning("%s is not set: nothing will be recorded, this is plain Locust", wire.ENV_RUN_ID)
        return
    locust.runners.WORKER_REPORT_INTERVAL = 1.0
    locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10  # by default workers go on for 60 s after their master died

    def on_init(environment: Environment, runner: Any, web_ui: Any = None, **_: Any) -> None:
        if isinstance(runner, WorkerRunner):
            Worker(environment)
            return
        if settings.web_ui and web_ui is not None:
            webui.guard(web_ui)
        life = Life(environment, settings)
        if settings.workers and isinstance(runner, MasterRunner):
            life.adopt(Children(settings.workers, port=runner.server.port, arguments=sys.argv[1:]))

    locust.events.init.add_listener(on_init)


class Crew(Protocol):
    """Which of the workers that are connected to a persistent master take part in a run."""

    def accepts(self, client_id: str) -> bool:
        """Say whether a worker is, or was, part of the run."""

    def hashes(self) -> list[str]:
        """Give the different sha256 of the scripts that they started from."""


def begin(environment: Environment, settings: Settings, *, crew: Crew) -> Life:
    """Record one run of a persistent master, which outlives it: only the workers of `crew` count.

    Its listeners are taken away together with those of the script, by who loads the next one.
    """
    return Life(environment, settings, crew=crew)


class Life:
    """One run, in the process that pushes.

    `begun` is set when the test starts, `over` when the run's last message is in the spool.
    """

    def __init__(self, environment: Environment, settings: Settings, *, crew: Crew | None = None) -> None:
        self._environment = environment
        self._crew = crew
        self._runner = environment.runner
        self._settings = settings
        self._is_master = isinstance(self._runner, MasterRunner)
        self._recorder = None if self._is_master else Recorder()
        self._clock: Clock | None = None
        self._collector: Collector | None = None
        self._timer: gevent.Greenlet | None = None
        self._receiving: gevent.Greenlet | None = None
        self._children: Children | None = None
        self._reason: str | None = None
        self._signalled = self._leaving = False
        self._stopped_at: float | None = None
        self._last_gauges: Gauges | None = None
        self._pids: dict[str, int] = {}
        self._causes: dict[str, str] = {}
        self._ends: list[float] = []
        self._cpu, self._worker_cpu = CpuMeter(), {}
        self._tick, self.begun, self.over = Event(), Event(), Event()
        self._outbox = Outbox(
            settings,
            role="master" if self._is_master else "local",
            on_status=self._on_status,
            state=self._waiting_state,
        )
        self._listen()

    def _listen(self) -> None:
        events = self._environment.events
        events.test_start.add_listener(self.on_test_start)
        events.test_stopping.add_listener(self.on_stopping)
        events.test_stop.add_listener(self.on_stop)
        events.quitting.add_listener(self.on_quitting)
        events.quit.add_listener(self.on_quit)
        if self._is_master:
            events.worker_report.add_listener(self.on_worker_report)
            self._runner.register_message(HELLO, self.on_hello)
            self._runner.register_message(FINAL, self.on_final)
        else:
            events.request.add_listener(self._recorder.on_request)

    def adopt(self, children: Children) -> None:
        """Look after worker processes, and take them along at the end however it comes."""
        self._children = children
        gevent.spawn(self._watch_children)

    @guarded
    def on_test_start(self, **_: Any) -> None:
        if self._clock is not None:
            log.warning("a second test in this process is not recorded: start a new run for it")
            return
        self._clock = Clock()
        if self._recorder:
            self._recorder.start(self._clock.origin)
        else:
            self._runner.send_message(CLOCK, {"elapsed": self._clock.elapsed()})
        self._collector = Collector(self._settings.run_id, self._outbox.source, origin_ms=self._clock.origin_ms)
        if self._settings.duration_s:
            gevent.get_hub().loop.update_now()  # timers count from the loop's clock, which stood still during imports
            self._timer = gevent.spawn_later(self._settings.duration_s, self._deadline)
        gevent.spawn(self._record)
        self.begun.set()

    @guarded
    def on_hello(self, *, msg: Any, **_: Any) -> None:
        self._receiving = gevent.getcurrent()
        self._pids[msg.node_id] = msg.data["pid"]
        if self._clock is not None:
            self._runner.send_message(CLOCK, {"elapsed": self._clock.elapsed()}, client_id=msg.node_id)

    @guarded
    def on_worker_report(self, *, client_id: str, data: dict[str, Any], **_: Any) -> None:
        self._receiving = gevent.getcurrent()
        report = data.pop(PAYLOAD, None)
        if report is None or self._collector is None or self.over.is_set() or not self._accepts(client_id):
            return
        self._collector.report(client_id, report["elapsed"], report["rows"], now=self._clock.elapsed())
        self._worker_cpu[client_id] = report["cpu"]
        self._tick.set()

    @guarded
    def on_final(self, *, msg: Any, **_: Any) -> None:
        if self._collector is None:
            self._pids.pop(msg.node_id, None)  # it left before the test began
        if self._collector is None or self.over.is_set() or not self._accepts(msg.node_id):
            return
        self._causes[msg.node_id] = msg.data["cause"]
        now = self._clock.elapsed()
        self._ends.append(self._collector.report(msg.node_id, msg.data["elapsed"], [], now=now))
        self._tick.set()

    @guarded
    def on_stopping(self, **_: Any) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer is not gevent.getcurrent():
            timer.kill(block=False)
        if self._clock is not None and self._stopped_at is None:
            self._reason = self._reason or self._find_reason()
            self._last_gauges = self._last_gauges or self._gauges()

    def _find_reason(self) -> str:
        if self._environment.web_ui is not None:
            import flask  # part of Locust; only there when its web interface is

            if flask.has_request_context():
                return "user"
        if self._signalled:
            return "user"
        if self._runner.shape_greenlet is not None and self._runner.shape_greenlet is gevent.getcurrent():
            return "shape"
        if self._is_master and self._worker_count() == 0:
            if self._lost():
                return "workers-lost"
            return "script" if "script" in self._causes.values() else "user"
        return "script"

    @guarded
    def on_stop(self, **_: Any) -> None:
        """Note the end. A master must not go on to kill its receiver before the workers' last reports are in."""
        if self._clock is None or self.over.is_set():
            return
        if self._stopped_at is None:
            self._stopped_at = self._clock.elapsed()
        self._tick.set()
        if self._is_master and gevent.getcurrent() is not self._receiving:
            if self._environment.parsed_options.headless:
                self._runner.send_message("quit")  # Locust sends it after this event: too late for their reports
            self.over.wait(self._finals_wait_s)

    @guarded
    def on_quitting(self, **_: Any) -> None:
        self._signalled = True

    @guarded
    def on_quit(self, **_: Any) -> None:
        """Wait for the receiver, bounded; this runs just before every orderly exit."""
        self._leaving = True
        self._tick.set()
        deadline = time.monotonic() + EXIT_WAIT_S
        if self._clock is not None:
            self.over.wait(EXIT_WAIT_S)
        self._outbox.close(max(deadline - time.monotonic(), 0.1))
        if self._children:
            stopped_for_s = self._clock.elapsed() - self._stopped_at if self._stopped_at is not None else 0
            self._children.end(max(self._finals_wait_s - stopped_for_s, 1))

    @property
    def _finals_wait_s(self) -> float:
        return self._environment.stop_timeout + FINALS_WAIT_S

    def _deadline(self) -> None:
        self._timer = None  # first of all: whoever cancels the timer would kill this greenlet in the middle of a stop
        self.stop("duration")

    def finish(self) -> None:
        """Wait until all is delivered, however long it takes, and let go of the spool: the process goes on."""
        self._outbox.finish()

    def leave(self, within_s: float) -> None:
        """Let go of the spool; what is not delivered within that time stays in it."""
        self._outbox.close(within_s)

    @property
    def undelivered(self) -> int:
        """How many messages wait for the receiver."""
        return self._outbox.waiting

    def stop(self, reason: str) -> None:
        """End the test, for a reason of `wire.STOP_REASONS`. Blocks until the users have stopped."""
        self._reason = self._reason or reason
        if self._environment.parsed_options.headless:
            self._runner.quit()
        else:
            self._runner.stop()

    def _on_status(self, status: str) -> None:
        """Obey when the receiver says that somebody has stopped the run."""
        is_on = self._clock is not None and self._stopped_at is None
        if status in ("Stopping", "Stopped") and is_on and self._reason is None:
            self._reason = "user"
            gevent.spawn(self.stop, "user")

    def _record(self) -> None:
        """Make the messages of the run, in order, until it is over."""
        self._start_message()
        while not self._finished():
            self._tick.wait(MASTER_TICK_S if self._is_master else self._to_next_second())
            self._tick.clear()
            self._emit()
        self._stop_message()
        self.over.set()
        if self._settings.web_ui and self._environment.web_ui is not None:
            webui.close_soon(self._environment.web_ui)
        if self._reason == "workers-lost" and self._environment.parsed_options.headless:
            self._runner.quit()  # Locust itself would wait for ever for workers to come back

    def _to_next_second(self) -> float:
        return 1.002 - self._clock.elapsed() % 1

    def _finished(self) -> bool:
        if self._stopped_at is None:
            return self._leaving
        missing = self._live() - self._causes.keys()
        return not missing or self._leaving or self._clock.elapsed() > self._stopped_at + self._finals_wait_s

    @guarded
    def _start_message(self) -> None:
        self._outbox.put(wire.TEST_START, {"environment": self._describe_environment()}, clock=self._clock)

    @guarded
    def _emit(self) -> None:
        if self._recorder:
            self._collector.add(self._recorder.take())
        intervals = self._collector.due(
            self._clock.elapsed(), self._gauges(), live=self._live(), dropped=self._outbox.dropped
        )
        for interval in intervals:
            self._outbox.put_interval(interval)

    @guarded
    def _stop_message(self) -> None:
        if self._recorder:
            self._environment.events.request.remove_listener(self._recorder.on_request)
            self._collector.add(self._recorder.take())
        end = self._clock.elapsed() if self._stopped_at is None else self._stopped_at
        gauges = self._last_gauges or self._gauges()
        *intervals, final = self._collector.close(max(self._ends, default=end), gauges, dropped=self._outbox.dropped)
        for interval in intervals:
            self._outbox.put_interval(interval)
        lost = len(self._lost())
        reason = self._reason or "script"
        body = {
            "reason": reason,
            "autoStopped": reason in BY_ITSELF,
            "lastSeq": final["seq"],
            "workersLost": lost,
            "final": final,
        }
        if lost:
            body["error"] = f"{lost} of {len(self._known())} workers were lost: what they counted last is missing"
        self._outbox.put(wire.TEST_STOP, body, clock=self._clock, seq=final["seq"])

    def _describe_environment(self) -> dict[str, Any]:
        script = Path(self._environment.parsed_locustfiles[0])
        return {
            "locust": locust.__version__,
            "python": platform.python_version(),
            "host": printable(platform.node(), wire.MAX_NAME) or "unknown",
            "workers": self._worker_count() if self._is_master else 0,
            "userClasses": [printable(user.__name__, wire.MAX_NAME) for user in self._environment.user_classes],
            "scriptSha256": hashlib.sha256(script.read_bytes()).hexdigest(),
        } | ({"workerSha256s": self._crew.hashes()} if self._crew else {})

    def _accepts(self, client_id: str) -> bool:
        return self._crew is None or self._crew.accepts(client_id)

    def _worker_count(self) -> int:
        return self._runner.worker_count if self._crew is None else len(self._live())

    def _gauges(self) -> Gauges:
        if not self._is_master:
            return Gauges(self._runner.user_count, cpu_percent=self._cpu.percent())
        known = self._known()
        expected = max(self._environment.parsed_options.expect_workers, len(known))
        # While a run stops, a worker that has said its last word and left is not a lost one.
        workers = self._worker_count() if self._last_gauges is None else len(known - self._lost() | self._live())
        busiest = max(self._worker_cpu.values(), default=0.0)
        return Gauges(self._runner.user_count, workers, expected, max(self._cpu.percent(), busiest))

    def _known(self) -> set[str]:
        """Every worker that was part of the run."""
        known = self._pids.keys() | self._collector.workers | self._causes.keys()
        return {worker for worker in known if self._accepts(worker)}

    def _lost(self) -> set[str]:
        """The workers whose last word is missing."""
        return self._known() - self._causes.keys()

    def _live(self) -> set[str]:
        """The workers to wait for: there, and not killed as far as that is known."""
        if not self._is_master:
            return set()
        dead = self._children.silenced() if self._children else set()
        clients = self._runner.clients
        active = {client.id for client in (*clients.ready, *clients.spawning, *clients.running)}
        return {worker for worker in active if self._pids.get(worker) not in dead and self._accepts(worker)}

    def _waiting_state(self) -> str | None:
        """Keep the lease until there are intervals: imports and waiting for workers can take long."""
        return None if self._clock else self._runner.state

    def _watch_children(self) -> None:
        while not self.over.is_set():
            gevent.sleep(0.2)
            for pid, code in self._children.newly_dead():
                if self._clock is None:
                    log.error("worker process %d ended with exit code %d before the test began", pid, code)
                    self._children.end(0)
                    sys.exit(1)
                if self._stopped_at is None and not self._signalled and self._reason is None:
                    log.warning("worker process %d ended with exit code %d: its users are gone", pid, code)
                    if not self._children.living():
                        self.stop("workers-lost")
