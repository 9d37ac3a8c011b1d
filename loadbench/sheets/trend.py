"""Sheets of a period of a test: its runs, how its gates did, what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from loadbench import html
from loadbench.sheets.run import GateCounts, gate_counts
from loadbench.sheets.table import Sheet, Table, render, table

if TYPE_CHECKING:
    from loadbench.history import History
    from loadbench.load_test import Test
    from loadbench.load_test_run import Run


@dataclass(frozen=True)
class Period:
    """The runs of a test that were started in some days, the oldest first."""

    test: Test
    runs: Sequence[Run]
    since: datetime
    until: datetime
    window: str

    def __repr__(self) -> str:
        return f"<Period {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}: {len(self.runs)} runs of {self.test.name!r}>"

    def to_frame(self) -> pd.DataFrame:
        """Give one row per run: what it measured, whether it can be trusted, how its gates did."""
        return pd.DataFrame([self._row(run) for run in self.runs])

    def _row(self, run: Run) -> dict[str, object]:
        record = run.record
        total = _total(run, self.window)
        counts = gate_counts(run, window=self.window) if total is not None else GateCounts()
        return {
            "run_id": run.id,
            "started_at": pd.Timestamp(record.started_at or record.created_at, unit="ms", tz="UTC"),
            "revision": record.revision_number,
            "status": record.status.value,
            "validity": run.validity(self.window).level if total is not None else "INVALID",
            "requests": None if total is None else int(total["requests"]),
            "failure_ratio": None if total is None else float(total["failure_ratio"]),
            "p50_ms": None if total is None else float(total["p50_ms"]),
            "p95_ms": None if total is None else float(total["p95_ms"]),
            "gates": f"{counts.passed} of {counts.total}" if counts.total else html.MISSING,
            "gates_passed": counts.passed,
            "gates_judged": counts.passed + counts.broken,
        }

    def table(self) -> Table:
        """List the runs."""
        found = self.to_frame()
        columns = ["started_at", "run_id", "revision", "status", "validity", "requests", "failure_ratio", "p50_ms",
                   "p95_ms", "gates"]  # fmt: skip
        return table(found, columns) if len(found) else table(pd.DataFrame(columns=columns))

    def gates(self) -> Table:
        """Say how often each gate passed."""
        counted: dict[str, list[bool | None]] = {}
        for run in self.runs:
            if run.record.gates and _total(run, self.window) is not None:
                found = run.gates(window=self.window)
                for gate, passed in zip(found["gate"], found["passed"], strict=True):
                    counted.setdefault(gate, []).append(None if html.is_missing(passed) else bool(passed))
        rows = [
            {
                "gate": gate,
                "runs": len(verdicts),
                "passed": verdicts.count(True),
                "broken": verdicts.count(False),
                "pass rate": html.show(verdicts.count(True) / max(1, len(verdicts) - verdicts.count(None)), "ratio"),
            }
            for gate, verdicts in counted.items()
        ]
        columns = ["gate", "runs", "passed", "broken", "pass rate"]
        return table(pd.DataFrame(rows, columns=columns), numbers=columns[1:])

    def revisions(self) -> Table:
        """List the revisions of the script that were made in these days."""
        found = self.test.revisions().reset_index()
        inside = found["created_at"].between(pd.Timestamp(self.since), pd.Timestamp(self.until))
        return table(
            found[inside], [name for name in ("revision", "note", "created_by", "created_at") if name in found]
        )


def period(test: Test, *, days: int = 7, until: str | None = None, window: str = "steady") -> Period:
    """Give the runs of the last days.

    Parameters
    ----------
    days : int
        How many, at least 1.
    until : str, optional
        The end, in ISO 8601; left out, now.
    """
    end = datetime.now(UTC) if until is None else datetime.fromisoformat(until)
    begin = end - timedelta(days=days)
    return Period(test, test.runs_between(begin, end), begin, end, window)


def changes(history: History) -> Table:
    """List where the figure changed, the newest first, and what else changed there."""
    units = {"percent": "%"}
    rows = [
        {
            "since run": run_id,
            "started": html.show(row["started_at"], "time"),
            "revision": html.show(row["revision"], ""),
            "change": f"{row['effect_percent']:+.1f} {units.get(row['unit'], row['unit'])}",
            "95 % interval": f"{row['low_percent']:+.1f} to {row['high_percent']:+.1f}",
            "what changed with it": row["what_changed"],
            "judged": " ".join(filter(None, [row["state"], row["note"]])),
        }
        for run_id, row in history.changes()[::-1].iterrows()
    ]
    columns = ["since run", "started", "revision", "change", "95 % interval", "what changed with it", "judged"]
    return table(pd.DataFrame(rows, columns=columns), numbers=columns[2:5])


def trend_headline(days: Period, history: History | None = None) -> Sheet:
    """Open a trend: how many runs, how many to trust, how their gates did, and what changed."""
    found = days.to_frame()
    number = len(found)
    valid = int((found["validity"] == "VALID").sum()) if number else 0
    passed, judged = (int(found[name].sum()) if number else 0 for name in ("gates_passed", "gates_judged"))
    changes = _changes_within(days, history)
    sentence = repr(history) if history is not None else "No run that can be compared."
    return Sheet(
        f"{days.test.name}: {number} runs, {valid} VALID, {passed} of {judged} gates passed. {sentence}",
        render("trend_headline.html.j2", period=days, number=number, valid=valid, passed=passed, judged=judged,
               changes=changes, sentence=sentence),
    )  # fmt: skip


def _changes_within(days: Period, history: History | None) -> int | None:
    if history is None:
        return None
    started = history.changes()["started_at"]
    return int(started.between(pd.Timestamp(days.since), pd.Timestamp(days.until)).sum())


def _total(run: Run, window: str) -> pd.Series | None:
    """Give the row Aggregated of a run's window; None if there are no figures of it."""
    from loadbench.errors import InvalidInput, NotFound

    try:
        found = run.summary(window=window)
    except (NotFound, InvalidInput):
        return None
    return found.iloc[-1] if len(found) else None
