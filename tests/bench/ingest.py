"""What an interval costs the receiver, against the floor of decoding it and one journaled insert.

Both handle the same bodies, in turn, on the same mongod; the ratio is the median over pairs.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import requests

from loadbench.agent import wire
from loadbench.agent.collector import Collector, Gauges, encode
from loadbench.agent.recorder import Recorder
from loadbench.model import LoadTestRun, Scope, now_ms
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from tests.bench.timing import tell

INTERVALS = 200
ENDPOINTS = 20
REQUESTS = 50  # per endpoint and second


def bodies(
    run_id: str, *, intervals: int = INTERVALS, endpoints: int = ENDPOINTS, requests: int = REQUESTS
) -> list[bytes]:
    """Record requests as an agent does, so many of each endpoint a second, and write the intervals as it sends them."""
    recorder, collector = Recorder(), Collector(run_id, "local-bench", origin_ms=now_ms())
    chance = random.Random(1)
    found = []
    for second in range(intervals):
        for _ in range(endpoints * requests):
            number = chance.randrange(endpoints)
            recorder.on_request("GET", f"/api/{number}", chance.lognormvariate(4 + number / endpoints, 0.5), 500)
        collector.add([(second, *rest) for _, *rest in recorder.take()])
        found += [encode(interval) for interval in collector.due(second + 1, Gauges(users=10))]
    return found


def seconds(function, *arguments) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def main() -> None:
    """Print a JSON line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(folder) / "home")
        try:
            with Store.open(mongod.find_or_start()) as store, Receiver(store, port=0) as receiver:
                report(*measure(store, receiver))
        finally:
            mongod.stop()


def measure(store: Store, receiver: Receiver) -> tuple[list[float], list[float], int]:
    """Time each interval over HTTP and at the floor: seconds of both, and the size of a body in bytes."""
    scope = Scope.parse("acme/shop/checkout")
    run = store.runs.add(
        LoadTestRun(
            name="bench", target_url="http://127.0.0.1:1", target_users=1, spawn_rate=1, duration_sec=600,
            **scope.model_dump(),
        )
    )  # fmt: skip
    session = requests.Session()
    session.headers.update({
        "Authorization": f"Bearer {store.tokens.create_push(run.id)}", "Content-Type": "application/json",
    })  # fmt: skip
    url = receiver.url + wire.ROUTE_PREFIX + wire.METRICS
    floor = store.database["floor"]

    def push(body: bytes) -> None:
        session.post(url, data=body, timeout=10).raise_for_status()

    def insert(body: bytes) -> None:
        floor.insert_one(json.loads(body))

    through, least = [], []
    for number, body in enumerate(bodies(run.id)):
        order = ((push, through), (insert, least)) if number % 2 else ((insert, least), (push, through))
        for function, kept in order:
            kept.append(seconds(function, body))
    return through, least, len(body)


def report(through: list[float], least: list[float], size: int) -> None:
    ratio = statistics.median(a / b for a, b in zip(through, least, strict=True))
    figures = [
        (f"interval over HTTP ({ENDPOINTS} endpoints) over decode + journaled insert", ratio, "ratio", ""),
        ("interval over HTTP, p50", 1000 * statistics.median(through), "ms", ""),
        ("interval over HTTP, p95", 1000 * statistics.quantiles(through, n=20)[-1], "ms", "<= 50"),
        ("decode + journaled insert, p50", 1000 * statistics.median(least), "ms", ""),
        ("body of an interval", size / 1000, "kB", ""),
    ]
    for what, value, unit, goal in figures:
        tell(what, value, unit, goal)


if __name__ == "__main__":
    main()
