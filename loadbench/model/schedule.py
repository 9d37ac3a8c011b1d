"""What happens at the times of a cron expression, and what came of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from loadbench.model.fields import (
    Id,
    Items,
    Metadata,
    Millis,
    Name,
    Seconds,
    SpawnRate,
    Text,
    Url,
    UserCount,
    WorkerCount,
    new_id,
    printable,
)
from loadbench.model.record import Audited, Record
from loadbench.model.scope import Scoped

ReportKind = Literal["summary", "comparison", "trend"]
REPORT_KINDS: tuple[ReportKind, ...] = ("summary", "comparison", "trend")
Misfire = Literal["once", "skip"]
FiringOutcome = Literal["claimed", "started", "done", "skipped", "missed", "failed"]


class PlannedRun(Record):
    """How the runs of a schedule differ from the defaults of its test; what is absent is inherited at each firing."""

    name: Name | None = None
    target_url: Url | None = None
    target_users: UserCount | None = None
    spawn_rate: SpawnRate | None = None
    duration_sec: Seconds | None = None
    revision_number: Annotated[int, Field(ge=1, le=2**31)] | None = None
    workers: WorkerCount | None = None
    cluster_id: Id | None = None
    arguments: Metadata | None = None
    notes: Text | None = None
    tags: Items(Name, max_length=50) | None = None


class Schedule(Scoped, Audited):
    """What `loadbench serve` does at the times of a cron expression: start a run of a test, build reports, or both.

    `run` is absent for a schedule that only builds reports. `next_fire_at` is when it is due, `fire_asked_at` when
    somebody asked for a firing beside the expression; both are claimed by compare-and-set.
    """

    id: Id = Field(default_factory=lambda: new_id("sched"))
    name: Name
    load_test_id: Id
    cron: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable)]
    timezone: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(printable)] = "UTC"
    run: PlannedRun | None = None
    reports: Items(ReportKind, max_length=len(REPORT_KINDS)) = ()
    report_directory: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(printable)] | None = None
    trend_days: Annotated[int, Field(ge=1, le=3650)] = 7
    misfire: Misfire = "once"
    grace_sec: Annotated[int, Field(ge=1, le=24 * 3600)] = 3600
    enabled: bool = True
    next_fire_at: Millis | None = None
    fire_asked_at: Millis | None = None
    last_fired_at: Millis | None = None
    last_run_id: Id | None = None
    last_error: Text | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.run is None and not self.reports:
            raise ValueError("a schedule starts a run, builds a report, or both: give one")
        if self.run is None and "summary" in self.reports:
            raise ValueError("a summary is of the run that the schedule starts: without one, ask for a trend")
        return self


class Firing(Record):
    """One firing of a schedule, as history: when it was due, which server took it, and what came of it."""

    id: str
    schedule_id: Id
    due_at: Millis
    fired_at: Millis
    host: Name
    owner: Name
    outcome: FiringOutcome = "claimed"
    reason: Text | None = None
    run_id: Id | None = None
    reports: Items(str) = ()
    lease_expires_at: Millis
    finished_at: Millis | None = None

    @staticmethod
    def key(schedule_id: str, due_at: int) -> str:
        """Give the unique key: of several servers exactly one writes it first."""
        return f"{schedule_id}:{due_at}"
