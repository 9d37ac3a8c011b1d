"""The charts of a run over REST: `graph`, `summary`, `requests`, and `metrics/timeseries|scatter|aggregate`.

A long run is read part by part, each in its own turn of the executor, so that pushes get theirs in between and the
memory that a chart takes does not grow with the run. `graph` and `scatter` of all requests read the totals of each
interval; histograms are read where endpoints, other percentiles or several sources ask for it. A chart that has to
leave intervals out shows actual intervals, chosen so that peaks stay: no percentile of it is made from others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import pandas as pd

from loadbench.analysis import frames, series
from loadbench.analysis.condense import condense
from loadbench.analysis.intervals import FIELDS, Document, Intervals, Outcome, origin_ms, timestamps_ms, whole_slots
from loadbench.analysis.series import STORED, TOTALS, Series
from loadbench.analysis.summary import summary
from loadbench.analysis.validity import judge
from loadbench.analysis.windows import WHOLE, named
from loadbench.errors import InvalidInput, NotFound
from loadbench.model import LoadTestRun, Window
from loadbench.sealing import bounds_ms, seals, windows_of
from loadbench.store import Store
from server import answers, figures
from server.access import ApiHandler
from server.answers import Asked
from server.operation import Operation

PART_INTERVALS = 10_000
"""Number of totals that are read at once."""
PART_ROWS = 80_000
"""Number of rows, endpoints within intervals, that are read at once with their histograms."""
PART_LEAST = 300
MAX_VALUES = 50_000
"""Number of endpoint intervals in one page of `timeseries`."""
CUSTOM = "custom"
"""What a window is called that has no name: `from` and `to` were given."""
NEVER_SUMS_UP = "A percentile is read from merged histograms; none is an average of others."

T = TypeVar("T")
Part = tuple[Document | None, int]
"""What some intervals were condensed to, and how many they were."""
Make = Callable[[LoadTestRun, Sequence[Document]], T]


def resolve(store: Store, run: LoadTestRun, window: figures.Window) -> Asked:
    """Find out what a query string means for this run.

    Raises
    ------
    InvalidInput
        If the window ends before it starts, or the run has no such window or endpoint.
    """
    start_ms = end_ms = None
    name = window.window or WHOLE
    if window.from_ is not None or window.to is not None:
        if window.window is not None:
            raise InvalidInput("window: give the name of a window, or from and to, not both", field="window")
        name = CUSTOM
    elif name != WHOLE:
        start_ms, end_ms = bounds_ms(store, run, named(windows_of(store, run), name))
    if window.from_ is not None or window.to is not None:
        first = [] if run.started_at else store.ledger.documents(run.id, fields=("durationMs",), limit=1)
        origin = origin_ms(run, first)
        # Ends of intervals are whole milliseconds: (from, to] holds the same of them as (floor(from), floor(to)].
        start_ms, end_ms = (
            None if text is None else math.floor(figures.moment_ms(text, origin)) for text in (window.from_, window.to)
        )
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise InvalidInput("to: the window must end after it starts", field="to")
    return Asked(run, start_ms, end_ms, endpoints_of(run, window.endpoint), window.percentiles, name)


def endpoints_of(run: LoadTestRun, asked: Sequence[str]) -> tuple[int, ...] | None:
    """Give the places of endpoints in the run's list, each by method and name or by its place; None for all."""
    if not asked:
        return None
    known = {str(endpoint): index for index, endpoint in enumerate(run.endpoints)}
    places = known | {str(index): index for index in range(len(run.endpoints)) if str(index) not in known}
    for name in asked:
        if name not in places:
            there = ", ".join(list(known)[:5]) + (", ..." if len(known) > 5 else "") or "none yet"
            raise InvalidInput(f"endpoint: no {name[:80]!r} in this run; there are: {there}", field="endpoint")
    return tuple(dict.fromkeys(places[name] for name in asked))


def read_part(
    store: Store, asked: Asked, start_ms: int | None, *, fields: Sequence[str], limit: int, make: Make[T]
) -> tuple[T, int | None]:
    """Read the intervals after a moment, at most `limit`, and make something of them.

    Returns
    -------
    tuple
        What `make` made of the run and its documents, and after which moment (Unix ms) there may be more; None at the
        end. What is read together ends together: sources that report together are not torn apart.
    """
    documents: Sequence[Document] = store.ledger.documents(
        asked.run.id, start_ms=start_ms, end_ms=asked.end_ms, fields=fields, limit=limit
    )
    more = len(documents) == limit
    if more:
        documents = whole_slots(documents)
    run = knowing(store, asked.run, documents)
    return make(run, documents), int(timestamps_ms(documents).max()) if more else None


