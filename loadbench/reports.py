"""Reports: a notebook executed on the stored runs, kept as a notebook and as an HTML file that opens anywhere, offline.

The notebooks are `templates/report_*.ipynb`. A report is executed in a kernel of its own, which finds MongoDB by its
environment and only reads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from loadbench import html, pages
from loadbench.analysis.verdict import IMPORTANT_PERCENT
from loadbench.analysis.windows import STEADY, WHOLE, named
from loadbench.errors import InvalidInput, LoadbenchError, NotFound
from loadbench.model import LoadTest, LoadTestRun, now_ms
from loadbench.notebooks import execute_notebook
from loadbench.sealing import seal
from loadbench.store import Store
from loadbench.store.database import ENV_URI

DIRECTORY = Path("reports")
MOST_DAYS = 3650
NEEDS = "needs-"
FIGURES, INTERVALS, GATES = "figures", "intervals", "gates"

__all__ = ["comparison_report", "execute_notebook", "report", "run_report", "template", "trend_report"]


def template(kind: str) -> Path:
    """Give the path of a report notebook: "run", "comparison" or "trend"."""
    return Path(str(resources.files("loadbench") / "templates" / f"report_{kind}.ipynb"))


def run_report(
    store: Store,
    run: LoadTestRun,
    path: str | Path | None = None,
    *,
    window: str = STEADY,
    notebook: str | Path | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the summary of a run; see `report`.

    Parameters
    ----------
    path : str or Path, optional
        The HTML file; left out, it is below `reports/` in the working directory.
    window : str
        The window of the run whose figures are shown; "whole" for all of it.
    """
    has = _held(store, run, window)
    return report(
        store,
        notebook or template("run"),
        _place(run) | {"run_id": run.id, "window": window},
        path or DIRECTORY / f"{run.id}.html",
        title=f"{run.name} · {run.status.value} · {html.show(run.started_at, 'time')}",
        has=has,
        progress=progress,
    )


def _held(store: Store, run: LoadTestRun, window: str) -> set[str]:
    """Say what there is to show of a run: figures of its window, and its intervals."""
    try:
        sealed = seal(store, run)
    except NotFound:
        return set()
    named(sealed.windows, window)
    if not sealed.parts:
        return set()
    return {FIGURES, *({INTERVALS} if run.purged_at is None else ()), *({GATES} if run.gates else ())}


def comparison_report(
    store: Store,
    sides: Sequence[tuple[str, Sequence[str]]],
    path: str | Path | None = None,
    *,
    reference: int = -1,
    window: str = STEADY,
    percentiles: Sequence[float] = (50, 95, 99),
    important_percent: float = IMPORTANT_PERCENT,
    allow_different: Sequence[str] = (),
    notebook: str | Path | None = None,
    progress: bool | None = None,
) -> Path:
    """Write a comparison; see `report`.

    Parameters
    ----------
    sides : sequence of (str, sequence of str)
        A label and the ids of one or several runs.
    reference : int
        Which side the others are compared with.
    window, percentiles, important_percent, allow_different
        As for `loadbench.compare`.
    """
    runs = {run.id: run for run in store.runs.get_all([run_id for _, ids in sides for run_id in ids])}
    first = runs[sides[0][1][0]]
    reference %= len(sides)
    has = {INTERVALS} if any(run.purged_at is None for run in runs.values()) else set()
    if all(any(_held(store, runs[run_id], WHOLE) for run_id in ids) for _, ids in sides):
        has |= {FIGURES}
    labels = [label.replace("|", "/") for label, _ in sides]
    others = ", ".join(label for place, label in enumerate(labels) if place != reference)
    return report(
        store,
        notebook or template("comparison"),
        _place(first) | {
            "runs": " | ".join(" ".join(ids) for _, ids in sides),
            "labels": " | ".join(labels),
            "reference": reference,
            "window": window,
            "percentiles": " ".join(f"{percentile:g}" for percentile in percentiles),
            "important_percent": float(important_percent),
            "allow_different": " ".join(allow_different),
        },
        path or DIRECTORY / f"comparison-{first.id}.html",
        title=f"{others} against {labels[reference]}",
        has=has,
        progress=progress,
    )  # fmt: skip


