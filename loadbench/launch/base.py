"""The seam: what starts and ends the Locust processes of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from loadbench.model import LoadTestRun, RunProcess

STOP_TIMEOUT_S = 10
"""How long users may take to end the task they are in when a run stops; Locust's --stop-timeout."""

KILL_AFTER_S = STOP_TIMEOUT_S + 4
"""How long after a stop the processes may live before they are killed; it is seen a second later, and over at + 6."""


@dataclass(frozen=True)
class RunContext:
    """What the agent must know to push. The token stays out of every repr."""

    receiver_url: str
    token: str = field(repr=False)


class Launcher(Protocol):
    """Starts the Locust processes of a run, and finds and ends them, also those that an earlier kernel started.

    None of the methods touches the store: they take the run's record and answer about its processes.
    """

    def start(self, run: LoadTestRun, script: bytes, context: RunContext) -> RunProcess | None:
        """Start Locust on exactly these bytes. RunFailed if that fails; None if its processes are somewhere else."""

    def is_alive(self, run: LoadTestRun) -> bool | None:
        """Say whether its processes live; None if that cannot be known from here."""

    def stop(self, run: LoadTestRun) -> None:
        """Ask the run's processes to end: users finish their task, the last figures are sent."""

    def kill(self, run: LoadTestRun) -> None:
        """End what is left of the run's processes at once."""

    def deliver(self, run: LoadTestRun, context: RunContext) -> int:
        """Let what the run's processes left undelivered somewhere else be sent; give the number of messages."""

    def last_words(self, run: LoadTestRun) -> str:
        """Say in one line why the processes ended, from what they printed; empty if they said nothing of use."""
