"""Every notebook runs from the first cell to the last, as nbval executes it, and again on what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_all_notebooks_run_twice_in_a_row(store):
    environment = os.environ | {"LOADBENCH_MONGODB_URI": store.uri}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--nbval-lax", "--nbval-current-env"]
    for attempt in ("first", "second"):
        done = subprocess.run(
            [*command, "--nbval-cell-timeout=120", "notebooks"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{attempt} time:\n{done.stdout}{done.stderr}"
