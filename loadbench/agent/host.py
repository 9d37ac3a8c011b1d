"""A persistent master: it waits for a run, performs it on its workers, and waits for the next one.

`python -m loadbench.agent.host --master ...` or `--worker ...`; `loadbench agent` prepares the environment for it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import gevent
import locust
import locust.runners
from gevent.event import Event
from locust.env import Environment
from locust.main import main as locust_main

from loadbench.agent import wire
from loadbench.agent.crew import Crew, dispatcher_of
from loadbench.agent.desk import Desk
from loadbench.agent.order import Busy, Order
from loadbench.agent.plugin import EXIT_WAIT_S, Life, begin
from loadbench.agent.rerun import IDLE_SCRIPT, Rerun
from loadbench.agent.sender import drain
from loadbench.agent.settings import Settings
from loadbench.agent.spool import Spool
from loadbench.agent.swap import SCRIPT_NAME, ScriptFailed, Swap

LOAD_WITHIN_S = 60.0
"""How long workers may take to start anew and import a script."""
BEGIN_WITHIN_S = 15.0
ALONE_FOR_S = 10.0
"""How long a run may be without any worker before it is ended; one that starts anew may take that long."""
LISTENERS_WITHIN_S = 60.0
"""How long a script's own test_stop listeners may take before the next run is let in."""
REMEMBERED = 50

log = logging.getLogger("loadbench.agent.host")  # its name when it is run, too


@dataclass(eq=False)
class Run:
    """One order and how far it has come: loading, running, delivering, then over or failed."""

    order: Order
    state: str = "loading"
    error: str = ""
    worker: str = ""
    is_cancelled: bool = False
    life: Life | None = None
    listeners_done: Event = field(default_factory=Event)

    @property
    def is_on(self) -> bool:
        return self.state in ("loading", "running")

    def fail(self, error: str, *, worker: str = "") -> None:
        self.state, self.error, self.worker = "failed", error, worker
        last = error.strip().rpartition("\n")[2]
        log.error("run %s failed: %s", self.order.run_id, f"worker {worker}: {last}" if worker else last)


class Host:
    """What turns a Locust master into a persistent one."""

    def __init__(self, environment: Environment, *, folder: Path, spools: Path, token: str) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._folder, self._spools = folder, spools
        self.crew = Crew(self._runner, token)
        environment.dispatcher_class = dispatcher_of(self.crew)
        environment.events.quit.add_listener(self._on_quit)
        self.runs: OrderedDict[str, Run] = OrderedDict()
        # Last of all: what is here now stays, what scripts add to it goes.
        self._swap = Swap(environment, sys.argv[1:])

    @property
    def current(self) -> Run | None:
        """The run that this master is busy with."""
        return next((run for run in self.runs.values() if run.is_on), None)

    def take(self, order: Order) -> Run:
        """Accept a run; it goes on in a greenlet of its own.

        Raises
        ------
        Busy
            If another run is on, or no worker is connected.
        """
        known = self.runs.get(order.run_id)
        if known is not None:
            return known  # the answer to the first request got lost
        if self.current is not None:
            raise Busy(f"it is busy with {self.current.order.run_id}: wait for its end, or stop it")
        if not self.crew.present():
            why = "; ".join(member.refused for member in self.crew.refused())
            raise Busy(
                f"it has no workers{f' ({why})' if why else ''}: start one with `loadbench agent --worker "
                f"--master-host {platform.node()} --master-port {self._runner.server.port}`"
            )
        run = self.runs[order.run_id] = Run(order)
        while len(self.runs) > REMEMBERED:
            self.runs.popitem(last=False)
        gevent.spawn(self._conduct, run)
        return run

    def stop(self, run: Run, *, by_force: bool = False) -> None:
        """Stop a run, in the background: users finish their task. By force, the workers drop everything."""
        run.is_cancelled = True
        self.crew.changed.set()
        if run.state == "running":
            gevent.spawn(run.life.stop, "user")
        if by_force and run.is_on:
            self.crew.dismiss()

    def deliver(self, run_id: str, *, receiver_url: str, push_token: str) -> int:
        """Send what an earlier process of this master left in the spool of a run."""
        path = self._spool(run_id)
        if run_id in self.runs or not path.exists():
            return 0
        spool = Spool(path)
        try:
            return drain(spool, url=receiver_url, token=push_token, patience_s=3)
        finally:
            spool.close(remove_if_empty=True)

    def _spool(self, run_id: str) -> Path:
        return self._spools / f"{run_id}.db"

    def _conduct(self, run: Run) -> None:
        log.info("run %s: loading its script", run.order.run_id)
        try:
            self._load(run)
            if run.is_on and not run.is_cancelled:
                self._perform(run)
        except ScriptFailed as error:
            run.fail(str(error))
        finally:
            if run.is_on and run.life is not None and run.life.begun.is_set():
                run.state = "delivering"
                gevent.spawn(self._finish, run)
            elif run.is_on:
                run.fail("it was stopped before it began" if run.is_cancelled else "the master could not perform it")
            if run.state == "failed" and run.life is not None:
                run.life.leave(0)
            self.crew.dismiss()

    def _load(self, run: Run) -> None:
        """Load the script here, let every worker start anew on it, and wait until all have."""
        order = run.order
        folder = self._folder / order.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCRIPT_NAME).write_bytes(order.script)
        options = {
            "host": order.target_url,
            "num_users": order.users,
            "spawn_rate": order.spawn_rate,
            "stop_timeout": order.stop_timeout_s,
        }
        self._swap.load(folder, options, order.arguments)
        settings = Settings(
            run_id=order.run_id,
            url=order.receiver_url,
            token=order.push_token,
            spool=self._spool(order.run_id),
            duration_s=order.duration_s,
            workers=0,
        )
        run.life = begin(self._environment, settings, crew=self.crew)
        self._swap.initialise()
        self.crew.hand_out(order.run_id, order.script, list(order.arguments))
        self._wait_for_crew(run)

    def _wait_for_crew(self, run: Run) -> None:
        deadline = time.monotonic() + LOAD_WITHIN_S
        while not run.is_cancelled:
            if failed := self.crew.failed():
                run.fail(failed[0].failure, worker=failed[0].name)
                return
            missing = self.crew.missing()
            if not missing:
                break
            if time.monotonic() > deadline:
                run.fail(f"it has not started with the script within {LOAD_WITHIN_S:g} s", worker=missing[0].name)
                return
            self.crew.changed.wait(0.1)
            self.crew.changed.clear()
        if not run.is_cancelled and not self.crew.ready():
            run.fail("all workers have gone while the script was loaded: start one with `loadbench agent --worker`")

    def _perform(self, run: Run) -> None:
        environment, order = self._environment, run.order
        environment.host, environment.stop_timeout = order.target_url, order.stop_timeout_s
        environment.events.test_stop.add_listener(lambda **_: run.listeners_done.set())
        log.info("run %s: %d workers have the script, sha256 %s", order.run_id, len(self.crew.ready()), order.sha256)
        run.state = "running"
        if environment.shape_class:
            self._runner.start_shape()
        else:
            gevent.spawn(self._runner.start, order.users, order.spawn_rate)
        if not run.life.begun.wait(BEGIN_WITHIN_S):
            run.fail(f"the test did not begin within {BEGIN_WITHIN_S:g} s: see the log of the master")
            return
        if run.is_cancelled:
            gevent.spawn(run.life.stop, "user")  # asked for between the two waits
        self._watch(run)
        run.listeners_done.wait(LISTENERS_WITHIN_S)

    def _watch(self, run: Run) -> None:
        """Wait for the end; without a worker the run would go on at 0 requests/s."""
        seen_s = time.monotonic()
        while not run.life.over.wait(0.5):
            if self.crew.ready() or self._runner.state == "stopping":
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s > ALONE_FOR_S:
                log.error("run %s has had no worker for %g s: it is ended", run.order.run_id, ALONE_FOR_S)
                gevent.spawn(run.life.stop, "workers-lost")
                seen_s = time.monotonic()

    def _finish(self, run: Run) -> None:
        run.life.finish()
        run.state = "over"
        log.info("run %s is over, and all of it delivered", run.order.run_id)

    def _on_quit(self, **_: Any) -> None:
        deadline = time.monotonic() + EXIT_WAIT_S
        for run in self.runs.values():
            if run.life is not None and run.state == "delivering":
                run.life.leave(max(deadline - time.monotonic(), 0.1))


