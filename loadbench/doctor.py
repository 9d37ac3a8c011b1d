"""`loadbench doctor`: what is wrong with the installation, one line each, with the remedy."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from loadbench.errors import LoadbenchError
from loadbench.home import data_home
from loadbench.launch.script import clean_environment
from loadbench.store import Store
from server.app import Receiver


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    good: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.good else 'BAD '} {self.subject}: {self.text}"


def examine() -> list[Finding]:
    """Look at everything a run needs, by using it."""
    checks: dict[str, Callable[[], str]] = {
        "Python": _python,
        "data directory": _data_directory,
        "MongoDB and receiver": _store_and_receiver,
        "Locust": _locust,
        "JupyterLab": _jupyterlab,
        "charts": _charts,
    }
    return [_finding(subject, check) for subject, check in checks.items()]


def _finding(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, check())
    except (LoadbenchError, OSError, subprocess.SubprocessError) as error:
        return Finding(subject, False, str(error))


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise LoadbenchError(f"{version} is not supported: use 3.11, 3.12 or 3.13")
    return f"{version} at {sys.executable}"


def _data_directory() -> str:
    home = data_home()
    if not os.access(home, os.W_OK):
        raise LoadbenchError(f"{home} cannot be written: set LOADBENCH_HOME to a directory that can")
    free_gb = shutil.disk_usage(home).free / 1e9
    if free_gb < 1:
        raise LoadbenchError(f"{home} has {free_gb:.1f} GB free: make room, or set LOADBENCH_HOME to another disk")
    return f"{home}, {free_gb:.0f} GB free"


def _store_and_receiver() -> str:
    with Store.open_briefly() as store:
        receiver = Receiver(store, port=0).start()
        receiver.stop()
        return f"{store!r} answers; a receiver can listen on loopback"


def _locust() -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "locust", "--version"],
        env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise LoadbenchError(f"it does not start ({last}): install the locked dependencies again")
    return answer.stdout.strip()


def _jupyterlab() -> str:
    if importlib.util.find_spec("jupyterlab") is None:
        raise LoadbenchError("not installed: install the locked dependencies again")
    return "installed"


def _charts() -> str:
    bundle = importlib.resources.files("loadbench") / "static" / "plotly-cartesian.min.js"
    if not bundle.is_file():
        raise LoadbenchError("plotly.js is missing from the package: install loadbench again")
    return "plotly.js is there; charts need no network"
