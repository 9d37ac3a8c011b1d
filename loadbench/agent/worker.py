"""The plugin on a worker: it records, and its rows ride on the reports that Locust sends to the master."""

from __future__ import annotations

import os
import time
from typing import Any

import gevent
import locust.runners
from locust.env import Environment

from loadbench.agent.guard import guarded
from loadbench.agent.recorder import Recorder

CLOCK, HELLO, FINAL = "lb_clock", "lb_hello", "lb_final"
"""Messages between master and worker: what the master's clock says, "I am here", "that was all"."""
PAYLOAD = "lb"
"""The key of the rows in a worker report."""
AFTER_SECOND_S = 0.03


class Worker:
    """One per worker process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._recorder = Recorder()
        self._receiving: gevent.Greenlet | None = None
        self._signalled = False
        self._cause = "script"
        self._cpu = CpuMeter()
        self._runner.register_message(CLOCK, self.on_clock)
        events = environment.events
        events.request.add_listener(self._recorder.on_request)
        events.test_start.add_listener(self.on_test_start)
        events.report_to_master.add_listener(self.on_report)
        events.test_stopping.add_listener(self.on_stopping)
        events.test_stop.add_listener(self.on_stop)
        events.quitting.add_listener(self.on_quitting)
        self._runner.send_message(HELLO, {"pid": os.getpid()})

    @guarded
    def on_clock(self, *, msg: Any, **_: Any) -> None:
        """Count seconds as the master does: its clock is in the message, which took a moment at most."""
        self._receiving = gevent.getcurrent()
        if not self._recorder.started:
            self._recorder.start(time.monotonic() - msg.data["elapsed"])

    @guarded
    def on_test_start(self, **_: Any) -> None:
        if not self._recorder.started:
            self._recorder.start(time.monotonic())

    @guarded
    def on_report(self, *, data: dict[str, Any], **_: Any) -> None:
        if not self._recorder.started:
            return
        elapsed = self._recorder.elapsed()
        data[PAYLOAD] = {"elapsed": elapsed, "rows": self._recorder.take(), "cpu": self._cpu.percent()}
        # The next report goes out just after a second has ended: so the master has whole seconds soonest.
        locust.runners.WORKER_REPORT_INTERVAL = 1 - elapsed % 1 + AFTER_SECOND_S

    @guarded
    def on_stopping(self, **_: Any) -> None:
        if self._signalled:
            self._cause = "user"
        elif gevent.getcurrent() is self._receiving:
            self._cause = "master"

    @guarded
    def on_stop(self, **_: Any) -> None:
        """Send the last report, and then that it was the last: the same ordered socket carries both."""
        report: dict[str, Any] = {}
        self._environment.events.report_to_master.fire(client_id=self._runner.client_id, data=report)
        self._runner.send_message("stats", report)
        self._runner.send_message(FINAL, {"elapsed": self._recorder.elapsed(), "cause": self._cause})

    @guarded
    def on_quitting(self, **_: Any) -> None:
        """Stop before Locust says goodbye to the master: after that nobody listens to the last report."""
        self._signalled = True
        self._runner.stop()


class CpuMeter:
    """Says how busy this process was since it was last asked."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()
        self._percent = 0.0

    def percent(self) -> float:
        """Give processor time per time over the last half second or more, in percent of one core."""
        at, used = time.monotonic(), time.process_time()
        if at - self._at >= 0.5:
            self._percent = 100 * (used - self._used) / (at - self._at)
            self._at, self._used = at, used
        return self._percent
