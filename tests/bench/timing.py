"""How every measurement is taken and told: medians of repeated calls, a JSON line for each figure, and floors."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from loadbench import testing
from loadbench.model import LoadTestRun
from loadbench.store import Store

TIMES = 15
RAW_BSON = CodecOptions(document_class=RawBSONDocument)


def tell(what: str, value: float, unit: str, goal: str = "") -> None:
    """Print a figure; `goal`, such as "<= 50", is what it should be."""
    print(json.dumps({"what": what, "value": round(value, 3), "unit": unit, "goal": goal}), flush=True)


def timed_ms(call: Callable[[], object], times: int = TIMES) -> list[float]:
    """Call a few times: how long each call took, in ms, without the first and, as in `timeit`, without the garbage
    collector, which would walk all that a measurement keeps for its later calls.
    """
    taken = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(times + 1):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    finally:
        gc.enable()
    return taken[1:]


def median_ms(call: Callable[[], object], times: int = TIMES) -> float:
    return statistics.median(timed_ms(call, times))


def read_raw(store: Store, run_id: str, fields: Iterable[str]) -> int:
    """Read the documents of a run as bytes, and say how many these are.

    Documents that are left raw are twice as fast as pymongo's raw batches, which are joined once more.
    """
    projection = dict.fromkeys(fields, True) | {"_id": False}
    ledger = store.database["metrics_timeseries"].with_options(RAW_BSON)
    return sum(
        len(each.raw) for each in ledger.find({"runId": run_id}, projection, sort=[("timestamp", 1), ("seq", 1)])
    )


def copies(store: Store, made: testing.Synthetic, number: int) -> list[LoadTestRun]:
    """Store a run so many times, each under an id of its own: drawing them all would take minutes."""
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
