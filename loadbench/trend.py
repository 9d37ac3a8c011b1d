"""The trend of a test: one figure of its comparable runs, in order of time, and where it changed.

Read from the store, without a notebook; `loadbench.history` is the handle of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loadbench.analysis import fingerprint
from loadbench.analysis.columns import frame, percentile_column, to_timestamps
from loadbench.analysis.history import ALPHA, MIN_RUNS, ChangePoint, Trend, trend
from loadbench.analysis.summary import AGGREGATED, summary
from loadbench.analysis.validity import Validity
from loadbench.analysis.windows import STEADY
from loadbench.errors import InvalidInput, NotFound, one_of
from loadbench.model import ChangeMark, LoadTest, LoadTestRun, RunStatus, ScriptRevision
from loadbench.sealing import Seal, seals
from loadbench.store import Store

FIGURES = {"mean_ms": "mean", "failure_ratio": "failure ratio", "requests_per_s": "requests/s"}
"""What a trend may be of besides percentiles: its column, and what it is called."""
DISTRIBUTION = (50.0, 75.0, 90.0, 95.0, 99.0)
"""The percentiles that describe the distribution of a run where no single one is asked for."""
SHOWN_PERCENTILE = 95.0
NOTHING = "nothing that is recorded"
_CAUSES = tuple(name for name in fingerprint.FACTS if name not in ("test", "status", "origin"))


@dataclass(frozen=True)
class Figure:
    """What is looked at: its columns, which of them is shown, what it is called, and its scale."""

    columns: tuple[str, ...]
    shown: str
    name: str

    @classmethod
    def of(cls, percentile: float | None, figure: str | None) -> Figure:
        if figure is not None:
            if figure not in FIGURES:
                raise one_of("figure", figure, FIGURES)
            return cls((figure,), figure, FIGURES[figure])
        if percentile is None:
            return cls(tuple(map(percentile_column, DISTRIBUTION)), percentile_column(SHOWN_PERCENTILE), "distribution")
        column = percentile_column(percentile)
        return cls((column,), column, column.removesuffix("_ms"))

    @property
    def is_ratio(self) -> bool:
        return self.shown == "failure_ratio"

    @property
    def percentiles(self) -> tuple[float, ...]:
        return tuple(float(name[1:-3]) for name in self.columns if name.startswith("p"))


@dataclass(frozen=True)
class TestTrend:
    """Runs in order of time, a row of values for each, where they changed, and which runs are not in it and why."""

    __test__ = False  # pytest: not a test class

    endpoint: str
    figure: Figure
    runs: tuple[LoadTestRun, ...]
    values: np.ndarray
    validity: tuple[Validity, ...]
    found: Trend
    marks: tuple[ChangeMark, ...]
    revisions: tuple[ScriptRevision, ...]
    left_out: tuple[tuple[LoadTestRun, str], ...]

    @property
    def shown(self) -> np.ndarray:
        """The values of the figure that is shown."""
        return self.values[:, self.figure.columns.index(self.figure.shown)]

    @property
    def is_short(self) -> bool:
        """Whether there are too few runs to tell a change."""
        return len(self.runs) < MIN_RUNS

    def to_frame(self) -> pd.DataFrame:
        """Give a row per run, indexed by run_id: see `History.to_frame`."""
        first = {change.index for change in self.found.changes}
        return frame(
            {
                "run_id": [run.id for run in self.runs],
                "started_at": to_timestamps([run.started_at for run in self.runs]),
                "revision": [run.revision_number for run in self.runs],
                **dict(zip(self.figure.columns, self.values.T, strict=True)),
                "segment": self.found.segment,
                "level": self._levels(),
                "is_change": [index in first for index in range(len(self.runs))],
                "is_outlier": self.found.outlier,
                "validity": [str(each) for each in self.validity],
            }
        ).set_index("run_id")

    def changes(self) -> pd.DataFrame:
        """Give a row per change, indexed by run_id: see `History.changes`."""
        points = self.found.changes
        runs = [self.runs[point.index] for point in points]
        marks = {mark.run_id: mark for mark in self.marks}
        said = [marks.get(run.id) for run in runs]
        return frame(
            {
                "run_id": [run.id for run in runs],
                "started_at": to_timestamps([run.started_at for run in runs]),
                "revision": [run.revision_number for run in runs],
                "figure": [self.name_of(point) for point in points],
                "effect_percent": [point.effect.change for point in points],
                "low_percent": [point.effect.low for point in points],
                "high_percent": [point.effect.high for point in points],
                "unit": [self.unit for _ in points],
                "p": [point.p for point in points],
                "state": [mark.state if mark else "found" for mark in said],
                "what_changed": [self.cause(point.index) for point in points],
                "note": [mark.note if mark else "" for mark in said],
            }
        ).set_index("run_id")

    def excluded(self) -> pd.DataFrame:
        """Give a row per run that is not in the series, indexed by run_id: started_at, revision, because."""
        return frame(
            {
                "run_id": [run.id for run, _ in self.left_out],
                "started_at": to_timestamps([run.started_at for run, _ in self.left_out]),
                "revision": [run.revision_number for run, _ in self.left_out],
                "because": [because for _, because in self.left_out],
            }
        ).set_index("run_id")

    @property
    def unit(self) -> str:
        """The unit of effects."""
        return "percentage points" if self.figure.is_ratio else "percent"

    def name_of(self, point: ChangePoint) -> str:
        """Name the figure that a change shows most in."""
        column = self.figure.columns[point.column]
        return FIGURES.get(column, column.removesuffix("_ms"))

    def cause(self, index: int) -> str:
        """Say in what a run differs from the one before it, with the notes of the revisions between them."""
        if index == 0:
            return NOTHING
        before, after = self.runs[index - 1], self.runs[index]
        found = []
        for aspect in _CAUSES:
            old, new = fingerprint.value(before, aspect), fingerprint.value(after, aspect)
            if old == new or (aspect in ("script sha256", "user classes") and found and found[0][0] == "revision"):
                continue
            found.append(
                (aspect, f"{aspect} {old} -> {new}{self._notes(before, after) if aspect == 'revision' else ''}")
            )
        return "; ".join(text for _, text in found) or NOTHING

    def _notes(self, before: LoadTestRun, after: LoadTestRun) -> str:
        old, new = before.revision_number or 0, after.revision_number or 0
        between = range(old + 1, new + 1) if new > old else (new,)
        notes = [each.description for each in self.revisions if each.revision_number in between and each.description]
        return f" ({'; '.join(' '.join(note.split()) for note in notes)})" if notes else ""

    def _levels(self) -> np.ndarray:
        level = np.full(len(self.runs), np.nan)
        for number in np.unique(self.found.segment):
            rows = self.found.segment == number
            kept = self.shown[rows & ~self.found.outlier]
            kept = kept if len(kept) else self.shown[rows]
            level[rows] = kept.mean() if self.figure.is_ratio else np.exp(np.log(kept).mean())
        return level


def read_trend(
    store: Store,
    test: LoadTest,
    *,
    endpoint: str = AGGREGATED,
    percentile: float | None = 95,
    figure: str | None = None,
    last: int = 100,
    window: str = STEADY,
    like: LoadTestRun | None = None,
    allow_different: bool | str | Iterable[str] = False,
    alpha: float = ALPHA,
    seed: int = 0,
) -> TestTrend:
    """Read the comparable runs among the newest of a test, and look for changes; parameters as for `Test.history`."""
    wanted = Figure.of(percentile, figure)
    if isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= 1000:
        raise InvalidInput(f"last must be a number of runs in 1-1000; not {last!r}", field="last")
    newest = store.runs.find(load_test_id=test.id, status=[each for each in RunStatus if each.is_final], limit=last)
    known = sorted(newest, key=lambda run: (run.started_at or run.created_at, run.id))
    kept, left_out = _comparable(known, fingerprint.allowed(allow_different), like)
    sealed, lost = _sealed(store, kept)
    rows = [figures_of(seal, endpoint, wanted, window) for seal in sealed]
    if sealed and not any(row is not None for row in rows) and endpoint != AGGREGATED:
        names = sorted({str(each) for seal in sealed for each in seal.run.endpoints})
        raise NotFound(f"no run of {test.name!r} has requests of {endpoint!r}; there are {', '.join(names)}")
    used: list[Seal] = []
    figures: list[list[float]] = []
    for seal, row in zip(sealed, rows, strict=True):
        if because := _unusable(seal, row, wanted, endpoint):
            lost.append((seal.run, because))
        else:
            used.append(seal)
            figures.append(row)
    values = np.array(figures, float)
    runs = tuple(seal.run for seal in used)
    marks = tuple(store.change_marks.find(test.id, endpoint, wanted.name))
    place = {run.id: index for index, run in enumerate(runs)}
    said = {state: [place[m.run_id] for m in marks if m.state == state and place.get(m.run_id)] for state in
            ("confirmed", "dismissed")}  # fmt: skip
    found = trend(
        values.reshape(len(runs), len(wanted.columns)),
        scale="ratio" if wanted.is_ratio else "log",
        alpha=alpha,
        seed=seed,
        **said,
    )
    return TestTrend(
        endpoint=endpoint,
        figure=wanted,
        runs=runs,
        values=values.reshape(len(runs), len(wanted.columns)),
        validity=tuple(seal.validity for seal in used),
        found=found,
        marks=marks,
        revisions=tuple(store.script_revisions.all(test.id)),
        left_out=tuple(sorted(left_out + lost, key=lambda item: item[0].started_at or item[0].created_at)),
    )


def _comparable(
    known: Sequence[LoadTestRun], allowed: frozenset[str], like: LoadTestRun | None
) -> tuple[list[LoadTestRun], list[tuple[LoadTestRun, str]]]:
    """Keep the runs that agree in what makes runs comparable: with `like`, else with most of them."""
    checked = [aspect for aspect in fingerprint.CHECKED if aspect not in allowed]
    left_out = [
        (run, f"{run.status.value} ({run.stop_reason})") for run in known if run.status is not RunStatus.FINISHED
    ]
    finished = [run for run in known if run.status is RunStatus.FINISHED]
    prints = [tuple(fingerprint.value(run, aspect) for aspect in checked) for run in finished]
    if like is not None:
        common = tuple(fingerprint.value(like, aspect) for aspect in checked)
    else:
        number = Counter(prints)
        common = max(reversed(prints), key=number.__getitem__, default=())
    kept = []
    for run, own in zip(finished, prints, strict=True):
        if own == common:
            kept.append(run)
        else:
            other = [
                f"{a} {mine}, not {usual}" for a, mine, usual in zip(checked, own, common, strict=True) if mine != usual
            ]
            left_out.append((run, "; ".join(other)))
    return kept, left_out


def _sealed(store: Store, runs: Sequence[LoadTestRun]) -> tuple[list[Seal], list[tuple[LoadTestRun, str]]]:
    try:
        return seals(store, runs), []
    except NotFound:
        found, lost = [], []
        for run in runs:
            try:
                found += seals(store, [run])
            except NotFound:
                lost.append((run, "its intervals are deleted"))
        return found, lost


def figures_of(seal: Seal, endpoint: str, figure: Figure, window: str) -> list[float] | None:
    """Give the values of a run; None if it has no such window, or no requests of the endpoint in it."""
    part: Any = seal.parts.get(window)
    if part is None:
        return None
    table = summary(seal.run, [part], percentiles=figure.percentiles)
    label = (table["method"] + " " + table["name"]).str.strip()
    rows = table[(label == endpoint) | ((table["name"] == endpoint) & ~label.isin([endpoint]))]
    exact = table[label == endpoint]
    rows = exact if len(exact) else rows
    return rows.iloc[0][list(figure.columns)].astype(float).tolist() if len(rows) == 1 else None


def _unusable(seal: Seal, row: list[float] | None, figure: Figure, endpoint: str) -> str:
    if seal.validity.level == "INVALID":
        return str(seal.validity)
    if row is None:
        return f"no requests of {endpoint} in the window"
    if not all(np.isfinite(value) and (value > 0 or figure.is_ratio) for value in row):
        return f"no {figure.name} of {endpoint}"
    return ""
