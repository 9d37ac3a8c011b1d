"""mongod, killed again and again while intervals come in: is what was acknowledged still there?"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

from loadbench.store.mongod import Mongod
from tests.faults.truth import Ledger
from tests.faults.victims import mongod_pid
from tests.waiting import wait_until


class Acknowledgements:
    """The seqs for which a receiver has decided to answer 201; it can kill mongod just before such an answer leaves."""

    def __init__(self, receiver: Any, run_id: str) -> None:
        self.seqs: set[int] = set()
        self._victim: int | None = None
        self.fired = threading.Event()
        self._end = receiver.subscribe(run_id, self._hear)

    def _hear(self, event: dict[str, Any]) -> None:
        if "seq" in event:
            victim, self._victim = self._victim, None
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                self.fired.set()
            self.seqs.add(event["seq"])

    def kill_with_the_next(self, pid: int) -> None:
        self.fired.clear()
        self._victim = pid

    def close(self) -> None:
        self._end()


def crash_often(own: Mongod, ledger: Ledger, receiver: Any, run_id: str, *, trials: int, seed: int = 1) -> int:
    """Crash mongod `trials` times, and look after each whether anything acknowledged is lost; give how much was not.

    Every other time it dies between its answer to the receiver and the receiver's answer to the agent, which is when
    a write that is not on disk is lost for certain; else at any moment, perhaps in the midst of a write.
    """
    chance = random.Random(seed)
    acknowledged, uri = Acknowledgements(receiver, run_id), own.find_or_start()
    try:
        for trial in range(trials):
            before = len(acknowledged.seqs)
            pid = mongod_pid(own)
            if trial % 2 == 0:
                acknowledged.kill_with_the_next(pid)
                assert acknowledged.fired.wait(20), "no interval came"
            else:
                time.sleep(chance.uniform(0, 1))
                os.kill(pid, signal.SIGKILL)
            assert own.find_or_start() == uri, "mongod came back elsewhere"
            stored = {one["seq"] for one in ledger.intervals(run_id)}
            lost = sorted(acknowledged.seqs - stored)
            assert not lost, f"acknowledged intervals lost in trial {trial}: {lost}"
            wait_until(lambda n=before: len(acknowledged.seqs) > n, within_s=20, message="intervals after the crash")
        return len(acknowledged.seqs)
    finally:
        acknowledged.close()
