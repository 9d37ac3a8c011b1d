"""Form fields: a labelled input with its error in words right below it, and a form of several.

The API and the records have names for what the form calls by labels: an error is shown in the words of the form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ipywidgets
from pydantic.alias_generators import to_camel

from loadbench import html
from loadbench.errors import InvalidInput
from loadbench.model import PARAMETERS

LABEL_WIDTH = "116px"
LABELS = {
    "name": "Name", "target_url": "Target", "users": "Users", "spawn_rate": "Spawn rate", "duration": "Duration",
    "max_duration": "Max. duration", "tags": "Tags", "cluster": "Cluster", "description": "Description",
    "revision": "Revision", "workers": "Workers", "arguments": "Arguments", "notes": "Notes", "gates": "Gates",
}  # fmt: skip
_OF_RECORDS = PARAMETERS | {"cluster_id": "cluster", "target_url": "target_url"}
_PARAMETERS = {
    **_OF_RECORDS,
    **{to_camel(field): parameter for field, parameter in _OF_RECORDS.items()},
    **{name: name for name in LABELS if "_" in name},
}
"""What messages call the fields, in words that no sentence holds by chance; and what parameters these are."""
_NAMES = re.compile(rf"\b(?:{'|'.join(sorted(_PARAMETERS, key=len, reverse=True))})\b")


class Field(ipywidgets.VBox):
    """One input with a hint, and room for what is wrong with it; its form labels it."""

    def __init__(self, value: Any = "", *, hint: str = "", options: Any = None, rows: int = 0) -> None:
        self.input = _input(value, options, rows)
        self.input.style.description_width = LABEL_WIDTH
        self.input.layout.width = "auto"
        if hint:
            self.input.tooltip = hint
            if hasattr(self.input, "placeholder"):
                self.input.placeholder = hint
        self.problem = ipywidgets.HTML()
        self.problem.add_class("lb-problem")
        super().__init__([self.input, self.problem])
        self.add_class("lb-field")
        self.input.observe(lambda _: self.refuse(""), "value")

    @property
    def value(self) -> Any:
        value = self.input.value
        return value.strip() if isinstance(value, str) and not isinstance(self.input, ipywidgets.Textarea) else value

    @value.setter
    def value(self, value: Any) -> None:
        self.input.value = value

    def refuse(self, message: str) -> None:
        """Show what is wrong; an empty message takes that away."""
        self.problem.value = html.panel_line("error", message) if message else ""
        (self.add_class if message else self.remove_class)("lb-refused")


class Form(ipywidgets.VBox):
    """Fields by the names that the API calls them, in a grid that follows the width of the page."""

    def __init__(self, fields: Mapping[str, Field], *, wide: tuple[str, ...] = ()) -> None:
        self.fields = dict(fields)
        for name, each in self.fields.items():
            each.input.description = LABELS[name]
        for name in wide:
            self.fields[name].add_class("lb-wide")
        grid = ipywidgets.Box(list(self.fields.values()))
        grid.add_class("lb-grid")
        super().__init__([grid])

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]

    def values(self) -> dict[str, Any]:
        """Give what is in the fields; lists are read from commas."""
        return {name: each.value for name, each in self.fields.items()}

    def fill(self, **values: Any) -> None:
        """Put values into fields; what was wrong with them is forgotten."""
        for name, value in values.items():
            self.fields[name].value = value
        self.clear()

    def clear(self) -> None:
        for each in self.fields.values():
            each.refuse("")

    def refuse(self, error: InvalidInput) -> bool:
        """Show an error next to the field that it names; False if the form has none of that name."""
        self.clear()
        name = (error.field or next(iter(_NAMES.findall(str(error))), "")).split(".")[0]
        name = _PARAMETERS.get(name, name)
        if name not in self.fields:
            return False
        self.fields[name].refuse(labelled(error))
        return True


def labelled(error: InvalidInput) -> str:
    """Give the message of an error with the labels that the form has for the names of parameters and records."""
    message, field = str(error), error.field or ""
    name = _PARAMETERS.get(field.split(".")[0], field.split(".")[0])
    if name in LABELS and message.startswith(field):
        message = LABELS[name] + message.removeprefix(field)
    return _NAMES.sub(lambda found: f"“{LABELS[_PARAMETERS[found[0]]]}”", message)


def listed(text: str) -> list[str]:
    """Read a list that is written with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _input(value: Any, options: Any, rows: int) -> Any:
    if options is not None:
        return ipywidgets.Dropdown(options=options, value=value)
    if rows:
        return ipywidgets.Textarea(value=value, rows=rows)
    if isinstance(value, bool):
        return ipywidgets.Checkbox(value=value, indent=False)
    if isinstance(value, int):
        return ipywidgets.IntText(value=value)
    if isinstance(value, float):
        return ipywidgets.FloatText(value=value)
    return ipywidgets.Text(value=value)
