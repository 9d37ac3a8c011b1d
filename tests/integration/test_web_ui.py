"""Locust's own web interface beside a run: it shows the same test, and a stop there ends the run Stopped."""

from __future__ import annotations

import pytest
import requests

from loadbench.errors import InvalidInput
from tests import scripts
from tests.waiting import wait_until


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.long), 2])
def test_a_stop_in_the_web_interface_stops_the_run(bench, shop, workers):
    test = bench.create_test(
        "with its own page", scripts.STEADY, target_url=shop.url, users=4, spawn_rate=4, check=False
    )
    run = test.start(duration="60s", workers=workers, web_ui=True)
    wait_until(lambda: run.refresh().record.last_metrics, within_s=40, message="the load did not begin")
    url = run.record.web_url
    page = requests.get(url, timeout=5)
    assert page.ok
    assert "Locust" in page.text
    assert run.record.web_url in run._repr_html_()
    assert requests.get(f"{url}/stats/requests", timeout=5).json()["user_count"] == 4
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert requests.post(f"{url}/stop", headers=headers, timeout=5).status_code == 403
    assert run.refresh().status == "Running"
    assert requests.post(f"{url}/stop", headers={"Origin": url}, timeout=30).ok
    run.wait()
    assert (run.status, run.record.stop_reason) == ("Stopped", "user")
    assert run.record.completeness == "complete"
    assert run.summary().iloc[-1]["requests"] == shop.total()[0]
    wait_until(lambda: not bench._backend.control._launcher.is_alive(run.record), within_s=20, message="it lives on")


def test_its_duration_ends_the_run_and_the_interface(bench, shop):
    test = bench.create_test("short", scripts.STEADY, target_url=shop.url, users=2, spawn_rate=2, check=False)
    run = test.start(duration="2s", web_ui=True)
    run.wait()
    assert (run.status, run.record.stop_reason) == ("Finished", "duration")
    assert run.summary().iloc[-1]["requests"] == shop.total()[0]
    wait_until(lambda: not bench._backend.control._launcher.is_alive(run.record), within_s=20, message="it lives on")


def test_only_local_runs_have_one(store, shop):
    from loadbench.workbench import Workbench

    clusters = [{"id": "lab", "base_url": "http://127.0.0.1:1"}]
    bench = Workbench("acme/shop/checkout", mongodb_uri=store.uri, port=0, clusters=clusters)
    try:
        test = bench.create_test("elsewhere", scripts.STEADY, target_url=shop.url, check=False)
        with pytest.raises(InvalidInput, match="cluster lab is not local"):
            test.start(cluster="lab", web_ui=True)
    finally:
        bench.close()
