"""Percentiles over time, of all requests in one panel or of each endpoint in its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from loadbench.analysis.downsample import thin
from loadbench.model import Window
from loadbench.plots.look import (
    LOG_MS,
    MAX_POINTS,
    TEMPLATE,
    axis_title,
    broken_at_gaps,
    clock,
    is_percentile,
    no_data,
    number_array,
    percentile_styles,
    shade,
    short_labels,
    time_axis,
    titled,
)

MAX_PANELS = 12


def percentiles_over_time(
    frame: pd.DataFrame,
    *,
    title: str = "Percentiles over time",
    subtitle: str = "",
    windows: Sequence[Window] = (),
    points: int = MAX_POINTS,
) -> go.Figure:
    """Answer "how did the percentiles go, of all requests or of each endpoint?".

    Parameters
    ----------
    frame : DataFrame
        Of `frames.timeline` (one panel) or of `frames.endpoints`, with `method` and `name` (a panel per endpoint, the
        12 slowest first by their highest percentile's median; the subtitle says so if there are more): `elapsed_s`
        and any percentile columns, `p95_ms` and such.
    windows : sequence of Window
        Shaded and named behind the lines.
    points : int
        A line longer than this is thinned to it, with every peak kept.
    """
    columns = [name for name in frame.columns if is_percentile(name)]
    if not columns or frame.empty or not frame[columns].notna().any(axis=None):
        return no_data(title, subtitle, "no request with a response time")
    parts = _parts(frame, columns[-1])
    shown = dict(list(parts.items())[:MAX_PANELS])
    across = 1 if len(shown) == 1 else 2
    down = -(-len(shown) // across)
    height = 420 if down == 1 and across == 1 else 150 + 190 * down
    figure = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=short_labels(shown, 42) if across > 1 else None,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.05,
        vertical_spacing=56 / height if down > 1 else 0,
    )
    figure.update_annotations(font_size=12.5)
    longest_s = float(frame["elapsed_s"].max())
    for index, part in enumerate(shown.values()):
        row, col = index // across + 1, index % across + 1
        _panel(figure, part, columns, row=row, col=col, legend=index == 0, points=max(4, points // across))
        shade(figure, windows, longest_s=longest_s, panel_px=850 / across, row=row, col=col)
    _axes(figure, longest_s, number_array(frame, columns[0]), number_array(frame, columns[-1]))
    for col in range(1, across + 1):
        last = (len(shown) - col) // across + 1
        figure.update_xaxes(title_text="time since start", row=last, col=col)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        hovermode="x unified",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "yref": "paper"}
        | ({"yref": "container", "y": 1, "yanchor": "top"} if across > 1 else {}),
    )
    if len(parts) > len(shown):
        more = f"the {len(shown)} slowest of {len(parts)} endpoints"
        subtitle = "; ".join(filter(None, [subtitle, more]))
    return titled(figure, title, subtitle)


def _parts(frame: pd.DataFrame, highest: str) -> dict[str, pd.DataFrame]:
    """Split by endpoint, the slowest first."""
    if "name" not in frame:
        return {"": frame}
    parts = {f"{method} {name}".strip(): part for (method, name), part in frame.groupby(["method", "name"], sort=False)}
    typical = {name: np.nan_to_num(part[highest].median(), nan=-1.0) for name, part in parts.items()}
    return {name: parts[name] for name in sorted(parts, key=lambda name: (-typical[name], name))}


def _panel(
    figure: go.Figure, part: pd.DataFrame, columns: Sequence[str], *, row: int, col: int, legend: bool, points: int
) -> None:
    part = broken_at_gaps(part.sort_values("elapsed_s", kind="stable"))
    chosen = thin([number_array(part, column) for column in columns], max(points, 2 * len(columns) + 2))
    shown = part.iloc[chosen]
    for column, style in percentile_styles(columns).items():
        figure.add_scatter(
            x=clock(shown["elapsed_s"]),
            y=number_array(shown, column),
            mode="lines" if len(shown) > 1 else "markers",
            line={"color": style.color, "dash": style.dash, "width": 1.7},
            name=axis_title(column).removesuffix(" (ms)"),
            legendgroup=column,
            showlegend=legend,
            hovertemplate="%{y:,.4~g} ms",
            row=row,
            col=col,
        )


def _axes(figure: go.Figure, longest_s: float, low_ms: np.ndarray, high_ms: np.ndarray) -> None:
    """Choose a logarithmic axis where a linear one would press most lines onto its zero."""
    time_axis(figure, longest_s)
    figure.update_xaxes(showticklabels=True)
    positive = low_ms[low_ms > 0]
    wide = len(positive) > 0 and np.nanmax(high_ms) > 30 * np.nanmedian(positive)
    if wide:
        figure.update_yaxes(**LOG_MS | {"title_text": None})
        figure.update_yaxes(title_text="ms, logarithmic", col=1)
    else:
        figure.update_yaxes(rangemode="tozero")
        figure.update_yaxes(title_text="ms", col=1)
