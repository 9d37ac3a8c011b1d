"""The embedded mongod: started once, shared, guarded, found again."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from loadbench.errors import StoreUnavailable
from loadbench.store import Store
from loadbench.store.mongod import Mongod, find_binary
from tests.builders import a_test, an_interval
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

FIND_OR_START = """
import sys, pathlib
from loadbench.store.mongod import Mongod
print("ready", flush=True)
sys.stdin.readline()
print(Mongod(pathlib.Path(sys.argv[1])).find_or_start(), flush=True)
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mongod]:
    """A mongod of this test alone; not started."""
    own = Mongod(tmp_path / "home")
    try:
        yield own
    finally:
        own.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def serving(own: Mongod) -> list[int]:
    """Every living mongod on that data directory, whatever mongod.lock says."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(own.data) in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def ping(uri: str) -> None:
    with MongoClient(uri, serverSelectionTimeoutMS=3000) as client:
        client.admin.command("ping")
        client.loadbench.probe.insert_one({"by": "test"})


def append_for_ever(store: Store, run_id: str, acknowledged: list[int]) -> None:
    for seq in itertools.count():
        store.ledger.append(an_interval(run_id, seq))
        acknowledged.append(seq)


def test_first_start_makes_a_private_guarded_server(own: Mongod) -> None:
    assert not own.status().running
    uri = own.find_or_start()
    ping(uri)
    status = own.status()
    assert status.running
    assert serving(own) == [status.pid]
    assert f"127.0.0.1:{status.port}" in uri
    assert [mode(path) for path in (own.home, own.data)] == [0o700, 0o700]
    assert [mode(path) for path in (own.settings_file, own.log)] == [0o600, 0o600]
    settings = json.loads(own.settings_file.read_text())
    assert set(settings) == {"port", "user", "password"}
    assert len(settings["password"]) >= 40
    assert settings["password"] not in repr(own) + repr(status) + own.log.read_text()
    command = psutil.Process(status.pid).cmdline()
    assert settings["password"] not in " ".join(command)
    listening = {tuple(c.laddr) for c in psutil.Process(status.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {("127.0.0.1", status.port)}
    assert not [c for c in psutil.Process(status.pid).net_connections("unix") if c.laddr]


def test_a_wrong_password_and_no_password_are_refused(own: Mongod) -> None:
    uri = own.find_or_start()
    port = own.status().port
    with pytest.raises(OperationFailure, match="Authentication failed"):
        ping(f"mongodb://loadbench:wrong@127.0.0.1:{port}/?authSource=admin")
    with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
        Store.open(f"mongodb://loadbench:wrong@127.0.0.1:{port}/loadbench?authSource=admin")
    assert "wrong" not in str(caught.value)
    for command in ({"listDatabases": 1}, {"createUser": "eve", "pwd": "x", "roles": ["root"]}):
        with MongoClient("127.0.0.1", port) as anonymous, pytest.raises(OperationFailure, match="auth"):
            anonymous.admin.command(command)
    ping(uri)


def test_a_second_look_finds_the_same_server(own: Mongod) -> None:
    uri = own.find_or_start()
    pid = own.status().pid
    assert Mongod(own.home).find_or_start() == uri
    assert Mongod(own.home).status().pid == pid


def test_two_processes_at_once_start_one_server(own: Mongod) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", FIND_OR_START, str(own.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        assert [starter.stdout.readline() for starter in starters] == ["ready\n"] * 3
        for starter in starters:
            starter.stdin.write("\n")
            starter.stdin.flush()
        uris = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    finally:
        for starter in starters:
            starter.kill()
            starter.communicate()
    assert uris == {own.find_or_start()}
    assert serving(own) == [own.status().pid]


def test_it_outlives_the_process_group_of_its_starter(own: Mongod) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", FIND_OR_START + "\nsys.stdin.readline()", str(own.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with starter:
        starter.stdin.write("\n")
        starter.stdin.flush()
        assert starter.stdout.readline() == "ready\n"
        uri = starter.stdout.readline().strip()
        pid = own.status().pid
        assert os.getpgid(pid) != os.getpgid(starter.pid)
        os.killpg(starter.pid, signal.SIGKILL)
    assert own.find_or_start() == uri
    assert own.status().pid == pid
    ping(uri)


def test_after_kill_9_everything_acknowledged_is_there_again(own: Mongod) -> None:
    with Store.open(home=own.home) as store:
        test = store.load_tests.add(a_test())
        assert [store.ledger.append(an_interval(seq=seq)) for seq in range(50)] == ["created"] * 50
        killed = own.status().pid
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not serving(own), within_s=5, message="mongod survived SIGKILL")
        assert not own.status().running
        with pytest.raises(StoreUnavailable, match="embedded mongod has ended"):
            store.load_tests.get(test.id)
        own.find_or_start()
        assert own.status().pid != killed
        # The same store goes on: port and password are the same.
        assert store.load_tests.get(test.id) == test
        assert [document["seq"] for document in store.ledger.documents("run-1")] == list(range(50))


def test_acknowledged_intervals_survive_a_kill_9_in_the_midst_of_writing(own: Mongod) -> None:
    """Durable answers: of all appends that returned, none may be missing after the crash."""
    lost = 0
    for trial in range(4):
        run_id, acknowledged = f"run-{trial}", []
        with Store.open(home=own.home) as store:
            killer = subprocess.Popen(["sh", "-c", f"sleep 0.{trial + 1}; kill -9 {own.status().pid}"])
            with pytest.raises(StoreUnavailable):
                append_for_ever(store, run_id, acknowledged)
            assert killer.wait(timeout=5) == 0
        with Store.open(home=own.home) as store:
            stored = {document["seq"] for document in store.ledger.documents(run_id, fields=("seq",))}
        assert acknowledged
        lost += len(set(acknowledged) - stored)
    assert lost == 0


def test_stopped_it_is_started_again_with_its_data_and_port(own: Mongod) -> None:
    uri = own.find_or_start()
    ping(uri)
    assert own.stop()
    assert not own.stop()
    assert serving(own) == []
    assert own.find_or_start() == uri
    with MongoClient(uri) as client:
        assert client.loadbench.probe.count_documents({}) == 1


def test_a_port_taken_meanwhile_is_changed_and_saved(own: Mongod) -> None:
    own.find_or_start()
    taken = own.status().port
    password = json.loads(own.settings_file.read_text())["password"]
    own.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
        ping(own.find_or_start())
        assert own.status().port != taken
    assert json.loads(own.settings_file.read_text()) == {
        "port": own.status().port,
        "user": "loadbench",
        "password": password,
    }
    assert mode(own.settings_file) == 0o600


def test_a_stale_lock_that_names_another_process_is_no_obstacle(own: Mongod) -> None:
    own.find_or_start()
    own.stop()
    (own.data / "mongod.lock").write_text(f"{os.getpid()}\n")
    assert not own.status().running
    assert not own.stop()
    ping(own.find_or_start())


def test_stop_leaves_the_mongod_of_another_home_alone(own: Mongod, mongod: Mongod) -> None:
    mongod.find_or_start()
    theirs = mongod.status().pid
    own.find_or_start()
    assert own.stop()
    assert mongod.status().pid == theirs


def test_a_first_start_cut_off_between_its_two_steps_is_done_again(own: Mongod) -> None:
    """The password is lost with the process that made it; the user is there. The next start gives it a new one."""
    own.find_or_start()
    own.stop()
    old = json.loads(own.settings_file.read_text())["password"]
    own.settings_file.unlink()
    folder = own.home / "s"
    folder.mkdir()
    bootstrap = [str(find_binary()), "--dbpath", str(own.data), "--bind_ip", f"{folder}/m", "--unixSocketPrefix"]
    subprocess.run([*bootstrap, str(folder), "--fork", "--logpath", str(own.log), "--logappend"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    leftover = own.status().pid
    uri = own.find_or_start()
    assert own.status().pid != leftover
    assert old not in uri
    ping(uri)


def test_lost_settings_of_a_running_server_are_one_clear_line(own: Mongod) -> None:
    own.find_or_start()
    own.settings_file.write_text("{")
    with pytest.raises(StoreUnavailable, match=r"mongod runs as pid \d+, .* gone or broken: run `loadbench db stop`"):
        own.find_or_start()
    assert own.stop()
    ping(own.find_or_start())


def test_a_saved_password_that_is_wrong_is_one_clear_line(own: Mongod) -> None:
    own.find_or_start()
    settings = json.loads(own.settings_file.read_text())
    own.settings_file.write_text(json.dumps(settings | {"password": "wrong"}))
    with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
        Store.open(home=own.home)
    assert "\n" not in str(caught.value)


def test_a_start_that_fails_quotes_the_log(own: Mongod) -> None:
    own.find_or_start()
    own.stop()
    (own.data / "WiredTiger.turtle").write_bytes(b"nonsense")
    with pytest.raises(StoreUnavailable, match="mongod did not start") as caught:
        own.find_or_start()
    assert str(own.log) in str(caught.value)
    assert "WiredTiger" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert serving(own) == []


class TestBinary:
    def test_one_on_path_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binary = tmp_path / "mongod"
        binary.write_text("#!/bin/sh\n")
        binary.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert find_binary() == binary

    def test_the_one_in_the_wheel_comes_next_and_imports_nothing(self, tmp_path: Path) -> None:
        look = "import sys; from loadbench.store.mongod import find_binary; print(find_binary()); "
        look += "print(any(name.startswith('fiftyone') for name in sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", look], env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        path, imported = done.stdout.split()
        assert path.endswith("fiftyone/db/bin/mongod")
        assert imported == "False"

    def test_none_is_one_clear_line(self, tmp_path: Path) -> None:
        look = "import sys; from loadbench.store.mongod import find_binary\n"
        look += "sys.path = [p for p in sys.path if 'site-packages' not in p]; sys.path_importer_cache.clear()\n"
        look += "try: find_binary()\nexcept Exception as error: print(type(error).__name__, error)"
        done = subprocess.run(
            [sys.executable, "-c", look], env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.startswith("StoreUnavailable no mongod binary found: install MongoDB")
        assert done.stdout.count("\n") == 1


def test_a_mongodb_that_is_not_there_is_one_clear_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = closed.getsockname()[1]
        with pytest.raises(StoreUnavailable) as caught:
            Store.open(f"mongodb://127.0.0.1:{port}/loadbench")
    expected = f"MongoDB at 127.0.0.1:{port} does not answer: start it, or name another one in LOADBENCH_MONGODB_URI"
    assert str(caught.value) == expected


def test_a_paused_mongodb_is_unavailable_within_five_seconds_and_comes_back(own: Mongod) -> None:
    with Store.open(home=own.home) as store:
        test = store.load_tests.add(a_test())
        process = psutil.Process(own.status().pid)
        process.suspend()
        try:
            for call in (lambda: store.load_tests.get(test.id), lambda: store.ledger.append(an_interval())):
                begun = time.monotonic()
                with pytest.raises(StoreUnavailable, match="does not answer"):
                    call()
                assert time.monotonic() - begun < 5
        finally:
            process.resume()
        assert store.load_tests.get(test.id) == test
