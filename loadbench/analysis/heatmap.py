"""Latency over time as a grid of counts, and what is behind a region of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA
from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.intervals import Document, Intervals, Outcome, endpoint_names, values_of, within
from loadbench.analysis.time_columns import lay
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun

MAX_COLUMNS = 300
MAX_ROWS = 120
LEAST_BUCKETS = 6
"""A row of a heatmap is at least so many 1 % buckets high: finer ones show single requests rather than a shape."""


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A grid of time by logarithmic response time.

    Attributes
    ----------
    edges_s : array of float, columns + 1
        Where the columns begin and end, in seconds since the start of the run.
    edges_ms : array of float, rows + 1
        Where the rows begin and end; a row holds the times within (low, high].
    counts : array of int64, rows x columns
        Requests with a response time. Their sum is that of the histograms: cells are merged by adding.
    covered_s : array of float, columns
        How much of each column was measured: 0 in a gap.
    percentiles : DataFrame
        A row per column that has requests: elapsed_s (its end), requests, and the percentiles asked for, from merged
        histograms.
    """

    edges_s: np.ndarray
    edges_ms: np.ndarray
    counts: np.ndarray
    covered_s: np.ndarray
    percentiles: pd.DataFrame

    @property
    def rate_per_s(self) -> np.ndarray:
        """Requests per second of measured time in each cell; nan where nothing was measured."""
        covered = np.where(self.covered_s > 0, self.covered_s, np.nan)
        return self.counts / covered

    @property
    def share(self) -> np.ndarray:
        """Share of the requests of its column in each cell, in [0, 1]; nan in a column without requests."""
        total = self.counts.sum(axis=0)
        return self.counts / np.where(total > 0, total, np.nan)


def heatmap(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    endpoints: Sequence[int] | None = None,
    outcome: Outcome = "all",
    start_s: float | None = None,
    end_s: float | None = None,
    columns: int = MAX_COLUMNS,
    rows: int = MAX_ROWS,
    percentiles: Sequence[float] = (50, 95),
) -> Heatmap:
    """Answer "how were response times spread, and when did that change?": bands, modes and stalls that a line hides.

    Parameters
    ----------
    run : LoadTestRun
        The run; its `started_at` is where seconds count from.
    documents : sequence of documents
        Its stored intervals, in any order.
    endpoints : sequence of int, optional
        The endpoints wanted, by their place in the run's list; all if left out.
    outcome : {"all", "ok", "failed"}
        Which requests are counted.
    start_s, end_s : float, optional
        Window of whole intervals that end within (start_s, end_s].
    columns, rows : int
        The most cells of each axis: 1 to 300, 1 to 120. Neighbouring intervals, and neighbouring buckets, are merged
        by adding their counts until they fit.
    percentiles : sequence of float
        In [0, 100], of each column.

    Returns
    -------
    Heatmap
        Without rows and columns if there is no interval or no request with a time.

    Raises
    ------
    InvalidInput
        If a percentile, the window, the outcome or the size is out of range.

    References
    ----------
    Gregg: Visualizing System Latency. Communications of the ACM 53(7), 2010.
    """
    for field, value, most in (("columns", columns, MAX_COLUMNS), ("rows", rows, MAX_ROWS)):
        if not 1 <= value <= most:
            raise InvalidInput(f"{field} must be in 1 to {most}; not {value!r}", field=field)
    wanted = percentile_columns(percentiles)
    data = Intervals.read(run, within(run, documents, start_s=start_s, end_s=end_s), endpoints=endpoints)
    entries = data.of(outcome)
    if not len(entries.bucket):
        nothing = {name: [] for name in ("elapsed_s", "requests", *wanted)}
        return Heatmap(np.zeros(0), np.zeros(0), np.zeros((0, 0), np.int64), np.zeros(0), frame(nothing))
    edges_s, column_of_slot, covered_s = lay(data, columns)
    number = len(covered_s)
    column = column_of_slot[data.row_slot]
    first, height, edges_ms = _rows(entries.bucket, rows)
    high = len(edges_ms) - 1
    key = (entries.bucket - first) // height * number + column[entries.row]
    counts = np.bincount(key, weights=entries.count, minlength=high * number).astype(np.int64).reshape(high, number)
    found = entries.quantiles(column, number, list(wanted.values()))
    total = counts.sum(axis=0)
    busy = total > 0
    lines = {name: values[busy] for name, values in zip(wanted, found.T, strict=True)}
    return Heatmap(
        edges_s=edges_s,
        edges_ms=edges_ms,
        counts=counts,
        covered_s=covered_s,
        percentiles=frame({"elapsed_s": edges_s[1:][busy], "requests": total[busy], **lines}),
    )


