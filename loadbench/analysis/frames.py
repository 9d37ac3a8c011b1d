"""Tidy frames: of a run by interval, by interval and endpoint, of its failures; and lists of tests, runs, revisions.

Pure functions of a run and its stored intervals (raw documents of `metrics_timeseries`). Columns, dtypes and units are
in `loadbench.analysis.columns.COLUMNS`. Percentiles come from merged histograms; none is ever an average of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA, LAST_BUCKET
from loadbench.analysis.columns import frame, percentile_columns, to_timestamps
from loadbench.analysis.intervals import Document, Intervals, endpoint_names, origin_ms, timestamps_ms
from loadbench.analysis.series import Series, of_intervals, of_totals, percentile_name
from loadbench.model import Firing, LoadTest, LoadTestRun, Schedule, ScriptRevision
from loadbench.model.interval import ROW_PERCENTILES

_RATES = ("users", "requests_per_s", "failures_per_s", "requests", "failures", "mean_ms")


def timeline(
    run: LoadTestRun, documents: Sequence[Document], *, percentiles: Sequence[float] = (50, 95, 99)
) -> pd.DataFrame:
    """Answer "how did the run go, second by second?".

    Parameters
    ----------
    run : LoadTestRun
        The run; its `started_at` is where elapsed seconds count from.
    documents : sequence of documents
        Its stored intervals, in any order.
    percentiles : sequence of float
        In [0, 100].

    Returns
    -------
    DataFrame
        A row per interval, in order of time: elapsed_s, timestamp, users, requests_per_s, failures_per_s, requests,
        failures, mean_ms, the percentiles (p50_ms, p95_ms, p99_ms), workers, cpu_percent. Sources that report
        together share a row: counts, users, workers and rates add up, histograms are merged, and cpu_percent is the
        highest.

    Raises
    ------
    InvalidInput
        If a percentile is not in [0, 100].
    """
    wanted = percentile_columns(percentiles)
    found = of_intervals(Intervals.read(run, documents), list(wanted.values()))
    return _timeline(run, documents, found, wanted)


def timeline_of_totals(
    run: LoadTestRun, documents: Sequence[Document], *, percentiles: Sequence[float] = (50, 95, 99)
) -> pd.DataFrame | None:
    """Give what `timeline` gives from the totals of each interval (`series.TOTALS`), a twentieth of its document.

    None if these do not tell: other percentiles than 50, 95 and 99, or several sources that reported together.
    """
    wanted = percentile_columns(percentiles)
    found = of_totals(documents, list(wanted.values()))
    return None if found is None else _timeline(run, documents, found, wanted)


def _timeline(
    run: LoadTestRun, documents: Sequence[Document], found: Series, wanted: Mapping[str, float]
) -> pd.DataFrame:
    return frame(
        {
            "elapsed_s": (found["end_ms"] - origin_ms(run, documents)) / 1000,
            "timestamp": to_timestamps(found["end_ms"]),
            **{name: found[name] for name in _RATES},
            **{name: found[percentile_name(q)] for name, q in wanted.items()},
            "workers": found["workers"],
            "cpu_percent": found["cpu_percent"],
        }
    )


def endpoints(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    percentiles: Sequence[float] = (50, 95, 99),
    only: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Answer "how did each endpoint do, second by second?".

    Parameters
    ----------
    run : LoadTestRun
        The run; it must know all endpoints that the intervals name.
    documents : sequence of documents
        Its stored intervals, in any order.
    percentiles : sequence of float
        In [0, 100]; empty for none.
    only : sequence of int, optional
        The endpoints wanted, by their place in the run's list; all if left out.

    Returns
    -------
    DataFrame
        A row per interval and endpoint that had requests in it, by time, then as the run lists its endpoints:
        elapsed_s, timestamp, method, name, requests, failures, requests_per_s, failures_per_s, mean_ms, min_ms, the
        percentiles, max_ms. Times are nan where no request of the row had one.

    Raises
    ------
    InvalidInput
        If a percentile is not in [0, 100], or the run does not know an endpoint of the intervals.
    """
    wanted = percentile_columns(percentiles)
    data = Intervals.read(run, documents, endpoints=only)
    return _endpoints(run, data, wanted, lambda group, n: data.entries.quantiles(group, n, list(wanted.values())))


def endpoints_of_rows(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    percentiles: Sequence[float] = (50, 95, 99),
    only: Sequence[int] | None = None,
) -> pd.DataFrame | None:
    """Give what `endpoints` gives from the rows of each interval (`intervals.ROWS`), without their histograms.

    None if these do not tell: other percentiles than 50, 95 and 99, several sources that reported together, or
    intervals of a version that did not store percentiles of rows.
    """
    wanted = percentile_columns(percentiles)
    stored = [ROW_PERCENTILES.get(percentile) for percentile in wanted.values()]
    if None in stored or not all(document.keys() >= set(stored) for document in documents):
        return None
    data = Intervals.read(run, documents, endpoints=only, histograms=False)
    if len(data.slot_ms) < len(documents):
        return None
    timed = data.column("n") > data.column("untimed")

    def quantiles(group: np.ndarray, groups: int) -> np.ndarray:
        found = np.full((groups, len(stored)), np.nan)
        for index, field in enumerate(stored):
            found[group, index] = np.where(timed, data.column(field), np.nan)
        return found

    return _endpoints(run, data, wanted, quantiles)


