"""A worker of a persistent master: for each run it starts itself anew, in the same process, on the script of that run.

`os.execve` keeps the process id, so that whoever supervises the worker sees nothing; the interpreter is a fresh one, so
that nothing is left of the script before. After the run it starts anew once more, without a script, and waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import platform
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import gevent
import locust
import locust.log
import locust.runners
from locust.env import Environment
from locust.main import main as locust_main
from locust.rpc import Message

from loadbench.agent import wire
from loadbench.agent.crew import BACK, IDLE, JOIN, LOAD, REFUSED, proof
from loadbench.agent.swap import SCRIPT_NAME, describe, listening
from loadbench.agent.worker import Worker

IDLE_SCRIPT = Path(__file__).with_name("idle.py")
KILL_AFTER_S = 5.0
"""How long after the stop timeout users may resist before this worker starts anew without asking them."""
PAUSE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """What a worker hands to itself when it starts anew."""

    key: str
    run_id: str = ""
    sha256: str = ""
    arguments: tuple[str, ...] = ()
    failure: str = ""

    @classmethod
    def take(cls) -> State:
        text = os.environ.pop(wire.ENV_AGENT_STATE, "")
        if not text:
            return cls(key=uuid.uuid4().hex)
        fields = json.loads(text)
        return cls(**fields | {"arguments": tuple(fields["arguments"])})

    @property
    def has_script(self) -> bool:
        return bool(self.run_id) and not self.failure


class Rerun:
    """The worker process, from one start to the next.

    Parameters
    ----------
    arguments : sequence of str
        The command line of this process, to start it with again.
    master : tuple of str and int
        Where the master takes workers.
    folder : Path
        For the scripts of this process alone.
    token : str
        The secret that master and workers share. It is not in the environment while a script runs.
    """

    def __init__(self, arguments: Sequence[str], *, master: tuple[str, int], folder: Path, token: str) -> None:
        self._arguments, self._master, self._folder, self._token = list(arguments), master, folder, token
        self._state = State.take()
        self._variables = dict(os.environ)
        self._worker: Worker | None = None
        self._environment: Environment | None = None
        self._joined = self._signalled = self._refused = False
        self._deadline: gevent.Greenlet | None = None

    def serve(self) -> NoReturn:
        """Be a Locust worker until something ends that, and then start anew unless a signal was the reason."""
        folder = self._folder / (self._state.run_id if self._state.has_script else "idle")
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        self._tidy(folder)
        script = IDLE_SCRIPT
        if self._state.has_script:
            script = folder / SCRIPT_NAME
            self._state = replace(self._state, sha256=hashlib.sha256(script.read_bytes()).hexdigest())
        host, port = self._master
        sys.argv = ["locust", "-f", str(script), "--worker", "--master-host", host, "--master-port", str(port)]
        sys.argv += ["--exit-code-on-error", "0", *self._state.arguments]
        locust.runners.WORKER_REPORT_INTERVAL = 1.0
        locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10
        signal.signal(signal.SIGINT, self._on_interrupt)
        locust.events.init.add_listener(self._on_init)
        locust.events.init_command_line_parser.add_listener(self._on_imported)
        with listening() as said:
            try:
                locust_main()
            except BaseException as end:
                self._go_on_after(end, said())
        sys.exit(0)

    def _go_on_after(self, end: BaseException, said: str) -> None:
        if self._signalled or self._refused:
            raise SystemExit(1 if self._refused else 0) from None
        if self._state.has_script and not self._joined:
            self._start_anew(replace(self._state, failure=describe(end, said)))
        if self._joined or (isinstance(end, SystemExit) and end.code == -1):
            log.warning("the master at %s:%d has gone: waiting for one", *self._master)
            time.sleep(PAUSE_S)
            self._start_anew(State(self._state.key))
        raise end

    def _on_interrupt(self, *_: object) -> None:
        self._signalled = True
        raise KeyboardInterrupt

    def _on_imported(self, **_: Any) -> None:
        """Now that the script has registered its `init` listeners, be the last of them."""
        if self._on_initialised not in locust.events.init._handlers:
            locust.events.init.add_listener(self._on_initialised)

    def _on_init(self, environment: Environment, runner: Any, **_: Any) -> None:
        self._environment = environment
        if self._state.has_script:
            self._worker = Worker(environment)
        runner.register_message(LOAD, self._on_load)
        runner.register_message(IDLE, self._on_idle)
        runner.register_message(REFUSED, self._on_refused)
        environment.events.quitting.add_listener(self._on_quitting)

    def _on_initialised(self, environment: Environment, runner: Any, **_: Any) -> None:
        if locust.log.unhandled_greenlet_exception:
            return  # one of the script's listeners failed: Locust is about to end this process
        if self._state.has_script:
            environment.events.test_stopping.add_listener(self._on_stopping)
            environment.events.test_stop.add_listener(self._on_stop)
        self._joined = True
        what = f"run {self._state.run_id}, sha256 {self._state.sha256}" if self._state.has_script else "no run yet"
        log.info("worker of the master at %s:%d: %s", *self._master, what)
        runner.send_message(
            JOIN,
            {
                "protocol": wire.AGENT_PROTOCOL,
                "proof": proof(self._token, JOIN, runner.client_id),
                "host": platform.node(),
                "pid": os.getpid(),
                "locust": locust.__version__,
                "python": platform.python_version(),
                **{name: getattr(self._state, name) for name in ("key", "run_id", "sha256", "failure")},
            },
        )

    def _on_load(self, *, msg: Any, **_: Any) -> None:
        """Write the script where the next start finds it, and start anew."""
        order = msg.data
        script = order["script"]
        sha256 = hashlib.sha256(script).hexdigest()
        arguments = tuple(order["arguments"])
        expected = proof(self._token, LOAD, order["run_id"], sha256, *arguments)
        if not hmac.compare_digest(expected, str(order["proof"])):
            log.error("a script came that the master did not sign: it is not run")
            return
        folder = self._folder / order["run_id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCRIPT_NAME).write_bytes(script)
        self._start_anew(State(self._state.key, order["run_id"], sha256, arguments))

    def _on_idle(self, *, msg: Any, **_: Any) -> None:
        if hmac.compare_digest(proof(self._token, IDLE), str(msg.data["proof"])):
            self._start_anew(State(self._state.key))

    def _on_refused(self, *, msg: Any, **_: Any) -> None:
        self._refused = True
        log.error("%s", msg.data["reason"])

    def _on_quitting(self, **_: Any) -> None:
        """Locust's answer to SIGTERM comes in a greenlet of its own, all else ends its main one."""
        self._signalled = self._signalled or gevent.getcurrent().parent is not None

    def _on_stopping(self, environment: Environment, **_: Any) -> None:
        self._deadline = gevent.spawn_later(environment.stop_timeout + KILL_AFTER_S, self._stop_by_force)

    def _on_stop(self, **_: Any) -> None:
        """The last listener of all: what is to be sent to the master is sent as soon as this returns."""
        if self._deadline is not None:
            self._deadline.kill(block=False)
        if not self._signalled:
            gevent.spawn(self._start_anew, State(self._state.key))

    def _stop_by_force(self) -> None:
        if self._worker is not None:
            self._worker.on_stop()  # what was counted until now
        log.warning("users still run %g s after the stop timeout: this worker starts anew", KILL_AFTER_S)
        self._start_anew(State(self._state.key))

    def _start_anew(self, state: State) -> NoReturn:
        runner = self._environment.runner if self._environment else None
        if runner is not None:
            runner.send_message(BACK, {"key": self._state.key})
            runner.client.send(Message("quit", None, runner.client_id))
            context = runner.client.socket.context
            runner.client.close(linger=2000)
            context.term()  # returns when all is sent
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        environment = self._variables | {
            wire.ENV_AGENT_TOKEN: self._token,
            wire.ENV_AGENT_STATE: json.dumps(asdict(state)),
        }
        command = [sys.executable, "-m", "loadbench.agent.host", *self._arguments]
        os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted

    def _tidy(self, keep: Path) -> None:
        for folder in self._folder.iterdir():
            if folder != keep:
                with contextlib.suppress(OSError):
                    shutil.rmtree(folder)
