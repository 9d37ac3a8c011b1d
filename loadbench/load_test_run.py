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
from loadbench.analysis.summary import quantiles, summary
from loadbench.errors import Conflict, NotFound, RunFailed
from loadbench.live import LiveView, follow
from loadbench.model import (
    LoadTestRun,
    RunStatus,
)
from loadbench.progress import Progress

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

POLL_S = 0.25


class Run:
    """One execution of a test: watch it, await it, stop it, read its figures."""

    def __init__(self, record: LoadTestRun, bench: Workbench) -> None:
        self.record = record
        self._bench = bench
        self._store = bench._backend.store

    def __repr__(self) -> str:
        return html.run_line(self.record)

    def _repr_html_(self) -> str:
        return html.run_card(self.record)

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

    def live(self) -> LiveView:
        """Show Plotly charts that follow the run, from its first interval on, whenever they are opened."""
        self.refresh()
        view = LiveView(self._documents(), run=self.record, stop=self._stop_if_active)
        runs, ledger, receiver = self._store.runs, self._store.ledger, self._bench._backend.receiver
        follow(
            view,
            read_after=lambda seen: ledger.documents(self.id, after=seen),
            subscribe=lambda callback: receiver.subscribe(self.id, callback),
            read_run=lambda: runs.get(self.id),
        )
        return view

    def _stop_if_active(self) -> None:
        try:
            self.stop()
        except Conflict:
            self.refresh()

    def plot(self) -> go.Figure:
        """Draw the run so far as one static Plotly figure: users, requests/s, errors/s, percentiles."""
        self.refresh()
        return plots.timeline(
            frames.timeline(self.record, self._documents()),
            title=self.record.name,
            subtitle=html.run_caption(self.record),
        )

    def summary(
        self,
        percentiles: Sequence[float] = (50, 95, 99),
        *,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> pd.DataFrame:
        """Give one row per endpoint and a total, of the whole run or of a window.

        Parameters
        ----------
        percentiles : sequence of float
            Any, in [0, 100]; each is computed from merged histograms and within 0.5 % of the exact one.
        start_s, end_s : float, optional
            The window, in seconds since the run began.
        """
        self.refresh()
        return summary(self.record, self._documents(), percentiles=percentiles, start_s=start_s, end_s=end_s)

    def quantile(self, percentile: float) -> float:
        """Give one percentile of all response times of the run, in milliseconds."""
        self.refresh()
        return float(quantiles(self.record, self._documents(), percentile).iloc[0])

    def timeline(self) -> pd.DataFrame:
        """Give one row per interval: users, rates, percentiles."""
        self.refresh()
        return frames.timeline(self.record, self._documents())

    def endpoints(self, percentiles: Sequence[float] = (50, 95, 99)) -> pd.DataFrame:
        """Give one row per interval and endpoint."""
        self.refresh()
        return frames.endpoints(self.record, self._documents(), percentiles=percentiles)

    def failures(self) -> pd.DataFrame:
        """Give one row per endpoint and error message, with its count."""
        self.refresh()
        return frames.failures(self.record, self._documents())

    def report(self, path: str | Path | None = None) -> Path:
        """Write one HTML file that opens anywhere, offline. Left out, `path` is below `reports/`."""
        return reports.report(self._store, self.refresh().record, path)

    def export(self, path: str | Path, table: str = "timeline") -> Path:
        """Write a table as a CSV file for spreadsheets: timeline, summary, endpoints or failures."""
        self.refresh()
        return exports.export(self.record, self._documents(), path, table=table)

    def _documents(self) -> list[dict]:
        if self.record.purged_at is not None:
            raise NotFound(
                f"the intervals of {self.id} were deleted {html.show(self.record.purged_at, 'time')} as too old: "
                "only its totals are left, in run.record.last_metrics"
            )
        return self._store.ledger.documents(self.record.id)
