"""Runs that somebody else starts: by the printed command, with the real plugin, on real Locust."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loadbench import external, sheets
from loadbench.catalogue import etag
from loadbench.errors import Conflict, InvalidInput, RunFailed
from loadbench.model import RunStatus, Scope
from tests import scripts
from tests.api_client import Agent
from tests.waiting import wait_until


@pytest.fixture
def by_hand(tmp_path):
    """Do what a person does with the printed command: put the script there, paste, press return."""
    started = []

    def start(command: str) -> subprocess.Popen:
        (tmp_path / "locustfile.py").write_text(scripts.STEADY)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (tmp_path / "out.log").open("wb") as log:
            shell = subprocess.Popen(
                ["/bin/sh"],
                cwd=tmp_path,
                env=os.environ | {"PATH": path},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        shell.stdin.write(f"{command}\n".encode())
        shell.stdin.close()
        started.append(shell)
        return shell

    yield start
    for shell in started:
        for child in psutil.Process(shell.pid).children(recursive=True) if shell.poll() is None else []:
            child.kill()
        shell.wait(timeout=10)


def test_a_run_started_by_hand_is_recorded_exactly(bench, shop, by_hand, tmp_path, store):
    test = bench.create_test("by hand", scripts.STEADY, target_url=shop.url, users=4, spawn_rate=4, check=False)
    registered = test.register_external(duration="3s", notes="from the lab")
    run, token, command = registered
    assert run.record.origin == "external"
    assert token in command
    assert token not in command.partition(" -m loadbench.agent")[2]
    assert token not in repr(registered)
    assert "started elsewhere" in repr(run)
    shell = by_hand(command)
    wait_until(lambda: run.refresh().status is RunStatus.RUNNING, within_s=20, message="it did not begin")
    lines = [" ".join(child.cmdline()) for child in psutil.Process(shell.pid).children(recursive=True)]
    assert any("loadbench.agent" in line for line in lines)
    assert not any(token in line for line in lines)
    run.wait()
    assert (run.status, run.record.stop_reason, run.record.completeness) == ("Finished", "duration", "complete")
    total = run.summary().iloc[-1]
    assert (int(total["requests"]), int(total["failures"])) == shop.total()
    assert total["requests"] > 50
    assert run.record.environment.user_classes == ("Shopper",)
    assert list(test.runs().index) == [run.id]
    assert shell.wait(timeout=20) == 0, (tmp_path / "out.log").read_text()
    assert "started elsewhere" in repr(sheets.settings(run))


def test_a_run_of_no_test_is_stopped_from_here(bench, shop, by_hand):
    registered = bench.register_external("elsewhere", target_url=shop.url, users=2, spawn_rate=2, duration="60s")
    by_hand(registered.command)
    run = registered.run
    wait_until(lambda: shop.total()[0] > 20, within_s=20, message="the load did not begin")
    run.stop().wait()
    assert (run.status, run.record.stop_reason, run.record.completeness) == ("Stopped", "user", "complete")
    assert int(run.summary().iloc[-1]["requests"]) == shop.total()[0]


def test_a_registered_run_that_nobody_starts_waits_and_then_fails(bench, shop, store, monkeypatch):
    registered = bench.register_external("forgotten", target_url=shop.url)
    run, control = registered.run, bench._backend.control
    control.reconcile()
    assert run.refresh().status is RunStatus.PENDING
    monkeypatch.setattr("loadbench.control.START_WITHIN_S", 0)
    with pytest.raises(RunFailed, match="nobody started it within 0 minutes: register it again"):
        wait_until(lambda: run.refresh().record.is_over, within_s=10, message="it still waits") and run.wait()
    assert store.tokens.run_of(registered.token) is None
    assert Agent(bench._backend.receiver.url, registered.token).start(run.id).status_code == 401


def test_a_registered_run_that_is_stopped_before_anybody_starts_it(bench, shop, store):
    registered = bench.register_external("withdrawn", target_url=shop.url)
    assert registered.run.stop().status is RunStatus.STOPPED
    assert store.tokens.run_of(registered.token) is None
    with pytest.raises(Conflict):
        registered.run.stop()
    registered.run.delete()


def test_one_that_has_begun_and_falls_silent_is_lost(bench, shop, store):
    registered = bench.register_external("silent", target_url=shop.url)
    agent, run = Agent(bench._backend.receiver.url, registered.token), registered.run
    assert agent.start(run.id).status_code == 201
    assert agent.push(run.id, 0).status_code == 201
    bench._backend.control.reconcile()
    assert run.refresh().status is RunStatus.RUNNING
    lease_ms = run.record.lease_expires_at
    assert lease_ms <= time.time() * 1000 + 30_000
    store.runs.update(run.id, lease_expires_at=int(time.time() * 1000) - 1)
    wait_until(lambda: run.refresh().record.is_over, within_s=10, message="it is still Running")
    assert (run.status, run.record.stop_reason) == ("Failed", "lost")
    assert agent.stop(run.id, 1).status_code == 201  # its end arrives after all
    assert (run.refresh().status, run.record.completeness) == ("Finished", "complete")


def test_what_cannot_be_registered(bench, shop, store):
    test = bench.create_test("short", scripts.STEADY, target_url=shop.url, max_duration="60s", check=False)
    control, scope = bench._backend.control, Scope.parse("acme/shop/checkout")
    for owner, parameters, word in (
        (test.record, {"duration_sec": 61}, "over the maximum"),
        (test.record, {"users": 0}, "targetUsers|target_users"),
        (scope, {"target_url": shop.url}, "name is needed"),
        (scope, {"name": "x"}, "target_url is needed"),
        (scope, {"name": "x", "target_url": "shop"}, "target"),
    ):
        with pytest.raises(InvalidInput, match=word):
            control.register_external(owner, by="ann", **parameters)
    assert store.database.load_test_runs.count_documents({}) == 0
    assert store.database.tokens.count_documents({}) == 0


def test_a_command_is_safe_to_paste(bench):
    registered = bench.register_external("odd", target_url="http://shop.example/a;rm -rf $HOME'x".replace(" ", "%20"))
    shown = subprocess.run(
        ["/bin/sh", "-c", "set -- " + registered.command.partition(" python ")[2] + '; printf "%s\\n" "$@"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[shown.index("--host") + 1] == registered.run.record.target_url
    assert external.command_line(registered.run.record, "t").startswith("LOADBENCH_RECEIVER_URL=http://127.0.0.1:")


def test_the_notebooks_verbs(bench, shop, store):
    test = bench.create_test("verbs", scripts.STEADY, target_url=shop.url, check=False)
    other = bench.test("verbs")
    test.update(users=9, duration="2m", description="more", tags=["nightly"])
    assert (test.record.default_users, test.record.default_duration_sec, test.record.tags) == (9, 120, ("nightly",))
    with pytest.raises(Conflict, match="was changed by somebody else"):
        other.update(users=1)
    assert etag(bench.test("verbs").record) == etag(test.record)
    run = test.start(duration="1s", users=1)
    run.annotate(name="first", notes="cold", tags=["x"])
    with pytest.raises(Conflict, match="stop it"):
        run.delete()
    run.wait()
    assert (run.record.name, run.record.notes, run.record.tags) == ("first", "cold", ("x",))
    assert len(test.baseline()) == 0
    test.set_baseline(run)
    assert test.baseline().ids == [run.id]
    with pytest.raises(Conflict, match="baseline"):
        run.delete()
    test.set_baseline(run.id[:10]).remove_baseline()
    folder = Path(run.record.process.directory)
    assert folder.is_dir()
    run.delete()
    assert not folder.exists()
    test.delete()
    assert bench.tests().empty


def test_retention_is_applied_by_the_supervisor(bench, shop, store, monkeypatch, tmp_path):
    test = bench.create_test("old", scripts.STEADY, target_url=shop.url, check=False)
    run = test.start(duration="1s")
    run.wait()
    aged = int(time.time() * 1000) - 3 * 24 * 3600 * 1000
    store.database.load_test_runs.update_one({"_id": run.id}, {"$set": {"finishedAt": aged, "createdAt": aged}})
    bench.close()
    monkeypatch.setenv("LOADBENCH_RETENTION_DAYS", "0")
    from loadbench.workbench import Workbench

    with pytest.raises(InvalidInput, match="LOADBENCH_RETENTION_DAYS must be whole days"):
        Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, port=0)
    monkeypatch.setenv("LOADBENCH_RETENTION_DAYS", "2")
    again = Workbench("acme/shop/checkout", env="test", mongodb_uri=store.uri, port=0)
    try:
        found = again.run(run.id)
        wait_until(lambda: not store.ledger.documents(run.id), within_s=10, message="its intervals are still there")
        assert found.refresh().record.purged_at is not None  # said before they were deleted
        with pytest.raises(LookupError, match="were deleted by retention: only its summary is left"):
            found.timeline()
        assert int(found.summary().iloc[-1]["requests"]) == shop.total()[0]
        assert "its intervals were deleted" in repr(found)
        assert "only its summary is left" in repr(sheets.run_headline(found))
        assert f"requests {shop.total()[0]:,}" in repr(sheets.figures(found, window="whole"))
    finally:
        again.close()
