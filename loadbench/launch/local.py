"""Locust on this machine: a fresh process group for each run, one runner or a master with workers."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from loadbench.agent import wire
from loadbench.errors import RunFailed
from loadbench.launch.base import STOP_TIMEOUT_S, RunContext
from loadbench.launch.script import SCRIPT_NAME, clean_environment, explain
from loadbench.model import LoadTestRun, RunProcess

LOG_NAME = "locust.log"

# Of this process, not of one launcher: a child that has ended must be waited for, whoever started it here.
_children: dict[str, subprocess.Popen[bytes]] = {}


class LocalLauncher:
    """Starts each run in an own directory, session and process group below `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __repr__(self) -> str:
        return f"<LocalLauncher on {platform.node()}>"

    def start(self, run: LoadTestRun, script: bytes, context: RunContext) -> RunProcess:
        directory = self._home.resolve() / "runs" / run.id
        spool = self._home.resolve() / "spool" / f"{run.id}.db"
        for folder in (directory, spool.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / SCRIPT_NAME).write_bytes(script)
        environment = clean_environment() | {
            wire.ENV_RECEIVER_URL: context.receiver_url,
            wire.ENV_RUN_ID: run.id,
            wire.ENV_TOKEN: context.token,
            wire.ENV_SPOOL: str(spool),
            wire.ENV_DURATION_S: str(run.duration_sec),
            wire.ENV_WORKERS: str(run.workers),
            wire.ENV_WEB_UI: "1" if run.web_url else "0",
        }
        try:
            with (directory / LOG_NAME).open("ab") as log:
                # An own session: a plain child would die with the kernel's process group on interrupt and restart.
                child = subprocess.Popen(
                    [sys.executable, "-m", "loadbench.agent", *_locust_arguments(run)],
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise RunFailed(f"Locust could not be started: {error}") from None
        _children[run.id] = child
        # Wait for it, or it stays a zombie for as long as this kernel lives.
        threading.Thread(target=child.wait, name=f"loadbench-reaper-{run.id}", daemon=True).start()
        return RunProcess(
            host=platform.node(),
            pid=child.pid,
            create_time=psutil.Process(child.pid).create_time(),
            directory=str(directory),
        )

    def is_alive(self, run: LoadTestRun) -> bool | None:
        if run.process is None or run.process.host != platform.node():
            return None
        if run.id in _children:
            return _children[run.id].poll() is None
        return self._leader(run) is not None

    def stop(self, run: LoadTestRun) -> None:
        self._signal(run, signal.SIGTERM)

    def kill(self, run: LoadTestRun) -> None:
        self._signal(run, signal.SIGKILL)
        if child := _children.get(run.id):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)

    def deliver(self, run: LoadTestRun, context: RunContext) -> int:
        return 0  # its spool is here: the control plane sends it

    def last_words(self, run: LoadTestRun) -> str:
        if run.process is None or run.process.host != platform.node():
            return ""
        log = Path(run.process.directory) / LOG_NAME
        return explain(log.read_text(errors="replace")) if log.exists() else ""

    def _leader(self, run: LoadTestRun) -> psutil.Process | None:
        try:
            process = psutil.Process(run.process.pid)
            alive = abs(process.create_time() - run.process.create_time) < 1
            return process if alive and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def _signal(self, run: LoadTestRun, number: int) -> None:
        """Signal the run's whole group: workers outlive a dead leader, and hold its process group id."""
        if run.process is None or run.process.host != platform.node():
            return
        ours = self._leader(run) or any(_belongs(process, run) for process in psutil.process_iter())
        if ours:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.process.pid, number)


def _locust_arguments(run: LoadTestRun) -> list[str]:
    arguments = ["-f", SCRIPT_NAME, "--users", str(run.target_users), "--spawn-rate", str(run.spawn_rate)]
    if run.web_url:
        web = urlsplit(run.web_url)
        arguments += ["--autostart", "--web-host", web.hostname, "--web-port", str(web.port)]
    else:
        arguments.append("--headless")
    arguments += ["--host", run.target_url, "--stop-timeout", str(STOP_TIMEOUT_S), "--exit-code-on-error", "0"]
    if run.workers:
        arguments += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0"]
        arguments += ["--expect-workers", str(run.workers), "--expect-workers-max-wait", "60"]
    return [*arguments, *run.arguments]


def _belongs(process: psutil.Process, run: LoadTestRun) -> bool:
    """Say whether a process is of the run: a group id alone may have been given to somebody else since."""
    try:
        return os.getpgid(process.pid) == run.process.pid and process.cwd() == run.process.directory
    except (ProcessLookupError, psutil.NoSuchProcess, psutil.AccessDenied):
        return False
