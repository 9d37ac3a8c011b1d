"""Every notebook runs from the first cell to the last, as nbval executes it; and again on what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What these show is tested by others too, and they take a minute or so.
LONG = (
    "00_workbench.ipynb", "02_define_and_revise.ipynb", "03_clusters_and_remote.ipynb", "04_rest_client.ipynb",
    "06_gates_and_ci.ipynb", "07_history_and_regressions.ipynb", "08_capacity.ipynb",
)  # fmt: skip


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(each, id=each.name, marks=[pytest.mark.long] * (each.name in LONG)) for each in NOTEBOOKS],
)
def test_a_notebook_runs(store, notebook):
    execute(notebook, store.uri)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_twice_in_a_row(store, notebook):
    for _ in range(2):
        execute(notebook, store.uri)


def execute(notebook: Path, mongodb_uri: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--nbval-lax"]
    done = subprocess.run(
        [*command, "--nbval-current-env", "--nbval-cell-timeout=120", notebook],
        cwd=ROOT,
        env=os.environ | {"LOADBENCH_MONGODB_URI": mongodb_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
