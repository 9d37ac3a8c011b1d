"""A cluster on other hosts: master and workers in network namespaces of their own, with addresses of their own.

Nothing of this host is reachable from there but by the addresses of the veth pairs, so whatever assumes one host fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from loadbench.demo_target import ShopServer
from loadbench.errors import RunFailed, TargetUnreachable
from loadbench.model import Cluster, RunStatus
from loadbench.workbench import Workbench
from tests import scripts
from tests.agents import TOKEN_ENV, Agents
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@dataclass(frozen=True)
class Network:
    """Two hosts, each on a link of its own to this one, which passes packets between them."""

    here: str
    master: str
    workers: str
    master_namespace: str
    workers_namespace: str


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    mark = f"{os.getpid() % 100_000}"
    subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    bridge, names = f"lbb{mark}", (f"lbm{mark}", f"lbw{mark}")
    addresses = [f"{subnet}.{last}" for last in (1, 2, 3)]
    with contextlib.ExitStack() as undo:
        ip("link", "add", bridge, "type", "bridge")
        undo.callback(ip, "link", "del", bridge)
        ip("addr", "add", f"{addresses[0]}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for name, address in zip(names, addresses[1:], strict=True):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "eth0", "netns", name)
            undo.callback(ip, "link", "del", f"{name}o")  # at once; the end of the namespace comes some time later
            ip("link", "set", f"{name}o", "master", bridge)
            ip("link", "set", f"{name}o", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield Network(addresses[0], addresses[1], addresses[2], *names)


@pytest.fixture(scope="module")
def agents(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    inside = ["ip", "netns", "exec", network.master_namespace]
    with Agents(tmp_path_factory.mktemp("far"), bind=network.master, inside=inside) as agents:
        agents.start_master()
        for _ in range(2):
            agents.start_worker(inside=["ip", "netns", "exec", network.workers_namespace])
        for worker in agents.workers:
            worker.wait_for("no run yet", within_s=60)
        yield agents
        print(agents.logs())  # noqa: T201 - pytest shows it when the test failed


@pytest.fixture
def bench(store, network: Network, agents: Agents, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """A workbench whose receiver listens on the address that the other hosts reach."""
    monkeypatch.setenv(TOKEN_ENV, agents.token)
    cluster = Cluster(id="far", base_url=agents.url, account_id="acme", token_env=TOKEN_ENV)
    options = {"mongodb_uri": store.uri, "port": 0, "clusters": [cluster]}
    bench = Workbench("acme/shop/checkout", host=network.here, **options)
    yield bench
    bench.close()


def test_two_revisions_run_on_other_hosts_one_after_the_other(bench, network, agents):
    with ShopServer(host=network.here, port=0, seed=1) as shop:
        test = bench.create_test("far", scripts.STEADY, target_url=shop.url, users=4, spawn_rate=10, check=False)
        served = 0
        for path in ("/api/products", "/api/search?q=lamp"):
            test.revise(scripts.STEADY.replace("/api/products", path), check=False)
            run = test.start(duration="2s").wait()
            assert (run.record.cluster_id, run.status, run.record.completeness) == (
                "far", RunStatus.FINISHED, "complete"
            )  # fmt: skip
            assert run.record.last_metrics.cum_requests == shop.total()[0] - served > 0
            assert [endpoint.name for endpoint in run.record.endpoints] == [path]
            sha256 = hashlib.sha256(test.script().encode()).hexdigest()
            environment = run.record.environment
            assert (environment.script_sha256, environment.worker_sha256s) == (sha256, (sha256,))
            assert run.record.receiver_url.startswith(f"http://{network.here}:")
            served = shop.total()[0]
        run = test.start(duration="60s")
        wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
        assert run.stop().wait().status is RunStatus.STOPPED
        assert run.record.last_metrics.cum_requests == shop.total()[0] - served


def test_the_side_that_cannot_reach_the_other_is_named(bench, network, agents):
    with ShopServer(host="127.0.0.1", port=0, seed=1) as here_only:
        test = bench.create_test("far", scripts.STEADY, target_url=here_only.url, check=False)
        with pytest.raises(TargetUnreachable, match=f"cluster far .* cannot reach the target {here_only.url}"):
            test.start()
    with ShopServer(host=network.here, port=0, seed=1) as shop:
        control = bench._backend.control
        control.advertised_url = "http://127.0.0.1:8765"
        with pytest.raises(RunFailed, match="an address of this machine alone"):
            test.start(target_url=shop.url)
        control.advertised_url = f"http://{network.here}:9"
        with pytest.raises(RunFailed, match=r"far .* cannot reach the receiver at \S+ \(Connection refused\)"):
            test.start(target_url=shop.url)
        agents.master.end()
        with pytest.raises(RunFailed, match="this machine cannot reach cluster far"):
            test.start(target_url=shop.url)
        assert shop.total() == (0, 0)
