"""Campaigns and sweeps: their order and their end on made-up runs, and both on real Locust."""

from __future__ import annotations

import asyncio
import math
import threading
import time

import pytest

from loadbench import testing
from loadbench.analysis.columns import column
from loadbench.errors import InvalidInput
from loadbench.workbench import Workbench
from tests import scripts
from tests.waiting import wait_until

SLOWER = scripts.STEADY.replace(
    'self.client.get("/api/products")', 'self.client.get("/api/search?q=lamp", name="/api/products")'
)


@pytest.fixture
def test(bench):
    test = bench.create_test(
        "products",
        scripts.STEADY,
        target_url="http://127.0.0.1:9",
        users=20,
        spawn_rate=20,
        duration="10s",
        check=False,
    )
    return test.revise(SLOWER, note="search", check=False)


def perform(batch, *, seed: str, limit: int = 100, **how) -> list[str]:
    """Store made-up runs for what the batch would start, until it has enough; give their places in order."""
    places = []
    store = batch._store
    while len(places) < limit and (wanted := batch._next(batch._records())) is not None:
        place = wanted["metadata"]["place"]
        chosen = {"seconds": 10, "rps": 100.0, "endpoints": 1, "users": wanted.get("users", 20), "run_sd": 0.01}
        chosen |= {
            "revision_number": wanted.get("revision", 1),
            "started_at": testing.STARTED_AT + 60_000 * len(places),
        }
        chosen |= how["of"](wanted) if "of" in how else {}
        made = testing.run(seed=f"{seed} {place}", metadata={batch.kind: batch.id, "place": place}, **chosen)
        testing.keep(store, made, batch.test)
        places.append(place)
    return places


def b_is_slower(wanted) -> dict:
    return {"slowdown": 1.2 if wanted["revision"] == 2 else 1.0}


def test_a_campaign_alternates_and_ends_as_soon_as_it_knows(test):
    campaign = test.campaign(a=1, b=2, until_percent=20, max_runs=20)
    assert "no pair yet" in repr(campaign)
    places = perform(campaign, seed="campaign", of=b_is_slower)
    assert "".join(place[-1] for place in places) == "ABBAABBA"
    effect = campaign.effect()
    assert effect.pairs == 4
    assert effect.low <= 20 <= effect.high
    assert effect.half_width <= 20
    assert "; 4 pairs, 8 runs; known within 20 % (A revision 1, B revision 2)" in repr(campaign)
    pairs = campaign.pairs()
    assert [place_of(campaign, run_id) for run_id in pairs["run_a"]] == ["run 1 A", "run 4 A", "run 5 A", "run 8 A"]
    assert [place_of(campaign, run_id) for run_id in pairs["run_b"]] == ["run 2 B", "run 3 B", "run 6 B", "run 7 B"]
    for name in pairs.reset_index().columns:
        assert str(pairs.reset_index()[name].dtype) == column(name).dtype, name
    verdict = campaign.comparison().verdict(percentile=95)
    assert str(verdict.verdict) == "slower"


def place_of(campaign, run_id: str) -> str:
    return next(run.record.metadata["place"] for run in campaign.runs() if run.id == run_id)


def test_a_campaign_ends_when_its_budget_is_spent_and_goes_on_with_more(test):
    campaign = test.campaign(a=1, b=2, until_percent=0.1, max_runs=4)
    assert len(perform(campaign, seed="budget")) == 4
    assert "all 4 runs are spent: within" in repr(campaign)
    again = test.campaign(a=1, b=2, until_percent=0.1, max_runs=8)
    assert perform(again, seed="budget") == ["run 5 A", "run 6 B", "run 7 B", "run 8 A"]
    assert test.campaign(a=1, b=2, until_percent=0.1, max_runs=12, max_duration="85s")._next(again._records()) is None
    assert perform(test.campaign(a=1, b=2, name="anew"), seed="anew", limit=1) == ["run 1 A"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"a": 1, "b": 1}, "a and b must differ"),
        ({"a": 1, "b": 2, "max_runs": 6}, "max_runs must be 4, 8, 12"),
        ({"a": 1, "b": {"speed": 3}}, "a parameter in b must be one of revision"),
        ({"a": True, "b": 2}, "a must be a revision, a target URL or a mapping"),
        ({"a": 1, "b": 2, "until_percent": 0}, "until_percent must be above 0"),
    ],
)
def test_a_campaign_that_makes_no_sense_is_refused(test, how, words):
    with pytest.raises(InvalidInput, match=words) as raised:
        test.campaign(**how)
    assert "\n" not in str(raised.value)


LAW = {"per_user": 0.9, "contention": 0.0005, "crosstalk": 1e-4, "think_s": 1.0}
LEVELS = [10, 25, 50, 75, 100, 130]