def _rows(bucket: np.ndarray, rows: int) -> tuple[int, int, np.ndarray]:
    """Give the first bucket, the buckets in a row, and the edges of the rows."""
    low, high = int(bucket.min()), int(bucket.max())
    height = max(LEAST_BUCKETS, -(-(high - low + 1) // rows))
    if -(-(high - low + 1) // height) < rows:  # rows of runs with one height begin alike, so that heatmaps compare
        low -= (low - FIRST_BUCKET) % height
    number = -(-(high - low + 1) // height)
    return low, height, GAMMA ** (low - 1.0 + height * np.arange(number + 1))


def who(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    region: Sequence[Document] | None = None,
    window_s: tuple[float, float | None] = (0.0, None),
    band_ms: tuple[float, float | None] = (0.0, None),
    threshold_ms: float | None = None,
) -> pd.DataFrame:
    """Answer "who is in this region of the heatmap, and how much of the slow requests is that?".

    Parameters
    ----------
    run, documents
        As for `heatmap`: all intervals of the run.
    region : sequence of documents, optional
        Those intervals that the region is of, if they are read already; left out, `window_s` chooses them.
    window_s : (float, float or None)
        The region's time: whole intervals that end within (start, end], in seconds; None is the end of the run.
    band_ms : (float, float or None)
        The region's response times, (low, high] in milliseconds; None is no upper bound. A bucket of the histogram
        (1 % wide) belongs to it whole, by the time that stands for it.
    threshold_ms : float, optional
        Requests above it are lost to the objective; left out, the lower end of the band.

    Returns
    -------
    DataFrame
        A row per endpoint and outcome in the region, the most requests first: method, name, outcome ("ok" or
        "failed"), requests (in the region), region_ratio (their share of the region), slow (of them, above the
        threshold), loss_ratio (these as a share of all requests of the run above the threshold; their sum is the
        share of the objective's loss that the region caused; nan if nothing is above it).

    Raises
    ------
    InvalidInput
        If the window or the band ends before it starts.
    """
    low_ms, high_ms = band_ms[0], np.inf if band_ms[1] is None else band_ms[1]
    if high_ms <= low_ms:
        raise InvalidInput(f"the band must end above its start; not {low_ms:g} ms to {high_ms:g} ms", field="band_ms")
    limit_ms = low_ms if threshold_ms is None else threshold_ms
    everything = Intervals.read(run, documents).entries
    lost = int(everything.count[values_of(everything.bucket) > limit_ms].sum())
    if region is None:
        region = within(run, documents, start_s=window_s[0], end_s=window_s[1])
    inside = Intervals.read(run, region)
    entries, ms = inside.entries, values_of(inside.entries.bucket)
    group = 2 * inside.endpoint[entries.row] + inside.entry_failed
    in_band = (ms > low_ms) & (ms <= high_ms)

    def counted(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(group[chosen], weights=entries.count[chosen], minlength=2 * len(run.endpoints)).astype(int)

    requests, slow = counted(in_band), counted(in_band & (ms > limit_ms))
    present = np.flatnonzero(requests)
    order = present[np.argsort(-requests[present], kind="stable")]
    method, name = endpoint_names(run, order // 2)
    return frame(
        {
            "method": method,
            "name": name,
            "outcome": np.where(order % 2, "failed", "ok"),
            "requests": requests[order],
            "region_ratio": requests[order] / max(1, int(requests.sum())),
            "slow": slow[order],
            "loss_ratio": slow[order] / lost if lost else np.full(len(order), np.nan),
        }
    )
