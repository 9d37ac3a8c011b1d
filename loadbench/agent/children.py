"""The worker processes that a master on this machine starts for itself."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from loadbench.agent import wire

_NOT_FOR_WORKERS = (
    wire.ENV_TOKEN,
    wire.ENV_RECEIVER_URL,
    wire.ENV_SPOOL,
    wire.ENV_DURATION_S,
    wire.ENV_WORKERS,
    wire.ENV_WEB_UI,
)
_FLAGS = (
    "--master",
    "--headless",
    "--headful",
    "--autostart",
    "--csv-full-history",
    "--print-stats",
    "--only-summary",
    "--json",
    "--enable-rebalancing",
    "--class-picker",
)
_WITH_VALUE = (
    ("-u", "--users"),
    ("-r", "--spawn-rate"),
    ("-t", "--run-time"),
    ("--master-bind-host",),
    ("--master-bind-port",),
    ("--expect-workers",),
    ("--expect-workers-max-wait",),
    ("--web-host",),
    ("-P", "--web-port"),
    ("--autoquit",),
    ("--csv",),
    ("--html",),
    ("--json-file",),
)

READ_WITHIN_S = 1.0
"""How long after the end of a process what it sent may still be unread."""

log = logging.getLogger(__name__)


class Children:
    """Worker processes in the session and process group of their master, without the run's token.

    Parameters
    ----------
    count : int
        How many to start.
    port : int
        Where the master listens, on loopback.
    arguments : sequence of str
        The master's own command line: what concerns workers is passed on.
    """

    def __init__(self, count: int, *, port: int, arguments: Sequence[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
        command = [sys.executable, "-m", "loadbench.agent", "--worker", "--master-host", "127.0.0.1"]
        command += ["--master-port", str(port), *worker_arguments(arguments)]
        self._processes = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) for _ in range(count)]
        self._mourned: set[int] = set()
        self._ended_at: dict[int, float] = {}
        atexit.register(self.end, 0)  # Locust has exits without its quit event

    def __repr__(self) -> str:
        return f"<Children: {len(self.living())} of {len(self._processes)} alive>"

    def __len__(self) -> int:
        return len(self._processes)

    def living(self) -> set[int]:
        """Give the process ids of those that run."""
        return {process.pid for process in self._processes if process.poll() is None}

    def silenced(self) -> set[int]:
        """Give the process ids of those that a signal ended, so that no last word is to be expected of them.

        One that ended by itself has sent its last word; the master may only not have read it yet.
        """
        now = time.monotonic()
        for process in self._processes:
            if (process.poll() or 0) < 0:
                self._ended_at.setdefault(process.pid, now)
        return {pid for pid, ended_at in self._ended_at.items() if now - ended_at > READ_WITHIN_S}

    def newly_dead(self) -> list[tuple[int, int]]:
        """Give process id and exit code of those that ended since the last call."""
        dead = [
            (process.pid, process.returncode)
            for process in self._processes
            if process.poll() is not None and process.pid not in self._mourned
        ]
        self._mourned.update(pid for pid, _ in dead)
        return dead

    def end(self, within_s: float) -> None:
        """Wait for all to end; ask and then kill those that do not. Takes at most `within_s` and a second."""
        deadline = time.monotonic() + within_s
        for signal_them in (None, subprocess.Popen.terminate):
            for process in self._processes:
                if signal_them and process.poll() is None:
                    signal_them(process)
            until = deadline if signal_them is None else time.monotonic() + 1
            for process in self._processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(until - time.monotonic(), 0))
        for process in self._processes:
            if process.poll() is None:
                log.warning("worker process %d did not end in time: killed", process.pid)
                process.kill()
                process.wait()


def worker_arguments(arguments: Sequence[str]) -> list[str]:
    """Take out of a master's command line what only a master may have."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in _FLAGS:
        parser.add_argument(flag, action="store_true")
    for names in _WITH_VALUE:
        parser.add_argument(*names)
    return parser.parse_known_args(list(arguments))[1]
