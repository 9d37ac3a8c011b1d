"""A persistent cluster of one master and two workers: run after run, each on its own script, and nobody restarts it."""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Iterator

import pytest
import requests

from loadbench.agent import wire
from loadbench.clusters import Clusters
from loadbench.errors import Conflict, RunFailed
from loadbench.model import Cluster, RunStatus
from tests import scripts
from tests.agents import TOKEN_ENV, Agents
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    with Agents(tmp_path_factory.mktemp("cluster")) as agents:
        agents.start_master()
        for _ in range(2):
            agents.start_worker()
        yield agents


@pytest.fixture
def lab(agents: Agents, bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agents]:
    """The cluster, known to the workbench as `lab`, idle and with both workers."""
    monkeypatch.setenv(TOKEN_ENV, agents.token)
    bench._backend.control.clusters = Clusters([Cluster(id="lab", base_url=agents.url, token_env=TOKEN_ENV)])
    wait_until(lambda: is_idle(agents), within_s=30, message=f"the cluster is not idle\n{agents.logs()}")
    yield agents
    print(agents.logs())  # noqa: T201 - pytest shows it when the test failed


def ask(agents: Agents, path: str, *, token: str | None = None, method: str = "GET", **options) -> requests.Response:
    headers = {"Authorization": f"Bearer {agents.token if token is None else token}"} | options.pop("headers", {})
    return requests.request(method, agents.url + path, headers=headers, timeout=10, **options)


def state(agents: Agents) -> dict:
    return ask(agents, f"{wire.AGENT_PREFIX}/state").json()


def is_idle(agents: Agents) -> bool:
    now = state(agents)
    return now["run"] is None and [worker["runId"] for worker in now["workers"]] == [None, None]


def start(bench, shop, script, **options):
    test = bench.create_test("clustered", script, target_url=shop.url, users=4, spawn_rate=10, check=False)
    return test.start(**{"duration": "2s", "cluster": "lab", **options})


def check_exact(run, shop, before=(0, 0)):
    """The figures are those of the shop, and both workers had the bytes of the revision."""
    assert run.record.completeness == "complete"
    served, failed = shop.total()
    requests_, failures = run.record.last_metrics.cum_requests, run.record.last_metrics.cum_failures
    assert (requests_, failures) == (served - before[0], failed - before[1])
    assert requests_ > 0
    environment = run.record.environment
    sha256 = hashlib.sha256(run._store.script_revisions.get(run.record.script_revision_id).script).hexdigest()
    assert (environment.script_sha256, environment.worker_sha256s) == (sha256, (sha256,))
    assert environment.workers == 2


def test_runs_of_different_scripts_follow_each_other(bench, shop, lab):
    pids = [agent.pid for agent in (lab.master, *lab.workers)]
    served = (0, 0)
    for script in (scripts.STEADY, scripts.STEADY.replace("/api/products", "/api/search?q=lamp"), scripts.STEADY):
        run = start(bench, shop, script).wait()
        assert run.status is RunStatus.FINISHED
        assert run.record.stop_reason == "duration"
        check_exact(run, shop, served)
        names = {endpoint.name for endpoint in run.record.endpoints}
        assert names == ({"/api/search?q=lamp"} if "lamp" in script else {"/api/products"})
        assert run.record.process is None
        served = shop.total()
    assert {worker["pid"] for worker in state(lab)["workers"]} == set(pids[1:])
    assert all(agent.process.poll() is None for agent in (lab.master, *lab.workers))


CLASSES = """
from locust import HttpUser, LoadTestShape, constant, task

class Steps(LoadTestShape):
    def tick(self):
        return (8, 100) if self.get_run_time() < 2 else None

class Visitor(HttpUser):
    weight = 3
    wait_time = constant(0.1)

    @task
    def browse(self):
        self.client.get("/api/products", name=f"visitor on {self.environment.runner.worker_index}")

class Buyer(HttpUser):
    weight = 1
    wait_time = constant(0.1)

    @task
    def buy(self):
        self.client.get("/api/products", name=f"buyer on {self.environment.runner.worker_index}")
"""

LISTENING = (
    scripts.STEADY
    + """
import os
from locust import events

@events.test_start.add_listener
@events.test_stop.add_listener
@events.request.add_listener
def heard(**_):
    with open(NOTES, "a") as notes:
        notes.write(f"{os.getpid()}\\n")

@events.test_start.add_listener
def later(environment, **_):
    environment.events.spawning_complete.add_listener(heard)
"""
)


