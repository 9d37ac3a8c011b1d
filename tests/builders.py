"""Records for tests, small enough to check by hand.

An interval as built here has two endpoints: GET / with three requests of 10, 20 and 30 ms, and POST /cart with one
that failed after 40 ms. So an interval counts 4 requests and 1 failure, and seq k ends with 4(k+1) and k+1 in total.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from loadbench.agent.histogram import bucket_of, pack
from loadbench.messages import IntervalPush
from loadbench.model import Endpoint, Interval, LoadTest, LoadTestRun, Scope

SCOPE = Scope(account_id="acme", org_id="shop", project_id="checkout", env_id="staging")
START_MS = 1_795_000_000_000
SOURCE = "local-1"
HOME_PAGE = Endpoint(method="GET", name="/")
CART = Endpoint(method="POST", name="/cart")
ENDPOINTS = (HOME_PAGE, CART)
REQUESTS, FAILURES = 4, 1
HISTOGRAMS = pack(({bucket_of(10): 1, bucket_of(20): 1, bucket_of(30): 1}, {}, {}, {bucket_of(40): 1}))
COLUMNS: dict[str, Any] = {
    "n": (3, 1),
    "failures": (0, 1),
    "untimed": (0, 0),
    "sum_ms": (60.0, 0.0),
    "failed_sum_ms": (0.0, 40.0),
    "min_ms": (10.0, 40.0),
    "max_ms": (30.0, 40.0),
    "bytes": (300, 20),
}


def a_test(**changes: Any) -> LoadTest:
    """A test named products, of acme/shop/checkout (staging)."""
    fields: dict[str, Any] = {"name": "products", "target_url": "http://127.0.0.1:8000"}
    return LoadTest.build(**(dict(SCOPE) | fields | changes))


def a_run(test: LoadTest | None = None, **changes: Any) -> LoadTestRun:
    """A Pending run of 10 users, 2 a second, for 60 s; of the scope and target of its test, if it has one."""
    owner = test or a_test()
    fields = dict(owner.scope) | {
        "load_test_id": test.id if test else None,
        "name": f"{owner.name} 1",
        "target_url": owner.target_url,
        "target_users": 10,
        "spawn_rate": 2.0,
        "duration_sec": 60,
    }
    return LoadTestRun.build(**(fields | changes))


def an_interval_push(run_id: str = "run-1", seq: int = 0, **changes: Any) -> IntervalPush:
    """What an agent pushes for second `seq` of its run."""
    fields: dict[str, Any] = {
        "version": 1,
        "run_id": run_id,
        "source": SOURCE,
        "timestamp": START_MS + 1000 * (seq + 1),
        "seq": seq,
        "duration_ms": 1000.0,
        "users": 2,
        "workers": 0,
        "workers_expected": 0,
        "endpoints": ENDPOINTS,
        "histograms": base64.b64encode(HISTOGRAMS).decode(),
        "errors": ((1, "500 Internal Server Error", 1),),
        "cum_requests": REQUESTS * (seq + 1),
        "cum_failures": FAILURES * (seq + 1),
    }
    return IntervalPush(**(fields | COLUMNS | changes))


def an_interval(run_id: str = "run-1", seq: int = 0, *, source: str = SOURCE, **changes: Any) -> Interval:
    """The same second as it is stored."""
    fields: dict[str, Any] = {
        "id": Interval.key(run_id, source, seq),
        "run_id": run_id,
        "source": source,
        "seq": seq,
        "timestamp": datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=START_MS + 1000 * (seq + 1)),
        "duration_ms": 1000.0,
        "users": 2,
        "workers": 0,
        "workers_expected": 0,
        "requests": REQUESTS,
        "failed": FAILURES,
        "total_rps": 4.0,
        "errors_per_sec": 1.0,
        "error_rate": 0.25,
        "avg_ms": 25.0,
        "p50_ms": 20.0,
        "p95_ms": 40.0,
        "p99_ms": 40.0,
        "cum_requests": REQUESTS * (seq + 1),
        "cum_failures": FAILURES * (seq + 1),
        "endpoints": (0, 1),
        "histograms": HISTOGRAMS,
        "errors": ({"endpoint": 1, "message": "500 Internal Server Error", "n": 1},),
        "received_at": START_MS + 1000 * (seq + 1) + 5,
        "body_sha256": hashlib.sha256(f"{run_id}:{source}:{seq}".encode()).hexdigest(),
    }
    return Interval(**(fields | COLUMNS | changes))
