from __future__ import annotations

import math
import random

import pytest

from loadbench.agent import wire
from loadbench.agent.collector import GRACE_S, Collector, Gauges, encode
from loadbench.agent.histogram import bucket_of, merge, unpack
from loadbench.agent.recorder import BYTES, ERRORS, MAX, MIN, OK, SUM, N, empty_row
from loadbench.messages import IntervalPush

ORIGIN_MS = 1_700_000_000_000
GAUGES = Gauges(5, 2, 2, 12.34)


def a_row(*times_ms: float, errors=None):
    row = empty_row()
    row[N], row[SUM], row[MIN], row[MAX], row[BYTES] = len(times_ms), sum(times_ms), min(times_ms), max(times_ms), 7
    for ms in times_ms:
        row[OK][bucket_of(ms)] = row[OK].get(bucket_of(ms), 0) + 1
    row[ERRORS].update(errors or {})
    return row


def rows(second: int, *times_ms: float, name="/a"):
    return [(second, "GET", name, a_row(*times_ms))]


def a_collector() -> Collector:
    return Collector("run-1", "master-1", origin_ms=ORIGIN_MS)


def parsed(intervals) -> list[IntervalPush]:
    return [IntervalPush.model_validate_json(encode(interval)) for interval in intervals]


def test_a_local_second_is_given_out_as_soon_as_it_ends():
    collector = a_collector()
    collector.add(rows(0, 10.0, 20.0))
    assert collector.due(0.999, GAUGES) == []
    (interval,) = parsed(collector.due(1.0, GAUGES))
    assert (interval.seq, interval.duration_ms, interval.timestamp) == (0, 1000, ORIGIN_MS + 1000)
    assert (interval.n, interval.sum_ms, interval.min_ms, interval.max_ms) == ((2,), (30.0,), (10.0,), (20.0,))
    assert (interval.users, interval.workers, interval.cpu_percent) == (5, 2, 12.3)
    assert unpack(interval.packed) == [{bucket_of(10.0): 1, bucket_of(20.0): 1}, {}]
    assert not interval.final


def test_idle_seconds_are_intervals_too():
    collector = a_collector()
    collector.add(rows(2, 5.0))
    intervals = parsed(collector.due(3.2, GAUGES))
    assert [(i.seq, sum(i.n), i.cum_requests) for i in intervals] == [(0, 0, 0), (1, 0, 0), (2, 1, 1)]
    assert {i.duration_ms for i in intervals} == {1000}


def test_rows_of_one_second_are_merged_whatever_they_came_in():
    collector = a_collector()
    for ms in (10.0, 20.0, 10.0):
        collector.add(rows(0, ms))
    collector.add(rows(0, 40.0, name="/b"))
    (interval,) = parsed(collector.due(1.0, GAUGES))
    assert interval.n == (3, 1)
    assert [sum(h.values()) for h in unpack(interval.packed)] == [3, 0, 1, 0]


def test_a_second_waits_for_every_live_worker_but_not_for_ever():
    collector = a_collector()
    collector.report("a", 1.05, rows(0, 5.0), now=1.05)
    assert collector.due(1.1, GAUGES, live={"a", "b"}) == []
    collector.report("b", 1.3, rows(0, 6.0), now=1.3)
    (first,) = parsed(collector.due(1.3, GAUGES, live={"a", "b"}))
    assert first.n == (2,)
    collector.report("a", 2.05, rows(1, 5.0), now=2.05)
    assert collector.due(2 + GRACE_S - 0.01, GAUGES, live={"a", "b"}) == []
    (second,) = parsed(collector.due(2 + GRACE_S, GAUGES, live={"a", "b"}))
    assert second.n == (1,)


def test_late_rows_are_counted_in_the_next_interval():
    collector = a_collector()
    collector.report("a", 1.05, rows(0, 5.0), now=1.05)
    collector.report("b", 0.5, [], now=0.5)
    (first,) = parsed(collector.due(1 + GRACE_S, GAUGES, live={"a", "b"}))
    collector.report("b", 2.7, rows(0, 7.0, 8.0), now=2.7)
    *_, final = parsed(collector.close(2.7, GAUGES))
    assert first.cum_requests == 1
    assert (final.cum_requests, final.final) == (3, True)


