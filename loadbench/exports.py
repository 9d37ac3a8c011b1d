"""What leaves loadbench: tables of a run as CSV or Parquet, charts as HTML files that open anywhere, offline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import html, pages
from loadbench.analysis import frames
from loadbench.analysis.columns import column
from loadbench.analysis.summary import summary
from loadbench.errors import one_of
from loadbench.model import LoadTestRun

TABLES = {
    "timeline": frames.timeline,
    "summary": summary,
    "endpoints": frames.endpoints,
    "failures": frames.failures,
    "histograms": frames.histograms,
}
CHART_SUFFIXES = (".html", ".htm")
_CHART_SCRIPTS = ("static/plotly-cartesian.min.js", "templates/chart.js")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(frame: pd.DataFrame) -> str:
    """Write a frame as CSV. Texts that a spreadsheet would take for a formula get an apostrophe in front.

    A carriage return within a text becomes a line feed: bare, it would begin a row.
    """
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            risky = safe[name].str.startswith(_FORMULA, na=False)
            safe[name] = safe[name].where(~risky, "'" + safe[name]).str.replace("\r\n?", "\n", regex=True)  # quoted
    return safe.to_csv(index=False, lineterminator="\n")


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Write a frame as Parquet; the metadata of each column says its `unit` and `meaning`. Texts stay as they are."""
    import pyarrow as pa  # a tenth of a second, and needed for nothing else
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    known = [column(name) for name in table.column_names]
    fields = [
        field.with_metadata({"unit": about.unit, "meaning": about.meaning})
        for field, about in zip(table.schema, known, strict=True)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema(fields, metadata=table.schema.metadata)), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


_WRITERS = {".csv": lambda frame: csv_text(frame).encode(), ".parquet": parquet_bytes}


def export_text(run: LoadTestRun, documents: Sequence[Mapping[str, Any]], table: str = "timeline") -> str:
    """Give a table of a run, one of `TABLES`, as CSV."""
    return csv_text(table_of(run, documents, table))


def table_of(run: LoadTestRun, documents: Sequence[Mapping[str, Any]], table: str) -> pd.DataFrame:
    """Make a table of a run: timeline, summary, endpoints (per interval), failures or histograms."""
    if table not in TABLES:
        raise one_of("table", table, TABLES)
    return TABLES[table](run, documents)


def export(
    run: LoadTestRun, documents: Sequence[Mapping[str, Any]], path: str | Path, *, table: str = "timeline"
) -> Path:
    """Write a table of a run to a CSV or Parquet file, by its suffix; one that is there is replaced.

    Raises
    ------
    InvalidInput
        If there is no such table or suffix, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise one_of("the suffix of the file", suffix, [*_WRITERS, CHART_SUFFIXES[0]])
    return write(path, _WRITERS[suffix](table_of(run, documents, table)))


def export_chart(figure: go.Figure, path: str | Path) -> Path:
    """Write a figure as one HTML file with plotly.js in it: it loads nothing from anywhere."""
    text = (
        html.templates()
        .get_template("chart.html.j2")
        .render(
            title=figure.layout.title.text or "chart",
            figure=pages.inert(json.loads(figure.to_json(remove_uids=True))),
            version=metadata.version("loadbench"),
            **pages.scripts(_CHART_SCRIPTS),
        )
    )
    return write(path, text.encode())


def write(path: str | Path, content: bytes) -> Path:
    """Write a file as a whole or not at all, as `pages.write` does; give its absolute path."""
    return pages.write(Path(path).expanduser().absolute(), content)
