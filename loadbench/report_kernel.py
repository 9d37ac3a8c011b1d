"""What the kernel of a report loads while papermill is still being imported elsewhere, and how it shows figures."""

from __future__ import annotations

import json

import plotly.graph_objects as go
from IPython.core.getipython import get_ipython
from IPython.display import display

import loadbench.comparison
import loadbench.sheets
import loadbench.workbench  # noqa: F401 - what a report's cells import is loaded by then

FIGURE = "application/vnd.plotly.v1+json"


def show(figure: go.Figure) -> None:
    """Store a figure as JSON, and nothing else: small, and drawn by JupyterLab and by the page alike.

    Plotly itself would do that too, after a second of imports.
    """
    display({FIGURE: json.loads(figure.to_json())}, raw=True)


if (shell := get_ipython()) is not None:
    shell.display_formatter.ipython_display_formatter.for_type(go.Figure, show)
