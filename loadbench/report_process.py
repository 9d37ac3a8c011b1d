"""One report being built, in a process of its own: whatever it takes, the server's threads stay free."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

LIMIT_S = 900.0
_NICE = 10
_ENDS_WITHIN_S = 5.0


class ReportProcess:
    """A command of `loadbench` that builds a report, with a time limit."""

    def __init__(
        self, arguments: Sequence[str], target: Path, *, environment: Mapping[str, str], limit_s: float = LIMIT_S
    ) -> None:
        self.target = target
        self._deadline = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._late = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does; a pipe could fill up
        # A session of its own, so that the notebook's kernel below it ends with it.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "loadbench.cli", *arguments],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        with contextlib.suppress(psutil.Error):
            psutil.Process(self._child.pid).nice(_NICE)  # a run may be going on beside it

    def __repr__(self) -> str:
        return f"<ReportProcess {self._child.pid} for {self.target}>"

    @property
    def is_over(self) -> bool:
        """Say whether it has ended; one that takes too long is ended here."""
        if self._child.poll() is None and time.monotonic() > self._deadline:
            self._late = True
            self.end()
        return self._child.poll() is not None

    def trouble(self) -> str | None:
        """Say why there is no report; None if there is one. Only when it is over."""
        if self._late:
            return f"the report was not ready within {self._limit_s:.0f} s"
        if self._child.returncode == 0 and self.target.is_file():
            return None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("loadbench: ") if lines else f"exit code {self._child.returncode}"
        return f"no report: {reason}"[:2000]

    def end(self) -> None:
        """End it and what it started, by force if it does not go."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_ENDS_WITHIN_S)
                break

    def close(self) -> None:
        """Let go of it; one that still runs is ended."""
        if self._child.poll() is None:
            self.end()
        self._errors.close()
