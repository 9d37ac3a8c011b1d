"""What the chart endpoints take and give. Every number says its unit; what is unknown is left out, or null in a column.

Times of requests are in milliseconds and moments in Unix milliseconds, as everywhere. Columns of one answer have a
value for each of its timestamps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from loadbench import model
from loadbench.analysis.intervals import Outcome
from loadbench.analysis.validity import Level
from loadbench.model import EARLIEST_MS, LATEST_MS, Completeness, Gap, Record, RunStatus, StopReason, WindowName
from loadbench.model.fields import Matching
from server.operation import Query

MAX_ELAPSED_S = 10_000_000
MAX_POINTS = 10_000
RequestsCursor = Matching(r"^[0-9]{1,15}\.[0-9]{1,6}$", "the nextCursor of the page before")
TimeseriesCursor = Matching(r"^[0-9]{1,15}$", "the nextCursor of the page before")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")


def moment_ms(text: str, origin_ms: float) -> float:
    """Read a moment of a run, in Unix milliseconds: seconds since its start, Unix milliseconds, or ISO 8601.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number <= MAX_ELAPSED_S:
            return origin_ms + 1000 * number
        if EARLIEST_MS <= number < LATEST_MS:
            return number
        raise ValueError("is neither seconds since the start of the run nor Unix milliseconds")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "must be seconds since the start of the run, Unix milliseconds, or ISO 8601 such as 2026-03-14T09:30:00Z"
        ) from None
    milliseconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    if not EARLIEST_MS <= milliseconds < LATEST_MS:
        raise ValueError("is not a plausible time")
    return milliseconds


def _moment(text: str) -> str:
    moment_ms(text, 0)
    return text


