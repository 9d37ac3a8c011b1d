"""What comparing costs: 50 runs of 600 intervals and 20 endpoints, from their seals.

Beside it stands its floor: the bytes of the same seals out of MongoDB, not decoded.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from loadbench import testing as synthetic
from loadbench.analysis.compare import Compared
from loadbench.sealing import seals
from loadbench.sides import arrange, read_sides
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from tests.bench.charts import milliseconds, tell

RUNS = 50


def main() -> None:
    """Print a JSON line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            with Store.open(home=home) as store:
                measure(store)
        finally:
            Mongod(home).stop()


def measure(store: Store) -> None:
    first = synthetic.run(seconds=600, endpoints=20, rps=200, seed="compare")
    store.database["metrics_timeseries"].insert_many(first.documents)
    store.runs.add(first.run)
    runs = [first.run]
    for number in range(1, RUNS):  # the same figures under other ids: drawing them all would take minutes
        run = first.run.model_copy(update={"id": f"{first.run.id}-{number}"})
        copies = [
            document | {"_id": f"{run.id}:{document['source']}:{document['seq']}", "runId": run.id}
            for document in first.documents
        ]
        store.database["metrics_timeseries"].insert_many(copies)
        store.runs.add(run)
        runs.append(run)
    seals(store, runs)
    groups, place = arrange(runs[: RUNS // 2], reference=runs[RUNS // 2 :], together=True)
    raw = partial(_raw, store)
    tell(f"floor: raw read of the seals of {RUNS} runs x 20 endpoints", milliseconds(raw)[0], "ms")
    tell("floor: bytes of them", raw() / 1e6, "MB")
    read = partial(read_sides, store, groups, reference=place)
    tell(f"read {RUNS} seals of 20 endpoints as two pools", milliseconds(read)[0], "ms", "<= 50")
    sides, _ = read()

    def judge() -> int:
        return len(Compared(sides, place).verdicts())

    tell(f"verdicts on 21 endpoints x 3 percentiles of {RUNS} runs", milliseconds(judge)[0], "ms")
    tell(f"table of {RUNS} runs", milliseconds(lambda: Compared(sides, place).table())[0], "ms")


def _raw(store: Store) -> int:
    where = {"window": {"$in": [None, "steady"]}}
    found = [store.database[name] for name in store.database.list_collection_names() if name.startswith("run_summar")]
    return sum(map(len, (batch for each in found for batch in each.find_raw_batches(where))))


if __name__ == "__main__":
    main()
