"""A test, with the latest of its runs."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from loadbench.model.fields import (
    Count,
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
    new_id,
)
from loadbench.model.record import Audited, Record
from loadbench.model.scope import Scoped
from loadbench.model.status import RunStatus

RECENT_RUNS = 10


class RecentRun(Record):
    """One entry of `recentRuns` on a test."""

    run_id: Id
    name: Name
    status: Annotated[RunStatus, Field(strict=False)]
    created_at: Millis
    finished_at: Millis | None = None


class LoadTest(Scoped, Audited):
    """Everything needed to run a test, defined once."""

    id: Id = Field(default_factory=lambda: new_id("test"))
    name: Name
    description: Text = ""
    tags: Items(Name, max_length=50) = ()
    cluster_id: Id | None = None
    target_url: Url
    latest_revision_id: Id | None = None
    latest_revision_number: Count = 0
    default_users: UserCount = 1
    default_spawn_rate: SpawnRate = 1.0
    default_duration_sec: Seconds = 60
    max_duration_sec: Seconds = 3600
    gates: Items(Name, max_length=50) = ()
    baseline_run_ids: Items(Id, max_length=50) = ()
    recent_runs: Items(RecentRun, max_length=RECENT_RUNS) = ()
    metadata: Metadata = Field(default={})

    @model_validator(mode="after")
    def _within_its_own_maximum(self) -> Self:
        if self.default_duration_sec > self.max_duration_sec:
            raise ValueError(
                f"defaultDurationSec {self.default_duration_sec} s is over maxDurationSec {self.max_duration_sec} s"
            )
        return self
