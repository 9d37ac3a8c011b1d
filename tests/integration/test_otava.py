"""Apache Otava as oracle for change points, in an environment of its own: it pins another numpy than this product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadbench.analysis.history import trend

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

REQUIREMENT = "apache-otava==0.8.0"
PROGRAM = """
import json, sys
from otava.analysis import compute_change_points
series = json.load(sys.stdin)
print(json.dumps([[int(p.index) for p in compute_change_points(values, max_pvalue=0.001)[0]] for values in series]))
"""


@pytest.fixture(scope="module")
def otava(tmp_path_factory) -> Path:
    """A Python that has Otava; if it cannot be made, the tests fail."""
    home = tmp_path_factory.mktemp("otava")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bin" / "python"


def told_by(python: Path, series: list[np.ndarray]) -> list[list[int]]:
    given = json.dumps([values.tolist() for values in series])
    done = subprocess.run([python, "-c", PROGRAM], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drawn(seed: int, changes: dict[int, float]) -> np.ndarray:
    level = np.ones(40)
    for first, factor in changes.items():
        level[first:] *= factor
    return 180 * level * np.exp(np.random.default_rng(seed).normal(0, 0.02, 40))


def test_otava_finds_the_same_changes_in_20_series(otava):
    """Of 20 series ten have one change of 8 to 20 %, up or down, five have two, and five have none."""
    plans = [{15 + seed: 1.08 + 0.012 * seed if seed % 2 else 0.9} for seed in range(10)]
    plans += [{12: 1.1, 26: 1.12}] * 3 + [{12: 1.15, 26: 0.87}] * 2 + [{}] * 5
    series = [drawn(seed, plan) for seed, plan in enumerate(plans)]
    theirs = told_by(otava, series)
    alike = []
    for values, plan, their in zip(series, plans, theirs, strict=True):
        mine = [change.index for change in trend(values).changes]
        assert all(near(first, mine) and near(first, their) for first in plan), (plan, mine, their)
        alike.append(all(near(at, their) for at in mine) and all(near(at, mine) for at in their))
    assert sum(alike) >= 19, alike


def near(at: int, others: list[int]) -> bool:
    """Within one run: Otava may tell two neighbours of one change."""
    return any(abs(at - other) <= 1 for other in others)
