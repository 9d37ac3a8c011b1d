"""What all sheets of a report are made of: text with its HTML, tables with units, diffs in colours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from loadbench import html
from loadbench.analysis.columns import TEXT, TIME, Column, column
from loadbench.analysis.summary import AGGREGATED
from loadbench.errors import InvalidInput

SHOWN_ROWS = 100
TITLES = {
    "failure_ratio": "failed", "requests_per_s": "requests/s", "failures_per_s": "errors/s", "first_seen": "first seen",
    "last_seen": "last seen", "started_at": "started", "finished_at": "finished", "duration_s": "planned",
    "stop_reason": "ended by", "spawn_per_s": "users/s", "effect_percent": "change", "low_percent": "from",
    "high_percent": "to", "smallest_percent": "could have found", "p_adjusted": "p, adjusted", "at_s": "broken at",
    "created_at": "made", "created_by": "by",
}  # fmt: skip


class Sheet:
    """A piece of a report: `text` for terminals, `html` for notebooks, which a template escaped."""

    def __init__(self, text: str, markup: str) -> None:
        self._text, self._markup = text, markup

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._markup


@dataclass(frozen=True, repr=False)
class Table:
    """A frame made ready for readers: values written out with the formats of their units, each column with its unit."""

    headers: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[str]]
    total: bool = False
    more: int = 0

    def __repr__(self) -> str:
        return f"<Table of {len(self.rows) + self.more} rows: {', '.join(title for title, _, _ in self.headers)}>"

    def _repr_html_(self) -> str:
        return render("table.html.j2", table=self) if self.rows else ""


def render(template: str, **context: Any) -> str:
    """Draw a template of a sheet."""
    return html.templates().get_template(f"report_{template}").render(**context)


def table(
    frame: pd.DataFrame,
    columns: Sequence[str] | Mapping[str, str] = (),
    *,
    rows: int = SHOWN_ROWS,
    numbers: Collection[str] = (),
) -> Table:
    """Make a frame ready for readers.

    Parameters
    ----------
    frame : DataFrame
        As `run.summary()`, `run.failures()` or `test.runs()` give it. `method` and `name` become one column. A column
        that is not of the registry is written as it is.
    columns : sequence or mapping of str to str, optional
        Which columns, in which order; a mapping names them too. Left out, all.
    rows : int
        How many rows at most; the table says how many more there are.
    numbers : collection of str, optional
        Columns of numbers that are written already: they stand to the right as others do.
    """
    flat = frame.reset_index() if frame.index.name else frame.copy()
    titled = {} if "method" not in flat else {"name": "endpoint"}
    if "method" in flat:
        flat["name"] = (flat["method"] + " " + flat["name"]).str.strip()
    chosen = columns or [name for name in flat if name != "method"]
    titles = (
        dict(columns) if isinstance(columns, Mapping) else {name: titled.get(name, _title(name)) for name in chosen}
    )
    shown = flat.head(rows)
    return Table(
        headers=[
            (titles[name], _format(name).suffix, name in numbers or _known(name).dtype not in _LEFT) for name in titles
        ],
        rows=list(zip(*(_written(name, shown[name]) for name in titles), strict=True)),
        total="name" in shown and len(shown) > 0 and shown["name"].iloc[-1] == AGGREGATED,
        more=len(flat) - len(shown),
    )


def diff(text: str) -> Sheet:
    """Show a unified diff with its lines in colours; nothing if it is empty."""
    kinds = {"+": "ins", "-": "del", "@": "i"}
    lines = [
        ("i" if line.startswith(("+++", "---")) else kinds.get(line[:1], ""), html.printable(line.expandtabs(4)) or " ")
        for line in text.splitlines()
    ]
    return Sheet(text, render("diff.html.j2", lines=lines) if lines else "")


def _known(name: str) -> Column:
    try:
        return column(name)
    except InvalidInput:
        return Column("str", "", 0, "")


def _format(name: str) -> html.Format:
    return html.FORMATS.get(_known(name).unit, html.FORMATS[""])


def _written(name: str, values: pd.Series) -> list[str]:
    form = _format(name)
    return [
        html.MISSING if html.is_missing(value) else _text(value) if isinstance(value, str) else form.number(value)
        for value in values
    ]


_LEFT = (TEXT, TIME)
_text = html.FORMATS[""].number


def _title(name: str) -> str:
    plain = name.removesuffix("_ms").removesuffix("_s") if _known(name).unit in ("ms", "s") else name
    return TITLES.get(name, plain.replace("_", " "))
