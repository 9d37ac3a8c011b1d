"""Comparing runs over REST: `GET /v1/compare`, made of seals, with the verdicts that a notebook gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import BeforeValidator, Field

from loadbench.analysis import fingerprint
from loadbench.analysis.compare import Compared
from loadbench.analysis.effect import CONFIDENCE
from loadbench.analysis.measurements import Side
from loadbench.analysis.verdict import IMPORTANT_PERCENT, Word
from loadbench.catalogue import Catalogue
from loadbench.errors import NotFound
from loadbench.model import Id, LoadTestRun, Record, WindowName
from loadbench.sides import arrange, read_sides
from loadbench.store import Store
from server import figures
from server.access import ApiHandler
from server.base import Refused
from server.figures import Percentiles, PercentileValues
from server.operation import Operation, Query

MAX_COMPARED = 50


def _parts(given: Any) -> Any:
    """Take `runs=a,b`, `runs=a&runs=b`, and each run once."""
    return tuple(dict.fromkeys(part for text in given for part in text.split(",")))


RunIds = Annotated[tuple[Id, ...], Field(max_length=MAX_COMPARED), BeforeValidator(_parts)]


class ComparisonQuery(Query):
    runs: RunIds = Field((), description="Ids of up to 50 runs, with commas or repeated. The first is the reference.")
    reference: RunIds = Field((), description="Compare with these instead, taken as repetitions of each other.")
    baseline: bool = Field(False, description="Compare with the baseline of the test of the first run instead.")
    together: bool = Field(False, description="Take the runs that are not the reference as repetitions of each other.")
    window: WindowName = Field("steady", description='"steady", "whole", or another window that the runs have.')
    percentiles: Percentiles = (50.0, 95.0, 99.0)
    endpoint: figures.EndpointNames = ()
    important_percent: float = Field(
        IMPORTANT_PERCENT, gt=0, lt=1000, description="The change that matters, in percent: see `verdict`."
    )
    allow_different: tuple[Literal[fingerprint.CHECKED], ...] = Field(
        (), description="Facts in which the runs may differ all the same; repeated for several."
    )


class ComparedSide(Record):
    """A run, or a pool of runs that are taken as repetitions."""

    label: str
    run_ids: list[str]
    revision_numbers: list[int]
    validity: list[str] = Field(description='Of each run: "VALID", or "SUSPECT" or "INVALID" with the reasons.')


class Difference(Record):
    """A fact in which the sides differ."""

    aspect: str
    must_agree: bool = Field(description="Whether runs that differ in it are not comparable.")
    values: dict[str, str] = Field(description="By label of the side.")


class ComparedFigures(Record):
    """What a side measured at one endpoint."""

    side: str
    method: str
    name: str
    runs: int
    requests: figures.Requests
    error_rate: figures.Percent = None
    requests_per_sec: figures.PerSecond = None
    avg_response_time: figures.Ms = None
    percentiles: PercentileValues
    change_percent: dict[str, float] = Field(
        description='"p95", "mean", "requestsPerSec": change against the reference, percent; empty in its own rows.'
    )


class VerdictRow(Record):
    """What may be claimed of one percentile at one endpoint."""

    side: str
    method: str
    name: str
    percentile: float
    verdict: Word = Field(
        description='"no difference found" only where a change of `importantPercent` would have been found.'
    )
    because: str
    effect_percent: float | None = Field(None, description="Change against the reference.")
    low_percent: float | None = Field(None, description="Lower end of its 95 % interval.")
    high_percent: float | None = Field(None, description="Upper end of its 95 % interval.")
    smallest_percent: float | None = Field(None, description="The smallest slowdown that is found 80 times in 100.")
    p_adjusted: float | None = Field(None, description="Corrected for all verdicts of the answer (Holm).")
    runs: int
    reference_runs: int


class Comparison(Record):
    """Runs beside each other, and what may be claimed of them."""

    headline: str
    reference: str = Field(description="The label of the side that the others are compared with.")
    window: str
    sides: list[ComparedSide]
    differences: list[Difference]
    figures: list[ComparedFigures]
    verdicts: list[VerdictRow]
    false_alarm_rate: float = Field(
        description="How often, where nothing has changed, any of the verdicts says faster or slower, at most."
    )


def make(
    store: Store, query: ComparisonQuery, runs: Sequence[LoadTestRun], reference: Sequence[LoadTestRun]
) -> Comparison:
    """Compare; blocking.

    Raises
    ------
    InvalidInput
        If there are fewer than two sides, or none of the runs has the window or an endpoint.
    """
    label = "baseline" if query.baseline else "reference"
    groups, place = arrange(runs, reference=reference, reference_label=label, together=query.together)
    sides, _ = read_sides(store, groups, reference=place, window=query.window)
    compared = Compared(
        sides, place, query.percentiles, query.important_percent, frozenset(query.allow_different),
        endpoints=query.endpoint or None,
    )  # fmt: skip
    return Comparison(
        headline=compared.headline,
        reference=sides[place].label,
        window=query.window,
        sides=[_side(side) for side in sides],
        differences=_differences(compared.differences()),
        figures=[_figures(row) for row in _rows(compared.table(), query.endpoint)],
        verdicts=[VerdictRow(**_known(row)) for row in _records(compared.verdicts())],
        false_alarm_rate=round(1 - CONFIDENCE, 10),
    )


def _side(side: Side) -> ComparedSide:
    numbers = {run.revision_number for run in side.runs if run.revision_number is not None}
    return ComparedSide(
        label=side.label,
        run_ids=[run.id for run in side.runs],
        revision_numbers=sorted(numbers),
        validity=[str(sample.validity) for sample in side.samples],
    )


def _differences(found: pd.DataFrame) -> list[Difference]:
    labels = list(found.columns[1:])
    return [
        Difference(aspect=aspect, must_agree=kind == "must agree", values=dict(zip(labels, values, strict=True)))
        for aspect, kind, *values in found.itertuples(name=None)
    ]


def _rows(table: pd.DataFrame, endpoints: Sequence[str]) -> list[dict[str, Any]]:
    rows = _records(table)
    return [row for row in rows if not endpoints or f"{row['method']} {row['name']}".strip() in endpoints]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _figures(row: dict[str, Any]) -> ComparedFigures:
    known = _known(row)
    times = {
        name.removesuffix("_ms"): value
        for name, value in known.items()
        if name.startswith("p") and name.endswith("_ms")
    }
    changes = {name.removesuffix("_percent"): value for name, value in known.items() if name.endswith("_percent")}
    if "requests_per_s" in changes:
        changes["requestsPerSec"] = changes.pop("requests_per_s")
    ratio = known.get("failure_ratio")
    return ComparedFigures(
        side=row["side"],
        method=row["method"],
        name=row["name"],
        runs=row["runs"],
        requests=row["requests"],
        error_rate=None if ratio is None else 100 * ratio,
        requests_per_sec=known.get("requests_per_s"),
        avg_response_time=known.get("mean_ms"),
        percentiles=times,
        change_percent=changes,
    )


class CompareHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Compare runs",
            Comparison,
            query=ComparisonQuery,
            refuses=(404,),
            name="compareRuns",
            description="Each run with the reference: in what they differ, what they measured, and verdicts as far as "
            "runs allow them. One run against one run never gives a verdict: repeat it, or compare with a baseline of "
            'some runs. `endpoint` takes method and name, or "Aggregated" for all requests; fewer questions need less '
            "correction.",
        ),
    }

    async def get(self) -> None:
        query = self.query_of(ComparisonQuery)
        if not query.runs:
            raise Refused(400, "invalid_input", "runs: name the runs to compare", field="runs")
        if query.baseline and query.reference:
            raise Refused(400, "invalid_input", "give baseline or reference, not both", field="reference")
        runs = [await self.visible_run(run_id) for run_id in query.runs]
        reference = [await self.visible_run(run_id) for run_id in query.reference]
        if query.baseline:
            reference = await self.run(_baseline, self.service.catalogue, runs[0])
        self.write_record(200, await self.run_long(partial(make, self.service.store, query, runs, reference)))


def _baseline(catalogue: Catalogue, run: LoadTestRun) -> list[LoadTestRun]:
    found = catalogue.baseline(run.load_test_id) if run.load_test_id else []
    if not found:
        raise NotFound("the test of the first run has no baseline: set one, or name a reference")
    return found


routes = [("/v1/compare", CompareHandler)]
