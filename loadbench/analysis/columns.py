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
    "percentile": Column(NUMBER, "percent", 0, "share of the requests that stay within the time beside it"),
    "ms": Column(NUMBER, "ms", -1, "response time"),
    "low_ms": Column(NUMBER, "ms", -1, "the exact response time is not below this"),
    "high_ms": Column(NUMBER, "ms", -1, "the exact response time is not above this"),
    "estimate_ms": Column(NUMBER, "ms", -1, "ESTIMATE: response time corrected for coordinated omission"),
    "estimate_requests": Column(INTEGER, "count", -1, "ESTIMATE: requests that were not sent because others stalled"),
    "share": Column(NUMBER, "ratio", 1, "share of the requests that took at most this long, in [0, 1]"),
    "window": Column(TEXT, "", 0, "name of a part of the run: whole, ramp, steady, drain or one that a person has set"),
    "start_s": Column(NUMBER, "s", 0, "where the window begins, in seconds from the start of the run"),
    "end_s": Column(NUMBER, "s", 0, "where the window ends; missing for the end of the run"),
    "found": Column("bool", "", 0, "whether loadbench found the window; a person has set it otherwise"),
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
    "segment": Column(INTEGER, "", 0, "number of the stretch between changes that a run is in, from 0"),
    "level": Column(
        NUMBER, "", 0, "geometric mean (of a ratio: mean) of the figure over the segment, without outliers"
    ),
    "is_change": Column("bool", "", 0, "whether the run is the first after a change that nobody has dismissed"),
    "is_outlier": Column("bool", "", 0, "whether the run stands out alone"),
    "valid": Column("bool", "", 1, "whether the run is VALID: nothing is wrong with its data"),
    "validity": Column(TEXT, "", 0, "VALID, SUSPECT or INVALID, and why"),
    "p": Column(NUMBER, "ratio", 0, "how often a series without a change shows as much of one"),
    "state": Column(TEXT, "", 0, "found, confirmed or dismissed"),
    "what_changed": Column(TEXT, "", 0, "in what the run differs from the one before it in the series"),
    "offered_per_s": Column(NUMBER, "/s", 0, "requests per second that the users were to send"),
    "achieved_ratio": Column(NUMBER, "ratio", 1, "requests_per_s as a share of offered_per_s"),
    "think_s": Column(NUMBER, "s", 0, "time that a user waits between requests, by Little's law"),
    "little_ms": Column(NUMBER, "ms", -1, "response time by Little's law, for the think time of the lightest level"),
    "generator_bound": Column("bool", "", -1, "whether the load generator, not the system, set the figures"),
    "extrapolated": Column("bool", "", 0, "whether it lies beyond what was measured"),
    "pair": Column(INTEGER, "", 0, "number of a pair of neighbouring runs, one of each side, from 1"),
    "run_a": Column(TEXT, "", 0, "id of the run of side A"),
    "run_b": Column(TEXT, "", 0, "id of the run of side B"),
    "a_ms": Column(NUMBER, "ms", -1, "figure of the run of side A"),
    "b_ms": Column(NUMBER, "ms", -1, "figure of the run of side B"),
    "outcome": Column(TEXT, "", 0, "which requests: ok or failed"),
    "intervals": Column(INTEGER, "count", 0, "intervals that are merged in the row"),
    "region_ratio": Column(NUMBER, "ratio", 0, "share of the requests in a region of a heatmap, in [0, 1]"),
    "slow": Column(INTEGER, "count", -1, "requests of the region that took longer than the threshold"),
    "loss_ratio": Column(NUMBER, "ratio", -1, "slow as a share of all requests of the run above the threshold"),
    "gate": Column(TEXT, "", 0, "what is demanded of a run, in one line"),
    "passed": Column("boolean", "", 1, "whether the gate holds; missing if it could not be judged"),
    "value": Column(NUMBER, "", 0, "what the run had of the gate's figure, in the unit beside it"),
    "limit": Column(NUMBER, "", 0, "what the value was held against, in the same unit"),
    "at_s": Column(NUMBER, "s", 0, "when the gate was broken first, in seconds from the start of the run"),
    "endpoints": Column(TEXT, "", 0, "the endpoints that were looked at; empty for all"),
    "side": Column(TEXT, "", 0, "which side of a comparison: a run, or a pool of runs"),
    "runs": Column(INTEGER, "count", 0, "runs that the row is made of"),
    "reference_runs": Column(INTEGER, "count", 0, "runs of the reference"),
    "figure": Column(TEXT, "", 0, "what is judged: failure_ratio or requests_per_s"),
    "unit": Column(TEXT, "", 0, "of the figures beside it: ms, /s, count, ratio, percent, percentage points; or none"),
    "verdict": Column(TEXT, "", 0, "what may be claimed of a change, see docs/statistics.md"),
    "because": Column(TEXT, "", 0, "the reason, in words"),
    "effect_percent": Column(NUMBER, "percent", -1, "change against the reference"),
    "low_percent": Column(NUMBER, "percent", -1, "lower end of the 95 % interval of the change"),
    "high_percent": Column(NUMBER, "percent", -1, "upper end of the 95 % interval of the change"),
    "smallest_percent": Column(NUMBER, "percent", -1, "smallest slowdown that is found 80 times in 100"),
    "effect": Column(NUMBER, "percent", 0, "change against the reference, in `unit`"),
    "low": Column(NUMBER, "percent", 0, "lower end of the 95 % interval of the effect, in `unit`"),
    "high": Column(NUMBER, "percent", 0, "upper end of the 95 % interval of the effect, in `unit`"),
    "smallest": Column(NUMBER, "percent", 0, "smallest rise that is found 80 times in 100, in `unit`"),
    "p_adjusted": Column(NUMBER, "ratio", 0, "p-value, corrected for all questions asked together (Holm)"),
    "mean_percent": Column(NUMBER, "percent", -1, "change of the mean response time against the reference"),
    "requests_per_s_percent": Column(NUMBER, "percent", 1, "change of requests_per_s against the reference"),
    "share_reference_ratio": Column(NUMBER, "ratio", 0, "the endpoint's share of all requests of the reference"),
    "share_ratio": Column(NUMBER, "ratio", 0, "the endpoint's share of all requests"),
    "mix_ms": Column(NUMBER, "ms", -1, "change of the total that comes from the endpoint's share of the traffic"),
    "latency_ms": Column(NUMBER, "ms", -1, "change of the total that comes from the endpoint's own response times"),
    "change_ms": Column(NUMBER, "ms", -1, "change against the reference; of the total, the part of the endpoint"),
    "change_low_ms": Column(NUMBER, "ms", -1, "lower end of the 95 % band of change_ms"),
    "change_high_ms": Column(NUMBER, "ms", -1, "upper end of the 95 % band of change_ms"),
    "reference_ms": Column(NUMBER, "ms", -1, "response time of the reference"),
    "value_ms": Column(NUMBER, "ms", -1, "response time of the other side"),
    "bucket_low_ms": Column(NUMBER, "ms", 0, "the bucket holds response times above this"),
    "bucket_high_ms": Column(NUMBER, "ms", 0, "and up to this"),
    "schedule_id": Column(TEXT, "", 0, "id of the schedule"),
    "test": Column(TEXT, "", 0, "name of the test"),
    "cron": Column(TEXT, "", 0, "when: minute hour day-of-month month day-of-week"),
    "timezone": Column(TEXT, "", 0, "where the clock stands that the expression goes by: an IANA name"),
    "enabled": Column("bool", "", 0, "whether it fires"),
    "starts_run": Column("bool", "", 0, "whether a firing starts a run; it builds reports only otherwise"),
    "reports": Column(TEXT, "", 0, "which reports are wanted, or where they are"),
    "next_fire_at": Column(TIME, "time", 0, "when it fires next; missing for one that is off"),
    "last_fired_at": Column(TIME, "time", 0, "when it fired last"),
    "last_error": Column(TEXT, "", 0, "what the last firing came to, if it did not do what it should"),
    "due_at": Column(TIME, "time", 0, "when the firing was due"),
    "local_time": Column(TEXT, "", 0, "the same, by the clock of the schedule's time zone"),
    "fired_at": Column(TIME, "time", 0, "when a server took the firing"),
    "host": Column(TEXT, "", 0, "the machine of that server"),
    "result": Column(TEXT, "", 0, "what it came to: claimed, started, done, skipped, missed or failed"),
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
    if name.startswith("p") and name.endswith("_percent"):
        of = column(name.removesuffix("_percent") + "_ms")
        return Column(NUMBER, "percent", of.direction, "change against the reference of the " + of.meaning)
    raise InvalidInput(f"no column {name!r}; there are {', '.join(COLUMNS)}", field="column")


def to_timestamps(milliseconds: Any) -> pd.DatetimeIndex:
    """Turn Unix milliseconds into UTC timestamps of millisecond resolution, the only one in frames; None is missing."""
    if isinstance(milliseconds, list):
        milliseconds = ["NaT" if value is None else value for value in milliseconds]
    return pd.DatetimeIndex(np.array(milliseconds, dtype="datetime64[ms]")).tz_localize("UTC")


def frame(data: Mapping[str, Any]) -> pd.DataFrame:
    """Build a frame whose dtypes are those of the registry, whatever the number of rows."""
    return pd.DataFrame({name: pd.Series(values, dtype=column(name).dtype) for name, values in data.items()})
