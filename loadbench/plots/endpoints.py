"""The response times of the endpoints beside each other."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from loadbench.plots.look import (
    LOG_MS,
    MAX_ENDPOINTS,
    PERCENTILES,
    TEMPLATE,
    TITLE_LEFT,
    label,
    no_data,
    percentile_styles,
    titled,
)


def endpoint_percentiles(
    summary: pd.DataFrame, *, title: str = "Response time by endpoint", subtitle: str = ""
) -> go.Figure:
    """Compare the response times of the endpoints: p50, p95 and p99 of each as dots on one line.

    Parameters
    ----------
    summary : DataFrame
        Indexed by endpoint, with columns `p50_ms`, `p95_ms`, `p99_ms`. The slowest 40 by p95 are shown, slowest first;
        the subtitle says so if there are more.
    """
    if not summary["p95_ms"].notna().any():
        return no_data(title, subtitle, "no request with a response time")
    shown = summary.dropna(subset=["p95_ms"]).sort_values("p95_ms", ascending=False).head(MAX_ENDPOINTS)[::-1]
    names = [label(name) for name in shown.index]
    figure = go.Figure()
    for name, low, high in zip(names, shown["p50_ms"], shown["p99_ms"], strict=True):
        figure.add_scatter(
            x=[low, high],
            y=[name, name],
            mode="lines",
            line={"color": "#C4C9CF", "width": 3},
            showlegend=False,
            hoverinfo="skip",
        )
    for column, style in percentile_styles(PERCENTILES).items():
        figure.add_scatter(
            x=shown[column],
            y=names,
            mode="markers",
            name=PERCENTILES[column][0],
            marker={"color": style.color, "symbol": style.symbol, "size": 11, "line": {"color": "white", "width": 1}},
            hovertemplate="%{x:,.4~g} ms",
        )
    wide = len(shown) > 0 and shown["p99_ms"].max() > 50 * max(shown["p50_ms"].min(), 1e-3)
    if wide:
        figure.update_xaxes(**LOG_MS)
    else:
        figure.update_xaxes(rangemode="tozero", title_text="response time (ms)")
    figure.update_yaxes(automargin=True, type="category", title_text=None)
    figure.update_layout(
        template=TEMPLATE,
        height=190 + 30 * max(len(shown), 2),
        hovermode="closest",
        title=TITLE_LEFT,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    more = len(summary) - len(shown)
    slowest = f"the slowest {len(shown)} of {len(summary)} endpoints" if more > 0 else ""
    return titled(figure, title, "; ".join(filter(None, [subtitle, slowest])))
