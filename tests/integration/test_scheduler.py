"""Schedules on the real store, with the time given: what fires when, once, and what is said of what did not."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from loadbench import cron, schedules
from loadbench.catalogue import Catalogue
from loadbench.control import ControlPlane
from loadbench.errors import Conflict, InvalidInput, NotFound
from loadbench.model import Cluster, Firing, PlannedRun, RunStatus, Schedule, now_ms
from loadbench.report_process import ReportProcess
from loadbench.scheduler import LEASE_MS, Scheduler, owner_of, run_id_of
from loadbench.store import Store
from tests.builders import ENDPOINTS, a_run, a_test, an_interval
from tests.scripts import STEADY
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

HAND = Cluster(id="hand", kind="external", account_id="acme")
"""A run that is started there gets its record, and is Failed at once: no Locust, and one run for each start."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def a_scheduler(store: Store) -> Scheduler:
    return Scheduler(store, ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9", clusters=[HAND]))


@pytest.fixture
def test(store):
    test = store.load_tests.add(a_test(cluster_id="hand"))
    store.script_revisions.add(test.id, STEADY.encode())
    return test


def nightly(test, **changes) -> Schedule:
    fields = {"name": "nightly", "load_test_id": test.id, "cron": "0 2 * * *", "run": PlannedRun()}
    return Schedule.build(**(dict(test.scope) | fields | changes))


@pytest.fixture
def kept(store, test) -> Schedule:
    return schedules.keep(store, nightly(test))


def outcomes(store: Store, schedule: Schedule) -> list[tuple[int, str]]:
    return [(firing.due_at - schedule.next_fire_at, firing.outcome) for firing in store.schedules.history(schedule.id)]


def runs_of(store: Store, test) -> list[str]:
    return [run.id for run in store.runs.find(load_test_id=test.id)]


class TestFiring:
    def test_not_before_its_time_and_then_once_with_the_next_time_set(self, store, test, kept):
        scheduler, due = a_scheduler(store), kept.next_fire_at
        scheduler.tick(due - 1)
        assert store.schedules.history(kept.id) == []
        for later in (0, 1, 1000, 59_000):
            scheduler.tick(due + later)
        (firing,) = store.schedules.history(kept.id)
        assert (firing.due_at, firing.fired_at) == (due, due)
        assert runs_of(store, test) == [run_id_of(firing)] == [firing.run_id]
        assert store.schedules.get(kept.id).next_fire_at == due + DAY

    def test_the_run_is_as_planned_and_the_rest_is_the_tests_at_that_moment(self, store, test):
        plan = schedules.planned_run(users=7, duration_sec=9, run_name="by night", tags=("n",), arguments={"shop": "a"})
        kept = schedules.keep(store, nightly(test, run=plan))
        store.load_tests.update(test.id, default_spawn_rate=3.0)
        a_scheduler(store).tick(kept.next_fire_at)
        (run,) = store.runs.find(load_test_id=test.id)
        assert (run.target_users, run.duration_sec, run.spawn_rate, run.name) == (7, 9, 3.0, "by night")
        assert (run.tags, run.arguments, run.created_by) == (("n",), ("--shop=a",), "schedule nightly")

    def test_a_start_that_fails_is_said_on_the_firing_and_on_the_schedule(self, store, test, kept):
        a_scheduler(store).tick(kept.next_fire_at)
        (firing,) = store.schedules.history(kept.id)
        assert (firing.outcome, firing.finished_at) == ("failed", kept.next_fire_at)
        assert "started by hand" in firing.reason
        assert store.schedules.get(kept.id).last_error == f"failed: {firing.reason}"

    def test_in_spring_it_fires_at_three_and_in_autumn_once(self, store, test):
        for start, local in (("2027-03-28", "03:00 +0200"), ("2026-10-25", "02:30 +0200")):
            kept = schedules.keep(store, nightly(test, cron="30 2 * * *", timezone="Europe/Berlin", name=start))
            evening = cron.next_ms("0 12 * * *", "UTC", _ms(start) - DAY)
            first = cron.next_ms(kept.cron, kept.timezone, evening)
            kept = store.schedules.update(kept.id, next_fire_at=first)
            scheduler = a_scheduler(store)
            for at_ms in range(evening, evening + DAY, 10 * MINUTE):
                scheduler.tick(at_ms)
            assert [cron.shown(f.due_at, kept.timezone)[4:] for f in store.schedules.history(kept.id)] == [
                f"{start} {local}"
            ]

    def test_one_that_is_off_does_not_fire_and_switched_on_it_does_not_make_up(self, store, test, kept):
        off = schedules.set_enabled(store, kept, False, by="ann")
        scheduler = a_scheduler(store)
        scheduler.tick(kept.next_fire_at + 5 * DAY)
        on = schedules.set_enabled(store, off, True, by="ann")
        assert on.next_fire_at == kept.next_fire_at
        scheduler.tick(on.next_fire_at - 1)
        assert store.schedules.history(kept.id) == runs_of(store, test) == []

    def test_asked_for_it_fires_beside_its_times_even_if_it_is_off(self, store, test, kept):
        off = schedules.set_enabled(store, kept, False, by="ann")
        schedules.ask(store, off, by="ann")
        scheduler = a_scheduler(store)
        for _ in range(3):
            scheduler.tick(now_ms() + 1)
        assert len(runs_of(store, test)) == len(store.schedules.history(kept.id)) == 1
        assert store.schedules.get(kept.id).fire_asked_at is None

    def test_one_that_cannot_fire_leaves_the_others_alone(self, store, test, kept):
        store.database.schedules.update_one({"_id": kept.id}, {"$set": {"timezone": "Europe/Atlantis"}})
        other = schedules.keep(store, nightly(test, name="other"))
        a_scheduler(store).tick(kept.next_fire_at)
        assert len(store.schedules.history(other.id)) == 1
        assert "Europe/Atlantis" in store.schedules.get(kept.id).last_error


def _ms(day: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


class TestSeveralServers:
    def test_of_two_that_look_at_once_one_fires_each(self, store, test):
        kept = [schedules.keep(store, nightly(test, name=f"nightly {number}")) for number in range(15)]
        with Store.open(store.uri) as other, ThreadPoolExecutor(2) as pool:
            both, start = (a_scheduler(store), a_scheduler(other)), threading.Barrier(2)

            def look(scheduler: Scheduler) -> None:
                start.wait()
                scheduler.tick(kept[0].next_fire_at)

            list(pool.map(look, both))
        history = [store.schedules.history(schedule.id) for schedule in kept]
        assert [len(firings) for firings in history] == [1] * 15
        assert len(runs_of(store, test)) == 15
        assert {firing.outcome for (firing,) in history} == {"failed"}
        assert {schedule.next_fire_at for schedule in store.schedules.find()} == {kept[0].next_fire_at + DAY}

    def test_a_second_look_with_the_old_schedule_in_hand_fires_nothing(self, store, test, kept):
        scheduler = a_scheduler(store)
        scheduler.tick(kept.next_fire_at)
        a_scheduler(store)._fire_by_time(kept, kept.next_fire_at)
        assert len(runs_of(store, test)) == len(store.schedules.history(kept.id)) == 1


def claimed_by(store: Store, schedule: Schedule, owner: str) -> Firing:
    """What a server leaves that dies between taking a firing and starting its run."""
    due = schedule.next_fire_at
    firing = Firing(
        id=Firing.key(schedule.id, due), schedule_id=schedule.id, due_at=due, fired_at=due, host="elsewhere",
        owner=owner, lease_expires_at=due + LEASE_MS,
    )  # fmt: skip
    assert store.schedules.claim(firing)
    return firing


def a_finished_run(store: Store, test, **changes):
    """A run of 20 seconds that is over."""
    run = store.runs.add(a_run(test, **changes))
    store.runs.endpoint_indices(run.id, ENDPOINTS)
    for seq in range(20):
        store.ledger.append(an_interval(run.id, seq))
    store.runs.move(run.id, RunStatus.RUNNING)
    return store.runs.move(run.id, RunStatus.FINISHED)


@pytest.fixture
def dead() -> str:
    """The owner of firings that a process of this machine was, which has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{owner_of(child.pid)}:00"
    child.communicate(b"\n")
    return owner


class TestACrash:
    def test_before_the_start_is_a_miss_with_its_reason_and_nothing_is_started(self, store, test, kept, dead):
        claimed_by(store, kept, dead)
        scheduler = a_scheduler(store)
        for later in range(3):
            scheduler.tick(kept.next_fire_at + 1000 * later)
        (firing,) = store.schedules.history(kept.id)
        assert firing.outcome == "missed"
        assert "between taking it and starting it" in firing.reason
        assert runs_of(store, test) == []
        assert store.schedules.get(kept.id).next_fire_at == kept.next_fire_at + DAY

    def test_after_the_start_goes_on_with_that_run(self, store, test, kept, dead):
        firing = claimed_by(store, kept, dead)
        run = store.runs.add(a_run(test, id=run_id_of(firing)))
        scheduler = a_scheduler(store)
        scheduler.tick(kept.next_fire_at + 1)
        found = store.schedules.firing(firing.id)
        assert (found.outcome, found.run_id) == ("started", run.id)
        store.runs.move(run.id, RunStatus.RUNNING)
        store.runs.move(run.id, RunStatus.FINISHED)
        scheduler.tick(kept.next_fire_at + 2000)
        assert store.schedules.firing(firing.id).outcome == "done"
        assert runs_of(store, test) == [run.id]

    def test_on_another_machine_is_known_by_its_lease(self, store, test, kept):
        firing = claimed_by(store, kept, "elsewhere:1:1.0:00")
        scheduler = a_scheduler(store)
        scheduler.tick(kept.next_fire_at + LEASE_MS - 1)
        assert store.schedules.firing(firing.id).outcome == "claimed"
        scheduler.tick(kept.next_fire_at + LEASE_MS + 1)
        assert store.schedules.firing(firing.id).outcome == "missed"
        assert runs_of(store, test) == []

    def test_a_run_id_is_taken_once_whoever_starts_it(self, store, test, kept):
        firing = claimed_by(store, kept, "elsewhere:1:1.0:00")
        control = ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9", clusters=[HAND])
        for _ in range(2):
            with pytest.raises(Conflict):
                control.start_run(store.load_tests.get(test.id), by="late", run_id=run_id_of(firing))
        assert runs_of(store, test) == [run_id_of(firing)]


class TestAMiss:
    def test_within_the_grace_fires_once_for_the_latest_time(self, store, test):
        kept = schedules.keep(store, nightly(test, cron="*/10 * * * *"))
        back = kept.next_fire_at + 35 * MINUTE
        a_scheduler(store).tick(back)
        assert outcomes(store, kept) == [(30 * MINUTE, "failed"), (0, "missed")]
        assert len(runs_of(store, test)) == 1
        assert "no server kept schedules from then on for 35 min: it fires once" in _reason(store, kept)
        assert store.schedules.get(kept.id).next_fire_at == kept.next_fire_at + 40 * MINUTE

    @pytest.mark.parametrize(
        ("changes", "late", "fires", "words"),
        [
            ({}, 59 * MINUTE, True, None),
            ({}, 61 * MINUTE, False, "that is over its grace of 60 min"),
            ({"grace_sec": 600}, 11 * MINUTE, False, "that is over its grace of 10 min"),
            ({"grace_sec": 4 * 3600}, 3 * HOUR, True, None),
            ({"misfire": "skip"}, 2 * MINUTE, False, "misfire is skip"),
            ({"misfire": "skip"}, 59_000, True, None),
            ({}, 5 * DAY + 10 * MINUTE, True, "it fires once"),
            ({}, 5 * DAY + 2 * HOUR, False, "over its grace"),
        ],
    )
    def test_by_policy_and_grace(self, store, test, changes, late, fires, words):
        kept = schedules.keep(store, nightly(test, **changes))
        scheduler = a_scheduler(store)
        for again in range(2):
            scheduler.tick(kept.next_fire_at + late + again)
        assert len(runs_of(store, test)) == fires
        assert words is None or words in _reason(store, kept)
        assert len(store.schedules.history(kept.id)) == fires + (words is not None)
        assert store.schedules.get(kept.id).next_fire_at > kept.next_fire_at + late

    def test_after_a_year_of_minutes_looking_takes_no_time(self, store, test):
        kept = schedules.keep(store, nightly(test, cron="* * * * *"))
        a_scheduler(store).tick(kept.next_fire_at + 365 * DAY)
        assert [outcome for _, outcome in outcomes(store, kept)] == ["failed", "missed"]


def _reason(store: Store, schedule: Schedule) -> str:
    return next(firing.reason for firing in store.schedules.history(schedule.id) if firing.outcome == "missed")


def test_while_the_run_of_the_firing_before_goes_on_the_next_is_skipped(store, test, dead):
    kept = schedules.keep(store, nightly(test, cron="* * * * *"))
    run = store.runs.add(a_run(test, id=run_id_of(claimed_by(store, kept, dead))))
    store.runs.move(run.id, RunStatus.RUNNING)
    scheduler, due = a_scheduler(store), kept.next_fire_at
    scheduler.tick(due)
    scheduler.tick(due + MINUTE)
    skipped = store.schedules.history(kept.id)[0]
    assert (skipped.due_at, skipped.outcome) == (due + MINUTE, "skipped")
    assert skipped.reason == f"{run.id} of the firing before is still Running"
    store.runs.move(run.id, RunStatus.FINISHED)
    scheduler.tick(due + 2 * MINUTE - 1000)
    scheduler.tick(due + 2 * MINUTE)
    assert len(runs_of(store, test)) == 2


class TestReports:
    def test_one_that_cannot_be_built_is_a_failure_with_the_last_words_of_its_process(self, store, test, dead):
        kept = schedules.keep(store, nightly(test, reports=("summary",)))
        run = store.runs.add(a_run(test, id=run_id_of(claimed_by(store, kept, dead))))
        store.runs.move(run.id, RunStatus.RUNNING)
        store.runs.move(run.id, RunStatus.FINISHED)
        folder = schedules.directory_of(kept)
        folder.parent.mkdir(parents=True)
        folder.write_text("a file where the folder should be")
        a_scheduler(store).tick(kept.next_fire_at)
        (firing,) = store.schedules.history(kept.id)
        assert firing.outcome == "failed"
        assert str(folder) in firing.reason

    @pytest.mark.long
    @pytest.mark.timeout(400)
    def test_all_kinds_are_built_one_after_the_other(self, store, test, dead):
        start = now_ms() - 10 * MINUTE
        kept = schedules.keep(store, nightly(test, reports=("summary", "comparison", "trend")))
        baseline = a_finished_run(store, test, started_at=start)
        Catalogue(store).set_baseline(test.id, [baseline.id], by="ann")
        firing = claimed_by(store, kept, dead)
        a_finished_run(store, test, id=run_id_of(firing), started_at=start + 5 * MINUTE)
        scheduler = a_scheduler(store)

        def is_over() -> bool:
            scheduler.tick(kept.next_fire_at)
            return store.schedules.firing(firing.id).outcome in ("done", "failed")

        try:
            wait_until(is_over, within_s=300, message="the reports were not built")
        finally:
            scheduler.close()
        found = store.schedules.firing(firing.id)
        assert (found.outcome, found.reason) == ("done", None)
        assert [path.rpartition("-")[2] for path in found.reports] == ["summary.html", "comparison.html", "trend.html"]
        assert all("<html" in Path(path).read_text() for path in found.reports)

    def test_closing_ends_one_that_is_being_built_and_the_next_server_builds_it(self, store, test, dead):
        kept = schedules.keep(store, nightly(test, reports=("trend",), run=None))
        firing = claimed_by(store, kept, dead)
        store.database.firings.update_one({"_id": firing.id}, {"$set": {"outcome": "started"}})
        first = a_scheduler(store)
        first.tick(kept.next_fire_at)
        child = psutil.Process(first._report[2]._child.pid)
        assert child.is_running()
        first.close()
        assert not child.is_running()
        assert store.schedules.firing(firing.id).outcome == "started"
        second = a_scheduler(store)
        second.tick(kept.next_fire_at + LEASE_MS + 1)
        assert second._report[0] == firing.id
        second.close()

    def test_a_process_says_why_it_failed_in_one_line(self, store, tmp_path):
        process = ReportProcess(
            ["report", "run-none"], tmp_path / "x.html", environment={"LOADBENCH_MONGODB_URI": store.uri}
        )
        with closing(process):
            wait_until(lambda: process.is_over, within_s=60, message="the report's process did not end")
            assert process.trouble() == "no report: no run run-none in local/local/default: there are no runs yet"

    def test_one_that_takes_too_long_is_ended_with_what_it_started(self, tmp_path):
        process = ReportProcess(["demo-target", "--port", "0"], tmp_path / "x.html", environment={}, limit_s=0.2)
        with closing(process):
            child = psutil.Process(process._child.pid)
            wait_until(lambda: process.is_over, within_s=10, message="it was not ended")
            assert process.trouble() == "the report was not ready within 0 s"
            assert not child.is_running()


class TestKeeping:
    def test_a_name_is_taken_once_and_replacing_keeps_id_history_and_what_is_due(self, store, test, kept):
        with pytest.raises(Conflict, match="nightly"):
            schedules.keep(store, nightly(test))
        a_scheduler(store).tick(kept.next_fire_at)
        due = store.schedules.get(kept.id).next_fire_at
        again = schedules.keep(store, nightly(test, misfire="skip"), replace=True)
        assert (again.id, again.misfire, again.next_fire_at) == (kept.id, "skip", due)
        assert len(store.schedules.history(kept.id)) == 1
        assert schedules.keep(store, nightly(test, cron="0 3 * * *"), replace=True).next_fire_at != due

    def test_what_could_never_run_is_refused(self, store, test):
        for changes, field in (
            ({"cron": "61 * * * *"}, "cron"),
            ({"timezone": "Mars"}, "timezone"),
            ({"run": PlannedRun(duration_sec=7200)}, "duration"),
        ):
            with pytest.raises(InvalidInput) as caught:
                schedules.keep(store, nightly(test, **changes))
            assert caught.value.field == field
        with pytest.raises(NotFound):
            schedules.keep(store, nightly(test, run=PlannedRun(revision_number=9)))
        with pytest.raises(InvalidInput, match="give one"):
            nightly(test, run=None)
        assert store.schedules.find() == []

    @pytest.mark.parametrize("folder", ["/etc", "../up", "a/../../b", "~/x", "..\\up"])
    def test_confined_its_reports_stay_below_the_servers_directory(self, store, test, folder):
        with pytest.raises(InvalidInput) as caught:
            schedules.keep(store, nightly(test, report_directory=folder), confined=True)
        assert caught.value.field == "report_directory"

    def test_it_goes_with_its_test(self, store, test, kept):
        a_scheduler(store).tick(kept.next_fire_at)
        Catalogue(store).delete_test(test.id, cascade=True)
        assert store.schedules.find() == store.schedules.history(kept.id) == []
