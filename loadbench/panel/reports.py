"""The view of the reports: build one of a run or of a test, open those there are, save them, find their notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.model import LoadTestRun
from loadbench.panel.call import BENCH, Call
from loadbench.panel.elements import Download, Table
from loadbench.panel.view import View, button, heading, row, short_time
from loadbench.reports import DIRECTORY

LISTED = 100
DAYS = 7
COLUMNS = (("name", "Run"), ("started", "Started (UTC)"), ("status", "Status"), ("id", "Id"))
BUILT = (("name", "Report"), ("of", "Of"), ("at", "Built (UTC)"), ("size", "Size", "number"))


class Reports(View):
    """Reports of runs, comparisons and trends: one offline HTML file each, and the executed notebook."""

    title = "Reports"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTestRun] = []
        self.built: dict[str, tuple[Path, str]] = {}
        self.table = Table(COLUMNS, choose="one", label="Runs", empty="No runs to report on yet: start one in Launch.")
        self.go = button("Build report", self.on_build, style="primary", hint="A report of the run chosen above")
        self.days = ipywidgets.BoundedIntText(DAYS, min=1, max=3650, description="Days")
        self.trend = button("Build trend", self.on_trend, hint="How the runs of the test did over so many days")
        none_yet = "No report yet: choose a run above and press Build report, or build one of a comparison in Compare."
        self.files = Table(BUILT, choose="one", label="Reports", empty=none_yet)
        self.download = Download(self._read)
        self.place = ipywidgets.HTML()
        self.table.observe(lambda _: self._picked(), "chosen")
        self.files.observe(lambda _: self._opened(), "chosen")
        self._picked()
        return [
            self.table, row(self.go, self.trend, self.days),
            heading("Reports", "One file each: it opens anywhere, offline."),
            self.files, row(self.download), self.place,
        ]  # fmt: skip

    def read(self) -> None:
        self.records = [record for record in self.panel.read_runs(None, limit=LISTED) if record.is_over]
        self.table.show([_row(record) for record in self.records])
        self._find()
        self.trend.disabled = self.panel.test_name is None

    def _find(self) -> None:
        """List the reports in the directory that they are written to, of what this panel knows."""
        names = {run.id: f"run {_name(run)}" for run in self.records}
        names |= {f"comparison-{run.id}": f"comparison of {_name(run)}" for run in self.records}
        names |= {f"trend-{test.id}": f"trend of {test.name}" for test in self.panel.read_tests()}
        for path in DIRECTORY.absolute().glob("*.html"):
            if path.stem in names:
                self.built.setdefault(str(path), (path, names[path.stem]))
        self._list()

    def _list(self) -> None:
        self.built = {name: each for name, each in self.built.items() if each[0].exists()}
        newest = sorted(self.built.values(), key=lambda each: -each[0].stat().st_mtime)
        self.files.show([_file(path, of) for path, of in newest])

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
        run = next((record for record in self.records if record.id in self.table.chosen), None)
        if run is None:
            self.job.say("Choose a run in the table first.", kind="hint")
        else:
            self._build(BENCH.run(run.id).report(), of=f"run {_name(run)}")

    def on_trend(self) -> None:
        name, days = self.panel.test_name, self.days.value
        self._build(BENCH.test(name).report(**({"days": days} if days != DAYS else {})), of=f"trend of {name}")

    def _build(self, call: Call, *, of: str) -> None:
        def work() -> str:
            self.add(Path(self.perform(call)), of=of)
            return "Built: open it, or save it on your machine."

        self.job.start("Building the report…", work, buttons=[self.go, self.trend])

    def add(self, path: Path, *, of: str) -> None:
        """List a report, and choose it."""
        self.built[str(path)] = (path, of)
        self._list()
        self.files.chosen = [str(path)]
        self._opened()  # though it was chosen before: it may be another size, or have a notebook now

    def _opened(self) -> None:
        path = self._path()
        self.download.name = path.name if path else ""
        there = path is not None and path.with_suffix(".ipynb").exists()
        beside = ", the executed notebook beside it" if there else ""
        self.place.value = html.panel_line("hint", f"Written to {path}{beside}.") if path else ""

    def _path(self) -> Path | None:
        return self.built[self.files.chosen[0]][0] if self.files.chosen else None

    def _read(self) -> bytes:
        path = self._path()
        return path.read_bytes() if path else b""


def _name(run: LoadTestRun) -> str:
    return f"{run.name} ({html.short_id(run.id)})"


def _row(run: LoadTestRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": html.printable(run.name),
        "started": [short_time(run.started_at), run.started_at or run.created_at],
        "status": run.status.value,
        "looks": {"status": run.status.value},
    }


def _file(path: Path, of: str) -> dict[str, Any]:
    about = path.stat()
    return {
        "id": str(path),
        "name": html.printable(path.name),
        "of": html.printable(of),
        "at": [short_time(round(about.st_mtime * 1000)), about.st_mtime],
        "size": [html.show(about.st_size, "bytes"), about.st_size],
    }
