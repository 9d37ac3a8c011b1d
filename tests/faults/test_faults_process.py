"""F17-F21, F23-F25: Locust's processes die, freeze or resist, everything dies, all ask at once, a port is taken."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from loadbench.demo_target import ShopServer
from loadbench.errors import Conflict, LoadbenchError, ReceiverError
from loadbench.store.mongod import Mongod
from loadbench.workbench import Workbench
from tests.faults import loads
from tests.faults.sessions import Session
from tests.faults.truth import check_sequences, check_state, verify
from tests.faults.victims import frozen, kernel_pid, kill, leader_pid, mongod_pid, worker_pids
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]


def stored_requests(ledger, run_id: str, *, ended: bool = True) -> int:
    """Check the sequences of a run, and give the requests in it."""
    return sum(
        one["requests"] for own in check_sequences(ledger.intervals(run_id), ended=ended).values() for one in own
    )


def idle_after_s(shop: ShopServer, began: float, *, quiet_s: float = 3, within_s: float = 70) -> float:
    """Wait until nobody has asked the shop for some time; say how long after `began` the last request was."""
    seen, last = -1, began
    while time.monotonic() < last + quiet_s:
        assert time.monotonic() < began + within_s, "the load goes on"
        if shop.total()[0] != seen:
            seen, last = shop.total()[0], time.monotonic()
        time.sleep(0.02)
    return last - began


def test_f17_worker_killed_is_told_of_and_what_the_others_did_is_exact(bench, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="20s")
    loads.wait_for_intervals(ledger, run.id, 10)
    kill(worker_pids(run.record.process.pid)[0])
    run.wait()
    missing = shop.total()[0] - stored_requests(ledger, run.id)
    told(requests=shop.total()[0], missing_with_the_worker=missing)
    record = check_state(ledger, run.id, status="Finished", completeness="gaps")
    assert record["workersLost"] == 1
    assert "1 worker lost" in repr(run)
    share = loads.USERS / loads.WORKERS * loads.PER_USER_S
    assert 0 <= missing <= 2 * share  # of one worker, since its last report, which is at most a second old


def test_f18_worker_paused_for_eight_seconds_goes_on(bench, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="25s")
    with frozen(worker_pids(run.record.process.pid)[0]):
        time.sleep(8)
    run.wait()
    told(requests=verify(ledger, run.id, shop))
    assert ledger.run(run.id)["workersLost"] == 0


def test_f19_master_killed_its_workers_leave_the_target_alone(bench, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="5m")
    workers = worker_pids(run.record.process.pid)
    began = time.monotonic()
    kill(leader_pid(run.record.process.pid))
    idle_s = idle_after_s(shop, began)
    wait_until(lambda: run.refresh().record.is_over, within_s=45, message="it is still Running")
    missing = shop.total()[0] - stored_requests(ledger, run.id, ended=False)
    told(idle_s=idle_s, missing=missing)
    assert idle_s <= 10
    assert not [pid for pid in workers if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    record = check_state(ledger, run.id, status="Failed", completeness="unknown")
    assert record["stopReason"] == "lost"
    assert 0 <= missing <= (idle_s + 4) * loads.USERS * loads.PER_USER_S


STUCK = loads.PACED.replace("    @task", "    def on_stop(self):\n        gevent.sleep(3600)\n\n    @task").replace(
    "from locust", "import gevent\nfrom locust", 1
)


@pytest.mark.parametrize("workers", [0, loads.WORKERS], ids=["local", "master+3"])
def test_f20_users_that_do_not_stop_are_stopped(bench, shop, ledger, told, workers):
    run = loads.start(bench, shop, ledger, script=STUCK, workers=workers)
    group, began = run.record.process.pid, time.monotonic()
    run.stop().wait()
    returned_s = time.monotonic() - began
    told(returned_s=returned_s)
    assert returned_s <= 10 + 6
    wait_until(lambda: not in_group(group), within_s=6, message="processes are left")
    ended = ledger.run(run.id)["completeness"] == "complete"
    missing = shop.total()[0] - stored_requests(ledger, run.id, ended=ended)
    check_state(ledger, run.id, status="Stopped", completeness="complete" if ended else "unknown")
    told(missing=missing)
    assert missing == 0 if ended else missing <= 4 * loads.USERS * loads.PER_USER_S


def in_group(group: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def test_f21_everything_killed_and_started_again_is_reconciled(notebook, own_mongod, ledger, shop, told):
    session = Session(notebook, shop)
    session.open()
    run_id, master = session.start(ledger, duration="5m")
    loads.wait_for_intervals(ledger, run_id, 5)
    victims = [kernel_pid(notebook), leader_pid(master), *worker_pids(master), mongod_pid(own_mongod)]
    known = {(one["source"], one["seq"]) for one in ledger.intervals(run_id)}
    began = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    notebook.restart(now=True)
    session.open()
    wait_until(lambda: ledger.run(run_id)["status"] != "Running", within_s=45, message="it is Running for ever")
    reconciled_s = time.monotonic() - began
    intervals = ledger.intervals(run_id)
    missing = shop.total()[0] - stored_requests(ledger, run_id, ended=False)
    told(reconciled_s=reconciled_s, missing=missing)
    assert reconciled_s <= 45
    assert known <= {(one["source"], one["seq"]) for one in intervals}
    assert ledger.run(run_id)["stopReason"] == "lost"
    check_state(ledger, run_id, status="Failed", completeness="unknown")
    assert 0 <= missing <= 4 * loads.USERS * loads.PER_USER_S


def test_f23_twenty_starts_and_twenty_stops_are_one_each(bench, shop, ledger, told):
    test = bench.create_test("stormy", loads.PACED, target_url=shop.url, users=2, spawn_rate=2, check=False)
    control, run_id = bench._backend.control, "run-storm"
    ledger.database.command("profile", 2)

    def start(_: int) -> str:
        try:
            control.start_run(test.record, by="ann", run_id=run_id, duration_sec=120)
        except LoadbenchError as error:
            return type(error).__name__
        return "started"

    def stop(_: int) -> str:
        try:
            control.stop_run(run_id)
        except Conflict:
            return "over"
        return "stopping"

    with ThreadPoolExecutor(20) as pool:
        starts = list(pool.map(start, range(20)))
    assert sorted(starts) == ["Conflict"] * 19 + ["started"]
    masters = [p.pid for p in psutil.process_iter() if run_id in str(folder_of(p)) and p.ppid() == os.getpid()]
    assert len(masters) == 1
    loads.wait_for_intervals(ledger, run_id, 2)
    with ThreadPoolExecutor(20) as pool:
        assert "stopping" in set(pool.map(stop, range(20)))
    bench.run(run_id).wait()
    verify(ledger, run_id, shop, status="Stopped")
    assert transitions(ledger, run_id) == {"Running": 1, "Stopping": 1, "Stopped": 1}
    assert len(bench.test("stormy").record.recent_runs) == 1


def folder_of(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def transitions(ledger, run_id: str) -> dict[str, int]:
    """Count the changes of a run's status that MongoDB itself saw succeed."""
    where = {"command.findAndModify": "load_test_runs", "command.query._id": run_id, "nModified": 1}
    found: dict[str, int] = {}
    for entry in ledger.database["system.profile"].find(where):
        to = entry["command"]["update"].get("$set", {}).get("status")
        if to:
            found[to] = found.get(to, 0) + 1
    return found


