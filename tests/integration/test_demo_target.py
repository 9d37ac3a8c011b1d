"""The sample shop: what it serves, how it behaves, how it counts; and the sample script against it."""

from __future__ import annotations

import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from loadbench.demo_target import (
    BEHAVIOURS,
    ENV_URL,
    UNMATCHED,
    Behaviour,
    Count,
    RunningShop,
    ShopServer,
    sample_shop,
)
from loadbench.errors import InvalidInput, ReceiverError
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "locustfiles" / "products.py"


@pytest.fixture
def shop() -> Iterator[ShopServer]:
    with ShopServer(latency_ms=0, failures=0) as shop:
        yield shop
    assert "loadbench-shop" not in {thread.name for thread in threading.enumerate()}


def test_what_it_serves(shop: ShopServer) -> None:
    listed = requests.get(f"{shop.url}/api/products", timeout=5).json()
    assert (len(listed["products"]), listed["total"]) == (20, 500)
    product = requests.get(f"{shop.url}/api/products/7", timeout=5).json()
    assert {name: product[name] for name in listed["products"][6]} == listed["products"][6]
    found = requests.get(f"{shop.url}/api/search", params={"q": "Lamp"}, timeout=5).json()
    assert (found["total"], {item["category"] for item in found["products"]}) == (50, {"lamp"})
    added = requests.post(f"{shop.url}/api/cart/items", json={"productId": 7, "quantity": 2}, timeout=5)
    assert (added.status_code, added.json()["subtotal"]) == (201, round(2 * product["price"], 2))


def test_it_counts_each_response(shop: ShopServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: requests.get(f"{shop.url}/api/products/{i}", timeout=5), range(1, 101)))
    for path in ("/api/products/501", "/api/products/0", "/api/products/12345678901", "/nothing"):
        assert requests.get(shop.url + path, timeout=5).status_code == 404
    for body in ("{", "[]", '{"productId": 1}', '{"productId": 1, "quantity": 0}'):
        assert requests.post(f"{shop.url}/api/cart/items", data=body, timeout=5).status_code in (400, 422)
    assert requests.post(f"{shop.url}/api/products", timeout=5).status_code == 405
    expected = {
        ("GET", UNMATCHED): Count(served=1, failed=1),
        ("GET", "/api/products/:id"): Count(served=103, failed=3),
        ("POST", "/api/cart/items"): Count(served=4, failed=4),
        ("POST", "/api/products"): Count(served=1, failed=1),
    }
    assert shop.counts() == expected
    assert shop.total() == (109, 9)
    assert repr(shop) == f"<ShopServer {shop.url} served 109, failed 9>"
    rows = requests.get(f"{shop.url}/_counts", timeout=5).json()
    assert (rows["served"], rows["failed"]) == (109, 9)
    row = {"method": "GET", "route": "/api/products/:id", "served": 103, "failed": 3, "abandoned": 0}
    assert row in rows["routes"]
    assert requests.post(f"{shop.url}/_reset", timeout=5).status_code == 204
    assert shop.total() == (0, 0)


def test_a_client_that_goes_away_is_counted_as_such() -> None:
    with ShopServer(latency_ms=300, failures=0) as shop:
        with socket.create_connection(("127.0.0.1", shop.port)) as connection:
            connection.sendall(b"GET /api/products HTTP/1.1\r\nHost: shop\r\n\r\n")
        expected = {("GET", "/api/products"): Count(served=1, failed=0, abandoned=1)}
        wait_until(lambda: shop.counts() == expected, within_s=3, message="the request is counted")


def test_delays_have_the_median_and_the_spread_that_were_asked_for() -> None:
    chance = random.Random(3)
    delays = [Behaviour(median_ms=50, sigma=0.5).delay_s(chance) for _ in range(20_000)]
    cuts = statistics.quantiles(delays, n=100)
    assert cuts[49] == pytest.approx(0.050, rel=0.02)
    assert cuts[94] == pytest.approx(0.050 * 2.276, rel=0.03)
    with ShopServer(behaviours={"GET /api/search": Behaviour(median_ms=80, sigma=0)}) as shop:
        assert requests.get(f"{shop.url}/api/search", timeout=5).elapsed.total_seconds() >= 0.08


def test_failures_are_the_share_that_was_asked_for_and_the_same_for_a_seed() -> None:
    behaviours = {"GET /api/products": Behaviour(median_ms=0, failure_ratio=0.3, failure_status=503)}
    seen = []
    for _ in range(2):
        with ShopServer(behaviours=behaviours, seed=7) as shop, requests.Session() as session:
            seen.append([session.get(f"{shop.url}/api/products", timeout=5).status_code for _ in range(300)])
            assert shop.total() == (300, seen[-1].count(503))
    assert seen[0] == seen[1]
    assert 60 <= seen[0].count(503) <= 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failures": 1.5}, "failure_ratio must be in"),
        ({"latency_ms": -1}, "median_ms must be in"),
        ({"behaviours": {"GET /": Behaviour(1)}}, "behaviours must be for GET /api/products, "),
    ],
)
def test_behaviours_that_are_none(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ShopServer(**options)


def test_a_taken_port(shop: ShopServer) -> None:
    with pytest.raises(ReceiverError, match=f"cannot listen on 127.0.0.1:{shop.port} .*choose another port"):
        ShopServer(shop.port).start()


def test_a_shop_to_test_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_URL, "http://127.0.0.1:1")
    assert sample_shop() == RunningShop("http://127.0.0.1:1")
    monkeypatch.delenv(ENV_URL)
    shop = sample_shop()
    try:
        assert sample_shop() is shop
        assert requests.get(f"{shop.url}/api/products", timeout=5).ok
    finally:
        shop.stop()
        monkeypatch.setattr("loadbench.demo_target._shared", None)


def test_serving_until_sigterm() -> None:
    program = "import sys; from loadbench.demo_target import serve; sys.exit(serve(port=0, latency=1, failures=0))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[3].rstrip(";")
            assert requests.get(f"{url}/api/products", timeout=5).ok
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "served 1, failed 0\n"
    assert process.returncode == 0


def test_the_sample_script_on_plain_locust() -> None:
    with ShopServer(latency_ms=2) as shop:
        command = [sys.executable, "-m", "locust", "-f", SCRIPT, "--host", shop.url, "--headless", "--json"]
        command += ["-u", "20", "-r", "20", "-t", "4s", "--stop-timeout", "5"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        counts = {key: (count.served, count.failed) for key, count in shop.counts().items()}
    entries = {
        (row["method"], row["name"]): (row["num_requests"], row["num_failures"]) for row in json.loads(done.stdout)
    }
    assert {f"{method} {route}" for method, route in counts} == set(BEHAVIOURS)
    assert entries == counts