@pytest.mark.parametrize("skew_s", [3600, -3600, 0.2, -0.3])
def test_a_workers_clock_is_mapped_to_the_masters(skew_s):
    collector = a_collector()
    for second in range(5):
        at = second + 1.03
        theirs = at + skew_s
        collector.report("right", at, rows(second, 5.0), now=at + 0.002)
        collector.report("skewed", theirs, rows(math.floor(theirs - 0.5), 5.0), now=at + 0.002)
    intervals = parsed(collector.due(5 + GRACE_S, GAUGES, live={"right", "skewed"}))
    assert [sum(i.n) for i in intervals] == [2] * 5


def test_a_late_joiner_counts_from_its_own_start():
    collector = a_collector()
    collector.report("old", 1.03, rows(0, 5.0), now=1.03)
    for second in range(1, 4):
        collector.report("old", second + 1.03, rows(second, 5.0), now=second + 1.03)
        collector.report("new", second - 1 + 1.0, rows(second - 1, 9.0), now=second + 1.03)
    intervals = parsed(collector.due(4.1, GAUGES, live={"old", "new"}))
    assert [sum(i.n) for i in intervals] == [1, 2, 2, 2]


def test_the_slowest_message_does_not_shift_the_clock():
    collector = a_collector()
    collector.report("a", 1.0, rows(0, 5.0), now=1.01)
    collector.report("a", 2.0, rows(1, 5.0), now=3.4)  # held up for 1.4 s
    intervals = parsed(collector.due(3.5, GAUGES, live={"a"}))
    assert [sum(i.n) for i in intervals] == [1, 1]


def test_the_final_interval_is_the_rest_and_the_sums_agree():
    rng = random.Random("totals")
    collector, truth, given = a_collector(), 0, []
    for second in range(10):
        for worker in ("a", "b"):
            times = [rng.lognormvariate(2, 1) for _ in range(rng.randrange(1, 30))]
            truth += len(times)
            collector.report(worker, second + 1.05, rows(max(0, second - rng.randrange(3)), *times), now=second + 1.05)
        given += collector.due(second + 1.06, GAUGES, live={"a", "b"}, dropped=3)
    given = parsed([*given, *collector.close(10.25, GAUGES, dropped=3)])
    assert [i.seq for i in given] == list(range(11))
    assert [i.final for i in given] == [False] * 10 + [True]
    assert sum(sum(i.n) for i in given) == truth == given[-1].cum_requests
    assert given[-1].duration_ms == 250
    assert given[-1].dropped == 3
    assert given[-1].timestamp == ORIGIN_MS + 10_250


def test_an_end_before_the_last_interval_still_gives_a_final_one():
    collector = a_collector()
    collector.due(3.0, GAUGES)
    (final,) = parsed(collector.close(2.5, GAUGES))
    assert (final.seq, final.duration_ms, final.final) == (3, 1.0, True)


def test_the_union_of_workers_is_bounded_too():
    collector = a_collector()
    for worker in range(3):
        for number in range(1500):
            collector.add(rows(0, 5.0, name=f"/{worker}/{number}"))
    (interval,) = parsed(collector.due(1.0, GAUGES))
    assert len(interval.endpoints) == wire.MAX_ROWS
    assert sum(interval.n) == 4500
    assert interval.endpoints[-1].name == wire.OTHER


def test_errors_beyond_the_limit_share_one_row():
    collector = a_collector()
    for worker in range(3):
        errors = {f"{worker}-{number}": 1 + (number == 0) for number in range(90)}
        collector.add([(0, "GET", f"/{worker}", a_row(5.0, errors=errors | {wire.OTHER: 10}))])
    (interval,) = parsed(collector.due(1.0, GAUGES))
    assert len(interval.errors) == wire.MAX_ERROR_ROWS + 1
    assert sum(count for _, _, count in interval.errors) == 3 * (91 + 10)
    assert interval.errors[0][2] == 2
    assert interval.errors[-1][1] == wire.OTHER


def test_a_body_that_would_be_refused_folds_its_smallest_endpoints():
    collector = a_collector()
    times = [1.02**power for power in range(150)]
    for number in range(1500):
        collector.add(rows(0, *times, name=f"/{number}/" + "é" * 200))
    collector.add(rows(0, *times, *times, name="/busiest"))
    (raw,) = collector.due(1.0, GAUGES)
    (interval,) = parsed([raw])
    assert len(encode(raw)) <= wire.MAX_BODY_BYTES
    names = [endpoint.name for endpoint in interval.endpoints]
    assert "/busiest" in names
    assert wire.OTHER in names
    assert sum(interval.n) == 1502 * 150 == sum(merge(unpack(interval.packed)).values())
