"""What all figures share: template, colours, line styles, axes, titles, shaded windows, safe labels."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench.model import Window

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
INK = "#24292F"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
PATTERNS = ("", "/", "x", ".", "-", "\\")
PERCENTILES = {"p50_ms": ("p50", SKY), "p95_ms": ("p95", ORANGE), "p99_ms": ("p99", VERMILLION)}
MAX_POINTS = 600
MAX_ENDPOINTS = 40
MAX_LABEL = 44
SUBTITLE_CHARACTERS = 100
LEGEND_PX = 600
# A date axis gives ticks at whole minutes; its labels are durations. Not from zero: Plotly takes 4 digits for a year.
DAY_MS = 86_400_000.0
AXIS = {"showline": True, "linecolor": "#9AA0A6", "gridcolor": "#E6E8EB", "zeroline": False, "ticks": "outside"}
LOG_MS = {
    "type": "log",
    "title_text": "response time (ms, logarithmic)",
    "tickvals": [digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5)],
    "tickformat": ",~g",
}
TITLE_LEFT = {"x": 0, "xref": "container", "pad": {"l": 16, "t": 30}}
"""For figures whose vertical axis lists names, which would push the title to the middle."""
LEGEND_ABOVE = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
TITLES = {
    "users": "users",
    "requests_per_s": "requests/s",
    "failures_per_s": "errors/s",
    "elapsed_s": "time since start",
    "cpu_percent": "generator CPU (% of one core)",
    "workers": "workers",
    "failure_ratio": "failed requests (ratio)",
}
WINDOW_FILLS = {"ramp": SKY, "drain": PURPLE}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK},
        "title": {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "font": {"size": 17},
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 30},
        },
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": list(SERIES),
        "xaxis": AXIS,
        "yaxis": AXIS | {"automargin": True},
        "hoverlabel": {"align": "left"},
        "margin": {"l": 64, "r": 24, "t": 104, "b": 56},
    }
)


@dataclass(frozen=True)
class Style:
    """How a series is drawn so that it is told apart by colour, and without colour by dash and symbol."""

    color: str
    dash: str
    symbol: str
    dark: str = INK


_KNOWN = {
    "p50_ms": Style(SKY, "dash", "circle", "#1F6FA8"),
    "p95_ms": Style(ORANGE, "solid", "square", "#9A6700"),
    "p99_ms": Style(VERMILLION, "dot", "diamond", "#8F3E00"),
}


def styles(number: int) -> list[Style]:
    """Give as many styles; colour, dash and symbol go around together, shifted in each round, so 36 are different."""
    size = len(SERIES)
    return [
        Style(SERIES[i % size], DASHES[(i + i // size) % size], SYMBOLS[(i + i // size) % size]) for i in range(number)
    ]


def is_percentile(name: str) -> bool:
    """Say whether a column holds a percentile: `p95_ms`, `p99.9_ms`."""
    return name[:1] == "p" and name.endswith("_ms") and name[1:-3].replace(".", "", 1).isdigit()


def percentile_styles(columns: Iterable[str]) -> dict[str, Style]:
    """Give each percentile its style: p50, p95 and p99 the same in every figure."""
    columns = list(columns)
    free = iter(
        [Style(BLUE, "dashdot", "triangle-up", "#004A75"), Style(GREEN, "longdash", "cross", "#00604A"),
         Style(PURPLE, "longdashdot", "x", "#8A3F6B"), *styles(len(columns))]
    )  # fmt: skip
    return {name: _KNOWN[name] if name in _KNOWN else next(free) for name in columns}


def broken_at_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an empty row where intervals are missing, so that no line is drawn across what nobody measured."""
    steps = frame["elapsed_s"].diff()
    after = steps > 2.5 * steps.median()
    if not after.any():
        return frame
    usual = pd.Timedelta(seconds=steps.median())
    times = [name for name in ("elapsed_s", "timestamp") if name in frame]
    holes = frame.loc[after, times]
    holes["elapsed_s"] = holes["elapsed_s"] - steps[after] + steps.median()
    if "timestamp" in frame:
        holes["timestamp"] = holes["timestamp"] - pd.to_timedelta(steps[after], unit="s") + usual
    return pd.concat([frame, holes]).sort_values("elapsed_s", kind="stable", ignore_index=True)


def label(text: object) -> str:
    """Make a text safe as a Plotly label: Plotly reads some HTML in labels, and endpoint names come from scripts."""
    return html.escape(str(text), quote=False)


def short_label(text: object, limit: int = MAX_LABEL) -> str:
    """Make a text safe and shorten it in its middle, so that it leaves room for the chart."""
    plain = str(text)
    half = (limit - 1) // 2
    return label(plain if len(plain) <= limit else f"{plain[:half]}…{plain[-half:]}")


def short_labels(names: Iterable[object], limit: int = MAX_LABEL) -> list[str]:
    """Shorten as `short_label`; names that get alike are numbered, so that none is drawn over another."""
    short = [short_label(name, limit) for name in names]
    return [each if short.count(each) == 1 else f"{each} ({number})" for number, each in enumerate(short, start=1)]


