"""How a run went: users, rates and response times against the time since its start."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from loadbench.analysis.downsample import thin
from loadbench.model import Window
from loadbench.plots.look import (
    BLUE,
    GREEN,
    MAX_POINTS,
    PERCENTILES,
    TEMPLATE,
    VERMILLION,
    broken_at_gaps,
    clock,
    no_data,
    number_array,
    percentile_styles,
    shade,
    time_axis,
    titled,
)


def timeline(
    frame: pd.DataFrame,
    *,
    title: str,
    subtitle: str = "",
    points: int = MAX_POINTS,
    windows: Sequence[Window] = (),
) -> go.Figure:
    """Show how a run went: users, requests/s, errors/s and response times against the time since its start.

    Parameters
    ----------
    frame : DataFrame
        Columns `elapsed_s` (seconds), `timestamp` (UTC), `users`, `requests_per_s`, `failures_per_s`, `p50_ms`,
        `p95_ms`, `p99_ms`; a row per interval.
    title, subtitle : str
        The subtitle is the place for what the reader must know of the data: gaps, lost workers, clock skew.
    points : int
        A line longer than this is thinned to it, with every peak kept.
    windows : sequence of Window
        Shaded and named behind the lines.
    """
    if frame.empty:
        return no_data(title, subtitle, "no interval has arrived")
    frame = broken_at_gaps(_without_fragment(frame))
    titles = ("Users", "Requests per second", "Errors per second", "Response time")
    figure = make_subplots(
        rows=2, cols=2, subplot_titles=titles, shared_xaxes="all", horizontal_spacing=0.08, vertical_spacing=0.14
    )
    _line(figure, frame, "users", cell=(1, 1), name="users", color=BLUE, shape="hv", points=points)
    _line(figure, frame, "requests_per_s", cell=(1, 2), name="requests/s", color=GREEN, points=points)
    _line(figure, frame, "failures_per_s", cell=(2, 1), name="errors/s", color=VERMILLION, points=points)
    for column, (name, color) in PERCENTILES.items():
        _line(figure, frame, column, cell=(2, 2), name=name, color=color, points=points, legend=True)
    longest_s = float(frame["elapsed_s"].max())
    time_axis(figure, longest_s)
    figure.update_xaxes(showticklabels=True)
    figure.update_xaxes(title_text="time since start", row=2)
    for row, column, unit in ((1, 1, "users"), (1, 2, "requests/s"), (2, 1, "errors/s"), (2, 2, "ms")):
        figure.update_yaxes(title_text=unit, rangemode="tozero", row=row, col=column)
    figure.update_annotations(font_size=13, x=None)
    for index, annotation in enumerate(figure.layout.annotations):
        annotation.update(x=0 if index % 2 == 0 else 0.54, xanchor="left")
    for cell in ((1, 1), (1, 2), (2, 1), (2, 2)) if windows else ():
        names = "bottom" if cell[0] == 1 else ""
        shade(figure, windows, longest_s=longest_s, names=names, panel_px=400, row=cell[0], col=cell[1])
    figure.update_layout(
        template=TEMPLATE,
        height=620,
        hovermode="x unified",
        legend={"x": 1, "xanchor": "right", "y": 0.435, "yanchor": "bottom", "orientation": "h"},
    )
    return titled(figure, title, subtitle)


def _without_fragment(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the interval in which the run ended, if it lasted milliseconds: rates of so few requests are noise."""
    steps = frame["elapsed_s"].diff()
    return frame.iloc[:-1] if len(frame) > 2 and steps.iloc[-1] < steps.median() / 2 else frame


def _line(
    figure: go.Figure,
    frame: pd.DataFrame,
    column: str,
    *,
    cell: tuple[int, int],
    name: str,
    color: str,
    points: int,
    shape: str = "linear",
    legend: bool = False,
) -> None:
    values = number_array(frame, column)
    chosen = thin([values], points)
    # The box on hover ends with the wall clock; its title can only tell the time since the start.
    wall = column not in ("p50_ms", "p95_ms")
    value = "%{y:,.4~g} ms" if column.endswith("_ms") else "%{y:,.4~g}"
    shown = frame.iloc[chosen]
    figure.add_scatter(
        x=clock(shown["elapsed_s"]),
        y=values[chosen],
        customdata=shown["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S UTC").to_list() if wall else None,
        mode="lines" if len(chosen) > 1 else "markers",
        line={
            "color": color,
            "width": 1.8,
            "shape": shape,
            "dash": percentile_styles([column])[column].dash if column in PERCENTILES else "solid",
        },
        name=name,
        showlegend=legend,
        hovertemplate=value + ("<br>at %{customdata}" if wall else ""),
        row=cell[0],
        col=cell[1],
    )
