"""Fires schedules: in a thread of `loadbench serve`, and nowhere else. A notebook's kernel comes and goes.

Any number of servers may share a MongoDB. Of those that see a schedule due, the one that writes the record of the
firing first gets it: the key of that record is the schedule and the due time. Then it starts the run, under an id that
is made of the same key. Should it die in between, another server finds the record without its run, and says so; nobody
starts a firing a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import secrets
import threading
from datetime import datetime
from pathlib import Path

import psutil

from loadbench import cron
from loadbench.agent import wire
from loadbench.control import ControlPlane
from loadbench.errors import LoadbenchError, NotFound, StoreUnavailable
from loadbench.model import Firing, LoadTestRun, ReportKind, RunStatus, Schedule, now_ms
from loadbench.report_process import ReportProcess
from loadbench.schedules import directory_of, run_parameters, slug
from loadbench.store import Store
from loadbench.store.database import ENV_URI

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
ON_TIME_MS = 60_000
"""What fires this late is on time: the server looks once a second, and starting another run takes a while."""
LEASE_MS = 300_000
"""A firing of which its server has not renewed the lease is taken over by another one."""


class Scheduler:
    """Fires what is due, follows the runs, and has their reports built, one at a time."""

    def __init__(self, store: Store, control: ControlPlane) -> None:
        self._store = store
        self._control = control
        self._owner = f"{owner_of(os.getpid())}:{secrets.token_hex(4)}"
        self._report: tuple[str, ReportKind, ReportProcess] | None = None
        self._troubles: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Scheduler of {self._store!r}>"

    def start(self) -> None:
        """Look every second, in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._look, name="loadbench-scheduler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop firing, and end a report that is being built: the next server builds it anew. Runs go on."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self._report is not None:
            self._report[2].close()
            self._report = None

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self.tick(now_ms())
            except StoreUnavailable as error:
                log.warning("schedules cannot be kept: %s", error)
            except Exception:  # whatever it is, the other schedules must not stop for it
                log.exception("schedules could not be kept this time")

    def tick(self, at_ms: int) -> None:
        """Do all that is to be done at a moment: fire what is due, go on with what was fired."""
        for schedule in self._store.schedules.due(at_ms):
            try:
                if schedule.fire_asked_at is not None:
                    self._fire_as_asked(schedule, at_ms)
                if schedule.enabled and schedule.next_fire_at is not None and schedule.next_fire_at <= at_ms:
                    self._fire_by_time(schedule, at_ms)
                self._troubles.pop(schedule.id, None)
            except StoreUnavailable:
                raise
            except (LoadbenchError, OSError) as error:
                self._complain(schedule, str(error))
        for firing in self._store.schedules.open_firings():
            try:
                self._follow(firing, at_ms)
            except StoreUnavailable:
                raise
            except (LoadbenchError, OSError) as error:
                with contextlib.suppress(NotFound):  # its schedule was removed meanwhile
                    self._decide(self._store.schedules.firing(firing.id), at_ms, "failed", str(error))

    def _fire_as_asked(self, schedule: Schedule, at_ms: int) -> None:
        firing = self._claim(schedule, schedule.fire_asked_at, at_ms)
        self._store.schedules.answer(schedule)
        if firing is not None:
            self._perform(schedule, firing, at_ms)

    def _fire_by_time(self, schedule: Schedule, at_ms: int) -> None:
        """Fire for the latest time that is due, unless that is too long ago; those before it were missed."""
        first = schedule.next_fire_at
        due = self._latest(schedule, at_ms)
        late_ms = at_ms - due
        forgiven_ms = 1000 * schedule.grace_sec if schedule.misfire == "once" else 0
        fires = late_ms <= max(ON_TIME_MS, forgiven_ms)
        firing = self._claim(schedule, due, at_ms) if fires else None
        if not fires or due != first:
            self._miss(schedule, first, at_ms, fires_for=due if fires else None)
        # Whoever has claimed it may have died before this: so everybody does it, and one succeeds.
        moved = self._store.schedules.advance(
            schedule, next_fire_at=cron.next_ms(schedule.cron, schedule.timezone, at_ms)
        )
        if firing is None:
            return
        if not moved and not self._still_on(schedule.id):
            self._decide(firing, at_ms, "skipped", "the schedule was switched off or removed at that moment")
        else:
            self._perform(schedule, firing, at_ms)

    def _latest(self, schedule: Schedule, at_ms: int) -> int:
        """Give the latest time that is due; the first one, if none is recent enough to matter."""
        first, window_ms = schedule.next_fire_at, max(ON_TIME_MS, 1000 * schedule.grace_sec)
        due = first
        for moment in cron.firings(schedule.cron, schedule.timezone, max(first, at_ms - window_ms - 1)):
            if moment > at_ms:
                break
            due = moment
        return due

    def _still_on(self, schedule_id: str) -> bool:
        try:
            return self._store.schedules.get(schedule_id).enabled
        except NotFound:
            return False

    def _claim(self, schedule: Schedule, due: int, at_ms: int, **fields: object) -> Firing | None:
        """Write the record of a firing; None if another server was first."""
        firing = Firing(
            id=Firing.key(schedule.id, due), schedule_id=schedule.id, due_at=due, fired_at=at_ms,
            host=platform.node() or "unknown", owner=self._owner, lease_expires_at=at_ms + LEASE_MS, **fields,
        )  # fmt: skip
        return firing if self._store.schedules.claim(firing) else None

    def _miss(self, schedule: Schedule, first: int, at_ms: int, *, fires_for: int | None) -> None:
        late = _span(at_ms - first)
        if fires_for is not None:
            then = f"it fires once, for {cron.shown(fires_for, schedule.timezone)}"
        elif schedule.misfire == "skip":
            then = "misfire is skip"
        else:
            then = f"that is over its grace of {_span(1000 * schedule.grace_sec)}"
        reason = f"no server kept schedules from then on for {late}: {then}"
        if self._claim(schedule, first, at_ms, outcome="missed", reason=reason, finished_at=at_ms):
            log.warning("schedule %s: %s", schedule.name, reason)

    def _perform(self, schedule: Schedule, firing: Firing, at_ms: int) -> None:
        """Start what a claimed firing is for."""
        before = self._busy_before(schedule, firing)
        if before is not None:
            self._decide(firing, at_ms, "skipped", before)
            return
        if schedule.run is None:
            self._store.schedules.change(firing, outcome="started")
            self._store.schedules.note(schedule.id, last_fired_at=at_ms, last_error=None)
            return
        run_id = run_id_of(firing)
        try:
            test = self._store.load_tests.get(schedule.load_test_id)
            by = f"schedule {schedule.name}"[: wire.MAX_NAME]
            self._control.start_run(test, by=by, run_id=run_id, **run_parameters(schedule.run))
        except StoreUnavailable:
            raise  # it is found as claimed, and decided by what is there then
        except (LoadbenchError, OSError) as error:
            made = self._run(run_id)
            self._decide(firing, at_ms, "failed", str(error), run_id=made.id if made else None)
            return
        self._store.schedules.change(firing, outcome="started", run_id=run_id)
        self._store.schedules.note(schedule.id, last_fired_at=at_ms, last_run_id=run_id, last_error=None)

    def _busy_before(self, schedule: Schedule, firing: Firing) -> str | None:
        """Say what of an earlier firing still goes on."""
        for other in self._store.schedules.open_firings():
            if other.schedule_id != schedule.id or other.id == firing.id:
                continue
            run = self._run(run_id_of(other))
            if run is not None and not run.is_over:
                return f"{run.id} of the firing before is still {run.status.value}"
            if schedule.run is None:
                return "the report of the firing before is still being built"
        return None

    def _follow(self, firing: Firing, at_ms: int) -> None:
        """Go on with a firing of this server, or of one that is gone."""
        taken = self._take(firing, at_ms)
        if taken is None:
            return
        firing = taken
        run = self._run(run_id_of(firing))
        if firing.outcome == "claimed":
            if run is None:
                reason = f"the server on {firing.host} ended, or lost MongoDB, between taking it and starting it"
                self._decide(firing, at_ms, "missed", reason)
                return
            self._store.schedules.note(firing.schedule_id, last_fired_at=firing.fired_at, last_run_id=run.id)
            taken = self._store.schedules.change(firing, outcome="started", run_id=run.id)
            if taken is None:
                return
            firing = taken
        schedule = self._store.schedules.get(firing.schedule_id)
        if schedule.run is not None or firing.run_id is not None:
            if run is None:
                self._decide(firing, at_ms, "failed", f"{run_id_of(firing)} was deleted")
                return
            if not run.is_over:
                return
            if run.status is RunStatus.FAILED:
                self._decide(firing, at_ms, "failed", f"{run.id} failed: {run.error or run.stop_reason}")
                return
        self._build(schedule, firing, at_ms)

    def _take(self, firing: Firing, at_ms: int) -> Firing | None:
        """Renew the lease of an own firing; take over one that nobody has any more; None for one of another server."""
        if firing.owner == self._owner:
            if firing.lease_expires_at > at_ms + LEASE_MS // 2:
                return firing
        elif firing.lease_expires_at > at_ms and not is_gone(firing.owner):
            return None
        return self._store.schedules.change(firing, owner=self._owner, lease_expires_at=at_ms + LEASE_MS)

    def _build(self, schedule: Schedule, firing: Firing, at_ms: int) -> None:
        """Have the next report of a firing built; when there is none left, the firing is done."""
        if self._report is not None and self._report[0] == firing.id:
            _, kind, process = self._report
            if not process.is_over:
                return
            self._report, trouble = None, process.trouble()
            process.close()
            if trouble:
                self._decide(firing, at_ms, "failed", f"{kind}: {trouble}")
                return
            taken = self._store.schedules.change(firing, reports=(*firing.reports, str(process.target)))
            if taken is None:
                return
            firing = taken
        left = schedule.reports[len(firing.reports) :]
        if not left:
            self._decide(firing, at_ms, "done", None)
        elif self._report is None:
            self._report = (firing.id, left[0], self._process(schedule, firing, left[0]))

    def _process(self, schedule: Schedule, firing: Firing, kind: ReportKind) -> ReportProcess:
        due = datetime.fromtimestamp(firing.due_at / 1000, cron.zone_of(schedule.timezone))
        folder = directory_of(schedule)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{slug(schedule.name)}-{due:%Y-%m-%dT%H-%M%z}-{kind}.html"
        test, run_id = self._store.load_tests.get(schedule.load_test_id).name, firing.run_id or self._newest(schedule)
        arguments = report_command(schedule, kind, test=test, run_id=run_id, target=target)
        return ReportProcess(arguments, target, environment={ENV_URI: self._store.uri})

    def _newest(self, schedule: Schedule) -> str | None:
        over = (RunStatus.FINISHED, RunStatus.STOPPED)
        found = self._store.runs.find(load_test_id=schedule.load_test_id, status=over, limit=1)
        return found[0].id if found else None

    def _decide(
        self, firing: Firing, at_ms: int, outcome: str, reason: str | None, *, run_id: str | None = None
    ) -> None:
        fields = {"outcome": outcome, "reason": reason and reason[:2000], "finished_at": at_ms}
        if run_id is not None:
            fields["run_id"] = run_id
        if self._store.schedules.change(firing, **fields) is None or reason is None:
            return
        log.warning("schedule %s: %s: %s", firing.schedule_id, outcome, reason)
        self._store.schedules.note(firing.schedule_id, last_error=f"{outcome}: {reason}"[:2000])

    def _complain(self, schedule: Schedule, trouble: str) -> None:
        """Say once what keeps a schedule from being fired at all."""
        if self._troubles.get(schedule.id) != trouble:
            self._troubles[schedule.id] = trouble
            log.warning("schedule %s cannot be fired: %s", schedule.name, trouble)
            self._store.schedules.note(schedule.id, last_error=trouble[:2000])

    def _run(self, run_id: str) -> LoadTestRun | None:
        try:
            return self._store.runs.get(run_id)
        except NotFound:
            return None


