"""The watch of the receiver, on made-up runs in the real store: it sees what the ledger holds, and stops a run once."""

from __future__ import annotations

import time

import pytest

from loadbench import testing
from loadbench.analysis.gates import parse
from loadbench.model import Interval, RunStatus
from loadbench.model.interval import column
from server.watch import AT_ONCE, GateWatch, Watched
from tests.waiting import wait_until

STALL = {"seed": "watch", "seconds": 60, "rps": 60, "stalled": range(20, 32), "stall_ms": 900}
FOR_10S = "p95 > 800ms for 10s -> stop"


def running(store, made, *gates, intervals=None):
    """Store a made-up run as one that goes on, with its first intervals."""
    run = made.run.model_copy(
        update={"status": RunStatus.RUNNING, "gates": gates, "finished_at": None, "last_metrics": None, "sources": ()}
    )
    store.runs.add(run)
    push(store, made, 0, len(made.documents) if intervals is None else intervals)
    return run


def push(store, made, first, last):
    store.ledger.fill([Interval.from_mongo(document) for document in made.documents[first:last]])


@pytest.fixture
def watch(store):
    watch = GateWatch(store)
    yield watch
    watch.close()


def stopped(store, run):
    return wait_until(
        lambda: (found := store.runs.get(run.id)).status is RunStatus.STOPPING and found, within_s=10, message="no stop"
    )


def test_a_watch_that_begins_late_reads_what_it_has_missed(store, watch):
    run = running(store, testing.run(**STALL), FOR_10S)
    watch.heard(run.id)
    found = stopped(store, run)
    assert (found.stop_reason, found.gate_broken) == ("gate", FOR_10S)
    assert found.stop_requested_at > 0


@pytest.mark.parametrize(
    ("gate", "second"),
    [
        (FOR_10S, 30),
        ("errors > 15 -> stop", None),
        ("max > 900ms -> stop", 21),
        ("requests/s over 5s < 1000 -> stop", 5),
        ("p95 over 10s > 800ms -> stop", None),
    ],
)
def test_it_breaks_with_the_interval_that_breaks_it(store, gate, second):
    """Interval by interval, as a receiver sees them; the truth is in the raw requests."""
    made = testing.run(**STALL)
    if gate.startswith("errors"):
        second = 1 + int(made.raw[made.raw.failed].seq.iloc[15])
    if gate.startswith("p95 over"):
        raw = made.raw
        p95 = [testing.nearest_rank(raw.ms[(raw.seq > end - 10) & (raw.seq <= end)], 95) for end in range(9, 60)]
        second = 10 + next(place for place, value in enumerate(p95) if value > 800)
    run = running(store, made, gate, intervals=0)
    watched = Watched(store, run, [parse(gate)])
    for number in range(60):
        push(store, made, number, number + 1)
        if (broken := watched.look()) is not None:
            break
    assert str(broken.gate) == gate
    assert number + 1 == second
    assert len(watched._recent) <= 15


def test_a_flood_of_intervals_hides_nothing(store):
    """After an outage an agent delivers many at once; what broke the gate is not among the last ones."""
    made = testing.run(**STALL)
    run = running(store, made, FOR_10S, intervals=5)
    watched = Watched(store, run, [parse(FOR_10S)])
    assert watched.look() is None
    push(store, made, 5, 60)
    assert watched.look().at_s == 30


def test_a_long_run_is_caught_up_part_by_part(store):
    made = testing.run(seed="long", seconds=AT_ONCE + 100, rps=2, endpoints=1, failure_ratio=1.0)
    run = running(store, made, "errors > 2000 -> stop", "errors > 100000 -> stop")
    watched = Watched(store, run, [parse("errors > 100000 -> stop")])
    assert watched.look() is None
    assert column(watched._all, "failures") == (len(made.raw),)


def test_several_receivers_stop_a_run_once(store, watch):
    other, run = GateWatch(store), running(store, testing.run(**STALL), FOR_10S)
    try:
        watch.heard(run.id)
        other.heard(run.id)
        first = stopped(store, run)
    finally:
        other.close()
    watch.close()
    assert store.runs.get(run.id).stop_requested_at == first.stop_requested_at


def test_a_baseline_may_be_the_limit(store, watch):
    from tests.builders import a_test

    test = store.load_tests.add(a_test())
    base = testing.keep(store, testing.run(seed="base", seconds=60, rps=60), test)
    store.load_tests.update(test.id, baseline_run_ids=(base.id,))
    made = testing.run(**STALL)
    gate = "p95 over 10s > 3 x baseline -> stop"
    owner = {"load_test_id": test.id}
    run = running(store, testing.Synthetic(made.run.model_copy(update=owner), made.documents, made.raw), gate)
    watch.heard(run.id)
    assert stopped(store, run).gate_broken == gate


def test_hearing_costs_a_push_nothing(store, watch):
    without = running(store, testing.run(seed="none", seconds=5))
    watch.heard(without.id)
    wait_until(lambda: without.id in watch._watched, within_s=5, message="it was not looked at")
    began = time.perf_counter()
    for _ in range(1000):
        watch.heard(without.id)
    assert time.perf_counter() - began < 0.1
    assert watch._due == set()


def test_a_run_that_is_gone_does_not_end_the_watch(store, watch, caplog):
    watch.heard("run-nowhere")
    run = running(store, testing.run(**STALL), FOR_10S)
    watch.heard(run.id)
    assert stopped(store, run).gate_broken == FOR_10S
    assert "gates cannot be watched now: no run run-nowhere" in caplog.text
