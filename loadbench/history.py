"""The history of a test: when a figure of it changed, what changed with it, and what people say of that."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import html, plots
from loadbench.analysis.columns import frame, to_timestamps
from loadbench.analysis.history import MIN_RUNS
from loadbench.errors import InvalidInput
from loadbench.model import ChangeMark, LoadTest
from loadbench.store import Store
from loadbench.trend import TestTrend, read_trend


class History:
    """One figure of a test over its comparable runs, oldest first, and the changes in it."""

    def __init__(self, store: Store, test: LoadTest, *, by: str = "unknown", **how: Any) -> None:
        self.test = test
        self._store = store
        self._by = by
        self._how = how
        self._trend: TestTrend = read_trend(store, test, **how)

    def __repr__(self) -> str:
        found = self._trend
        head = f"{found.figure.name} of {html.printable(found.endpoint)} over {_runs(len(found.runs))}"
        if not found.found.changes:
            few = f"too few to tell a change (at least {MIN_RUNS} are needed)" if found.is_short else "no change"
            return f"{head}: {few}{self._others()}"
        last = found.found.changes[-1]
        run = found.runs[last.index]
        revision = "" if run.revision_number is None else f" (revision {run.revision_number})"
        number = len(found.found.changes)
        which = "1 change," if number == 1 else f"{number} changes, the last"
        unit = "%" if not found.figure.is_ratio else "percentage points"
        what = f"{found.name_of(last)} " if found.name_of(last) != found.figure.name else ""
        when = "" if run.started_at is None else f" on {html.show(run.started_at, 'time')[:10]}"
        effect = f"{what}{last.effect.change:+.1f} {unit}"
        return f"{head}: {which} {effect} at {html.short_id(run.id)}{revision}{when}{self._others()}"

    def _repr_html_(self) -> str:
        return html.finding_card(repr(self), self.changes().drop(columns="unit"), title=self.test.name)

    def _others(self) -> str:
        return f"; {_runs(len(self._trend.left_out))} left out" if self._trend.left_out else ""

    def to_frame(self) -> pd.DataFrame:
        """Give a row per run, oldest first.

        Returns
        -------
        DataFrame
            Indexed by run_id: started_at, revision, the figure (`p95_ms`; all percentiles of a distribution), segment,
            level, is_change, is_outlier, validity.
        """
        return self._trend.to_frame()

    def changes(self) -> pd.DataFrame:
        """Say when it changed, by how much, and what changed with it; without those that were dismissed.

        Returns
        -------
        DataFrame
            Indexed by run_id, the first run after the change: started_at, revision, figure, effect_percent with
            low_percent and high_percent (95 %), unit, p, state, what_changed, note.
        """
        return self._trend.changes()

    def left_out(self) -> pd.DataFrame:
        """List the runs that are not in the series, indexed by run_id: started_at, revision, because."""
        return self._trend.excluded()

    def plot(self) -> go.Figure:
        """Draw the figure over the runs, with the level of each segment and the changes."""
        found, table = self._trend, self.to_frame()
        shown = found.figure.shown
        table = table.assign(
            segment_ms=table["level"], valid=table["validity"].str.startswith("VALID"), name=table.index
        )
        changes = self.changes().assign(
            position=[point.index for point in found.found.changes],
            change_percent=lambda table: table["effect_percent"],
        )
        return plots.history(
            table, changes, column=shown, title=f"{self.test.name}: {found.figure.name} of {found.endpoint}",
            subtitle=repr(self),
        )  # fmt: skip

    def confirm(self, run_id: str, note: str = "") -> History:
        """Say that the figure did change at this run: the series begins anew there, in every later history too."""
        return self._mark(run_id, "confirmed", note)

    def dismiss(self, run_id: str, note: str = "") -> History:
        """Say that this is no change: it is not reported again, also if later runs shift it by a run or two."""
        return self._mark(run_id, "dismissed", note)

    def take_back(self, run_id: str) -> History:
        """Forget what was said of this run."""
        found = self._trend
        self._store.change_marks.take_back(self.test.id, found.endpoint, found.figure.name, self._id(run_id))
        return self.refresh()

    def marks(self) -> pd.DataFrame:
        """List what people said of runs of this series, indexed by run_id: state, note, created_at, created_by."""
        said = self._trend.marks
        return frame(
            {
                "run_id": [mark.run_id for mark in said],
                "state": [mark.state for mark in said],
                "note": [mark.note for mark in said],
                "created_at": to_timestamps([mark.marked_at for mark in said]),
                "created_by": [mark.marked_by for mark in said],
            }
        ).set_index("run_id")

    def refresh(self) -> History:
        """Read runs and marks anew."""
        self._trend = read_trend(self._store, self.test, **self._how)
        return self

    def _mark(self, run_id: str, state: str, note: str) -> History:
        found = self._trend
        mark = ChangeMark.build(
            load_test_id=self.test.id, endpoint=found.endpoint, figure=found.figure.name, run_id=self._id(run_id),
            state=state, note=note, marked_by=self._by,
        )  # fmt: skip
        self._store.change_marks.put(mark)
        return self.refresh()

    def _id(self, run_id: str) -> str:
        """Find a run of the series by its id or the beginning of it."""
        start = run_id.removesuffix("…")
        ids = [run.id for run in self._trend.runs]
        fits = [known for known in ids if start and known.startswith((start, f"run-{start}"))]
        if len(fits) != 1:
            changes = ", ".join(self.changes().index) or "none"
            what = "could be several runs" if fits else "is no run"
            raise InvalidInput(f"{run_id!r} {what} of this history; its changes are at: {changes}", field="run_id")
        if fits[0] == ids[0]:
            raise InvalidInput(
                f"{fits[0]} is the first run of this history: there is nothing before it", field="run_id"
            )
        return fits[0]


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"
