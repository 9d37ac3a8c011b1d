"""Pages: an executed notebook as one HTML file that opens anywhere, offline.

The page loads nothing from anywhere and runs the scripts of this package only. Its charts are interactive: plotly.js is
in it, once, beside the figures as JSON. The code of the cells is there too, hidden until somebody asks for it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from loadbench import html
from loadbench.errors import InvalidInput
from loadbench.model import now_ms

FIGURE = "application/vnd.plotly.v1+json"
TITLE_PX, SUBTITLE_PX, MARGIN_PX = 60, 26, 24
NOTEBOOK_ONLY = "notebook-only"
_HEADING = re.compile(r"#{1,6}\s")
_SCRIPTS = ("static/plotly-cartesian.min.js", "templates/report.js")


@dataclass(frozen=True)
class Block:
    """A piece of a page: `code`, `prose` (Markdown) or what a cell gave: `figure` (JSON), `markup` (HTML), `text`."""

    kind: str
    content: str


@dataclass
class Section:
    """A heading of the notebook with what is below it."""

    heading: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def kinds(self) -> set[str]:
        """Which kinds of blocks are in it."""
        return {block.kind for block in self.blocks}

    @property
    def is_shown(self) -> bool:
        """Whether there is something to read: not a heading, with or without prose, above cells that gave nothing."""
        kinds = self.kinds
        return bool(kinds) and ("code" not in kinds or not kinds <= {"code", "prose"})


def render(notebook: Mapping[str, Any], *, title: str) -> str:
    """Give an executed notebook as the text of a page.

    Cells tagged `notebook-only` are for people who open the notebook. A section of which no cell has an output, such as
    charts of a run without requests, is left out.
    """
    return (
        html.templates()
        .get_template("report.html.j2")
        .render(
            title=title,
            sections=[section for section in sections(notebook["cells"]) if section.is_shown],
            made_at=now_ms(),
            version=metadata.version("loadbench"),
            **scripts(_SCRIPTS),
        )
    )


def sections(cells: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """Read the cells of an executed notebook as sections."""
    section = Section()
    for cell in cells:
        if NOTEBOOK_ONLY in cell.get("metadata", {}).get("tags", ()):
            continue
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            if _HEADING.match(source):
                yield section
                section = Section(heading=source.partition("\n")[0].lstrip("# ").strip())
                source = source.partition("\n")[2]
            if source.strip():
                section.blocks.append(Block("prose", _markdown(source)))
        elif cell["cell_type"] == "code":
            section.blocks.append(Block("code", _highlighted(source)))
            section.blocks += filter(None, map(_block, cell["outputs"]))
    yield section


def _block(output: Mapping[str, Any]) -> Block | None:
    """Give what one output shows; None for one that shows nothing."""
    if output["output_type"] == "stream":
        return Block("text", html.error_text(_joined(output["text"]))) if output["name"] == "stdout" else None
    if output["output_type"] == "error":
        return Block("text", html.error_text("\n".join(output["traceback"])))
    data = output["data"]
    if FIGURE in data:
        return Block("figure", inert(_below_heading(data[FIGURE]))) if data[FIGURE].get("data") else None
    if "text/html" in data:
        markup = _joined(data["text/html"]).replace(_style(), "")
        return Block("markup", Markup(markup)) if markup.strip() else None  # noqa: S704 - the policy stops scripts
    return Block("text", html.error_text(_joined(data.get("text/plain", "")))) if data.get("text/plain") else None


def write(target: Path, content: bytes) -> Path:
    """Write a file as a whole or not at all; its folder is made.

    Raises
    ------
    InvalidInput
        If it cannot be written there.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    return target


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"cannot write {target}: {error.strerror or error}; give a path that can be written",
            field="path",
        ) from None


def _markdown(source: str) -> Markup:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune  # nbconvert takes half a second to import

    return Markup(markdown2html_mistune(source))  # noqa: S704 - as in a notebook; the policy stops scripts


def _highlighted(source: str) -> Markup:
    from nbconvert.filters.highlight import Highlight2HTML

    return Markup(Highlight2HTML(pygments_lexer="ipython3")(source))  # noqa: S704 - it escapes


def _below_heading(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Take the title off a figure, and its room: the page has a heading above it. The subtitle stays, in its place."""
    layout = dict(figure.get("layout", {}))
    title = layout.get("title", {})
    subtitle = title.get("subtitle", {}) if title.get("text") else {}
    spared = TITLE_PX - (SUBTITLE_PX if subtitle.get("text") else 0)
    layout["title"] = {**title, "text": subtitle.get("text", ""), "font": subtitle.get("font", {}), "subtitle": {}}
    margin = layout.get("margin", {})
    usual_px = layout.get("template", {}).get("layout", {}).get("margin", {}).get("t", 100)
    layout["margin"] = {**margin, "t": max(MARGIN_PX, margin.get("t", usual_px) - spared)}
    if "height" in layout:
        layout["height"] -= spared
    return {"data": figure["data"], "layout": layout}


def inert(figure: Mapping[str, Any]) -> Markup:
    """Give a figure as JSON that cannot end the script element it stands in."""
    text = json.dumps({"data": figure["data"], "layout": figure.get("layout", {})}, separators=(",", ":"))
    return Markup(  # noqa: S704
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    )


@cache
def _style() -> str:
    """Give the style that pieces of a report carry for notebooks; the page has it once."""
    return html.templates().get_template("report_style.html.j2").render()


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def scripts(paths: Sequence[str]) -> dict[str, Any]:
    """Give what a template needs of scripts of this package: their `scripts`, and the `script_hashes` of its policy."""
    texts = [_file(path) for path in paths]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return {
        "scripts": [Markup(text) for text in texts],  # noqa: S704 - files of this package
        "script_hashes": " ".join(f"'sha256-{each}'" for each in hashes),
    }


@cache
def _file(path: str) -> str:
    return (resources.files("loadbench") / path).read_text("utf-8")
