"""A sample shop and a workbench for each test, on the real MongoDB of the test run."""

from __future__ import annotations

import pytest

from loadbench.control import ACTIVE
from loadbench.demo_target import ShopServer
from loadbench.home import data_home
from loadbench.launch.local import LocalLauncher
from loadbench.workbench import Workbench


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
