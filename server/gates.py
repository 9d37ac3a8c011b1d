"""Gates over REST: how a run stands to its own or to others, and which stored runs of a test would have failed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from loadbench.analysis.gates import GateResult
from loadbench.gatekeeper import GateTrial, judge, try_gates
from loadbench.model import Id, LoadTestRun, Record, RunStatus, WindowName
from server.access import ApiHandler
from server.operation import Operation, Query

MAX_GATES = 20
MAX_RUNS = 200
_SAYS = "`p95 < 300ms`, `error rate > 1%`, `p99 <= 1.2 x baseline` or `95% of seconds p95 < 300ms`"
GateText = Annotated[str, Field(min_length=1, max_length=256)]
Window = Annotated[
    WindowName | None, Field(description="The window of the run for gates that name none: `steady` if left out.")
]


class RunGatesQuery(Query):
    """Which gates."""

    gate: tuple[GateText, ...] = Field(
        default=(), max_length=MAX_GATES, description=f"In place of those of the run: {_SAYS}; repeatable."
    )
    window: Window = None


class TestGatesQuery(Query):
    """Which gates, and on which runs."""

    __test__ = False  # pytest: not a test class

    gate: tuple[GateText, ...] = Field(
        default=(), max_length=MAX_GATES, description=f"Left out, those of the test: {_SAYS}; repeatable."
    )
    last: int = Field(default=30, ge=1, le=MAX_RUNS, description="On so many runs, the newest.")
    since: str | None = Field(
        default=None, max_length=40, description="On runs of so long ago at most, `30d`; or since a day, `2026-03-14`."
    )
    window: Window = None


class GateFigures(Record):
    """How a run stands to a gate."""

    verdict: Literal["passed", "broken", "not judged"]
    passed: bool | None = Field(None, description="Absent if it could not be judged.")
    value: float | None = Field(None, description="What the run had, in `unit`.")
    limit: float | None = Field(None, description="What the value was held against, in `unit`.")
    unit: str = Field(description="Of value and limit: ms, /s, count, ratio (in [0, 1]), or nothing.")
    because: str
    at_sec: float | None = Field(None, description="When it was broken first, s from the start of the run.")
    window: str = Field(description="The window of the run that was looked at.")
    endpoints: list[str] = Field(description="The endpoints that were looked at; empty for all.")


class GateAnswer(GateFigures):
    """How a run stands to a gate."""

    gate: str = Field(description="In its canonical spelling.")


class RunGates(Record):
    """How a run stands to gates; while it goes on, by what there is of it so far."""

    run_id: Id
    status: RunStatus
    gate_broken: str | None = Field(None, description="The gate that stopped the run.")
    passed: bool | None = Field(None, description="False if one is broken; absent if none is, and one is not judged.")
    items: list[GateAnswer]


class TriedRun(GateFigures):
    """How a stored run stands to the gate that is tried."""

    run_id: Id
    name: str
    started_at: int | None = Field(None, description="Unix ms.")
    revision_number: int | None = None


class Trial(Record):
    """What would have been, had this gate been there."""

    gate: str = Field(description="In its canonical spelling.")
    verdict: str = Field(description="In one line.")
    failed: int = Field(description="Number of runs that would have failed.")
    not_judged: int = Field(description="Number of runs that could not be judged.")
    runs: list[TriedRun]


class TestGates(Record):
    """Gates tried on the finished and stopped runs of a test, the newest first."""

    __test__ = False  # pytest: not a test class

    items: list[Trial]


class RunGatesHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Judge a run by its gates, or by others",
            RunGates,
            query=RunGatesQuery,
            name="getRunGates",
            description="Those that it was started with, unless `gate` names others. Every percentile is read from "
            "merged histograms. What cannot be judged is neither passed nor broken, and says why.",
        )
    }

    async def get(self, run_id: str) -> None:
        query, run = self.query_of(RunGatesQuery), await self.visible_run(run_id)
        call = partial(judge, self.service.store, run, query.gate or None, window=query.window)
        self.write_record(200, answer(run, await self.run_long(call)))


class TestGatesHandler(ApiHandler):
    __test__ = False  # pytest: not a test class
    operations: ClassVar = {
        "GET": Operation(
            "Try gates on the stored runs of a load test",
            TestGates,
            query=TestGatesQuery,
            name="tryGates",
            description="Which of them would have failed?",
        )
    }

    async def get(self, test_id: str) -> None:
        query, test = self.query_of(TestGatesQuery), await self.visible_test(test_id)
        which = {"last": query.last, "since": query.since, "window": query.window}
        gates, store = query.gate or test.gates, self.service.store
        tried = await self.run_long(lambda: try_gates(store, test, gates, **which))
        self.write_record(200, TestGates(items=[trial(each) for each in tried]))


def answer(run: LoadTestRun, results: list[GateResult]) -> RunGates:
    """Write what a run's gates say."""
    verdicts = [result.passed for result in results]
    passed = False if False in verdicts else None if None in verdicts or not verdicts else True
    items = [GateAnswer(gate=str(result.gate), **_figures(result)) for result in results]
    return RunGates(run_id=run.id, status=run.status, gate_broken=run.gate_broken, passed=passed, items=items)


def trial(found: GateTrial) -> Trial:
    """Write what a trial says."""
    runs = [
        TriedRun(
            run_id=run.id, name=run.name, started_at=run.started_at, revision_number=run.revision_number,
            **_figures(result),
        )
        for run, result in found.results
    ]  # fmt: skip
    return Trial(
        gate=str(found.gate), verdict=found.verdict, failed=len(found.failed), not_judged=len(found.unjudged), runs=runs
    )


def _figures(result: GateResult) -> dict[str, object]:
    names = ("verdict", "passed", "value", "limit", "unit", "because", "window")
    return {name: getattr(result, name) for name in names} | {
        "at_sec": result.at_s, "endpoints": list(result.endpoints),
    }  # fmt: skip


routes = [
    ("/v1/runs/{runId}/gates", RunGatesHandler),
    ("/v1/load-tests/{testId}/gates", TestGatesHandler),
]