def _endpoints(
    run: LoadTestRun,
    data: Intervals,
    wanted: Mapping[str, float],
    quantiles: Callable[[np.ndarray, int], np.ndarray],
) -> pd.DataFrame:
    stride = int(data.endpoint.max(initial=0)) + 1
    keys, group = np.unique(data.row_slot * stride + data.endpoint, return_inverse=True)
    groups, slot, endpoint = len(keys), keys // stride, keys % stride
    method, name = endpoint_names(run, endpoint)
    seconds = data.total("durationMs")[data.interval] / 1000
    n, failures = data.column("n"), data.column("failures")
    shortest, longest = extremes(data, group, groups)

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=values, minlength=groups)

    return frame(
        {
            "elapsed_s": data.elapsed_s[slot],
            "timestamp": to_timestamps(data.slot_ms[slot]),
            "method": method,
            "name": name,
            "requests": added(n),
            "failures": added(failures),
            "requests_per_s": added(n / seconds),
            "failures_per_s": added(failures / seconds),
            "mean_ms": mean(added(data.column("sumMs")), data.timed(group, groups)),
            "min_ms": shortest,
            **dict(zip(wanted, quantiles(group, groups).T, strict=True)),
            "max_ms": longest,
        }
    )


def failures(run: LoadTestRun, documents: Sequence[Document]) -> pd.DataFrame:
    """Answer "what failed, where, how often and when?".

    Returns
    -------
    DataFrame
        A row per endpoint and message, the most frequent first: method, name, message, count, first_seen, last_seen
        (ends of intervals). Messages beyond the agent's bound are counted under "(other)".
    """
    seen: dict[tuple[int, str], list[int]] = {}
    for document, moment in zip(documents, timestamps_ms(documents).tolist(), strict=True):
        for error in document.get("errors", ()):
            entry = seen.setdefault((error["endpoint"], error["message"]), [0, moment, moment])
            entry[0] += error["n"]
            entry[1], entry[2] = min(entry[1], moment), max(entry[2], moment)
    method, name = endpoint_names(run, np.array([endpoint for endpoint, _ in seen], dtype=np.int64))
    found = frame(
        {
            "method": method,
            "name": name,
            "message": [message for _, message in seen],
            "count": [count for count, _, _ in seen.values()],
            "first_seen": to_timestamps([first for _, first, _ in seen.values()]),
            "last_seen": to_timestamps([last for _, _, last in seen.values()]),
        }
    )
    order = ["count", "name", "method", "message"]
    return found.sort_values(order, ascending=[False, True, True, True], ignore_index=True)


def histograms(run: LoadTestRun, documents: Sequence[Document]) -> pd.DataFrame:
    """Answer "how do the response times of each endpoint spread?", in the buckets that were counted.

    Returns
    -------
    DataFrame
        A row per endpoint, outcome (ok, failed) and bucket that is not empty, as the run lists its endpoints, then by
        time: method, name, outcome, bucket_low_ms, bucket_high_ms, requests. Requests without a time are in none.

    Notes
    -----
    A bucket holds the times t with bucket_low_ms < t <= bucket_high_ms. The first one begins at 0, the last one has no
    end; bounds are powers of gamma = 1.01005 (`loadbench.agent.histogram`), so the mean of a bucket's bounds is within
    0.5 % of every time in it.
    """
    data = Intervals.read(run, documents)
    present, group = np.unique(data.endpoint, return_inverse=True)
    rows: list[tuple[int, str, int, int]] = []
    merged = {outcome: data.of(outcome).histograms(group, len(present)) for outcome in ("ok", "failed")}
    for place, endpoint in enumerate(present.tolist()):
        for outcome, found in merged.items():
            rows += [(endpoint, outcome, bucket, count) for bucket, count in sorted(found[place].items())]
    method, name = endpoint_names(run, np.array([row[0] for row in rows], dtype=np.int64))
    bucket = np.array([row[2] for row in rows], dtype=np.float64)
    return frame(
        {
            "method": method,
            "name": name,
            "outcome": [row[1] for row in rows],
            "bucket_low_ms": np.where(bucket == FIRST_BUCKET, 0.0, GAMMA ** (bucket - 1)),
            "bucket_high_ms": np.where(bucket == LAST_BUCKET, np.inf, GAMMA**bucket),
            "requests": [row[3] for row in rows],
        }
    )


