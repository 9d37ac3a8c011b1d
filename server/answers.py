"""From arrays and frames to the answers of the chart endpoints: pure functions, one for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loadbench.analysis import frames, series
from loadbench.analysis.columns import percentile_column
from loadbench.analysis.downsample import thin
from loadbench.analysis.series import Series, percentile_name
from loadbench.analysis.validity import Validity
from loadbench.analysis.windows import WHOLE
from loadbench.model import Endpoint, LoadTestRun, Window
from server import figures

MAX_HOLES = 100


@dataclass(frozen=True)
class Asked:
    """What is read: intervals of a run that end within (start, end], in Unix ms, and of which endpoints."""

    run: LoadTestRun
    start_ms: int | None
    end_ms: int | None
    endpoints: tuple[int, ...] | None
    percentiles: tuple[float, ...]
    window: str = WHOLE


def graph(asked: Asked, found: Series, *, points: int) -> figures.Graph:
    """Make the lines of the main chart, with every interval or, if these are too many, with those that matter."""
    drawn = series.without_fragments(found)
    lines = [drawn[name] for name in ("users", "requests_per_s", "failures_per_s", "mean_ms")]
    quantiles = [drawn[percentile_name(q)] for q in asked.percentiles]
    highest = drawn[percentile_name(max(asked.percentiles))]
    chosen = thin([*lines, *quantiles], points, peaks=(drawn["failures_per_s"], highest))
    kept = series.take(drawn, chosen)
    longest = sorted(series.holes(found), key=lambda hole: hole[0] - hole[1])[:MAX_HOLES]
    return figures.Graph(
        **_head(asked, len(found["end_ms"])),
        **_lines(asked, kept),
        users=_whole(kept["users"]),
        requests_per_sec=_column(kept["requests_per_s"]),
        errors_per_sec=_column(kept["failures_per_s"]),
        holes=[figures.Hole(from_ms=start, to_ms=end) for start, end in sorted(longest)],
    )


def scatter(asked: Asked, found: Series, *, limit: int, against: str) -> figures.Scatter:
    """Make the points of response time against load."""
    drawn = series.without_fragments(found)
    drawn = series.take(drawn, ~np.isnan(drawn["mean_ms"]))
    times = [drawn["mean_ms"], *(drawn[percentile_name(q)] for q in asked.percentiles)]
    x = drawn["users" if against == "users" else "requests_per_s"]
    kept = thin([x, *times], limit, peaks=times[-1:])
    return figures.Scatter(
        **_head(asked, len(found["end_ms"])),
        **_lines(asked, series.take(drawn, kept)),
        against=against,
        x=_column(x[kept]),
    )


def timeseries(asked: Asked, found: Series, detail: pd.DataFrame | None, *, limit: int) -> figures.Timeseries:
    """Make all columns of the first intervals, and with `detail`, rows by endpoint, of each endpoint by itself."""
    more = len(found["end_ms"]) > limit
    found = series.take(found, slice(limit))
    end_ms = found["end_ms"]
    return figures.Timeseries(
        **_head(asked, len(end_ms)),
        **_lines(asked, found),
        **_detailed(found),
        duration_ms=_column(found["duration_ms"]),
        users=_whole(found["users"]),
        workers=_whole(found["workers"]),
        cpu_percent=_column(found["cpu_percent"]),
        error_rate=_column(100 * frames.mean(found["failures"], found["requests"])),
        endpoints=[] if detail is None else _each_endpoint(asked, end_ms, detail),
        next_cursor=str(end_ms[-1]) if more else None,
    )


def _each_endpoint(asked: Asked, end_ms: np.ndarray, detail: pd.DataFrame) -> list[figures.EndpointSeries]:
    """Spread the rows of each endpoint over all timestamps."""
    moments = _unix_ms(detail["timestamp"])
    detail = detail[moments <= (end_ms[-1] if len(end_ms) else 0)]
    place = np.searchsorted(end_ms, _unix_ms(detail["timestamp"]))
    groups = detail.groupby(["method", "name"], sort=False).indices
    names = groups if asked.endpoints is None else [_name(asked.run.endpoints[index]) for index in asked.endpoints]
    columns = []
    for name in names:
        rows = groups.get(name, np.zeros(0, np.int64))

        def spread(column: str, rows: np.ndarray = rows, filler: float = np.nan) -> np.ndarray:
            values = np.full(len(end_ms), filler)
            values[place[rows]] = detail[column].to_numpy(dtype=float)[rows]
            return values

        counts = ("requests", "failures", "requests_per_s", "failures_per_s")
        one = {column: spread(column, filler=0.0) for column in counts}
        one |= {column: spread(column) for column in ("mean_ms", "min_ms", "max_ms")}
        quantiles = {percentile_name(q): _column(spread(percentile_column(q))) for q in asked.percentiles}
        columns.append(
            figures.EndpointSeries(
                method=name[0],
                name=name[1],
                **_detailed(one),
                avg_response_time=_column(one["mean_ms"]),
                percentiles=quantiles,
            )
        )
    return columns


def request_log(asked: Asked, found: pd.DataFrame, *, start_ms: int, skip: int, limit: int) -> figures.RequestLog:
    """Make a page of a log from the rows after `start_ms`, of which `skip` were on the page before."""
    end_ms = _unix_ms(found["timestamp"])
    cursor = None
    if len(found) > skip + limit:
        # A page goes on within an interval: the cursor says where that begins, and how many rows of it are known.
        first = int(np.searchsorted(end_ms, end_ms[skip + limit]))
        cursor = f"{end_ms[first - 1] if first else start_ms}.{skip + limit - first}"
    page = slice(skip, skip + limit)
    return figures.RequestLog(
        **_head(asked, len(np.unique(end_ms[page]))), items=_request_rows(asked, found[page]), next_cursor=cursor
    )


def _request_rows(asked: Asked, detail: pd.DataFrame) -> list[figures.RequestRow]:
    quantiles = {percentile_name(q): _column(detail[percentile_column(q)]) for q in asked.percentiles}
    columns = zip(
        _unix_ms(detail["timestamp"]).tolist(),
        detail["method"],
        detail["name"],
        _column(detail["mean_ms"]),
        detail["requests"].tolist(),
        detail["failures"].tolist(),
        strict=True,
    )
    return [
        figures.RequestRow(
            timestamp=moment,
            method=method,
            name=name,
            response_time=mean_ms,
            percentiles=_known({each: values[row] for each, values in quantiles.items()}),
            count=requests,
            successful=requests - failures,
            failed=failures,
            success=failures == 0,
        )
        for row, (moment, method, name, mean_ms, requests, failures) in enumerate(columns)
    ]


@dataclass(frozen=True, eq=False)
class Table:
    """The figures of a window by endpoint (`analysis.summary`), and what they are made of."""

    rows: pd.DataFrame
    intervals: int
    measured_s: float
    last_ms: int | None
    validity: Validity
    windows: tuple[Window, ...] = ()


def aggregate(asked: Asked, table: Table, *, limit: int, outcome: str) -> figures.Aggregate:
    """Make the figures of each endpoint, the busiest first, and of all."""
    rows = [_endpoint_figures(asked, row) for row in table.rows.to_dict("records")]
    total = rows.pop() if rows else None
    rows.sort(key=lambda row: -row.requests)
    return figures.Aggregate(
        **_head(asked, table.intervals),
        outcome=outcome,
        measured_sec=round(table.measured_s, 3),
        endpoints=rows[:limit],
        endpoints_left_out=max(0, len(rows) - limit),
        total=total,
    )


def _endpoint_figures(asked: Asked, row: dict[str, Any]) -> figures.EndpointFigures:
    return figures.EndpointFigures(
        method=row["method"],
        name=row["name"],
        requests=row["requests"],
        failures=row["failures"],
        requests_per_sec=_number(row["requests_per_s"]),
        errors_per_sec=_number(row["failures_per_s"]),
        error_rate=_number(100 * row["failure_ratio"]),
        avg_response_time=_number(row["mean_ms"]),
        min_response_time=_number(row["min_ms"]),
        max_response_time=_number(row["max_ms"]),
        percentiles=_known({percentile_name(q): _number(row[percentile_column(q)]) for q in asked.percentiles}),
        bytes=None if pd.isna(row["bytes"]) else int(row["bytes"]),
    )


def summarise(asked: Asked, table: Table, *, limit: int) -> figures.Summary:
    """Make the figures of a whole run, or of a window, and say what is missing from them."""
    run = asked.run
    total = _endpoint_figures(asked, table.rows.to_dict("records")[-1]) if len(table.rows) else None
    requests, failures = (total.requests, total.failures) if total else _told(asked)
    end_ms = run.finished_at or table.last_ms
    return figures.Summary(
        **_head(asked, table.intervals),
        name=run.name,
        window=asked.window,
        windows=list(table.windows),
        validity=figures.Validity(level=table.validity.level, reasons=list(table.validity.reasons)),
        stop_reason=run.stop_reason,
        error=run.error,
        finished_at=run.finished_at,
        elapsed_sec=(end_ms - run.started_at) / 1000 if run.started_at and end_ms else None,
        measured_sec=round(table.measured_s, 3),
        configuration=configuration(run),
        total_requests=requests,
        total_failures=failures,
        requests_per_sec=total.requests_per_sec if total else None,
        errors_per_sec=total.errors_per_sec if total else None,
        error_rate=round(100 * failures / requests, 4) if requests else None,
        avg_response_time=total.avg_response_time if total else None,
        min_response_time=total.min_response_time if total else None,
        max_response_time=total.max_response_time if total else None,
        percentiles=total.percentiles if total else {},
        missing=missing(run, limit),
    )


def configuration(run: LoadTestRun) -> figures.Configuration:
    """Say what a run was started with."""
    given = {name: getattr(run, name) for name in figures.Configuration.model_fields if name != "script_sha256"}
    return figures.Configuration(**given, script_sha256=run.environment.script_sha256 if run.environment else None)


def missing(run: LoadTestRun, limit: int) -> figures.Missing:
    """Say what never arrived, as it was found when the run ended."""
    requests = [gap.requests for gap in run.gaps]
    return figures.Missing(
        gaps=list(run.gaps[:limit]),
        gaps_in_all=len(run.gaps),
        intervals=sum(gap.to_seq - gap.from_seq + 1 for gap in run.gaps),
        requests=None if None in requests else sum(requests),
        workers_lost=run.workers_lost,
    )


def _told(asked: Asked) -> tuple[int, int]:
    """Give the requests and failures that the run's sources counted, for a whole run whose intervals are deleted."""
    run = asked.run
    if run.purged_at is None or asked.endpoints or asked.start_ms is not None or asked.end_ms is not None:
        return 0, 0
    if run.sources:
        return sum(source.requests for source in run.sources), sum(source.failures for source in run.sources)
    return (run.last_metrics.cum_requests, run.last_metrics.cum_failures) if run.last_metrics else (0, 0)


