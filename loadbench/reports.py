"""Reports: a run as one offline HTML file, and a notebook executed with parameters.

The file loads nothing from anywhere. Its charts are interactive: plotly.js is in it, once, beside the figures as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import html, plots
from loadbench.agent.histogram import ALPHA
from loadbench.analysis import frames
from loadbench.analysis.columns import column
from loadbench.analysis.summary import AGGREGATED, histograms, summary
from loadbench.errors import InvalidInput, LoadbenchError
from loadbench.model import LoadTest, LoadTestRun, RunStatus, ScriptRevision, now_ms
from loadbench.store import Store

SUMMARY_COLUMNS = {
    "name": "endpoint", "requests": "requests", "failure_ratio": "failed", "requests_per_s": "requests/s",
    "mean_ms": "mean", "min_ms": "min", "p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99", "max_ms": "max",
    "bytes": "bytes",
}  # fmt: skip
FAILURE_COLUMNS = {
    "name": "endpoint", "message": "message", "count": "count", "first_seen": "first seen", "last_seen": "last seen",
}  # fmt: skip
SHOWN_FAILURES = 100
TITLE_PX = 60
MAX_LABEL = 48
_SECRET = re.compile(r"token|secret|passw|api_?key|credential", re.IGNORECASE)

# What ended the run, as a sentence about it.
ENDINGS = {
    "duration": "It ran for its full duration.",
    "user": "A person stopped it before its end.",
    "gate": "A gate stopped it before its end.",
    "shape": "Its load shape came to its end.",
    "script": "The script itself ended it.",
    "workers-lost": "It ended because its workers were lost.",
    "error": "It could not go on.",
    "lost": "Its processes or their reports were lost.",
}


@dataclass(frozen=True)
class Table:
    """A table ready for a template: the frame's values written out, each column with its header and unit."""

    headers: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, frame: pd.DataFrame, titles: Mapping[str, str]) -> Table:
        """Write the columns named by `titles`, with the formats of their units."""
        named = frame.copy()
        if "method" in named:
            named["name"] = (named["method"] + " " + named["name"]).str.strip()
        formats = {name: html.FORMATS[column(name).unit] for name in titles}
        headers = [(titles[name], formats[name].suffix, column(name).dtype != "str") for name in titles]
        columns = [
            [html.MISSING if html.is_missing(value) else formats[name].number(value) for value in named[name]]
            for name in titles
        ]
        return cls(headers=headers, rows=list(zip(*columns, strict=True)))


def report(store: Store, run: LoadTestRun, path: str | Path | None = None) -> Path:
    """Write the HTML summary of a stored run; left out, `path` is below `reports/` in the working directory."""
    test = store.load_tests.get(run.load_test_id) if run.load_test_id else None
    revision = store.script_revisions.get(run.script_revision_id) if run.script_revision_id else None
    target = path or Path("reports") / f"{run.id}.html"
    return write_report(run, test, revision, store.ledger.documents(run.id), target)


def write_report(
    run: LoadTestRun,
    test: LoadTest | None,
    revision: ScriptRevision | None,
    documents: Sequence[Mapping[str, Any]],
    path: str | Path,
) -> Path:
    """Write a run's summary as one HTML file that opens anywhere, offline.

    Parameters
    ----------
    test, revision : optional
        What was run; a run of a foreign script has neither.
    documents : sequence of documents
        The run's stored intervals.
    path : str or Path
        The file; its folder is made. It is replaced as a whole, or not at all.

    Returns
    -------
    Path
        The absolute path of the file.

    Raises
    ------
    InvalidInput
        If the file cannot be written there.
    """
    target = Path(path).expanduser().absolute()
    text = render_report(run, test, revision, documents)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, text)
    except OSError as error:
        raise InvalidInput(
            f"cannot write the report to {target}: {error.strerror or error}; give a path that can be written",
            field="path",
        ) from None
    return target


