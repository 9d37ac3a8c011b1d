"""Two minutes, or with `make chaos` ten, of one fault after another on one run, and then the truth.

The faults are drawn from a seed, which is printed: CHAOS_SEED repeats a run, CHAOS_SECONDS says how long.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from loadbench.demo_target import ShopServer
from loadbench.store.mongod import Mongod
from tests.faults import loads
from tests.faults.proxy import NONE, Proxy, Trouble
from tests.faults.sessions import Session
from tests.faults.truth import Ledger, check_sequences, check_state
from tests.faults.victims import crash, frozen, kernel_pid, kill, mongod_pid, worker_pids
from tests.notebook_kernel import Notebook

SECONDS = float(os.environ.get("CHAOS_SECONDS", "120"))
SEED = os.environ.get("CHAOS_SEED", "1")
PAUSE_S = (5, 15)
MAX_WORKERS_KILLED = loads.WORKERS - 1
HOG = 'import re\nre.match(r"(a+)+$", "a" * 25 + "b")'


class Chaos:
    """The faults that may come, each a method; `done` counts those that came."""

    def __init__(
        self, notebook: Notebook, session: Session, own: Mongod, proxy: Proxy, master: int, chance: random.Random
    ) -> None:
        self._notebook, self._session, self._own, self._proxy = notebook, session, own, proxy
        self._master, self._chance = master, chance
        self.workers_killed = 0
        self.done: Counter[str] = Counter()

    def strike(self) -> str:
        """Do the next fault, and name it."""
        possible: list[Callable[[], None]] = [
            self.f01_kernel_killed, self.f02_kernel_restarted, self.f03_interrupted, self.f04_kernel_frozen,
            self.f05_gil_held, self.f06_mongod_paused, self.f07_mongod_killed, self.f10_resets, self.f11_lost_answers,
            self.f17_worker_killed, self.f18_worker_paused,
        ]  # fmt: skip
        if self.workers_killed >= MAX_WORKERS_KILLED:
            possible.remove(self.f17_worker_killed)
        fault = self._chance.choice(possible)
        fault()
        self.done[fault.__name__] += 1
        return fault.__name__

    def f01_kernel_killed(self) -> None:
        kill(kernel_pid(self._notebook))
        time.sleep(self._chance.uniform(0, 3))
        self._notebook.restart(now=True)
        self._session.open()

    def f02_kernel_restarted(self) -> None:
        self._notebook.restart(now=False)
        self._session.open()

    def f03_interrupted(self) -> None:
        for _ in range(5):
            assert self._notebook.interrupted() == "KeyboardInterrupt"

    def f04_kernel_frozen(self) -> None:
        with frozen(kernel_pid(self._notebook)):
            time.sleep(self._chance.uniform(2, 9))

    def f05_gil_held(self) -> None:
        self._notebook.run(HOG)

    def f06_mongod_paused(self) -> None:
        with frozen(mongod_pid(self._own)):
            time.sleep(self._chance.uniform(2, 9))

    def f07_mongod_killed(self) -> None:
        crash(self._own)

    def f10_resets(self) -> None:
        self._disturb(Trouble(reset_after=0.5), 0.5)

    def f11_lost_answers(self) -> None:
        self._disturb(Trouble(drop_answer=True), 0.3)

    def f17_worker_killed(self) -> None:
        kill(self._chance.choice(worker_pids(self._master)))
        self.workers_killed += 1

    def f18_worker_paused(self) -> None:
        with frozen(self._chance.choice(worker_pids(self._master))):
            time.sleep(self._chance.uniform(2, 6))  # a worker leaves when it hears nothing for 10 s

    def _disturb(self, trouble: Trouble, share: float) -> None:
        chance = random.Random(self._chance.random())
        self._proxy.trouble = lambda number, path: trouble if chance.random() < share else NONE
        time.sleep(6)
        self._proxy.trouble = lambda number, path: NONE


@pytest.mark.integration
@pytest.mark.timeout(SECONDS + 180)
def test_after_all_faults_at_random_every_interval_is_there_once(
    notebook: Notebook, own_mongod: Mongod, ledger: Ledger, shop: ShopServer, proxy: Proxy, told
):
    session = Session(notebook, shop, proxy=proxy)
    session.open()
    proxy.upstreams = (session.port(),)
    session.keep_port(session.port())
    session.push_through_proxy()
    run_id, master = session.start(ledger, duration="1h")
    chance = random.Random(SEED)
    chaos = Chaos(notebook, session, own_mongod, proxy, master, chance)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(chance.uniform(*PAUSE_S))
        print(f"CHAOS seed {SEED}: {chaos.strike()}")  # noqa: T201 - who repeats it must know
    session.stop(run_id)
    intervals = check_sequences(ledger.intervals(run_id))
    stored = sum(one["requests"] for own in intervals.values() for one in own)
    missing, lost = shop.total()[0] - stored, chaos.workers_killed
    told(requests=stored, missing=missing, workers_killed=lost, faults=chaos.done.total())
    record = check_state(ledger, run_id, status="Stopped", completeness="gaps" if lost else "complete")
    assert record["workersLost"] == lost
    assert 0 <= missing <= lost * 2 * loads.USERS * loads.PER_USER_S  # of killed workers since their last report
