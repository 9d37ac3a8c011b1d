"""The gatekeeper: judges stored runs by gates, one run by its own, or all runs of a test by a new one.

A gate of a whole window is read from the seals of the runs; intervals are read for those of seconds and stretches only.
A gate is of the steady window, unless it or the caller names another; one that stops a run watches all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pandas as pd

from loadbench import html
from loadbench.analysis.columns import frame, to_timestamps
from loadbench.analysis.gates import Gate, GateResult, Pool, canonical, evaluate, parse, table, written
from loadbench.analysis.intervals import FIELDS
from loadbench.analysis.windows import STEADY, WHOLE, named
from loadbench.errors import InvalidInput, NotFound
from loadbench.model import LoadTest, LoadTestRun, RunStatus, now_ms
from loadbench.sealing import Seal, seals
from loadbench.store import Store

JUDGED = (RunStatus.FINISHED, RunStatus.STOPPED)
"""The runs that a gate is tried on: one that failed says nothing about the system."""
MOST = 1000
SHOWN = 5
_UNITS_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


class GateTable(pd.DataFrame):
    """A frame of gates that a notebook shows as a card; what is made of it is a plain frame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        return gates_card(self)


@dataclass(frozen=True)
class GateTrial:
    """What would have been, had this gate been there: how each stored run stands to it, the newest first."""

    gate: Gate
    results: tuple[tuple[LoadTestRun, GateResult], ...]

    def __repr__(self) -> str:
        return f"{self.gate}: {self.verdict}"

    def __len__(self) -> int:
        return len(self.results)

    def _repr_html_(self) -> str:
        return gates_card(self.to_frame(), title=str(self.gate), verdict=self.verdict)

    @property
    def failed(self) -> list[LoadTestRun]:
        """The runs that would have failed."""
        return [run for run, result in self.results if result.passed is False]

    @property
    def unjudged(self) -> list[LoadTestRun]:
        """The runs that cannot be judged; `to_frame` says why."""
        return [run for run, result in self.results if result.passed is None]

    @property
    def verdict(self) -> str:
        """One true line: how many would have failed, which, and how many could not be judged."""
        if not self.results:
            return "there are no finished runs to try it on"
        failed = [run.id for run in self.failed]
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        which = f": {', '.join(failed[:SHOWN])}{more}" if failed else ""
        unknown = f"; {len(self.unjudged)} could not be judged" if self.unjudged else ""
        return f"would have failed {len(failed)} of {len(self.results)}{which}{unknown}"

    def to_frame(self) -> pd.DataFrame:
        """List the runs, indexed by run_id: name, revision, started_at, passed, value, limit, unit, because, at_s."""
        runs = [run for run, _ in self.results]
        judged = table([result for _, result in self.results])
        about = frame(
            {
                "run_id": [run.id for run in runs],
                "name": [run.name for run in runs],
                "revision": [run.revision_number for run in runs],
                "started_at": to_timestamps([run.started_at for run in runs]),
            }
        )
        columns = ["passed", "value", "limit", "unit", "because", "at_s"]
        return about.join(judged[columns]).set_index("run_id")


def judge(
    store: Store, run: LoadTestRun, gates: Sequence[str] | None = None, *, window: str | None = None
) -> list[GateResult]:
    """Judge one run, also while it goes on: then by what there is of it so far.

    Parameters
    ----------
    gates : sequence of str, optional
        Left out, those that it was started with.
    window : str, optional
        The window of the run for gates that name none; left out, the steady one.

    Raises
    ------
    InvalidInput
        If a gate cannot be read, or the run has no such window.
    """
    texts = run.gates if gates is None else canonical(gates)
    if window is not None and window not in (WHOLE, STEADY):
        named(_windows(store, run), window)
    results = judge_all(store, [run], [parse(text) for text in texts], window=window)[0]
    return [_known(run, result) for result in results]


def judge_all(
    store: Store, runs: Sequence[LoadTestRun], gates: Sequence[Gate], *, window: str | None = None
) -> list[list[GateResult]]:
    """Judge several runs by the same gates: for each run, a result for each gate."""
    if not gates:
        return [[] for _ in runs]
    pools = _Pools(store, window)
    waiting = _cases(store, runs, {window_of(gate, window) for gate in gates})[::-1]
    results = []
    while waiting:  # the intervals of one run are held at a time
        case = waiting.pop()
        results.append([_one(case, gate, window, pools.of(case.run, gate)) for gate in gates])
    return results


def try_gates(
    store: Store,
    test: LoadTest,
    gates: Sequence[str],
    *,
    last: int | None = None,
    since: str | None = None,
    window: str | None = None,
) -> list[GateTrial]:
    """Answer "would the stored runs of this test have passed these gates?".

    Parameters
    ----------
    gates : sequence of str
        Each is tried by itself.
    last : int, optional
        Only so many, the newest; 30 unless `since` is given.
    since : str, optional
        Only those of so long ago at most, `12h`, `30d` or `4w`, or since a day or moment, `2026-03-14` (UTC).

    Raises
    ------
    InvalidInput
        If a gate or `since` cannot be read, or `last` is not in 1-1000.
    """
    wanted = [parse(gate) for gate in gates]
    after_ms = 0 if since is None else moment_ms(since)
    last = last if last is not None else 30 if since is None else MOST
    if isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= MOST:
        raise InvalidInput(f"last must be a number of runs in 1-{MOST}; not {last!r}", field="last")
    found = store.runs.find(load_test_id=test.id, status=JUDGED, limit=last)
    runs = [run for run in found if (run.started_at or run.created_at) >= after_ms]
    results = judge_all(store, runs, wanted, window=window)
    return [
        GateTrial(gate, tuple((run, each[place]) for run, each in zip(runs, results, strict=True)))
        for place, gate in enumerate(wanted)
    ]


