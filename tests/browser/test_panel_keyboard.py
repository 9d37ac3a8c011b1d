"""The panel in a real JupyterLab with the keyboard alone: each place where Tab leads has a name, and is seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from keyboard import Keyboard
from lab_pages import Lab, NotebookPage
from playwright.sync_api import Page, expect
from test_panel_page import VIEWS, open_panel, said

OPEN = ".lb-view:visible"


@pytest.fixture
def notebook(lab: Lab) -> NotebookPage:
    return open_panel(lab, "'another cell'")


@pytest.fixture
def keyboard(notebook: NotebookPage) -> Keyboard:
    """With the focus in the panel, on the tab of the open view."""
    notebook.page.evaluate("() => document.querySelector('.loadbench-panel select').focus()")
    keyboard = Keyboard(notebook.page)
    assert keyboard.here().name == "Test"
    assert keyboard.tab().name == "Tests"
    return keyboard


def turn_to(keyboard: Keyboard, view: str) -> None:
    """Go back to the tabs, and with the arrows to the one that is wanted."""
    while keyboard.here().role != "tab":
        keyboard.to_role("tab", back=True)
    now, wanted = VIEWS.index(keyboard.here().name), VIEWS.index(view)
    keyboard.press(*["ArrowRight" if wanted > now else "ArrowLeft"] * abs(wanted - now))
    assert keyboard.here().name == view
    keyboard.press("Enter")
    is_open(keyboard.page, view)
    expect(keyboard.page.locator(f"{OPEN} .lb-code-bar button:visible")).to_have_text("Copy as cell")


def is_open(page: Page, view: str, *, within_s: float = 10) -> None:
    expect(page.locator(".loadbench-panel .lm-TabBar-tab.lm-mod-current")).to_have_text(view, timeout=1000 * within_s)


def enter(keyboard: Keyboard, field: str, text: str) -> None:
    keyboard.to(field)
    keyboard.type(text)


def assert_all_named_and_seen(keyboard: Keyboard) -> None:
    inside = [stop for stop in keyboard.stops if stop.is_in_panel]
    assert [str(stop) for stop in inside if not stop.name] == []
    assert [str(stop) for stop in inside if not stop.is_seen] == []


def test_tab_and_arrows_lead_through_all_views(notebook: NotebookPage, keyboard: Keyboard):
    page = notebook.page
    for view in VIEWS:
        turn_to(keyboard, view)
        passed = []
        while (stop := keyboard.tab()).is_in_panel:
            passed.append(stop.name)
        assert passed[-1:] == ["Copy as cell"], f"{view}: {[str(each) for each in keyboard.stops[-5:]]}"
        keyboard.to("Copy as cell", back=True)
    keyboard.press("b", "d", "d")  # what would insert and delete cells if the notebook had the focus
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    assert_all_named_and_seen(keyboard)
    assert notebook.errors == []


@pytest.mark.long
@pytest.mark.timeout(400)
def test_with_the_keyboard_alone_from_a_test_to_a_report(notebook: NotebookPage, keyboard: Keyboard):
    page = notebook.page
    keyboard.to("Sample test")
    keyboard.press("Enter")
    said(notebook, "Filled in")
    assert keyboard.here().name == "Sample test", "the focus was lost while the button was disabled"
    enter(keyboard, "Name", "by hand")
    enter(keyboard, "Users", "-3")
    keyboard.to("Locust script")
    keyboard.press("Control+End", "Tab")
    page.keyboard.type("# typed")
    assert keyboard.is_in_editor(), "Tab indents"
    assert page.locator(f"{OPEN} .lb-editor textarea").input_value().endswith("\n    # typed")
    keyboard.press("Escape", "Tab")
    assert keyboard.here().name == "Create test"
    keyboard.press("Space")
    expect(page.locator(".lb-refused .lb-problem")).to_contain_text("should be greater than or equal to 1")
    keyboard.to("Users", back=True)
    keyboard.type("4")
    keyboard.to("Create test")
    keyboard.press("Enter")
    said(notebook, "Created")
    is_open(page, "Tests")
    page.wait_for_function("() => document.activeElement.matches('.lm-TabBar-tab')")

    turn_to(keyboard, "Script")
    editor = page.locator(f"{OPEN} .lb-editor textarea")
    expect(editor).to_have_value(re.compile("# typed"))
    keyboard.to("Locust script")
    keyboard.press("Control+End")
    page.keyboard.type(" again")
    keyboard.press("Escape", "Tab")
    assert keyboard.here().name == "Note"
    page.keyboard.type("a word more")
    keyboard.to("Save as new revision")
    keyboard.press("Enter")
    said(notebook, "Saved as revision 2")
    keyboard.to("Choose revision 2")
    keyboard.press("ArrowDown")
    expect(page.locator(f"{OPEN} .lb-table tbody tr").nth(1).locator("input")).to_be_checked()

    for number in (1, 2):
        turn_to(keyboard, "Launch")
        expect(page.locator(f"{OPEN} .lb-estimate")).to_contain_text("4 users, all there after 0.8 s")
        enter(keyboard, "Duration", "60s")
        enter(keyboard, "Notes", f"run {number}")
        keyboard.to("Start")
        keyboard.press("Enter")
        is_open(page, "Live", within_s=60)
        page.wait_for_selector(".lb-badge[data-status=Running]", timeout=60_000)
        page.wait_for_function(
            "n => document.querySelectorAll('.loadbench-live').length === 1 "
            "&& Number(document.querySelector('.loadbench-live').dataset.rows ?? 0) >= n",
            arg=5,
            timeout=60_000,
        )
        if number == 2:
            keyboard.to("Part of the run that the charts show")
            page.keyboard.type("last minute")
            keyboard.to("Pause")
            keyboard.press("Space")
            assert keyboard.here().name.startswith("Resume")
            keyboard.press("Space")
        keyboard.to("Stop")
        keyboard.press("Enter")
        page.wait_for_selector(".lb-badge[data-status=Stopped]", timeout=30_000)

    keyboard.to("Runs to watch")
    keyboard.press("Enter")
    for _ in (1, 2):
        keyboard.to("Choose run by hand")
    keyboard.press("Space")
    expect(page.locator(".loadbench-live:visible")).to_have_count(2)
    turn_to(keyboard, "Runs")
    expect(page.locator(f"{OPEN} .lb-table tbody tr")).to_have_count(2, timeout=15_000)
    for number in (1, 2):
        keyboard.to("Choose run by hand")
        keyboard.press("Space")
        expect(page.locator(f"{OPEN} .lb-table tbody input:checked")).to_have_count(number)
    keyboard.to("Compare", role="button")
    keyboard.press("Enter")
    is_open(page, "Compare")
    expect(page.locator(".lb-verdict .loadbench-card:visible")).to_be_visible(timeout=60_000)
    page.wait_for_selector(".lb-chart .js-plotly-plot >> visible=true", timeout=30_000)
    keyboard.to("Chart")
    keyboard.press("ArrowDown")
    expect(page.locator(f"{OPEN} .lb-chart [aria-label]").first).to_have_attribute(
        "aria-label", "The runs compared: p95 over users"
    )

    turn_to(keyboard, "Reports")
    keyboard.to("Choose run by hand")
    keyboard.press("Space")
    keyboard.to("Build report")
    keyboard.press("Enter")
    said(notebook, "Built", within_s=120)
    keyboard.to_role("button", name=re.compile(r"^Download run-\w+\.html$"))
    with page.expect_download() as saved:
        keyboard.press("Enter")
    assert Path(saved.value.path()).read_bytes().lstrip().lower().startswith(b"<!doctype html")
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    assert_all_named_and_seen(keyboard)
    assert notebook.errors == []
