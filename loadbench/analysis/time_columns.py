"""The time of a run laid out in a bounded number of columns, neighbouring intervals merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.intervals import Document, Intervals, Outcome, endpoint_names, within
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun


def lay(data: Intervals, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay columns over the time from the first to the last interval; there must be an interval.

    Parameters
    ----------
    data : Intervals
    columns : int
        The most there may be, 1 or more.

    Returns
    -------
    edges_s : array of float, columns + 1
        Where columns begin and end, in seconds since the start of the run.
    column : array of int
        The column of each slot.
    covered_s : array of float
        How much of each column was measured; 0 in a gap.

    Notes
    -----
    While they fit, a column is an interval, or a gap. Else columns are equally wide, a whole number of intervals, and
    an interval is in the column that its middle is in.
    """
    duration_s = np.zeros(len(data.slot_ms))
    np.maximum.at(duration_s, data.slot, data.total("durationMs") / 1000)
    end_s, begin_s = data.elapsed_s, data.elapsed_s - duration_s
    usual_s = float(np.median(duration_s))
    gap = begin_s[1:] - end_s[:-1] > usual_s / 2
    if len(end_s) + int(gap.sum()) <= columns:
        # What is between two intervals without being a gap is jitter of the clock: the columns touch.
        starts = np.flatnonzero(gap) + 1
        edges_s = np.sort(np.concatenate([begin_s[:1], end_s, begin_s[starts]]))
        column = np.arange(len(end_s)) + np.concatenate([[0], np.cumsum(gap)])
    else:
        # A rounding error in the span must not make columns twice as wide.
        intervals = np.ceil((end_s[-1] - begin_s[0]) / usual_s - 1e-6)
        width_s = usual_s * max(1, -(-intervals // columns))
        number = min(columns, max(1, int(np.ceil((end_s[-1] - begin_s[0]) / width_s - 1e-6))))
        edges_s = np.append(begin_s[0] + width_s * np.arange(number), end_s[-1])
        column = np.clip(((begin_s + end_s) / 2 - begin_s[0]) // width_s, 0, number - 1)
    column = column.astype(np.int64)
    return edges_s, column, np.bincount(column, weights=duration_s, minlength=len(edges_s) - 1)


def percentiles_over_time(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    percentiles: Sequence[float] = (50, 95, 99),
    columns: int = 120,
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
    start_s: float | None = None,
    end_s: float | None = None,
) -> pd.DataFrame:
    """Answer "how did the percentiles of each endpoint go?" where a second has too few requests of one to tell.

    Parameters
    ----------
    run, documents, start_s, end_s, outcome
        As for `summary`.
    percentiles : sequence of float
        In [0, 100]; each from the histograms of all intervals of the column, merged.
    columns : int
        The most points of a line, 1 or more.
    endpoints : sequence of int, optional
        The endpoints wanted, by their place in the run's list; all if left out.

    Returns
    -------
    DataFrame
        A row per column of time and endpoint with a response time in it, by time, then as the run lists its endpoints:
        elapsed_s (end of the column), method, name, requests (that have a time), the percentiles.

    Raises
    ------
    InvalidInput
        If a percentile, the window, the outcome or `columns` is out of range.
    """
    if columns < 1:
        raise InvalidInput(f"columns must be 1 or more; not {columns!r}", field="columns")
    wanted = percentile_columns(percentiles)
    data = Intervals.read(run, within(run, documents, start_s=start_s, end_s=end_s), endpoints=endpoints)
    entries = data.of(outcome)
    if not len(entries.bucket):
        return frame({name: [] for name in ("elapsed_s", "method", "name", "requests", *wanted)})
    edges_s, column, _ = lay(data, columns)
    stride = int(data.endpoint.max()) + 1
    keys, group = np.unique(column[data.row_slot] * stride + data.endpoint, return_inverse=True)
    requests = entries.totals(group, len(keys))
    found = entries.quantiles(group, len(keys), list(wanted.values()))
    timed = requests > 0
    method, name = endpoint_names(run, keys[timed] % stride)
    return frame(
        {
            "elapsed_s": edges_s[1:][keys[timed] // stride],
            "method": method,
            "name": name,
            "requests": requests[timed],
            **dict(zip(wanted, found[timed].T, strict=True)),
        }
    )