def render_report(
    run: LoadTestRun,
    test: LoadTest | None,
    revision: ScriptRevision | None,
    documents: Sequence[Mapping[str, Any]],
) -> str:
    """Give the report as text; `write_report` says what is in it."""
    table = summary(run, documents)
    totals = None if table.empty else table.iloc[-1].to_dict()
    failed = frames.failures(run, documents)
    scripts = [_file("static/plotly-cartesian.min.js"), _file("templates/report.js")]
    return (
        html.templates()
        .get_template("report.html.j2")
        .render(
            run=run,
            test=test,
            script=revision.script.decode("utf-8", "replace") if revision else None,
            verdict=verdict(run),
            warnings=html.run_warnings(run),
            figures=_figures(run, totals),
            charts=[(name, _figure_json(figure)) for name, figure in charts(run, documents, table).items()],
            endpoints=Table.of(table, SUMMARY_COLUMNS),
            failures=Table.of(failed.head(SHOWN_FAILURES), FAILURE_COLUMNS),
            more_failures=max(0, len(failed) - SHOWN_FAILURES),
            settings=settings(run, test, revision),
            intervals=len(documents),
            data_sha256=data_sha256(documents),
            alpha=ALPHA,
            made_at=now_ms(),
            version=metadata.version("loadbench"),
            scripts=scripts,
            script_hashes=" ".join(f"'sha256-{_hash(text)}'" for text in scripts),
        )
    )


