"""A real JupyterLab and a real Chromium: `lab.open_notebook(path)` gives a page to work with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_pages import Lab
from lab_process import CHROMIUM, chromium, jupyterlab
from playwright.sync_api import Browser

from loadbench.store.mongod import Mongod

_not_run = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is here; without a browser set it aside, and say so at the end instead of passing in silence."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker("browser")
    if CHROMIUM is None and here:
        config.stash[_not_run] = [item.nodeid for item in here]
        items[:] = [item for item in items if item not in here]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for nodeid in config.stash.get(_not_run, []):
        terminalreporter.write_line(f"NOT RUN (no chromium on PATH): {nodeid}", red=True)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory, mongod: Mongod) -> Iterator[tuple[str, str, Path]]:
    with jupyterlab(tmp_path_factory.mktemp("jupyter"), mongodb_uri=mongod.find_or_start()) as running:
        yield running


@pytest.fixture
def lab(jupyter: tuple[str, str, Path], browser: Browser) -> Iterator[Lab]:
    """JupyterLab with a browser; the pages that a test opened are closed after it."""
    url, token, directory = jupyter
    lab = Lab(url, token, directory, browser)
    yield lab
    lab.close_pages()