def test_f24_two_receivers_on_one_database_share_a_run(bench, proxy, notebook, shop, ledger, told):
    """Pushes of one run go to both in turn; a second run belongs to the kernel alone. Both look after both."""
    with ShopServer(latency_ms=10, seed=2) as second_shop:
        session = Session(notebook, second_shop, name="other", proxy=proxy)
        session.open()
        here, there = bench._backend.receiver.port, session.port()
        assert here != there
        proxy.upstreams = (here, there)
        run = loads.start(bench, shop, ledger, duration="12s")
        other, _ = session.start(ledger, duration="10s")
        run.wait()
        session.finish(other)
        told(requests=verify(ledger, run.id, shop) + verify(ledger, other, second_shop))
    by_receiver = proxy.by_upstream
    assert min(by_receiver[here], by_receiver[there]) >= 4, by_receiver
    assert session.stored() >= 10 + 4


def test_f25_port_taken_is_one_line_that_names_who_has_it(own_mongod: Mongod, tmp_path):
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path, text=True) as other:
        try:
            port = int(other.stdout.readline().split("port ")[1].split()[0])
            threads = set(threading.enumerate())
            with pytest.raises(ReceiverError, match=f"Port {port} is taken by pid {other.pid} "):
                Workbench("acme/shop/checkout", port=port)
            left = {thread for thread in threading.enumerate() if "loadbench" in thread.name} - threads
            assert not left
            serve = [sys.executable, "-m", "loadbench.cli", "serve", "--port", str(port)]
            done = subprocess.run(serve, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode != 0
            assert f"Port {port} is taken by pid {other.pid} " in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
            assert "Traceback" not in done.stdout + done.stderr
        finally:
            other.terminate()