def test_a_sweep_ends_at_the_first_level_that_breaks_its_limit(test):
    sweep = test.sweep([5, 10, 20, 40], until="p95 < 300ms")
    slow = {5: 40.0, 10: 60.0, 20: 300.0}
    assert perform(sweep, seed="until", of=lambda wanted: {"median_ms": slow[wanted["users"]]}) == [
        "5 users", "10 users", "20 users",
    ]  # fmt: skip
    told = sweep.users_within("p95 < 300ms")
    assert 10 < told.users < 20
    assert repr(told).startswith(f"about {told.users:.0f} users (95 % interval ")
    assert repr(sweep).startswith("<Sweep finished, 3 of 4 runs: <Scalability of products: 3 levels from 5 to 20 users")
    with pytest.raises(InvalidInput, match="a limit reads like p95 < 300ms"):
        test.sweep([5, 10], until="error rate < 1%")
    with pytest.raises(InvalidInput, match="users must be rising"):
        test.sweep([10, 5])


def test_runs_that_are_there_say_how_the_test_scales(bench, test):
    store = bench._backend.store
    for made in testing.sweep(LEVELS, seconds=20, seed="law", rate_sd=0.01, run_sd=0.01, **LAW):
        testing.keep(store, made, test.record)
    scales = test.scalability(think_s=1.0)
    law, knee = scales.law(), math.sqrt((1 - 0.0005) / 1e-4)
    assert law.knee.low <= knee <= law.knee.high
    assert law.per_user.low <= 0.9 <= law.per_user.high
    table = scales.to_frame()
    assert table["users"].tolist() == LEVELS
    assert table["achieved_ratio"].tolist() == pytest.approx([1.0] * 6, abs=0.1)
    for name in table.reset_index().columns:
        assert str(table.reset_index()[name].dtype) == column(name).dtype, name
    own = [bench.run(run_id).summary(window="steady").iloc[-1] for run_id in table.index]
    assert table["requests_per_s"].tolist() == pytest.approx([each["requests_per_s"] for each in own])
    limit_ms = float(table["p95_ms"].iloc[2:4].mean())
    assert 50 < scales.users_within(f"p95 < {limit_ms:.0f}ms").users < 75
    assert len(scales.plot().data) >= 3
    assert f"{limit_ms:,.4g}"[:3] in str(scales.plot(f"p95 < {limit_ms:.0f}ms").layout.annotations)


def test_a_level_that_the_load_generator_bound_is_flagged_and_left_out(bench, test):
    store = bench._backend.store
    for made in testing.sweep(LEVELS, seconds=20, seed="bound", cpu_per_user=0.6, **LAW):
        testing.keep(store, made, test.record)
    scales = test.scalability()
    assert scales.to_frame()["generator_bound"].tolist() == [False] * 5 + [True]
    assert scales.law().measured == (10, 100)
    assert "; 1 bound by the load generator, left out>" in repr(scales)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_real_campaign_sees_what_was_planted_and_survives_an_interrupt(bench, shop, store):
    """Revision 2 asks for searches, which take the sample shop more than twice as long as lists."""
    test = bench.create_test("real", scripts.STEADY, target_url=shop.url, users=5, spawn_rate=10, duration="3s")
    test.revise(SLOWER, note="search")
    campaign = test.campaign(a=1, b=2, max_runs=4)

    def interrupt_the_second():
        wait_until(
            lambda: len(campaign.runs()) == 2 and campaign.runs()[1].record.started_at,
            within_s=60,
            message="no second run",
        )

    async def interrupted():
        task = asyncio.ensure_future(campaign._until_done())
        await asyncio.to_thread(interrupt_the_second)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert [run.status for run in campaign.runs()] == ["Finished", "Stopped"]

    # Another kernel: the same words go on where that ended.
    other = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri)
    resumed = other.test("real").campaign(a=1, b=2, max_runs=4).wait()
    assert resumed.id == campaign.id
    finished = [run.record for run in resumed.runs() if run.status == "Finished"]
    assert [run.metadata["place"][-1] for run in finished] == list("ABBA")
    assert [run.revision_number for run in finished] == [1, 2, 2, 1]
    pairs = resumed.pairs()
    assert (pairs["effect_percent"] > 40).all(), pairs
    effect = resumed.effect()
    assert effect.pairs == 2
    assert effect.change > 60
    assert resumed.comparison().table() is not None


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_real_sweep_of_three_levels(bench, shop):
    """The shop does not slow down with so few users: throughput is users / (think time + response time)."""
    test = bench.create_test(
        "sweep", scripts.ONCE_A_SECOND.replace("constant(1)", "constant(0.2)"), target_url=shop.url
    )
    sweep = test.sweep([2, 5, 10], duration="3s", until="p95 < 2s", think_s=0.2)
    thread = threading.Thread(target=sweep.wait)
    thread.start()
    wait_until(lambda: len(sweep.runs()) == 1, within_s=60, message="no run")
    thread.join(timeout=120)
    table = sweep.to_frame()
    assert table["users"].tolist() == [2, 5, 10]
    assert table["achieved_ratio"].between(0.85, 1.1).all(), table
    assert table["requests_per_s"].is_monotonic_increasing
    assert repr(sweep.users_within("p95 < 2s")).startswith("at least 10 users keep p95 < 2000 ms")
    assert "no knee within what was measured" in str(sweep.law()) or sweep.law().knee_is_measured
    began = time.monotonic()
    assert len(sweep.wait().runs()) == 3
    assert time.monotonic() - began < 5