def moment_ms(since: str) -> int:
    """Read how long ago, `12h`, `30d` or `4w`, or since when, in ISO 8601; Unix ms."""
    match = re.fullmatch(r"\s*([1-9]\d{0,4})\s*([hdw])\s*", str(since))
    if match is not None:
        return now_ms() - 1000 * int(match[1]) * _UNITS_S[match[2]]
    try:
        moment = datetime.fromisoformat(str(since))
    except ValueError:
        raise InvalidInput(f"since must read like 30d, 12h, 4w or 2026-03-14; not {since!r}", field="since") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def window_of(gate: Gate, window: str | None = None) -> str:
    """Name the window of a run that a gate is of."""
    return WHOLE if gate.stops else gate.window or window or STEADY


def baseline_pool(store: Store, run: LoadTestRun, window: str) -> Pool:
    """Give the runs of the baseline of a run's test, without itself, each with what its window was condensed to."""
    if run.load_test_id is None:
        return ()
    ids = [each for each in store.load_tests.get(run.load_test_id).baseline_run_ids if each != run.id]
    found = _cases(store, store.runs.get_all(ids), {window})
    return tuple((case.run, case.seal.documents(window)) for case in found if case.has(window))


def gates_card(rows: pd.DataFrame, *, title: str = "", verdict: str = "") -> str:
    """Draw results as an HTML card: a row each, what is broken first to be seen."""
    listed = [_shown(row) for row in rows.reset_index().to_dict("records")]
    return html.templates().get_template("gates.html.j2").render(rows=listed, title=title, verdict=verdict)


def gates_text(results: Sequence[GateResult]) -> str:
    """Write results as a table for a terminal."""
    rows = [(each.verdict, html.printable(str(each.gate)), html.printable(each.because)) for each in results]
    wide = [max((len(row[place]) for row in rows), default=0) for place in (0, 1)]
    return "\n".join(f"{row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]}" for row in rows)


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """Write a row of a frame of results for the card."""

    def number(name: str) -> str:
        return html.MISSING if html.is_missing(row[name]) else written(row[name], row["unit"])

    passed = None if html.is_missing(row["passed"]) else bool(row["passed"])
    return {
        "subject": row.get("gate") or row.get("run_id", ""),
        "about": f"{row['name']}, {html.show(row['started_at'], 'time')}" if "started_at" in row else "",
        "verdict": {True: "passed", False: "broken", None: "not judged"}[passed],
        "value": number("value"),
        "limit": number("limit"),
        "because": row["because"],
        "at": "" if html.is_missing(row["at_s"]) else f"at {round(row['at_s'], 1):g} s",
    }


@dataclass(frozen=True)
class _Case:
    """A run with its seal, or with why there is none; its intervals are read when they are asked for."""

    store: Store
    run: LoadTestRun
    seal: Seal | None
    why_not: str = ""

    def has(self, window: str) -> bool:
        return self.seal is not None and window in {WHOLE, *(each.name for each in self.seal.windows)}

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        return self.store.ledger.documents(self.run.id, fields=FIELDS)


class _Pools:
    """The baselines of the tests whose runs are judged: each is read once, and no run is judged by itself."""

    def __init__(self, store: Store, window: str | None) -> None:
        self._store = store
        self._window = window
        self._read: dict[tuple[str, str], Pool] = {}

    def of(self, run: LoadTestRun, gate: Gate) -> Pool:
        if not gate.of_baseline or run.load_test_id is None:
            return ()
        window = gate.window or self._window or STEADY
        key = (run.load_test_id, window)
        if key not in self._read:
            self._read[key] = baseline_pool(self._store, run.model_copy(update={"id": "none"}), window)
        return [pair for pair in self._read[key] if pair[0].id != run.id]


def _cases(store: Store, runs: Sequence[LoadTestRun], windows: set[str]) -> list[_Case]:
    try:
        return [_Case(store, seal.run, seal) for seal in seals(store, runs, windows=windows)]
    except NotFound as error:  # the intervals of one are deleted, and it was never sealed
        if len(runs) == 1:
            return [_Case(store, runs[0], None, str(error))]
        return [case for run in runs for case in _cases(store, [run], windows)]


def _one(case: _Case, gate: Gate, asked: str | None, pool: Pool) -> GateResult:
    window = window_of(gate, asked)
    if case.seal is None:
        return GateResult(gate, None, case.why_not, unit=gate.unit, window=window)
    if not case.has(window):
        there = ", ".join([WHOLE, *(each.name for each in case.seal.windows)])
        return GateResult(gate, None, f"the run has no window {window}; it has {there}", unit=gate.unit, window=window)
    if not gate.is_windowed:
        return evaluate(gate, case.run, case.seal.documents(window), window=window, baseline=pool)
    if case.run.purged_at is not None:
        return GateResult(gate, None, "its intervals are deleted", unit=gate.unit, window=window)
    return evaluate(gate, case.run, case.documents, window=named(case.seal.windows, window), baseline=pool)


def _known(run: LoadTestRun, result: GateResult) -> GateResult:
    """Say of the gate that stopped the run that it did, and of a run that goes on that this is not the end."""
    if run.gate_broken == str(result.gate):
        return replace(result, passed=False, because=f"it stopped the run; {result.because}")
    return result if run.is_over else replace(result, because=f"so far: {result.because}")


def _windows(store: Store, run: LoadTestRun) -> tuple[Any, ...]:
    case = _cases(store, [run], {WHOLE})[0]
    return () if case.seal is None else case.seal.windows