def _figures(run: LoadTestRun, totals: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if totals is None and run.purged_at is None:
        return []
    return html.run_figures(run.model_copy(update={"status": RunStatus.FINISHED}), totals)


def verdict(run: LoadTestRun) -> str:
    """Say in a sentence or two how the run ended and whether all of its data arrived."""
    if not run.is_over:
        return f"The run is {run.status.value.lower()}: this report shows what has arrived so far."
    if run.purged_at is not None:
        return f"Its intervals were deleted {html.show(run.purged_at, 'time')} as too old: only its totals are left."
    if run.origin == "imported":
        whole = "All of it is here." if run.metadata.get("hasDistributions") else "It holds no distributions."
        return f"Imported from {run.metadata.get('importedFormat', 'files')}. {whole}"
    ending = ENDINGS.get(run.stop_reason or "", "")
    arrived = {
        "complete": "All intervals arrived, and their sums agree.",
        "gaps": "Some intervals never arrived: the figures leave them out.",
        "unknown": "It is not known whether all intervals arrived.",
    }[run.completeness]
    return f"{ending} {arrived}".strip()


def charts(run: LoadTestRun, documents: Sequence[Mapping[str, Any]], table: pd.DataFrame) -> dict[str, go.Figure]:
    """Draw the figures of a report by their headings, in order; none for a run without requests."""
    if table.empty or not table["requests"].iloc[-1]:
        return {}
    by_endpoint = table[table["name"] != AGGREGATED]
    labels = short_labels((by_endpoint["method"] + " " + by_endpoint["name"]).str.strip())
    figures = {"Timeline": plots.timeline(frames.timeline(run, documents), title="")}
    total = {"all requests": histograms(run, documents)[AGGREGATED]}
    if any(total.values()):
        figures["Response times by endpoint"] = plots.endpoint_percentiles(
            by_endpoint.set_index(pd.Index(labels, dtype="str")), title=""
        )
        figures["Distribution of response times"] = plots.distribution(total, title="")
    for figure in figures.values():  # the page has the heading, so the room above the plot goes
        spared = figure.layout.margin.t or plots.TEMPLATE.layout.margin.t
        figure.update_layout(margin_t=spared - TITLE_PX, height=figure.layout.height - TITLE_PX)
    return figures


def short_labels(names: Sequence[str]) -> list[str]:
    """Shorten long names in their middle, so that they leave room for the chart; those that get alike are numbered."""
    half = MAX_LABEL // 2
    shown = [html.printable(name) for name in names]
    short = [name if len(name) <= MAX_LABEL else f"{name[:half]}…{name[-half:]}" for name in shown]
    return [label if short.count(label) == 1 else f"{label} ({index})" for index, label in enumerate(short, start=1)]


def settings(run: LoadTestRun, test: LoadTest | None, revision: ScriptRevision | None) -> dict[str, str]:
    """List what was run, with what and where, as label -> text."""
    ran = run.environment
    workers = run.workers if ran is None else ran.workers
    rows = {
        "test": test.name if test else None,
        "run": run.id,
        "origin": html.run_origin(run),
        "files": str(run.metadata.get("importedFrom", "")) if run.origin == "imported" else None,
        "scope": str(run.scope),
        "target": html.shown_url(run.target_url),
        "users": html.show(run.target_users, "count"),
        "users started": html.show(run.spawn_rate, "/s"),
        "planned duration": html.show(run.duration_sec, "s"),
        "ran for": html.show(html.elapsed_s(run), "s") if run.started_at else None,
        "started": html.show(run.started_at, "time"),
        "finished": html.show(run.finished_at, "time"),
        "workers": html.show(workers, "count") if workers else "none: one Locust process",
        "script revision": str(run.revision_number) if run.revision_number else None,
        "script sha256": revision.sha256 if revision else ran and ran.script_sha256,
        "user classes": ", ".join(ran.user_classes) if ran else None,
        "Locust": ran and ran.locust,
        "Python": ran and ran.python,
        "host": ran and ran.host,
        "started by": run.created_by,
        "tags": ", ".join(run.tags),
        "notes": run.notes,
    }
    return {label: html.printable(text) for label, text in rows.items() if text}


def data_sha256(documents: Sequence[Mapping[str, Any]]) -> str:
    """Hash the stored intervals: sha256 over the body hashes, one a line, in the order of (source, seq)."""
    ordered = sorted(documents, key=lambda document: (document["source"], document["seq"]))
    return hashlib.sha256("".join(f"{document['bodySha256']}\n" for document in ordered).encode()).hexdigest()


def execute_notebook(
    source: str | Path,
    output: str | Path,
    parameters: Mapping[str, str | int | float | bool | None] | None = None,
    *,
    cwd: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Execute a notebook with papermill.

    Parameters
    ----------
    source, output : str or Path
        The notebook, and where the executed one goes; after an error it is there too, up to the failing cell.
    parameters : mapping, optional
        Values for the cell tagged `parameters`: JSON scalars. They are stored in the output, so never secrets.
    cwd : str or Path, optional
        Working directory of the notebook; left out, that of this process.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Path
        The absolute path of the executed notebook.

    Raises
    ------
    InvalidInput
        If there is no such notebook, or a parameter is a secret or not known to it.
    LoadbenchError
        If a cell fails: one line with the cell and its error.
    """
    import papermill  # heavy, and needed for nothing else
    from papermill.exceptions import PapermillExecutionError

    notebook, target = Path(source).expanduser().absolute(), Path(output).expanduser().absolute()
    values = dict(parameters or {})
    _check_parameters(notebook, values)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(target),
            parameters=values,
            cwd=str(cwd) if cwd else None,
            progress_bar=progress,
            extra_arguments=["--IPKernelApp.log_level=50"],  # its remarks on transport and shutdown help nobody here
        )
    except PapermillExecutionError as error:
        raise LoadbenchError(
            f"{notebook.name} failed in cell {error.exec_count}: {error.ename}: {html.error_line(error.evalue)} "
            f"(executed up to there in {target})"
        ) from None
    return target


def _check_parameters(notebook: Path, values: Mapping[str, Any]) -> None:
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"no notebook in {notebook}: give the path of an .ipynb file", field="source") from None
    for name, value in values.items():
        if _SECRET.search(name):
            raise InvalidInput(
                f"parameter {name} looks like a secret, and papermill stores parameters: pass it by environment",
                field="parameters",
            )
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidInput(f"parameter {name} must be a text, a number, true, false or null", field="parameters")
    if values and not any("parameters" in cell.get("metadata", {}).get("tags", ()) for cell in cells):
        raise InvalidInput(f"{notebook.name} has no cell tagged parameters to take {', '.join(values)}", field="source")


def _replace(target: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _figure_json(figure: go.Figure) -> str:
    """Give a figure as JSON that cannot end the script element it stands in."""
    text = figure.to_json(remove_uids=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _file(path: str) -> str:
    return (resources.files("loadbench") / path).read_text("utf-8")
