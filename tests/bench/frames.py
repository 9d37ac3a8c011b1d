"""What frames and seals cost: an hour at 1 s of 20 endpoints, and 50 runs of 600 intervals, on the embedded MongoDB.

Beside each figure stands its floor: the bytes of the same documents out of MongoDB, not decoded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from loadbench import sealing, testing
from loadbench.analysis import frames
from loadbench.analysis.intervals import FIELDS, ROWS
from loadbench.analysis.series import TOTALS
from loadbench.analysis.summary import summary
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from tests.bench.timing import RAW_BSON, copies, median_ms, read_raw, tell

RUNS, INTERVALS, ENDPOINTS = 50, 600, 20
PERCENTILES = (50, 95, 99)


def compare(what: str, cost_ms: float, floor_ms: float, *, goal_ms: str = "", goal_ratio: str = "") -> None:
    tell(what, cost_ms, "ms", goal_ms)
    tell(f"  its floor, raw bytes of {what.partition(' of ')[2]}", floor_ms, "ms")
    tell(f"  {what} over its floor", cost_ms / floor_ms, "ratio", goal_ratio)


def of_an_hour(store: Store) -> None:
    made = testing.run(seed="an hour", seconds=3600, endpoints=ENDPOINTS, rps=1000)
    (run,) = copies(store, made, 1)
    floor_ms = median_ms(lambda: read_raw(store, run.id, FIELDS))
    read = store.ledger.documents
    makers = (("timeline", frames.timeline_of_totals, TOTALS), ("endpoints", frames.endpoints_of_rows, ROWS))
    for name, make, fields in makers:
        cost_ms = median_ms(lambda make=make, fields=fields: make(run, read(run.id, fields=fields)))
        compare(f"{name} frame of 1 h x 20 endpoints", cost_ms, floor_ms, goal_ratio="<= 2")
    tell("sealing of 1 h x 20 endpoints", median_ms(lambda: sealing._made(store, run), 3), "ms")


def of_fifty_runs(store: Store) -> None:
    made = testing.run(seed="ten minutes", seconds=INTERVALS, endpoints=ENDPOINTS, rps=1000, ramp_s=30)
    runs = copies(store, made, RUNS)
    read = store.ledger.documents
    what = f"{RUNS} runs x {INTERVALS} intervals x {ENDPOINTS} endpoints"
    floor_ms = median_ms(lambda: [read_raw(store, run.id, FIELDS) for run in runs], 2)
    cost_ms = median_ms(lambda: [frames.endpoints_of_rows(run, read(run.id, fields=ROWS)) for run in runs], 2)
    compare(f"endpoints frames of {what}", cost_ms, floor_ms, goal_ms="<= 1000")
    sealing.seals(store, runs)
    wanted = {"runId": {"$in": [run.id for run in runs]}, "window": {"$in": [None, "steady"]}}
    floor_ms = median_ms(lambda: len(list(store.database["run_summaries"].with_options(RAW_BSON).find(wanted))))
    seals_ms = median_ms(lambda: sealing.seals(store, runs, windows=["steady"]))
    compare(f"seals of {RUNS} runs x {ENDPOINTS} endpoints", seals_ms, floor_ms, goal_ms="<= 50")
    cost_ms = median_ms(
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
