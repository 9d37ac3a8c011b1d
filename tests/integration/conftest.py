"""A sample shop and a workbench for each test, on the real MongoDB of the test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadbench.control import ACTIVE
from loadbench.demo_target import ShopServer
from loadbench.home import data_home
from loadbench.launch.local import LocalLauncher
from loadbench.workbench import Workbench
from tests.integration import namespaces

_not_run = pytest.StashKey[tuple[str, list[str]]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set aside what needs network namespaces where there are none, and say so at the end instead of passing."""
    here = [item for item in items if item.path == Path(__file__).with_name("test_network_namespaces.py")]
    if here and (why := namespaces.missing()):
        config.stash[_not_run] = (why, [item.nodeid for item in here])
        items[:] = [item for item in items if item not in here]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    why, nodeids = config.stash.get(_not_run, ("", []))
    for nodeid in nodeids:
        terminalreporter.write_line(f"NOT RUN ({why}): {nodeid}", red=True)


@pytest.fixture
def shop():
    with ShopServer(port=0, seed=1) as server:
        yield server


@pytest.fixture
def bench(store):
    bench = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, port=0)
    yield bench
    for run in store.runs.find(status=ACTIVE):
        LocalLauncher(data_home()).kill(run)
    bench.close()
