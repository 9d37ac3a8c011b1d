"""What ipywidgets lacks: a table to choose from, a script editor, a cell to copy, a chart, a notice of a busy kernel.

Each is a small anywidget; its page side is in `loadbench/static`, and loads nothing from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets

from loadbench.live import PLOTLY_LOADER, STATIC, plotly_gzip

MAX_ROWS = 500


class Table(anywidget.AnyWidget):
    """Rows of text, sortable, of which none, one or several can be chosen with mouse or keyboard.

    Parameters
    ----------
    columns : sequence of (key, heading) or (key, heading, "number")
    choose : {"none", "one", "many"}
    label : str
        What a screen reader calls the table.
    empty : str
        What stands there without rows, and says what to do next.
    folds : bool
        Show only its label at first, which unfolds it.
    """

    _esm = STATIC / "table.js"

    columns = traitlets.List().tag(sync=True)
    rows = traitlets.List().tag(sync=True)
    choose = traitlets.Enum(["none", "one", "many"], "none").tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    empty = traitlets.Unicode().tag(sync=True)
    folds = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        columns: Sequence[Sequence[str]],
        *,
        choose: str = "none",
        label: str = "",
        empty: str = "",
        folds: bool = False,
    ) -> None:
        columns = [list(column) for column in columns]
        super().__init__(columns=columns, choose=choose, label=label, empty=empty, folds=folds)

    def show(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show rows: `id`, and per column its text, or `[text, what it is sorted by]`. Those chosen stay chosen."""
        rows = list(rows)[:MAX_ROWS]
        there = {row["id"] for row in rows}
        with self.hold_sync():
            self.rows = rows
            self.chosen = [each for each in self.chosen if each in there]


class Editor(anywidget.AnyWidget):
    """A Python script with highlighting, line numbers, and a mark at the line of an error.

    What is typed comes as messages: the page holds a change of state back while the kernel is busy with an earlier one,
    and a click on "Save" would overtake it.
    """

    _esm = STATIC / "editor.js"

    value = traitlets.Unicode().tag(sync=True, echo_update=False)
    label = traitlets.Unicode("Locust script").tag(sync=True)
    error_line = traitlets.Int(0).tag(sync=True)
    lines = traitlets.Int(22).tag(sync=True)
    """How many lines are seen at once."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(lambda _, content, __: self.set_state({"value": content["value"]}))


class CodeCell(anywidget.AnyWidget):
    """A button "Copy as cell", which shows the code that makes a view, and puts it on the clipboard."""

    _esm = STATIC / "code_cell.js"

    code = traitlets.Unicode().tag(sync=True)


class Chart(anywidget.AnyWidget):
    """A Plotly figure in the colours of the page, drawn with the library that the live view brought."""

    _esm = PLOTLY_LOADER + (STATIC / "chart.js").read_text()

    figure = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(self._answer)

    def show(self, figure: go.Figure | None, *, label: str = "") -> None:
        """Show a figure, or none."""
        self.label = label
        self.figure = "" if figure is None else json.dumps(_readable(json.loads(figure.to_json())))

    def _answer(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("kind") == "plotly":
            self.send({"kind": "plotly", "page": str(content.get("page", ""))}, buffers=[plotly_gzip()])


class Notice(anywidget.AnyWidget):
    """What concerns the whole panel: that the kernel is busy with a cell, and that it has caught up."""

    _esm = STATIC / "notice.js"
    _css = STATIC / "panel.css"

    behind = traitlets.Bool(False).tag(sync=True)


class Download(anywidget.AnyWidget):
    """A link that saves a file of the kernel's machine on the reader's, whatever proxy is between them."""

    _esm = STATIC / "download.js"

    name = traitlets.Unicode("").tag(sync=True)
    """The file's name; empty for no link."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        super().__init__()
        self._read = read
        self.on_msg(self._answer)

    def _answer(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("kind") in ("open", "save"):
            self.send({"kind": content["kind"], "id": content.get("id"), "name": self.name}, buffers=[self._read()])


def _readable(value: Any) -> Any:
    """Leave out the template's own colours of paper and ink: the page has its theme."""
    layout = value.get("layout", {}).get("template", {}).get("layout", {})
    for name in ("paper_bgcolor", "plot_bgcolor"):
        layout.pop(name, None)
    return value
