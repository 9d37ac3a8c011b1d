"""The view of the runs: history as a table, search and filter, pick runs, annotate, baseline, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.analysis.validity import LEVELS
from loadbench.model import LoadTestRun, RunStatus
from loadbench.panel.call import BENCH, LB, Call
from loadbench.panel.elements import Table
from loadbench.panel.field import Field, Form, listed
from loadbench.panel.figures import Figures, ReadFigures
from loadbench.panel.view import Confirmation, View, button, heading, row, short_time

ALL, ANY = "all statuses", "any validity"
COLUMNS = (
    ("name", "Run"), ("status", "Status"), ("started", "Started (UTC)"), ("users", "Users", "number"),
    ("requests", "Requests", "number"), ("rate", "Rate", "number"), ("failed", "Failed", "number"),
    ("p95", "p95", "number"), ("validity", "Validity"), ("baseline", "Baseline"), ("took", "Took", "number"),
    ("revision", "Rev.", "number"), ("tags", "Tags"), ("id", "Id"),
)  # fmt: skip
"""What tells runs apart comes first: at 1280 pixels the last columns are reached by scrolling."""


class Runs(View):
    """The runs of the chosen test, or of all, newest first."""

    title = "Runs"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTestRun] = []
        self.baseline: set[str] = set()
        self.figures = ReadFigures(self.bench._backend.store)
        self.search = ipywidgets.Text(description="Search", placeholder="name, notes, tag or id")
        self.status = ipywidgets.Dropdown(description="Status", options=[ALL, *(each.value for each in RunStatus)])
        self.validity = ipywidgets.Dropdown(description="Validity", options=[ANY, *LEVELS])
        self.every_test = ipywidgets.Checkbox(description="of all tests", indent=False)
        self.table = Table(
            COLUMNS, choose="many", label="Runs", empty="No runs yet: choose a test and press Start in Launch."
        )
        self.watch = button(
            "Watch live", lambda: self.panel.watch(self.table.chosen), hint="Show the picked runs in Live"
        )
        self.compare = button("Compare", lambda: self.panel.compare(self.table.chosen), style="primary",
                              hint="Compare the picked runs; the first is the reference")  # fmt: skip
        self.report = button("Report", lambda: self.panel.report(self.table.chosen), hint="A report of the picked run")
        self.stop = button("Stop", self.on_stop, style="danger", hint="Stop the picked runs")
        self.make_baseline = button("Make baseline", self.on_baseline, hint="Compare others with the picked runs")
        self.unmake_baseline = button("Remove from baseline", self.on_no_baseline)
        self.delete = Confirmation("Delete runs", self.question, self.on_delete)
        self.form = Form(
            {"name": Field(), "tags": Field(hint="separated by commas"), "notes": Field(rows=2)},
            wide=("notes",),
        )
        self.annotate = button("Save notes", self.on_annotate)
        self.notes = ipywidgets.VBox([heading("Write on this run"), self.form, row(self.annotate)])
        self.actions = ipywidgets.VBox(
            [
                row(self.compare, self.watch, self.report, self.make_baseline, self.unmake_baseline, self.stop),
                self.delete,
                self.notes,
            ]
        )
        self.picked = ipywidgets.HTML()
        for widget in (self.search, self.status, self.validity):
            widget.observe(lambda _: self.filter(), "value")
        self.every_test.observe(lambda _: self.show(), "value")
        self.table.observe(lambda _: self._picked(), "chosen")
        self.offer()
        return [row(self.search, self.status, self.validity, self.every_test), self.table, self.picked, self.actions]

    def watches(self) -> bool:
        return any(not record.is_over for record in self.records)

    def read(self) -> None:
        name = None if self.every_test.value else self.panel.test_name
        self.records = self.panel.read_runs(name)
        self.baseline = self.panel.baselines()
        self.filter()  # what is known already; figures of runs that are new here take a moment
        self.figures.read(self.records)
        self.filter()
        if not self.table.chosen:
            self.write(BENCH.test(name).runs() if name else BENCH.runs())

    def filter(self) -> None:
        """Show the runs that fit the search, the status and the validity."""
        words, status, level = self.search.value.lower().split(), self.status.value, self.validity.value
        fitting = [
            run
            for run in self.records
            if status in (ALL, run.status.value)
            and level in (ANY, _level(self.figures.of(run)))
            and all(word in f"{run.name} {run.notes} {' '.join(run.tags)} {run.id}".lower() for word in words)
        ]
        none_yet = "No runs yet: choose a test and press Start in Launch."
        self.table.empty = "No run fits: change the search, the status or the validity." if self.records else none_yet
        self.table.show([_row(run, self.figures.of(run), baseline=run.id in self.baseline) for run in fitting])
        self.offer()

    def chosen(self) -> list[LoadTestRun]:
        """Give the picked runs in the order in which they were picked."""
        known = {record.id: record for record in self.records}
        return [known[run_id] for run_id in self.table.chosen if run_id in known]

    def offer(self) -> None:
        """Offer what can be done with what is picked."""
        runs = self.chosen()
        names = [f"{run.name} ({html.short_id(run.id)})" for run in runs]
        if len(runs) == 1 and (validity := self.figures.of(runs[0]).validity):
            names = [f"{names[0]}, {validity}"]
        hint = f"Picked: {', '.join(names)}" if runs else "Pick runs to compare, watch, annotate or delete them."
        self.picked.value = html.panel_line("hint", hint) if self.records else ""
        self.actions.layout.display = "" if runs else "none"
        self.compare.disabled = len(runs) < 2
        self.report.disabled = len(runs) != 1 or not runs[0].is_over
        self.stop.disabled = not any(not run.is_over for run in runs)
        self.unmake_baseline.disabled = not any(run.id in self.baseline for run in runs)
        self.make_baseline.disabled = not all(run.load_test_id and run.is_over for run in runs)
        self.notes.layout.display = "" if len(runs) == 1 else "none"

    def _picked(self) -> None:
        self.offer()
        runs = self.chosen()
        if len(runs) == 1:
            if self.form.fields and getattr(self, "_noted", None) != runs[0].id:
                self._noted = runs[0].id
                self.form.fill(name=runs[0].name, tags=", ".join(runs[0].tags), notes=runs[0].notes)
            self.write(BENCH.run(runs[0].id))
        elif runs:
            self.write(LB.compare(*(BENCH.run(run.id) for run in runs)))

    def on_stop(self) -> None:
        active = [run for run in self.chosen() if not run.is_over]
        self._do(
            "Stopping…", [BENCH.run(run.id).stop() for run in active], "Asked to stop: the last figures arrive yet."
        )

    def on_baseline(self) -> None:
        groups = self._by_test(self.chosen())
        calls = [BENCH.test(name).set_baseline(*(run.id for run in runs)) for name, runs in groups.items()]
        self._do("Setting the baseline…", calls, "These runs are the baseline now; they cannot be deleted.")

    def on_no_baseline(self) -> None:
        groups = self._by_test([run for run in self.chosen() if run.id in self.baseline])
        calls = [BENCH.test(name).remove_baseline(*(run.id for run in runs)) for name, runs in groups.items()]
        self._do("Removing…", calls, "Taken out of the baseline; the runs stay.")

    def on_annotate(self) -> None:
        (run,) = self.chosen()
        values = self.form.values()
        call = BENCH.run(run.id).annotate(name=values["name"], tags=listed(values["tags"]), notes=values["notes"])
        self._do("Saving…", [call], "Saved.")

    def question(self) -> str:
        runs = self.chosen()
        what = f"{runs[0].name} ({html.short_id(runs[0].id)})" if len(runs) == 1 else f"these {len(runs)} runs"
        return f"Delete {what} with all figures? This cannot be undone." if runs else ""

    def on_delete(self) -> None:
        self._do("Deleting…", [BENCH.run(run.id).delete() for run in self.chosen()], "Deleted.")

    def _do(self, doing: str, calls: Sequence[Call], done: str) -> None:
        def work() -> str:
            self.write(*calls)
            try:
                for call in calls:
                    call.perform(self.bench)
            finally:
                self.read()
                self.write(*calls)
            return done

        self.form.clear()
        self.job.start(doing, work, buttons=[self.annotate], refused=self.form.refuse)

    def _by_test(self, runs: Sequence[LoadTestRun]) -> dict[str, list[LoadTestRun]]:
        names = {record.id: record.name for record in self.panel.read_tests()}
        groups: dict[str, list[LoadTestRun]] = {}
        for run in runs:
            groups.setdefault(names[run.load_test_id], []).append(run)
        return groups


def _level(figures: Figures) -> str:
    return figures.validity.level if figures.validity else html.MISSING


def _row(run: LoadTestRun, figures: Figures, *, baseline: bool) -> dict[str, Any]:
    last, took_s = run.last_metrics, html.elapsed_s(run)
    requests, failures = (last.cum_requests, last.cum_failures) if last else (0, 0)
    rate = requests / took_s if took_s else 0.0
    failed = failures / requests if requests else 0.0
    return {
        "id": run.id,
        "name": html.printable(run.name),
        "status": run.status.value
        + (f" ({run.stop_reason})" if run.stop_reason not in (None, "duration", "user") else ""),
        "looks": {"status": run.status.value, "validity": _level(figures)},
        "started": [short_time(run.started_at).rpartition(":")[0] or html.MISSING, run.started_at or run.created_at],
        "took": [html.show(took_s, "s") if took_s else html.MISSING, took_s],
        "users": [f"{run.target_users:,}", run.target_users],
        "revision": [str(run.revision_number or html.MISSING), run.revision_number or 0],
        "requests": [f"{requests:,}", requests],
        "rate": [html.show(rate, "/s") if rate else html.MISSING, rate],
        "failed": [html.show(failed, "ratio") if requests else html.MISSING, failed],
        "p95": [html.show(figures.p95_ms, "ms"), figures.p95_ms or 0],
        "validity": [_level(figures), LEVELS.index(figures.validity.level) if figures.validity else len(LEVELS)],
        "tags": html.printable(", ".join(run.tags)),
        "baseline": "baseline" if baseline else "",
    }