def main() -> NoReturn:
    """Be a persistent master, or a worker of one."""
    options = _parser().parse_args()
    token = os.environ.pop(wire.ENV_AGENT_TOKEN, "")
    if not token:
        sys.exit(f"{wire.ENV_AGENT_TOKEN} is not set: start this with `loadbench agent`")
    role = "master" if options.master else "worker"
    folder = options.directory / f"{role}-{platform.node()}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep(options.directory)
    if options.worker:
        master = (options.master_host, options.master_port)
        Rerun(sys.argv[1:], master=master, folder=folder, token=token).serve()
    with _removed(folder):
        serve_master(options, folder=folder, token=token)
    sys.exit(0)


def serve_master(options: argparse.Namespace, *, folder: Path, token: str) -> None:
    """Run Locust's main with a host in it."""
    os.chdir(folder)
    spools = options.directory / "spool"
    spools.mkdir(exist_ok=True, mode=0o700)
    sys.argv = ["locust", "-f", str(IDLE_SCRIPT), "--master", "--exit-code-on-error", "0"]
    sys.argv += ["--master-bind-host", options.bind, "--master-bind-port", str(options.worker_port)]
    sys.argv += ["--web-host", options.bind, "--web-port", str(options.web_port)]
    locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10

    def on_init(environment: Environment, web_ui: Any, **_: Any) -> None:
        desk = Desk(token)
        desk.open(web_ui.app)
        host = Host(environment, folder=folder, spools=spools, token=token)
        desk.serve(host)
        gevent.spawn(_announce, web_ui, environment.runner)

    locust.events.init.add_listener(on_init)
    locust_main()


def _announce(web_ui: Any, runner: Any) -> None:
    while web_ui.server is None or not web_ui.server.started:
        gevent.sleep(0.02)
    log.info(
        "loadbench agent: taking runs on http://%s:%d, workers on port %d",
        web_ui.host,
        web_ui.server.server_port,
        runner.server.port,
    )


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        os.chdir(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Remove the folders of processes of this machine that have ended."""
    for role in ("master", "worker"):
        for folder in directory.glob(f"{role}-{platform.node()}-*"):
            pid = folder.name.rpartition("-")[2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadbench.agent.host")
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--master", action="store_true")
    role.add_argument("--worker", action="store_true")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--web-port", type=int, default=8090)
    parser.add_argument("--worker-port", type=int, default=5557)
    parser.add_argument("--master-host", default="127.0.0.1")
    parser.add_argument("--master-port", type=int, default=5557)
    return parser


if __name__ == "__main__":
    main()
