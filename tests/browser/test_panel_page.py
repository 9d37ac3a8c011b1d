"""The panel in a real JupyterLab, with the mouse alone: from nothing to a compared pair of runs and a report."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from lab_pages import Lab, NotebookPage
from playwright.sync_api import expect

CELL = """\
import loadbench as lb
from loadbench.panel import Panel
bench = lb.Workbench({scope!r}, port=0)
panel = Panel(bench)
panel
"""
RUN = """\
from loadbench.demo_target import sample_shop
from scripts import STEADY
test = bench.create_test("shop", STEADY, target_url=sample_shop().url, users=5, spawn_rate=5, duration="20s")
run = test.start()
"""
# First Python code, which lets other threads have their turn, then a call that does not, as of C code.
BUSY = """\
import time
until = time.time() + 6
while time.time() < until:
    sum(i * i for i in range(20_000))
began = time.time()
sum(range(200_000_000))
print("held for", time.time() - began)
"""
STORED = """\
import json
print("stored", json.dumps(run.timeline()["requests_per_s"].tolist()))
"""
ROWS = "Number(document.querySelector('.loadbench-live')?.dataset.rows ?? 0)"
VIEWS = ("Tests", "Script", "Launch", "Live", "Runs", "Compare", "Reports")


def open_panel(lab: Lab, *cells: str, width: int = 1280, height: int = 1000) -> NotebookPage:
    cell = CELL.format(scope=f"acme/shop/p{uuid.uuid4().hex[:8]}")
    notebook = lab.open_notebook(lab.write_notebook("panel.ipynb", cell, *cells), width=width, height=height)
    notebook.run_cell(0)
    notebook.page.wait_for_selector(".loadbench-panel .lb-empty", timeout=60_000)
    notebook.wait_for_idle()
    return notebook


def tab(notebook: NotebookPage, name: str) -> None:
    notebook.page.click(f".loadbench-panel .lm-TabBar-tab:has-text('{name}')")
    notebook.page.wait_for_selector(f".lm-TabBar-tab.lm-mod-current:has-text('{name}')")


def press(notebook: NotebookPage, text: str) -> None:
    notebook.page.locator(f".lb-view .jupyter-button:visible:text-is('{text}')").click()


def said(notebook: NotebookPage, text: str, *, within_s: float = 60) -> None:
    line = notebook.page.locator(".lb-view .lb-job .lb-line:visible", has_text=text)
    expect(line).to_be_visible(timeout=1000 * within_s)


def picture(notebook: NotebookPage, name: str) -> Path:
    notebook.page.evaluate("() => document.querySelector('.loadbench-panel').scrollIntoView({block: 'start'})")
    notebook.page.wait_for_timeout(250)
    return notebook.screenshot(f"panel-{name}")


def pick(notebook: NotebookPage, row: int) -> None:
    box = notebook.page.locator(".lb-view:visible .lb-table tbody tr").nth(row).locator("input")
    box.click()
    expect(notebook.page.locator(".lb-view:visible .lb-table tbody tr").nth(row).locator("input")).to_be_checked()


def test_a_test_is_made_and_every_view_has_its_cell(lab: Lab):
    notebook = open_panel(lab, "import time\ntime.sleep(3)")
    page = notebook.page
    for name in VIEWS[1:]:
        tab(notebook, name)
        expect(page.locator(".lb-view:visible .lb-empty, .lb-view:visible .lb-hint").first).to_be_visible()
    tab(notebook, "Tests")
    press(notebook, "Sample test")
    said(notebook, "Filled in")
    users = page.get_by_label("Users", exact=True).locator("visible=true")
    users.fill("-3")
    press(notebook, "Create test")
    expect(page.locator(".lb-refused .lb-problem")).to_contain_text("Users should be greater than or equal to 1")
    users.fill("4")
    press(notebook, "Create test")
    said(notebook, "Created")
    page.click(".lb-view:visible .lb-code-bar button:has-text('Copy as cell')")
    code = page.inner_text(".lb-view:visible .lb-code")
    assert 'bench.test("sample shop")' in code or "bench.create_test(" in code
    tab(notebook, "Script")
    editor = page.locator(".lb-view:visible .lb-editor textarea")
    expect(editor).to_have_value(re.compile("class Shopper"))
    coloured = page.locator(".lb-view:visible .lb-copy")
    assert coloured.inner_text().rstrip("\n") == editor.input_value().rstrip("\n")
    assert "class" in coloured.locator(".lb-keyword").all_inner_texts()
    notebook.run_cell(1)  # a kernel that is busy gets what was typed before the click, all of it
    editor.press("Control+End")
    editor.type("x = 1")
    page.wait_for_timeout(500)
    editor.type("\ny = (1")
    press(notebook, "Check")
    expect(page.locator(".lb-view:visible .lb-error").first).to_contain_text("does not compile", timeout=30_000)
    expect(page.locator(".lb-view:visible .lb-wrong")).to_be_visible()
    assert notebook.errors == []
    assert notebook.foreign_requests() == []


@pytest.mark.long
def test_a_busy_cell_is_said_caught_up_with_and_loses_no_figure(lab: Lab):
    notebook = open_panel(lab, RUN, BUSY, STORED)
    page = notebook.page
    notebook.run_cell(1)
    notebook.wait_for_idle()
    tab(notebook, "Live")
    page.wait_for_function(f"() => {ROWS} >= 3", timeout=60_000)
    notebook.run_cell(2)
    notice = page.locator(".lb-notice")
    expect(notice).to_contain_text("A cell is running", timeout=10_000)
    before = page.evaluate(ROWS)
    page.wait_for_function(f"n => {ROWS} > n", arg=before)
    assert notebook.is_busy(), "the charts did not go on before the cell ended"
    tab(notebook, "Tests")
    press(notebook, "New test")
    expect(notice).to_contain_text("caught up", timeout=60_000)
    expect(page.locator(".lb-view:visible h3", has_text="New test")).to_be_visible()
    held_s = float(notebook.outputs().split("held for")[1].split()[0])
    assert held_s > 1, "no call held the kernel as a whole"
    tab(notebook, "Live")
    page.wait_for_selector(".lb-badge[data-status=Finished]", timeout=60_000)
    notebook.run_cell(3)
    notebook.wait_for_idle()
    stored = json.loads(notebook.outputs().split("stored", 1)[1].splitlines()[0])
    drawn = page.evaluate("() => [...document.querySelector('.loadbench-live .js-plotly-plot').data[1].y]")
    assert len(stored) >= 20
    if drawn[-1] is None:  # the last part of a second is counted, but not drawn
        drawn, stored = drawn[:-1], stored[:-1]
    assert drawn == pytest.approx(stored)
    assert notebook.errors == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("theme", "width"),
    [("Light", 1280), ("Dark", 1280), ("Light", 1920), ("Dark", 1920)],
    ids=["light 1280", "dark 1280", "light 1920", "dark 1920"],
)
def test_with_the_mouse_alone_from_nothing_to_a_report(lab: Lab, theme: str, width: int):
    notebook = open_panel(lab, width=width, height=1080)
    page, look = notebook.page, f"{theme.lower()}-{width}"
    notebook.theme(f"JupyterLab {theme}")
    picture(notebook, f"{look}-1-empty")
    press(notebook, "Sample test")
    said(notebook, "Filled in")
    press(notebook, "Create test")
    said(notebook, "Created")
    picture(notebook, f"{look}-2-test")

    for number in (1, 2):
        tab(notebook, "Launch")
        expect(page.locator(".lb-view:visible .lb-estimate")).to_contain_text("10 users, all there after 2 s")
        if number == 2:
            picture(notebook, f"{look}-3-launch")
        press(notebook, "Start")
        page.wait_for_selector(".lm-TabBar-tab.lm-mod-current:has-text('Live')", timeout=60_000)
        page.wait_for_selector(".lb-badge[data-status=Running]", timeout=60_000)
        page.wait_for_function(
            "n => [...document.querySelectorAll('.loadbench-live')].every(e => Number(e.dataset.rows ?? 0) >= n)",
            arg=6,
            timeout=60_000,
        )
        picture(notebook, f"{look}-4-live-{number}")
        if number == 2:
            page.select_option(".lb-window >> visible=true", label="last minute")
            page.click(".lb-pause >> visible=true")
            page.wait_for_function("() => document.querySelector('.lb-pause').textContent.includes('1 interval')")
            page.click(".lb-pause >> visible=true")
            page.locator(".lb-stop:visible").first.click()
            page.wait_for_selector(".lb-badge[data-status=Stopped]", timeout=30_000)
        else:
            page.wait_for_selector(".lb-badge[data-status=Finished]", timeout=60_000)

    tab(notebook, "Script")
    expect(page.locator(".lb-view:visible .lb-table tbody tr")).to_have_count(1)
    picture(notebook, f"{look}-5-script")
    tab(notebook, "Runs")
    expect(page.locator(".lb-view:visible .lb-table tbody tr")).to_have_count(2, timeout=15_000)
    pick(notebook, 1)
    press(notebook, "Make baseline")
    said(notebook, "baseline now")
    pick(notebook, 0)
    picture(notebook, f"{look}-6-runs")
    press(notebook, "Compare")
    expect(page.locator(".lb-verdict .loadbench-card:visible")).to_be_visible(timeout=60_000)
    page.wait_for_selector(".lb-chart .js-plotly-plot >> visible=true", timeout=30_000)
    picture(notebook, f"{look}-7-compare")
    tab(notebook, "Reports")
    pick(notebook, 1)
    press(notebook, "Build report")
    said(notebook, "Built", within_s=120)
    with page.expect_download() as saved:
        page.click(".lb-view:visible .lb-download [data-kind=save]")
    assert Path(saved.value.path()).read_bytes().lstrip().lower().startswith(b"<!doctype html")
    picture(notebook, f"{look}-8-reports")
    assert notebook.errors == []
    assert notebook.foreign_requests() == []
