"""The messages that an agent pushes, as the receiver checks them; routes and limits are in `loadbench.agent.wire`."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from loadbench.agent import wire
from loadbench.agent.histogram import unpack
from loadbench.model import Count, Endpoint, Id, Items, Millis, Name, Record, RunEnvironment, Source, Text, WorkerCount

NonNegative = Annotated[float, Field(ge=0, strict=False)]
ErrorRow = Annotated[tuple[Count, Annotated[str, Field(max_length=wire.MAX_ERROR_TEXT)], Count], Field(strict=False)]


class Message(Record):
    """What every message of an agent carries."""

    version: Literal[1]
    run_id: Id
    source: Source
    timestamp: Millis


class TestStart(Message):
    """Locust has begun to spawn users."""

    __test__ = False  # pytest: not a test class

    environment: RunEnvironment


class Heartbeat(Message):
    """The agent lives although it has no interval to report."""

    state: Name


class IntervalPush(Message):
    """The requests that ended within one interval, a row per endpoint; `timestamp` is its end.

    Counts are of this interval only; `cum_requests` and `cum_failures` are since the start of the source.
    `histograms` holds two packed histograms a row, of the successful and of the failed requests.
    """

    seq: Count
    duration_ms: Annotated[float, Field(gt=0, le=3_600_000, strict=False)]
    users: Count
    workers: WorkerCount
    workers_expected: WorkerCount
    endpoints: Items(Endpoint, max_length=wire.MAX_ROWS)
    n: Items(Count)
    failures: Items(Count)
    untimed: Items(Count)
    sum_ms: Items(NonNegative)
    failed_sum_ms: Items(NonNegative)
    min_ms: Items(NonNegative)
    max_ms: Items(NonNegative)
    bytes: Items(Count)
    histograms: Annotated[str, Field(max_length=wire.MAX_BODY_BYTES)]
    errors: Items(ErrorRow, max_length=wire.MAX_ERROR_ROWS + 1) = ()
    cum_requests: Count
    cum_failures: Count
    dropped: Count = 0
    cpu_percent: NonNegative | None = None
    final: bool = False

    @property
    def packed(self) -> bytes:
        return base64.b64decode(self.histograms)

    @field_validator("histograms")
    @classmethod
    def _is_base64(cls, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be base64") from None
        return value

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        rows = len(self.endpoints)
        for field in ("n", "failures", "untimed", "sum_ms", "failed_sum_ms", "min_ms", "max_ms", "bytes"):
            if len(getattr(self, field)) != rows:
                raise ValueError(f"{to_camel(field)} must have one value for each of the {rows} endpoints")
        if len(set(self.endpoints)) != rows:
            raise ValueError("endpoints must not repeat")
        histograms = unpack(self.packed)
        if len(histograms) != 2 * rows:
            raise ValueError(f"histograms must hold {2 * rows}, two for each endpoint; not {len(histograms)}")
        for row in range(rows):
            timed = sum(histograms[2 * row].values()) + sum(histograms[2 * row + 1].values())
            if self.failures[row] > self.n[row]:
                raise ValueError(f"failures must not exceed n in row {row}")
            if timed + self.untimed[row] != self.n[row]:
                raise ValueError(f"the buckets of row {row} hold {timed} requests; n less untimed is not that")
        if any(row >= rows for row, _, _ in self.errors):
            raise ValueError("errors must name a row of endpoints")
        if self.cum_requests < sum(self.n) or self.cum_failures < sum(self.failures):
            raise ValueError("cumRequests and cumFailures must include this interval")
        return self


class TestStop(Message):
    """Locust has stopped; the final interval rides with it."""

    __test__ = False

    reason: Literal[wire.STOP_REASONS]
    auto_stopped: bool
    last_seq: Count
    workers_lost: Count = 0
    error: Text | None = None
    final: IntervalPush

    @model_validator(mode="after")
    def _final_is_final(self) -> Self:
        if not self.final.final or self.final.seq != self.last_seq:
            raise ValueError("final must be the interval lastSeq, marked final")
        if self.final.run_id != self.run_id or self.final.source != self.source:
            raise ValueError("final must be of the same run and source")
        return self
