"""The handle of a schedule: when it fires, what came of it, on, off, and gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from loadbench import cron, html, schedules
from loadbench.analysis import frames
from loadbench.model import Schedule, now_ms

if TYPE_CHECKING:
    from loadbench.workbench import Workbench


class ScheduledTest:
    """Recurring runs or reports of a test. `loadbench serve` keeps it: this notebook may be closed."""

    def __init__(self, record: Schedule, bench: Workbench) -> None:
        self.record = record
        self._bench = bench
        self._store = bench._backend.store

    def __repr__(self) -> str:
        return f"<Schedule {html.printable(schedules.line(self.record))}>"

    @property
    def name(self) -> str:
        return self.record.name

    def upcoming(self, count: int = cron.UPCOMING) -> pd.DataFrame:
        """List the next times at which it fires, as if it were on: due_at, and local_time in its own time zone."""
        times = cron.upcoming(self.record.cron, self.record.timezone, now_ms(), count)
        return frames.due_times(times, [cron.shown(moment, self.record.timezone) for moment in times])

    def history(self, *, limit: int = 50) -> pd.DataFrame:
        """List what came of its firings, the newest first."""
        return frames.firings(self._store.schedules.history(self.record.id, limit=limit))

    def refresh(self) -> ScheduledTest:
        """Read its record anew."""
        self.record = self._store.schedules.get(self.record.id)
        return self

    def enable(self) -> ScheduledTest:
        """Switch it on. It fires at its next time, not for what it missed."""
        self.record = schedules.set_enabled(self._store, self.refresh().record, True, by=self._bench.by)
        return self

    def disable(self) -> ScheduledTest:
        """Switch it off. A run that goes on is not stopped."""
        self.record = schedules.set_enabled(self._store, self.refresh().record, False, by=self._bench.by)
        return self

    def run_now(self) -> ScheduledTest:
        """Ask for a firing now, also of one that is off; a running `loadbench serve` does it within seconds."""
        self.record = schedules.ask(self._store, self.record, by=self._bench.by)
        return self

    def remove(self) -> None:
        """Remove it with its history. Runs and reports stay."""
        self._store.schedules.delete(self.record.id)
