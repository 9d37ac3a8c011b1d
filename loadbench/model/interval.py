"""What was measured within one interval of a run."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from loadbench.model.fields import Count, Id, Items, Millis, Sha256, Source, WorkerCount
from loadbench.model.record import Record


class ErrorCount(Record):
    """How often a message came from an endpoint within an interval."""

    endpoint: Count
    message: str
    n: Count


class Interval(Record):
    """One interval as it is stored: a struct of arrays. `endpoints` are indices into the run's endpoint list."""

    id: str
    run_id: Id
    source: Source
    seq: Count
    timestamp: datetime
    duration_ms: float
    users: Count
    workers: WorkerCount
    workers_expected: WorkerCount
    requests: Count
    failed: Count
    total_rps: float
    errors_per_sec: float
    error_rate: float
    avg_ms: float | None = None
    p50_ms: float | None = Field(default=None, alias="p50Ms")
    p95_ms: float | None = Field(default=None, alias="p95Ms")
    p99_ms: float | None = Field(default=None, alias="p99Ms")
    cum_requests: Count
    cum_failures: Count
    dropped: Count = 0
    cpu_percent: float | None = None
    final: bool = False
    endpoints: Items(Count)
    n: Items(Count)
    failures: Items(Count)
    untimed: Items(Count)
    sum_ms: Items(float)
    failed_sum_ms: Items(float)
    min_ms: Items(float)
    max_ms: Items(float)
    bytes: Items(Count)
    histograms: bytes
    errors: Items(ErrorCount) = ()
    received_at: Millis
    body_sha256: Sha256

    @staticmethod
    def key(run_id: str, source: str, seq: int) -> str:
        """Give the ledger's unique key. A string: a sub-document with its fields in another order is another key."""
        return f"{run_id}:{source}:{seq}"
