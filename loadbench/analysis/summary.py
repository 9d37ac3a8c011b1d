"""A run, or a window of it, in one row per endpoint.

Every percentile is read from histograms merged over all intervals asked for: it is within 0.5 % of the exact order
statistic, for the whole run and for any window of whole intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from loadbench.agent.histogram import Histogram
from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.frames import extremes, mean
from loadbench.analysis.intervals import Document, Entries, Intervals, Outcome, endpoint_names, within
from loadbench.model import LoadTestRun

AGGREGATED = "Aggregated"


def summary(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    percentiles: Sequence[float] = (50, 95, 99),
    start_s: float | None = None,
    end_s: float | None = None,
    outcome: Outcome = "all",
) -> pd.DataFrame:
    """Answer "how did each endpoint do over the whole run, or over a window of it?".

    Parameters
    ----------
    run : LoadTestRun
        The run; it must know all endpoints that the intervals name.
    documents : sequence of documents
        Its stored intervals, in any order.
    percentiles : sequence of float
        In [0, 100].
    start_s, end_s : float, optional
        Window in seconds from the start of the run: whole intervals that end within (start_s, end_s].
    outcome : {"all", "ok", "failed"}
        Which requests are counted.

    Returns
    -------
    DataFrame
        A row per endpoint, by name, and a last row named Aggregated: method, name, requests, failures, failure_ratio,
        requests_per_s, failures_per_s, mean_ms, min_ms, the percentiles, max_ms, bytes. No rows without intervals.
        For one outcome, min_ms and max_ms are within 0.5 % (stored per endpoint, not per outcome) and bytes is missing.

    Raises
    ------
    InvalidInput
        If a percentile is not in [0, 100], the window ends before it starts, or the outcome is unknown.

    Notes
    -----
    Rates divide by the time that the intervals of the window cover, also for an endpoint that was idle in some of them.
    """
    wanted = percentile_columns(percentiles)
    data = Intervals.read(run, within(run, documents, start_s=start_s, end_s=end_s))
    entries = data.of(outcome)
    method, name, group = _by_name(run, data)
    parts = [_figures(data, entries, group, len(name), outcome, wanted)]
    if len(data.slot_ms):
        parts.append(_figures(data, entries, np.zeros_like(group), 1, outcome, wanted))
        method, name = np.append(method, ""), np.append(name, AGGREGATED)
    figures = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    if outcome != "all":
        figures["bytes"] = [pd.NA] * len(name)
    return frame({"method": method, "name": name, **figures})


def quantiles(
    run: LoadTestRun,
    documents: Sequence[Document],
    q: float | Sequence[float],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    outcome: Outcome = "all",
) -> pd.Series:
    """Answer "which time do q percent of all requests stay within?"; `summary(percentiles=...)` does it by endpoint.

    Parameters
    ----------
    run, documents, start_s, end_s, outcome
        As for `summary`.
    q : float or sequence of float
        Percentiles in [0, 100], for example 99.9.

    Returns
    -------
    Series
        float64, milliseconds, indexed by percentile; within 0.5 % of the exact order statistic of rank
        ceil(q / 100 * n). nan without requests.

    Raises
    ------
    InvalidInput
        If a percentile is not in [0, 100].
    """
    wanted = list(percentile_columns(q).values())
    data = Intervals.read(run, within(run, documents, start_s=start_s, end_s=end_s))
    entries, group = data.of(outcome), np.zeros(len(data.endpoint), np.int64)
    low, high = extremes(data, group, 1) if outcome == "all" else entries.extremes(group, 1)
    found = np.clip(entries.quantiles(group, 1, wanted)[0], low, high)
    return pd.Series(found, index=pd.Index(wanted, dtype="float64", name="percentile"), name="ms")


def histograms(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    outcome: Outcome = "all",
) -> dict[str, Histogram]:
    """Give the merged histogram of each endpoint ("GET /api/products"), then of "Aggregated"; ordered as `summary`."""
    data = Intervals.read(run, within(run, documents, start_s=start_s, end_s=end_s))
    entries = data.of(outcome)
    method, name, group = _by_name(run, data)
    labels = [f"{verb} {path}".strip() for verb, path in zip(method, name, strict=True)]
    merged = dict(zip(labels, entries.histograms(group, len(labels)), strict=True))
    if len(data.slot_ms):
        merged[AGGREGATED] = entries.histograms(np.zeros_like(group), 1)[0]
    return merged


def _by_name(run: LoadTestRun, data: Intervals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give method and name of each group, by name, and the group of each row."""
    present, inverse = np.unique(data.endpoint, return_inverse=True)
    method, name = endpoint_names(run, present)
    order = np.array(sorted(range(len(present)), key=lambda index: (name[index], method[index])), dtype=np.int64)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return method[order], name[order], position[inverse]


def _figures(
    data: Intervals, entries: Entries, group: np.ndarray, groups: int, outcome: Outcome, wanted: dict[str, float]
) -> dict[str, Any]:
    def added(field: str) -> np.ndarray:
        return np.bincount(group, weights=data.column(field), minlength=groups)

    everything, failed = added("n"), added("failures")
    sum_ms, failed_ms = added("sumMs"), added("failedSumMs")
    requests, failures, total_ms = {
        "all": (everything, failed, sum_ms),
        "ok": (everything - failed, np.zeros(groups), sum_ms - failed_ms),
        "failed": (failed, failed, failed_ms),
    }[outcome]
    low, high = extremes(data, group, groups) if outcome == "all" else entries.extremes(group, groups)
    seconds = np.full(groups, data.duration_s())
    # A bucket's value may lie 0.5 % outside of what it holds: the exact extremes bound it, so no p99 is over the max.
    found = np.clip(entries.quantiles(group, groups, list(wanted.values())), low[:, None], high[:, None])
    return {
        "requests": requests,
        "failures": failures,
        "failure_ratio": mean(failures, requests),
        "requests_per_s": mean(requests, seconds),
        "failures_per_s": mean(failures, seconds),
        "mean_ms": mean(total_ms, data.timed(group, groups) if outcome == "all" else entries.totals(group, groups)),
        "min_ms": low,
        **dict(zip(wanted, found.T, strict=True)),
        "max_ms": high,
        "bytes": added("bytes"),
    }
