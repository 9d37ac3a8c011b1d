"""Gates: does a run, or what there is of it so far, do what a line such as `p95 < 300ms` demands?

Every percentile is read from histograms merged over the part that it is of: a window of the run, a second, or a stretch
that slides over it. What cannot be judged is neither passed nor broken, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd

from loadbench.analysis.columns import frame
from loadbench.analysis.gate_figures import Cells
from loadbench.analysis.gate_grammar import COMPARISONS, FIGURES, Gate, parse
from loadbench.analysis.intervals import Document, within
from loadbench.analysis.selection import places
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun, Window

__all__ = ["Gate", "GateResult", "Pool", "canonical", "evaluate", "parse", "table", "written"]

Pool = Sequence[tuple[LoadTestRun, Sequence[Document]]]
"""The runs of a baseline, each with the documents of the window asked for."""
_COUNTED = ("requests", "requests/s")


@dataclass(frozen=True)
class GateResult:
    """How a run stands to a gate.

    `passed` is None if it could not be judged; `because` says why in every case. `value` and `limit` are in `unit`;
    for a share of the seconds both are shares. `at_s` is when the gate was broken first, in seconds from the start of
    the run: the end of the second, or of the stretch, with which it was.
    """

    gate: Gate
    passed: bool | None
    because: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    at_s: float | None = None
    window: str = "whole"
    endpoints: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Passed, broken, or not judged."""
        return {True: "passed", False: "broken", None: "not judged"}[self.passed]

    def __repr__(self) -> str:
        return f"<GateResult {self.verdict}: {self.gate}; {self.because}>"


def canonical(texts: Sequence[str]) -> tuple[str, ...]:
    """Check gates and give them in their canonical spelling, each once; InvalidInput for the first that is wrong."""
    if isinstance(texts, str):
        texts = (texts,)
    return tuple(dict.fromkeys(str(parse(text)) for text in texts))


def evaluate(
    gate: Gate | str,
    run: LoadTestRun,
    documents: Sequence[Document],
    *,
    window: Window | str | None = None,
    baseline: Pool | None = None,
) -> GateResult:
    """Answer "does the run do what this gate demands?".

    Parameters
    ----------
    gate : Gate or str
    run : LoadTestRun
        The run; it must know all endpoints that the documents name.
    documents : sequence of documents
        Its stored intervals, in any order; for a gate of a whole window, what they are condensed to will do.
    window : Window or str, optional
        The window to cut the documents to; or the name of the one that they are of already.
    baseline : sequence of (run, documents), optional
        What a limit such as `1.2 x baseline` is a multiple of: documents of the same window of each run.

    Returns
    -------
    GateResult
        Not judged without intervals, requests, a fitting endpoint or a baseline, and for a percentile of too few
        requests.

    Notes
    -----
    The figure p is judged of at least 1 / (1 - p/100) requests: of fewer, it is the longest of them. Seconds are the
    stored intervals; a duration counts as reached to the nearest half interval. For a stretch (`for 10s`) the value
    given is the mildest in it, of the worst stretch: it breaks the gate iff the whole stretch does. The figure of a
    baseline is that of its middle run, of an even number the better one of the two in the middle; so it is one that a
    run had, no average, and one bad run among several does not move it.
    """
    gate = parse(gate) if isinstance(gate, str) else gate
    if isinstance(window, Window):
        documents, window = within(run, documents, start_s=window.start_s, end_s=window.end_s), window.name
    case = _Case(gate, run, documents, window or gate.window or "whole")
    if case.why_not is not None:
        return case.unjudged(case.why_not)
    limit, why_not = _limit(gate, baseline)
    if limit is None:
        return case.unjudged(why_not)
    if not gate.is_windowed:
        return _of_all(case, limit, "" if not gate.of_baseline else why_not)
    stretches = _stretches(case)
    if not len(stretches.end_s):
        return case.unjudged(_too_short(case, gate.over_s))
    if gate.share is not None:
        return _of_seconds(case, limit, stretches)
    return _for_a_time(case, limit, stretches) if gate.for_s is not None else _of_each(case, limit, stretches)


def table(results: Sequence[GateResult]) -> pd.DataFrame:
    """List results, a row each: gate, passed, value, limit, unit, because, at_s, window, endpoints."""
    return frame(
        {
            "gate": [str(each.gate) for each in results],
            "passed": [each.passed for each in results],
            "value": [each.value for each in results],
            "limit": [each.limit for each in results],
            "unit": [each.unit for each in results],
            "because": [each.because for each in results],
            "at_s": [each.at_s for each in results],
            "window": [each.window for each in results],
            "endpoints": [", ".join(each.endpoints) for each in results],
        }
    )


def written(value: float, unit: str) -> str:
    """Write a figure with its unit, for a sentence."""
    if unit == "ratio":
        return f"{100 * value:.4g} %"
    if unit == "count":
        return f"{value:,.0f}"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return {"/s": f"{number}/s", "": f"{value:.3g}"}.get(unit, f"{number} {unit}")