def _numbers(given: Any) -> Any:
    """Take `percentiles=50,95`, `percentiles=50&percentiles=95`, and each percentile once."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence) and all(isinstance(text, str) for text in given):
        given = [part for text in given for part in text.split(",")]
    return tuple(dict.fromkeys(given))


Moment = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_moment)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Percentiles = Annotated[
    tuple[Percentile, ...],
    Field(
        min_length=1,
        max_length=20,
        description="Percentiles, each in [0, 100], with commas or repeated, for example 50,95,99.9.",
    ),
    BeforeValidator(_numbers),
]
EndpointNames = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=300)], ...],
    Field(
        max_length=100,
        description='Only these endpoints, repeated for several: method and name ("GET /api/products") or the index in '
        "the run's list of endpoints.",
    ),
]


class Window(Query):
    """A part of a run: whole intervals that end within (from, to], or those of a window by name."""

    from_: Moment | None = Field(
        None,
        alias="from",
        description="Start, exclusive: seconds since the start of the run (to 10,000,000), Unix milliseconds, or ISO "
        "8601 (UTC if it names no zone).",
    )
    to: Moment | None = Field(None, description="End, inclusive; as `from`.")
    window: WindowName | None = Field(
        None,
        description='Name of a window of the run, instead of `from` and `to`: "whole", "steady", "ramp" or "drain" as '
        "they were found, or one that was set on the run.",
    )
    endpoint: EndpointNames = ()
    percentiles: Percentiles = (50.0, 95.0, 99.0)


class GraphQuery(Window):
    points: int = Field(500, ge=50, le=MAX_POINTS, description="Number of points at most.")
    limit: int = Field(MAX_POINTS, ge=50, le=MAX_POINTS, description="Number of points at most; the lower one counts.")


class SummaryQuery(Window):
    limit: int = Field(100, ge=1, le=1000, description="Number of gaps listed at most.")


class RequestsQuery(Window):
    limit: int = Field(100, ge=1, le=5000, description="Number of rows at most.")
    cursor: RequestsCursor | None = Field(
        None, description="`nextCursor` of the page before; other parameters unchanged."
    )


class TimeseriesQuery(Window):
    limit: int = Field(1000, ge=1, le=MAX_POINTS, description="Number of intervals at most.")
    per_endpoint: bool = Field(False, description="Also give the series of every endpoint, not only of those named.")
    cursor: TimeseriesCursor | None = Field(
        None, description="`nextCursor` of the page before; other parameters unchanged."
    )


class ScatterQuery(Window):
    limit: int = Field(2000, ge=50, le=MAX_POINTS, description="Number of points at most.")
    against: Literal["users", "requestsPerSec"] = Field("users", description="What x is.")


class AggregateQuery(Window):
    limit: int = Field(2000, ge=1, le=2001, description="Number of endpoints at most, those with most requests first.")
    outcome: Outcome = Field("all", description="Which requests are counted.")


Column = list[float | None]
Count = list[int]
Moments = Annotated[list[int], Field(description="End of each interval, Unix ms, ascending.")]
UsersColumn = Annotated[list[int], Field(description="Simulated users at the end of each interval.")]
RpsColumn = Annotated[Column, Field(description="Requests that ended, in 1/s.")]
ErrorsColumn = Annotated[Column, Field(description="Requests that failed, in 1/s.")]
MeanColumn = Annotated[Column, Field(description="Mean response time in ms; null where no request had one.")]
PercentileColumns = Annotated[
    dict[str, Column],
    Field(description='"p95": response times in ms, of all requests of each interval, from their merged histograms.'),
]
PercentileValues = Annotated[
    dict[str, float],
    Field(description='"p95": response time in ms, within 0.5 % of the exact one, from all histograms merged.'),
]
Ms = Annotated[float | None, Field(description="Response time in ms; absent where no request had one.")]
Requests = Annotated[int, Field(description="Requests that ended, successful and failed.")]
Failures = Annotated[int, Field(description="Requests that failed.")]
PerSecond = Annotated[float | None, Field(description="In 1/s, over the time that the intervals cover.")]
Percent = Annotated[float | None, Field(description="Failed requests in percent of all, 0 to 100.")]


class Hole(Record):
    """A stretch of time of which no interval is stored though there are before and after it."""

    from_ms: int = Field(description="Unix ms.")
    to_ms: int = Field(description="Unix ms.")


class Figures(Record):
    """What every answer says of the run: whether its figures are all that there will be, and all that there was."""

    run_id: str
    status: RunStatus
    completeness: Completeness = Field(description="Whether all intervals arrived; unknown while the run goes on.")
    started_at: int | None = Field(None, description="When the run began, Unix ms.")
    intervals: int = Field(description="Number of intervals that the answer is made of.")
    purged_at: int | None = Field(None, description="When the intervals were deleted by retention, Unix ms.")
    note: str | None = Field(None, description="Why there are no figures, where there are none.")


class Graph(Figures):
    """The lines of the main chart."""

    timestamp: Moments
    users: UsersColumn
    requests_per_sec: RpsColumn
    errors_per_sec: ErrorsColumn
    avg_response_time: MeanColumn
    percentiles: PercentileColumns
    holes: list[Hole] = Field(description="Where no line should be drawn; the 100 longest at most.")


class Configuration(Record):
    """What the run was started with."""

    target_url: str
    target_users: int = Field(description="Simulated users.")
    spawn_rate: float = Field(description="Users started per second.")
    duration_sec: int = Field(description="Planned length, s.")
    workers: int = Field(description="Locust workers; 0 for a run in one process.")
    load_test_id: str | None = None
    cluster_id: str | None = None
    script_revision_id: str | None = None
    revision_number: int | None = None
    script_sha256: str | None = Field(None, description="Of the script that Locust reported to have run.")


class Missing(Record):
    """What never arrived."""

    gaps: list[Gap] = Field(description="Ranges of intervals by number, and how many requests were in each, if known.")
    gaps_in_all: int = Field(description="Number of such ranges.")
    intervals: int = Field(description="Number of intervals in them.")
    requests: int | None = Field(None, description="Number of requests in them, if known.")
    workers_lost: int = Field(description="Number of Locust workers that went away.")


class Validity(Record):
    """Whether the figures can be trusted."""

    level: Level = Field(description="VALID, SUSPECT for a lesser reason, INVALID for a grave one.")
    reasons: list[str] = Field(description="Why not, the gravest first; empty if VALID.")


class Summary(Figures):
    """A run, or a part of it, in some figures."""

    name: str
    window: str = Field(description='What the figures are of: the name of a window, or "custom" for `from` and `to`.')
    windows: list[model.Window] = Field(
        description="The windows of the run in seconds from its start, without the whole; while it goes on, those that "
        "were set."
    )
    validity: Validity
    stop_reason: StopReason | None = None
    error: str | None = Field(None, description="Why the run failed.")
    finished_at: int | None = Field(None, description="When the run was over, Unix ms.")
    elapsed_sec: float | None = Field(
        None, description="From the start to the end of the run, or to its last interval, s."
    )
    measured_sec: float = Field(description="Time that the intervals cover, s; rates are per second of it.")
    configuration: Configuration
    total_requests: Requests
    total_failures: Failures
    requests_per_sec: PerSecond = None
    errors_per_sec: PerSecond = None
    error_rate: Percent = None
    avg_response_time: Ms = None
    min_response_time: Ms = None
    max_response_time: Ms = None
    percentiles: PercentileValues
    missing: Missing


class RequestRow(Record):
    """The requests to one endpoint that ended within one interval."""

    timestamp: int = Field(description="End of the interval, Unix ms.")
    method: str
    name: str
    response_time: Ms = None
    percentiles: PercentileValues
    count: Requests
    successful: int = Field(description="Requests that succeeded.")
    failed: Failures
    success: bool = Field(description="Whether none failed.")


class RequestLog(Figures):
    """Per-endpoint rows in the order of time, then of the run's list of endpoints."""

    items: list[RequestRow]
    next_cursor: str | None = Field(None, description="For the next page; absent on the last one.")


