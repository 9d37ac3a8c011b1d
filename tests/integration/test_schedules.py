"""Schedules as people make them: in a notebook, on the command line, over REST; and one that really runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadbench.errors import InvalidInput
from loadbench.model import now_ms
from server.app import Receiver
from tests.builders import a_run, a_test
from tests.rest_client import Client, a_token
from tests.scripts import STEADY
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def command(store, tmp_path):
    """Run `loadbench schedule ...` on the test run's MongoDB, in this process, and give exit code and output."""

    def run(capsys, *arguments: object) -> tuple[int, str, str]:
        from loadbench.cli import main

        code = main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    os.environ["LOADBENCH_MONGODB_URI"] = store.uri
    yield run
    del os.environ["LOADBENCH_MONGODB_URI"]


def a_scripted_test(store, **changes):
    test = store.load_tests.add(a_test(**changes))
    store.script_revisions.add(test.id, STEADY.encode())
    return test


def test_on_the_command_line_from_add_to_remove(store, command, capsys):
    a_scripted_test(store)
    scope = ("--scope", "acme/shop/checkout")

    def schedule(*arguments: object) -> tuple[int, str, str]:
        return command(capsys, "schedule", *arguments, *scope)

    code, out, _ = schedule("add", "products", "0 2 * * 1-5", "--timezone", "Europe/Berlin", "--report", "summary")
    assert code == 0
    assert out.count(" 02:00 +0") == 4  # next, and the next three
    assert "while `loadbench serve` runs" in out
    made = json.loads(schedule("list", "--json")[1])
    assert [(one["name"], one["cron"], one["reports"]) for one in made] == [("products", "0 2 * * 1-5", ["summary"])]
    assert "off" in schedule("disable", "products")[1]
    assert store.schedules.get(made[0]["id"]).next_fire_at is None
    assert "next:" in schedule("enable", "products")[1]
    assert "has not fired yet" in schedule("history", "products")[1]
    assert json.loads(schedule("run-now", made[0]["id"], "--json")[1])["fireAskedAt"] <= now_ms()
    assert schedule("remove", "products")[0] == 0
    assert json.loads(schedule("list", "--json")[1]) == []
    for arguments, code, words in (
        (("add", "products", "0 26 * * *"), 2, "bad hour"),
        (("add", "products", "0 2 * * *", "--timezone", "Berlin"), 2, "did you mean Europe/Berlin?"),
        (("add", "products", "0 2 * * *", "--users", "0"), 2, "users"),
        (("add", "products", "0 2 * * *", "--report", "weekly"), 2, "summary, comparison, trend"),
        (("add", "cart", "0 2 * * *"), 3, "'products'"),
        (("remove", "products"), 3, "none yet"),
    ):
        failed = schedule(*arguments)
        assert (failed[0], failed[2].count("\n")) == (code, 1)
        assert words in failed[2]


def test_in_a_notebook(bench):
    test = bench.create_test("products", STEADY, target_url="http://127.0.0.1:8000", check=False)
    nightly = test.schedule("30 2 * * *", timezone="Europe/Berlin", name="nightly", report=True, users=5, duration="2m")
    assert repr(nightly).startswith(
        "<Schedule nightly: 30 2 * * * (Europe/Berlin), starts a run, summary report; next "
    )
    assert list(nightly.upcoming()["local_time"].str[-11:-6]) == ["02:30"] * 3
    again = test.schedule("30 2 * * *", timezone="Europe/Berlin", name="nightly", report=True, users=9)
    assert (again.record.id, again.record.run.target_users) == (nightly.record.id, 9)
    test.schedule("0 8 * * 1", name="weekly", starts_run=False, report=True)
    listed = bench.schedules()
    assert list(listed["name"]) == ["nightly", "weekly"]
    assert list(listed["reports"]) == ["summary", "trend"]
    assert list(listed["test"]) == ["products"] * 2
    assert bench.schedule("nightly").disable().record.next_fire_at is None
    assert bench.schedules()["next_fire_at"].isna().tolist() == [True, False]
    assert bench.schedule("nightly").enable().history().empty
    bench.schedule("weekly").remove()
    assert len(bench.schedules()) == 1
    for wrong, field in (({"users": 0}, "users"), ({"user": 1}, "a parameter"), ({"duration": "3h"}, "duration")):
        with pytest.raises(InvalidInput, match=field):
            test.schedule("0 2 * * *", **wrong)


