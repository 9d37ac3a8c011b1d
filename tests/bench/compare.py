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
from tests.bench.timing import RAW_BSON, copies, median_ms, tell

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
    runs = copies(store, synthetic.run(seconds=600, endpoints=20, rps=200, seed="compare"), RUNS)
    seals(store, runs)
    groups, place = arrange(runs[: RUNS // 2], reference=runs[RUNS // 2 :], together=True)
    raw = partial(_raw, store)
    tell(f"floor: raw read of the seals of {RUNS} runs x 20 endpoints", median_ms(raw), "ms")
    tell("floor: bytes of them", raw() / 1e6, "MB")
    read = partial(read_sides, store, groups, reference=place)
    tell(f"read {RUNS} seals of 20 endpoints as two pools", median_ms(read), "ms", "<= 50")
    sides, _ = read()

    def judge() -> int:
        return len(Compared(sides, place).verdicts())

    tell(f"verdicts on 21 endpoints x 3 percentiles of {RUNS} runs", median_ms(judge), "ms")
    tell(f"table of {RUNS} runs", median_ms(lambda: Compared(sides, place).table()), "ms")


def _raw(store: Store) -> int:
    where = {"window": {"$in": [None, "steady"]}}
    return sum(len(each.raw) for each in store.database["run_summaries"].with_options(RAW_BSON).find(where))


if __name__ == "__main__":
    main()