class EndpointSeries(Record):
    """The columns of one endpoint; an interval without requests to it has 0 and null."""

    method: str
    name: str
    requests: Annotated[Count, Field(description="Requests that ended within each interval.")]
    failures: Annotated[Count, Field(description="Requests that failed within each interval.")]
    requests_per_sec: RpsColumn
    errors_per_sec: ErrorsColumn
    avg_response_time: MeanColumn
    min_response_time: Annotated[Column, Field(description="Shortest response time, ms.")]
    max_response_time: Annotated[Column, Field(description="Longest response time, ms.")]
    percentiles: PercentileColumns


class Timeseries(Figures):
    """Everything, interval by interval; of the endpoints asked for also each by itself."""

    timestamp: Moments
    duration_ms: Annotated[Column, Field(description="Measured length of each interval, ms.")]
    users: UsersColumn
    workers: Annotated[list[int], Field(description="Locust workers connected.")]
    cpu_percent: Annotated[Column, Field(description="Busiest load generator, percent of one core; null if unknown.")]
    requests: Annotated[Count, Field(description="Requests that ended within each interval.")]
    failures: Annotated[Count, Field(description="Requests that failed within each interval.")]
    requests_per_sec: RpsColumn
    errors_per_sec: ErrorsColumn
    error_rate: Annotated[Column, Field(description="Failed requests in percent of all; null without requests.")]
    avg_response_time: MeanColumn
    min_response_time: Annotated[Column, Field(description="Shortest response time, ms.")]
    max_response_time: Annotated[Column, Field(description="Longest response time, ms.")]
    percentiles: PercentileColumns
    endpoints: list[EndpointSeries]
    next_cursor: str | None = Field(None, description="For the next page; absent on the last one.")


class Scatter(Figures):
    """Response times against load, a point for each interval in which a request had a time."""

    against: Literal["users", "requestsPerSec"]
    timestamp: Moments
    x: Annotated[Column, Field(description="Users, or requests in 1/s, as `against` says.")]
    avg_response_time: MeanColumn
    percentiles: PercentileColumns


class EndpointFigures(Record):
    """One endpoint over the whole run or a window of it."""

    method: str
    name: str
    requests: Requests
    failures: Failures
    requests_per_sec: PerSecond = None
    errors_per_sec: PerSecond = None
    error_rate: Percent = None
    avg_response_time: Ms = None
    min_response_time: Ms = None
    max_response_time: Ms = None
    percentiles: PercentileValues
    bytes: int | None = Field(None, description="Length of the response bodies, bytes; absent for one outcome.")


class Aggregate(Figures):
    """Every endpoint over the whole run or a window of it, and all of them together."""

    outcome: Outcome
    measured_sec: float = Field(description="Time that the intervals cover, s; rates are per second of it.")
    endpoints: list[EndpointFigures]
    endpoints_left_out: int = Field(description="Number of endpoints beyond `limit`.")
    total: EndpointFigures | None = Field(None, description="All endpoints asked for, also those left out.")
