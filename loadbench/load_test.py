"""The handle of a load test: its script's revisions, its baseline, its runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from loadbench import html, reports, schedules
from loadbench.analysis import frames
from loadbench.analysis.gates import canonical
from loadbench.catalogue import etag
from loadbench.errors import InvalidInput, one_of
from loadbench.estimate import Estimate, estimate
from loadbench.external import Registration
from loadbench.gatekeeper import GateTrial, try_gates
from loadbench.launch.script import read_script
from loadbench.load_test_lab import TestLab
from loadbench.load_test_run import Run
from loadbench.load_test_schedule import ScheduledTest
from loadbench.model import (
    PARAMETERS,
    LoadTest,
    Misfire,
    RunStatus,
    Schedule,
    ScriptRevision,
    duration_sec,
)
from loadbench.run_pool import RunPool

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

_FIELDS = {
    "users": "default_users",
    "spawn_rate": "default_spawn_rate",
    "duration": "default_duration_sec",
    "max_duration": "max_duration_sec",
}


class Test(TestLab):
    """A load test, its script's revisions, and its runs."""

    __test__ = False  # pytest: not a test class

    def __init__(self, record: LoadTest, bench: Workbench) -> None:
        self.record = record
        self._bench = bench
        self._store = bench._backend.store

    def __repr__(self) -> str:
        return html.test_line(self.record)

    def _repr_html_(self) -> str:
        return html.test_card(self.record)

    @property
    def name(self) -> str:
        return self.record.name

    def revise(self, script: str | Path, *, note: str = "", check: bool = True) -> Test:
        """Store an edit of the script as the next revision; earlier ones stay as they are.

        The same script with the same note as the latest revision is no edit: running the cell again changes nothing.

        Parameters
        ----------
        script : str or Path
            As in `Workbench.create_test`.
        note : str
            What was changed, and why.
        """
        source = read_script(script)
        if not self._is_latest(source, note):
            check = check and not self._is_latest(source)
            self._bench._catalogue.revise(self.record.id, source, description=note, by=self._bench.by, check=check)
        self.record = self._store.load_tests.get(self.record.id)
        return self

    def restore(self, revision: int, *, note: str = "") -> Test:
        """Make an earlier revision the latest again, as a new one: nothing in between is lost."""
        source = self._revision(revision).script
        if not self._is_latest(source):
            note = note or f"revision {revision} restored"
            self._bench._catalogue.revise(self.record.id, source, description=note, by=self._bench.by, check=False)
        self.record = self._store.load_tests.get(self.record.id)
        return self

    def _is_latest(self, source: bytes, note: str | None = None) -> bool:
        if not self._store.load_tests.get(self.record.id).latest_revision_number:
            return False
        latest = self._store.script_revisions.latest(self.record.id)
        return latest.script == source and note in (None, latest.description)

    def update(self, **fields: Any) -> Test:
        """Change the definition, unless somebody else has changed it since this handle saw it.

        Parameters
        ----------
        **fields
            name, description, tags, target_url, users, spawn_rate, duration, max_duration, gates, cluster_id, metadata;
            as in `Workbench.create_test`. Later runs inherit them.

        Raises
        ------
        PreconditionFailed
            If somebody has: find the test anew with `bench.test(name)`, look at it, and change it then.
        """
        for name in ("duration", "max_duration"):
            if name in fields:
                fields[name] = seconds_of(name, fields[name])
        changed = {_FIELDS.get(name, name): value for name, value in fields.items()}
        if "tags" in changed:
            changed["tags"] = tuple(changed["tags"])
        if "gates" in changed:
            changed["gates"] = canonical(changed["gates"])
        try:
            self.record = self._bench._catalogue.update_test(
                self.record.id, by=self._bench.by, if_match=etag(self.record), **changed
            )
        except InvalidInput as error:
            raise _as_given(error) from None
        return self

    def delete(self, *, cascade: bool = False) -> None:
        """Delete the test with its revisions; one that has runs only with `cascade`, which deletes them too."""
        self._bench._catalogue.delete_test(self.record.id, cascade=cascade)

    def baseline(self) -> RunPool:
        """Give the runs that others are compared with, newest first: `lb.compare(run, test.baseline())`."""
        records = self._bench._catalogue.baseline(self.record.id)
        return RunPool([Run(record, self._bench) for record in records], label="baseline")

    def pool(
        self,
        *,
        revision: int | None = None,
        last: int | None = None,
        since: datetime | str | None = None,
        tag: str | None = None,
        target_url: str | None = None,
    ) -> RunPool:
        """Give the finished runs of this test that fit all that is asked for, newest first; all if nothing is.

        Parameters
        ----------
        revision : int, optional
            Runs of this revision of the script.
        last : int, optional
            So many of them at most, the newest.
        since : datetime or str, optional
            Runs made since then, such as `"2026-03-14"`; UTC if it names no zone.
        tag : str, optional
            Runs that carry this tag.
        target_url : str, optional
            Runs on this target.
        """
        if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
            raise InvalidInput(f"last must be a number of runs, at least 1; not {last!r}", field="last")
        since_ms = None if since is None else _unix_ms(since)
        found = self._store.runs.find(
            self._bench.scope, load_test_id=self.record.id, status=RunStatus.FINISHED, limit=0
        )
        chosen = [
            run
            for run in found
            if (revision is None or run.revision_number == revision)
            and (since_ms is None or run.created_at >= since_ms)
            and (tag is None or tag in run.tags)
            and (target_url is None or run.target_url == target_url)
        ]
        asked = {"revision": revision, "tag": tag, "since": since, "target": target_url}
        label = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None) or self.name
        return RunPool([Run(run, self._bench) for run in chosen[:last]], label=label)

    def set_baseline(self, *runs: Run | str) -> Test:
        """Make these runs, or ids of them, the baseline instead of those that were. They cannot be deleted then."""
        self.record = self._bench._catalogue.set_baseline(self.record.id, self._ids(runs), by=self._bench.by)
        return self

    def remove_baseline(self, *runs: Run | str) -> Test:
        """Take these runs out of the baseline; all, if none is named. The runs stay."""
        ids = self._ids(runs) or None
        self.record = self._bench._catalogue.remove_baseline(self.record.id, ids, by=self._bench.by)
        return self

    def _ids(self, runs: Sequence[Run | str]) -> list[str]:
        return [run.id if isinstance(run, Run) else self._bench.run(run).id for run in runs]

    def register_external(
        self,
        *,
        name: str | None = None,
        target_url: str | None = None,
        users: int | None = None,
        spawn_rate: float | None = None,
        duration: str | int | None = None,
        notes: str = "",
        tags: Sequence[str] = (),
    ) -> Registration:
        """Register a run of this test that somebody starts by hand: `print(registration.command)` says how."""
        return self._bench._register(
            self._store.load_tests.get(self.record.id),
            name=name,
            target_url=target_url,
            users=users,
            spawn_rate=spawn_rate,
            duration_sec=None if duration is None else duration_sec(duration),
            notes=notes,
            tags=tuple(tags),
        )

    def script(self, revision: int | None = None) -> str:
        """Give the source of a revision; the latest if none is named."""
        return self._revision(revision).script.decode(errors="replace")

    def revisions(self) -> pd.DataFrame:
        """List the revisions: number, sha256, note, who and when."""
        return frames.revisions(self._store.script_revisions.all(self.record.id))

    def diff(self, old: int, new: int) -> str:
        """Compare two revisions, as a unified diff."""
        before, after = self.script(old).splitlines(keepends=True), self.script(new).splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, f"revision {old}", f"revision {new}"))

    def start(
        self,
        *,
        users: int | None = None,
        spawn_rate: float | None = None,
        duration: str | int | None = None,
        target_url: str | None = None,
        name: str | None = None,
        revision: int | None = None,
        workers: int | None = None,
        notes: str = "",
        tags: Sequence[str] = (),
        cluster: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        web_ui: bool = False,
        gates: Sequence[str] | None = None,
        metadata: Mapping[str, str | int | float | bool] | None = None,
    ) -> Run:
        """Start a run on real Locust and return at once. What is left out is inherited from the test.

        Parameters
        ----------
        users : int, optional
            Number of users, at least 1.
        spawn_rate : float, optional
            Users started per second, above 0.
        duration : str or int, optional
            `"90s"`, `"1m30s"` or seconds, at most the test's `max_duration`. Locust itself enforces it.
        revision : int, optional
            Which revision to run; left out, the latest.
        workers : int, optional
            0, the default, for one Locust process, N for a master with N workers. For local clusters only.
        cluster : str, optional
            The id of a cluster; left out, the test's, else the one that serves its scope, else this machine.
        arguments : mapping, optional
            Values for the command line arguments that the script itself defines, such as `{"shop": "corner"}`.
        web_ui : bool
            Locust's own web interface beside the run, at `run.record.web_url`; a stop there ends the run Stopped.
        gates : sequence of str, optional
            In place of those of the test; `[]` for none.
        metadata : mapping, optional
            Kept with the run, under names of your own.

        Raises
        ------
        InvalidInput, NotFound, TargetUnreachable
            Before anything is started.
        """
        run = self._bench._backend.control.start_run(
            self._store.load_tests.get(self.record.id),
            by=self._bench.by,
            users=users,
            spawn_rate=spawn_rate,
            duration_sec=None if duration is None else duration_sec(duration),
            target_url=target_url,
            name=name,
            revision=revision,
            workers=workers,
            notes=notes,
            tags=tuple(tags),
            cluster_id=cluster,
            arguments=arguments,
            web_ui=web_ui,
            gates=None if gates is None else canonical(gates),
            metadata=metadata,
        )
        return Run(run, self._bench)

    def estimate(
        self,
        *,
        users: int | None = None,
        spawn_rate: float | None = None,
        duration: str | int | None = None,
        workers: int = 0,
    ) -> Estimate:
        """Say what a run would be, before it is started: users, ramp, duration, processes, and about how many requests.

        The requests are told from the last run of this test that finished; parameters are those of `start`.
        """
        test = self._store.load_tests.get(self.record.id)
        users = test.default_users if users is None else users
        spawn_rate = test.default_spawn_rate if spawn_rate is None else spawn_rate
        for name, value in (("users", users), ("spawn_rate", spawn_rate)):
            if value <= 0:
                raise InvalidInput(f"{name} must be above 0; not {value!r}", field=name)
        last = self._store.runs.find(
            self._bench.scope, load_test_id=test.id, status=[RunStatus.FINISHED, RunStatus.STOPPED], limit=1
        )
        seconds = test.default_duration_sec if duration is None else duration_sec(duration)
        return estimate(
            users=users, spawn_rate=spawn_rate, duration_sec=seconds, workers=workers, last=last[0] if last else None
        )

    def schedule(
        self,
        cron: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        starts_run: bool = True,
        report: bool | str | Sequence[str] = False,
        report_directory: str | Path | None = None,
        trend_days: int = 7,
        misfire: Misfire = "once",
        grace: str | int = "1h",
        enabled: bool = True,
        duration: str | int | None = None,
        tags: Sequence[str] | None = None,
        cluster: str | None = None,
        **overrides: Any,
    ) -> ScheduledTest:
        """Have runs of this test started, or reports of it built, again and again. `loadbench serve` does it.

        Running it again with the same name brings the schedule up to date: it never makes a second one.

        Parameters
        ----------
        cron : str
            Five fields, minute hour day-of-month month day-of-week: `"0 2 * * 1-5"` is at two, Monday to Friday.
        timezone : str
            An IANA name such as `"Europe/Berlin"`. `docs/operating.md` says what happens when the clocks change.
        name : str, optional
            Unique within the scope; left out, that of the test.
        starts_run : bool
            False for reports only.
        report : bool, str or sequence of str
            `"summary"` of the run, `"comparison"` of it with the baseline, `"trend"` of the test over `trend_days`;
            True for the summary, or the trend if no run is started.
        report_directory : str or Path, optional
            Left out, `reports/` and the schedule's name below the data directory of the server.
        misfire : str
            What to do after a time when no server ran: `"once"` fires once if it is not later than `grace`, `"skip"`
            waits for the next time.
        duration, tags, cluster, **overrides
            How its runs differ from the test: users, spawn_rate, target_url, run_name, revision, workers, arguments,
            notes; as in `start`. What is left out is inherited at each firing.

        Raises
        ------
        InvalidInput, NotFound, Conflict
            Nothing is stored then.
        """
        if not starts_run and (overrides or duration or tags or cluster):
            raise InvalidInput(
                "a schedule that starts no run takes no parameters of one: leave them out", field="starts_run"
            )
        known = ("users", "spawn_rate", "target_url", "run_name", "revision", "workers", "arguments", "notes")
        for parameter in overrides:
            if parameter not in known:
                raise one_of("a parameter of the runs", parameter, known)
        seconds = None if duration is None else duration_sec(duration)
        also = {"duration_sec": seconds, "tags": None if tags is None else tuple(tags), "cluster_id": cluster}
        return ScheduledTest(
            schedules.keep(
                self._store,
                Schedule.build(
                    **dict(self.record.scope),
                    name=name or self.record.name,
                    load_test_id=self.record.id,
                    cron=cron,
                    timezone=timezone,
                    run=schedules.planned_run(**also, **overrides) if starts_run else None,
                    reports=schedules.kinds_of(report, runs=starts_run),
                    report_directory=None if report_directory is None else str(Path(report_directory).absolute()),
                    trend_days=trend_days,
                    misfire=misfire,
                    grace_sec=duration_sec(grace),
                    enabled=enabled,
                    created_by=self._bench.by,
                    updated_by=self._bench.by,
                ),
                replace=True,
            ),
            self._bench,
        )

    def try_gate(
        self, gate: str, *, last: int | None = None, since: str | None = None, window: str | None = None
    ) -> GateTrial:
        """Try a gate on the finished runs of this test: which of them would have failed?

        Parameters
        ----------
        gate : str
            Such as `p95 < 300ms`.
        last : int, optional
            On so many runs, the newest; 30 unless `since` is given.
        since : str, optional
            On the runs of so long ago at most, `12h`, `30d` or `4w`, or since a day, `2026-03-14`.
        window : str, optional
            Of each run; left out, the steady window.

        Returns
        -------
        GateTrial
            It says how many would have failed, and which; `to_frame()` has a row for each run.
        """
        return try_gates(self._store, self.record, [gate], last=last, since=since, window=window)[0]

    def report(
        self,
        days: int = 7,
        path: str | Path | None = None,
        *,
        window: str = "steady",
        notebook: str | Path | None = None,
    ) -> Path:
        """Write the trend of this test: one HTML file that opens anywhere, offline, and beside it the notebook.

        Parameters
        ----------
        days : int
            The runs of so many days are listed, at least 1; the chart shows those before them as well.
        path : str or Path, optional
            The HTML file; left out, it is below `reports/` in the working directory.
        window : str
            The window of each run whose figures are shown.
        notebook : str or Path, optional
            A notebook of yours to execute in place of `loadbench/templates/report_trend.ipynb`.
        """
        return reports.trend_report(self._store, self.record, path, days=days, window=window, notebook=notebook)

    def runs_between(self, since: datetime, until: datetime) -> RunPool:
        """Give all runs that were made in this time, however they ended, the oldest first."""
        found = self._store.runs.find(self._bench.scope, load_test_id=self.record.id, limit=0)
        start_ms, end_ms = _unix_ms(since), _unix_ms(until)
        inside = [run for run in reversed(found) if start_ms <= (run.started_at or run.created_at) <= end_ms]
        return RunPool([Run(run, self._bench) for run in inside], label=self.name)

    def active_run(self) -> Run | None:
        """Find the newest run of this test that is not over: what a restarted kernel goes on with."""
        active = [status for status in RunStatus if not status.is_final]
        found = self._store.runs.find(self._bench.scope, load_test_id=self.record.id, status=active, limit=1)
        return Run(found[0], self._bench) if found else None

    def runs(self, *, limit: int = 50) -> pd.DataFrame:
        """List the runs of this test, newest first."""
        return frames.runs(self._store.runs.find(self._bench.scope, load_test_id=self.record.id, limit=limit))

    def _revision(self, number: int | None) -> ScriptRevision:
        revisions = self._store.script_revisions
        return revisions.latest(self.record.id) if number is None else revisions.number(self.record.id, number)


def _unix_ms(moment: datetime | str) -> int:
    try:
        stamp = pd.Timestamp(moment)
    except ValueError:
        raise InvalidInput(
            f"since must be a time such as 2026-03-14 or 2026-03-14T09:30Z; not {moment!r}", field="since"
        ) from None
    return int((stamp if stamp.tzinfo else stamp.tz_localize("UTC")).timestamp() * 1000)


def seconds_of(parameter: str, value: str | int) -> int:
    """Read a duration; should it be none, the error names the parameter that it was given as."""
    try:
        return duration_sec(value)
    except InvalidInput as error:
        raise InvalidInput(str(error).replace(error.field, parameter, 1), field=parameter) from None


def _as_given(error: InvalidInput) -> InvalidInput:
    """Say of a wrong field what `update` calls it."""
    name = PARAMETERS.get(error.field or "")
    if name is None:
        return error
    return InvalidInput(str(error).replace(error.field, name, 1), field=name)
