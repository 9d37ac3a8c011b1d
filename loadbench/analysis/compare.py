"""A comparison of sides, each a run or a pool of runs: what differs, what each measured, verdicts, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from loadbench.analysis import fingerprint
from loadbench.analysis.columns import frame, percentile_columns
from loadbench.analysis.decompose import why_mean, why_percentile
from loadbench.analysis.effect import CONFIDENCE, Effect, effect, holm
from loadbench.analysis.intervals import nearest_rank, values_of
from loadbench.analysis.measurements import Measurements, Side, measure
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.verdict import IMPORTANT_PERCENT, Pair, Verdict, headline, pair, percent, to_frame, verdicts
from loadbench.errors import InvalidInput, one_of

RATES = ("requests_per_s", "failure_ratio")
IMPORTANT_POINTS = 1.0


@dataclass(frozen=True, eq=False)
class Compared:
    """Sides, one of them the reference, in one window; nothing is computed before it is asked for.

    `allowed` names the checked facts that may differ; `trust` takes INVALID runs all the same; `endpoints` are those
    that verdicts are asked for, all if left out.
    """

    sides: tuple[Side, ...]
    reference: int
    percentiles: tuple[float, ...] = (50.0, 95.0, 99.0)
    important_percent: float = IMPORTANT_PERCENT
    allowed: frozenset[str] = frozenset()
    trust: bool = False
    endpoints: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        percentile_columns(self.percentiles)
        if not 0 < self.important_percent < 1000:
            raise InvalidInput(
                f"important_percent must be above 0 and below 1000; not {self.important_percent!r}",
                field="important_percent",
            )

    @cached_property
    def measured(self) -> list[Measurements]:
        """What each side measured, all with the same endpoints."""
        together = measure([sample for side in self.sides for sample in side.samples])
        ends = np.cumsum([len(side.samples) for side in self.sides])
        return [
            together.of(slice(int(end) - len(side.samples), int(end)))
            for side, end in zip(self.sides, ends, strict=True)
        ]

    @property
    def others(self) -> list[int]:
        """The places of the sides that are not the reference."""
        return [place for place in range(len(self.sides)) if place != self.reference]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each other side with the reference."""
        base = self.sides[self.reference]
        return [pair(self.sides[place], base, allow_different=self.allowed, trust=self.trust) for place in self.others]

    @cached_property
    def family(self) -> list[Verdict]:
        """The verdicts on all endpoints and percentiles, corrected for their number."""
        return self._verdicts(
            self.pairs, [self.measured[place] for place in self.others], self.percentiles, self.endpoints
        )

    def verdict(self, endpoint: str = AGGREGATED, percentile: float = 95.0, *, side: str | None = None) -> Verdict:
        """Answer one question that was there before the figures were seen; it is corrected for no other."""
        place = self.place(side)
        given = [self.pairs[self.others.index(place)]]
        return self._verdicts(given, [self.measured[place]], (percentile,), endpoints=(endpoint,))[0]

    def _verdicts(
        self,
        pairs: Sequence[Pair],
        measured: Sequence[Measurements],
        percentiles: Sequence[float],
        endpoints: Sequence[str] | None = None,
    ) -> list[Verdict]:
        return verdicts(
            pairs, measured, self.measured[self.reference],
            percentiles=percentiles, endpoints=endpoints, important_percent=self.important_percent,
        )  # fmt: skip

    def place(self, side: str | None) -> int:
        """Give the place of a side by its label; of the only one besides the reference if none is named."""
        known = {self.sides[place].label: place for place in self.others}
        if side is None and len(known) == 1:
            return next(iter(known.values()))
        if side not in known:
            raise one_of("side", side, known)
        return known[side]

    @property
    def headline(self) -> str:
        """What all verdicts come to, in a sentence."""
        return headline(self.family)

    def differences(self, *, only_differing: bool = True) -> pd.DataFrame:
        """Give the facts in which the sides differ; see `fingerprint.differences`."""
        order = [self.reference, *self.others]
        sides = [(self.sides[place].label, self.sides[place].runs) for place in order]
        return fingerprint.differences(sides, only_differing=only_differing)

    def table(self) -> pd.DataFrame:
        """Give what each side measured; see `table`."""
        labels = [side.label for side in self.sides]
        return table(labels, self.measured, self.reference, percentiles=self.percentiles)

    def verdicts(self) -> pd.DataFrame:
        """Give all verdicts; see `loadbench.analysis.verdict.to_frame`."""
        return to_frame(self.family)

    def rates(self) -> pd.DataFrame:
        """Give the verdicts on throughput and failures; see `rates`."""
        measured = [self.measured[place] for place in self.others]
        return rates(self.pairs, measured, self.measured[self.reference], important_percent=self.important_percent)

    def why(self, percentile: float | str = 95.0, *, side: str | None = None, seed: int = 0) -> pd.DataFrame:
        """Split the change of a percentile of all requests, or of their "mean", into mix and latency by endpoint."""
        before, after = self.measured[self.reference], self.measured[self.place(side)]
        if percentile == "mean":
            return why_mean(before, after)
        if isinstance(percentile, str):
            raise InvalidInput(
                f'percentile must be a number in [0, 100] or "mean"; not {percentile!r}', field="percentile"
            )
        percentile_columns([percentile])
        return why_percentile(before, after, percentile, seed=seed)