@pytest.mark.long
def test_a_shape_and_weighted_classes_decide_the_load(bench, shop, lab):
    run = start(bench, shop, CLASSES, duration="30s").wait()
    assert (run.status, run.record.stop_reason) == (RunStatus.FINISHED, "shape")
    check_exact(run, shop)
    assert set(run.record.environment.user_classes) == {"Visitor", "Buyer"}
    names = {endpoint.name for endpoint in run.record.endpoints}
    assert {"visitor on 0", "visitor on 1"} < names <= {f"{who} on {i}" for who in ("visitor", "buyer") for i in (0, 1)}
    summary = run.summary()
    buyers = summary[summary["name"].str.startswith("buyer")]["requests"].sum()
    assert 0.15 < buyers / summary["requests"].iloc[-1] < 0.35
    again = start(bench, shop, scripts.STEADY).wait()
    assert again.record.stop_reason == "duration"
    assert [e.name for e in again.record.endpoints] == ["/api/products"]


@pytest.mark.long
def test_listeners_and_target_of_the_last_script_are_gone(bench, shop, lab, tmp_path):
    from loadbench.demo_target import ShopServer

    notes = tmp_path / "notes"
    start(bench, shop, LISTENING.replace("NOTES", repr(str(notes)))).wait()
    pids = {agent.pid for agent in (lab.master, *lab.workers)}
    assert {int(line) for line in notes.read_text().split()} == pids
    size, served = notes.stat().st_size, shop.total()
    with ShopServer(port=0, seed=2) as other:
        run = start(bench, other, scripts.STEADY).wait()
        check_exact(run, other)
    assert notes.stat().st_size == size
    assert shop.total() == served


BAD = {
    "on-a-worker": (
        "import sys\nif '--worker' in sys.argv: raise ImportError('only the workers lack it')\n" + scripts.STEADY,
        r"worker \S+ \(pid \d+\): line 2: ImportError: only the workers lack it",
    ),
    "on-the-master": (
        "import no_such_module\n",
        r"master of cluster lab: line 1: ModuleNotFoundError: .*no_such_module",
    ),
    "no-user": ("import locust\n", "No User class found"),
    "exits": ("import sys\nsys.exit(3)\n" + scripts.STEADY, r"ended the process \(exit code 3\)"),
    "init": (scripts.FAILS_AT_START, "RuntimeError: the test data is missing"),
    "init-on-a-worker": (
        scripts.FAILS_AT_START.replace("    raise", "    import sys\n    if '--worker' in sys.argv: raise"),
        r"worker \S+ \(pid \d+\): .*RuntimeError: the test data is missing",
    ),
    "routes": (
        scripts.STEADY
        + "\nfrom locust import events\n@events.init.add_listener\ndef add(environment, web_ui, **_):\n"
        + "    web_ui and web_ui.app.route('/mine')(lambda: 'mine')\n",
        "adds routes to Locust's web interface.*local cluster",
    ),
    "arguments": (
        scripts.STEADY
        + "\nfrom locust import events\n@events.init_command_line_parser.add_listener\ndef add(parser):\n"
        + "    parser.add_argument('--shop', required=True)\n",
        "required: --shop",
    ),
}


@pytest.mark.parametrize(("script", "why"), BAD.values(), ids=BAD)
def test_a_script_that_cannot_be_loaded_fails_its_run_and_nothing_else(bench, shop, lab, script, why):
    run = start(bench, shop, script)
    with pytest.raises(RunFailed, match=why):
        run.wait()
    assert run.record.stop_reason == "error"
    assert "\n" not in run.record.error
    assert shop.total() == (0, 0)
    assert all(agent.process.poll() is None for agent in (lab.master, *lab.workers))


def test_after_bad_scripts_a_good_one_runs(bench, shop, lab):
    check_exact(start(bench, shop, scripts.STEADY).wait(), shop)


def test_a_person_stops_a_run(bench, shop, lab):
    run = start(bench, shop, scripts.STEADY, duration="60s")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    with pytest.raises(Conflict, match=f"lab cannot take the run: it is busy with {run.id}"):
        start(bench, shop, scripts.STEADY)
    newest = bench.test("clustered").record.recent_runs[0]
    assert (newest.status, newest.run_id != run.id) == (RunStatus.FAILED, True)
    run.stop().wait()
    assert (run.status, run.record.stop_reason) == (RunStatus.STOPPED, "user")
    check_exact(run, shop)


