"""Runs beside each other: overlaid lines, the shift function, verdicts as a forest plot, why the total moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench.analysis.downsample import thin
from loadbench.model import Window
from loadbench.plots.look import (
    BLUE,
    GREY,
    INK,
    LEGEND_ABOVE,
    MAX_ENDPOINTS,
    MAX_POINTS,
    ORANGE,
    SKY,
    TEMPLATE,
    TITLE_LEFT,
    VERMILLION,
    Style,
    axis_title,
    clock,
    legend_below,
    no_data,
    number_array,
    shade,
    short_label,
    short_labels,
    styles,
    time_axis,
    titled,
)

MAX_RUNS = 24
VERDICTS = {
    "slower": (VERMILLION, "triangle-right", "slower"),
    "faster": (BLUE, "triangle-left", "faster"),
    "no difference found": (GREY, "circle", "no difference found"),
    "inconclusive": (ORANGE, "diamond-open", "inconclusive"),
    "not comparable": ("#24292F", "x-thin-open", "not comparable"),
}
"""Verdict -> colour, symbol, words: each is told apart without its colour."""


def overlay(
    frames: Mapping[str, pd.DataFrame],
    *,
    by: str = "elapsed_s",
    column: str = "p95_ms",
    reference: str | None = None,
    title: str = "",
    subtitle: str = "",
    windows: Sequence[Window] = (),
) -> go.Figure:
    """Answer "how do these runs differ, at the same time or at the same load?".

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Name of the run -> its rows. With columns `elapsed_s` and `column`: of `frames.timeline`, drawn against time.
        With columns `by` and `column`: of `load_levels.load_levels`, drawn as a point per level of load.
    by : {"elapsed_s", "users", "requests_per_s"}
        The horizontal axis.
    column : str
        What is drawn, for example `p95_ms`, `requests_per_s` or `failures_per_s`; its ending names the unit.
    reference : str, optional
        The run that the others are compared with: drawn in black, wider, and named first.
    windows : sequence of Window
        Shaded, if the axis is time.
    """
    title = title or f"{axis_title(column)} by {'time' if by == 'elapsed_s' else axis_title(by)}"
    known = {name: frame for name, frame in frames.items() if len(frame) and frame[column].notna().any()}
    if not known:
        return no_data(title, subtitle, f"no run has a value of {column}")
    names = sorted(known, key=lambda name: name != reference)
    left_out = len(names) - MAX_RUNS
    names = names[:MAX_RUNS]
    others = iter(styles(len(names)))
    figure = go.Figure()
    for name, shown in zip(names, short_labels(names), strict=True):
        style = Style(INK, "solid", "circle") if name == reference else next(others)
        _run(figure, known[name], by, column, name=shown, style=style, reference=name == reference)
    if by == "elapsed_s":
        longest_s = max(float(known[name][by].max()) for name in names)
        time_axis(figure, longest_s)
        shade(figure, windows, longest_s=longest_s)
    figure.update_xaxes(title_text=axis_title(by), **({} if by == "elapsed_s" else {"rangemode": "tozero"}))
    figure.update_yaxes(title_text=axis_title(column), rangemode="tozero")
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        hovermode="x unified" if by == "elapsed_s" else "closest",
    )
    legend_below(figure)
    if left_out > 0:
        subtitle = "; ".join(filter(None, [subtitle, f"the first {MAX_RUNS} of {left_out + MAX_RUNS} runs"]))
    return titled(figure, title, subtitle)


def _run(
    figure: go.Figure, frame: pd.DataFrame, by: str, column: str, *, name: str, style: Style, reference: bool
) -> None:
    frame = frame.sort_values(by, kind="stable")
    values = number_array(frame, column)
    chosen = thin([values], MAX_POINTS)
    x = number_array(frame, by)[chosen]
    levels = by != "elapsed_s"
    figure.add_scatter(
        x=x if levels else clock(x),
        y=values[chosen],
        mode="lines+markers" if levels else ("lines" if len(chosen) > 1 else "markers"),
        line={"color": style.color, "dash": style.dash, "width": 3 if reference else 1.7},
        marker={"symbol": style.symbol, "size": 8, "color": style.color},
        name=f"{name} (reference)" if reference else name,
        hovertemplate="%{y:,.4~g}" + (f" at %{{x:,.4~g}} {axis_title(by)}" if levels else ""),
    )


def shift(
    frame: pd.DataFrame,
    *,
    value: str = "effect_percent",
    low: str = "low_percent",
    high: str = "high_percent",
    title: str = "Shift of the response times",
    subtitle: str = "",
) -> go.Figure:
    """Answer "which part of the distribution got slower: everything, or the tail?".

    Parameters
    ----------
    frame : DataFrame
        A row per percentile: `percentile` in [0, 100], the difference to the reference, and its band; units by the
        ending of the columns' names (`_percent`, `_ms`).
    value, low, high : str
        The columns of the difference and of its band.
    """
    if frame.empty or not frame[value].notna().any():
        return no_data(title, subtitle, "no percentile has a difference")
    frame = frame.sort_values("percentile", kind="stable")
    x = number_array(frame, "percentile")
    unit = "ms" if value.endswith("_ms") else "%"
    figure = go.Figure()
    edge = {"color": SKY, "width": 0.8}
    figure.add_scatter(x=x, y=frame[low], mode="lines", line=edge, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=x, y=frame[high], mode="lines", line=edge, fill="tonexty", fillcolor="rgba(86, 180, 233, 0.25)",
        name="band of uncertainty", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=x,
        y=frame[value],
        customdata=np.column_stack([frame[low], frame[high]]),
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"size": 5},
        name="difference",
        hovertemplate=f"p%{{x:.4~g}}: %{{y:+,.3~g}} {unit} (%{{customdata[0]:+,.3~g}} to %{{customdata[1]:+,.3~g}})",
    )
    figure.add_hline(y=0, line={"color": INK, "width": 1.2, "dash": "dash"})
    figure.update_xaxes(title_text="percentile of the response times (%)", range=[0, 100])
    figure.update_yaxes(title_text=f"change ({unit}; above 0 is slower)")
    figure.update_layout(template=TEMPLATE, height=420, legend=LEGEND_ABOVE)
    return titled(figure, title, subtitle)


def forest(frame: pd.DataFrame, *, title: str = "Verdicts", subtitle: str = "") -> go.Figure:
    """Answer "what got slower or faster, by how much, how sure?".

    Parameters
    ----------
    frame : DataFrame
        A row per endpoint and percentile, drawn from top to bottom: `endpoint` (text; or `method` and `name`),
        `percentile`, `effect_percent`, `low_percent`, `high_percent` (nan where there is no interval), `verdict`
        (a key of `VERDICTS`); optionally `smallest_percent`, the smallest change that could have been found, drawn as
        two ticks. The first 40 rows are drawn; the subtitle says so if there are more.
    """
    if frame.empty:
        return no_data(title, subtitle, "no verdicts")
    total, shown = len(frame), frame.head(MAX_ENDPOINTS)
    lines = [f"{short_label(name)}  p{q:g}" for name, q in zip(_endpoints(shown), shown["percentile"], strict=True)]
    y = np.arange(len(shown))[::-1]
    figure = go.Figure()
    if "smallest_percent" in shown:
        _detectable(figure, number_array(shown, "smallest_percent"), y)
    for verdict, (color, symbol, words) in VERDICTS.items():
        mask = (shown["verdict"] == verdict).to_numpy()
        if mask.any():
            _verdicts(figure, shown[mask], y[mask], color=color, symbol=symbol, name=words)
    figure.add_vline(x=0, line={"color": INK, "width": 1.2, "dash": "dash"})
    figure.update_xaxes(title_text="change against the reference (%; to the right is slower)", ticksuffix=" %")
    figure.update_yaxes(
        tickvals=y, ticktext=lines, range=[-0.7, len(shown) - 0.3], automargin=True, showgrid=False, title_text=None
    )
    figure.update_layout(template=TEMPLATE, height=160 + 26 * len(shown), title=TITLE_LEFT)
    legend_below(figure, columns=1)
    if total > len(shown):
        subtitle = "; ".join(filter(None, [subtitle, f"the first {len(shown)} of {total}"]))
    return titled(figure, title, subtitle)


def _endpoints(frame: pd.DataFrame) -> list[str]:
    if "endpoint" in frame:
        return [str(name) for name in frame["endpoint"]]
    return [f"{method} {name}".strip() for method, name in zip(frame["method"], frame["name"], strict=True)]


def _detectable(figure: go.Figure, smallest: np.ndarray, y: np.ndarray) -> None:
    figure.add_scatter(
        x=np.concatenate([-smallest, smallest]),
        y=np.concatenate([y, y]),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 12, "color": "#8C959F"},
        name="smallest change that could be found",
        hovertemplate="%{x:+.3~g} %",
    )


def _verdicts(figure: go.Figure, rows: pd.DataFrame, y: np.ndarray, *, color: str, symbol: str, name: str) -> None:
    effect = number_array(rows, "effect_percent")
    low, high = number_array(rows, "low_percent"), number_array(rows, "high_percent")
    figure.add_scatter(
        x=np.where(np.isnan(effect), 0.0, effect),
        y=y,
        error_x={
            "type": "data", "symmetric": False, "array": np.nan_to_num(high - effect),
            "arrayminus": np.nan_to_num(effect - low), "color": color, "thickness": 2, "width": 5,
        },
        customdata=np.column_stack([low, high]),
        mode="markers",
        marker={"symbol": symbol, "size": 11, "color": color, "line": {"width": 2, "color": color}},
        name=name,
        hovertemplate="%{x:+.3~g} % (%{customdata[0]:+.3~g} to %{customdata[1]:+.3~g})",
    )  # fmt: skip


def contributions(
    frame: pd.DataFrame,
    *,
    parts: Mapping[str, str] | None = None,
    title: str = "Why the total moved",
    subtitle: str = "",
) -> go.Figure:
    """Answer "did requests get slower, or did slower requests get more?".

    Parameters
    ----------
    frame : DataFrame
        A row per endpoint: `endpoint` (or `method` and `name`), and a column per part, in milliseconds (or percent) of
        the total's change; the parts of all endpoints add up to it.
    parts : mapping of str to str, optional
        Column -> name in the legend; left out, `mix_ms` is "traffic mix" and `latency_ms` "response times".
    """
    parts = parts or {"mix_ms": "traffic mix", "latency_ms": "response times"}
    if frame.empty:
        return no_data(title, subtitle, "no endpoint is in both")
    whole = frame[list(parts)].to_numpy(dtype=float).sum()
    weight = frame[list(parts)].abs().sum(axis=1)
    shown = frame.loc[weight.sort_values(ascending=False, kind="stable").index[:MAX_ENDPOINTS]][::-1]
    unit = "ms" if next(iter(parts)).endswith("_ms") else "%"
    names = short_labels(_endpoints(shown))
    figure = go.Figure()
    fills = ((ORANGE, "/"), (BLUE, ""), (GREY, "x"))
    for (column, name), (color, pattern) in zip(parts.items(), fills, strict=False):
        figure.add_bar(
            x=shown[column],
            y=names,
            orientation="h",
            name=name,
            marker={
                "color": color,
                "pattern": {"shape": pattern, "solidity": 0.35},
                "line": {"color": INK, "width": 0.5},
            },
            hovertemplate=f"%{{x:+,.3~g}} {unit}",
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1.2})
    figure.update_xaxes(title_text=f"contribution to the change of the total ({unit}; to the right is slower)")
    figure.update_yaxes(automargin=True, type="category", title_text=None)
    figure.update_layout(
        template=TEMPLATE,
        height=200 + 34 * max(len(shown), 2),
        barmode="relative",
        bargap=0.35,
        title=TITLE_LEFT,
        legend=LEGEND_ABOVE,
    )
    figure.update_legends(traceorder="normal")
    notes = [subtitle, f"in all {whole:+,.3g} {unit}"]
    if len(shown) < len(frame):
        notes.append(f"the {len(shown)} largest of {len(frame)} endpoints")
    return titled(figure, title, "; ".join(filter(None, notes)))