def table(
    labels: Sequence[str],
    measured: Sequence[Measurements],
    reference: int,
    *,
    percentiles: Sequence[float] = (50, 95, 99),
) -> pd.DataFrame:
    """Answer "what did each side measure, and how far is that from the reference?".

    Parameters
    ----------
    labels, measured : sequences
        A label and the measurements of each side; a pool's runs are merged into one.
    reference : int
        Which of the sides is the reference.
    percentiles : sequence of float
        In [0, 100].

    Returns
    -------
    DataFrame
        A row per endpoint and side that had requests to it, the reference first, Aggregated last: side, method, name,
        runs, requests, failure_ratio, requests_per_s (of one run, on average), mean_ms, the percentiles (of all
        requests of the side, from merged histograms), then requests_per_s_percent, mean_percent, p95_percent and so
        on: the change against the reference, missing in its own rows.

    Notes
    -----
    Percentiles are those of `loadbench.analysis.summary`, the middles of buckets that are 1 % wide. Their changes are
    of percentiles read between the edges of the buckets, since a change goes by no steps.
    """
    wanted = percentile_columns(percentiles)
    order = [reference, *(place for place in range(len(labels)) if place != reference)]
    figures = [_figures(each, wanted) for each in measured]
    changes = [_changes(each, measured[reference], wanted) for each in measured]
    rows: list[dict[str, Any]] = []
    for place, (method, name) in enumerate(measured[reference].endpoints):
        for side in order:
            own = {column: values[place] for column, values in figures[side].items()}
            if own["requests"]:
                head = {"side": labels[side], "method": method, "name": name, "runs": len(measured[side].seconds)}
                changed = {
                    column: math.nan if side == reference else values[place] for column, values in changes[side].items()
                }
                rows.append(head | own | changed)
    columns = ["side", "method", "name", "runs", *figures[reference], *changes[reference]]
    return frame({column: [row[column] for row in rows] for column in columns})


def _figures(measured: Measurements, wanted: dict[str, float]) -> dict[str, np.ndarray]:
    whole = measured.merged()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "requests": whole.requests[0],
            "failure_ratio": whole.failures[0] / whole.requests[0],
            "requests_per_s": whole.requests[0] / whole.seconds[0],
            "mean_ms": _mean_ms(whole),
            **{name: _exact(whole, q) for name, q in wanted.items()},
        }


