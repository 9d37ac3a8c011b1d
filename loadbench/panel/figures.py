"""What a list tells of runs that are over besides their records: p95 and validity of the steady window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.validity import Validity
from loadbench.analysis.windows import STEADY
from loadbench.errors import NotFound
from loadbench.model import LoadTestRun
from loadbench.sealing import seal
from loadbench.store import Store
from loadbench.trend import Figure, figures_of

P95 = Figure.of(95, None)


@dataclass(frozen=True)
class Figures:
    """Of one run; None is what nobody knows: of a run that goes on, or whose intervals were deleted unread."""

    p95_ms: float | None = None
    validity: Validity | None = None


UNKNOWN = Figures()


class ReadFigures:
    """Reads the figures of runs, and again only of those whose record has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[LoadTestRun, Figures]] = {}

    def of(self, run: LoadTestRun) -> Figures:
        """Give what was read of a run, as it was then."""
        return self._known[run.id][1] if run.id in self._known else UNKNOWN

    def read(self, runs: Iterable[LoadTestRun]) -> None:
        """Read the figures of those runs that are over; forget all others."""
        over = [run for run in runs if run.is_over]
        known = self._known
        self._known = {run.id: known[run.id] for run in over if run.id in known}
        for run in over:
            if run.id not in known or known[run.id][0] != run:
                self._known[run.id] = (run, self._figures(run))

    def _figures(self, run: LoadTestRun) -> Figures:
        try:
            sealed = seal(self._store, run)
        except NotFound:
            return UNKNOWN
        values = figures_of(sealed, AGGREGATED, P95, STEADY)
        p95_ms = values[0] if values and math.isfinite(values[0]) else None
        return Figures(p95_ms, sealed.validity)
