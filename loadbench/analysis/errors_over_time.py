"""Which failures came when: counts by time, endpoint and message, bounded in number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame
from loadbench.analysis.intervals import Document, endpoint_names, origin_ms, timestamps_ms, within
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun

MAX_COLUMNS = 120


def errors_over_time(
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    columns: int = MAX_COLUMNS,
    start_s: float | None = None,
    end_s: float | None = None,
) -> pd.DataFrame:
    """Answer "which failures came when?".

    Parameters
    ----------
    run, documents, start_s, end_s
        As for `summary`.
    columns : int
        At most so many spans of time, 1 or more: as long as one interval if that is enough, else several.

    Returns
    -------
    DataFrame
        A row per span of time, endpoint and message that occurs: elapsed_s (end of the span), method, name, message,
        count, failures_per_s (count by the length of the span). By time, then the most frequent first. Counts add up
        to the failures of the intervals.

    Raises
    ------
    InvalidInput
        If the window ends before it starts or `columns` is below 1.
    """
    if columns < 1:
        raise InvalidInput(f"columns must be 1 or more; not {columns!r}", field="columns")
    documents = within(run, documents, start_s=start_s, end_s=end_s)
    end = (timestamps_ms(documents) - origin_ms(run, documents)) / 1000
    duration = np.array([document["durationMs"] for document in documents], dtype=float) / 1000
    usual_s = float(np.median(duration)) if len(duration) else 1.0
    first_s = float((end - duration).min(initial=0.0))
    width_s = usual_s * max(1, -(-(float(end.max(initial=0.0)) - first_s) // (usual_s * columns)))
    # By the middle of the interval: its end jitters around the edges of the spans.
    span = np.maximum(0, (end - duration / 2 - first_s) // width_s).astype(int).tolist()
    counted: dict[tuple[int, int, str], int] = {}
    for document, number in zip(documents, span, strict=True):
        for error in document.get("errors", ()):
            key = (number, error["endpoint"], error["message"])
            counted[key] = counted.get(key, 0) + error["n"]
    keys = sorted(counted, key=lambda key: (key[0], -counted[key], key[1], key[2]))
    count = np.array([counted[key] for key in keys], dtype=np.int64)
    method, name = endpoint_names(run, np.array([endpoint for _, endpoint, _ in keys], dtype=np.int64))
    return frame(
        {
            "elapsed_s": [first_s + width_s * (number + 1) for number, _, _ in keys],
            "method": method,
            "name": name,
            "message": [message for _, _, message in keys],
            "count": count,
            "failures_per_s": count / width_s,
        }
    )
