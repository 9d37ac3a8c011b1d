"""A run, with what its agent and its sources of pushes said of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from loadbench.model.fields import (
    INT64_MAX,
    Count,
    Id,
    Items,
    Metadata,
    Millis,
    Name,
    Seconds,
    Sha256,
    Source,
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
from loadbench.model.script import ScriptArgument
from loadbench.model.status import Completeness, Origin, RunStatus, StopReason
from loadbench.model.window import Window


def _without_escapes(name: Any) -> Any:
    """Make the sequences harmless with which a name would colour a terminal, as the agent does."""
    return name.replace("\x1b", " ") if isinstance(name, str) else name


class Endpoint(Record):
    """What requests are grouped by: never the name alone."""

    method: Annotated[str, Field(max_length=32), AfterValidator(printable)]
    name: Annotated[Name, BeforeValidator(_without_escapes)]

    def __str__(self) -> str:
        return f"{self.method} {self.name}".strip()


class RunProcess(Record):
    """Where the run's Locust processes are, so that they are found again after a kernel restart."""

    host: Name
    pid: Annotated[int, Field(ge=1, le=INT64_MAX)]
    create_time: float
    directory: Annotated[str, Field(max_length=4096)]


class SourceState(Record):
    """What one source of pushes said of its end: with it, `completeness` can be decided."""

    source: Source
    last_seq: Count
    requests: Count
    failures: Count
    dropped: Count = 0


class Gap(Record):
    """Intervals that never arrived."""

    source: Source
    from_seq: Count
    to_seq: Count
    requests: Count | None = None


class LastMetrics(Record):
    """The latest interval's totals, for lists and cards."""

    timestamp: Millis
    users: Count
    total_rps: float
    errors_per_sec: float
    p50_ms: float | None = Field(default=None, alias="p50Ms")
    p95_ms: float | None = Field(default=None, alias="p95Ms")
    p99_ms: float | None = Field(default=None, alias="p99Ms")
    cum_requests: Count
    cum_failures: Count


class RunEnvironment(Record):
    """What the run really ran on, as its agent reported it."""

    locust: Name
    python: Name
    host: Name
    workers: WorkerCount
    user_classes: Items(Name) = ()
    script_sha256: Sha256
    worker_sha256s: Items(Sha256, max_length=10) = Field(
        default=(),
        alias="workerSha256s",
        description="Of the script as the workers of a persistent cluster got it; local ones read the master's file.",
    )


class LoadTestRun(Scoped, Audited):
    """One execution of a test.

    `windows` are those that a person has set; `gates` those of its test when it started, and `gate_broken` the one that
    stopped it. `late_intervals` counts what arrived after its end: what was computed from its intervals before is old.
    """

    id: Id = Field(default_factory=lambda: new_id("run"))
    load_test_id: Id | None = None
    script_revision_id: Id | None = None
    revision_number: Count | None = None
    name: Name
    cluster_id: Id | None = None
    target_url: Url
    target_users: UserCount
    spawn_rate: SpawnRate
    duration_sec: Seconds
    workers: WorkerCount = 0
    arguments: Items(ScriptArgument, max_length=100) = ()
    origin: Origin = "launched"
    status: Annotated[RunStatus, Field(strict=False)] = RunStatus.PENDING
    stop_reason: StopReason | None = None
    error: Text | None = None
    completeness: Completeness = "unknown"
    gaps: Items(Gap) = ()
    started_at: Millis | None = None
    stop_requested_at: Millis | None = None
    finished_at: Millis | None = None
    purged_at: Millis | None = None
    lease_expires_at: Millis | None = None
    receiver_url: Url | None = None
    web_url: Annotated[Url | None, Field(description="Locust's own web interface, while the run goes on.")] = None
    clock_skew_ms: int | None = None
    workers_lost: Count = 0
    last_metrics: LastMetrics | None = None
    endpoints: Items(Endpoint) = ()
    sources: Items(SourceState) = ()
    windows: Items(Window, max_length=20) = ()
    gates: Items(Name, max_length=50) = ()
    gate_broken: Name | None = None
    late_intervals: Count = 0
    environment: RunEnvironment | None = None
    process: RunProcess | None = None
    notes: Text = ""
    tags: Items(Name, max_length=50) = ()
    metadata: Metadata = Field(default={})

    @property
    def is_over(self) -> bool:
        return self.status.is_final
