"""Static Plotly figures of a run, from DataFrames.

One look, a unit on every axis, colours that colour-blind people tell apart.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from loadbench.agent.histogram import quantile, value_of
from loadbench.analysis.downsample import thin

# Okabe and Ito, "Color Universal Design", 2008.
BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, GREY = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
    "#7F7F7F",
)
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
PERCENTILES = {"p50_ms": ("p50", SKY), "p95_ms": ("p95", ORANGE), "p99_ms": ("p99", VERMILLION)}
MAX_POINTS = 600
MAX_ENDPOINTS = 40
_AXIS = {"showline": True, "linecolor": "#9AA0A6", "gridcolor": "#E6E8EB", "zeroline": False, "ticks": "outside"}
# A date axis gives ticks at whole minutes; its labels are durations. Not from zero: Plotly takes 4 digits for a year.
DAY_MS = 86_400_000.0
_LOG_MS = {
    "type": "log",
    "title_text": "response time (ms, logarithmic)",
    "tickvals": [digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5)],
    "tickformat": ",~g",
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": "#24292F"},
        "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 17}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": list(SERIES),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left"},
        "margin": {"l": 64, "r": 24, "t": 104, "b": 56},
    }
)


def label(text: object) -> str:
    """Make a text safe as a Plotly label: Plotly reads some HTML in labels, and endpoint names come from scripts."""
    return html.escape(str(text), quote=False)


def timeline(frame: pd.DataFrame, *, title: str, subtitle: str = "", points: int = MAX_POINTS) -> go.Figure:
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
    """
    frame = _broken_at_gaps(_without_fragment(frame))
    titles = ("Users", "Requests per second", "Errors per second", "Response time")
    figure = make_subplots(
        rows=2, cols=2, subplot_titles=titles, shared_xaxes="all", horizontal_spacing=0.08, vertical_spacing=0.14
    )
    _line(figure, frame, "users", cell=(1, 1), name="users", color=BLUE, shape="hv", points=points)
    _line(figure, frame, "requests_per_s", cell=(1, 2), name="requests/s", color=GREEN, points=points)
    _line(figure, frame, "failures_per_s", cell=(2, 1), name="errors/s", color=VERMILLION, points=points)
    for column, (name, color) in PERCENTILES.items():
        _line(figure, frame, column, cell=(2, 2), name=name, color=color, points=points, legend=True)
    longest_s = frame["elapsed_s"].max() if len(frame) else 0
    clock = "%M:%S" if longest_s < 3600 else "%H:%M:%S"
    figure.update_xaxes(
        type="date", tickformat=clock, hoverformat="%H:%M:%S", unifiedhovertitle_text="%{x|%H:%M:%S} since start"
    )
    figure.update_xaxes(showticklabels=True)
    figure.update_xaxes(title_text="time since start", row=2)
    for row, column, unit in ((1, 1, "users"), (1, 2, "requests/s"), (2, 1, "errors/s"), (2, 2, "ms")):
        figure.update_yaxes(title_text=unit, rangemode="tozero", row=row, col=column)
    figure.update_annotations(font_size=13, x=None)
    for index, annotation in enumerate(figure.layout.annotations):
        annotation.update(x=0 if index % 2 == 0 else 0.54, xanchor="left")
    figure.update_layout(
        template=TEMPLATE,
        height=620,
        hovermode="x unified",
        legend={"x": 1, "xanchor": "right", "y": 0.435, "yanchor": "bottom", "orientation": "h"},
    )
    return _titled(figure, title, subtitle)


