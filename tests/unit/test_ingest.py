"""What the receiver makes of a pushed interval, and how it folds endpoints; and how it reads hosts and tokens."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from loadbench.agent import wire
from loadbench.agent.histogram import ALPHA, bucket_of, merge, pack, unpack
from loadbench.errors import InvalidInput
from loadbench.messages import IntervalPush
from loadbench.model import Endpoint, Interval
from server.base import HostNames, PushTokens
from server.ingest import folded, interval_of
from tests.builders import START_MS, an_interval_push


def stored(push: IntervalPush) -> Interval:
    return interval_of(push, range(len(push.endpoints)), received_at=START_MS, body_sha256="0" * 64)


def test_rates_means_and_percentiles() -> None:
    columns: dict[str, Any] = {"sum_ms": (60.0, 40.0), "duration_ms": 500.0}
    interval = stored(an_interval_push(**columns))
    assert (interval.requests, interval.failed, interval.error_rate) == (4, 1, 0.25)
    assert (interval.total_rps, interval.errors_per_sec, interval.avg_ms) == (8.0, 2.0, 25.0)
    assert [interval.p50_ms, interval.p95_ms, interval.p99_ms] == pytest.approx([20, 40, 40], rel=ALPHA)


def test_an_interval_of_nothing_has_no_times() -> None:
    nothing = dict.fromkeys(("endpoints", "n", "failures", "untimed", "sum_ms", "failed_sum_ms", "errors"), ())
    nothing |= dict.fromkeys(("min_ms", "max_ms", "bytes"), ())
    interval = stored(an_interval_push(histograms=base64.b64encode(pack([])).decode(), **nothing))
    assert (interval.requests, interval.total_rps, interval.error_rate) == (0, 0.0, 0.0)
    assert (interval.avg_ms, interval.p50_ms, interval.p95_ms, interval.p99_ms) == (None, None, None, None)


def test_the_time_is_kept_to_the_millisecond() -> None:
    assert stored(an_interval_push(timestamp=START_MS + 7)).timestamp.microsecond == 7000


@pytest.mark.parametrize("changes", [{"duration_ms": 5e-324}, {"sum_ms": (1e308, 1e308)}])
def test_figures_out_of_every_range(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        stored(an_interval_push(**changes))


def test_folding_keeps_every_sum() -> None:
    push = an_interval_push()
    known = [Endpoint(method="GET", name=f"/{number}") for number in range(wire.MAX_ROWS)]
    assert folded(push, known[:-2]) is push
    assert folded(push, [*known, *push.endpoints]) is push
    one = folded(push, known)
    assert one.endpoints == (Endpoint(method="", name=wire.OTHER),)
    assert (one.n, one.failures, one.sum_ms, one.bytes) == ((4,), (1,), (sum(push.sum_ms),), (320,))
    assert (one.min_ms, one.max_ms, one.errors) == ((10.0,), (40.0,), ((0, "500 Internal Server Error", 1),))
    assert merge(unpack(one.packed)) == merge(unpack(push.packed))
    assert IntervalPush.model_validate(one.model_dump()) == one


def test_folding_counts_that_no_histogram_can_hold() -> None:
    many = {bucket_of(10): 2**32 - 1}
    packed = base64.b64encode(pack([many, {}, many, {}])).decode()
    n = 2**32 - 1
    changes: dict[str, Any] = {"n": (n, n), "failures": (0, 0), "histograms": packed, "errors": ()}
    push = an_interval_push(cum_requests=2 * n, cum_failures=0, **changes)
    with pytest.raises(InvalidInput, match="out of range"):
        folded(push, [Endpoint(method="GET", name=f"/{number}") for number in range(wire.MAX_ROWS)])


@pytest.mark.parametrize(
    ("bound", "header", "local", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:81", "127.0.0.1", True),
        ("::1", "[::1]:81", "[::1]", True),
        ("::1", "localhost:81", "[::1]", True),
        ("192.0.2.5", "192.0.2.5:81", "192.0.2.5", True),
        ("192.0.2.5", "127.0.0.1:81", "192.0.2.5", False),
        ("0.0.0.0", "192.0.2.5:81", "192.0.2.5", True),
        ("0.0.0.0", "192.0.2.6:81", "192.0.2.5", False),
        ("0.0.0.0", "rebound.example:81", "192.0.2.5", False),
        ("0.0.0.0", "localhost:82", "127.0.0.1", False),
        ("127.0.0.1", "", "127.0.0.1", False),
    ],
)
def test_hosts(bound: str, header: str, local: str, allowed: bool) -> None:
    assert HostNames(bound, [81]).allow(header, lambda: local) is allowed


def test_port_80_goes_without_saying() -> None:
    assert HostNames("127.0.0.1", [80]).allow("localhost", lambda: "127.0.0.1")


def test_tokens_are_looked_up_once_and_refusals_each_time() -> None:
    asked: list[str] = []
    tokens = PushTokens(lambda token: asked.append(token) or {"right": "run-1"}.get(token))
    assert tokens.known("Bearer right") is None
    assert tokens.run_of("Bearer right") == "run-1"
    assert tokens.known("bearer right") == "run-1"
    for header in ("Bearer wrong", "Basic right", "right", "", "Bearer t\xe9"):
        assert (tokens.known(header), tokens.run_of(header)) == (None, None)
    assert asked == ["right", "wrong", "-" * 43, "-" * 43, "-" * 43, "-" * 43]
