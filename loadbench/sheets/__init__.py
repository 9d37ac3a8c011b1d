"""What a report shows besides charts. Each sheet is one line in a terminal, and HTML in a notebook and its page."""

from __future__ import annotations

from loadbench.sheets.comparison import comparison_figures, comparison_headline, comparison_runs, verdicts
from loadbench.sheets.run import (
    GateCounts,
    data_sha256,
    figures,
    gate_counts,
    gates,
    provenance,
    run_headline,
    script,
    settings,
)
from loadbench.sheets.table import Sheet, Table, diff, table
from loadbench.sheets.trend import Period, changes, period, trend_headline

__all__ = [
    "GateCounts",
    "Period",
    "Sheet",
    "Table",
    "changes",
    "comparison_figures",
    "comparison_headline",
    "comparison_runs",
    "data_sha256",
    "diff",
    "figures",
    "gate_counts",
    "gates",
    "period",
    "provenance",
    "run_headline",
    "script",
    "settings",
    "table",
    "trend_headline",
    "verdicts",
]