def _head(asked: Asked, intervals: int) -> dict[str, Any]:
    run = asked.run
    return {
        "run_id": run.id,
        "status": run.status,
        "completeness": run.completeness,
        "started_at": run.started_at,
        "intervals": intervals,
        "purged_at": run.purged_at,
        "note": None if intervals else _why_empty(asked),
    }


def _why_empty(asked: Asked) -> str:
    if asked.run.purged_at is not None:
        return "the intervals of this run were deleted by retention; only its summary remains"
    if asked.start_ms is not None or asked.end_ms is not None:
        return "no interval ends within this window"
    return "no interval was ever stored" if asked.run.is_over else "no interval has arrived yet"


def _lines(asked: Asked, found: Series) -> dict[str, Any]:
    return {
        "timestamp": found["end_ms"].tolist(),
        "avg_response_time": _column(found["mean_ms"]),
        "percentiles": {percentile_name(q): _column(found[percentile_name(q)]) for q in asked.percentiles},
    }


def _detailed(found: Series) -> dict[str, Any]:
    return {
        "requests": _whole(found["requests"]),
        "failures": _whole(found["failures"]),
        "requests_per_sec": _column(found["requests_per_s"]),
        "errors_per_sec": _column(found["failures_per_s"]),
        "min_response_time": _column(found["min_ms"]),
        "max_response_time": _column(found["max_ms"]),
    }


def _name(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.method, endpoint.name


def _column(values: Any) -> list[float | None]:
    return [None if value != value else value for value in np.round(np.asarray(values, float), 4).tolist()]


def _whole(values: np.ndarray) -> list[int]:
    return np.asarray(values).astype(np.int64).tolist()


def _number(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _unix_ms(moments: pd.Series) -> np.ndarray:
    return moments.to_numpy(dtype="datetime64[ms]").astype(np.int64)
