"""Two revisions of a script side by side."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from loadbench import html

CONTEXT = 3


class Line(NamedTuple):
    """One line of the comparison. A side without such a line is None; `folded` counts equal lines left out."""

    kind: str
    old: tuple[int, str] | None = None
    new: tuple[int, str] | None = None
    folded: int = 0


def side_by_side(before: str, after: str, *, context: int = CONTEXT) -> list[Line]:
    """Align two texts line by line; runs of equal lines are folded, but for `context` lines around each change."""
    old, new = before.splitlines(), after.splitlines()
    lines: list[Line] = []
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for number, (kind, i, j, k, m) in enumerate(blocks):
        if kind == "equal":
            same = [
                Line("equal", (a + 1, old[a]), (b + 1, new[b])) for a, b in zip(range(i, j), range(k, m), strict=True)
            ]
            lines += _folded(same, context if number else 0, context if number < len(blocks) - 1 else 0)
            continue
        for place in range(max(j - i, m - k)):
            left = (i + place + 1, old[i + place]) if i + place < j else None
            right = (k + place + 1, new[k + place]) if k + place < m else None
            lines.append(Line("changed" if left and right else "removed" if left else "added", left, right))
    return lines


def _folded(same: list[Line], head: int, tail: int) -> list[Line]:
    left_out = len(same) - head - tail
    if left_out < 2:
        return same
    return [*same[:head], Line("folded", folded=left_out), *same[len(same) - tail :]]


def diff_table(before: str, after: str, *, old_title: str, new_title: str) -> str:
    """Draw the comparison as an HTML table."""
    lines = side_by_side(before, after)
    changed = any(line.kind not in ("equal", "folded") for line in lines)
    template = html.templates().get_template("panel_diff.html.j2")
    return template.render(lines=lines, changed=changed, old_title=old_title, new_title=new_title)
