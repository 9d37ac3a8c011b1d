"""Tables of a run as CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from loadbench.analysis import frames
from loadbench.analysis.summary import summary
from loadbench.errors import InvalidInput, one_of
from loadbench.model import LoadTestRun

TABLES = {
    "timeline": frames.timeline,
    "summary": summary,
    "endpoints": frames.endpoints,
    "failures": frames.failures,
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(frame: pd.DataFrame) -> str:
    """Write a frame as CSV. Texts that a spreadsheet would take for a formula get an apostrophe in front."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            risky = safe[name].str.startswith(_FORMULA, na=False)
            safe[name] = safe[name].where(~risky, "'" + safe[name])
    return safe.to_csv(index=False, lineterminator="\n")


def export_text(run: LoadTestRun, documents: Sequence[Mapping[str, Any]], table: str = "timeline") -> str:
    """Give a table of a run as CSV: timeline (a row per interval), summary, endpoints (per interval) or failures."""
    if table not in TABLES:
        raise one_of("table", table, TABLES)
    return csv_text(TABLES[table](run, documents))


def export(
    run: LoadTestRun, documents: Sequence[Mapping[str, Any]], path: str | Path, *, table: str = "timeline"
) -> Path:
    """Write a table of a run to a CSV file, which is replaced if it is there.

    Raises
    ------
    InvalidInput
        If there is no such table, or the file cannot be written.
    """
    text = export_text(run, documents, table)
    target = Path(path).expanduser().absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(
            f"cannot write {target}: {error.strerror or error}; give a path that can be written", field="path"
        ) from None
    return target
