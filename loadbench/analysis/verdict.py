"""Verdicts: whether runs got faster or slower, as far as that may be claimed, and how sure it is.

What may be claimed, and at which measured rates, is in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from loadbench.agent.histogram import GAMMA
from loadbench.analysis import fingerprint
from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.effect import CONFIDENCE, LEAST_POOL, POWER, Effect, effect, holm, runs_needed
from loadbench.analysis.measurements import Measurements, Sample, Side
from loadbench.analysis.series import percentile_name
from loadbench.analysis.summary import AGGREGATED
from loadbench.errors import NotFound

Word = Literal["faster", "slower", "no difference found", "inconclusive", "not comparable"]
VERDICTS: tuple[Word, ...] = ("faster", "slower", "no difference found", "inconclusive", "not comparable")
IMPORTANT_PERCENT = 10.0
LEAST_BEYOND = 10
"""A percentile needs so many requests on the shorter side of it in each run: 200 for a p95, 1,000 for a p99."""
_FLOOR = math.log(GAMMA) ** 2 / 12
"""Variance of a value that is known to lie in a bucket, on the logarithmic scale."""


@dataclass(frozen=True)
class Verdict:
    """One verdict, why, and the effect in percent of the reference: `low_percent` to `high_percent` at 95 %.

    `smallest_percent` is the smallest slowdown that these runs would have shown 80 times in 100. `p` is corrected for
    the `tested` questions asked together.
    """

    verdict: Word
    because: str
    side: str
    reference: str
    endpoint: tuple[str, str]
    percentile: float
    runs: int
    reference_runs: int
    effect_percent: float | None = None
    low_percent: float | None = None
    high_percent: float | None = None
    smallest_percent: float | None = None
    p: float | None = None
    tested: int = 1
    notes: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """What it is about: "p95"."""
        return percentile_name(self.percentile)

    @property
    def endpoint_label(self) -> str:
        """The endpoint as people write it: "GET /api/products"."""
        return " ".join(part for part in self.endpoint if part)

    def __bool__(self) -> bool:
        raise TypeError("a verdict is no yes or no: look at its .verdict, such as verdict.verdict == 'slower'")

    def __repr__(self) -> str:
        return verdict_line(self)


def verdict_line(given: Verdict) -> str:
    """Write a verdict in one line."""
    parts = [f"{given.figure} {_figures(given)}".rstrip()]
    if given.p is not None:
        parts.append(f"{'adjusted ' if given.tested > 1 else ''}p{_p(given.p)}")
    parts.append(f"{_runs(given.runs)} against {given.reference_runs}")
    line = f"{given.verdict}: {', '.join(parts)}"
    if given.smallest_percent is not None:
        line += f"; smallest detectable change {_short(given.smallest_percent)} %"
    if given.verdict not in ("faster", "slower"):
        line += f"; {given.because}"
    return "; ".join((line, *given.notes))


def _figures(given: Verdict) -> str:
    if given.effect_percent is None:
        return ""
    if given.low_percent is None or given.high_percent is None:
        return f"{given.effect_percent:+.1f} %"
    interval = f"{CONFIDENCE:.0%}".replace("%", " %")
    return (
        f"{given.effect_percent:+.1f} % ({interval} interval {given.low_percent:+.1f} to {given.high_percent:+.1f} %)"
    )


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"={p:.3f}" if p < 0.1 else f"={p:.2f}"


def _short(percent: float) -> str:
    return f"{percent:.1f}" if percent < 10 else f"{percent:.0f}"


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"


def percent(log_ratio: float) -> float:
    """Turn a difference of logarithms into percent."""
    return 100 * math.expm1(min(log_ratio, 50.0))


@dataclass(frozen=True)
class Pair:
    """A side, the reference, and what keeps them from being compared (empty if nothing does)."""

    side: Side
    reference: Side
    obstacle: str
    notes: tuple[str, ...]


def pair(side: Side, reference: Side, *, allow_different: frozenset[str] = frozenset(), trust: bool = False) -> Pair:
    """Find out whether two sides may be compared.

    Parameters
    ----------
    allow_different : set of str
        The checked facts that may differ; the verdict says so then.
    trust : bool
        Take runs that are INVALID all the same.
    """
    samples = (*reference.samples, *side.samples)
    found = fingerprint.disagreements(sample.run for sample in samples)
    told = {aspect: f"{aspect} differs ({' or '.join(values[:4])})" for aspect, values in found.items()}
    obstacles = [text for aspect, text in told.items() if aspect not in allow_different]
    notes = [text for aspect, text in told.items() if aspect in allow_different]
    for level, sink in (("INVALID", notes if trust else obstacles), ("SUSPECT", notes)):
        doubtful = [sample for sample in samples if sample.validity.level == level]
        if doubtful:
            sink.append(_doubt(doubtful, level, every=len(doubtful) == len(samples)))
    empty = [sample.run.id for sample in samples if sample.document is None]
    if empty:
        obstacles.append(f"{empty[0]} has nothing in this window")
    return Pair(side, reference, "; ".join(obstacles), tuple(notes))


def _doubt(doubtful: Sequence[Sample], level: str, *, every: bool) -> str:
    reasons = {"; ".join(sample.validity.reasons) for sample in doubtful}
    if every and len(reasons) == 1:
        return f"all runs are {level} ({reasons.pop()})"
    more = f", and {len(doubtful) - 1} more" if len(doubtful) > 1 else ""
    return f"{doubtful[0].run.id} is {level} ({'; '.join(doubtful[0].validity.reasons)}){more}"


def verdicts(
    pairs: Sequence[Pair],
    measured: Sequence[Measurements],
    reference: Measurements,
    *,
    percentiles: Sequence[float] = (95,),
    endpoints: Sequence[str] | None = None,
    important_percent: float = IMPORTANT_PERCENT,
) -> list[Verdict]:
    """Answer "which endpoints got slower or faster, by how much, how sure?", all questions together.

    Parameters
    ----------
    pairs : sequence of Pair
        Each side with the reference.
    measured : sequence of Measurements
        What the runs of each side measured; endpoints as in `reference`.
    reference : Measurements
        What the runs of the reference measured.
    percentiles : sequence of float
        In [0, 100].
    endpoints : sequence of str, optional
        Only these, such as "GET /api/products" or "Aggregated"; all that both sides have if left out.
    important_percent : float
        The change that matters. "no difference found" is only said if such a change would have been found.

    Returns
    -------
    list of Verdict
        For each side, endpoint and percentile; p-values corrected for their number by Holm's method, so that where
        nothing has changed any of them says faster or slower in at most 5 of 100 comparisons.

    Raises
    ------
    NotFound
        If neither side has one of the endpoints.

    Notes
    -----
    A run gives one value, the logarithm of its percentile; see `loadbench.analysis.effect.effect`. "no difference
    found" also asks that the interval of the effect stays within the change that matters.
    """
    wanted = list(percentile_columns(percentiles).values())
    rows = [
        row
        for given, mine in zip(pairs, measured, strict=True)
        for row in _rows(given, mine, reference, wanted, endpoints)
    ]
    effects = [effect(row.before, row.after, floor=_FLOOR) if row.testable else None for row in rows]
    tested = [place for place, found in enumerate(effects) if found is not None]
    adjusted = dict(zip(tested, holm([effects[place].p for place in tested]), strict=True))
    important = math.log1p(important_percent / 100)
    return [
        row.open if effects[place] is None else _judged(row, effects[place], adjusted[place], len(tested), important)
        for place, row in enumerate(rows)
    ]


@dataclass(frozen=True, eq=False)
class _Row:
    """A question: the value of each run, and what there is to say if it cannot be tested."""

    open: Verdict
    testable: bool
    before: np.ndarray
    after: np.ndarray


def _rows(
    given: Pair,
    mine: Measurements,
    reference: Measurements,
    percentiles: Sequence[float],
    endpoints: Sequence[str] | None,
) -> list[_Row]:
    before, after = (np.log(each.quantiles(percentiles)) for each in (reference, mine))
    there = (reference.timed.sum(axis=0) > 0) & (mine.timed.sum(axis=0) > 0)
    labels = reference.labels
    places = [labels.index(name) for name in _known(endpoints, labels)] if endpoints else np.flatnonzero(there).tolist()
    rows = []
    for place in places:
        least = [min(each.timed[:, place].astype(int).tolist(), default=0) for each in (reference, mine)]
        for index, percentile in enumerate(percentiles):
            values = before[:, place, index], after[:, place, index]
            word, because = _obstacle(given, there[place], reference.timed[:, place].any(), least, percentile)
            difference = float(values[1].mean() - values[0].mean())
            opened = Verdict(
                verdict=word, because=because, side=given.side.label, reference=given.reference.label,
                endpoint=reference.endpoints[place], percentile=percentile,
                runs=len(values[1]), reference_runs=len(values[0]),
                effect_percent=percent(difference) if math.isfinite(difference) else None, notes=given.notes,
            )  # fmt: skip
            testable = word == "inconclusive" and not _too_few(least, percentile)
            rows.append(_Row(opened, testable, *values))
    return rows


def _known(endpoints: Sequence[str], labels: Sequence[str]) -> list[str]:
    for name in endpoints:
        if name not in labels:
            raise NotFound(f"no endpoint {name!r} in these runs; there are: {', '.join(labels)}")
    return list(endpoints)


def _too_few(least: Sequence[int], percentile: float) -> bool:
    return min(least) * min(percentile, 100 - percentile) < 100 * LEAST_BEYOND


def _obstacle(given: Pair, both: bool, in_reference: bool, least: Sequence[int], percentile: float) -> tuple[Word, str]:
    """Say what to answer if the question cannot be tested."""
    if given.obstacle:
        return "not comparable", given.obstacle
    if not both:
        return "not comparable", f"only in {given.reference.label if in_reference else given.side.label}"
    if _too_few(least, percentile):
        beyond = min(percentile, 100 - percentile)
        needed = f"{math.ceil(100 * LEAST_BEYOND / beyond):,} are needed" if beyond else "no number is enough"
        return "inconclusive", (
            f"too few requests for a {percentile_name(percentile)}: a run has {min(least):,}, {needed}"
        )
    sides = sorted((len(given.side.samples), len(given.reference.samples)))
    if sides[1] < 2:
        return "inconclusive", (
            "one run on each side cannot tell a change from the noise between runs: "
            "repeat both, or compare with a baseline of 5 runs"
        )
    return "inconclusive", (f"{_runs(sides[1])} do not tell how much runs scatter: {LEAST_POOL} at least, 5 are better")


def _judged(row: _Row, found: Effect, p: float, tested: int, important: float) -> Verdict:
    smallest = found.smallest(tested)
    told = replace(
        row.open,
        low_percent=percent(found.low),
        high_percent=percent(found.high),
        smallest_percent=percent(smallest),
        p=float(p),
        tested=tested,
    )
    shown, matters = _short(percent(smallest)), _short(percent(important))
    if p <= 1 - CONFIDENCE:
        word: Word = "slower" if found.size > 0 else "faster"
        of = f", corrected for {tested} questions" if tested > 1 else ""
        return replace(told, verdict=word, because=f"runs that do not differ would show this with p{_p(p)}{of}")
    if found.p <= 1 - CONFIDENCE:
        because = f"p{_p(found.p)} on its own is p{_p(p)} once corrected for {tested} questions: ask fewer, or repeat"
        return replace(told, verdict="inconclusive", because=because)
    if smallest > important:
        needed = _needed(row, important, tested)
        because = f"these runs could only have shown a change of {shown} %, and {matters} % matters{needed}"
        return replace(told, verdict="inconclusive", because=because)
    if max(-found.low, found.high) > important:
        because = f"the interval reaches beyond the {matters} % that matter: repeat"
        return replace(told, verdict="inconclusive", because=because)
    because = f"a change of {shown} % would have been found {100 * POWER:.0f} times in 100"
    return replace(told, verdict="no difference found", because=because)


def _needed(row: _Row, important: float, tested: int) -> str:
    spread = max(math.sqrt(values.var(ddof=1)) for values in (row.before, row.after) if len(values) > 1)
    runs = runs_needed(max(spread, math.sqrt(_FLOOR)), important, tested=tested)
    return f": {runs} runs on each side would do" if runs else ": too noisy for 100 runs"


def to_frame(given: Sequence[Verdict]) -> pd.DataFrame:
    """Put verdicts into a table.

    Returns
    -------
    DataFrame
        A row per verdict: side, method, name, percentile, verdict, effect_percent, low_percent, high_percent (95 %, of
        this question alone), smallest_percent (the smallest slowdown found 80 times in 100, by the threshold of all
        questions), p_adjusted, runs, reference_runs, because.
    """
    return frame(
        {
            "side": [each.side for each in given],
            "method": [each.endpoint[0] for each in given],
            "name": [each.endpoint[1] for each in given],
            "percentile": [each.percentile for each in given],
            "verdict": [each.verdict for each in given],
            "effect_percent": [each.effect_percent for each in given],
            "low_percent": [each.low_percent for each in given],
            "high_percent": [each.high_percent for each in given],
            "smallest_percent": [each.smallest_percent for each in given],
            "p_adjusted": [each.p for each in given],
            "runs": [each.runs for each in given],
            "reference_runs": [each.reference_runs for each in given],
            "because": [each.because for each in given],
        }
    )


def headline(given: Sequence[Verdict]) -> str:
    """Say in one sentence what a family of verdicts comes to."""
    changed = [each for each in given if each.verdict in ("slower", "faster")]
    if changed:
        worst = max(changed, key=lambda each: abs(each.effect_percent or 0))
        word = " and ".join(sorted({each.verdict for each in changed}, reverse=True))
        where = f"{worst.endpoint_label} {worst.figure} {_figures(worst)}"
        rest = f", the most of {len(changed)} changed of {len(given)} tested" if len(given) > 1 else ""
        return f"{word}: {where}{rest}"
    if not given:
        return "inconclusive: no endpoint is on both sides"
    words = {each.verdict for each in given}
    first = next((each for each in given if each.endpoint[1] == AGGREGATED), given[0])
    word = next(each for each in ("not comparable", "inconclusive", "no difference found") if each in words)
    if word == "inconclusive" and "no difference found" in words:
        unknown = [each for each in given if each.verdict == word]
        first = unknown[0]
        example = f"for example {first.endpoint_label} {first.figure}: {first.because}"
        return f"inconclusive: {len(unknown)} of {len(given)} figures cannot be told, {example}"
    return f"{word}: {first.because}"
