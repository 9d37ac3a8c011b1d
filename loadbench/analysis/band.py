"""The band of a baseline: between which values other runs were, as long after their start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

FIGURES = ("requests_per_s", "p95_ms")
STRETCHES = 120
SHORTEST_S = 5.0


@dataclass(frozen=True)
class Band:
    """The lowest and highest of each of FIGURES in each stretch of time, over all runs.

    `elapsed_s` is the middle of each stretch, in seconds from the start of the run; `low` and `high` have a row for
    each stretch and a column for each figure; nan where no run had a value.
    """

    elapsed_s: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int

    def binary(self) -> bytes:
        """Give float32 rows: elapsed_s, then low and high of each figure."""
        columns = [self.elapsed_s]
        for place in range(len(FIGURES)):
            columns += [self.low[:, place], self.high[:, place]]
        return np.column_stack(columns).astype("<f4").tobytes()


def band(timelines: Sequence[pd.DataFrame]) -> Band | None:
    """Answer "where did the runs of the baseline lie at this moment?".

    Parameters
    ----------
    timelines : sequence of DataFrame
        `frames.timeline` of each run: `elapsed_s` in seconds, `requests_per_s`, `p95_ms`.

    Returns
    -------
    Band or None
        None if there is nothing to draw.

    Notes
    -----
    Stretches are 5 s long, or 1/120 of the longest run if that is more. Low and high are values that an interval of one
    of the runs had: nothing is averaged.
    """
    there = [frame for frame in timelines if len(frame)]
    if not there:
        return None
    longest_s = max(float(frame["elapsed_s"].max()) for frame in there)
    every_s = max(SHORTEST_S, longest_s / STRETCHES)
    points = pd.concat([frame[["elapsed_s", *FIGURES]] for frame in there], ignore_index=True)
    stretch = np.maximum(np.ceil(points["elapsed_s"] / every_s) - 1, 0).astype("int64")
    grouped = points[list(FIGURES)].groupby(stretch.to_numpy())
    low, high = grouped.min(), grouped.max()
    return Band((low.index.to_numpy() + 0.5) * every_s, low.to_numpy(), high.to_numpy(), len(there))
