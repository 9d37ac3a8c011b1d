"""No row of the fault matrix is forgotten: F1 to F25 have a test each, and three of them a control."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROWS = range(1, 26)
CONTROLS = {1, 7, 11}
NAME = re.compile(r"^def (test_f(\d\d)_\w+)\(", re.MULTILINE)


def names_by_row() -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for module in Path(__file__).parent.glob("test_*.py"):
        for name, row in NAME.findall(module.read_text()):
            found[int(row)].append(name)
    return found


def test_every_row_has_a_test():
    found = names_by_row()
    assert {row for row, names in found.items() if any("_is_red_" not in name for name in names)} == set(ROWS)


def test_every_control_is_there():
    assert {row for row, names in names_by_row().items() if any("_is_red_" in name for name in names)} == CONTROLS
