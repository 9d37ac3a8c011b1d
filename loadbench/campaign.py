"""A campaign: interleaved repeats of two revisions or targets, until the answer is narrow enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from loadbench import html
from loadbench.analysis.columns import frame, percentile_column
from loadbench.analysis.paired import MIN_PAIRS, PairedEffect, paired_effect
from loadbench.analysis.windows import STEADY
from loadbench.batch import Batch
from loadbench.comparison import Comparison, compare
from loadbench.errors import InvalidInput, one_of
from loadbench.load_test_run import Run
from loadbench.model import LoadTest, LoadTestRun, duration_sec
from loadbench.run_pool import RunPool
from loadbench.sealing import seals
from loadbench.trend import Figure, figures_of

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

Side = int | str | Mapping[str, Any]
ORDER = "ABBA"
_OF_A_SIDE = ("revision", "target_url", "arguments", "users", "spawn_rate", "workers")
_MAY_DIFFER = {"target_url": "target", "arguments": "arguments", "users": "users", "spawn_rate": "spawn rate"}


class Campaign(Batch):
    """Runs of A and B in the order A B B A, A B B A ...: neighbours are pairs."""

    kind = "campaign"

    def __init__(
        self,
        bench: Workbench,
        test: LoadTest,
        *,
        a: Side,
        b: Side,
        users: int | None,
        spawn_rate: float | None,
        duration: str | int | None,
        until_percent: float,
        max_runs: int,
        max_duration: str | int | None,
        endpoint: str,
        percentile: float,
        name: str,
    ) -> None:
        self.sides = {"A": _side(a, "a"), "B": _side(b, "b")}
        if self.sides["A"] == self.sides["B"]:
            raise InvalidInput("a and b must differ, such as a=1, b=2 for two revisions", field="b")
        if isinstance(max_runs, bool) or not isinstance(max_runs, int) or max_runs < 4 or max_runs % 4:
            raise InvalidInput(f"max_runs must be 4, 8, 12, ...: blocks of A B B A; not {max_runs!r}", field="max_runs")
        if not 0 < until_percent < 1000:
            raise InvalidInput(f"until_percent must be above 0; not {until_percent!r}", field="until_percent")
        common = {"users": users, "spawn_rate": spawn_rate}
        self._common = {key: value for key, value in common.items() if value is not None}
        self._duration_sec = test.default_duration_sec if duration is None else duration_sec(duration)
        self._budget_s = None if max_duration is None else duration_sec(max_duration)
        self.until_percent, self.max_runs, self.endpoint, self.name = until_percent, max_runs, endpoint, name
        self._figure = Figure.of(percentile, None)
        self._column = percentile_column(percentile)
        super().__init__(
            bench, test, {"sides": self.sides, "load": self._common, "s": self._duration_sec, "name": name}
        )

    def __repr__(self) -> str:
        effect, runs = self.effect(), len(self._finished(self._records()))
        told = f"{self._figure.name} of {html.printable(self.endpoint)}: B {effect} against A"
        sides = f"A {_words(self.sides['A'])}, B {_words(self.sides['B'])}"
        number = f"{effect.pairs} pair{'' if effect.pairs == 1 else 's'}, {runs} run{'' if runs == 1 else 's'}"
        return f"{told}; {number}; {self._state(effect, runs)} ({sides})"

    def _repr_html_(self) -> str:
        return html.finding_card(repr(self), self.pairs(), title=self.name or f"{self.test.name}: campaign")

    def effect(self) -> PairedEffect:
        """Say by how much B differs from A, from the pairs that are there: free of slow drift."""
        pairs = self.pairs()
        return paired_effect(pairs["a_ms"].to_numpy(), pairs["b_ms"].to_numpy())

    def pairs(self) -> pd.DataFrame:
        """Give a row per pair of neighbouring runs.

        Returns
        -------
        DataFrame
            Indexed by pair: run_a, run_b, a_ms, b_ms (the percentile, in the steady window), effect_percent.
        """
        found = self._finished(self._records())
        values = self._values(list(found.values()))
        rows = []
        for number in range(self.max_runs // 2):
            two = {place[-1]: found.get(place) for place in (_place(2 * number), _place(2 * number + 1))}
            if all(run is not None and run.id in values for run in two.values()):
                rows.append((number + 1, two["A"].id, two["B"].id, values[two["A"].id], values[two["B"].id]))
        pair, run_a, run_b, a_ms, b_ms = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        effects = [100 * (after / before - 1) for before, after in zip(a_ms, b_ms, strict=True)]
        data = {"pair": pair, "run_a": run_a, "run_b": run_b, "a_ms": a_ms, "b_ms": b_ms, "effect_percent": effects}
        return frame(data).set_index("pair")

    def pools(self) -> dict[str, RunPool]:
        """Give the finished runs of each side as a pool, newest first."""
        found = self._finished(self._records())
        return {
            side: RunPool(
                [Run(run, self._bench) for place, run in reversed(found.items()) if place.endswith(side)],
                label=f"{side} ({_words(parameters)})",
            )
            for side, parameters in self.sides.items()
        }

    def comparison(self) -> Comparison:
        """Compare the runs of B with those of A as two pools: verdicts, table, charts, report."""
        pools = self.pools()
        return compare(pools["B"], reference=pools["A"], allow_different=self._differ() or False)

    def _differ(self) -> tuple[str, ...]:
        a, b = self.sides["A"], self.sides["B"]
        return tuple(aspect for key, aspect in _MAY_DIFFER.items() if a.get(key) != b.get(key))

    def _planned(self) -> int:
        return self.max_runs

    def _next(self, records: list[LoadTestRun]) -> dict[str, Any] | None:
        found = self._finished(records)
        # Only whole blocks are looked at, so that a drift is in no answer.
        if len(found) % 4 == 0 and self._is_narrow():
            return None
        spent_s = sum((run.finished_at - run.created_at) / 1000 for run in records if run.finished_at)
        if self._budget_s is not None and spent_s + self._duration_sec > self._budget_s:
            return None
        places = [_place(number) for number in range(self.max_runs)]
        place = next((place for place in places if place not in found), None)
        if place is None:
            return None
        side = place[-1]
        chosen = self._common | self.sides[side]
        return {
            **chosen,
            "duration_sec": self._duration_sec,
            "name": f"{self.name or self.test.name} {side}",
            "metadata": {"place": place},
        }

    def _is_narrow(self) -> bool:
        effect = self.effect()
        return effect.pairs >= MIN_PAIRS and effect.half_width <= self.until_percent

    def _state(self, effect: PairedEffect, runs: int) -> str:
        wanted = f"{self.until_percent:g} %"
        if effect.pairs >= MIN_PAIRS and effect.half_width <= self.until_percent:
            return f"known within {wanted}"
        if runs >= self.max_runs:
            wide = "" if math.isnan(effect.half_width) else f": within {effect.half_width:.0f} %, not {wanted}"
            return f"all {self.max_runs} runs are spent{wide}"
        return f"not finished: not known within {wanted} yet"

    def _values(self, runs: list[LoadTestRun]) -> dict[str, float]:
        rows = {seal.run.id: figures_of(seal, self.endpoint, self._figure, STEADY) for seal in seals(self._store, runs)}
        return {run_id: row[0] for run_id, row in rows.items() if row is not None and row[0] > 0}


def _place(number: int) -> str:
    return f"run {number + 1} {ORDER[number % 4]}"


def _side(given: Side, name: str) -> dict[str, Any]:
    """Read a side: a revision's number, a target's URL, or parameters of a start."""
    if isinstance(given, int) and not isinstance(given, bool):
        return {"revision": given}
    if isinstance(given, str):
        return {"target_url": given}
    if not isinstance(given, Mapping) or not given:
        raise InvalidInput(
            f"{name} must be a revision, a target URL or a mapping of parameters; not {given!r}", field=name
        )
    for key in given:
        if key not in _OF_A_SIDE:
            raise one_of(f"a parameter in {name}", key, _OF_A_SIDE)
    return dict(given)


def _words(side: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_url', '')} {html.shown_url(value) if name == 'target_url' else html.printable(str(value))}"
        for name, value in side.items()
    )
