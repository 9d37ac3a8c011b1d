"""The script that a new test starts from, and the definition of the sample test that needs no typing."""

from __future__ import annotations

from typing import Any

STARTER = '''\
"""What one user does, again and again."""

from locust import HttpUser, between, task


class Shopper(HttpUser):
    wait_time = between(0.2, 1.0)

    @task(3)
    def list_products(self):
        self.client.get("/api/products")

    @task(1)
    def search(self):
        self.client.get("/api/search?q=lamp", name="/api/search")
'''


def sample_test() -> dict[str, Any]:
    """Give the fields of a test of the sample shop, which is started for it if it does not run."""
    from loadbench.demo_target import sample_shop

    return {
        "name": "sample shop",
        "target_url": sample_shop().url,
        "users": 10,
        "spawn_rate": 5.0,
        "duration": "20s",
        "max_duration": "1h",
        "description": "Shoppers list products and search, on the sample shop.",
        "tags": "sample",
        "script": STARTER,
    }
