"""F10-F13: what lies between the agent and the receiver resets, loses, delays and refuses."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from loadbench.agent import wire
from tests.faults import loads
from tests.faults.proxy import NONE, Trouble, refusal
from tests.faults.truth import verify
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

METRICS = wire.ROUTE_PREFIX + wire.METRICS


def test_f10_connections_reset_in_the_middle_of_a_body_are_tried_again(bench, proxy, shop, ledger, told):
    chance = random.Random(10)
    proxy.trouble = lambda number, path: Trouble(reset_after=0.5) if chance.random() < 0.5 else NONE
    run = loads.start(bench, shop, ledger, duration="12s")
    run.wait()
    requests = verify(ledger, run.id, shop)
    resets = sum(trouble.reset_after is not None for trouble in proxy.done)
    assert resets >= 5
    told(requests=requests, resets=resets)


def test_f11_lost_acknowledgements_make_duplicates_that_count_once(bench, proxy, shop, ledger, told):
    chance = random.Random(11)
    proxy.trouble = lambda number, path: Trouble(drop_answer=chance.random() < 0.3)
    run = loads.start(bench, shop, ledger, duration="20s")
    run.wait()
    requests = verify(ledger, run.id, shop)
    duplicates = bench._backend.receiver.meters.intervals["duplicate"]
    assert duplicates > 0
    assert proxy.statuses[200] > 0
    told(requests=requests, duplicates=duplicates, dropped=sum(trouble.drop_answer for trouble in proxy.done))


def test_f12_a_slow_network_delays_the_figures_and_nothing_else(bench, proxy, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="30s")
    pace = loads.Pace(shop)
    before = pace.over(8)
    proxy.trouble = lambda number, path: Trouble(delay_s=2, bytes_per_s=100_000)
    during = pace.over(14)
    newest = bench._backend.store.runs.get(run.id).last_metrics.timestamp
    lag_s = time.time() - newest / 1000
    shown = repr(bench.run(run.id))
    run.wait()
    requests = verify(ledger, run.id, shop)
    told(requests=requests, rps_change=abs(during / before - 1), lag_s=lag_s)
    assert lag_s > 3
    assert "behind" in shown, shown
    assert abs(during / before - 1) <= 0.02


def test_f13_a_receiver_that_asks_for_peace_is_asked_at_most_twice_a_second(bench, proxy, shop, ledger, told):
    run = loads.start(bench, shop, ledger, duration="25s")
    busy_from = time.monotonic()
    refused = Trouble(answer=refusal("429 Too Many Requests", Retry_After="1"))
    proxy.trouble = lambda number, path: refused if time.monotonic() < busy_from + 10 else NONE
    wait_until(lambda: time.monotonic() > busy_from + 10, within_s=15, message="the end of the refusals")
    tries = [at_s for at_s, _ in proxy.seen if busy_from < at_s < busy_from + 10]
    run.wait()
    requests = verify(ledger, run.id, shop)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    told(requests=requests, tries_in_10_s=len(tries), shortest_pause_s=min(pauses))
    assert 2 <= len(tries) <= 20
    assert min(pauses) >= 0.5
