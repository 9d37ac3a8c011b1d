"""Response times against the load: a point per interval, and a line through levels whose intervals are merged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench.analysis.downsample import thin
from loadbench.plots.look import (
    MAX_POINTS,
    TEMPLATE,
    axis_title,
    is_percentile,
    legend_below,
    no_data,
    number_array,
    percentile_styles,
    titled,
)


def response_time_against_load(
    frame: pd.DataFrame,
    levels: pd.DataFrame | None = None,
    *,
    against: str = "users",
    title: str = "",
    subtitle: str = "",
) -> go.Figure:
    """Answer "from which load on do response times grow?".

    Parameters
    ----------
    frame : DataFrame
        Of `frames.timeline`: a row per interval with `against` and percentile columns (`p50_ms`, `p95_ms`), drawn as a
        faint point each; at most 600 of each percentile, with every peak kept.
    levels : DataFrame, optional
        Of `load_levels.load_levels`: a row per level with `against` and the same percentiles, from merged histograms,
        drawn as a line.
    against : {"users", "requests_per_s"}
        The load.
    """
    title = title or f"Response time against {axis_title(against)}"
    given = [each for each in (frame, levels) if each is not None and len(each)]
    columns = [name for name in (given[0].columns if given else ()) if is_percentile(name)][:3]
    if not columns or not any(each[columns].notna().any(axis=None) for each in given):
        return no_data(title, subtitle, "no request with a response time")
    figure = go.Figure()
    ordered = frame.sort_values(against, kind="stable")
    chosen = thin([number_array(ordered, column) for column in columns], MAX_POINTS) if len(ordered) else []
    shown = ordered.iloc[chosen]
    for column, style in percentile_styles(columns).items():
        name = axis_title(column).removesuffix(" (ms)")
        figure.add_scatter(
            x=shown[against], y=number_array(shown, column), mode="markers", name=f"{name} of an interval",
            marker={"color": style.color, "size": 5, "opacity": 0.45, "symbol": style.symbol},
            hovertemplate=f"{name} %{{y:,.4~g}} ms at %{{x:,.4~g}} {axis_title(against)}<extra></extra>",
        )  # fmt: skip
        if levels is not None and len(levels):
            figure.add_scatter(
                x=levels[against], y=number_array(levels, column), mode="lines+markers", name=f"{name} of a level",
                line={"color": style.dark, "width": 2.2, "dash": style.dash},
                marker={"size": 8, "symbol": style.symbol, "line": {"color": "white", "width": 1}},
                customdata=np.column_stack([levels["intervals"], levels["requests"]]),
                hovertemplate=f"{name} %{{y:,.4~g}} ms at %{{x:,.4~g}} {axis_title(against)}<br>%{{customdata[0]:,}} "
                "intervals, %{customdata[1]:,} requests merged<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(title_text=axis_title(against), rangemode="tozero")
    figure.update_yaxes(title_text="response time (ms)", rangemode="tozero")
    figure.update_layout(
        template=TEMPLATE,
        height=440,
        hovermode="closest",
    )
    legend_below(figure)
    return titled(figure, title, subtitle)
