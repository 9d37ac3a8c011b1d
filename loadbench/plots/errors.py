"""Failures over time, stacked by message or by endpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench.model import Window
from loadbench.plots.look import (
    GREY,
    INK,
    PATTERNS,
    TEMPLATE,
    clock,
    legend_below,
    no_data,
    shade,
    short_labels,
    styles,
    time_axis,
    titled,
)

MAX_KINDS = 6
HATCHING = {"fillmode": "overlay", "solidity": 0.3, "size": 7, "fgcolor": INK}


def errors_over_time(
    frame: pd.DataFrame,
    *,
    by: str = "message",
    title: str = "Errors over time",
    subtitle: str = "",
    windows: Sequence[Window] = (),
) -> go.Figure:
    """Answer "which errors came when?".

    Parameters
    ----------
    frame : DataFrame
        Of `loadbench.analysis.errors_over_time`: `elapsed_s` (end of a span of time), `method`, `name`, `message`,
        `count`, `failures_per_s`; at most 300 spans.
    by : {"message", "endpoint"}
        What the bars are split by. The six most frequent have a colour and a hatching each, all others share one.
    """
    if frame.empty:
        return no_data(title, subtitle, "no request failed")
    frame = frame.assign(
        kind=frame["message"] if by == "message" else (frame["method"] + " " + frame["name"]).str.strip()
    )
    totals = frame.groupby("kind", sort=False)["count"].sum().sort_values(ascending=False, kind="stable")
    chosen = totals.index[: MAX_KINDS if len(totals) > MAX_KINDS + 1 else MAX_KINDS + 1]
    spans = np.sort(frame["elapsed_s"].unique())
    width_s = _width_s(frame)
    figure = go.Figure()
    drawn = dict(zip(chosen, short_labels(chosen, 70), strict=True))
    series = [(frame[frame["kind"] == kind], f"{name} ({totals[kind]:,})") for kind, name in drawn.items()]
    rest = frame[~frame["kind"].isin(chosen)]
    if len(rest):
        kinds = rest["kind"].nunique()
        series.append(
            (rest, f"{kinds} other {'messages' if by == 'message' else 'endpoints'} ({rest['count'].sum():,})")
        )
    for number, ((rows, name), style) in enumerate(zip(series, styles(len(series)), strict=True)):
        added = rows.groupby("elapsed_s")[["count", "failures_per_s"]].sum()
        figure.add_bar(
            x=clock(added.index.to_numpy() - width_s / 2),
            y=added["failures_per_s"],
            width=1000 * width_s,
            customdata=added["count"],
            name=name,
            marker={
                "color": GREY if number >= MAX_KINDS else style.color,
                "pattern": {
                    "shape": PATTERNS[number % len(PATTERNS)],
                    "fillmode": "overlay",
                    "solidity": 0.3,
                    "size": 7,
                    "fgcolor": INK,
                },
                "line": {"width": 0},
            },
            hovertemplate="%{y:,.3~g} errors/s (%{customdata:,})",
        )
    longest_s = float(spans[-1])
    time_axis(figure, longest_s)
    shade(figure, windows, longest_s=longest_s)
    figure.update_xaxes(title_text="time since start", range=clock([0, longest_s]))
    figure.update_yaxes(title_text="errors/s", rangemode="tozero")
    figure.update_layout(
        template=TEMPLATE,
        height=360,
        barmode="stack",
        bargap=0,
        hovermode="x unified",
    )
    legend_below(figure, columns=1)
    return titled(figure, title, subtitle)


def _width_s(frame: pd.DataFrame) -> float:
    """Give the length of a span: what its count was divided by to get its rate."""
    return float((frame["count"] / frame["failures_per_s"]).median())
