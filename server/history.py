"""The history of a test over REST: its runs in order of time, and where they changed."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from loadbench.analysis.history import MIN_RUNS
from loadbench.model import Count, Id, Millis, Name, Record
from loadbench.trend import FIGURES, TestTrend, read_trend
from server.access import ApiHandler
from server.operation import Operation, Query

MAX_RUNS = 200


class HistoryQuery(Query):
    """Which figure, and how many runs."""

    endpoint: Name = Field(default="Aggregated", description="Method and name; left out, all requests.")
    percentile: float = Field(default=95, ge=0, le=100, description="Which percentile of the response times.")
    figure: Literal["mean_ms", "failure_ratio", "requests_per_s"] | None = Field(
        default=None, description="Instead of a percentile."
    )
    last: int = Field(default=100, ge=1, le=MAX_RUNS, description="So many runs at most, the newest.")


class HistoryRun(Record):
    """A run in the series."""

    run_id: Id
    started_at: Millis | None = None
    revision_number: Count | None = None
    value: float = Field(description="The figure, in the steady window of the run: ms, /s or a ratio.")
    segment: Count = Field(description="Number of the stretch between changes, from 0.")
    outlier: bool = Field(description="Whether the run stands out alone.")
    validity: str


class HistoryChange(Record):
    """A change: the run is the first after it."""

    run_id: Id
    started_at: Millis | None = None
    revision_number: Count | None = None
    effect: float = Field(description="In `unit`.")
    low: float | None = Field(None, description="Of the 95 % interval, in `unit`.")
    high: float | None = Field(None, description="Of the 95 % interval, in `unit`.")
    unit: Literal["percent", "percentage points"]
    p: float
    state: Literal["found", "confirmed"]
    what_changed: str = Field(description="In what the run differs from the one before it.")


class LeftOut(Record):
    """A run that is not in the series."""

    run_id: Id
    because: str


class History(Record):
    """The series, oldest run first, and its changes."""

    endpoint: str
    figure: str
    enough_runs: bool = Field(description=f"Whether there are the {MIN_RUNS} runs that a change is told from.")
    runs: list[HistoryRun]
    changes: list[HistoryChange]
    left_out: list[LeftOut]


class HistoryHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Say when a load test changed, by how much, and what changed with it",
            History,
            query=HistoryQuery,
            name="getHistory",
            description="Change points (E-divisive) over its comparable finished runs; docs/history-and-capacity.md.",
        )
    }

    async def get(self, test_id: str) -> None:
        query, test = self.query_of(HistoryQuery), await self.visible_test(test_id)
        asked = {name: getattr(query, name) for name in ("endpoint", "percentile", "figure", "last")}
        found = await self.run_long(lambda: read_trend(self.service.store, test, **asked))
        self.write_record(200, answer(found))


def answer(found: TestTrend) -> History:
    """Write what a trend says."""
    marks = {mark.run_id: mark.state for mark in found.marks}
    runs = [
        HistoryRun(
            run_id=run.id, started_at=run.started_at, revision_number=run.revision_number, value=float(value),
            segment=int(segment), outlier=bool(outlier), validity=str(validity),
        )
        for run, value, segment, outlier, validity in zip(
            found.runs, found.shown, found.found.segment, found.found.outlier, found.validity, strict=True
        )
    ]  # fmt: skip
    changes = []
    for point in found.found.changes:
        run, bounds = found.runs[point.index], {"low": point.effect.low, "high": point.effect.high}
        changes.append(
            HistoryChange(
                run_id=run.id, started_at=run.started_at, revision_number=run.revision_number,
                effect=point.effect.change, unit=found.unit, p=point.p, state=marks.get(run.id, "found"),
                what_changed=found.cause(point.index),
                **{name: value for name, value in bounds.items() if not np.isnan(value)},
            )
        )  # fmt: skip
    left = [LeftOut(run_id=run.id, because=because) for run, because in found.left_out]
    return History(
        endpoint=found.endpoint, figure=FIGURES.get(found.figure.shown, found.figure.name),
        enough_runs=not found.is_short, runs=runs, changes=changes, left_out=left,
    )  # fmt: skip


routes = [("/v1/load-tests/{testId}/history", HistoryHandler)]
