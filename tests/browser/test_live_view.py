"""The live view in a real JupyterLab: it moves and obeys while a cell is busy, and is whole when opened late."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_pages import Lab, NotebookPage

SETUP = """\
import threading, time
from datetime import UTC, datetime
from live_documents import a_run, an_interval
from loadbench.live import LiveView, follow
from loadbench.model import RunStatus
"""
LIVE = """\
began = datetime.now(UTC)
run = a_run(start=began, duration_sec=120)
stopped = threading.Event()
def stop():
    stopped.at = time.time()
    view.set_status(run.model_copy(update={"status": RunStatus.STOPPING}))
    stopped.set()
view = LiveView([], run=run, stop=stop)
def feed():
    seq = 0
    while not stopped.wait(0.25) and seq < 400:
        view.append(an_interval(seq, start=began))
        seq += 1
    view.set_status(a_run(start=began, status=RunStatus.STOPPED, stop_reason="user", duration_sec=120))
threading.Thread(target=feed, daemon=True).start()
view
"""
SLEEPING = """\
stop_at = time.time() + 20
while time.time() < stop_at and not stopped.is_set():
    time.sleep(0.2)
busy_until = time.time()
"""
COMPUTING = SLEEPING.replace("time.sleep(0.2)", "sum(i * i for i in range(20_000))")
DEAF = "stop_at = time.time() + 8\nwhile time.time() < stop_at:\n    time.sleep(0.1)\nbusy_until = time.time()\n"
ROWS = "() => Number(document.querySelector('.loadbench-live')?.dataset.rows ?? 0)"
LINE = "() => document.querySelector('.loadbench-live .js-plotly-plot').data[1].y.length"


def wait_for_rows(notebook: NotebookPage, at_least: int) -> int:
    notebook.page.wait_for_function(
        "n => Number(document.querySelector('.loadbench-live')?.dataset.rows ?? 0) >= n", arg=at_least, timeout=30_000
    )
    return notebook.page.evaluate(ROWS)


@pytest.mark.parametrize(
    "busy",
    [pytest.param(SLEEPING, id="sleeping", marks=pytest.mark.long), pytest.param(COMPUTING, id="computing")],
)
def test_charts_move_and_stop_works_while_a_cell_is_busy(lab: Lab, busy: str):
    path = lab.write_notebook("busy.ipynb", SETUP + LIVE, busy, "print('late by', round(busy_until - stopped.at, 1))")
    notebook = lab.open_notebook(path)
    notebook.run_all()
    seen = wait_for_rows(notebook, 3)
    assert wait_for_rows(notebook, seen + 4) > seen
    assert notebook.is_busy()
    assert notebook.page.evaluate(LINE) >= seen
    notebook.page.click(".lb-stop")
    notebook.wait_for_idle(within_s=10)
    late_s = float(notebook.outputs().split("late by")[1].split()[0])
    assert late_s < 1, "Stop did not reach the kernel before the cell ended by itself"
    notebook.page.wait_for_selector(".lb-badge[data-status=Stopped]")
    assert notebook.page.is_hidden(".lb-stop")
    assert notebook.errors == []


def test_library_and_history_arrive_while_a_cell_is_busy_from_the_start(lab: Lab):
    path = lab.write_notebook("deaf.ipynb", SETUP + LIVE, DEAF, "print('over', 1)")
    notebook = lab.open_notebook(path)
    notebook.run_all()
    wait_for_rows(notebook, 4)
    assert notebook.is_busy()
    notebook.page.click("summary")
    notebook.page.click(".lb-choice >> nth=2")
    notebook.page.wait_for_selector(".lb-chip")
    assert notebook.is_busy()
    assert "/cart <b>bold</b><img src=x onerror=alert(1)>" in notebook.page.inner_text(".lb-chip")
    assert notebook.page.locator(".loadbench-live img, .loadbench-live .lb-chip b").count() == 0
    notebook.page.wait_for_function("() => document.querySelector('.js-plotly-plot').data.length === 6 + 5")
    notebook.page.click(".lb-stop")
    assert notebook.page.inner_text(".lb-stop") == "Stopping…"
    notebook.wait_for_idle()


@pytest.mark.long
def test_view_in_another_kernel_shows_the_whole_history_and_follows_the_ledger(lab: Lab, tmp_path: Path):
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    follower = f"""\
import pathlib, pickle
ledger = pathlib.Path({str(ledger)!r})
def read_after(position):
    found = [pickle.loads(p.read_bytes()) for p in sorted(ledger.glob("*.doc"))]
    return [d for d in found if d["seq"] > position.get(d["source"], -1)]
def read_run():
    return a_run(status=RunStatus.FINISHED if (ledger / "over").exists() else RunStatus.RUNNING)
view = LiveView(read_after({{}}), run=read_run())
thread = follow(view, read_after=read_after, read_run=read_run)
view
"""
    writer = f"""\
