"""Endpoint groups: which endpoints of a run are meant by a name, by several, or by a pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun

AGGREGATED = "Aggregated"
_SHOWN = 5


def places(run: LoadTestRun, endpoints: str | Sequence[str] | None) -> tuple[int, ...] | None:
    """Answer "which endpoints of the run are these?".

    Parameters
    ----------
    run : LoadTestRun
    endpoints : str or sequence of str, optional
        Method and name ("GET /api/products"), a name alone (of every method), or a pattern in which `*` stands for
        anything ("GET /api/*"); a group of several of them. "Aggregated", or nothing, means all.

    Returns
    -------
    tuple of int or None
        Their places in the run's list of endpoints, each once; None for all.

    Raises
    ------
    InvalidInput
        If one of them fits no endpoint of the run; the message names some that there are.
    """
    wanted = [endpoints] if isinstance(endpoints, str) else list(endpoints or ())
    if not wanted or AGGREGATED in wanted:
        return None
    found: dict[int, None] = {}
    for each in wanted:
        fitting = _fitting(run, each)
        if not fitting:
            raise _unknown(run, each)
        found.update(dict.fromkeys(fitting))
    return tuple(found)


def _fitting(run: LoadTestRun, text: str) -> list[int]:
    known = list(enumerate(run.endpoints))
    exact = [index for index, each in known if text == str(each)] or [i for i, each in known if text == each.name]
    if exact or "*" not in text:
        return exact
    pattern = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
    return [index for index, each in known if pattern.fullmatch(str(each)) or pattern.fullmatch(each.name)]


def _unknown(run: LoadTestRun, text: str) -> InvalidInput:
    there = ", ".join(str(each) for each in run.endpoints[:_SHOWN]) or "none yet"
    more = ", ..." if len(run.endpoints) > _SHOWN else ""
    return InvalidInput(f"no endpoint {text[:80]!r} in {run.id}; there are: {there}{more}", field="endpoints")
