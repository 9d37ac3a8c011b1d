"""The view of the reports: build one of a run, open it, save it, find the notebook that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.model import LoadTestRun
from loadbench.panel.call import BENCH
from loadbench.panel.elements import Download, Table
from loadbench.panel.view import View, button, heading, row, short_time

LISTED = 100
COLUMNS = (("name", "Run"), ("started", "Started (UTC)"), ("status", "Status"), ("id", "Id"))
BUILT = (("name", "Report"), ("of", "Of"), ("size", "Size", "number"), ("path", "File"))


class Reports(View):
    """Reports of runs: one offline HTML file each, and the executed notebook."""

    title = "Reports"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTestRun] = []
        self.built: dict[str, tuple[Path, str]] = {}
        self.table = Table(COLUMNS, choose="one", label="Runs", empty="No runs to report on yet: start one in Launch.")
        self.go = button("Build report", self.on_build, style="primary")
        none_yet = "No report built here yet: choose a run above and press Build report."
        self.files = Table(BUILT, choose="one", label="Reports built here", empty=none_yet)
        self.download = Download(self._read)
        self.notebook = ipywidgets.HTML()
        self.table.observe(lambda _: self._picked(), "chosen")
        self.files.observe(lambda _: self._opened(), "chosen")
        self._picked()
        return [
            self.table, row(self.go), heading("Reports built here", "One file each: it opens anywhere, offline."),
            self.files, row(self.download), self.notebook,
        ]  # fmt: skip

    def read(self) -> None:
        self.records = [record for record in self.panel.read_runs(None, limit=LISTED) if record.is_over]
        self.table.show([_row(record) for record in self.records])

    def build_of(self, run_id: str) -> None:
        """Choose a run, and build its report."""
        self.read()
        self.table.chosen = [run_id]
        self.on_build()

    def _picked(self) -> None:
        self.go.disabled = not self.table.chosen
        if self.table.chosen:
            self.write(BENCH.run(self.table.chosen[0]).report())

    def on_build(self) -> None:
        run_id = self.table.chosen[0]
        name = next((record.name for record in self.records if record.id == run_id), run_id)
        call = BENCH.run(run_id).report()

        def work() -> str:
            self.add(Path(self.perform(call)), of=f"{name} ({html.short_id(run_id)})")
            return "Built: open it, or save it on your machine."

        self.job.start("Building the report…", work, buttons=[self.go])

    def add(self, path: Path, *, of: str) -> None:
        """List a report, and choose it."""
        self.built[str(path)] = (path, of)
        self.files.show([_file(each, whose) for each, whose in reversed(self.built.values())])
        self.files.chosen = [str(path)]

    def _opened(self) -> None:
        path = self._path()
        self.download.name = path.name if path else ""
        notebook = path.with_suffix(".ipynb") if path else None
        there = notebook is not None and notebook.exists()
        self.notebook.value = html.panel_line("hint", f"Executed notebook: {notebook}") if there else ""

    def _path(self) -> Path | None:
        return self.built[self.files.chosen[0]][0] if self.files.chosen else None

    def _read(self) -> bytes:
        path = self._path()
        return path.read_bytes() if path else b""


def _row(run: LoadTestRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": html.printable(run.name),
        "started": [short_time(run.started_at), run.started_at or run.created_at],
        "status": run.status.value,
        "looks": {"status": run.status.value},
    }


def _file(path: Path, of: str) -> dict[str, Any]:
    size = path.stat().st_size
    return {
        "id": str(path),
        "name": html.printable(path.name),
        "of": html.printable(of),
        "size": [html.show(size, "bytes"), size],
        "path": html.printable(str(path)),
    }