def knowing(store: Store, run: LoadTestRun, documents: Sequence[Document]) -> LoadTestRun:
    """Give the run such that it knows all endpoints of these intervals; it may have met some since it was read."""
    highest = max((max(document.get("endpoints") or (-1,)) for document in documents), default=-1)
    return store.runs.get(run.id) if highest >= len(run.endpoints) else run


def part_size(run: LoadTestRun, fields: Sequence[str]) -> int:
    """Say how many intervals to read at once."""
    return max(PART_LEAST, PART_ROWS // max(1, len(run.endpoints))) if "histograms" in fields else PART_INTERVALS


class ChartHandler(ApiHandler):
    """What the six have in common: which run and window, and reading it part by part."""

    async def asked(self, run_id: str) -> tuple[Asked, Any]:
        """Give what is asked for, and the query string."""
        query = self.query_of(self.operation.query)
        run = await self.visible_run(run_id)
        return await self.run(resolve, self.service.store, run, query), query

    async def part(
        self, asked: Asked, start_ms: int | None, make: Make[T], *, fields: Sequence[str] = FIELDS, least: int = 0
    ) -> tuple[T, int | None]:
        """Read one part, of `least` intervals if so many may be read at once; see `read_part`."""
        limit = part_size(asked.run, fields)
        if least:
            limit = min(limit, max(least, PART_LEAST))
        read = partial(read_part, self.service.store, asked, start_ms, fields=fields, limit=limit, make=make)
        return await self.run(read)

    async def whole(self, asked: Asked, make: Make[T], *, fields: Sequence[str] = FIELDS) -> list[T]:
        """Read all parts."""
        made, start_ms = await self.part(asked, asked.start_ms, make, fields=fields)
        parts = [made]
        while start_ms is not None:
            made, start_ms = await self.part(asked, start_ms, make, fields=fields)
            parts.append(made)
        return parts

    async def series(self, asked: Asked) -> Series:
        """Give the figures of all intervals: from their totals if these tell, else from their histograms."""
        if asked.endpoints is None and STORED.keys() >= set(asked.percentiles):
            totals = await self.whole(asked, partial(_totals, asked), fields=TOTALS)
            if all(part is not None for part in totals):
                return series.join(totals)
        return series.join(await self.whole(asked, partial(_merged, asked)))

    async def table(self, asked: Asked, outcome: Outcome = "all") -> answers.Table:
        """Give the figures of the whole window by endpoint, and what they are made of."""
        sealed = await self.run(_sealed, self.service.store, asked)
        if sealed is None:
            sealed = await self.whole(asked, partial(_condensed, asked)), asked.run.windows
        return await self.run(_tabulated, self.service.store, asked, outcome, *sealed)


def _totals(asked: Asked, run: LoadTestRun, documents: Sequence[Document]) -> Series | None:
    return series.of_totals(documents, asked.percentiles)


def _merged(asked: Asked, run: LoadTestRun, documents: Sequence[Document]) -> Series:
    return series.of_intervals(Intervals.read(run, documents, endpoints=asked.endpoints), asked.percentiles)


def _rows(asked: Asked, run: LoadTestRun, documents: Sequence[Document]) -> pd.DataFrame:
    return frames.endpoints(run, documents, percentiles=asked.percentiles, only=asked.endpoints)


def _condensed(asked: Asked, run: LoadTestRun, documents: Sequence[Document]) -> Part:
    condensed = condense(run, documents, endpoints=asked.endpoints)
    return condensed, condensed["intervals"] if condensed else 0


def _sealed(store: Store, asked: Asked) -> tuple[list[Part], tuple[Window, ...]] | None:
    """Give what a seal tells of the whole of a run that is over, or of a window by name, and the windows of the run."""
    if not asked.run.is_over or asked.window == CUSTOM:
        return None
    try:
        seal = seals(store, [asked.run], windows=[asked.window])[0]
    except NotFound:  # its intervals were deleted before it was sealed
        return None
    documents = seal.documents(asked.window)
    if asked.endpoints is None:
        return [(document, document["intervals"]) for document in documents], seal.windows
    return [_condensed(asked, seal.run, documents)] if documents else [], seal.windows


def _tabulated(
    store: Store,
    asked: Asked,
    outcome: Outcome,
    parts: Sequence[Part],
    windows: tuple[Window, ...],
) -> answers.Table:
    condensed = [document for document, _ in parts if document]
    run = knowing(store, asked.run, condensed)
    whole = condensed[0] if len(condensed) == 1 else condense(run, condensed)
    return answers.Table(
        rows=summary(run, condensed, percentiles=asked.percentiles, outcome=outcome),
        intervals=sum(intervals for _, intervals in parts),
        measured_s=sum(document["durationMs"] for document in condensed) / 1000,
        last_ms=int(timestamps_ms(condensed).max()) if condensed else None,
        validity=judge(run, whole, window=asked.window, percentiles=asked.percentiles),
        windows=windows,
    )


class GraphHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read the lines of the main chart",
            figures.Graph,
            query=figures.GraphQuery,
            name="getGraph",
            description="Every interval, or those that matter if there are more than `points`: the first, the last, "
            "of each of many stretches of equal length those with the highest and the lowest value of each column, and "
            "of errorsPerSec and the highest percentile the points/10 highest wherever they are. Each point is an "
            "actual interval. One shorter than half of the usual, in which a run ends, is not among them. "
            + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        found = await self.series(asked)
        points = min(query.points, query.limit)
        self.write_record(200, await self.run(partial(answers.graph, asked, found, points=points)))


class SummaryHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read a run in some figures",
            figures.Summary,
            query=figures.SummaryQuery,
            name="getSummary",
            description="Of the whole run or a window of it, of all requests or of those to some endpoints; with its "
            "configuration, and with what is missing. Of a run whose intervals were deleted, the numbers of requests "
            "and failures that its agents counted remain. " + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        table = await self.table(asked)
        self.write_record(200, answers.summarise(asked, table, limit=query.limit))


class RequestsHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read what was requested, as a log",
            figures.RequestLog,
            query=figures.RequestsQuery,
            name="getRequests",
            description="A row for each endpoint and interval with requests to it: responseTime is their mean. "
            + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        start_ms, skip = map(int, query.cursor.split(".")) if query.cursor else (asked.start_ms, 0)
        parts, after_ms, enough = [], start_ms, skip + query.limit
        while True:
            part, after_ms = await self.part(asked, after_ms, partial(_rows, asked), least=query.limit)
            parts.append(part)
            if after_ms is None or sum(map(len, parts)) > enough:
                break
        found = pd.concat(parts, ignore_index=True)
        page = partial(answers.request_log, asked, found, start_ms=start_ms or 0, skip=skip, limit=query.limit)
        self.write_record(200, await self.run(page))


class TimeseriesHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read everything, interval by interval",
            figures.Timeseries,
            query=figures.TimeseriesQuery,
            name="getTimeseries",
            description="The columns are of all requests; `endpoint` and `perEndpoint` add the same of each endpoint. "
            "A page with many endpoints may have fewer intervals than `limit`. " + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        everything = replace(asked, endpoints=None)
        if query.per_endpoint:
            asked = everything
        detailed = query.per_endpoint or asked.endpoints is not None
        each = len(asked.run.endpoints) if asked.endpoints is None else len(asked.endpoints)
        limit = min(query.limit, max(1, MAX_VALUES // max(1, each))) if detailed else query.limit

        def make(run: LoadTestRun, documents: Sequence[Document]) -> tuple[Series, pd.DataFrame | None]:
            return _merged(everything, run, documents), _rows(asked, run, documents) if detailed else None

        parts, after_ms = [], int(query.cursor) if query.cursor else asked.start_ms
        while True:
            part, after_ms = await self.part(
                asked, after_ms, make, least=limit + 2
            )  # of a full part the last second is left for the next
            parts.append(part)
            if after_ms is None or sum(len(found["end_ms"]) for found, _ in parts) > limit:
                break
        found = series.join([found for found, _ in parts])
        detail = pd.concat([rows for _, rows in parts], ignore_index=True) if detailed else None
        self.write_record(200, await self.run(partial(answers.timeseries, asked, found, detail, limit=limit)))


class ScatterHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read response times against load",
            figures.Scatter,
            query=figures.ScatterQuery,
            name="getScatter",
            description="A point for each interval; if there are more than `limit`, those that matter are chosen as "
            "for the graph. " + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        found = await self.series(asked)
        drawn = partial(answers.scatter, asked, found, limit=query.limit, against=query.against)
        self.write_record(200, await self.run(drawn))


class AggregateHandler(ChartHandler):
    operations: ClassVar = {
        "GET": Operation(
            "Read the figures of each endpoint",
            figures.Aggregate,
            query=figures.AggregateQuery,
            name="getAggregate",
            description="Of the whole run or a window of it. " + NEVER_SUMS_UP,
        ),
    }

    async def get(self, run_id: str) -> None:
        asked, query = await self.asked(run_id)
        table = await self.table(asked, query.outcome)
        made = partial(answers.aggregate, asked, table, limit=query.limit, outcome=query.outcome)
        self.write_record(200, await self.run(made))


routes = [
    ("/v1/runs/{runId}/graph", GraphHandler),
    ("/v1/runs/{runId}/summary", SummaryHandler),
    ("/v1/runs/{runId}/requests", RequestsHandler),
    ("/v1/runs/{runId}/metrics/timeseries", TimeseriesHandler),
    ("/v1/runs/{runId}/metrics/scatter", ScatterHandler),
    ("/v1/runs/{runId}/metrics/aggregate", AggregateHandler),
]
