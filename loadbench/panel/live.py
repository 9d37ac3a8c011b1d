"""The view of runs as they go on: several at once, each with its charts, cards, gates and Stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.live import LiveView
from loadbench.model import LoadTestRun
from loadbench.panel.call import BENCH
from loadbench.panel.elements import Table
from loadbench.panel.view import View, short_time

AT_ONCE = 4
LISTED = 20
NO_RUNS = "No runs yet: choose a test and press Start in Launch."
COLUMNS = (
    ("name", "Run"),
    ("status", "Status"),
    ("started", "Started (UTC)"),
    ("users", "Users", "number"),
    ("id", "Id"),
)


class Live(View):
    """The charts of the runs that are picked, newest first; those that go on are picked by themselves."""

    title = "Live"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTestRun] = []
        self.views: dict[str, LiveView] = {}
        self.wanted: list[str] | None = None
        self.table = Table(COLUMNS, choose="many", label="Runs to watch", empty=NO_RUNS, folds=True)
        self.place = ipywidgets.Box()
        self.place.add_class("lb-lives")
        self.hint = ipywidgets.HTML()
        self.table.observe(lambda _: self._picked(), "chosen")
        return [self.hint, self.place, self.table]

    def watches(self) -> bool:
        return any(not record.is_over for record in self.records)

    def watch(self, run_ids: Sequence[str]) -> None:
        """Show these runs."""
        self.wanted = list(run_ids)[:AT_ONCE]
        self.show()

    def read(self) -> None:
        self.records = self.panel.read_runs(None, limit=LISTED)
        there = [record.id for record in self.records]
        if self.wanted is None:
            active = [record.id for record in self.records if not record.is_over]
            self.wanted = (active or there[:1])[:AT_ONCE]
        self.table.show([_row(record) for record in self.records])
        self.table.chosen = [run_id for run_id in self.wanted if run_id in there]
        self._follow()

    def _picked(self) -> None:
        chosen = list(self.table.chosen)[:AT_ONCE]
        if self.wanted is not None and chosen != self.wanted:
            self.wanted = chosen
            self.job.start("", self._follow)

    def _follow(self) -> None:
        """Make the charts of the runs that are wanted; close those that are no longer."""
        calls = {run_id: BENCH.run(run_id).live(baseline=True) for run_id in self.wanted or ()}
        for run_id, call in calls.items():
            if run_id not in self.views:
                self.views[run_id] = call.perform(self.bench)
        shown = [self.views[run_id] for run_id in calls]
        if list(self.place.children) != shown:
            self.place.children = shown
        for run_id in [each for each in self.views if each not in calls]:
            self.views.pop(run_id).close()
        if calls:
            self.write(*calls.values())
        nothing = "Pick a run below." if self.records else NO_RUNS
        self.hint.value = "" if calls else html.panel_line("hint", nothing)

    def close(self) -> None:
        for view in self.views.values():
            view.close()
        super().close()


def _row(run: LoadTestRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": html.printable(run.name),
        "status": run.status.value,
        "looks": {"status": run.status.value},
        "started": [short_time(run.started_at), run.started_at or run.created_at],
        "users": [f"{run.target_users:,}", run.target_users],
    }
