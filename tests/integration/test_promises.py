"""What must never happen again: a run marked Running for ever, a stop that got lost, scripts stored but never executed,
metrics that never reached the database, history entries written twice. (Scripts: see test_truth.)
"""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from loadbench.errors import Conflict, RunFailed
from loadbench.model import RunStatus
from loadbench.workbench import Workbench
from tests import scripts
from tests.waiting import wait_until


def start(bench, shop, script=scripts.STEADY, **options):
    test = bench.create_test("promised", script, target_url=shop.url, users=4, spawn_rate=4, check=False)
    run = test.start(**{"duration": "60s", **options})
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="the load did not begin")
    return run


def group_of(run) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process_group(process.pid) == run.record.process.pid]


def process_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def nobody_is_left(run) -> bool:
    return not [process for process in group_of(run) if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_whose_processes_died_is_not_running(bench, shop, workers):
    run = start(bench, shop, workers=workers)
    began = time.monotonic()
    os.kill(run.record.process.pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match="died"):
        run.wait()
    assert time.monotonic() - began < 45
    assert (run.status, run.record.stop_reason) == (RunStatus.FAILED, "lost")
    wait_until(lambda: nobody_is_left(run), within_s=10, message="workers outlived their master")
    assert run.record.last_metrics.cum_requests > 0


def test_a_run_that_died_while_nobody_looked_is_found_out_later(bench, shop, store):
    run = start(bench, shop)
    bench.close()
    os.killpg(run.record.process.pid, signal.SIGKILL)
    again = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, port=0)
    try:
        wait_until(lambda: again.run(run.id).status is RunStatus.FAILED, within_s=45, message="still not Failed")
    finally:
        again.close()


def test_a_stop_that_no_signal_carried_arrives_with_the_next_push(bench, shop, store):
    run = start(bench, shop)
    store.runs.move(run.id, RunStatus.STOPPING, stop_reason="user")
    run.wait()
    assert (run.status, run.record.stop_reason) == (RunStatus.STOPPED, "user")
    assert run.record.completeness == "complete"
    assert run.record.last_metrics.cum_requests == shop.total()[0]


def test_a_stop_that_the_script_resists_is_enforced(bench, shop):
    run = start(bench, shop, scripts.STUCK)
    began = time.monotonic()
    run.stop()
    run.wait()
    assert run.status is RunStatus.STOPPED
    assert time.monotonic() - began < 10 + 6 + 5  # stop timeout, its margin, and a slow machine
    assert nobody_is_left(run)


def test_twenty_stops_are_one(bench, shop):
    from concurrent.futures import ThreadPoolExecutor

    run = start(bench, shop)

    def stop(_):
        try:
            bench.run(run.id).stop()
        except Conflict:
            return "over"
        return "asked"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(stop, range(20)))
    run.wait()
    assert "asked" in answers
    assert run.status is RunStatus.STOPPED


def test_figures_of_a_run_reach_the_database_although_nobody_received_them(bench, shop, store):
    run = start(bench, shop, duration="6s")
    bench.close()
    wait_until(lambda: nobody_is_left(run), within_s=40, message="Locust did not end")
    again = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, port=0)
    try:
        found = again.run(run.id)
        found.wait()
        assert found.status is RunStatus.FINISHED
        assert found.record.completeness == "complete"
        assert found.summary().iloc[-1]["requests"] == shop.total()[0]
    finally:
        again.close()


def test_a_receiver_that_comes_back_goes_on_with_the_run(bench, shop, store):
    run = start(bench, shop, duration="8s")
    port = bench._backend.receiver.port
    bench.close()
    again = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri)
    try:
        assert again._backend.receiver.port == port
        found = again.test("promised").active_run()
        assert found.id == run.id
        found.wait()
        assert found.status is RunStatus.FINISHED
        assert found.record.completeness == "complete"
        assert found.summary().iloc[-1]["requests"] == shop.total()[0]
    finally:
        again.close()


def test_the_history_of_a_test_has_each_run_once(bench, shop):
    run = start(bench, shop, duration="3s")
    entries = bench.test("promised").record.recent_runs
    assert [(entry.run_id, entry.status) for entry in entries] == [(run.id, RunStatus.RUNNING)]
    run.wait()
    entries = bench.test("promised").record.recent_runs
    assert [(entry.run_id, entry.status) for entry in entries] == [(run.id, RunStatus.FINISHED)]
