"""Latency over time as a heatmap: the shape that a line of percentiles hides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from loadbench.analysis.heatmap import Heatmap
from loadbench.model import Window
from loadbench.plots.look import (
    INK,
    LEGEND_ABOVE,
    LOG_MS,
    TEMPLATE,
    clock,
    no_data,
    number_array,
    shade,
    time_axis,
    titled,
)

MAX_GAPS = 40
CLIPPED_AT = 0.997
"""Cells above this quantile of the filled ones share the darkest colour; their counts are told on hover."""
# Cividis (Nuñez, Anderton, Renslow, 2018), from its bright end: even steps for colour-blind eyes and in grey, and
# paper stays white where there is nothing.
SCALE = ((0.0, "#FFF3B8"), (0.2, "#E4CF5B"), (0.4, "#B5A96D"), (0.6, "#7C7B78"), (0.8, "#414D6B"), (1.0, "#00224E"))
LINES = {"p50_ms": ("dash", "p50"), "p95_ms": ("solid", "p95"), "p99_ms": ("dot", "p99")}


def heatmap(
    grid: Heatmap,
    *,
    colour: str = "rate",
    title: str = "Response times over time",
    subtitle: str = "",
    windows: Sequence[Window] = (),
) -> go.Figure:
    """Answer "how were response times spread, and when did that change?".

    Parameters
    ----------
    grid : Heatmap
        Of `loadbench.analysis.heatmap.heatmap`: at most 300 x 120 cells.
    colour : {"rate", "share"}
        Requests per second in a cell, or the share of the requests of its column; both logarithmic.
    windows : sequence of Window
        Their borders are drawn, and named at the top.
    """
    if not grid.counts.size:
        return no_data(title, subtitle, "no request with a response time")
    cells, unit = (grid.rate_per_s, "requests/s") if colour == "rate" else (100 * grid.share, "% of requests")
    with np.errstate(divide="ignore"):
        z = np.log10(np.where(cells > 0, cells, np.nan))
    figure = go.Figure()
    # A single crowded cell, as in a stall, would leave the darker half of the scale to itself.
    low, high = float(np.nanmin(z)), float(np.nanquantile(z, CLIPPED_AT))
    clipped = float(np.nanmax(z)) > high + 1e-9
    high = max(high, low + 0.3)
    ticks = _ticks(low, high)
    names = [f"{tick:,.4g}" for tick in ticks]
    if clipped:
        ticks = np.append(ticks[ticks < 0.8 * 10**high], 10**high)
        names = [f"{tick:,.4g}" for tick in ticks[:-1]] + [f"≥ {10**high:,.2g}"]
    figure.add_heatmap(
        x=clock(grid.edges_s),
        y=grid.edges_ms,
        z=z,
        customdata=np.where(grid.counts > 0, grid.counts, 0),
        colorscale=SCALE,
        zmin=low,
        zmax=high,
        colorbar={
            "title": {"text": f"{unit}<br>(log)", "font": {"size": 11}}, "tickvals": np.log10(ticks),
            "ticktext": names, "thickness": 14, "len": 1, "outlinewidth": 0,
        },
        hoverongaps=False,
        hovertemplate="%{x|%H:%M:%S} since start<br>%{y:,.4~g} ms<br>%{customdata:,} requests<extra></extra>",
    )  # fmt: skip
    _gaps(figure, grid)
    _lines(figure, grid)
    longest_s = float(grid.edges_s[-1])
    time_axis(figure, longest_s)
    shade(figure, windows, longest_s=longest_s, tint=False)
    figure.update_xaxes(title_text="time since start", showgrid=False, range=clock(grid.edges_s[[0, -1]]))
    low, high = np.log10(grid.edges_ms[[0, -1]])
    figure.update_yaxes(**LOG_MS, range=[low - 0.02, high + 0.02], showgrid=False)
    figure.update_layout(
        template=TEMPLATE,
        height=480,
        hovermode="closest",
        legend=LEGEND_ABOVE,
    )
    return titled(figure, title, subtitle)


def _lines(figure: go.Figure, grid: Heatmap) -> None:
    """Draw percentiles over the cells: dark on a white border, so that they are seen on every colour."""
    frame = grid.percentiles
    middle_s = _middles(grid)
    for column, (dash, name) in LINES.items():
        if column not in frame:
            continue
        values = np.full(len(grid.covered_s), np.nan)
        values[grid.counts.sum(axis=0) > 0] = number_array(frame, column)
        for color, width, shown in (("white", 3.8, False), ("#B8002E" if name == "p95" else INK, 1.8, True)):
            figure.add_scatter(
                x=clock(middle_s),
                y=values,
                mode="lines" if len(values) > 1 else "markers",
                line={"color": color, "width": width, "dash": dash if shown else "solid"},
                opacity=1 if shown else 0.65,
                name=name,
                showlegend=shown,
                hoverinfo=None if shown else "skip",
                hovertemplate="%{y:,.4~g} ms" if shown else None,
            )


def _middles(grid: Heatmap) -> np.ndarray:
    return (grid.edges_s[1:] + grid.edges_s[:-1]) / 2


def _gaps(figure: go.Figure, grid: Heatmap) -> None:
    """Mark the time of which there is no interval: an empty column alone would mean that there were no requests."""
    gaps = np.flatnonzero(grid.covered_s == 0)
    if len(gaps):
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name="nothing measured",
            marker={"symbol": "square", "size": 11, "color": "#D0D7DE"},
        )  # fmt: skip
    for index in gaps[:MAX_GAPS].tolist():
        figure.add_vrect(
            x0=float(clock(grid.edges_s[index])), x1=float(clock(grid.edges_s[index + 1])), fillcolor="#D0D7DE",
            layer="below", line={"width": 0},
        )  # fmt: skip


def _ticks(low: float, high: float) -> np.ndarray:
    powers = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    many = high - low > 2.5
    ticks = powers if many else np.sort(np.concatenate([powers, 2 * powers, 5 * powers]))
    inside = ticks[(np.log10(ticks) >= low - 1e-9) & (np.log10(ticks) <= high + 1e-9)]
    return inside if len(inside) else np.array([10.0**low])
