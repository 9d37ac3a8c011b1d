"""The handle of a run: watch it, await it, stop it, read its figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import exports, html, plots, reports
from loadbench.analysis import frames
from loadbench.analysis.band import Band, band
from loadbench.analysis.gates import table
from loadbench.errors import Conflict, RunFailed, one_of
from loadbench.gatekeeper import GateTable, judge
from loadbench.live import LiveView, follow
from loadbench.model import (
    LoadTestRun,
    RunStatus,
)
from loadbench.progress import Progress
from loadbench.run_figures import WindowLike
from loadbench.run_plots import RunPlots

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

POLL_S = 0.25
BAND_RUNS = 10
CHARTS = {
    "timeline": "plot", "heatmap": "heatmap", "percentiles": "percentiles_over_time", "distribution": "distribution",
    "load": "response_time_against_load", "errors": "errors_over_time",
}  # fmt: skip
"""The charts that can be exported, and the methods that draw them."""


class Run(RunPlots):
    """One execution of a test: watch it, await it, stop it, read its figures."""

    def __init__(self, record: LoadTestRun, bench: Workbench) -> None:
        self.record = record
        self._bench = bench
        self._store = bench._backend.store

    def __repr__(self) -> str:
        return html.run_line(self.record, self._validity)

    def _repr_html_(self) -> str:
        return html.run_card(self.record, validity=self._validity)

    def __await__(self) -> Generator[Any, None, Run]:
        """Wait for the end with a progress bar; the kernel stays responsive. RunFailed if the run fails."""
        return self._until_over().__await__()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def status(self) -> RunStatus:
        """The status as this handle saw it last; `refresh` looks again."""
        return self.record.status

    def refresh(self) -> Run:
        """Read the run's record anew."""
        self.record = self._store.runs.get(self.record.id)
        return self

    def wait(self) -> Run:
        """Wait for the end with a progress bar, holding the kernel: buttons of widgets that need it wait as well.

        In a notebook, `await run` is better. An interrupt ends the waiting, never the run. RunFailed if the run fails.
        """
        with Progress(self.record) as progress:
            while not self.refresh().record.is_over:
                progress.show(self.record)
                time.sleep(POLL_S)
            progress.show(self.record)
        return self._judged()

    async def _until_over(self) -> Run:
        with Progress(self.record) as progress:
            while not (await asyncio.to_thread(self.refresh)).record.is_over:
                progress.show(self.record)
                await asyncio.sleep(POLL_S)
            progress.show(self.record)
        return self._judged()

    def _judged(self) -> Run:
        if self.record.status is RunStatus.FAILED:
            raise RunFailed(f"{self.record.id} failed: {self.record.error or self.record.stop_reason}")
        return self

    def stop(self) -> Run:
        """Ask the run to stop: users finish their task, the last figures arrive, then it is Stopped. Returns at once.

        Raises
        ------
        Conflict
            If it is over already.
        """
        self.record = self._bench._backend.control.stop_run(self.record.id)
        return self

    def annotate(
        self,
        *,
        name: str | None = None,
        notes: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: dict[str, str | int | float | bool] | None = None,
    ) -> Run:
        """Write on the run, also while it goes on: what is left out stays as it is."""
        given = {"name": name, "notes": notes, "tags": None if tags is None else tuple(tags), "metadata": metadata}
        fields = {field: value for field, value in given.items() if value is not None}
        self.record = self._bench._catalogue.update_run(self.record.id, by=self._bench.by, **fields)
        return self

    def delete(self) -> None:
        """Delete the run with all its figures; not while it goes on, nor while it is a baseline."""
        self._bench._catalogue.delete_run(self.record.id)

    def live(self, *, baseline: bool = False) -> LiveView:
        """Show Plotly charts that follow the run, from its first interval on, whenever they are opened.

        Parameters
        ----------
        baseline : bool
            Draw, behind the lines, where the runs of its test's baseline lay as long after their start.
        """
        self.refresh()
        view = LiveView(
            self._documents(),
            run=self.record,
            stop=self._stop_if_active,
            band=self._baseline_band() if baseline else None,
            gates=self.gates,
        )
        runs, ledger, receiver = self._store.runs, self._store.ledger, self._bench._backend.receiver
        follow(
            view,
            read_after=lambda seen: ledger.documents(self.id, after=seen),
            subscribe=lambda callback: receiver.subscribe(self.id, callback),
            read_run=lambda: runs.get(self.id),
        )
        return view

    def _baseline_band(self) -> Band | None:
        if self.record.load_test_id is None:
            return None
        runs = [run for run in self._bench._catalogue.baseline(self.record.load_test_id) if run.purged_at is None]
        others = [run for run in runs if run.id != self.id][:BAND_RUNS]
        return band([self._bench.run(run.id).timeline((95,)) for run in others])

    def _stop_if_active(self) -> None:
        try:
            self.stop()
        except Conflict:
            self.refresh()

    def plot(self, *, window: WindowLike = None) -> go.Figure:
        """Draw the run so far as one static Plotly figure: users, requests/s, errors/s, percentiles; windows shaded."""
        seal = self._seal(windows=())
        caption = html.run_caption(self.record, self._validity)
        shown = frames.timeline(self.record, self._documents(window))
        return plots.timeline(shown, title=self.record.name, subtitle=caption, windows=seal.windows)

    def set_window(self, name: str, start_s: float, end_s: float | None = None) -> Run:
        """Name a part of the run, or say better than loadbench where its ramp, steady or drain is.

        Parameters
        ----------
        name : str
            "steady", or another: small letters, digits, - and _.
        start_s, end_s : float
            Seconds from the start of the run: whole intervals that end within (start_s, end_s]; to the end if left out.
        """
        catalogue, by = self._bench._catalogue, self._bench.by
        self.record = catalogue.set_window(self.id, name, start_s, end_s, by=by)
        self._validity = None
        return self

    def remove_window(self, name: str) -> Run:
        """Forget a window that a person has set; ramp, steady and drain are found again then."""
        self.record = self._bench._catalogue.remove_window(self.id, name, by=self._bench.by)
        self._validity = None
        return self

    def gates(self, *gates: str, window: str | None = None) -> pd.DataFrame:
        """Judge the run by gates, one row each; while it goes on, by what there is of it so far.

        Parameters
        ----------
        *gates : str
            Such as `p95 < 300ms`; left out, those that the run was started with.
        window : str, optional
            The window of the run for gates that name none; left out, the steady one.

        Returns
        -------
        DataFrame
            gate, passed (missing if it could not be judged), value, limit, unit, because, at_s (when it was broken
            first), window, endpoints.
        """
        return GateTable(table(judge(self._store, self.refresh().record, gates or None, window=window)))

    def report(
        self, path: str | Path | None = None, *, window: str = "steady", notebook: str | Path | None = None
    ) -> Path:
        """Write the report of this run: one HTML file that opens anywhere, offline, and beside it the notebook.

        Parameters
        ----------
        path : str or Path, optional
            The HTML file; left out, it is below `reports/` in the working directory.
        window : str
            The window whose figures are shown: "steady", "whole", or another of `windows()`.
        notebook : str or Path, optional
            A notebook of yours to execute in place of `loadbench/templates/report_run.ipynb`.
        """
        return reports.run_report(self._store, self.refresh().record, path, window=window, notebook=notebook)

    def export(self, path: str | Path, table: str = "timeline") -> Path:
        """Write a table as CSV or Parquet, or a chart as one offline HTML file, by the suffix of the file.

        Parameters
        ----------
        path : str or Path
            `.csv` for spreadsheets, `.parquet` with the units of the columns as metadata, `.html` for a chart.
        table : str
            Of `.csv` and `.parquet`: timeline, summary, endpoints (per interval), failures or histograms. Of `.html`:
            timeline, heatmap, percentiles, distribution, load or errors.

        Raises
        ------
        InvalidInput
            If there is no such table, chart or suffix, or the file cannot be written.
        NotFound
            If the intervals of the run were deleted by retention.
        """
        self.refresh()
        if Path(path).suffix.lower() in exports.CHART_SUFFIXES:
            if table not in CHARTS:
                raise one_of("chart", table, CHARTS)
            return exports.export_chart(getattr(self, CHARTS[table])(), path)
        return exports.export(self.record, self._documents(), path, table=table)
