"""Response times by level of load: intervals of like load merged, never averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.intervals import Document, Intervals, Outcome, within
from loadbench.analysis.series import FRAGMENT, of_intervals
from loadbench.errors import InvalidInput, one_of
from loadbench.model import LoadTestRun

Against = Literal["users", "requests_per_s"]
AGAINST = ("users", "requests_per_s")


def load_levels(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    against: Against = "users",
    levels: int = 20,
    percentiles: Sequence[float] = (50, 95, 99),
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
    start_s: float | None = None,
    end_s: float | None = None,
) -> pd.DataFrame:
    """Answer "how do response times grow with the load?".

    Parameters
    ----------
    run, documents, start_s, end_s, outcome
        As for `summary`.
    against : {"users", "requests_per_s"}
        The load of an interval: simulated users at its end, or requests that ended per second of it. Always of all
        endpoints, also where `endpoints` chooses whose response times are told.
    levels : int
        At most so many, 1 or more: each number of users is a level if they are few, else the range of the load is cut
        into levels of equal width.
    percentiles : sequence of float
        In [0, 100]; each from the histograms of all intervals of the level, merged.
    endpoints : sequence of int, optional
        The endpoints wanted, by their place in the run's list; all if left out.

    Returns
    -------
    DataFrame
        A row per level that occurs, by load: users (mean over its time, rounded), requests_per_s and failures_per_s
        (means over its time), intervals, requests (those chosen that have a time), the percentiles. An interval
        shorter than half of the usual one, such as that in which the run ended, is left out: its rate is noise.

    Raises
    ------
    InvalidInput
        If a percentile, the window, the outcome, `against` or `levels` is out of range.
    """
    if against not in AGAINST:
        raise one_of("against", against, AGAINST)
    if levels < 1:
        raise InvalidInput(f"levels must be 1 or more; not {levels!r}", field="levels")
    wanted = percentile_columns(percentiles)
    chosen = within(run, documents, start_s=start_s, end_s=end_s)
    whole_run = Intervals.read(run, chosen)
    everything = of_intervals(whole_run, ())
    data = whole_run if endpoints is None else Intervals.read(run, chosen, endpoints=endpoints)
    duration_s = everything["duration_ms"] / 1000
    whole = duration_s >= FRAGMENT * np.median(duration_s) if len(duration_s) else np.zeros(0, bool)
    level = np.where(whole, _levels(everything[against], whole, levels), levels)
    entries = data.of(outcome)
    row_level = level[data.row_slot]
    seconds = np.bincount(level, weights=duration_s, minlength=levels + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(level, weights=values * duration_s, minlength=levels + 1)
        return np.divide(total, seconds, out=np.full(levels + 1, np.nan), where=seconds > 0)

    found = entries.quantiles(row_level, levels + 1, list(wanted.values()))
    number = np.bincount(level, minlength=levels + 1)
    present = np.flatnonzero(number[:levels])
    return frame(
        {
            "users": np.rint(mean(everything["users"])[present]),
            "requests_per_s": mean(everything["requests_per_s"])[present],
            "failures_per_s": mean(everything["failures_per_s"])[present],
            "intervals": number[present],
            "requests": entries.totals(row_level, levels + 1)[present],
            **{name: found[present, index] for index, name in enumerate(wanted)},
        }
    )


def _levels(load: np.ndarray, whole: np.ndarray, levels: int) -> np.ndarray:
    """Number the level of each slot; those that are not whole do not widen the range."""
    values = np.unique(load[whole])
    if len(values) <= levels:
        return np.searchsorted(values, load).clip(0, max(0, len(values) - 1))
    low, high = values[0], values[-1]
    return np.clip((load - low) / (high - low) * levels, 0, levels - 1).astype(np.int64)