def axis_title(column: str) -> str:
    """Give the title of an axis, unit included, by the column that it shows: `p95_ms` is "p95 (ms)"."""
    if column in TITLES:
        return TITLES[column]
    name, _, unit = column.rpartition("_")
    if unit == "ms":
        return f"{name} (ms)"
    if unit == "percent":
        return f"{name.replace('_', ' ')} (%)"
    if unit == "s":
        return f"{name.replace('_', ' ')} (s)"
    return column.replace("_", " ")


def clock(elapsed_s: Any) -> np.ndarray:
    """Turn seconds since the start of a run into values of a time axis (`time_axis`)."""
    return DAY_MS + np.round(1000 * np.asarray(elapsed_s, dtype=float))


def time_axis(figure: go.Figure, longest_s: float, **where: Any) -> None:
    """Label the x axes as time since the start of a run: minutes and seconds, with hours if there are any."""
    figure.update_xaxes(
        type="date",
        tickformat="%M:%S" if not longest_s >= 3600 else "%H:%M:%S",
        hoverformat="%H:%M:%S",
        unifiedhovertitle_text="%{x|%H:%M:%S} since start",
        **where,
    )


def shade(
    figure: go.Figure,
    windows: Sequence[Window],
    *,
    longest_s: float,
    tint: bool = True,
    names: str = "top",
    panel_px: float = 800,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """Shade the named windows of a run behind a chart over time and write their names where they fit.

    The steady window stays white between dashed lines: it is what the figures are of. Others are tinted, unless the
    chart has colours of its own. `names` is "top", "bottom" or "" for none; a window too
    narrow for its name on a panel of `panel_px` has none.
    """
    for window in windows:
        end_s = longest_s if window.end_s is None else min(window.end_s, longest_s)
        if end_s <= window.start_s:
            continue
        where = {} if row is None else {"row": row, "col": col}
        if tint and window.name != "steady":
            figure.add_vrect(
                x0=float(clock(window.start_s)),
                x1=float(clock(end_s)),
                fillcolor=WINDOW_FILLS.get(window.name, ORANGE),
                opacity=0.16,
                layer="below",
                line={"width": 0},
                **where,
            )
        for edge in (window.start_s, end_s):
            if 0 < edge < longest_s:
                line = {"color": "#6E7781", "width": 1, "dash": "dash"}
                figure.add_vline(x=float(clock(edge)), line=line, layer="below", **where)
        shown = short_label(window.name, 18)
        if not names or (end_s - window.start_s) / longest_s * panel_px < 7 * len(shown):
            continue
        figure.add_annotation(
            x=float(clock((window.start_s + end_s) / 2)),
            y=1 if names == "top" else 0,
            yref="y domain" if row is not None else "paper",
            yanchor=names,
            text=shown,
            showarrow=False,
            font={"size": 10.5, "color": "#57606A"},
            **where,
        )


def no_data(title: str, subtitle: str, what: str) -> go.Figure:
    """Give a figure that says in words that there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(
        x=0.5, y=0.5, xref="paper", yref="paper", text=f"no data: {label(what)}", showarrow=False, font={"size": 15}
    )
    figure.update_layout(template=TEMPLATE, height=240, xaxis_visible=False, yaxis_visible=False)
    return titled(figure, title, subtitle)


def titled(figure: go.Figure, title: str, subtitle: str) -> go.Figure:
    """Write title and subtitle, both made safe; a long subtitle is wrapped, and the figure grows by its lines."""
    figure.update_layout(title_text=label(title))
    lines = textwrap.wrap(subtitle, SUBTITLE_CHARACTERS)
    if lines:
        text = "<br>".join(map(label, lines))
        figure.update_layout(title_subtitle={"text": text, "font": {"size": 12.5, "color": "#8A3B00"}})
        top = figure.layout.margin.t or TEMPLATE.layout.margin.t
        more = 17 * (len(lines) - 1)
        figure.update_layout(margin_t=top + more, height=(figure.layout.height or 450) + more)
    return figure


def legend_below(figure: go.Figure, *, axis_px: int = 56, columns: int | None = None) -> None:
    """Put the legend under the axis title, and make the figure as much higher as its rows need.

    Plotly gives all entries the width of the widest: `columns` of them fit beside each other on a page of 700 px.
    """
    names = [trace.name or "" for trace in figure.data if trace.showlegend is not False]
    widest = max((len(html.unescape(name)) for name in names), default=0)
    columns = columns or max(1, int(LEGEND_PX // (52 + 6.6 * widest)))
    needed = 14 + 19 * -(-len(names) // columns)
    figure.update_layout(
        showlegend=True,
        legend={
            "orientation": "h" if columns > 1 else "v",
            # Plotly makes room beside the plot for a column of entries that is placed by the container.
            "x": 0.015 if columns > 1 else 0,
            "xref": "container" if columns > 1 else "paper",
            "xanchor": "left",
            "y": 0.008, "yref": "container", "yanchor": "bottom",
            "traceorder": "normal",
        },
        margin_b=axis_px + needed,
        height=(figure.layout.height or 450) + needed,
    )  # fmt: skip


def number_array(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Give a column as floats, missing values as nan."""
    return frame[column].to_numpy(dtype=float, na_value=np.nan)