class _Case:
    """One gate against one run: the cells that it is judged on, or why it cannot be."""

    def __init__(self, gate: Gate, run: LoadTestRun, documents: Sequence[Document], window: str) -> None:
        self.gate, self.run, self.window = gate, run, window
        self.endpoints: tuple[str, ...] = ()
        self.why_not: str | None = None
        try:
            chosen = places(run, gate.endpoint)
        except InvalidInput as error:
            self.why_not = str(error)
            return
        self.endpoints = tuple(str(run.endpoints[index]) for index in chosen or ())
        if not documents:
            self.why_not = f"no intervals in the {window} window"
        else:
            self.cells = Cells.read(run, documents, chosen, gate.is_windowed)
            if gate.figure not in _COUNTED and not self.cells.requests.sum():
                self.why_not = f"no requests in the {window} window"

    @property
    def needed(self) -> int:
        """How many requests its percentile has to be of."""
        percentile = self.gate.percentile
        if percentile is None or percentile >= 100:
            return 1
        return -(-1 // (1 - Fraction(repr(percentile)) / 100))

    def result(
        self, passed: bool, because: str, value: float, limit: float, at_s: float | None = None, unit: str | None = None
    ) -> GateResult:
        return GateResult(
            self.gate, passed, because, float(value), float(limit), self.gate.unit if unit is None else unit,
            None if passed or at_s is None else round(float(at_s), 3), self.window, self.endpoints,
        )  # fmt: skip

    def unjudged(self, why: str) -> GateResult:
        return GateResult(self.gate, None, why, unit=self.gate.unit, window=self.window, endpoints=self.endpoints)

    def breaks(self, values: np.ndarray | float, limit: float) -> np.ndarray:
        """Say which values break the gate; one that is missing does not."""
        values = np.asarray(values, float)
        is_true = COMPARISONS[self.gate.comparison](values, limit)
        return (is_true if self.gate.says == "breaks" else ~is_true) & ~np.isnan(values)

    def worst(self, values: np.ndarray) -> int:
        """Give the place of the worst value; at least one is there."""
        return int(np.nanargmax(values) if self.gate.direction < 0 else np.nanargmin(values))


class _Stretches(NamedTuple):
    """The parts of a run that a windowed gate looks at: each ends with an interval, and has a value or nan."""

    begin_s: np.ndarray
    end_s: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    requests: np.ndarray
    follows: np.ndarray
    """Whether the interval with which it ends begins where the one before ends."""
    usual_s: float


def _limit(gate: Gate, baseline: Pool | None) -> tuple[float | None, str]:
    """Give the limit in the figure's unit, and how it came about; or None, and why there is none."""
    if not gate.of_baseline:
        return gate.limit, ""
    if not baseline:
        return None, "no baseline: test.set_baseline(...) sets one"
    found = []
    for run, documents in baseline:
        case = _Case(gate, run, documents, "baseline's")
        value = np.nan if case.why_not else _whole_value(case)[0]
        if not np.isnan(value):
            found.append(value)
    if not found:
        return None, f"none of the {len(baseline)} runs of the baseline has enough requests to tell {gate.shown_figure}"
    found.sort()
    middle = found[(len(found) - 1) // 2] if gate.direction < 0 else found[len(found) // 2]
    of = f"the middle of {len(found)} runs" if len(found) > 1 else "of one run"
    return gate.limit * middle, f"the baseline's is {written(middle, gate.unit)} ({of})"


def _whole_value(case: _Case) -> tuple[float, int]:
    """Give the figure of all documents together; nan if there are too few requests."""
    cells = case.cells.together()
    values, requests = cells.figures(case.gate, np.zeros(1, int), np.zeros(1, int))
    return (np.nan if requests[0] < case.needed and case.gate.percentile is not None else values[0]), int(requests[0])


def _of_all(case: _Case, limit: float, about: str) -> GateResult:
    gate, (value, requests) = case.gate, _whole_value(case)
    if np.isnan(value):
        if requests and requests < case.needed:
            return case.unjudged(f"too few requests: {gate.shown_figure} needs {case.needed}; there were {requests}")
        return case.unjudged("no request has a response time")
    passed = not case.breaks(value, limit)
    if FIGURES[gate.figure].adds_up:
        said = f"{written(value, 'count')} {gate.figure} in the {case.window} window"
    else:
        said = f"{gate.shown_figure} was {written(value, gate.unit)} in the {case.window} window"
        said += f", of {requests:,} request{'s' * (requests != 1)}"
    return case.result(passed, "; ".join([said, *([about] if about else [])]), value, limit)


def _stretches(case: _Case) -> _Stretches:
    gate, cells = case.gate, case.cells
    number, usual_s = len(cells.end_s), float(np.median(cells.seconds))
    last = np.arange(number)
    follows = np.concatenate([[False], cells.begin_s[1:] - cells.end_s[:-1] <= usual_s / 2])
    first = last
    if gate.over_s is not None:
        first = np.searchsorted(cells.end_s, cells.end_s - gate.over_s + usual_s / 2, side="right")
        first = np.minimum(first, last)
        covered = np.concatenate([[0], np.cumsum(cells.seconds)])
        whole = covered[last + 1] - covered[first] >= gate.over_s - usual_s / 2
        first, last, follows = first[whole], last[whole], follows[whole]
    values, requests = cells.figures(gate, first, last)
    if gate.over_s is not None and gate.percentile is not None:
        values = np.where(requests >= case.needed, values, np.nan)
    return _Stretches(cells.begin_s[first], cells.end_s[last], cells.seconds[last], values, requests, follows, usual_s)


def _of_seconds(case: _Case, limit: float, found: _Stretches) -> GateResult:
    gate, known = case.gate, ~np.isnan(found.values)
    seconds = np.where(known, np.round(found.seconds, 1), 0.0)
    if not seconds.sum():
        return case.unjudged(_too_few(case, found))
    is_true = COMPARISONS[gate.comparison](found.values, limit) & known
    share = float(seconds[is_true].sum() / seconds.sum())
    reached = share >= gate.share - 1e-9
    bad = known & (~is_true if gate.says == "holds" else is_true)
    said = f"{gate.shown_figure} {gate.comparison} {written(limit, gate.unit)}"
    because = f"{said} in {written(share, 'ratio')} of {seconds.sum():,.4g} s"
    at_s = found.end_s[np.argmax(bad)] if bad.any() else None
    return case.result(reached == (gate.says == "holds"), because, share, gate.share, at_s, unit="ratio")


def _of_each(case: _Case, limit: float, found: _Stretches) -> GateResult:
    gate, known = case.gate, ~np.isnan(found.values)
    if not known.any():
        return case.unjudged(_too_few(case, found))
    bad, worst = case.breaks(found.values, limit), case.worst(found.values)
    value = found.values[worst]
    extreme = "at most" if gate.direction < 0 else "at least"
    said = f"{gate.shown_figure} over {written(gate.over_s, 's')} was {extreme} {written(value, gate.unit)}"
    because = f"{said}, {_span(found.begin_s[worst], found.end_s[worst])}"
    return case.result(not bad.any(), because, value, limit, found.end_s[np.argmax(bad)])


def _for_a_time(case: _Case, limit: float, found: _Stretches) -> GateResult:
    """Look for a time of `for_s` without a break in which every value breaks the limit."""
    gate, number = case.gate, len(found.end_s)
    covered = np.concatenate([[0], np.cumsum(found.seconds)])
    last = np.arange(number)
    first = np.searchsorted(covered, covered[1:] - gate.for_s + found.usual_s / 2, side="right") - 1
    breaks = np.cumsum(~found.follows)
    whole = (first >= 0) & (breaks[last] == breaks[np.maximum(first, 0)])
    first, last = first[whole], last[whole]
    if not len(first):
        return case.unjudged(_too_short(case, gate.for_s))
    # A value that is missing is no evidence: no stretch with one is worse than any limit.
    nothing, mildest = (-np.inf, np.minimum) if gate.direction < 0 else (np.inf, np.maximum)
    values = np.append(np.where(np.isnan(found.values), nothing, found.values), nothing)
    mild = mildest.reduceat(values, np.stack([first, last + 1], axis=1).ravel())[::2]
    mild = np.where(np.isinf(mild), np.nan, mild)
    if np.isnan(mild).all():
        return case.unjudged(f"no {written(gate.for_s, 's')} with requests in every interval")
    bad = case.breaks(mild, limit)
    value = mild[case.worst(mild)]
    side, other = ("over", "under") if gate.direction < 0 else ("under", "over")
    if not bad.any():
        worst = f"in its worst {written(gate.for_s, 's')}"
        because = f"{worst}, {gate.shown_figure} was never {other} {written(value, gate.unit)}"
        return case.result(True, because, value, limit)
    begin, at = int(first[np.argmax(bad)]), int(last[np.argmax(bad)])
    worse, end = case.breaks(found.values, limit), at
    while end + 1 < number and worse[end + 1] and found.follows[end + 1]:
        end += 1
    because = f"{side} {written(limit, gate.unit)} {_span(found.end_s[begin] - found.seconds[begin], found.end_s[end])}"
    return case.result(False, because, value, limit, found.end_s[at])


def _too_few(case: _Case, found: _Stretches) -> str:
    most = int(found.requests.max(initial=0))
    if case.gate.percentile is not None and 0 < most < case.needed:
        return f"too few requests: {case.gate.shown_figure} needs {case.needed} in a stretch; there were {most} at most"
    return "no request has a response time"


def _too_short(case: _Case, needed_s: float) -> str:
    there_s = float(case.cells.seconds.sum())
    if there_s < needed_s:
        return f"it needs {needed_s:g} s; the {case.window} window has {round(there_s, 1):g} s"
    return f"no {needed_s:g} s without a gap in the {case.window} window"


def _span(begin_s: float, end_s: float) -> str:
    return f"from {round(max(0.0, begin_s), 1):g} s to {round(end_s, 1):g} s"
