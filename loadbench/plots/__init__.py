"""Plotly figures of runs, from DataFrames and arrays: one look, a unit on every axis, told apart without colour too."""

from __future__ import annotations

from loadbench.plots.capacity import scalability
from loadbench.plots.comparison import VERDICTS, contributions, forest, overlay, shift
from loadbench.plots.distribution import cdf, distribution
from loadbench.plots.endpoints import endpoint_percentiles
from loadbench.plots.errors import errors_over_time
from loadbench.plots.gates import GateTrace, gates
from loadbench.plots.heatmap import heatmap
from loadbench.plots.history import history
from loadbench.plots.load import response_time_against_load
from loadbench.plots.look import (
    BLUE,
    DAY_MS,
    GREEN,
    GREY,
    MAX_ENDPOINTS,
    MAX_POINTS,
    ORANGE,
    PERCENTILES,
    PURPLE,
    SERIES,
    SKY,
    TEMPLATE,
    VERMILLION,
    label,
    no_data,
    shade,
    short_label,
)
from loadbench.plots.percentiles import percentiles_over_time
from loadbench.plots.timeline import timeline

__all__ = [
    "BLUE",
    "DAY_MS",
    "GREEN",
    "GREY",
    "MAX_ENDPOINTS",
    "MAX_POINTS",
    "ORANGE",
    "PERCENTILES",
    "PURPLE",
    "SERIES",
    "SKY",
    "TEMPLATE",
    "VERDICTS",
    "VERMILLION",
    "GateTrace",
    "cdf",
    "contributions",
    "distribution",
    "endpoint_percentiles",
    "errors_over_time",
    "forest",
    "gates",
    "heatmap",
    "history",
    "label",
    "no_data",
    "overlay",
    "percentiles_over_time",
    "response_time_against_load",
    "scalability",
    "shade",
    "shift",
    "short_label",
    "timeline",
]