def test_a_stop_that_the_agent_did_not_hear_comes_with_the_answer_to_a_push(bench, shop, lab, store):
    run = start(bench, shop, scripts.STEADY, duration="60s")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    store.runs.move(run.id, RunStatus.STOPPING, stop_reason="user")
    run.wait()
    assert run.status is RunStatus.STOPPED
    check_exact(run, shop)


def test_a_run_is_stopped_while_its_script_is_loaded(bench, shop, lab):
    run = start(bench, shop, "import time\ntime.sleep(1)\n" + scripts.STEADY, duration="60s")
    run.stop().wait()
    assert run.status is RunStatus.STOPPED
    assert shop.total() == (0, 0)


@pytest.mark.long
def test_users_that_resist_do_not_keep_the_cluster_busy(bench, shop, lab):
    run = start(bench, shop, scripts.STUCK, duration="2s")
    run.wait()
    assert run.status in (RunStatus.FINISHED, RunStatus.STOPPED)
    wait_until(lambda: is_idle(lab), within_s=40, message="still busy")
    served = shop.total()
    check_exact(start(bench, shop, scripts.STEADY).wait(), shop, served)


@pytest.mark.long
def test_a_worker_that_joins_during_a_run_gets_the_script_and_users(bench, shop, lab):
    run = start(bench, shop, CLASSES.replace("< 2", "< 60"), duration="60s")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    late = lab.start_worker()
    try:
        wait_until(
            lambda: any("on 2" in e.name for e in run.refresh().record.endpoints), within_s=30, message="no users on it"
        )
        run.stop().wait()
        served = shop.total()
        assert (run.record.last_metrics.cum_requests, run.record.last_metrics.cum_failures) == served
        assert run.record.completeness == "complete"
        late.wait_for("no run yet", times=2)
    finally:
        late.end()
        lab.workers.remove(late)


@pytest.mark.long
def test_a_killed_worker_is_told_of(bench, shop, lab):
    run = start(bench, shop, scripts.STEADY, duration="8s")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    lab.workers[1].end(signal.SIGKILL)
    lab.workers.pop()
    run.wait()
    assert (run.status, run.record.workers_lost) == (RunStatus.FINISHED, 1)
    assert run.record.last_metrics.cum_requests > 0.5 * shop.total()[0]
    lab.start_worker()
    wait_until(lambda: is_idle(lab), within_s=30, message="not two workers again")


def test_a_restarted_kernel_finds_the_run_again(bench, shop, lab, store):
    from loadbench.workbench import Workbench

    run = start(bench, shop, scripts.STEADY, duration="8s")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    clusters = bench._backend.control.clusters
    bench.close()
    again = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, clusters=clusters)
    try:
        found = again.test("clustered").active_run()
        assert found.id == run.id
        assert found.wait().status is RunStatus.FINISHED
        check_exact(found, shop)
    finally:
        again.close()


def test_nobody_gets_in_without_the_token(lab):
    assert ask(lab, f"{wire.AGENT_PREFIX}/state", token="wrong").status_code == 401
    assert ask(lab, f"{wire.AGENT_PREFIX}/runs", token="wrong", method="POST", json={}).status_code == 401
    origin = {"Origin": "http://evil.example"}
    assert ask(lab, f"{wire.AGENT_PREFIX}/state", headers=origin).status_code == 403
    for path, method in (("/", "GET"), ("/swarm", "POST"), ("/stop", "POST"), ("/stats/requests", "GET")):
        assert ask(lab, path, token="", method=method).status_code == 401
        assert ask(lab, path, method=method).status_code == 404
    assert "target" not in lab.master.said
    assert lab.token not in lab.logs()


@pytest.mark.parametrize(
    ("field", "value"),
    [("script", "%"), ("sha256", "0" * 64), ("users", 0), ("users", True), ("spawnRate", -1), ("runId", "../x"),
     ("receiverUrl", "file:///etc/passwd"), ("durationSec", "5"), ("arguments", "--x")],
)  # fmt: skip
def test_an_order_that_cannot_be_used_names_its_field(lab, field, value):
    import base64

    good = {
        "runId": "run-1", "script": base64.b64encode(b"x").decode(), "sha256": hashlib.sha256(b"x").hexdigest(),
        "receiverUrl": "http://127.0.0.1:1", "pushToken": "t", "targetUrl": "http://127.0.0.1:1", "users": 1,
        "spawnRate": 1, "durationSec": 1, "stopTimeoutSec": 1,
    }  # fmt: skip
    answer = ask(lab, f"{wire.AGENT_PREFIX}/runs", method="POST", json=good | {field: value})
    assert answer.status_code == 400
    assert field in answer.json()["detail"]
    assert is_idle(lab)