def _without_fragment(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the interval in which the run ended, if it lasted milliseconds: rates of so few requests are noise."""
    steps = frame["elapsed_s"].diff()
    return frame.iloc[:-1] if len(frame) > 2 and steps.iloc[-1] < steps.median() / 2 else frame


def _broken_at_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an empty row where intervals are missing, so that no line is drawn across what nobody measured."""
    steps = frame["elapsed_s"].diff()
    after = steps > 2.5 * steps.median()
    if not after.any():
        return frame
    usual = pd.Timedelta(seconds=steps.median())
    holes = frame.loc[after, ["elapsed_s", "timestamp"]]
    holes = holes.assign(
        elapsed_s=holes["elapsed_s"] - steps[after] + steps.median(),
        timestamp=holes["timestamp"] - pd.to_timedelta(steps[after], unit="s") + usual,
    )
    return pd.concat([frame, holes]).sort_values("elapsed_s", kind="stable", ignore_index=True)


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
    values = frame[column].to_numpy(dtype=float, na_value=np.nan)
    chosen = thin([values], points)
    # The box on hover ends with the wall clock; its title can only tell the time since the start.
    clock = column not in ("p50_ms", "p95_ms")
    value = "%{y:,.4~g} ms" if column.endswith("_ms") else "%{y:,.4~g}"
    shown = frame.iloc[chosen]
    figure.add_scatter(
        x=DAY_MS + (shown["elapsed_s"] * 1000).round().to_numpy(),
        y=values[chosen],
        customdata=shown["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S UTC").to_list() if clock else None,
        mode="lines" if len(chosen) > 1 else "markers",
        line={"color": color, "width": 1.8, "shape": shape},
        name=name,
        showlegend=legend,
        hovertemplate=value + ("<br>at %{customdata}" if clock else ""),
        row=cell[0],
        col=cell[1],
    )


def endpoint_percentiles(summary: pd.DataFrame, *, title: str = "Response time by endpoint") -> go.Figure:
    """Compare the response times of the endpoints: p50, p95 and p99 of each as dots on one line.

    Parameters
    ----------
    summary : DataFrame
        Indexed by endpoint, with columns `p50_ms`, `p95_ms`, `p99_ms`. The slowest 40 by p95 are shown, slowest first;
        the subtitle says so if there are more.
    """
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
    for column, (name, color) in PERCENTILES.items():
        figure.add_scatter(
            x=shown[column],
            y=names,
            mode="markers",
            name=name,
            marker={"color": color, "size": 11, "line": {"color": "white", "width": 1}},
            hovertemplate="%{x:,.4~g} ms",
        )
    wide = len(shown) > 0 and shown["p99_ms"].max() > 50 * max(shown["p50_ms"].min(), 1e-3)
    if wide:
        figure.update_xaxes(**_LOG_MS)
    else:
        figure.update_xaxes(rangemode="tozero", title_text="response time (ms)")
    figure.update_yaxes(automargin=True, type="category", title_text=None)
    figure.update_layout(
        template=TEMPLATE,
        height=190 + 30 * max(len(shown), 2),
        hovermode="closest",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    more = len(summary) - len(shown)
    return _titled(figure, title, f"the slowest {len(shown)} of {len(summary)} endpoints" if more > 0 else "")


def distribution(
    histograms: Mapping[str, Mapping[int, int]], *, title: str = "Distribution of response times"
) -> go.Figure:
    """Show how response times spread: the share of requests in each slice of a logarithmic time axis.

    Parameters
    ----------
    histograms : mapping of str to histogram
        Name of the series -> merged histogram (bucket -> count). A single series gets its p50, p95 and p99 marked.
    """
    figure = go.Figure()
    for (name, histogram), color in zip(
        histograms.items(), SERIES * (1 + len(histograms) // len(SERIES)), strict=False
    ):
        edges, shares = _slices(histogram)
        figure.add_scatter(
            x=edges,
            y=shares,
            mode="lines",
            line={"shape": "hv", "color": color, "width": 1.6},
            fill="tozeroy" if len(histograms) == 1 else "none",
            fillcolor="rgba(0, 114, 178, 0.15)",
            name=label(name),
            hovertemplate="from %{x:,.3~g} ms: %{y:.2~f} % of requests",
        )
    only = next(iter(histograms.values())) if len(histograms) == 1 else {}
    for q, (name, color) in zip((0.5, 0.95, 0.99), PERCENTILES.values(), strict=True):
        if only:
            at = quantile(only, q)
            figure.add_vline(x=at, line={"color": color, "width": 1.6, "dash": "dot"})
            figure.add_annotation(
                x=np.log10(at),
                y=1,
                yref="paper",
                yanchor="bottom",
                text=f"{name} {at:,.3g} ms",
                showarrow=False,
                textangle=-30,
                xanchor="left",
            )
    figure.update_xaxes(**_LOG_MS)
    figure.update_yaxes(title_text="share of requests (%)", rangemode="tozero")
    figure.update_layout(template=TEMPLATE, height=420, hovermode="closest", showlegend=len(histograms) > 1)
    if only:
        figure.update_layout(margin_t=130)
    return _titled(figure, title, "")


def _slices(histogram: Mapping[int, int], *, buckets: int = 6) -> tuple[list[float], list[float]]:
    """Group the 1 % buckets into slices 6 % wide; give their lower edges (ms) and shares (percent), zeros included."""
    if not histogram:
        return [], []
    first, last = min(histogram) // buckets, max(histogram) // buckets
    counts = [0] * (last - first + 1)
    for bucket, count in histogram.items():
        counts[bucket // buckets - first] += count
    total = sum(counts)
    edges = [value_of((first + index) * buckets) for index in range(len(counts) + 1)]
    return edges, [100 * count / total for count in counts] + [0.0]


def _titled(figure: go.Figure, title: str, subtitle: str) -> go.Figure:
    figure.update_layout(title_text=label(title))
    if subtitle:
        figure.update_layout(title_subtitle={"text": label(subtitle), "font": {"size": 12.5, "color": "#8A3B00"}})
    return figure
