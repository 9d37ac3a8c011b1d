"""Sheets of a comparison: the verdict, the runs with their validity, verdicts and figures as tables for readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from loadbench import html
from loadbench.sheets.table import Sheet, Table, render, table

if TYPE_CHECKING:
    from loadbench.comparison import Comparison


def comparison_headline(comparison: Comparison) -> Sheet:
    """Open a comparison: the verdict in a sentence, what was compared with what, and which runs to doubt."""
    word, _, sentence = comparison.headline.partition(": ")
    runs = comparison.validity()
    doubted = [
        f"{html.short_id(run_id)}: {validity}"
        for run_id, validity in zip(runs.index, runs["validity"], strict=True)
        if validity != "VALID"
    ]
    sizes = runs.groupby("side", sort=False).size()
    names = {side: f"{side} ({number} run{'' if number == 1 else 's'})" for side, number in sizes.items()}
    return Sheet(
        comparison.headline,
        render(
            "comparison_headline.html.j2",
            word=word,
            sentence=sentence[:1].upper() + sentence[1:],
            others=[name for side, name in names.items() if side != comparison.reference],
            reference=names[comparison.reference],
            window=comparison.window,
            number=len(runs),
            valid=len(runs) - len(doubted),
            doubted=doubted,
        ),
    )


def comparison_runs(comparison: Comparison) -> Table:
    """List all runs that were compared, with whether their figures can be trusted."""
    return table(
        comparison.validity(),
        {"side": "side", "run_id": "run", "started_at": "started", "status": "status", "revision": "revision",
         "users": "users", "validity": "validity"},
    )  # fmt: skip


def verdicts(comparison: Comparison) -> Table:
    """Write the verdicts for readers, what has changed first."""
    found = comparison.verdicts()
    rank = found["verdict"].map({"slower": 0, "faster": 1}).fillna(2)
    found = found.assign(rank=rank).sort_values("rank", kind="stable")
    rows = [
        {
            "side": row["side"],
            "endpoint": f"{row['method']} {row['name']}".strip(),
            "figure": f"p{row['percentile']:g}",
            "verdict": row["verdict"],
            "change": _signed(row["effect_percent"]),
            "95 % interval": _interval(row),
            "could have found": _signed(row["smallest_percent"]),
            "because": row["because"],
        }
        for row in found.to_dict("records")
    ]
    columns = ["endpoint", "figure", "verdict", "change", "95 % interval", "could have found", "because"]
    several = ["side"] if found["side"].nunique() > 1 else []
    shown = pd.DataFrame(rows, columns=["side", *columns])[[*several, *columns]]
    return table(shown, numbers=("figure", "change", "95 % interval", "could have found"))


def comparison_figures(comparison: Comparison) -> Table:
    """Write what each side measured, with the change against the reference behind each time."""
    found = comparison.table()
    times = [name for name in found.columns if name.endswith("_ms")]
    rows = [
        {
            "endpoint": f"{row['method']} {row['name']}".strip(),
            "side": row["side"],
            "requests": html.show(row["requests"], "count"),
            "failed": html.show(row["failure_ratio"], "ratio"),
            "requests/s": html.FORMATS["/s"].number(row["requests_per_s"]),
            **{name.removesuffix("_ms"): _time(row, name) for name in times},
        }
        for row in found.to_dict("records")
    ]
    columns = ["endpoint", "side", "requests", "failed", "requests/s", *(name.removesuffix("_ms") for name in times)]
    return table(pd.DataFrame(rows, columns=columns), {name: name for name in columns}, numbers=columns[2:])


def _time(row: dict[str, Any], name: str) -> str:
    change = row[f"{name.removesuffix('_ms')}_percent"]
    return html.show(row[name], "ms") + ("" if html.is_missing(change) else f" ({change:+.1f} %)")


def _signed(percent: float) -> str:
    return html.MISSING if html.is_missing(percent) else f"{percent:+.1f} %"


def _interval(row: dict[str, Any]) -> str:
    low, high = row["low_percent"], row["high_percent"]
    return html.MISSING if html.is_missing(low) else f"{low:+.1f} to {high:+.1f} %"
