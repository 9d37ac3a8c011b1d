"""Sides of comparisons, drawn with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadbench import testing as synthetic
from loadbench.analysis.compare import Compared
from loadbench.analysis.measurements import Sample, Side, measure
from loadbench.analysis.validity import Validity
from loadbench.analysis.verdict import Verdict, pair, verdicts

VALID = Validity("VALID")


def a_side(label: str, runs: int, *, seed: object = 0, validity: Validity = VALID, **how: Any) -> Side:
    """Draw runs without intervals; `how` as for `loadbench.testing.condensed`."""
    made = (synthetic.condensed(seed=f"{seed} {label} {number}", **how) for number in range(runs))
    return Side(label, tuple(Sample(each.run, each.document, validity) for each in made))


def compared(*sides: Side, reference: int | None = None, **how: Any) -> Compared:
    """Compare; the last side is the reference."""
    return Compared(sides, len(sides) - 1 if reference is None else reference, **how)


def asked(reference: Side, new: Side, percentiles: Sequence[float] = (95,), **how: Any) -> list[Verdict]:
    """Ask of all requests together, or of other endpoints."""
    measured = measure((*reference.samples, *new.samples))
    first = len(reference.samples)
    how = {"endpoints": ["Aggregated"]} | how
    return verdicts(
        [pair(new, reference)], [measured.of(slice(first, None))], measured.of(slice(0, first)),
        percentiles=percentiles, **how,
    )  # fmt: skip
