"""The notebook of the workbench as a Voila page."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from lab_pages import NotebookPage
from lab_process import REPOSITORY
from playwright.sync_api import Browser
from test_panel_page import picture, press, said, tab

from loadbench.store.mongod import Mongod
from tests.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture
def voila(tmp_path: Path, mongod: Mongod) -> Iterator[str]:
    """The address of Voila with a copy of the notebook, and directories of its own."""
    notebook = Path(shutil.copy(REPOSITORY / "notebooks" / "00_workbench.ipynb", tmp_path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "LOADBENCH_HOME": str(tmp_path / "loadbench"),
        "LOADBENCH_MONGODB_URI": mongod.find_or_start().replace("/loadbench?", "/voila?"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    log = tmp_path / "voila.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(port), within_s=60, message=f"Voila does not listen, see {log}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/voila/static/none", timeout=5).status_code > 0
    except requests.ConnectionError:
        return False


def test_a_run_is_made_and_watched_under_voila(voila: str, browser: Browser):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    notebook = NotebookPage(context.new_page(), voila.split("/")[2])
    page = notebook.page
    try:
        page.goto(voila, timeout=120_000)
        page.wait_for_selector(".loadbench-panel .lb-empty", timeout=120_000)
        press(notebook, "Sample test")
        said(notebook, "Filled in")
        press(notebook, "Create test")
        said(notebook, "Created")
        picture(notebook, "voila-tests")
        tab(notebook, "Launch")
        page.wait_for_selector(".lb-estimate:visible .lb-line")
        press(notebook, "Start")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.loadbench-live')].some(e => Number(e.dataset.rows ?? 0) >= 5)",
            timeout=90_000,
        )
        picture(notebook, "voila-live")
        page.locator(".lb-stop:visible").click()
        page.wait_for_selector(".lb-badge[data-status=Stopped]", timeout=60_000)
        tab(notebook, "Runs")
        page.wait_for_selector(".lb-view:visible .lb-table tbody tr [data-look=Stopped]")
        assert notebook.errors == []
    finally:
        context.close()
