"""What is recorded, against counts that loadbench had no hand in."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from tests import scripts
from tests.waiting import wait_until


def exact(values: list[float], percentile: float) -> float:
    """The nearest-rank percentile of raw values."""
    return sorted(values)[max(1, math.ceil(percentile / 100 * len(values))) - 1]


def raw_log(run) -> list[list]:
    folder = Path(run.record.process.directory)
    return [json.loads(line) for path in folder.glob("raw-*.jsonl") for line in path.read_text().splitlines()]


def recorded(run) -> tuple[int, int]:
    total = run.summary().iloc[-1]
    return int(total["requests"]), int(total["failures"])


@pytest.mark.parametrize("workers", [0, 2], ids=["local", "master and 2 workers"])
@pytest.mark.parametrize("ending", ["duration", "stop"])
def test_the_shop_counts_the_same(bench, shop, workers, ending):
    test = bench.create_test("truth", scripts.STEADY, target_url=shop.url, users=8, spawn_rate=8, check=False)
    run = test.start(duration="4s" if ending == "duration" else "60s", workers=workers)
    if ending == "stop":
        wait_until(lambda: shop.total()[0] > 100, within_s=30, message="the load did not begin")
        run.stop()
    run.wait()
    assert run.status == ("Finished" if ending == "duration" else "Stopped")
    assert run.record.stop_reason == ("duration" if ending == "duration" else "user")
    assert run.record.completeness == "complete"
    assert recorded(run) == shop.total()
    assert recorded(run)[0] > 100


def test_failures_are_counted_as_the_shop_does(bench, store):
    from loadbench.demo_target import ShopServer

    with ShopServer(port=0, seed=7, failures=0.2) as shop:
        test = bench.create_test("failing", scripts.STEADY, target_url=shop.url, users=5, spawn_rate=5, check=False)
        run = test.start(duration="3s")
        run.wait()
        assert recorded(run) == shop.total()
        assert recorded(run)[1] > 10
        assert run.failures()["count"].sum() == shop.total()[1]


def test_percentiles_are_within_half_a_percent_of_a_raw_log(bench, shop):
    test = bench.create_test("raw", scripts.RAW_LOG, target_url=shop.url, users=6, spawn_rate=6, check=False)
    run = test.start(duration="6s")
    run.wait()
    log = raw_log(run)
    assert len(log) == recorded(run)[0] == shop.total()[0]
    for percentile in (50, 95, 99, 99.9):
        assert run.quantile(percentile) == pytest.approx(exact([row[2] for row in log], percentile), rel=0.005)
    whole = run.summary().set_index("name")
    for name in ("/api/products", "/api/search"):
        own = [row[2] for row in log if row[1] == name]
        for percentile in (50, 95, 99):
            assert whole.loc[name, f"p{percentile}_ms"] == pytest.approx(exact(own, percentile), rel=0.005)
        assert whole.loc[name, "mean_ms"] == pytest.approx(sum(own) / len(own))
        assert whole.loc[name, "max_ms"] == pytest.approx(max(own))


def test_percentiles_of_any_window_are_within_half_a_percent(bench, shop):
    test = bench.create_test("windows", scripts.RAW_LOG, target_url=shop.url, users=6, spawn_rate=6, check=False)
    run = test.start(duration="6s")
    run.wait()
    log = [row[2] for row in raw_log(run)]
    timeline = run.timeline()
    # One process: the log and the intervals see the requests in the same order, so counts say which lie in a window.
    ends = timeline["requests"].cumsum().tolist()
    for first in range(len(ends) - 2):
        for last in range(first + 1, len(ends) - 1):
            window = log[ends[first] : ends[last]]
            table = run.summary(window=(timeline["elapsed_s"][first], timeline["elapsed_s"][last]))
            assert table.iloc[-1]["requests"] == len(window)
            for percentile in (50, 95, 99):
                assert table.iloc[-1][f"p{percentile}_ms"] == pytest.approx(exact(window, percentile), rel=0.005)


def test_the_script_that_ran_is_the_revision(bench, shop):
    test = bench.create_test("revised", scripts.STEADY, target_url=shop.url, users=1, check=False)
    changed = scripts.STEADY.replace("/api/products", "/api/products/7")
    test.revise(changed, note="one product", check=False)
    for number, source in ((1, scripts.STEADY), (2, changed)):
        run = test.start(revision=number, duration="2s")
        run.wait()
        ran = (Path(run.record.process.directory) / "locustfile.py").read_bytes()
        assert ran == source.encode()
        assert run.record.revision_number == number
        assert run.record.environment.script_sha256 == hashlib.sha256(source.encode()).hexdigest()
        assert run.record.environment.script_sha256 == test.revisions().loc[number, "sha256"]
    served = {route for route, count in shop.counts().items() if count.served}
    assert served == {("GET", "/api/products"), ("GET", "/api/products/:id")}
