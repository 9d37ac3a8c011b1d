"""Where a run stands, where it came from, why it ended, and whether all of it arrived."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class RunStatus(StrEnum):
    """Where a run stands. Moves are in `TRANSITIONS`; each is one compare-and-set in MongoDB."""

    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    FINISHED = "Finished"
    STOPPED = "Stopped"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        return self in (RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED)


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.STOPPING, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset({RunStatus.FINISHED, RunStatus.STOPPING, RunStatus.FAILED}),
    RunStatus.STOPPING: frozenset({RunStatus.STOPPED, RunStatus.FAILED}),
    RunStatus.FINISHED: frozenset(),
    RunStatus.STOPPED: frozenset(),
    # Only for a run that was given up as lost, when its spool arrives after all (store.load_test_runs.recover).
    RunStatus.FAILED: frozenset({RunStatus.FINISHED, RunStatus.STOPPED}),
}

Origin = Literal["launched", "external", "imported", "synthetic"]
StopReason = Literal["duration", "user", "gate", "shape", "script", "workers-lost", "error", "lost"]
Completeness = Literal["complete", "gaps", "unknown"]
