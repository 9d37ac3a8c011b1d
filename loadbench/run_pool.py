"""A pool: runs that are taken together, such as the baseline of a test or all runs of a revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pandas as pd

from loadbench import html
from loadbench.analysis import frames
from loadbench.load_test_run import Run

SHOWN_IDS = 3


class RunPool(Sequence[Run]):
    """An ordered set of runs, newest first. What it shows is what the runs said when it was made.

    A pool is what verdicts are made of: one run against one run can show differences, but not how sure they are.
    """

    def __init__(self, runs: Sequence[Run], *, label: str = "pool") -> None:
        self.label = label
        self._runs = tuple(runs)

    def __repr__(self) -> str:
        revisions = sorted({run.record.revision_number for run in self._runs if run.record.revision_number is not None})
        of = f" of revision {', '.join(map(str, revisions))}" if revisions else ""
        some = ", ".join(html.short_id(run.id) for run in self._runs[:SHOWN_IDS])
        rest = f" and {len(self._runs) - SHOWN_IDS} more" if len(self._runs) > SHOWN_IDS else ""
        number = f"{len(self._runs)} run" + ("" if len(self._runs) == 1 else "s")
        return f"<RunPool {html.printable(self.label)}: {number}{of}{': ' if some else ''}{some}{rest}>"

    def _repr_html_(self) -> str:
        return html.pool_card(self.label, [run.record for run in self._runs])

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> RunPool: ...

    def __getitem__(self, index: int | slice) -> Run | RunPool:
        if isinstance(index, slice):
            return RunPool(self._runs[index], label=self.label)
        return self._runs[index]

    @property
    def ids(self) -> list[str]:
        """The ids of its runs."""
        return [run.id for run in self._runs]

    def to_frame(self) -> pd.DataFrame:
        """Give one row per run, indexed by run_id."""
        return frames.runs([run.record for run in self._runs])
