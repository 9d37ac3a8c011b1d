"""A sweep: runs of a test at rising numbers of users, to find how far it scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import html
from loadbench.analysis.scalability import Capacity, ScalabilityLaw
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.windows import STEADY
from loadbench.batch import Batch
from loadbench.errors import InvalidInput
from loadbench.model import LoadTest, LoadTestRun, duration_sec
from loadbench.scalability import Scalability, read_limit
from loadbench.sealing import seal
from loadbench.trend import figures_of

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

SPAWN_SHARE = 0.1
"""The part of a run in which its users are started, unless the test starts them faster."""


class Sweep(Batch):
    """A run at each number of users, the fewest first; with `until`, it ends at the first level that breaks it."""

    kind = "sweep"

    def __init__(
        self,
        bench: Workbench,
        test: LoadTest,
        *,
        users: Sequence[int],
        duration: str | int | None,
        spawn_rate: float | None,
        until: str | None,
        repeats: int,
        revision: int | None,
        target_url: str | None,
        arguments: Mapping[str, Any] | None,
        think_s: float | None,
        rate_per_user: float | None,
        name: str,
    ) -> None:
        levels = list(users)
        whole = all(isinstance(level, int) and not isinstance(level, bool) and level >= 1 for level in levels)
        if not levels or not whole or levels != sorted(set(levels)):
            raise InvalidInput(f"users must be rising whole numbers such as [5, 10, 20]; not {levels!r}", field="users")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= 20:
            raise InvalidInput(f"repeats must be in 1-20; not {repeats!r}", field="repeats")
        self.users, self.repeats, self.name, self.until = levels, repeats, name, until
        self._limit = None if until is None else read_limit(until)
        self._duration_sec = test.default_duration_sec if duration is None else duration_sec(duration)
        self._spawn_rate = spawn_rate
        given = {"revision": revision, "target_url": target_url, "arguments": dict(arguments) if arguments else None}
        self._parameters = {key: value for key, value in given.items() if value is not None}
        self._paced = {"think_s": think_s, "rate_per_user": rate_per_user}
        load = {"s": self._duration_sec, "spawn": spawn_rate, **self._parameters}
        super().__init__(bench, test, {"load": load, "name": name})

    def __repr__(self) -> str:
        found = self._finished(self._records())
        state = "finished" if self._next(self._records()) is None else "not finished"
        return f"<Sweep {state}, {len(found)} of {self._planned()} runs: {self.scalability()!r}>"

    def _repr_html_(self) -> str:
        return html.finding_card(repr(self), self.scalability().shown(), title=self.name or f"{self.test.name}: sweep")

    def scalability(self) -> Scalability:
        """Give what the finished runs say."""
        found = list(self._finished(self._records()).values())
        return Scalability(self._store, found, name=self.name or self.test.name, **self._paced)

    def to_frame(self) -> pd.DataFrame:
        """Give a row per run: see `Scalability.to_frame`."""
        return self.scalability().to_frame()

    def law(self) -> ScalabilityLaw:
        """Fit the Universal Scalability Law; its text says where the knee is."""
        return self.scalability().law()

    def users_within(self, limit: str) -> Capacity:
        """Say how many users keep a limit, such as `p95 < 300ms`: see `Scalability.users_within`."""
        return self.scalability().users_within(limit)

    def plot(self, limit: str | None = None) -> go.Figure:
        """Draw throughput over users with the law; with a limit, the response time: see `Scalability.plot`."""
        return self.scalability().plot(limit)

    def _planned(self) -> int:
        return len(self.users) * self.repeats

    def _records(self) -> list[LoadTestRun]:
        wanted = {_place(level, repeat) for level in self.users for repeat in range(self.repeats)}
        return [run for run in super()._records() if run.metadata["place"] in wanted]

    def _next(self, records: list[LoadTestRun]) -> dict[str, Any] | None:
        found = self._finished(records)
        for repeat in range(self.repeats):
            for level in self.users:
                run = found.get(_place(level, repeat))
                if run is None:
                    return self._start(level, repeat)
                if self._is_broken(run):
                    break
        return None

    def _start(self, level: int, repeat: int) -> dict[str, Any]:
        rate = self._spawn_rate
        if rate is None:
            rate = max(self.test.default_spawn_rate, level / (SPAWN_SHARE * self._duration_sec))
        return {
            **self._parameters,
            "users": level,
            "spawn_rate": float(rate),
            "duration_sec": self._duration_sec,
            "name": f"{self.name or self.test.name}, {level} users",
            "metadata": {"place": _place(level, repeat)},
        }

    def _is_broken(self, run: LoadTestRun) -> bool:
        if self._limit is None:
            return False
        gate, figure = self._limit
        row = figures_of(seal(self._store, run), gate.endpoint or AGGREGATED, figure, STEADY)
        return row is not None and row[0] > gate.limit


def _place(level: int, repeat: int) -> str:
    return f"{level} users" if repeat == 0 else f"{level} users, repeat {repeat + 1}"