import pathlib, pickle
ledger = pathlib.Path({str(ledger)!r})
def write(*seqs):
    for seq in seqs:
        part = ledger / f"{{seq:05}}.part"
        part.write_bytes(pickle.dumps(an_interval(seq)))
        part.rename(part.with_suffix(".doc"))
write(*range(40))
"""
    first = lab.open_notebook(
        lab.write_notebook("first.ipynb", SETUP + writer, "write(41, 42)", "write(40); (ledger / 'over').touch()")
    )
    first.run_cell(0)
    first.wait_for_idle()
    late = lab.open_notebook(
        lab.write_notebook("late.ipynb", SETUP + follower, "thread.join(10); print('alive:', thread.is_alive())")
    )
    late.run_cell(0)
    assert wait_for_rows(late, 40) == 40
    first.run_cell(1)
    assert wait_for_rows(late, 42) == 42
    assert "1 interval not here yet" in late.page.inner_text(".lb-notes")
    first.run_cell(2)
    assert wait_for_rows(late, 43) == 43
    late.page.wait_for_selector(".lb-badge[data-status=Finished]")
    assert late.page.is_hidden(".lb-notes")
    late.run_cell(1)
    late.page.wait_for_function("() => document.body.innerText.includes('alive: False')")
    after = lab.open_notebook(
        lab.write_notebook("after.ipynb", SETUP + follower.replace("\nview\n", "\nprint('thread:', thread)\nview\n"))
    )
    after.run_all()
    assert wait_for_rows(after, 43) == 43
    assert "thread: None" in after.outputs()


@pytest.mark.long
def test_saved_notebook_is_small_and_nothing_comes_from_outside(lab: Lab):
    many = "view = LiveView([an_interval(seq) for seq in range(900)], run=a_run(status=RunStatus.FINISHED))\nview"
    path = lab.write_notebook("small.ipynb", SETUP + many)
    notebook = lab.open_notebook(path)
    notebook.run_all()
    assert wait_for_rows(notebook, 900) == 900
    notebook.wait_for_idle()
    saved = notebook.save(path)
    (output,) = saved["cells"][0]["outputs"]
    assert "application/vnd.plotly.v1+json" in output["data"]
    assert len(json.dumps(saved)) < 100_000
    assert notebook.foreign_requests() == []
    assert notebook.page.locator(".js-plotly-plot").count() == 1, "JupyterLab shows the widget, not the static twin too"
    points = notebook.page.evaluate("() => document.querySelector('.js-plotly-plot').data.map(t => t.x.length)")
    assert max(points) <= 600
    notebook.page.reload()
    assert wait_for_rows(notebook, 900) == 900


@pytest.mark.long
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_looks(lab: Lab, theme: str):
    history = """\
from datetime import timedelta
began = datetime.now(UTC) - timedelta(seconds=240)
history = [an_interval(s, start=began, slow_ms=900 if s == 150 else None) for s in range(240) if not 80 <= s < 95]
run = a_run(start=began, duration_sec=300, clock_skew_ms=-2600, workers_lost=1)
view = LiveView(history, run=run, stop=lambda: None)
view
"""
    notebook = lab.open_notebook(lab.write_notebook("looks.ipynb", SETUP + history), width=1500, height=1000)
    notebook.theme(theme)
    notebook.run_all()
    wait_for_rows(notebook, 225)
    notebook.wait_for_idle()
    name = theme.split()[1].lower()
    box = notebook.page.locator(".js-plotly-plot").bounding_box()
    notebook.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.75 * box["height"])
    notebook.page.wait_for_selector(".hoverlayer .legend")
    notebook.screenshot(f"live-{name}")
    ink, paper = notebook.page.evaluate(
        "() => { const l = document.querySelector('.js-plotly-plot').layout; return [l.font.color, l.paper_bgcolor]; }"
    )
    assert ink != paper
    texts = notebook.page.inner_text(".lb-notes")
    assert "15 intervals not here yet" in texts
    assert "1 worker lost" in texts
    assert "-2.6 s" in texts
    notebook.page.click("summary")
    notebook.page.click(".lb-choice >> nth=1")
    notebook.page.wait_for_selector(".lb-chip")
    notebook.page.click(".lb-choice >> nth=3")
    notebook.page.wait_for_function("() => document.querySelector('.js-plotly-plot').data.length === 6 + 10")
    notebook.page.click("summary")
    notebook.page.wait_for_function(
        "() => document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length === 16"
    )
    notebook.screenshot(f"live-{name}-endpoints")
    notebook.page.set_viewport_size({"width": 860, "height": 1400})
    notebook.page.wait_for_function("() => document.querySelector('.js-plotly-plot').layout.height > 800")
    notebook.screenshot(f"live-{name}-narrow")
    assert notebook.errors == []
