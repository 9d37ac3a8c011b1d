"""The view that compares runs: what differs between them, verdicts, tables, curves laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun
from loadbench.panel.call import BENCH, LB, Call
from loadbench.panel.elements import Chart, Download, Table
from loadbench.panel.view import View, button, row, short_time

LISTED = 100
COLUMNS = (
    ("name", "Run"), ("started", "Started (UTC)"), ("users", "Users", "number"), ("revision", "Revision", "number"),
    ("status", "Status"), ("baseline", "Baseline"), ("id", "Id"),
)  # fmt: skip
FIRST = "the run picked first"
BASELINE = "the baseline of the test"
ALONE, BY_REVISION, TOGETHER = "each run by itself", "runs of a revision together", "all others together"
CHARTS = {
    "p95 over time": ("overlay", {}),
    "p95 over users": ("overlay", {"by": "users"}),
    "p95 over requests/s": ("overlay", {"by": "requests_per_s"}),
    "requests/s over time": ("overlay", {"column": "requests_per_s"}),
    "shift of all quantiles": ("shift", {}),
    "verdicts": ("forest", {}),
}


class Compare(View):
    """The runs that are picked, against a reference."""

    title = "Compare"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTestRun] = []
        self.comparison: Any = None
        self.call: Call | None = None
        empty = "Nothing to compare yet: runs that are over appear here."
        self.table = Table(COLUMNS, choose="many", label="Runs to compare", empty=empty)
        self.reference = ipywidgets.Dropdown(description="Reference", options=[FIRST, BASELINE])
        self.sides = ipywidgets.Dropdown(description="Take", options=[ALONE, BY_REVISION, TOGETHER])
        self.window = ipywidgets.Dropdown(description="Window", options=["steady", "whole"])
        self.different = ipywidgets.Checkbox(description="although the test differs", indent=False)
        self.go = button("Compare", self.on_compare, style="primary")
        self.card = ipywidgets.HTML()
        self.card.add_class("lb-verdict")
        self.drawn = ipywidgets.Dropdown(description="Chart", options=list(CHARTS))
        self.chart = Chart()
        self.report = button("Build report", self.on_report)
        self.download = Download(self._read_report)
        self.path: Any = None
        self.table.observe(lambda _: self._picked(), "chosen")
        self.drawn.observe(lambda _: self._draw_anew(), "value")
        for widget in (self.reference, self.sides, self.window, self.different):
            widget.observe(lambda _: self._picked(), "value")
        self.result = ipywidgets.VBox([self.card, row(self.drawn, self.report, self.download), self.chart])
        self.result.layout.display = "none"
        return [
            self.table,
            row(self.reference, self.sides, self.window, self.different, self.go),
            self.result,
        ]

    def read(self) -> None:
        self.records = [record for record in self.panel.read_runs(None, limit=LISTED) if record.is_over]
        baseline = self.panel.baselines()
        self.table.show([_row(record, baseline=record.id in baseline) for record in self.records])
        self._picked()

    def pick(self, run_ids: Sequence[str]) -> None:
        """Pick these runs, and compare them."""
        self.read()
        self.table.chosen = [run_id for run_id in run_ids if run_id in {record.id for record in self.records}]
        self.on_compare()

    def compared(self) -> Call:
        """Give the comparison that is asked for: the new runs first, then what they are compared with."""
        ids = list(self.table.chosen)
        if self.reference.value == BASELINE:
            reference: Any = BENCH.test(self._test_of(ids[0])).baseline()
            sides = self._sides(ids)
        else:
            first, *sides = self._sides(ids)
            reference = first
        options: dict[str, Any] = {"reference": reference}
        if self.window.value != "steady":
            options["window"] = self.window.value
        if self.different.value:
            options["allow_different"] = True
        return LB.compare(*sides, **options)

    def _sides(self, ids: Sequence[str]) -> list[Any]:
        """Put the picked runs on sides; a side of several is a pool."""
        if self.sides.value == ALONE:
            groups = [[run_id] for run_id in ids]
        elif self.sides.value == TOGETHER:
            groups = [list(ids)] if self.reference.value == BASELINE else [list(ids[:1]), list(ids[1:])]
        else:
            revisions = {record.id: (record.load_test_id, record.revision_number) for record in self.records}
            together: dict[Any, list[str]] = {}
            for run_id in ids:
                together.setdefault(revisions[run_id], []).append(run_id)
            groups = list(together.values())
        runs = [[BENCH.run(run_id) for run_id in group] for group in groups]
        return [group if len(group) > 1 else group[0] for group in runs]

    def _test_of(self, run_id: str) -> str:
        record = next(record for record in self.records if record.id == run_id)
        names = {test.id: test.name for test in self.panel.read_tests()}
        if record.load_test_id not in names:
            raise InvalidInput(f"{run_id} is a run of no test, so there is no baseline: choose another reference")
        return names[record.load_test_id]

    def _picked(self) -> None:
        enough = len(self.table.chosen) >= (1 if self.reference.value == BASELINE else 2)
        self.go.disabled = not enough
        if enough:
            try:
                self.write(self.compared())
            except InvalidInput as error:
                self.job.say(str(error), kind="error")
        elif self.records:
            self.job.say("Pick two runs or more; the first one picked is the reference.", kind="hint")

    def on_compare(self) -> None:
        def work() -> str:
            self.call = self.compared()
            self.comparison = self.perform(self.call)
            self._show(self.comparison)
            return f"Compared {len(self.table.chosen)} runs."

        self.download.name = ""
        self.job.start("Comparing…", work, buttons=[self.go, self.report])

    def _show(self, comparison: Any) -> None:
        self.card.value = comparison._repr_html_()
        self.result.layout.display = ""
        self._draw()

    def _draw_anew(self) -> None:
        if self.comparison is not None:
            self.job.start("Drawing…", self._draw)

    def _draw(self) -> None:
        method, options = CHARTS[self.drawn.value]
        call = getattr(self.call, method)(**options)
        self.chart.show(getattr(self.comparison, method)(**options), label=f"The runs compared: {self.drawn.value}")
        self.write(call)

    def on_report(self) -> None:
        if self.call is None:
            return
        call, of = self.call.report(), f"comparison of {', '.join(self.comparison.sides)}"

        def work() -> str:
            self.path = self.perform(call)
            self.download.name = self.path.name
            self.panel.reports.add(self.path, of=of)
            return f"Written: {self.path}. It is listed in Reports as well."

        self.job.start("Building the report…", work, buttons=[self.report, self.go])

    def _read_report(self) -> bytes:
        return self.path.read_bytes()


def _row(run: LoadTestRun, *, baseline: bool) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": html.printable(run.name),
        "started": [short_time(run.started_at), run.started_at or run.created_at],
        "users": [f"{run.target_users:,}", run.target_users],
        "revision": [str(run.revision_number or html.MISSING), run.revision_number or 0],
        "status": run.status.value,
        "looks": {"status": run.status.value},
        "baseline": "baseline" if baseline else "",
    }
