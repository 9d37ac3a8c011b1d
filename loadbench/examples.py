"""Made-up tests with a known truth, to learn on: nothing of them was measured, and their runs say so."""

from __future__ import annotations

from loadbench import testing
from loadbench.errors import NotFound
from loadbench.load_test import Test
from loadbench.workbench import Workbench

ENDPOINTS = (("GET", "/api/products"), ("GET", "/api/search"), ("POST", "/checkout"))
MEDIANS_MS = (25.0, 60.0, 140.0)
SCRIPT = """\
from locust import HttpUser, between, task


class Shopper(HttpUser):
    wait_time = between(0.5, 1.5)

    @task(6)
    def products(self):
        self.client.get("/api/products")

    @task(3)
    def search(self):
        self.client.get("/api/search?q=lamp", name="/api/search")

    @task(1)
    def checkout(self):
        self.client.post("/checkout", json={"items": 1})
"""
REVISIONS = (
    (SCRIPT, "as it was", {}, (6, 3, 1)),
    (SCRIPT.replace('{"items": 1}', '{"items": 3}'), "three items in a basket", {2: 1.12}, (6, 3, 1)),
    (SCRIPT.replace("@task(6)", "@task(4)").replace("@task(1)", "@task(3)"), "more buyers", {}, (4, 3, 3)),
)
"""Script, note, which endpoint gets slower by which factor, and how the endpoints share the requests."""


def three_revisions(bench: Workbench, *, name: str = "shop (made up)", runs: int = 5) -> Test:
    """Give a test with runs of three revisions; those of the first are its baseline.

    Revision 2 makes `POST /checkout` 12 % slower. Revision 3 makes nothing slower, but more people buy. Whole runs
    scatter by 2 %. Asking for it again gives the same test.
    """
    try:
        return bench.test(name)
    except NotFound:
        pass
    target = "http://shop.example"
    test = bench.create_test(name, SCRIPT, target_url=target, users=60, spawn_rate=5, duration="3m", check=False)
    for number, (script, note, slowdown, weights) in enumerate(REVISIONS, start=1):
        if number > 1:
            test.revise(script, note=note, check=False)
        for repeat in range(runs):
            made = testing.run(
                seed=f"{bench.scope} {name} {number} {repeat}", seconds=180, interval_s=5.0, endpoints=ENDPOINTS,
                median_ms=MEDIANS_MS, weights=weights, slowdown=slowdown, rps=75.0, users=60, ramp_s=20.0,
                run_sd=0.02, interval_sd=0.05, failure_ratio=0.004, revision_number=number,
                started_at=testing.STARTED_AT + 3_600_000 * (runs * number + repeat),
            )  # fmt: skip
            testing.keep(bench._backend.store, made, test.record)
    return test.set_baseline(*test.pool(revision=1))
