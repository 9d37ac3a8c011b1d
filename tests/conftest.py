"""What tests share: a real mongod, a database of their own, a clean environment, and no process left behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from loadbench.store import Store
from loadbench.store.mongod import Mongod

MARK = "TEST_SESSION_OF_LOADBENCH"
_OUTSIDE = ("LOADBENCH_", "LOCUST_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


# What takes longest comes first, each test for itself; every other file stays together on one process.
SLOW = (
    "test_chaos.py", "test_notebooks.py", "test_cluster_agent.py", "test_promises.py", "test_truth.py",
    "test_kernel.py", "test_agent.py", "test_web_ui.py", "test_cli.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        return SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW) + ("browser" not in item.path.parts)

    items.sort(key=rank)


class Grouped(LoadScopeScheduling):
    """What is slow goes test by test to whichever process is free; other files, and all browser tests, stay together.

    `--dist loadgroup` would do that, but pytest 9.2 no longer shows it the group in the name of a test.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        if path.name in SLOW or "faults" in path.parts:
            return nodeid
        return "browser" if "browser" in path.parts else str(path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Grouped:
    """Say which process gets which test."""
    return Grouped(config, log)


def _left_behind(mark: str, folder: Path) -> list[psutil.Process]:
    """Every process that a test started and that still runs.

    Those that left the process group and lost their parent too: they carry the mark in their environment, or the
    folder of this session's temporary files in their command line.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            ours = process.environ().get(MARK) == mark or any(str(folder) in part for part in process.cmdline())
        except psutil.Error:
            continue
        if ours:
            found.append(process)
    return found


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    mark, folder = uuid.uuid4().hex, tmp_path_factory.getbasetemp()
    os.environ[MARK] = mark
    yield
    left = _left_behind(mark, folder)
    _, left = psutil.wait_procs(left, timeout=5)  # those that were told to end and are about to
    lines = [f"{process.pid}: {' '.join(process.cmdline())[:200]}" for process in left if process.is_running()]
    for process in left:
        process.kill()
    del os.environ[MARK]
    assert not lines, "tests left processes behind:\n" + "\n".join(lines)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the person who runs the tests reaches them, and no test reaches that person's data."""
    for name in list(os.environ):
        if name.startswith(_OUTSIDE) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOADBENCH_HOME", str(tmp_path_factory.getbasetemp() / "homes" / uuid.uuid4().hex))


@pytest.fixture(scope="session")
def mongod(_no_process_outlives_the_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """The embedded mongod in a home of this session; it runs."""
    mongod = Mongod(tmp_path_factory.mktemp("mongod") / "home")
    mongod.find_or_start()
    try:
        yield mongod
    finally:
        mongod.stop()


@pytest.fixture
def mongodb_uri(mongod: Mongod) -> str:
    """The URI of a database that no other test uses; it does not exist yet."""
    return mongod.find_or_start().replace("/loadbench?", f"/test_{uuid.uuid4().hex[:12]}?")


@pytest.fixture
def store(mongodb_uri: str) -> Iterator[Store]:
    """A store on a fresh database, dropped afterwards."""
    with Store.open(mongodb_uri) as store:
        yield store
        store.database.client.drop_database(store.database.name)
