"""How much a system can carry: measured levels of load with intervals, a fitted curve with its band, the knee."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from loadbench.plots.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    TEMPLATE,
    VERMILLION,
    axis_title,
    legend_below,
    no_data,
    number_array,
    titled,
)


def scalability(
    points: pd.DataFrame,
    curve: pd.DataFrame | None = None,
    *,
    x: str = "users",
    y: str = "requests_per_s",
    knee: float | None = None,
    limit: float | None = None,
    within: float | None = None,
    title: str = "Scalability",
    subtitle: str = "",
) -> go.Figure:
    """Answer "how many users fit, and what happens beyond?".

    Parameters
    ----------
    points : DataFrame
        A row per level measured: `x`, `y`, and where known `low` and `high` (the interval of `y`) and `offered` (what
        was asked for, in the unit of `y`).
    curve : DataFrame, optional
        The fitted law on a grid: `x`, `y`, and where known `low` and `high`. The part beyond the last level measured
        is dashed: it is an extrapolation.
    x, y : str
        Column names; their endings name the units.
    knee : float, optional
        Where the curve turns, on the x axis.
    limit : float, optional
        What `y` may not exceed (a response time) or fall below.
    within : float, optional
        The largest load that keeps the limit, on the x axis.
    """
    if points.empty:
        return no_data(title, subtitle, "no level of load was measured")
    figure = go.Figure()
    if curve is not None and len(curve):
        _curve(figure, curve, x, y, measured=float(points[x].max()))
    if "offered" in points:
        figure.add_scatter(
            x=points[x], y=points["offered"], mode="lines+markers", name="offered",
            line={"color": GREY, "dash": "dot", "width": 1.5}, marker={"symbol": "line-ew-open", "size": 12},
        )  # fmt: skip
    values, error = number_array(points, y), None
    if {"low", "high"} <= set(points.columns):
        low, high = number_array(points, "low"), number_array(points, "high")
        error = {"type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low, "width": 4}
    figure.add_scatter(
        x=points[x], y=values, error_y=error, mode="markers", name="measured", marker={"color": BLUE, "size": 9},
        hovertemplate=f"%{{y:,.4~g}} {axis_title(y)} at %{{x:,.4~g}} {axis_title(x)}<extra></extra>",
    )  # fmt: skip
    if knee is not None:
        _mark(figure, knee, f"knee at {knee:,.3g} {axis_title(x)}", color=INK, dash="dash", row=0)
    if within is not None:
        _mark(figure, within, f"{within:,.3g} {axis_title(x)} keep the limit", color=GREEN, dash="dot", row=1)
    if limit is not None:
        figure.add_hline(y=limit, line={"color": VERMILLION, "width": 1.6, "dash": "longdash"})
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=limit, yanchor="bottom", text=f"limit {limit:,.4g}", showarrow=False
        )
    figure.update_xaxes(title_text=axis_title(x), rangemode="tozero")
    figure.update_yaxes(title_text=axis_title(y), rangemode="tozero")
    figure.update_layout(
        template=TEMPLATE, height=450, hovermode="closest", margin={"t": 130},
    )  # fmt: skip
    legend_below(figure)
    return titled(figure, title, subtitle)


def _curve(figure: go.Figure, curve: pd.DataFrame, x: str, y: str, *, measured: float) -> None:
    curve = curve.sort_values(x, kind="stable")
    if {"low", "high"} <= set(curve.columns):
        none = {"width": 0}
        figure.add_scatter(x=curve[x], y=curve["low"], mode="lines", line=none, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=curve[x], y=curve["high"], mode="lines", line=none, fill="tonexty",
            fillcolor="rgba(230, 159, 0, 0.22)", name="band of the fit", hoverinfo="skip",
        )  # fmt: skip
    inside, beyond = curve[curve[x] <= measured], curve[curve[x] >= measured]
    for part, dash, name in ((inside, "solid", "fitted law"), (beyond, "dash", "beyond what was measured")):
        if len(part):
            figure.add_scatter(
                x=part[x], y=part[y], mode="lines", line={"color": ORANGE, "width": 2, "dash": dash}, name=name,
                hovertemplate="%{y:,.4~g} at %{x:,.4~g}",
            )  # fmt: skip


def _mark(figure: go.Figure, at: float, text: str, *, color: str, dash: str, row: int) -> None:
    figure.add_vline(x=at, line={"color": color, "width": 1.6, "dash": dash})
    figure.add_annotation(
        x=at, y=1, yref="paper", yanchor="bottom", yshift=2 + 15 * row, xanchor="left", xshift=-4, text=text,
        showarrow=False, font={"size": 11},
    )  # fmt: skip
