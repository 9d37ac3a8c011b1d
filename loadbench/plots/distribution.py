"""How response times spread: shares by slice of a logarithmic axis, and cumulated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from loadbench.agent.histogram import GAMMA, quantile, value_of
from loadbench.plots.look import (
    LOG_MS,
    MAX_POINTS,
    PERCENTILES,
    TEMPLATE,
    legend_below,
    no_data,
    short_labels,
    styles,
    titled,
)

MAX_SERIES = 12
TAIL_TICKS = (0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)


def distribution(
    histograms: Mapping[str, Mapping[int, int]], *, title: str = "Distribution of response times", subtitle: str = ""
) -> go.Figure:
    """Show how response times spread: the share of requests in each slice of a logarithmic time axis.

    Parameters
    ----------
    histograms : mapping of str to histogram
        Name of the series -> merged histogram (bucket -> count). A single series gets its p50, p95 and p99 marked;
        those without requests are left out, and of more than 12 those with the fewest requests.
    """
    histograms, left_out = _largest({name: histogram for name, histogram in histograms.items() if histogram})
    if not histograms:
        return no_data(title, subtitle, "no request with a response time")
    figure = go.Figure()
    single = len(histograms) == 1
    names = short_labels(histograms)
    for name, histogram, style in zip(names, histograms.values(), styles(len(names)), strict=True):
        edges, shares = _slices(histogram)
        figure.add_scatter(
            x=edges,
            y=shares,
            mode="lines",
            line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 1.6},
            fill="tozeroy" if single else "none",
            fillcolor="rgba(0, 114, 178, 0.15)",
            name=name,
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
    figure.update_xaxes(**LOG_MS)
    figure.update_yaxes(title_text="share of requests (%)", rangemode="tozero")
    figure.update_layout(template=TEMPLATE, height=420, hovermode="closest", showlegend=not single)
    if not single:
        legend_below(figure)
    if only:
        figure.update_layout(margin_t=130)
    return titled(figure, title, "; ".join(filter(None, [subtitle, left_out])))


def _largest(histograms: Mapping[str, Mapping[int, int]]) -> tuple[dict[str, Mapping[int, int]], str]:
    """Leave out those with the fewest requests if there are more than can be told apart, and say so."""
    if len(histograms) <= MAX_SERIES:
        return dict(histograms), ""
    busiest = sorted(histograms, key=lambda name: -sum(histograms[name].values()))[:MAX_SERIES]
    kept = {name: histogram for name, histogram in histograms.items() if name in set(busiest)}
    return kept, f"the {MAX_SERIES} of {len(histograms)} with the most requests"


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


def cdf(
    histograms: Mapping[str, Mapping[int, int]],
    *,
    tail: bool = False,
    title: str = "Response times: share of requests within",
    subtitle: str = "",
) -> go.Figure:
    """Answer "which share of the requests stays within a time?".

    Parameters
    ----------
    histograms : mapping of str to histogram
        Name of the series -> merged histogram (bucket -> count).
    tail : bool
        Stretch the axis of shares towards 100 %, so that 99 %, 99.9 % and 99.99 % are as far apart.
    """
    known, left_out = _largest({name: histogram for name, histogram in histograms.items() if histogram})
    if not known:
        return no_data(title, subtitle, "no request with a response time")
    figure = go.Figure()
    for name, (histogram, style) in zip(
        short_labels(known), zip(known.values(), styles(len(known)), strict=True), strict=True
    ):
        buckets = np.array(sorted(histogram))
        share = np.cumsum([histogram[bucket] for bucket in buckets.tolist()]) / sum(histogram.values())
        if tail:  # the last request is at 100 %, which is infinitely far on this axis
            buckets, share = buckets[share < 1], share[share < 1]
        chosen = _few(share)
        figure.add_scatter(
            x=GAMMA ** buckets[chosen].astype(float),
            y=_stretched(share[chosen]) if tail else 100 * share[chosen],
            customdata=100 * share[chosen],
            mode="lines" if len(chosen) > 1 else "markers",
            line={"color": style.color, "dash": style.dash, "width": 1.9, "shape": "hv"},
            name=name,
            hovertemplate="%{customdata:.5~g} % within %{x:,.4~g} ms",
        )
    figure.update_xaxes(**LOG_MS)
    figure.update_yaxes(title_text="share of requests within (%)", rangemode="tozero")
    if tail:
        figure.update_yaxes(
            tickvals=_stretched(np.array(TAIL_TICKS) / 100), ticktext=[f"{tick:g}" for tick in TAIL_TICKS]
        )
    figure.update_layout(
        template=TEMPLATE, height=440, hovermode="closest", showlegend=False,
    )  # fmt: skip
    if len(known) > 1:
        legend_below(figure)
    return titled(figure, title, "; ".join(filter(None, [subtitle, left_out])))


def _stretched(share: np.ndarray) -> np.ndarray:
    return -np.log10(1 - share)


def _few(share: np.ndarray, limit: int = MAX_POINTS) -> np.ndarray:
    """Choose points that are evenly far apart on both kinds of axis; the first and the last stay."""
    if len(share) <= limit:
        return np.arange(len(share))
    return np.unique(np.linspace(0, len(share) - 1, limit).round().astype(int))
