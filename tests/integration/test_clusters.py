"""Which cluster performs a run, what `loadbench.toml` may say, and what is said when a cluster cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadbench.agent import wire
from loadbench.clusters import LOCAL, Clusters, Configuration, resolve
from loadbench.errors import Conflict, InvalidInput, NotFound, RunFailed
from loadbench.model import Cluster, LoadTest, RunStatus
from tests import scripts
from tests.sink import free_port

pytestmark = pytest.mark.integration

URL = "http://10.1.2.3:8090"


def a_test(**fields) -> LoadTest:
    scope = {"account_id": "acme", "org_id": "shop", "project_id": "checkout", "env_id": "staging"}
    return LoadTest(name="products", target_url="http://127.0.0.1:1", **scope | fields)


def a_cluster(cluster_id: str, **fields) -> Cluster:
    return Cluster(id=cluster_id, base_url=URL, **fields)


def test_the_most_specific_scope_wins():
    account = a_cluster("account", account_id="acme")
    staging = a_cluster("staging", account_id="acme", env_id="staging")
    project = a_cluster("project", account_id="acme", org_id="shop", project_id="checkout")
    other = a_cluster("other", account_id="acme", org_id="toys")
    unscoped = a_cluster("unscoped")
    known = Clusters([unscoped, other, account, staging, project])
    assert resolve(known, a_test()) == project
    assert resolve(known, a_test(project_id="search")) == staging
    assert resolve(known, a_test(project_id="search", env_id=None)) == account
    assert resolve(known, a_test(account_id="else")) == LOCAL
    assert resolve(known, a_test(cluster_id="account")) == account
    assert resolve(known, a_test(cluster_id="account"), "unscoped") == unscoped
    assert resolve(known, a_test(), "local") == LOCAL


def test_a_cluster_that_is_not_there_or_serves_others_is_refused_with_those_that_serve():
    known = Clusters([a_cluster("lab", account_id="acme"), a_cluster("theirs", account_id="rival")])
    serving = f"lab [cluster at {URL}] for acme, local [local]"
    expected = f"no cluster 'lap' serves acme/shop/checkout (staging); these do: {serving}"
    with pytest.raises(NotFound) as caught:
        resolve(known, a_test(), "lap")
    assert str(caught.value) == expected
    with pytest.raises(NotFound, match="no cluster 'theirs' serves"):
        resolve(known, a_test(cluster_id="theirs"))
    with pytest.raises(NotFound, match="no cluster serves acme/shop/checkout"):
        resolve([Cluster(id="local", kind="local", account_id="rival")], a_test())


def test_two_that_fit_equally_well_must_be_told_apart():
    known = Clusters([a_cluster("a", account_id="acme"), a_cluster("b", account_id="acme")])
    with pytest.raises(InvalidInput, match="clusters a and b serve acme/shop/checkout"):
        resolve(known, a_test())


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"id": "x"}, "needs baseUrl"),
        ({"id": "x", "kind": "local", "base_url": URL}, "only the kind cluster has a baseUrl"),
        ({"id": "x", "base_url": URL, "workers": 2}, "only the kind local"),
        ({"id": "x", "base_url": URL, "org_id": "shop"}, "from the top"),
        ({"id": "x", "base_url": URL, "env_id": "staging"}, "no account"),
        ({"id": "x", "base_url": URL, "token": "secret"}, "token: Extra inputs are not permitted"),
        ({"id": "x", "base_url": "ftp://host"}, "base_url"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(fields, why):
    with pytest.raises(InvalidInput, match=why):
        Clusters([fields])


def test_two_clusters_with_one_id_are_refused():
    with pytest.raises(InvalidInput, match="two clusters 'lab'"):
        Clusters([a_cluster("lab"), a_cluster("lab")])


FILE = """
[receiver]
host = "0.0.0.0"
port = 8765
advertised_url = "http://10.0.0.5:8765"

[[cluster]]
id = "lab"
base_url = "http://10.1.2.3:8090"
account_id = "acme"
token_env = "LAB_TOKEN"