def tests(records: Sequence[LoadTest]) -> pd.DataFrame:
    """List load tests, indexed by test_id: name, target_url, revision, users, spawn_per_s, duration_s, created_at."""
    return frame(
        {
            "test_id": [test.id for test in records],
            "name": [test.name for test in records],
            "target_url": [test.target_url for test in records],
            "revision": [test.latest_revision_number for test in records],
            "users": [test.default_users for test in records],
            "spawn_per_s": [test.default_spawn_rate for test in records],
            "duration_s": [test.default_duration_sec for test in records],
            "created_at": to_timestamps([test.created_at for test in records]),
        }
    ).set_index("test_id")


def runs(records: Sequence[LoadTestRun]) -> pd.DataFrame:
    """List runs, indexed by run_id, in the order given; what a run has not reached yet is missing.

    Returns
    -------
    DataFrame
        name, status, stop_reason, completeness, revision, users, spawn_per_s, duration_s (as planned), started_at,
        finished_at, requests, failures.
    """
    return frame(
        {
            "run_id": [run.id for run in records],
            "name": [run.name for run in records],
            "status": [run.status.value for run in records],
            "stop_reason": [run.stop_reason for run in records],
            "completeness": [run.completeness for run in records],
            "revision": [run.revision_number for run in records],
            "users": [run.target_users for run in records],
            "spawn_per_s": [run.spawn_rate for run in records],
            "duration_s": [run.duration_sec for run in records],
            "started_at": to_timestamps([run.started_at for run in records]),
            "finished_at": to_timestamps([run.finished_at for run in records]),
            "requests": [run.last_metrics.cum_requests if run.last_metrics else 0 for run in records],
            "failures": [run.last_metrics.cum_failures if run.last_metrics else 0 for run in records],
        }
    ).set_index("run_id")


def revisions(records: Sequence[ScriptRevision]) -> pd.DataFrame:
    """List revisions of a script, indexed by number: sha256, note, bytes (of the script), created_at, created_by."""
    return frame(
        {
            "revision": [each.revision_number for each in records],
            "sha256": [each.sha256 for each in records],
            "note": [each.description for each in records],
            "bytes": [len(each.script) for each in records],
            "created_at": to_timestamps([each.created_at for each in records]),
            "created_by": [each.created_by for each in records],
        }
    ).set_index("revision")


def schedules(records: Sequence[Schedule], tests: Mapping[str, str]) -> pd.DataFrame:
    """List schedules, indexed by schedule_id, in the order given; `tests` gives the name of each test by its id.

    Returns
    -------
    DataFrame
        name, test, cron, timezone, enabled, starts_run, reports (their kinds), next_fire_at, last_fired_at, last_error.
    """
    return frame(
        {
            "schedule_id": [each.id for each in records],
            "name": [each.name for each in records],
            "test": [tests.get(each.load_test_id) for each in records],
            "cron": [each.cron for each in records],
            "timezone": [each.timezone for each in records],
            "enabled": [each.enabled for each in records],
            "starts_run": [each.run is not None for each in records],
            "reports": [", ".join(each.reports) for each in records],
            "next_fire_at": to_timestamps([each.next_fire_at if each.enabled else None for each in records]),
            "last_fired_at": to_timestamps([each.last_fired_at for each in records]),
            "last_error": [each.last_error for each in records],
        }
    ).set_index("schedule_id")


def firings(records: Sequence[Firing]) -> pd.DataFrame:
    """List firings, indexed by due_at: fired_at, result, because, run_id, reports (their files), host, finished_at."""
    return frame(
        {
            "due_at": to_timestamps([each.due_at for each in records]),
            "fired_at": to_timestamps([each.fired_at for each in records]),
            "result": [each.outcome for each in records],
            "because": [each.reason for each in records],
            "run_id": [each.run_id for each in records],
            "reports": [", ".join(each.reports) for each in records],
            "host": [each.host for each in records],
            "finished_at": to_timestamps([each.finished_at for each in records]),
        }
    ).set_index("due_at")


def due_times(moments_ms: Sequence[int], local: Sequence[str]) -> pd.DataFrame:
    """List times at which a schedule fires, in Unix ms and as its own clock shows them: due_at, local_time."""
    return frame({"due_at": to_timestamps(list(moments_ms)), "local_time": list(local)})


def mean(total: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Divide sums by counts; nan where there is nothing to divide."""
    return np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)


def extremes(data: Intervals, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the exact shortest and longest time of each group; nan where no request had a time."""
    timed = data.column("n") > data.column("untimed")
    shortest, longest = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(shortest, group[timed], data.column("minMs")[timed])
    np.maximum.at(longest, group[timed], data.column("maxMs")[timed])
    return np.where(np.isinf(shortest), np.nan, shortest), np.where(np.isinf(longest), np.nan, longest)
