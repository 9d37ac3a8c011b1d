"""F9, F14-F16, F22: the receiver is not there, and the disk is full, refuses, or lies; a clock jumps."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loadbench.control import spool_path
from tests.faults import loads
from tests.faults.truth import check_state, verify
from tests.faults.victims import frozen, is_dead, leader_pid
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

WIDE = f"""
import random
from locust import HttpUser, constant_throughput, task

class Shopper(HttpUser):
    wait_time = constant_throughput({loads.PER_USER_S})

    @task
    def browse(self):
        self.client.get("/api/products", name="/" + f"{{random.randrange(1000):03d}}" * 80)
"""
"""Its intervals take 10 kB and more on disk."""

FIFTY_PAGES = """
from loadbench.agent.spool import Spool

Spool.__init__.__kwdefaults__["max_bytes"] = 50 * 4096
"""

ULIMIT_F_100 = """
import resource, sys

if "--worker" not in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""

SHORT_RING = """
import loadbench.agent.spool

loadbench.agent.spool.RING_SIZE = 5
"""


def go_away(bench) -> None:
    """Stop the receiver; the answer to the last push has arrived then."""
    time.sleep(0.3)
    bench._backend.receiver.stop()


def read_log(run) -> str:
    return (Path(run.record.process.directory) / "locust.log").read_text()


def check_stated_gap(ledger, run_id: str, shop) -> int:
    """Check that what is missing is what the source says it dropped, to the request; give how many intervals."""
    intervals = sorted(ledger.intervals(run_id), key=lambda one: one["seq"])
    record = check_state(ledger, run_id, status="Finished", completeness="gaps")
    (source,) = record["sources"]
    stored = [one["seq"] for one in intervals]
    stated = [range(gap["fromSeq"], gap["toSeq"] + 1) for gap in record["gaps"]]
    missing = sorted(itertools.chain.from_iterable(stated))
    assert sorted(stored + missing) == list(range(source["lastSeq"] + 1))
    assert source["dropped"] == len(missing) > 0
    assert (intervals[-1]["cumRequests"], intervals[-1]["cumFailures"]) == shop.total()
    in_gaps = sum(gap["requests"] for gap in record["gaps"])
    assert in_gaps + sum(one["requests"] for one in intervals) == shop.total()[0]
    return len(missing)


def test_f09_receiver_absent_all_the_time_drain_delivers_the_run(bench, shop, ledger, told):
    test = bench.create_test("unheard", loads.PACED, target_url=shop.url, users=6, spawn_rate=6, check=False)
    run = test.start(duration="6s", workers=loads.WORKERS)
    bench.close()
    leader = leader_pid(run.record.process.pid)
    wait_until(lambda: shop.total()[0] > 0, within_s=30, message="no load")
    seen, last = 0, time.monotonic()
    while not is_over(leader):
        if shop.total()[0] != seen:
            seen, last = shop.total()[0], time.monotonic()
        assert time.monotonic() < last + 20, "Locust does not end"
        time.sleep(0.02)
    delay_s = time.monotonic() - last
    assert ledger.count(run.id) == 0
    drained = subprocess.run(
        [sys.executable, "-m", "loadbench.cli", "drain"], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"{run.id}: " in drained.stdout
    assert "messages delivered" in drained.stdout
    counted = verify(ledger, run.id, shop)
    told(requests=counted, exit_delay_s=delay_s)
    assert delay_s <= 10 + 3  # 7.5 s for the receiver; Locust itself takes 2 s to end, and more on a busy machine
    assert not spool_path(run.id).exists()


def is_over(pid: int) -> bool:
    try:
        return is_dead(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def test_f14_spool_full_drops_the_oldest_and_says_how_much(bench, shop, ledger, told):
    run = loads.start(bench, shop, ledger, script=FIFTY_PAGES + WIDE, duration="40s")
    go_away(bench)
    wait_until(lambda: "is full" in read_log(run), within_s=30, message="the spool is not full")
    time.sleep(5)
    bench._backend.receiver.start()
    run.wait()
    dropped = check_stated_gap(ledger, run.id, shop)
    told(requests=shop.total()[0], dropped=dropped)
    assert read_log(run).count("is full") == 1
    assert f"{dropped} interval" in repr(run)
    assert "missing" in repr(run)


@pytest.mark.parametrize("ring", ["", SHORT_RING], ids=["ring of 120", "ring of 5"])
def test_f15_spool_unwritable_leaves_the_latest_in_memory(bench, shop, ledger, told, ring):
    run = loads.start(bench, shop, ledger, script=ULIMIT_F_100 + ring + WIDE, duration="35s")
    go_away(bench)
    wait_until(lambda: "cannot be used" in read_log(run), within_s=25, message="the disk takes all")
    time.sleep(8)
    bench._backend.receiver.start()
    run.wait()
    assert read_log(run).count("cannot be used") == 1
    if ring:
        dropped = check_stated_gap(ledger, run.id, shop)
        assert "dropped by a full spool" in repr(run)
        told(requests=shop.total()[0], dropped=dropped)
    else:
        told(requests=verify(ledger, run.id, shop), dropped=0)


def test_f16_spool_corrupt_is_put_aside_and_its_loss_is_stated(bench, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="25s")
    spool = spool_path(run.id)
    go_away(bench)
    time.sleep(6)
    with frozen(leader_pid(run.record.process.pid)):
        with sqlite3.connect(spool, timeout=5) as connection:  # all of it into the file that is to be damaged
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        connection.close()
        blocks = spool.stat().st_size // 512 - 2
        damage = ["dd", "if=/dev/urandom", f"of={spool}", "bs=512", "seek=2", f"count={blocks}", "conv=notrunc"]
        subprocess.run(damage, check=True, capture_output=True)
    time.sleep(4)
    bench._backend.receiver.start()
    run.wait()
    assert spool.with_name(spool.name + ".corrupt").exists()
    assert read_log(run).count("is corrupt") == 1
    dropped = check_stated_gap(ledger, run.id, shop)
    told(requests=shop.total()[0], dropped=dropped)
    assert "missing" in repr(run)


CLOCK_STEP = """
import sys, time
import gevent
from locust import events

if "--worker" not in sys.argv:
    time_s, time_ns = time.time, time.time_ns

    def step():
        time.time, time.time_ns = lambda: time_s() + 3600, lambda: time_ns() + 3600 * 10**9

    @events.test_start.add_listener
    def later(**_):
        gevent.spawn_later(6, step)
"""
FROM_THE_START = CLOCK_STEP + "    step()\n"


@pytest.mark.parametrize("script", [CLOCK_STEP, FROM_THE_START], ids=["step", "from the start"])
def test_f22_a_clock_that_jumps_an_hour_is_shown_and_changes_nothing(bench, shop, ledger, told, script):
    """The wall clock of the source; nobody may set that of a shared machine, so that of the process is replaced."""
    run = loads.start(bench, shop, ledger, script=script + loads.PACED, duration="14s")
    run.wait()
    told(requests=verify(ledger, run.id, shop), clock_skew_s=ledger.run(run.id)["clockSkewMs"] / 1000)
    assert "clocks differ by 3" in repr(run)
    documents = bench._backend.store.ledger.documents(run.id, fields=("timestamp", "durationMs"))
    assert min(one["durationMs"] for one in documents) > 0
    moments = [one["timestamp"] for one in documents]
    steps_s = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments)]
    assert 0 < min(steps_s) <= max(steps_s) <= 2
    record = ledger.run(run.id)
    assert 12_000 < record["finishedAt"] - record["startedAt"] < 20_000
    assert run.timeline()["elapsed_s"].between(0, 20).all()
