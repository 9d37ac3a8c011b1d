"""The sides of a comparison, read from the seals of their runs: no interval is read, whatever their length."""

from __future__ import annotations

from collections.abc import Sequence

from loadbench.analysis.measurements import Sample, Side
from loadbench.analysis.windows import STEADY, WHOLE, named
from loadbench.errors import InvalidInput
from loadbench.html import short_id
from loadbench.model import LoadTestRun
from loadbench.sealing import Seal, seals
from loadbench.store import Store

Group = tuple[str, Sequence[LoadTestRun]]
"""A label, and runs that are taken as repetitions of each other."""
MAX_RUNS = 500


def arrange(
    runs: Sequence[LoadTestRun],
    *,
    reference: Sequence[LoadTestRun] = (),
    reference_label: str = "reference",
    together: bool = False,
) -> tuple[list[Group], int]:
    """Make groups of runs that were named one by one; the reference comes last.

    Parameters
    ----------
    runs : sequence of LoadTestRun
        The first is the reference, unless others are named.
    reference : sequence of LoadTestRun
        What to compare with, several taken as repetitions.
    together : bool
        Take the other runs as repetitions of each other, not each as a side of its own.
    """
    chosen = list({run.id: run for run in reference}.values()) or list(runs[:1])
    label = reference_label if len(chosen) > 1 else run_label(chosen[0]) if chosen else reference_label
    taken = {run.id for run in chosen}
    others = [run for run in {run.id: run for run in runs}.values() if run.id not in taken]
    if together and len(others) > 1:
        groups: list[Group] = [(pool_label(others), others)]
    else:
        groups = [(run_label(run), [run]) for run in others]
    return [*groups, (label, chosen)], len(groups)


def run_label(run: LoadTestRun) -> str:
    """Name a run as a side: its id, shortened, and its revision."""
    return short_id(run.id) + (f" (revision {run.revision_number})" if run.revision_number else "")


def pool_label(runs: Sequence[LoadTestRun]) -> str:
    """Name several runs as a side: by their revision, if they have one in common."""
    numbers = {run.revision_number for run in runs}
    number = numbers.pop() if len(numbers) == 1 else None
    return f"revision {number}" if number else "pool"


def read_sides(
    store: Store, groups: Sequence[Group], *, reference: int, window: str = STEADY
) -> tuple[tuple[Side, ...], dict[str, Seal]]:
    """Read what the runs of each group come down to in a window, by one query.

    Parameters
    ----------
    groups : sequence of (label, runs)
        At least two. A run of the reference that is on another side too is left out of the reference: it would be
        compared with itself.
    reference : int
        Which group is the reference.
    window : str
        "steady", "whole", or another window of the runs.

    Returns
    -------
    tuple of Side, dict of str to Seal
        The sides in the order given, and the seals by run id.

    Raises
    ------
    InvalidInput
        If there are fewer than two groups, one has no runs, or no run has such a window.
    """
    if len(groups) < 2:
        raise InvalidInput("a comparison needs two sides at least: name another run or pool", field="runs")
    chosen = _apart(groups, reference)
    runs = {run.id: run for _, members in chosen for run in members}
    if len(runs) > MAX_RUNS:
        raise InvalidInput(
            f"{len(runs)} runs are more than {MAX_RUNS}: compare fewer, such as the last 50", field="runs"
        )
    sealed = dict(zip(runs, seals(store, list(runs.values()), windows=(window,)), strict=True))
    if window != WHOLE and not any(each.name == window for seal in sealed.values() for each in seal.windows):
        named(next(iter(sealed.values())).windows, window)  # its message names those there are
    sides = tuple(
        Side(
            label,
            tuple(
                Sample(sealed[run.id].run, sealed[run.id].parts.get(window), sealed[run.id].validity) for run in members
            ),
        )
        for label, members in chosen
    )
    return sides, sealed


def _apart(groups: Sequence[Group], reference: int) -> list[Group]:
    elsewhere = {run.id for place, (_, runs) in enumerate(groups) if place != reference for run in runs}
    chosen, labels = [], []
    for place, (label, runs) in enumerate(groups):
        kept = [run for run in runs if place != reference or run.id not in elsewhere]
        if not kept:
            both = ": all its runs are on the other side too" if runs else " has no runs"
            raise InvalidInput(f"{label}{both}: name other runs, or start some", field="runs")
        labels.append(label)
        number = labels.count(label)
        chosen.append((label if number == 1 else f"{label} ({number})", list({run.id: run for run in kept}.values())))
    return chosen
