"""Locust scripts for tests."""

from __future__ import annotations

STEADY = """
from locust import HttpUser, constant, task

class Shopper(HttpUser):
    wait_time = constant(0.05)

    @task
    def browse(self):
        self.client.get("/api/products")
"""

ONCE_A_SECOND = STEADY.replace("constant(0.05)", "constant(1)")

# Keeps every response time itself, one file per process, in the directory of the run.
RAW_LOG = """
import json
import os
from locust import HttpUser, constant, events, task

log = open(f"raw-{os.getpid()}.jsonl", "w", buffering=1)

@events.request.add_listener
def keep(request_type, name, response_time, exception, **_):
    log.write(json.dumps([request_type, name, response_time, exception is None]) + "\\n")

class Shopper(HttpUser):
    wait_time = constant(0.02)

    @task(3)
    def browse(self):
        self.client.get("/api/products")

    @task(1)
    def search(self):
        self.client.get("/api/search?q=lamp", name="/api/search")
"""

# A user that does not let go when it is asked to stop.
STUCK = """
import gevent
from locust import HttpUser, constant, task

class Stuck(HttpUser):
    wait_time = constant(0.05)

    def on_stop(self):
        gevent.sleep(3600)

    @task
    def browse(self):
        self.client.get("/api/products")
"""

FAILS_AT_START = """
from locust import HttpUser, events, task

@events.init.add_listener
def prepare(environment, **_):
    raise RuntimeError("the test data is missing")

class Shopper(HttpUser):
    @task
    def browse(self):
        self.client.get("/")
"""
