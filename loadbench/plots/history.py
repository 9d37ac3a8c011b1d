"""A figure of a test over its runs: segments between change points, and what a person said of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench.analysis.downsample import thin
from loadbench.plots.look import (
    BLUE,
    GREY,
    INK,
    MAX_POINTS,
    SKY,
    TEMPLATE,
    VERMILLION,
    axis_title,
    label,
    legend_below,
    no_data,
    number_array,
    short_label,
    titled,
)

STATES = {
    "found": (VERMILLION, "dash", "not judged yet"),
    "confirmed": (VERMILLION, "solid", "confirmed"),
    "dismissed": (GREY, "dot", "dismissed"),
}
MAX_TICKS = 14
MAX_NAMED_CHANGES = 12


def history(
    frame: pd.DataFrame,
    changes: pd.DataFrame | None = None,
    *,
    column: str = "p95_ms",
    title: str = "History",
    subtitle: str = "",
) -> go.Figure:
    """Answer "when did it get slower, and since which revision?".

    Parameters
    ----------
    frame : DataFrame
        A row per run, oldest first: `column`, and where known `started_at` (UTC), `revision`, `name`, `segment_ms` (or
        any `segment_*`: the level of the run's segment), `low_ms` and `high_ms` (the interval of the level),
        `valid` (bool; others are drawn as open circles).
    changes : DataFrame, optional
        A row per change point: `position` (row of `frame` at which the new level begins), `change_percent`, `state`
        ("found", "confirmed" or "dismissed"), `revision` (optional).
    column : str
        What is drawn; its ending names the unit.
    """
    if frame.empty or not frame[column].notna().any():
        return no_data(title, subtitle, "no finished run has this figure")
    frame = frame.reset_index(drop=True)
    values = number_array(frame, column)
    kept = thin([values], MAX_POINTS)
    figure = go.Figure()
    _segments(figure, frame, kept)
    valid = frame["valid"].to_numpy(dtype=bool)[kept] if "valid" in frame else np.ones(len(kept), bool)
    figure.add_scatter(
        x=kept + 1,
        y=values[kept],
        mode="markers+lines",
        line={"color": SKY, "width": 1},
        marker={"color": BLUE, "size": 8, "symbol": np.where(valid, "circle", "circle-open").tolist()},
        customdata=[_told(row) for _, row in frame.iloc[kept].iterrows()],
        name=axis_title(column),
        hovertemplate="%{y:,.4~g}<br>%{customdata}<extra></extra>",
    )
    for number, (_, change) in enumerate((changes if changes is not None else frame.iloc[:0]).iterrows()):
        _change(figure, change, named=number < MAX_NAMED_CHANGES, level=number % 3)
    ticks = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), MAX_TICKS)).round().astype(int))
    figure.update_xaxes(
        title_text="runs, oldest first (date, revision)",
        tickvals=ticks + 1,
        ticktext=[_tick(frame.iloc[index]) for index in ticks],
        range=[0.5, len(frame) + 0.5],
        tickangle=0 if len(ticks) <= 8 else -40,
    )
    figure.update_yaxes(title_text=axis_title(column), range=_range(values))
    figure.update_layout(
        template=TEMPLATE,
        height=440,
        margin={"t": 150},
        hovermode="closest",
    )
    legend_below(figure, axis_px=112)
    return titled(figure, title, subtitle)


def _range(values: np.ndarray) -> list[float]:
    """Leave room around the values, so that a change of a few percent is seen; never below zero."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.2 * (high - low), 0.06 * abs(high))
    return [max(0.0, low - room), high + room]


def _segments(figure: go.Figure, frame: pd.DataFrame, kept: np.ndarray) -> None:
    """Draw the level of each segment as a step, and its interval as a band."""
    position = kept + 1
    if {"low_ms", "high_ms"} <= set(frame.columns):
        none = {"shape": "hvh", "width": 0}
        figure.add_scatter(
            x=position, y=frame["low_ms"].iloc[kept], mode="lines", line=none, showlegend=False, hoverinfo="skip"
        )
        figure.add_scatter(
            x=position, y=frame["high_ms"].iloc[kept], mode="lines", line=none, fill="tonexty",
            fillcolor="rgba(86, 180, 233, 0.22)", name="interval of the level", hoverinfo="skip",
        )  # fmt: skip
    level = next((name for name in frame.columns if name.startswith("segment_")), None)
    if level:
        figure.add_scatter(
            x=position,
            y=frame[level].iloc[kept],
            mode="lines",
            line={"color": INK, "width": 2.4, "shape": "hvh"},
            name="level of the segment",
            hoverinfo="skip",
        )


def _change(figure: go.Figure, change: pd.Series, *, named: bool, level: int) -> None:
    color, dash, words = STATES[change["state"]]
    at = float(change["position"]) + 0.5
    figure.add_vline(x=at, line={"color": color, "width": 1.8, "dash": dash})
    if named:
        revision = change.get("revision")
        since = "" if revision is None or pd.isna(revision) else f", revision {revision:g}"
        figure.add_annotation(
            x=at, y=1, yref="paper", yanchor="bottom", yshift=2 + 15 * level, xanchor="left", xshift=-4,
            text=label(f"{change['change_percent']:+.1f} % ({words}{since})"), showarrow=False,
            font={"size": 11, "color": INK},
        )  # fmt: skip


def _told(row: pd.Series) -> str:
    parts = [short_label(row["name"]) if "name" in row else "", _tick(row).replace("<br>", " ")]
    return "<br>".join(filter(None, parts))


def _tick(row: pd.Series) -> str:
    date = f"{row['started_at']:%Y-%m-%d}" if "started_at" in row and not pd.isna(row["started_at"]) else ""
    revision = f"r{row['revision']:g}" if "revision" in row and not pd.isna(row["revision"]) else ""
    return "<br>".join(filter(None, [date, revision])) or str(int(row.name) + 1)
