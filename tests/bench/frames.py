"""What frames and seals cost: an hour at 1 s of 20 endpoints, and 50 runs of 600 intervals, on the embedded MongoDB.

Beside each figure stands its floor: the bytes of the same documents out of MongoDB, not decoded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loadbench import sealing, testing
from loadbench.analysis import frames
from loadbench.analysis.intervals import FIELDS, ROWS
from loadbench.analysis.series import TOTALS
from loadbench.analysis.summary import summary
from loadbench.model import LoadTestRun
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from tests.bench.charts import RAW_BSON, read_raw, tell

TIMES = 7
RUNS, INTERVALS, ENDPOINTS = 50, 600, 20
PERCENTILES = (50, 95, 99)


def milliseconds(call: Callable[[], object], times: int = TIMES) -> float:
    """Call a few times; the median in ms, without the first call."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def compare(what: str, cost_ms: float, floor_ms: float, goal: str) -> None:
    tell(what, cost_ms, "ms")
    tell(f"  its floor, raw bytes of {what.partition(' of ')[2]}", floor_ms, "ms")
    tell("  so many times its floor", cost_ms / floor_ms, "", goal)


def copies(store: Store, made: testing.Synthetic, number: int) -> list[LoadTestRun]:
    """Store a run so many times, each under an id of its own."""
    runs = []
    for copy in range(number):
        run = made.run.model_copy(update={"id": f"{made.run.id}-{copy}"})
        documents = [
            document | {"_id": document["_id"].replace(made.run.id, run.id), "runId": run.id}
            for document in made.documents
        ]
        for start in range(0, len(documents), 500):
            store.database["metrics_timeseries"].insert_many(documents[start : start + 500])
        runs.append(store.runs.add(run))
    return runs


def of_an_hour(store: Store) -> None:
    made = testing.run(seed="an hour", seconds=3600, endpoints=ENDPOINTS, rps=1000)
    (run,) = copies(store, made, 1)
    floor_ms = milliseconds(lambda: read_raw(store, run.id, FIELDS))
    read = store.ledger.documents
    makers = (("timeline", frames.timeline_of_totals, TOTALS), ("endpoints", frames.endpoints_of_rows, ROWS))
    for name, make, fields in makers:
        cost_ms = milliseconds(lambda make=make, fields=fields: make(run, read(run.id, fields=fields)))
        compare(f"{name} frame of 1 h x 20 endpoints", cost_ms, floor_ms, "<= 2")
    tell("sealing of 1 h x 20 endpoints", milliseconds(lambda: sealing._made(store, run), 3), "ms")


def of_fifty_runs(store: Store) -> None:
    made = testing.run(seed="ten minutes", seconds=INTERVALS, endpoints=ENDPOINTS, rps=1000, ramp_s=30)
    runs = copies(store, made, RUNS)
    read = store.ledger.documents
    what = f"{RUNS} runs x {INTERVALS} intervals x {ENDPOINTS} endpoints"
    floor_ms = milliseconds(lambda: [read_raw(store, run.id, FIELDS) for run in runs], 2)
    cost_ms = milliseconds(lambda: [frames.endpoints_of_rows(run, read(run.id, fields=ROWS)) for run in runs], 2)
    compare(f"endpoints frames of {what}", cost_ms, floor_ms, "about 1,000 ms in all")
    sealing.seals(store, runs)
    wanted = {"runId": {"$in": [run.id for run in runs]}, "window": {"$in": [None, "steady"]}}
    floor_ms = milliseconds(lambda: len(list(store.database["run_summaries"].with_options(RAW_BSON).find(wanted))))
    seals_ms = milliseconds(lambda: sealing.seals(store, runs, windows=["steady"]))
    compare(f"seals of {RUNS} runs x {ENDPOINTS} endpoints", seals_ms, floor_ms, "<= 50 ms in all")
    cost_ms = milliseconds(
        lambda: [
            summary(seal.run, seal.documents("steady"), percentiles=PERCENTILES)
            for seal in sealing.seals(store, runs, windows=["steady"])
        ]
    )
    tell(f"seals and p50, p95, p99 per endpoint of {RUNS} runs", cost_ms, "ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(folder))
        try:
            with Store.open(mongod.find_or_start()) as store:
                of_an_hour(store)
                of_fifty_runs(store)
        finally:
            mongod.stop()


if __name__ == "__main__":
    main()
