"""What charts cost: a run of an hour, 20 endpoints, 1,000 requests/s, asked over real HTTP on the embedded MongoDB.

Beside each figure stands its floor: the bytes of the same documents out of MongoDB, not decoded.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import requests

from loadbench import testing as synthetic
from loadbench.analysis.intervals import FIELDS
from loadbench.analysis.series import TOTALS
from loadbench.model import ApiToken
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from tests.bench.timing import TIMES, median_ms, read_raw, tell, timed_ms

ASKED = {
    "graph?points=500": ("graph of 1 h x 20 endpoints at 500 points", "<= 100"),
    "graph?points=500&percentiles=50,99.9": ("the same with p99.9, from histograms", ""),
    "graph?points=500&endpoint=0": ("the same of one endpoint", ""),
    "summary": ("summary", ""),
    "requests?limit=100": ("requests, 100 rows", ""),
    "metrics/timeseries?limit=1000": ("timeseries, 1,000 intervals", ""),
    "metrics/timeseries?limit=1000&perEndpoint=true": ("timeseries, 1,000 intervals x 20 endpoints", ""),
    "metrics/scatter": ("scatter, 2,000 points", ""),
    "metrics/aggregate?percentiles=50,99.9": ("aggregate by endpoint", ""),
}


def floors(store: Store, run_id: str) -> None:
    """Say how long MongoDB itself takes for what the charts read."""
    for fields, what in ((TOTALS, "the totals"), (FIELDS, "all fields")):
        read = partial(read_raw, store, run_id, fields)
        tell(f"floor: raw read of {what} of 1 h x 20 endpoints", median_ms(read), "ms")
        tell(f"floor: bytes of {what}", read() / 1e6, "MB")


def main() -> None:
    """Print a JSON line for each figure."""
    made = synthetic.run(seconds=3600, endpoints=20, rps=1000, seed="charts")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            with Store.open(home=home) as store, Receiver(store) as receiver, requests.Session() as session:
                store.runs.add(made.run)
                store.database["metrics_timeseries"].insert_many(made.documents)
                _, secret = store.tokens.create_api(ApiToken(name="bench", role="viewer"))
                session.trust_env = False
                session.headers["Authorization"] = f"Bearer {secret}"
                floors(store, made.run.id)

                def ask(path: str) -> bytes:
                    answer = session.get(f"{receiver.url}/v1/runs/{made.run.id}/{path}", timeout=30)
                    answer.raise_for_status()
                    return answer.content

                for path, (what, goal) in ASKED.items():
                    taken = timed_ms(partial(ask, path))
                    tell(what, statistics.median(taken), "ms", goal)
                    tell(f"{what}: longest of {TIMES}", max(taken), "ms")
                tell("size of the graph's answer", len(ask("graph?points=500")) / 1000, "kB")
        finally:
            Mongod(home).stop()


if __name__ == "__main__":
    main()
