from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest

from loadbench import messages
from loadbench.agent import recorder, wire
from loadbench.agent.collector import Collector, Gauges, encode
from loadbench.agent.histogram import bucket_of
from loadbench.agent.recorder import (
    BYTES,
    ERRORS,
    FAILED,
    FAILED_SUM,
    FAILURES,
    MAX,
    MAX_ENDPOINTS,
    MIN,
    OK,
    OTHER_ENDPOINT,
    SUM,
    UNTIMED,
    Clock,
    N,
    Recorder,
    describe,
)


@pytest.fixture
def clock(monkeypatch):
    """A hand-driven clock: `clock[0]` is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(recorder, "_monotonic", lambda: now[0])
    return now


def request(to: Recorder, ms=5.0, *, method="GET", name="/a", size=10, exception=None):
    to.on_request(method, name, ms, size, exception=exception, response=None, context={}, start_time=1.0, url="u")


def as_push(rows) -> messages.IntervalPush:
    collector = Collector("run-1", "local-1", origin_ms=1_700_000_000_000)
    collector.add(rows)
    return messages.IntervalPush.model_validate_json(encode(collector.close(0.5, Gauges(1))[-1]))


def test_a_row_has_exact_counts_sums_and_buckets(clock):
    counted = Recorder()
    counted.start(1000.0)
    request(counted, 10.0)
    request(counted, 30.0, size=20)
    request(counted, 50.0, exception=ValueError("no"))
    ((second, method, name, row),) = counted.take()
    assert (second, method, name) == (0, "GET", "/a")
    assert (row[N], row[FAILURES], row[UNTIMED], row[BYTES]) == (3, 1, 0, 40)
    assert (row[SUM], row[FAILED_SUM], row[MIN], row[MAX]) == (90.0, 50.0, 10.0, 50.0)
    assert row[OK] == {bucket_of(10.0): 1, bucket_of(30.0): 1}
    assert row[FAILED] == {bucket_of(50.0): 1}
    assert row[ERRORS] == {"ValueError: no": 1}
    assert counted.take() == []


def test_rows_are_keyed_by_the_second_in_which_the_request_ended(clock):
    counted = Recorder()
    request(counted)  # before the start, by the script itself
    counted.start(1000.0)
    for at in (1000.0, 1000.999, 1001.0, 1004.5):
        clock[0] = at
        request(counted)
    assert [(second, row[N]) for second, _, _, row in counted.take()] == [(0, 3), (1, 1), (4, 1)]
    request(counted)
    assert [(second, row[N]) for second, _, _, row in counted.take()] == [(4, 1)]


def test_method_is_part_of_the_key(clock):
    counted = Recorder()
    request(counted, method="GET")
    request(counted, method="POST")
    assert {(method, name) for _, method, name, _ in counted.take()} == {("GET", "/a"), ("POST", "/a")}


@pytest.mark.parametrize(
    ("ms", "timed"),
    [
        pytest.param(None, False, id="none"),
        pytest.param(math.nan, False, id="nan"),
        pytest.param(math.inf, False, id="inf"),
        pytest.param("soon", False, id="text"),
        pytest.param(-3.0, True, id="negative"),
        pytest.param(0, True, id="zero"),
        pytest.param(1e-9, True, id="tiny"),
        pytest.param(1e12, True, id="huge"),
        pytest.param("7.5", True, id="number as text"),
        pytest.param(np.float32(7.5), True, id="numpy"),
    ],
)
@pytest.mark.parametrize("exception", [None, RuntimeError("x")], ids=["ok", "failed"])
def test_odd_response_times_are_counted_and_valid(clock, ms, timed, exception):
    counted = Recorder()
    request(counted, ms, exception=exception)
    push = as_push(counted.take())
    assert push.n == (1,)
    assert push.untimed == (0 if timed else 1,)
    assert push.failures == (int(exception is not None),)
    assert push.bytes == (10,)


@pytest.mark.parametrize("size", [None, -5, "big", 3.7, np.int64(4)], ids=repr)
def test_odd_response_lengths_are_valid(clock, size):
    counted = Recorder()
    request(counted, size=size)
    push = as_push(counted.take())
    assert push.n == (1,)
    assert push.bytes[0] in (0, 3, 4)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("/a\nb\x1b[31m\x00", "/a b [31m ", id="control characters"),
        pytest.param("x" * 500, "x" * wire.MAX_NAME, id="long"),
        pytest.param("/\ud800", "/?", id="lone surrogate"),
        pytest.param("", "(unnamed)", id="empty"),
        pytest.param(None, "None", id="none"),
        pytest.param(["/a"], "['/a']", id="unhashable"),
    ],
)
def test_names_become_printable(clock, name, shown):
    counted = Recorder()
    request(counted, name=name)
    request(counted, name=name)
    push = as_push(counted.take())
    assert [(endpoint.name, n) for endpoint, n in zip(push.endpoints, push.n, strict=True)] == [(shown, 2)]


def test_names_beyond_the_limit_fold_into_other_for_the_rest_of_the_run(clock):
    counted = Recorder()
    counted.start(1000.0)
    for number in range(wire.MAX_ROWS + 500):
        request(counted, name=f"/item/{number}")
    rows = {(method, name): row for _, method, name, row in counted.take()}
    assert len(rows) == wire.MAX_ROWS
    assert rows[OTHER_ENDPOINT][N] == wire.MAX_ROWS + 500 - MAX_ENDPOINTS
    clock[0] += 1
    request(counted, name="/never/seen")
    request(counted, name="/item/3")
    assert {name for _, _, name, _ in counted.take()} == {wire.OTHER, "/item/3"}


def test_error_messages_are_bounded_in_number_and_length(clock):
    counted = Recorder()
    for number in range(300):
        request(counted, exception=ValueError(f"{number} " + "y" * 5000))
    ((_, _, _, row),) = counted.take()
    assert len(row[ERRORS]) == wire.MAX_ERROR_ROWS + 1
    assert sum(row[ERRORS].values()) == 300
    assert row[ERRORS][wire.OTHER] == 200
    assert max(map(len, row[ERRORS])) == wire.MAX_ERROR_TEXT


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        pytest.param(ValueError("no\nway"), "ValueError: no way", id="line break"),
        pytest.param(TimeoutError(), "TimeoutError", id="no text"),
        pytest.param("plain", "plain", id="text"),
        pytest.param(OSError("<obj at 0x7f00deadbeef>"), "OSError: <obj at 0x...>", id="address"),
        pytest.param(Unspeakable(), "Unspeakable: (Unspeakable without a text)", id="raises"),
    ],
)
def test_errors_are_described_in_one_line(exception, text):
    assert describe(exception) == text


def test_the_clock_starts_on_a_whole_millisecond():
    before = time.time() * 1000
    clock = Clock()
    assert before - 1.001 < clock.origin_ms <= before + 50
    assert 0 <= clock.elapsed() < 0.05
    assert abs(clock.now_ms() - time.time() * 1000) < 50


def test_recording_one_request_costs_a_few_microseconds_at_most():
    counted = Recorder()
    counted.start(time.monotonic())
    calls = [
        {"request_type": "GET", "name": f"/{n % 10}", "response_time": random.lognormvariate(2, 1)} for n in range(1000)
    ]
    extra = {"response_length": 9, "exception": None, "response": None, "context": {}, "start_time": 0.0, "url": "u"}
    best = math.inf
    for _ in range(20):
        began = time.perf_counter()
        for call in calls:
            counted.on_request(**call, **extra)
        best = min(best, time.perf_counter() - began)
    assert best / 1000 < 5e-6  # 0.8 us measured; the machine of a test may be busy
