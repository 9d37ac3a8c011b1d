"""Every notebook runs from the first cell to the last, as nbval executes it; and again on what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
AGAIN = ("01_first_run.ipynb", "02_define_and_revise.ipynb")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(store, notebook):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--nbval-lax"]
    for attempt in ("first", "second")[: 1 + (notebook.name in AGAIN)]:
        done = subprocess.run(
            [*command, "--nbval-current-env", "--nbval-cell-timeout=120", notebook],
            cwd=ROOT,
            env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{attempt} time:\n{done.stdout}{done.stderr}"