def trend_report(
    store: Store,
    test: LoadTest,
    path: str | Path | None = None,
    *,
    days: int = 7,
    until: str | None = None,
    window: str = STEADY,
    notebook: str | Path | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the trend of a test over some days; see `report`.

    Parameters
    ----------
    days : int
        How many, 1 to 3650.
    until : str, optional
        The end, in ISO 8601; left out, now.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"days must be a number in 1-{MOST_DAYS}; not {days!r}", field="days")
    until = until or html.show(now_ms(), "time")
    return report(
        store,
        notebook or template("trend"),
        _place(test) | {"test_name": test.name, "days": days, "until": until, "window": window},
        path or DIRECTORY / f"trend-{test.id}.html",
        title=f"{test.name} · {days} days until {until}",
        has={"runs"} if store.runs.find(load_test_id=test.id, limit=1) else (),
        progress=progress,
    )


def _place(record: LoadTest | LoadTestRun) -> dict[str, str | None]:
    return {"scope": f"{record.account_id}/{record.org_id}/{record.project_id}", "env": record.env_id}


def report(
    store: Store,
    notebook: str | Path,
    parameters: Mapping[str, str | int | float | bool | None],
    path: str | Path,
    *,
    title: str,
    has: Iterable[str] = (),
    progress: bool | None = None,
) -> Path:
    """Execute a report notebook, and write it beside the HTML file made of it.

    Parameters
    ----------
    store : Store
        Where the runs are. The kernel is told by its environment, so that no parameter names a password.
    notebook : str or Path
        The notebook, with a cell tagged `parameters`.
    parameters : mapping
        JSON scalars.
    path : str or Path
        The HTML file; the executed notebook gets its name with `.ipynb`. Both are replaced as a whole, or not at all.
    title : str
        Of the page.
    has : iterable of str
        What there is to show. A cell tagged `needs-X` is executed if X is in it, and left out otherwise.
    progress : bool, optional
        Show a progress bar on stderr; left out, only to a person at a terminal.

    Returns
    -------
    Path
        The absolute path of the HTML file.

    Raises
    ------
    InvalidInput
        If the files cannot be written there.
    LoadbenchError
        If a cell fails; the notebook as far as it got is beside where the report would be.
    """
    target = Path(path).expanduser().absolute()
    executed = target.with_suffix(".ipynb")
    if executed == target:
        raise InvalidInput(f"the path is that of the HTML file, and {target.name} would be its notebook", field="path")
    progress = sys.stderr.isatty() if progress is None else progress
    with pages.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=".report-")
    with folder as name, pages.writing(target):
        draft = Path(name) / Path(notebook).name
        draft.write_text(json.dumps(_prepared(Path(notebook), set(has))), "utf-8")
        try:
            execute_notebook(
                draft,
                draft,
                parameters,
                progress=progress,
                environment={ENV_URI: store.uri},
                preload="loadbench.report_kernel",
            )
        except LoadbenchError as error:
            if isinstance(error, InvalidInput):
                raise
            failed = target.with_suffix(".failed.ipynb")
            draft.replace(failed)
            raise LoadbenchError(str(error).replace(str(draft), str(failed))) from None
        done = json.loads(draft.read_text("utf-8"))
        pages.write(target, pages.render(done, title=title).encode())
        draft.chmod(0o644)
        draft.replace(executed)
    return target


def _prepared(notebook: Path, has: set[str]) -> dict[str, Any]:
    """Read a notebook without the cells that need what is not there."""
    try:
        content = json.loads(notebook.expanduser().read_text("utf-8"))
        content["cells"] = [cell for cell in content["cells"] if _needs(cell) <= has]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"no notebook in {notebook}: give the path of an .ipynb file", field="notebook") from None
    return content


def _needs(cell: Mapping[str, Any]) -> set[str]:
    tags = cell.get("metadata", {}).get("tags", ())
    return {tag.removeprefix(NEEDS) for tag in tags if tag.startswith(NEEDS)}