def run_id_of(firing: Firing) -> str:
    """Give the id of the run that a firing starts: always the same one, so that it cannot be started twice."""
    return f"run-{hashlib.sha256(firing.id.encode()).hexdigest()[:16]}"


def owner_of(pid: int) -> str:
    """Name a process so that it is told from a later one with its number: host, process id, when it was started."""
    return f"{platform.node()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def is_gone(owner: str) -> bool:
    """Say whether an owner is of a process of this machine that has ended; of others only their lease tells."""
    host, pid, created, _ = owner.rsplit(":", 3)
    if host != platform.node():
        return False
    try:
        process = psutil.Process(int(pid))
        return abs(process.create_time() - float(created)) > 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def report_command(schedule: Schedule, kind: ReportKind, *, test: str, run_id: str | None, target: Path) -> list[str]:
    """Give the arguments of the `loadbench` command that builds a report of a test or of a run.

    Raises
    ------
    NotFound
        If it is about a run and there is none.
    """
    scope = f"{schedule.account_id}/{schedule.org_id}/{schedule.project_id}"
    where = ["--scope", scope, *(["--env", schedule.env_id] if schedule.env_id else [])]
    if kind == "trend":
        return ["report", f"--test={test}", "--days", str(schedule.trend_days), "--output", str(target), *where]
    if run_id is None:
        raise NotFound(f"{kind}: test {test!r} has no run that is over: there is nothing to report on")
    if kind == "comparison":
        return ["compare", run_id, "--baseline", "--report", str(target), *where]
    return ["report", run_id, "--output", str(target), *where]


def _span(milliseconds: int) -> str:
    minutes = round(milliseconds / 60_000)
    if minutes < 1:
        return f"{milliseconds / 1000:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
