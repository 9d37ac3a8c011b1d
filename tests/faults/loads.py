"""The load of a fault row: light, paced so that a disturbed user shows, and counted by the shop."""

from __future__ import annotations

import time
from dataclasses import dataclass

from loadbench.demo_target import ShopServer
from tests.faults.truth import Ledger
from tests.waiting import wait_until

USERS = 12
PER_USER_S = 2.5  # slow enough that a busy machine can keep the pace, too
WORKERS = 3

PACED = f"""
from locust import HttpUser, constant_throughput, task

class Shopper(HttpUser):
    wait_time = constant_throughput({PER_USER_S})

    @task
    def browse(self):
        self.client.get("/api/products")
"""


def start(bench, shop: ShopServer, ledger: Ledger, *, script: str = PACED, duration: str = "60s",
          workers: int = WORKERS, name: str = "faulty"):  # fmt: skip
    """Start a run and wait until two intervals of it are stored."""
    test = bench.create_test(name, script, target_url=shop.url, users=USERS, spawn_rate=USERS, check=False)
    run = test.start(duration=duration, workers=workers)
    wait_for_intervals(ledger, run.id, 2)
    return run


def wait_for_intervals(ledger: Ledger, run_id: str, number: int, *, within_s: float = 40) -> None:
    wait_until(lambda: ledger.count(run_id) >= number, within_s=within_s, message=f"{number} intervals of {run_id}")


@dataclass
class Pace:
    """How fast the shop is asked, between two looks."""

    shop: ShopServer

    def __post_init__(self) -> None:
        self.again()

    def again(self) -> None:
        self._at, self._served = time.monotonic(), self.shop.total()[0]

    def per_s(self) -> float:
        return (self.shop.total()[0] - self._served) / (time.monotonic() - self._at)

    def over(self, seconds: float) -> float:
        """Sleep, and give the requests/s meanwhile."""
        self.again()
        time.sleep(seconds)
        return self.per_s()
