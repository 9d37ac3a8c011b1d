"""Fingerprint: the facts that make runs comparable, and those that explain why they differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from loadbench.errors import one_of
from loadbench.model import LoadTestRun

NONE = "–"
_LOGIN = re.compile(r"(?<=://)[^/?#@\s]*@")


@dataclass(frozen=True)
class Fact:
    """One fact of a run: where it stands, its unit, and whether runs must agree in it to be comparable."""

    of: Callable[[LoadTestRun], Any]
    unit: str = ""
    checked: bool = False


def _environment(name: str) -> Callable[[LoadTestRun], Any]:
    return lambda run: getattr(run.environment, name) if run.environment else None


FACTS: dict[str, Fact] = {
    "test": Fact(lambda run: run.load_test_id or run.name, checked=True),
    "target": Fact(lambda run: _LOGIN.sub("…@", run.target_url), checked=True),
    "users": Fact(lambda run: run.target_users, checked=True),
    "spawn rate": Fact(lambda run: f"{run.spawn_rate:g}", "/s", checked=True),
    "duration": Fact(lambda run: run.duration_sec, "s", checked=True),
    "arguments": Fact(lambda run: " ".join(run.arguments) or None, checked=True),
    "revision": Fact(lambda run: run.revision_number),
    "script sha256": Fact(lambda run: (_environment("script_sha256")(run) or "")[:12] or None),
    "user classes": Fact(lambda run: ", ".join(_environment("user_classes")(run) or ()) or None),
    "environment": Fact(lambda run: run.env_id),
    "cluster": Fact(lambda run: run.cluster_id),
    "workers": Fact(lambda run: run.workers),
    "host": Fact(_environment("host")),
    "Locust": Fact(_environment("locust")),
    "Python": Fact(_environment("python")),
    "origin": Fact(lambda run: run.origin),
    "status": Fact(lambda run: run.status.value),
}
"""The registry. Checked ones describe what was asked of which system: with another load, another number is no news.
The revision is what is usually compared; it and what the run ran on are listed."""

CHECKED = tuple(name for name, fact in FACTS.items() if fact.checked)


def value(run: LoadTestRun, aspect: str) -> str:
    """Give a fact of a run as text, with its unit."""
    fact = FACTS[aspect]
    found = fact.of(run)
    return NONE if found is None else f"{found} {fact.unit}".rstrip()


def disagreements(runs: Iterable[LoadTestRun]) -> dict[str, list[str]]:
    """Give the checked facts in which the runs do not agree, each with its values in the order of the runs.

    Returns
    -------
    dict of str to list of str
        Empty for comparable runs.
    """
    runs = list(runs)
    found = {aspect: list(dict.fromkeys(value(run, aspect) for run in runs)) for aspect in CHECKED}
    return {aspect: values for aspect, values in found.items() if len(values) > 1}


def allowed(allow_different: bool | str | Iterable[str]) -> frozenset[str]:
    """Read which of the checked facts may differ: True for all, or names.

    Raises
    ------
    InvalidInput
        If a name is not that of a checked fact.
    """
    if isinstance(allow_different, bool):
        return frozenset(CHECKED) if allow_different else frozenset()
    names = [allow_different] if isinstance(allow_different, str) else list(allow_different)
    for name in names:
        if name not in CHECKED:
            raise one_of("allow_different", name, CHECKED)
    return frozenset(names)


def differences(sides: Sequence[tuple[str, Sequence[LoadTestRun]]], *, only_differing: bool = True) -> pd.DataFrame:
    """Answer "in what do these differ besides their figures?".

    Parameters
    ----------
    sides : sequence of (str, sequence of LoadTestRun)
        A label and one or several runs.
    only_differing : bool
        Leave out in what all runs agree.

    Returns
    -------
    DataFrame
        A row per fact, indexed by aspect. `comparability`: "must agree" or "listed"; then a column per label with the
        values as text, those of several runs with commas. The last rows, "only here", list the endpoints that only one
        side had, if there are such.
    """
    labels = [label for label, _ in sides]
    rows = {}
    for aspect, fact in FACTS.items():
        values = [list(dict.fromkeys(value(run, aspect) for run in runs)) for _, runs in sides]
        if not only_differing or len({text for texts in values for text in texts}) > 1:
            rows[aspect] = ["must agree" if fact.checked else "listed", *map(", ".join, values)]
    known = [{str(endpoint) for run in runs for endpoint in run.endpoints} for _, runs in sides]
    alone = [
        sorted(own - set().union(*(other for place, other in enumerate(known) if place != index)))
        for index, own in enumerate(known)
    ]
    if any(alone) and len(sides) > 1:
        rows["endpoints only here"] = ["listed", *(", ".join(names) or NONE for names in alone)]
    columns = ["comparability", *labels]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=range(len(columns)), dtype="str")
    found.columns = pd.Index(columns, dtype="str")
    return found.rename_axis("aspect")


def script_diff(before: str, after: str, *, names: tuple[str, str] = ("reference", "new")) -> str:
    """Compare two scripts, as a unified diff; empty if they are the same."""
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), *names)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
