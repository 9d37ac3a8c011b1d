"""The first notebook in real JupyterLab: all cells run, and the charts move while the load goes on."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.browser.lab_pages import Lab

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
ROWS = "() => Number(document.querySelector('.loadbench-live')?.dataset.rows ?? 0)"
DRAWN = "() => document.querySelector('.loadbench-live .scatterlayer path.js-line')?.getAttribute('d')"


@pytest.mark.long
def test_the_first_notebook_shows_the_run_live(lab: Lab):
    shutil.copytree(ROOT / "locustfiles", lab.directory / "locustfiles", dirs_exist_ok=True)
    notebook = lab.open_notebook(ROOT / "notebooks" / "01_first_run.ipynb", height=1000)
    notebook.run_all()
    notebook.page.wait_for_function(f"({ROWS})() > 0", timeout=60_000)
    seen: list[tuple[int, str]] = []
    deadline = time.monotonic() + 60
    while notebook.is_busy() and time.monotonic() < deadline:
        notebook.page.evaluate("() => document.querySelector('.loadbench-live')?.scrollIntoView({block: 'center'})")
        picture = (notebook.page.evaluate(ROWS), notebook.page.evaluate(DRAWN))
        if picture[1] and (not seen or picture[1] != seen[-1][1]):
            seen.append(picture)
        if picture[0] == 12:
            notebook.screenshot("first-notebook-live")
        notebook.page.wait_for_timeout(300)
    assert len(seen) >= 8, f"the charts did not move while the run went on: {seen}"
    assert [rows for rows, _ in seen] == sorted(rows for rows, _ in seen)
    notebook.wait_for_idle(within_s=60)
    shown = notebook.outputs()
    assert "Finished" in shown
    assert "Traceback" not in shown
    assert not notebook.errors
    assert not notebook.foreign_requests()
    notebook.page.evaluate("() => document.querySelector('.loadbench-live').scrollIntoView({block: 'start'})")
    notebook.screenshot("first-notebook-end")