[[cluster]]
id = "big"
kind = "local"
workers = 2
"""


def test_the_file_is_found_above_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / "loadbench.toml").write_text(FILE)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    told = Configuration.read()
    assert [(one.id, one.kind, one.workers, one.token_env) for one in told.cluster] == [
        ("lab", "cluster", 0, "LAB_TOKEN"),
        ("big", "local", 2, wire.ENV_AGENT_TOKEN),
    ]
    assert (told.receiver.host, told.receiver.port) == ("0.0.0.0", 8765)
    other = tmp_path / "other.toml"
    other.write_text("")
    monkeypatch.setenv("LOADBENCH_CONFIG", str(other))
    assert Configuration.read() == Configuration()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[cluster]", "cannot be read"),
        ("[[cluster]]\nid = 'x'\n", "needs baseUrl"),
        ("[[clusters]]\nid = 'x'\n", "clusters: Extra inputs"),
        ("[receiver]\nport = 'no'\n", "receiver.port"),
    ],
)
def test_a_file_with_a_mistake_is_named_in_one_line(tmp_path, monkeypatch, text, why):
    path = tmp_path / "loadbench.toml"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=why) as caught:
        Configuration.read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_local_cluster_brings_its_number_of_workers(bench, shop):
    bench._backend.control.clusters = Clusters([Cluster(id="big", kind="local", workers=2, account_id="acme")])
    test = bench.create_test("local", scripts.STEADY, target_url=shop.url, users=2, spawn_rate=2, check=False)
    run = test.start(duration="1s").wait()
    assert (run.record.cluster_id, run.record.workers, run.record.environment.workers) == ("big", 2, 2)
    assert run.record.last_metrics.cum_requests == shop.total()[0]
    with pytest.raises(NotFound, match="no cluster 'nowhere'"):
        test.start(cluster="nowhere")


def test_what_cannot_be_reached_is_named_with_its_side(bench, shop, monkeypatch):
    monkeypatch.setenv(wire.ENV_AGENT_TOKEN, "t" * 20)
    url = f"http://127.0.0.1:{free_port()}"
    known = [
        Cluster(id="off", base_url=url),
        Cluster(id="wrong", base_url=shop.url),
        Cluster(id="hand", kind="external"),
    ]
    bench._backend.control.clusters = Clusters(known)
    test = bench.create_test("far", scripts.STEADY, target_url=shop.url, check=False)
    with pytest.raises(RunFailed, match=f"this machine cannot reach cluster off at {url} .Connection refused"):
        test.start(cluster="off")
    with pytest.raises(RunFailed, match="cluster wrong"):
        test.start(cluster="wrong")
    with pytest.raises(Conflict, match="on cluster hand Locust is started by hand"):
        test.start(cluster="hand")
    with pytest.raises(InvalidInput, match="leave workers out"):
        test.start(cluster="off", workers=2)
    states = {entry.status for entry in bench.test("far").record.recent_runs}
    assert states == {RunStatus.FAILED}
    monkeypatch.delenv(wire.ENV_AGENT_TOKEN)
    with pytest.raises(RunFailed, match="there is no token for cluster off: set LOADBENCH_AGENT_TOKEN"):
        test.start(cluster="off")


def loadbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadbench.cli", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("--master", "--bind", "0.0.0.0"), ("--worker", "--master-host", "10.1.2.3")],
    ids=["master", "worker"],
)
def test_an_agent_that_others_can_reach_needs_a_token(arguments):
    done = loadbench("agent", *arguments)
    assert done.returncode == 2
    assert "other machines can reach" in done.stderr
    assert "set LOADBENCH_AGENT_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_short_token_and_a_port_that_is_taken_are_refused(shop, monkeypatch):
    done = loadbench("agent", "--master", "--web-port", str(shop.port))
    assert done.returncode == 6
    assert f"cannot listen on 127.0.0.1:{shop.port}" in done.stderr
    monkeypatch.setenv(wire.ENV_AGENT_TOKEN, "short")
    assert "at least 16 characters" in loadbench("agent", "--master").stderr


def test_the_command_line_lists_clusters(tmp_path, monkeypatch):
    (tmp_path / "loadbench.toml").write_text(FILE.replace("10.1.2.3:8090", f"127.0.0.1:{free_port()}"))
    monkeypatch.setenv("LOADBENCH_CONFIG", str(tmp_path / "loadbench.toml"))
    monkeypatch.setenv("LAB_TOKEN", "x" * 20)
    done = loadbench("clusters")
    assert done.returncode == 0
    assert done.stdout.startswith("lab [cluster at http://127.0.0.1:")
    assert "this machine cannot reach cluster lab" in done.stdout
    assert "\nlocal [local]\n" in done.stdout
