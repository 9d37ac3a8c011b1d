"""Run every measurement: a JSON line for each figure, a table at the end, and reports/bench.json with a chart of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from loadbench import exports
from loadbench.plots import look

MEASUREMENTS = (
    "plugin",
    "workers",
    "times",
    "spool",
    "ingest",
    "live",
    "charts",
    "frames",
    "compare",
    "report",
    "growth",
)
OUTPUT = Path("reports")


def main() -> int:
    """Run the measurements named on the command line, or all."""
    chosen = sys.argv[1:] or MEASUREMENTS
    figures, failed = [], []
    for name in chosen:
        print(f"{name}...", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        figures += [{"measurement": name, **figure} for figure in found]
        if done.returncode:
            failed.append(name)
    for figure in figures:
        print(json.dumps(figure))
    print()
    for figure in figures:
        goal = f"   goal: {figure['goal']}" if figure["goal"] else ""
        print(f"{figure['what']:<90} {figure['value']:>10,.3g} {figure['unit']}{goal}")
    exports.write(OUTPUT / "bench.json", json.dumps(figures, indent=1).encode())
    print(f"\n{exports.export_chart(chart(figures), OUTPUT / 'bench.html')}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def chart(figures: list[dict[str, Any]]) -> go.Figure:
    """Draw each figure that has a goal as a multiple of it; 1 is the goal, and less is better."""
    known = [figure for figure in figures if figure["goal"]][::-1]
    shares = [share(figure) for figure in known]
    met = [value <= 1 for value in shares]
    bars = go.Bar(
        x=[max(value, 0) for value in shares],
        y=[figure["what"] for figure in known],
        orientation="h",
        marker={
            "color": [look.BLUE if each else look.ORANGE for each in met],
            "pattern": {"shape": ["" if each else "/" for each in met]},
        },
    )
    beside = {"x": 1.01, "xref": "paper", "xanchor": "left", "showarrow": False}
    texts = [f"{figure['value']:,.3g} {figure['unit']}, goal {figure['goal']}" for figure in known]
    layout = {
        "title": {"text": "What loadbench costs, as a multiple of its goals (hatched: missed)"},
        "xaxis": {"title": {"text": "multiple of the goal (1 = goal, less is better)"}},
        "yaxis": {"automargin": True, "dtick": 1},
        "height": 200 + 26 * len(known),
        "margin": {"r": 220},
        "annotations": [{**beside, "y": place, "text": text} for place, text in enumerate(texts)],
        "template": look.TEMPLATE,
        "shapes": [{"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot"}}],
    }
    return go.Figure(bars, layout)


def share(figure: dict[str, Any]) -> float:
    """Give value / goal, or goal / value where more is better."""
    operator, limit = figure["goal"].split()
    return figure["value"] / float(limit) if operator == "<=" else float(limit) / figure["value"]


if __name__ == "__main__":
    sys.exit(main())
