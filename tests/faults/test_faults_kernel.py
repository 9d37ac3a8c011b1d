"""F1-F5: the kernel that receives dies, restarts, is interrupted, freezes, or computes for too long."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.faults import loads
from tests.faults.sessions import Session
from tests.faults.truth import verify
from tests.faults.victims import frozen, kernel_pid, kill, leader_pid, worker_pids

pytestmark = [pytest.mark.faults, pytest.mark.integration]


@pytest.fixture
def session(notebook, shop):
    session = Session(notebook, shop)
    session.open()
    return session


def resumed_s(session: Session, ledger, run_id: str) -> float:
    """Run the first cell, and say how long after its beginning the first interval was stored.

    How long Python takes to import what the cell needs is up to the machine; when it is done, figures must flow.
    """
    began = time.time()
    session.open()
    opened = time.time()
    loads.wait_for_intervals(ledger, run_id, ledger.count(run_id) + 1, within_s=15)
    first = ledger.first_after(run_id, began * 1000) / 1000
    assert first - opened <= 5
    return first - began


def test_f01_kernel_killed_the_load_goes_on_and_its_spool_drains(notebook, session, shop, ledger, told):
    run_id, master = session.start(ledger, duration="5m")
    locust = {master, *worker_pids(master)}
    pace = loads.Pace(shop)
    before = pace.over(5)
    pace.again()
    kill(kernel_pid(notebook))
    time.sleep(4)
    notebook.restart(now=True)
    resume_s = resumed_s(session, ledger, run_id)
    during = pace.per_s()
    assert {leader_pid(master), *worker_pids(master)} == locust
    session.stop(run_id)
    requests = verify(ledger, run_id, shop, status="Stopped")
    told(requests=requests, resume_s=resume_s, rps_change=abs(during / before - 1))


def test_f02_kernel_restarted_finds_the_same_processes(notebook, session, shop, ledger, told):
    run_id, master = session.start(ledger, duration="5m")
    began = psutil.Process(master).create_time()
    notebook.restart(now=False)
    resume_s = resumed_s(session, ledger, run_id)
    assert psutil.Process(leader_pid(master)).create_time() == began
    session.stop(run_id)
    requests = verify(ledger, run_id, shop, status="Stopped")
    told(requests=requests, resume_s=resume_s)


def test_f03_kernel_interrupted_five_times_no_push_is_repeated(notebook, session, shop, ledger, told):
    run_id, _ = session.start(ledger, duration="12s")
    assert [notebook.interrupted() for _ in range(5)] == ["KeyboardInterrupt"] * 5
    session.finish(run_id)
    requests = verify(ledger, run_id, shop)
    told(requests=requests, retries=session.duplicates() + session.rejected())
    assert session.duplicates() == 0
    assert session.rejected() == 0
    assert "intervals wait in the spool" not in session.locust_log(run_id)


def test_f04_kernel_frozen_the_load_does_not_notice(notebook, session, shop, ledger, told):
    run_id, _ = session.start(ledger, duration="5m")
    pace = loads.Pace(shop)
    before = pace.over(15)
    with frozen(kernel_pid(notebook)):
        stored = ledger.count(run_id)
        during = pace.over(20)
        assert ledger.count(run_id) <= stored + 1
    session.stop(run_id)
    requests = verify(ledger, run_id, shop, status="Stopped")
    told(requests=requests, rps_change=abs(during / before - 1))
    assert "intervals wait in the spool" in session.locust_log(run_id)
    assert abs(during / before - 1) <= 0.02


HOG = """
import re, time
began = time.monotonic()
re.match(r"(a+)+$", "a" * 27 + "b")
print(time.monotonic() - began)
"""


def test_f05_kernel_that_holds_the_gil_acknowledges_late_and_refuses_nothing(notebook, session, shop, ledger, told):
    run_id, _ = session.start(ledger, duration="25s")
    hogged_s = float(notebook.run(HOG))
    session.finish(run_id)
    requests = verify(ledger, run_id, shop)
    told(requests=requests, hogged_s=hogged_s, rejected=session.rejected())
    assert hogged_s > 2
    assert "for good" not in session.locust_log(run_id)
    assert session.rejected() == 0
