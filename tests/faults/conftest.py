"""What every row stands on: its own mongod, a shop that counts, and a place where figures are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import pytest
from pymongo import MongoClient

from loadbench.demo_target import ShopServer
from loadbench.home import data_home
from loadbench.store.mongod import Mongod
from loadbench.workbench import Workbench
from tests.faults.proxy import Proxy
from tests.faults.truth import Ledger
from tests.notebook_kernel import Notebook


@pytest.fixture
def own_mongod() -> Iterator[Mongod]:
    """The embedded mongod of this test's own data directory, running; every process of the test finds it there."""
    own = Mongod(data_home())
    uri = own.find_or_start()
    try:
        with MongoClient(uri) as client:  # before anything is written or killed: is this ours?
            storage = client.admin.command("getCmdLineOpts")["parsed"]["storage"]
            assert storage["dbPath"] == str(own.data)
            assert str(own.data).startswith(str(data_home().resolve()))
        yield own
    finally:
        own.stop()


@pytest.fixture
def ledger(own_mongod: Mongod) -> Iterator[Ledger]:
    with MongoClient(own_mongod.find_or_start(), tz_aware=True) as client:
        yield Ledger(client.get_default_database())


@pytest.fixture
def shop() -> Iterator[ShopServer]:
    with ShopServer(latency_ms=10, failures=0.03, seed=1) as shop:
        yield shop


@pytest.fixture
def notebook(own_mongod: Mongod, ledger: Ledger) -> Iterator[Notebook]:
    """A real kernel; what its runs leave behind is ended too."""
    notebook = Notebook()
    yield notebook
    notebook.close()
    kill_groups(ledger)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of the receiver of `bench`, without any trouble yet; agents know no other way."""
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def bench(own_mongod: Mongod, ledger: Ledger, request: pytest.FixtureRequest) -> Iterator[Workbench]:
    """A workbench in this process, for rows that do not hit the process of the receiver.

    In a test that uses `proxy` its agents push through that.
    """
    proxy: Proxy | None = request.getfixturevalue("proxy") if "proxy" in request.fixturenames else None
    bench = Workbench("acme/shop/checkout", env="test", port=0, advertised_url=proxy and proxy.url)
    if proxy is not None:
        proxy.upstreams = (bench._backend.receiver.port,)
        bench._backend.control._receiver_url = lambda: proxy.url
    yield bench
    bench.close()
    kill_groups(ledger)


def kill_groups(ledger: Ledger) -> None:
    """End the Locust processes of the runs in a ledger: only those that work in the directory of their run."""
    folders = [
        run["process"]["directory"] for run in ledger.database["load_test_runs"].find({"process": {"$ne": None}})
    ]
    for process in psutil.process_iter():
        try:
            if process.cwd() in folders:
                process.kill()
        except psutil.Error:
            continue


@pytest.fixture
def told(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Record a figure of a row, and print it: `told(resume_s=1.9)`."""

    def tell(**figures: float) -> None:
        for name, value in figures.items():
            record_property(name, round(value, 3))
            print(f"FIGURE {request.node.name} {name} = {value:.3f}")  # noqa: T201 - for who reads the run

    return tell