@pytest.fixture
def lonely(tmp_path, bench, monkeypatch) -> Iterator[Agents]:
    """A master without workers, known as `lonely`."""
    with Agents(tmp_path) as agents:
        agents.start_master()
        monkeypatch.setenv(TOKEN_ENV, agents.token)
        bench._backend.control.clusters = Clusters([Cluster(id="lonely", base_url=agents.url, token_env=TOKEN_ENV)])
        yield agents
        print(agents.logs())  # noqa: T201 - pytest shows it when the test failed


OTHER_VERSION = """
import sys, locust
locust.__version__ = "2.46.7"
from loadbench.agent import host
sys.argv = ["host", "--worker", "--directory", DIRECTORY, *sys.argv[1:]]
host.main()
"""


def test_a_master_without_workers_that_it_can_use_is_refused(bench, shop, lonely):
    with pytest.raises(Conflict, match="lonely cannot take the run: it has no workers: start one with"):
        start(bench, shop, scripts.STEADY, cluster="lonely")
    assert bench.test("clustered").record.recent_runs[0].status is RunStatus.FAILED
    code = OTHER_VERSION.replace("DIRECTORY", repr(str(lonely.directory / "other")))
    other = lonely.start_worker([sys.executable, "-c", code])
    other.wait_for("it has Locust 2.46.7, this master 2.47.0")
    assert other.process.wait(20) == 1
    token, lonely.token = lonely.token, "x" * 32
    stranger = lonely.start_worker()
    lonely.token = token
    stranger.wait_for("LOADBENCH_AGENT_TOKEN is not that of this master")
    assert stranger.process.wait(20) == 1
    with pytest.raises(
        Conflict, match=r"no workers .*Locust 2\.46\.7, this master 2\.47\.0; install the same versions"
    ):
        start(bench, shop, scripts.STEADY, cluster="lonely")
    assert shop.total() == (0, 0)


@pytest.mark.long
def test_workers_find_a_new_master_and_its_spool_is_delivered(bench, shop, lonely):
    worker = lonely.start_worker()
    worker.wait_for("no run yet")
    run = start(bench, shop, scripts.STEADY, duration="60s", cluster="lonely")
    wait_until(lambda: run.refresh().record.last_metrics, within_s=30, message="no load")
    receiver, served = bench._backend.receiver, shop.total()[0]
    receiver.stop()
    known = len(run._documents())
    wait_until(lambda: shop.total()[0] > served + 200, within_s=30, message="no load")  # about 3 s of it
    lonely.master.end(signal.SIGKILL)
    receiver.start()
    lonely.start_master()
    with pytest.raises(RunFailed, match="knows nothing of"):
        run.wait()
    assert (run.status, run.record.stop_reason) == (RunStatus.FAILED, "lost")
    assert len(run._documents()) >= known + 2
    worker.wait_for("no run yet", times=2, within_s=60)
    assert worker.process.poll() is None
    before = shop.total()
    again = start(bench, shop, scripts.STEADY, cluster="lonely").wait()
    assert again.record.last_metrics.cum_requests == shop.total()[0] - before[0]


OWN_ARGUMENTS = """
from locust import HttpUser, constant, events, task

@events.init_command_line_parser.add_listener
def mine(parser):
    parser.add_argument("--shop", default="none")
    parser.add_argument("--vip", action="store_true")

class Shopper(HttpUser):
    wait_time = constant(0.05)

    @task
    def browse(self):
        options = self.environment.parsed_options
        self.client.get("/api/products", name=f"{options.shop} {options.vip}")
"""


@pytest.mark.long
@pytest.mark.parametrize("where", [{"cluster": "lab"}, {"cluster": "local", "workers": 1}], ids=["cluster", "local"])
def test_the_script_s_own_arguments_get_their_values(bench, shop, lab, where):
    run = start(bench, shop, OWN_ARGUMENTS, arguments={"shop": "corner shop", "vip": True}, **where).wait()
    assert [endpoint.name for endpoint in run.record.endpoints] == ["corner shop True"]
    assert run.record.arguments == ("--shop=corner shop", "--vip")
    run = start(bench, shop, OWN_ARGUMENTS, **where).wait()
    assert [endpoint.name for endpoint in run.record.endpoints] == ["none False"]
