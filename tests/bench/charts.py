"""What charts cost: a run of an hour, 20 endpoints, 1,000 requests/s, asked over real HTTP on the embedded MongoDB.

Beside each figure stands its floor: the bytes of the same documents out of MongoDB, not decoded.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import requests
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from loadbench import testing as synthetic
from loadbench.analysis.intervals import FIELDS
from loadbench.analysis.series import TOTALS
from loadbench.model import ApiToken
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver

TIMES = 15
RAW_BSON = CodecOptions(document_class=RawBSONDocument)
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


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Call a few times; the median and the longest, in ms, without the first call."""
    taken = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:]), max(taken[1:])


def tell(what: str, value: float, unit: str, goal: str = "") -> None:
    print(json.dumps({"what": what, "value": round(value, 3), "unit": unit, "goal": goal}), flush=True)


def read_raw(store: Store, run_id: str, fields: Iterable[str]) -> int:
    """Read the documents of a run as bytes, and say how many these are.

    Documents that are left raw are twice as fast as pymongo's raw batches, which are joined once more.
    """
    projection = dict.fromkeys(fields, True) | {"_id": False}
    ledger = store.database["metrics_timeseries"].with_options(RAW_BSON)
    return sum(
        len(each.raw) for each in ledger.find({"runId": run_id}, projection, sort=[("timestamp", 1), ("seq", 1)])
    )


def floors(store: Store, run_id: str) -> None:
    """Say how long MongoDB itself takes for what the charts read."""
    for fields, what in ((TOTALS, "the totals"), (FIELDS, "all fields")):
        read = partial(read_raw, store, run_id, fields)
        tell(f"floor: raw read of {what} of 1 h x 20 endpoints", milliseconds(read)[0], "ms")
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
                    median, longest = milliseconds(partial(ask, path))
                    tell(what, median, "ms", goal)
                    tell(f"{what}: longest of {TIMES}", longest, "ms")
                tell("size of the graph's answer", len(ask("graph?points=500")) / 1000, "kB")
        finally:
            Mongod(home).stop()


if __name__ == "__main__":
    main()
