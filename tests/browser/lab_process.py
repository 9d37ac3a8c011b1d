"""A JupyterLab process and a Chromium process, each started for the length of a `with` block."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def jupyterlab(home: Path, *, mongodb_uri: str = "") -> Iterator[tuple[str, str, Path]]:
    """Start JupyterLab on a port that the system chooses, with all its directories in `home`: URL, token, directory."""
    token = secrets.token_hex(16)
    work, runtime, log = home / "work", home / "runtime", home / "jupyter.log"
    for directory in (work, runtime):
        directory.mkdir()
    notification = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    notification.parent.mkdir(parents=True)
    notification.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "LOADBENCH"))},
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "LOADBENCH_HOME": str(home / "loadbench"),
        "LOADBENCH_MONGODB_URI": mongodb_uri,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        "JUPYTER_TOKEN": token,
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        f"--ServerApp.root_dir={work}",
    ]
    command += [
        "--ServerApp.allow_root=True",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=work)
    try:
        url = _wait_for(lambda: _url_of(runtime, process), within_s=60, otherwise=lambda: log.read_text())
        yield url, token, work
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url_of(runtime: Path, process: subprocess.Popen) -> str | None:
    if process.poll() is not None:
        raise AssertionError(f"JupyterLab ended with {process.returncode}")
    for record in runtime.glob("jpserver-*.json"):
        text = record.read_text()
        return json.loads(text)["url"] if text.endswith("}") else None
    return None


def _wait_for(condition: Callable[[], Any], *, within_s: float, otherwise: Callable[[], str]) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s:\n{otherwise()}")
