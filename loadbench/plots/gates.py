"""Gates on a timeline: the figure that each gate watches, its limit, and when it was broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from loadbench.analysis.downsample import thin
from loadbench.model import Window
from loadbench.plots.look import (
    BLUE,
    MAX_POINTS,
    TEMPLATE,
    VERMILLION,
    broken_at_gaps,
    clock,
    no_data,
    number_array,
    shade,
    short_label,
    time_axis,
    titled,
)

MAX_GATES = 12
MAX_SPANS = 60


@dataclass(frozen=True)
class GateTrace:
    """One gate as it is drawn.

    Attributes
    ----------
    text : str
        The gate as it was written.
    elapsed_s, values : arrays of float
        What it watches, at the end of each interval; nan where there was nothing.
    unit : str
        Of `values` and `limit`, for the axis: "ms", "%", "errors/s".
    limit : float or None
        The limit in that unit; None if it cannot be drawn as a line.
    passed : bool or None
        None if it could not be judged.
    broken_s : sequence of (start, end)
        When it was broken, in seconds since the start of the run.
    because : str
        One sentence: why it passed or did not.
    """

    text: str
    elapsed_s: np.ndarray
    values: np.ndarray
    unit: str
    limit: float | None = None
    passed: bool | None = None
    broken_s: Sequence[tuple[float, float]] = ()
    because: str = ""


def gates(
    traces: Sequence[GateTrace], *, title: str = "Gates", subtitle: str = "", windows: Sequence[Window] = ()
) -> go.Figure:
    """Answer "which gate was broken, when, and by how much?": a panel per gate, broken spans shaded and marked.

    The first 12 gates are drawn; the subtitle says so if there are more.
    """
    if not traces:
        return no_data(title, subtitle, "no gate is set")
    shown = traces[:MAX_GATES]
    # Plotly wants the gap between panels as a share of the whole height.
    gap = 0 if len(shown) == 1 else 62 / (110 + 170 * len(shown))
    figure = make_subplots(
        rows=len(shown),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=gap,
        subplot_titles=[_heading(each) for each in shown],
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    longest_s = max((float(np.max(each.elapsed_s)) for each in shown if len(each.elapsed_s)), default=0.0)
    for row, each in enumerate(shown, start=1):
        _panel(figure, each, row)
        shade(figure, windows, longest_s=longest_s, row=row, col=1)
    time_axis(figure, longest_s)
    figure.update_xaxes(showticklabels=True)
    figure.update_xaxes(title_text="time since start", row=len(shown))
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(template=TEMPLATE, height=160 + 170 * len(shown), showlegend=False)
    if len(traces) > len(shown):
        subtitle = "; ".join(filter(None, [subtitle, f"the first {len(shown)} of {len(traces)} gates"]))
    return titled(figure, title, subtitle)


def _heading(each: GateTrace) -> str:
    state = {True: "✓ passed", False: "✗ BROKEN", None: "? not judged"}[each.passed]
    return f"<b>{state}</b>  {short_label(each.text, 70)}" + (
        f": {short_label(each.because, 80)}" if each.because else ""
    )


def _panel(figure: go.Figure, each: GateTrace, row: int) -> None:
    frame = broken_at_gaps(pd.DataFrame({"elapsed_s": each.elapsed_s, "value": each.values}, dtype=float))
    values = number_array(frame, "value")
    chosen = thin([values], MAX_POINTS) if len(values) else np.zeros(0, np.int64)
    figure.add_scatter(
        x=clock(number_array(frame, "elapsed_s")[chosen]),
        y=values[chosen],
        mode="lines" if len(chosen) > 1 else "markers",
        line={"color": BLUE, "width": 1.6},
        hovertemplate=f"%{{y:,.4~g}} {each.unit}<extra></extra>",
        row=row,
        col=1,
    )
    if each.limit is not None:
        figure.add_hline(
            y=each.limit,
            line={"color": VERMILLION, "width": 1.8, "dash": "dash"},
            annotation={"text": f"limit {each.limit:,.4g} {each.unit}", "font": {"size": 10.5}},
            annotation_position="top right",
            row=row,
            col=1,
        )
    for start_s, end_s in each.broken_s[:MAX_SPANS]:
        figure.add_vrect(
            x0=float(clock(start_s)), x1=float(clock(end_s)), fillcolor=VERMILLION, opacity=0.22, layer="below",
            line={"width": 1, "color": VERMILLION}, row=row, col=1,
        )  # fmt: skip
    figure.update_yaxes(title_text=each.unit, row=row)
