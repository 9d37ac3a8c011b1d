"""The columns of every frame: what each is called, its dtype, its unit, which way is better, and what it means.

A frame of `loadbench.analysis` has columns of this registry only, so a name has one meaning everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loadbench.errors import InvalidInput

TEXT = "str"
INTEGER = "int64"
NUMBER = "float64"
MAYBE_INTEGER = "Int64"
TIME = "datetime64[ms, UTC]"


@dataclass(frozen=True)
class Column:
    """One column: pandas dtype, unit ("" for none), direction (+1 higher is better, -1 lower, 0 neither), meaning."""

    dtype: str
    unit: str
    direction: int
    meaning: str


def _percentile(q: float) -> Column:
    return Column(NUMBER, "ms", -1, f"response time that {q:g} % of the requests stay within, from merged histograms")


COLUMNS: dict[str, Column] = {
    "elapsed_s": Column(NUMBER, "s", 0, "seconds from the start of the run to the end of the interval"),
    "timestamp": Column(TIME, "time", 0, "end of the interval, by the clock of the agent"),
    "users": Column(INTEGER, "count", 0, "simulated users at the end of the interval"),
    "workers": Column(INTEGER, "count", 0, "Locust workers connected; 0 for a local runner"),
    "cpu_percent": Column(NUMBER, "percent", -1, "busiest load generator, percent of one core"),
    "method": Column(TEXT, "", 0, "request method, empty in the row Aggregated"),
    "name": Column(TEXT, "", 0, "name of the endpoint as the script gives it"),
    "message": Column(TEXT, "", 0, "text of the failure"),
    "count": Column(INTEGER, "count", -1, "how often the failure was seen"),
    "first_seen": Column(TIME, "time", 0, "end of the first interval with the failure"),
    "last_seen": Column(TIME, "time", 0, "end of the last interval with the failure"),
    "requests": Column(INTEGER, "count", 0, "requests that ended, successful and failed"),
    "failures": Column(INTEGER, "count", -1, "requests that failed"),
    "failure_ratio": Column(NUMBER, "ratio", -1, "failures / requests, in [0, 1]"),
    "requests_per_s": Column(NUMBER, "/s", 1, "requests that ended in a second"),
    "failures_per_s": Column(NUMBER, "/s", -1, "requests that failed in a second"),
    "mean_ms": Column(NUMBER, "ms", -1, "mean response time, exact"),
    "min_ms": Column(NUMBER, "ms", -1, "shortest response time"),
    "max_ms": Column(NUMBER, "ms", -1, "longest response time"),
    "bytes": Column(MAYBE_INTEGER, "bytes", 0, "length of the response bodies, or of a script; missing if unknown"),
    "test_id": Column(TEXT, "", 0, "id of the load test"),
    "run_id": Column(TEXT, "", 0, "id of the run"),
    "revision": Column(MAYBE_INTEGER, "", 0, "number of the script's revision; missing for a run of a foreign script"),
    "sha256": Column(TEXT, "", 0, "hash of the script"),
    "note": Column(TEXT, "", 0, "what was changed, and why"),
    "status": Column(TEXT, "", 0, "Pending, Running, Stopping, Finished, Stopped or Failed"),
    "stop_reason": Column(TEXT, "", 0, "why the run ended; missing while it goes on"),
    "completeness": Column(TEXT, "", 0, "complete, gaps or unknown: whether all intervals arrived"),
    "target_url": Column(TEXT, "", 0, "the system under test"),
    "spawn_per_s": Column(NUMBER, "/s", 0, "users started in a second"),
    "duration_s": Column(INTEGER, "s", 0, "planned length of a run"),
    "started_at": Column(TIME, "time", 0, "when Locust began to spawn users"),
    "finished_at": Column(TIME, "time", 0, "when the run was over"),
    "created_at": Column(TIME, "time", 0, "when the record was made"),
    "created_by": Column(TEXT, "", 0, "who made the record"),
    **{f"p{q:g}_ms": _percentile(q) for q in (50, 75, 90, 95, 99, 99.9)},
}


def percentile_column(q: float) -> str:
    """Name the column of a percentile: `p95_ms`, `p99.9_ms`.

    Raises
    ------
    InvalidInput
        If `q` is not a number in [0, 100].
    """
    if isinstance(q, bool) or not isinstance(q, int | float | np.number) or not 0 <= q <= 100:
        raise InvalidInput(f"percentile must be a number in [0, 100]; not {q!r}", field="percentile")
    return f"p{float(q):.10g}_ms"


def percentile_columns(percentiles: Iterable[float]) -> dict[str, float]:
    """Map column names to percentiles, in the order given, each once."""
    if isinstance(percentiles, int | float):
        percentiles = (percentiles,)
    return {percentile_column(q): float(q) for q in percentiles}


def column(name: str) -> Column:
    """Look a column up; percentiles that are not in COLUMNS are known too."""
    if name in COLUMNS:
        return COLUMNS[name]
    if name.startswith("p") and name.endswith("_ms"):
        try:
            q = float(name[1:-3])
        except ValueError:
            q = -1.0
        if 0 <= q <= 100:
            return _percentile(q)
    raise InvalidInput(f"no column {name!r}; there are {', '.join(COLUMNS)}", field="column")


def to_timestamps(milliseconds: Any) -> pd.DatetimeIndex:
    """Turn Unix milliseconds into UTC timestamps of millisecond resolution, the only one in frames; None is missing."""
    if isinstance(milliseconds, list):
        milliseconds = ["NaT" if value is None else value for value in milliseconds]
    return pd.DatetimeIndex(np.array(milliseconds, dtype="datetime64[ms]")).tz_localize("UTC")


def frame(data: Mapping[str, Any]) -> pd.DataFrame:
    """Build a frame whose dtypes are those of the registry, whatever the number of rows."""
    return pd.DataFrame({name: pd.Series(values, dtype=column(name).dtype) for name, values in data.items()})
