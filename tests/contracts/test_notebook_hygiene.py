"""Notebooks as they stand in git."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORTS = sorted((ROOT / "loadbench" / "templates").glob("*.ipynb"))
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *REPORTS]
TAGS = {"parameters", "hide-input", "raises-exception", "nbval-skip"}
OF_REPORTS = {"notebook-only", "needs-figures", "needs-intervals", "needs-gates"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request) -> dict:
    return json.loads(request.param.read_text())


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert [path.stem for path in REPORTS] == ["report_comparison", "report_run", "report_trend"]
    assert next(path.name for path in NOTEBOOKS) == "00_workbench.ipynb"


def test_no_outputs_and_no_counts(notebook):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells(notebook))


def test_papermill_can_run_it(notebook):
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1


def test_only_known_tags(notebook):
    used = {tag for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])}
    assert used <= TAGS | OF_REPORTS


def test_no_long_functions_and_no_plumbing(notebook):
    for cell in code_cells(notebook):
        tree = compile("".join(cell["source"]), "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 5, node.name
