"""Comparison: two to many runs or pools of runs beside each other, with verdicts as far as they may be claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from loadbench import html, plots
from loadbench.analysis import fingerprint, frames, shift
from loadbench.analysis.compare import Compared
from loadbench.analysis.decompose import kind
from loadbench.analysis.intervals import Outcome, within
from loadbench.analysis.load_levels import load_levels
from loadbench.analysis.measurements import Sample, measure
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.verdict import IMPORTANT_PERCENT, Verdict
from loadbench.analysis.windows import STEADY, named
from loadbench.comparison_card import comparison_card
from loadbench.errors import InvalidInput, NotFound, one_of
from loadbench.load_test_run import Run
from loadbench.model import LoadTestRun
from loadbench.run_pool import RunPool
from loadbench.sides import pool_label, read_sides, run_label
from loadbench.store import Store

By = Literal["time", "users", "requests_per_s"]
_AXES = {"time": "elapsed_s", "users": "users", "requests_per_s": "requests_per_s"}

Comparable = Run | RunPool | Sequence[Run]


def compare(
    *runs: Comparable,
    reference: Comparable | None = None,
    window: str = STEADY,
    percentiles: Sequence[float] = (50, 95, 99),
    allow_different: bool | str | Iterable[str] = False,
    important_percent: float = IMPORTANT_PERCENT,
) -> Comparison:
    """Compare runs, or pools of runs, with one of them: `lb.compare(run, test.baseline())`.

    Parameters
    ----------
    *runs : Run, RunPool or sequence of Run
        Two to many, the new ones first. The runs of a pool count as repetitions of each other.
    reference : Run, RunPool or sequence of Run, optional
        What the others are compared with; left out, the last one.
    window : str
        Which part of each run: "steady", "whole", or another window that the runs have.
    percentiles : sequence of float
        In [0, 100]. Each more is another question, and the verdicts are corrected for their number.
    allow_different : bool or names
        Compare although the runs differ in test, target, users, spawn rate, duration or arguments: True, or the names
        of those that may differ. True also takes runs that are INVALID. The verdicts say so then.
    important_percent : float
        The change that matters. "no difference found" is only said where such a change would have been found.

    Returns
    -------
    Comparison
        One run against one run shows differences, and never gives a verdict; docs/statistics.md says why.

    Raises
    ------
    InvalidInput
        If there are fewer than two sides, or one has no runs.
    """
    sides = [*runs]
    if reference is None:
        place = len(sides) - 1
    else:
        same = [place for place, side in enumerate(sides) if _ids(side) == _ids(reference)]
        place = same[0] if same else len(sides)
        sides = sides if same else [*sides, reference]
    members = [_members(side) for side in sides]
    stores = [run._store for side in members for run in side]
    if not stores:
        raise InvalidInput("there are no runs to compare: the pools are empty", field="runs")
    return Comparison(
        stores[0],
        [(_label(side), [run.record for run in own]) for side, own in zip(sides, members, strict=True)],
        reference=place,
        window=window,
        percentiles=percentiles,
        allow_different=allow_different,
        important_percent=important_percent,
    )


def _members(side: Comparable) -> list[Run]:
    members = [side] if isinstance(side, Run) else list(side)
    if not all(isinstance(run, Run) for run in members):
        raise InvalidInput(
            "compare takes runs and pools of runs, such as bench.run(id) and test.baseline()", field="runs"
        )
    return members


def _ids(side: Comparable) -> list[str]:
    return [run.id for run in _members(side)]


def _label(side: Comparable) -> str:
    if isinstance(side, RunPool):
        return side.label
    return run_label(side.record) if isinstance(side, Run) else pool_label([run.record for run in side])


class Comparison:
    """Runs or pools beside each other. Tables are DataFrames, charts are Plotly figures."""

    def __init__(
        self,
        store: Store,
        groups: Sequence[tuple[str, Sequence[LoadTestRun]]],
        *,
        reference: int,
        window: str = STEADY,
        percentiles: Sequence[float] = (50, 95, 99),
        allow_different: bool | str | Iterable[str] = False,
        important_percent: float = IMPORTANT_PERCENT,
    ) -> None:
        self._store = store
        self.window = window
        allowed = fingerprint.allowed(allow_different)
        sides, self._seals = read_sides(store, groups, reference=reference, window=window)
        percentiles = (percentiles,) if isinstance(percentiles, int | float) else percentiles
        self._compared = Compared(
            sides, reference, tuple(map(float, percentiles)), important_percent, allowed, trust=allow_different is True
        )

    def __repr__(self) -> str:
        names = [f"{html.printable(side.label)} ({len(side.samples)})" for side in self._compared.sides]
        reference = names.pop(self._compared.reference)
        return f"<Comparison of {', '.join(names)} with {reference}, {self.window}: {self.headline}>"

    def _repr_html_(self) -> str:
        return comparison_card(
            headline=self.headline,
            caption=self._caption(),
            differences=self.differences(),
            script_diff=self.script_diff(),
            table=self.table(),
            verdicts=self.verdicts(),
            why=self._why_lines(),
        )

    @property
    def sides(self) -> list[str]:
        """The labels of the sides, in the order given."""
        return [side.label for side in self._compared.sides]

    @property
    def reference(self) -> str:
        """The label of the side that the others are compared with."""
        return self.sides[self._compared.reference]

    @cached_property
    def headline(self) -> str:
        """What all verdicts together come to, in one sentence."""
        return self._compared.headline

    @property
    def family(self) -> list[Verdict]:
        """The verdicts on all endpoints and percentiles, one by one; `verdicts()` is their table."""
        return self._compared.family

    def differences(self, *, only_differing: bool = True) -> pd.DataFrame:
        """Say in what the sides differ besides their figures: one row per fact, one column per side.

        Parameters
        ----------
        only_differing : bool
            False lists the facts in which they agree as well.
        """
        return self._compared.differences(only_differing=only_differing)

    def validity(self) -> pd.DataFrame:
        """List the runs of all sides, indexed by run_id, with whether their figures can be trusted."""
        rows = [(side.label, run) for side in self._compared.sides for run in side.runs]
        found = frames.runs([run for _, run in rows])[["name", "status", "revision", "users", "started_at"]]
        seals = [self._seals.get(run.id) for _, run in rows]
        stamps = ["INVALID: its intervals are deleted" if seal is None else str(seal.validity) for seal in seals]
        return found.assign(side=[side for side, _ in rows], validity=stamps)

    def script_diff(self, side: str | None = None) -> str:
        """Compare the script of a side with that of the reference, as a unified diff; empty if they are the same.

        Each side's newest run tells; a run without a stored revision has no script.
        """
        places = [self._compared.place(side)] if side is not None else self._compared.others
        before = self._script(self._compared.reference)
        after = [(self.sides[place], self._script(place)) for place in places]
        return "".join(
            fingerprint.script_diff(before, script, names=(self.reference, label))
            for label, script in after
            if before and script
        )

    def table(self) -> pd.DataFrame:
        """Give what each side measured, in absolute figures and in percent of the reference, by endpoint."""
        return self._compared.table()

    def verdicts(self) -> pd.DataFrame:
        """Give a verdict on each endpoint and percentile, corrected for their number; false alarms: at most 5 %."""
        return self._compared.verdicts()

    def verdict(self, endpoint: str = AGGREGATED, percentile: float = 95, *, side: str | None = None) -> Verdict:
        """Answer one question, for example `.verdict("POST /checkout")`: slower or faster, by how much, how sure?

        It is corrected for no other question: ask what you wanted to know before you saw the figures. To look for
        whatever has changed, read `verdicts()`.

        Parameters
        ----------
        endpoint : str
            Method and name, or "Aggregated" for all requests.
        percentile : float
            In [0, 100].
        side : str, optional
            Which side; needed if there are several besides the reference.
        """
        return self._compared.verdict(endpoint, percentile, side=side)

    def rates(self) -> pd.DataFrame:
        """Give verdicts on requests per second and on the share of failures, by endpoint."""
        return self._compared.rates()

    def why(self, percentile: float | str = 95, *, side: str | None = None) -> pd.DataFrame:
        """Say why all requests together changed: by the mix of traffic, or by the response times of which endpoint.

        Parameters
        ----------
        percentile : float or "mean"
            What is taken apart, of all requests. The contributions in milliseconds add up to its change.
        """
        return self._compared.why(percentile, side=side)

    def shifts(
        self, endpoint: str = AGGREGATED, *, outcome: Outcome = "all", side: str | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """Give by how much each quantile changed, with bands; see `shift`."""
        return self._shift(endpoint, outcome, side, seed)[0]

    def shift(
        self, endpoint: str = AGGREGATED, *, outcome: Outcome = "all", side: str | None = None, seed: int = 0
    ) -> go.Figure:
        """Draw by how much each quantile changed: the fast requests, the median, the tail.

        Pools have bands of the noise between runs. One run against one has bands of the noise within them, from a
        block bootstrap over their intervals; that runs differ as a whole is not in these.

        Parameters
        ----------
        endpoint : str
            Method and name, or "Aggregated" for all requests.
        outcome : {"all", "ok", "failed"}
            Of which requests.
        """
        found, noise = self._shift(endpoint, outcome, side, seed)
        of = "" if outcome == "all" else f", {outcome} requests only"
        label = self._compared.sides[self._compared.place(side)].label
        holds = "about 90 %" if noise == shift.WITHIN else "95 %"  # measured: docs/statistics.md
        return plots.shift(
            found, value="change_ms", low="change_low_ms", high="change_high_ms", title=f"Shift of {endpoint}",
            subtitle=f"{label} against {self.reference}{of}; band at {holds}: {noise}",
        )  # fmt: skip

    def overlay(self, by: By = "time", column: str = "p95_ms", *, endpoint: str = AGGREGATED) -> go.Figure:
        """Draw all runs over each other: at the same time since their start, or at the same load.

        Parameters
        ----------
        by : {"time", "users", "requests_per_s"}
            The horizontal axis. By load, intervals of a run at about the same load are merged into one point.
        column : str
            "p95_ms" or another percentile; also "requests_per_s" and "failures_per_s", by time.
        endpoint : str
            Method and name, or "Aggregated" for all requests.
        """
        if by not in _AXES:
            raise one_of("by", by, _AXES)
        drawn, gone = {}, 0
        for label, sample in self._labelled():
            if sample.run.purged_at is not None:
                gone += 1
                continue
            drawn[label] = _line(sample.run, self._store.ledger.documents(sample.run.id), by, column, endpoint)
        note = f"the intervals of {gone} are deleted" if gone else ""
        title = f"{endpoint}, {column.removesuffix('_ms')} by {'time' if by == 'time' else 'load'}"
        return plots.overlay(
            drawn, by=_AXES[by], column=column, reference=next(iter(drawn), None), title=title, subtitle=note
        )

    def forest(self) -> go.Figure:
        """Draw all verdicts with their effects and intervals."""
        found = self.verdicts()
        others = len(self._compared.others) > 1
        names = [
            " ".join(filter(None, [f"{row.side}:" if others else "", row.method, row.name_])) for row in _tuples(found)
        ]
        return plots.forest(
            found.assign(endpoint=names), title=f"Against {self.reference}", subtitle="intervals of each alone, at 95 %"
        )

    def contributions(self, percentile: float | str = 95, *, side: str | None = None) -> go.Figure:
        """Draw what each endpoint contributed to the change of all requests; see `why`."""
        found = self.why(percentile, side=side)
        of = percentile if percentile == "mean" else f"p{percentile:g}"
        return plots.contributions(found.iloc[:-1], title=f"Why the {of} of all requests moved", subtitle=kind(found))

    def report(self, path: str | Path | None = None, *, notebook: str | Path | None = None) -> Path:
        """Write the comparison as one HTML file that opens anywhere, offline, and beside it the notebook.

        Parameters
        ----------
        path : str or Path, optional
            The HTML file; left out, it is below `reports/` in the working directory.
        notebook : str or Path, optional
            A notebook of yours to execute in place of `loadbench/templates/report_comparison.ipynb`.
        """
        from loadbench import reports

        sides = [(side.label, [run.id for run in side.runs]) for side in self._compared.sides]
        return reports.comparison_report(
            self._store, sides, reference=self._compared.reference, path=path, window=self.window,
            percentiles=self._compared.percentiles, important_percent=self._compared.important_percent,
            allow_different=sorted(self._compared.allowed), notebook=notebook,
        )  # fmt: skip

    def _shift(self, endpoint: str, outcome: Outcome, side: str | None, seed: int) -> tuple[pd.DataFrame, str]:
        base, other = (self._compared.sides[place] for place in (self._compared.reference, self._compared.place(side)))
        if len(base.samples) == len(other.samples) == 1:
            stretches = [self._stretch(sample, endpoint, outcome) for sample in (base.samples[0], other.samples[0])]
            return shift.shift_within(*stretches, seed=seed), shift.WITHIN
        measured = measure((*base.samples, *other.samples), outcome=outcome)
        if endpoint not in measured.labels:
            raise NotFound(f"no endpoint {endpoint!r} in these runs; there are: {', '.join(measured.labels)}")
        first = len(base.samples)
        found = shift.shift_between(
            measured.of(slice(0, first)), measured.of(slice(first, None)), measured.labels.index(endpoint)
        )
        return found, shift.BETWEEN

    def _stretch(self, sample: Sample, endpoint: str, outcome: Outcome) -> shift.Stretch:
        run = sample.run
        if run.purged_at is not None:
            raise NotFound(f"the intervals of {run.id} are deleted: compare pools, which need seals only")
        window = named(self._seals[run.id].windows, self.window)
        documents = within(run, self._store.ledger.documents(run.id), start_s=window.start_s, end_s=window.end_s)
        return shift.stretch(run, documents, endpoints=_places(run, endpoint), outcome=outcome)

    def _labelled(self) -> list[tuple[str, Sample]]:
        """Give each run a label of its own, those of the reference first."""
        order = [self._compared.reference, *self._compared.others]
        sides = [self._compared.sides[place] for place in order]
        return [
            (side.label if len(side.samples) == 1 else f"{side.label}: {html.short_id(sample.run.id)}", sample)
            for side in sides
            for sample in side.samples
        ]

    def _script(self, place: int) -> str:
        run = self._compared.sides[place].runs[0]
        if not run.load_test_id or not run.revision_number:
            return ""
        try:
            return self._store.script_revisions.number(run.load_test_id, run.revision_number).script.decode(
                errors="replace"
            )
        except NotFound:
            return ""

    def _caption(self) -> str:
        sides = [
            f"{side.label}: {len(side.samples)} run{'' if len(side.samples) == 1 else 's'}"
            for side in self._compared.sides
        ]
        return f"{'; '.join(sides)} · reference: {self.reference} · window: {self.window}"

    def _why_lines(self) -> list[str]:
        lines = []
        for place in self._compared.others:
            label = self.sides[place]
            total = self.why(side=label).iloc[-1]
            if total["change_ms"] == total["change_ms"] and total["change_ms"]:
                parts = ", ".join(f"{total[f'{part}_ms']:+.3g} ms {words}" for part, words in _PARTS.items())
                lines.append(f"{label}: p95 of all requests {total['change_ms']:+.3g} ms, of it {parts}")
        return lines


_PARTS = {"mix": "by another mix of traffic", "latency": "by other response times"}


def _places(run: LoadTestRun, endpoint: str) -> list[int] | None:
    if endpoint == AGGREGATED:
        return None
    return [place for place, known in enumerate(run.endpoints) if str(known) == endpoint]


def _line(run: LoadTestRun, documents: Sequence[Any], by: By, column: str, endpoint: str) -> pd.DataFrame:
    places = _places(run, endpoint)
    percentile = _percentile_of(column)
    wanted = [95.0] if percentile is None else [percentile]
    if by != "time":
        return load_levels(run, documents, against=by, percentiles=wanted, endpoints=places)
    make: Callable[..., pd.DataFrame] = frames.timeline if places is None else frames.endpoints
    only = {} if places is None else {"only": places}
    return make(run, documents, percentiles=wanted, **only)


def _percentile_of(column: str) -> float | None:
    if column in ("requests_per_s", "failures_per_s"):
        return None
    try:
        percentile = float(column.removeprefix("p").removesuffix("_ms"))
    except ValueError:
        percentile = -1.0
    if not (column.startswith("p") and column.endswith("_ms") and 0 <= percentile <= 100):
        raise InvalidInput(
            f"column must be a percentile such as p95_ms, requests_per_s or failures_per_s; not {column!r}",
            field="column",
        )
    return percentile


def _tuples(frame: pd.DataFrame) -> Iterable[Any]:
    return frame[["side", "method", "name"]].rename(columns={"name": "name_"}).itertuples(index=False)