def _changes(measured: Measurements, reference: Measurements, wanted: dict[str, float]) -> dict[str, np.ndarray]:
    own, base = measured.merged(), reference.merged()
    quantiles = [each.quantiles(list(wanted.values()))[0].T for each in (own, base)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = {
            "requests_per_s": (own.requests[0] / own.seconds[0]) / (base.requests[0] / base.seconds[0]),
            "mean": _mean_ms(own) / _mean_ms(base),
            **{name.removesuffix("_ms"): new / old for name, new, old in zip(wanted, *quantiles, strict=True)},
        }
    return {f"{name}_percent": 100 * (np.where(np.isfinite(each), each, np.nan) - 1) for name, each in ratios.items()}


def _mean_ms(whole: Measurements) -> np.ndarray:
    return whole.sum_ms[0] / np.where(whole.timed[0] > 0, whole.timed[0], whole.requests[0])


def _exact(whole: Measurements, percentile: float) -> np.ndarray:
    """Read a percentile as every table does: the value of the bucket, so that figures agree to the last digit."""
    counts, timed = whole.counts[0], whole.timed[0]
    if not counts.shape[1]:
        return np.full(len(timed), np.nan)
    place = (counts.cumsum(axis=1) < nearest_rank(percentile, timed)[:, None]).sum(axis=1)
    values = values_of(np.minimum(place, counts.shape[1] - 1) + whole.first_bucket)
    return np.where(timed > 0, values, np.nan)


def rates(
    pairs: Sequence[Pair],
    measured: Sequence[Measurements],
    reference: Measurements,
    *,
    important_percent: float = IMPORTANT_PERCENT,
    important_points: float = IMPORTANT_POINTS,
) -> pd.DataFrame:
    """Answer "did throughput or the share of failures change, and how sure is that?".

    Parameters
    ----------
    pairs, measured, reference
        As for `loadbench.analysis.verdict.verdicts`.
    important_percent, important_points : float
        The change that matters: of requests/s in percent, of the share of failures in percentage points.

    Returns
    -------
    DataFrame
        A row per side, endpoint and figure: side, method, name, figure, verdict ("higher", "lower", "no difference
        found", "inconclusive", "not comparable"), effect, low, high, smallest, unit, p_adjusted, runs, reference_runs,
        because. The p-values are corrected for all rows together, apart from those of response times.

    Notes
    -----
    As for response times, a run gives one value: the logarithm of its requests per second; of failures the angle
    (arcsin sqrt(x / (n + 1)) + arcsin sqrt((x + 1) / (n + 1))) / 2 of x failed among n. Its variance by chance alone
    is 1 / (4 n + 2) at most, whatever the share is, and is taken for the least that runs scatter by.

    References
    ----------
    Freeman, Tukey: Transformations related to the angular and the square root. Annals of Mathematical Statistics 21,
    1950.
    """
    scales = {"requests_per_s": _throughput, "failure_ratio": _angle}
    limits = {"requests_per_s": important_percent, "failure_ratio": important_points}
    rows, effects = [], []
    for given, mine in zip(pairs, measured, strict=True):
        there = (reference.requests.sum(axis=0) > 0) & (mine.requests.sum(axis=0) > 0)
        for place in np.flatnonzero(there).tolist():
            for figure, scale in scales.items():
                before, floor = scale(reference, place)
                after, other_floor = scale(mine, place)
                found = None if given.obstacle else effect(before, after, floor=max(floor, other_floor))
                rows.append((given, reference.endpoints[place], figure, float(before.mean()), len(after), len(before)))
                effects.append(found)
    tested = [place for place, found in enumerate(effects) if found is not None]
    adjusted = dict(zip(tested, holm([effects[place].p for place in tested]), strict=True))
    told = [
        _told(row, effects[place], adjusted.get(place), len(tested), limits[row[2]]) for place, row in enumerate(rows)
    ]
    columns = (
        "side", "method", "name", "figure", "verdict", "effect", "low", "high", "smallest", "unit", "p_adjusted",
        "runs", "reference_runs", "because",
    )  # fmt: skip
    return frame({column: [each[column] for each in told] for column in columns})


def _throughput(measured: Measurements, place: int) -> tuple[np.ndarray, float]:
    requests = measured.requests[:, place]
    with np.errstate(divide="ignore"):
        values = np.log(np.maximum(requests, 0.5) / np.maximum(measured.seconds, 1e-9))
    return values, float(1 / max(1.0, requests.max()))


def _angle(measured: Measurements, place: int) -> tuple[np.ndarray, float]:
    n, x = measured.requests[:, place], measured.failures[:, place]
    values = (np.arcsin(np.sqrt(x / (n + 1))) + np.arcsin(np.sqrt((x + 1) / (n + 1)))) / 2
    return values, float(1 / (4 * n.min() + 2))


def _back(figure: str, base: float, difference: float) -> float:
    """Give a difference on the scale of the test in the unit that people read."""
    if figure == "requests_per_s":
        return percent(difference)
    angle = min(max(base + difference, 0.0), math.pi / 2)
    return 100 * (math.sin(angle) ** 2 - math.sin(base) ** 2)


def _told(row: tuple, found: Effect | None, p: float | None, tested: int, limit: float) -> dict[str, Any]:
    given, (method, name), figure, base, runs, reference_runs = row
    head = {
        "side": given.side.label, "method": method, "name": name, "figure": figure, "runs": runs,
        "reference_runs": reference_runs, "unit": "percent" if figure == "requests_per_s" else "points",
    }  # fmt: skip
    if found is None or p is None:
        word = "not comparable" if given.obstacle else "inconclusive"
        because = given.obstacle or "too few runs to know how much runs scatter: repeat"
        return (
            head
            | {"verdict": word, "because": because}
            | dict.fromkeys(("effect", "low", "high", "smallest", "p_adjusted"), math.nan)
        )
    sizes = {"effect": found.size, "low": found.low, "high": found.high, "smallest": found.smallest(tested)}
    shown = {column: _back(figure, base, size) for column, size in sizes.items()}
    if p <= 1 - CONFIDENCE:
        word, because = ("higher" if found.size > 0 else "lower"), f"p={p:.2g}, corrected for {tested} questions"
    elif shown["smallest"] > limit or max(-shown["low"], shown["high"]) > limit:
        word, because = "inconclusive", f"these runs cannot tell a change of {limit:g} {head['unit']} from none: repeat"
    else:
        word, because = "no difference found", f"a rise of {shown['smallest']:.2g} {head['unit']} would have been found"
    return head | shown | {"verdict": word, "because": because, "p_adjusted": p}
