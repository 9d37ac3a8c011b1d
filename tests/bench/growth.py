"""How costs grow: with endpoints (20 to 2,000), the length of a run (10 minutes to 8 hours), and runs (10 to 1,000).

Beside the times stands the exponent of the last step, log(time ratio) / log(size ratio): 1 is linear, more is worse.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import requests

from loadbench import reports, sealing, testing
from loadbench.agent import wire
from loadbench.agent.recorder import Recorder
from loadbench.analysis import frames
from loadbench.analysis.compare import Compared
from loadbench.analysis.intervals import ROWS
from loadbench.analysis.series import TOTALS
from loadbench.analysis.summary import summary
from loadbench.history import History
from loadbench.live import LiveView
from loadbench.model import LoadTest, LoadTestRun, RunStatus, Scope
from loadbench.sides import MAX_RUNS, arrange, read_sides
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from tests.bench.ingest import bodies
from tests.bench.timing import copies, median_ms, tell

TIMES = 5
ENDPOINTS, MINUTES, RUNS = (20, 200, 2000), (10, 60, 480), (10, 100, 1000)
COMPARED = (10, 100, MAX_RUNS)
LINEAR = "<= 1.1"
Costs = dict[str, list[float]]


def told(costs: Costs, sizes: Sequence[int], noun: str) -> None:
    """Print the times of each size, and how they grow in the last step."""
    for what, taken_ms in costs.items():
        for size, cost_ms in zip(sizes, taken_ms, strict=True):
            tell(f"{what}, {size:,} {noun}", cost_ms, "ms")
        exponent = math.log(taken_ms[-1] / taken_ms[-2]) / math.log(sizes[-1] / sizes[-2])
        tell(f"{what}: growth with {noun}", exponent, "exponent", LINEAR)


def with_endpoints(store: Store, receiver: Receiver) -> Costs:
    costs: Costs = {}
    for number in ENDPOINTS:
        made = testing.run(seed=f"{number} endpoints", seconds=60, endpoints=number, rps=5 * number)
        run, *_ = runs = copies(store, made, 10)
        for what, call in (recording(number) | reading(store, run) | watching(made)).items():
            costs.setdefault(what, []).append(median_ms(call, TIMES))
        costs.setdefault("one interval over HTTP", []).append(pushed_ms(store, receiver, number))
        costs.setdefault("verdicts of 10 runs", []).append(median_ms(verdicts(store, runs), TIMES))
        costs.setdefault("report", []).append(reported_ms(store, run))
    return costs


def recording(endpoints: int) -> dict[str, Callable[[], object]]:
    """Name what an agent does in a second of 10,000 requests."""
    names = [f"/api/{number % endpoints}" for number in range(10_000)]

    def record() -> None:
        recorder = Recorder()
        recorder.start(time.monotonic())
        for name in names:
            recorder.on_request("GET", name, 12.3, 500)

    return {"recording 10,000 requests": record}


def watching(made: testing.Synthetic) -> dict[str, Callable[[], object]]:
    """Name what a live view does with a push, without sending it, after all those of a run."""
    later = iter(stretched(made, 2).documents[len(made.documents) :])
    going_on = {"status": RunStatus.RUNNING, "finished_at": None}
    view = LiveView(made.documents, run=made.run.model_copy(update=going_on))
    view._answer({"kind": "open", "page": "bench"})
    return {"a push in the live view": lambda: view.append(next(later))}


def reported_ms(store: Store, run: LoadTestRun) -> float:
    """Build the report of a run, after its first one, which seals it."""
    with tempfile.TemporaryDirectory() as folder:
        return median_ms(partial(reports.run_report, store, run, Path(folder) / "run.html", progress=False), 1)


def pushed_ms(store: Store, receiver: Receiver, endpoints: int) -> float:
    """Push intervals of so many endpoints, five requests each; ms of the median one."""
    scope = Scope.parse("acme/shop/checkout").model_dump()
    run = store.runs.add(LoadTestRun(
        name="growth", target_url="http://127.0.0.1:1", target_users=1, spawn_rate=1, duration_sec=600, **scope,
    ))  # fmt: skip
    waiting = iter(bodies(run.id, intervals=TIMES + 1, endpoints=endpoints, requests=5))
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {store.tokens.create_push(run.id)}"
        session.headers["Content-Type"] = "application/json"
        url = receiver.url + wire.ROUTE_PREFIX + wire.METRICS
        return median_ms(lambda: session.post(url, data=next(waiting), timeout=30).raise_for_status(), TIMES)


def with_length(store: Store) -> Costs:
    costs: Costs = {}
    made = testing.run(seed="ten minutes", seconds=600, endpoints=20, rps=200)
    for minutes in MINUTES:
        longer = stretched(made, minutes // MINUTES[0])
        (run,) = copies(store, longer, 1)
        for what, call in (reading(store, run) | watching(longer)).items():
            costs.setdefault(what, []).append(median_ms(call, TIMES))
        costs.setdefault("report", []).append(reported_ms(store, run))
        store.ledger.delete(run.id)
    return costs


def stretched(made: testing.Synthetic, times: int) -> testing.Synthetic:
    """Let a run go on as it was, so many times as long."""
    length = timedelta(seconds=made.run.duration_sec)
    run = made.run.model_copy(update={"id": f"{made.run.id}-{times}"})
    documents = []
    for turn in range(times):
        for document in made.documents:
            seq = document["seq"] + turn * len(made.documents)
            moved = {"_id": f"{run.id}:{document['source']}:{seq}", "seq": seq, "runId": run.id}
            documents.append(document | moved | {"timestamp": document["timestamp"] + turn * length})
    return testing.Synthetic(run, documents, made.raw)


def reading(store: Store, run: LoadTestRun) -> dict[str, Callable[[], object]]:
    """Name what is read of a run."""
    read = store.ledger.documents
    return {
        "timeline frame": lambda: frames.timeline_of_totals(run, read(run.id, fields=TOTALS)),
        "endpoints frame": lambda: frames.endpoints_of_rows(run, read(run.id, fields=ROWS)),
        "sealing": lambda: sealing._made(store, run),
        "summary from the seal": lambda: summary(run, sealing.seals(store, [run])[0].documents("steady")),
    }


def many_runs(store: Store) -> tuple[LoadTest, list[LoadTestRun]]:
    """Store 1,000 runs of a test, with their seals."""
    scope = Scope.parse("acme/shop/checkout").model_dump()
    test = store.load_tests.add(LoadTest(name="growth", target_url="http://127.0.0.1:1", **scope))
    made = testing.run(seed="one of many", seconds=60, endpoints=5, rps=50, load_test_id=test.id, **scope)
    runs = copies(store, made, RUNS[-1])
    for first in range(0, len(runs), 100):
        sealing.seals(store, runs[first : first + 100])
    return test, runs


def with_runs(store: Store, test: LoadTest, runs: Sequence[LoadTestRun]) -> Costs:
    def cost(number: int) -> dict[str, Callable[[], object]]:
        return {
            "list of the newest runs": partial(store.runs.find, load_test_id=test.id, limit=number),
            "seals": partial(sealing.seals, store, runs[:number], windows=["steady"]),
            "history with change points": partial(History, store, test, last=number),
        }

    return {what: [median_ms(cost(number)[what], TIMES) for number in RUNS] for what in cost(1)}


def with_compared(store: Store, runs: Sequence[LoadTestRun]) -> Costs:
    return {"verdicts of two pools": [median_ms(verdicts(store, runs[:number]), TIMES) for number in COMPARED]}


def verdicts(store: Store, runs: Sequence[LoadTestRun]) -> Callable[[], object]:
    """Compare half of the runs with the other half."""

    def compare() -> object:
        groups, place = arrange(runs[: len(runs) // 2], reference=runs[len(runs) // 2 :], together=True)
        sides, _ = read_sides(store, groups, reference=place)
        return Compared(sides, place).verdicts()

    return compare


def main() -> None:
    """Print a JSON line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(folder))
        try:
            with Store.open(mongod.find_or_start()) as store, Receiver(store, port=0) as receiver:
                told(with_endpoints(store, receiver), ENDPOINTS, "endpoints")
                told(with_length(store), MINUTES, "minutes")
                test, runs = many_runs(store)
                told(with_runs(store, test, runs), RUNS, "runs")
                told(with_compared(store, runs), COMPARED, "runs")
        finally:
            mongod.stop()


if __name__ == "__main__":
    main()
