"""A report notebook executed here and now, without a kernel: what a page is made of, in half a second."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from loadbench import pages, reports
from loadbench.model import LoadTestRun
from loadbench.store import Store


def executed(notebook: Path, parameters: dict[str, Any], has: set[str]) -> dict[str, Any]:
    """Run the cells in order, and give the notebook with what each showed."""
    content = reports._prepared(notebook, has)
    names: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] != "code":
            continue
        shown: list[Any] = []
        names["display"] = shown.append
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= parameters
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), cell["id"], "eval"), names))
        cell["outputs"] = [_output(each) for each in shown if each is not None]
    return content


def run_page(store: Store, run: LoadTestRun, path: Path, *, window: str = "steady") -> Path:
    """Write the page of a run's report."""
    done = executed(
        reports.template("run"),
        {"scope": "acme/shop/checkout", "env": "staging", "run_id": run.id, "window": window},
        reports._held(store, run, window),
    )
    return pages.write(path, pages.render(done, title=run.name).encode())


def _output(value: Any) -> dict[str, Any]:
    if isinstance(value, go.Figure):
        data = {pages.FIGURE: json.loads(value.to_json())}
    else:
        data = {"text/plain": repr(value), "text/html": value._repr_html_()}
    return {"output_type": "display_data", "data": data, "metadata": {}}
