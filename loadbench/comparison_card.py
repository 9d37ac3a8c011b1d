"""The HTML card of a comparison: the verdict sentence, what differs, the figures, the verdicts, why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from loadbench.analysis.effect import CONFIDENCE
from loadbench.analysis.series import percentile_name
from loadbench.html import MISSING, is_missing, show, templates

SHOWN_ROWS = 30
SHOWN_LINES = 40


def comparison_card(
    *,
    headline: str,
    caption: str,
    differences: pd.DataFrame,
    script_diff: str,
    table: pd.DataFrame,
    verdicts: pd.DataFrame,
    why: Sequence[str],
) -> str:
    """Draw a comparison as an escaped HTML card; the frames are those of `Comparison`."""
    verdict, _, sentence = headline.partition(": ")
    lines = script_diff.splitlines()
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            verdict=verdict,
            sentence=sentence,
            caption=caption,
            facts=[(aspect, *values) for aspect, *values in differences.itertuples(name=None)],
            sides=list(differences.columns[1:]),
            script="\n".join(lines[:SHOWN_LINES]),
            script_more=max(0, len(lines) - SHOWN_LINES),
            percentiles=_percentiles(table),
            figures=[_figures(row, _percentiles(table)) for row in table.head(SHOWN_ROWS).to_dict("records")],
            figures_more=max(0, len(table) - SHOWN_ROWS),
            verdicts=[_verdict(row) for row in _telling(verdicts).head(SHOWN_ROWS).to_dict("records")],
            verdicts_more=max(0, len(verdicts) - SHOWN_ROWS),
            tested=int(verdicts["p_adjusted"].notna().sum()),
            several=verdicts["side"].nunique() > 1,
            alarms=f"{100 * (1 - CONFIDENCE):.0f} %",
            why=list(why),
        )
    )


def _percentiles(table: pd.DataFrame) -> list[str]:
    return [name.removesuffix("_ms") for name in table.columns if name.endswith("_ms") and name != "mean_ms"]


def _telling(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Put what has changed first."""
    rank = verdicts["verdict"].map({"slower": 0, "faster": 1}).fillna(2)
    return verdicts.assign(rank=rank).sort_values("rank", kind="stable")


def _figures(row: dict[str, Any], percentiles: Sequence[str]) -> list[str]:
    cells = [
        f"{row['method']} {row['name']}".strip(),
        row["side"],
        show(row["requests"], "count"),
        show(row["failure_ratio"], "ratio"),
        show(row["requests_per_s"], "/s"),
    ]
    for name in ("mean", *percentiles):
        change = row[f"{name}_percent"]
        cells.append(
            show(row[f"{name}_ms"], "ms") + ("" if is_missing(change) else f" ({round(change, 1) + 0.0:+.1f} %)")
        )
    return cells


def _verdict(row: dict[str, Any]) -> list[str]:
    interval = f"{row['low_percent']:+.1f} to {row['high_percent']:+.1f} %"
    return [
        row["side"],
        f"{row['method']} {row['name']}".strip(),
        percentile_name(row["percentile"]),
        row["verdict"],
        _percent(row["effect_percent"]),
        MISSING if is_missing(row["low_percent"]) else interval,
        _percent(row["smallest_percent"], sign=False),
        row["because"],
    ]


def _percent(value: float, *, sign: bool = True) -> str:
    if is_missing(value):
        return MISSING
    return f"{round(value, 1) + 0.0:+.1f} %" if sign else f"{value:.1f} %"