def test_over_rest_a_runner_makes_and_switches_and_an_admin_removes(store):
    test = a_scripted_test(store)
    with Receiver(store) as receiver:
        runner, admin = (Client(receiver.url, a_token(store, role)) for role in ("runner", "admin"))
        body = {"name": "nightly", "loadTestId": test.id, "cron": "0 2 * * *", "timezone": "Europe/Berlin"}
        body |= {"run": {"targetUsers": 3, "spawnRate": 1}, "reports": ["summary"]}
        made = runner.post("/v1/schedules", body)
        assert made.status_code == 201
        url = made.headers["Location"]
        assert runner.get(url).json() == made.json()
        assert (made.json()["accountId"], made.json()["createdBy"]) == ("acme", "a runner")
        assert runner.post("/v1/schedules", body).status_code == 409
        assert [one["name"] for one in runner.get("/v1/schedules").json()["items"]] == ["nightly"]
        assert runner.get("/v1/schedules", loadTestId="test-other").json()["items"] == []
        assert "nextFireAt" not in runner.patch(url, {"enabled": False}).json()
        assert runner.send("POST", f"{url}/firings").status_code == 202
        assert runner.get(f"{url}/firings").json() == {"items": []}
        for changes, field in (
            ({"cron": "every day"}, "cron"),
            ({"timezone": "Berlin"}, "timezone"),
            ({"run": {"targetUsers": 0}}, "run.targetUsers"),
            ({"run": {"durationSec": 7200}}, "durationSec"),
            ({"reportDirectory": "../../etc"}, "reportDirectory"),
            ({"reportDirectory": "/etc"}, "reportDirectory"),
            ({"run": None, "reports": []}, None),
        ):
            refused = runner.post("/v1/schedules", body | {"name": "other"} | changes)
            assert (refused.status_code, refused.json().get("field")) == (400, field), refused.text
        assert runner.delete(url).status_code == 403
        assert admin.delete(url).status_code == 204
        assert runner.get(url).status_code == 404


@pytest.mark.long
@pytest.mark.timeout(400)
def test_serve_starts_what_is_due_and_its_report_appears(store, shop, tmp_path):
    """Real Locust on the sample shop, as `loadbench serve` does it at night."""
    from loadbench import schedules
    from loadbench.model import Schedule

    test = a_scripted_test(store, target_url=shop.url, default_users=2, default_spawn_rate=2.0, default_duration_sec=3)
    plan = schedules.planned_run(notes="by schedule")
    fields = {"name": "nightly", "load_test_id": test.id, "cron": "0 0 1 1 *", "run": plan, "reports": ("summary",)}
    kept = schedules.keep(store, Schedule.build(**dict(test.scope), **fields, report_directory=str(tmp_path / "out")))
    serve = [sys.executable, "-m", "loadbench.cli", "serve", "--port", "0"]
    environment = os.environ | {"LOADBENCH_MONGODB_URI": store.uri}
    servers = [
        subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)
    ]
    try:
        assert all("receiving on" in server.stdout.readline() for server in servers)
        store.schedules.update(kept.id, next_fire_at=now_ms() - 1000)
        done = wait_until(
            lambda: [one for one in store.schedules.history(kept.id) if one.outcome in ("done", "failed")],
            within_s=200,
            message="no firing came to its end",
        )[-1]
        assert (done.outcome, done.reason) == ("done", None)
        run = store.runs.get(done.run_id)
        assert (run.status.value, run.notes, run.created_by) == ("Finished", "by schedule", "schedule nightly")
        assert run.last_metrics.cum_requests > 0
        (report,) = map(Path, done.reports)
        assert report.parent == tmp_path / "out"
        assert run.id in report.read_text()
        assert [one.run_id for one in store.schedules.history(kept.id)] == [one.id for one in store.runs.find(limit=0)]
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(timeout=30) for server in servers]
        for server in servers:
            server.kill()
            server.stdout.close()
    assert codes == [0, 0]


def test_a_run_of_a_purged_test_is_there_for_history(store):
    """A firing's run may be deleted: its history stays, and says so."""
    from loadbench.control import ControlPlane
    from loadbench.model import Firing, PlannedRun, Schedule
    from loadbench.scheduler import LEASE_MS, Scheduler

    test = a_scripted_test(store)
    fields = {"name": "nightly", "load_test_id": test.id, "cron": "0 2 * * *", "run": PlannedRun()}
    kept = store.schedules.add(Schedule.build(**dict(test.scope), **fields))
    scheduler = Scheduler(store, ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9"))
    run, at = a_run(test), now_ms()
    store.schedules.claim(
        Firing(
            id=Firing.key(kept.id, at), schedule_id=kept.id, due_at=at, fired_at=at, host="box", run_id=run.id,
            outcome="started", owner="gone:1:1.0:0", lease_expires_at=at - LEASE_MS,
        )
    )  # fmt: skip
    scheduler.tick(at)
    (firing,) = store.schedules.history(kept.id)
    assert (firing.outcome, "was deleted" in firing.reason) == ("failed", True)
