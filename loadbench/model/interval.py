"""What was measured within one interval of a run."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from loadbench.model.fields import Count, Id, Items, Millis, Sha256, Source, WorkerCount
from loadbench.model.record import Record

Document = Mapping[str, Any]
ROW_PERCENTILES = {50.0: "rowP50Ms", 95.0: "rowP95Ms", 99.0: "rowP99Ms"}
ROW_COLUMNS = {
    "endpoints": "<q", "n": "<q", "failures": "<q", "untimed": "<q", "sumMs": "<d", "failedSumMs": "<d",
    "minMs": "<d", "maxMs": "<d", "bytes": "<q", **dict.fromkeys(ROW_PERCENTILES.values(), "<d"),
}  # fmt: skip
"""The columns of the rows of an interval, as MongoDB has them: numbers of 8 bytes, little-endian, whole or real."""


class ErrorCount(Record):
    """How often a message came from an endpoint within an interval."""

    endpoint: Count
    message: str
    n: Count


class Interval(Record):
    """One interval: a struct of arrays. `endpoints` are indices into the run's endpoint list.

    MongoDB has its arrays packed (`ROW_COLUMNS`): decoding nine BSON arrays takes longer than the rest of reading.
    """

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
    row_p50_ms: Items(float) | None = Field(default=None, alias="rowP50Ms")
    row_p95_ms: Items(float) | None = Field(default=None, alias="rowP95Ms")
    row_p99_ms: Items(float) | None = Field(default=None, alias="rowP99Ms")
    histograms: bytes
    errors: Items(ErrorCount) = ()
    received_at: Millis
    body_sha256: Sha256

    def to_mongo(self) -> dict[str, Any]:
        """Give the MongoDB document; its columns are packed."""
        document = super().to_mongo()
        columns = {field: document[field] for field in ROW_COLUMNS if field in document}
        packed = {field: struct.pack(_layout(field, len(each)), *each) for field, each in columns.items()}
        return document | packed | {"errors": list(document["errors"])}

    @classmethod
    def from_mongo(cls, document: dict[str, Any]) -> Self:
        """Read a MongoDB document, also one of the first versions, whose columns are BSON arrays."""
        columns = {field: column(document, field) for field in ROW_COLUMNS if field in document}
        return super().from_mongo(document | columns)

    @staticmethod
    def key(run_id: str, source: str, seq: int) -> str:
        """Give the ledger's unique key. A string: a sub-document with its fields in another order is another key."""
        return f"{run_id}:{source}:{seq}"


def column(document: Document, field: str) -> tuple[Any, ...]:
    """Give one column of a MongoDB document, a value for each row."""
    packed = document[field]
    return struct.unpack(_layout(field, len(packed) // 8), packed) if isinstance(packed, bytes) else tuple(packed)


def _layout(field: str, rows: int) -> str:
    order, number = ROW_COLUMNS[field]
    return f"{order}{rows}{number}"
