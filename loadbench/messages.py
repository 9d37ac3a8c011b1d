"""The messages that an agent pushes, as the receiver checks them, and the stored interval that is made of a pushed one.

Routes and limits are in `loadbench.agent.wire`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from loadbench.agent import wire
from loadbench.agent.histogram import unpack
from loadbench.analysis.intervals import stored_percentiles
from loadbench.errors import InvalidInput
from loadbench.model import (
    Count,
    Endpoint,
    ErrorCount,
    Id,
    Interval,
    Items,
    LastMetrics,
    Millis,
    Name,
    Record,
    RunEnvironment,
    Source,
    Text,
    WorkerCount,
)

MIN_DURATION_MS = 0.001
NonNegative = Annotated[float, Field(ge=0, strict=False)]
ErrorRow = Annotated[tuple[Count, Annotated[str, Field(max_length=wire.MAX_ERROR_TEXT)], Count], Field(strict=False)]


def _known(version: int) -> int:
    if version != wire.WIRE_VERSION:
        raise ValueError(f"should be {wire.WIRE_VERSION}: the agent and the receiver are of different versions")
    return version


class Message(Record):
    """What every message of an agent carries."""

    version: Annotated[int, AfterValidator(_known)]  # a Literal takes true for 1
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


def interval_of(push: IntervalPush, indices: Sequence[int], *, received_at: int, body_sha256: str) -> Interval:
    """Make the stored interval of a pushed one.

    Parameters
    ----------
    push : IntervalPush
    indices : sequence of int
        Where each row's endpoint is in the run's endpoint list.
    received_at : int
        Unix ms by the receiver's clock.
    body_sha256 : str
        Hex digest of the pushed content.

    Returns
    -------
    Interval
        Rates are counts over the measured duration (1/s), `error_rate` is failed / requests in [0, 1], percentiles
        come from the merged histograms of successful and failed requests; they are absent where nothing was timed.

    Raises
    ------
    InvalidInput
        If the figures are out of every range: a duration under 0.001 ms, sums that overflow.
    """
    if push.duration_ms < MIN_DURATION_MS:
        raise InvalidInput(
            f"durationMs must be at least {MIN_DURATION_MS}; not {push.duration_ms!r}", field="durationMs"
        )
    seconds = push.duration_ms / 1000
    requests, failed = sum(push.n), sum(push.failures)
    packed = push.packed
    timed = requests - sum(push.untimed)
    return Interval.build(
        id=Interval.key(push.run_id, push.source, push.seq),
        run_id=push.run_id,
        source=push.source,
        seq=push.seq,
        timestamp=datetime.fromtimestamp(push.timestamp // 1000, UTC).replace(microsecond=push.timestamp % 1000 * 1000),
        duration_ms=push.duration_ms,
        users=push.users,
        workers=push.workers,
        workers_expected=push.workers_expected,
        requests=requests,
        failed=failed,
        total_rps=requests / seconds,
        errors_per_sec=failed / seconds,
        error_rate=failed / requests if requests else 0.0,
        avg_ms=sum(push.sum_ms) / timed if timed else None,
        **stored_percentiles(packed, len(indices)),
        cum_requests=push.cum_requests,
        cum_failures=push.cum_failures,
        dropped=push.dropped,
        cpu_percent=push.cpu_percent,
        final=push.final,
        endpoints=tuple(indices),
        n=push.n,
        failures=push.failures,
        untimed=push.untimed,
        sum_ms=push.sum_ms,
        failed_sum_ms=push.failed_sum_ms,
        min_ms=push.min_ms,
        max_ms=push.max_ms,
        bytes=push.bytes,
        histograms=packed,
        errors=tuple(ErrorCount(endpoint=indices[row], message=text, n=n) for row, text, n in push.errors),
        received_at=received_at,
        body_sha256=body_sha256,
    )


def last_metrics(interval: Interval) -> LastMetrics:
    """Give the totals of an interval, for lists and cards."""
    return LastMetrics(
        timestamp=round(interval.timestamp.timestamp() * 1000),
        users=interval.users,
        total_rps=interval.total_rps,
        errors_per_sec=interval.errors_per_sec,
        p50_ms=interval.p50_ms,
        p95_ms=interval.p95_ms,
        p99_ms=interval.p99_ms,
        cum_requests=interval.cum_requests,
        cum_failures=interval.cum_failures,
    )
