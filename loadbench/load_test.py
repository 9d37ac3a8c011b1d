"""The handle of a load test: its script's revisions, its baseline, its runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from loadbench import html
from loadbench.analysis import frames
from loadbench.catalogue import etag
from loadbench.external import Registration
from loadbench.launch.script import read_script
from loadbench.load_test_run import Run
from loadbench.model import (
    LoadTest,
    RunStatus,
    ScriptRevision,
    duration_sec,
)

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

_FIELDS = {
    "users": "default_users",
    "spawn_rate": "default_spawn_rate",
    "duration": "default_duration_sec",
    "max_duration": "max_duration_sec",
}


class Test:
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
        changed = {_FIELDS.get(name, name): value for name, value in fields.items()}
        for name in ("default_duration_sec", "max_duration_sec"):
            if name in changed:
                changed[name] = duration_sec(changed[name])
        for name in ("tags", "gates"):
            if name in changed:
                changed[name] = tuple(changed[name])
        self.record = self._bench._catalogue.update_test(
            self.record.id, by=self._bench.by, if_match=etag(self.record), **changed
        )
        return self

    def delete(self, *, cascade: bool = False) -> None:
        """Delete the test with its revisions; one that has runs only with `cascade`, which deletes them too."""
        self._bench._catalogue.delete_test(self.record.id, cascade=cascade)

    def baseline(self) -> pd.DataFrame:
        """List the runs that others are compared with, newest first."""
        return frames.runs(self._bench._catalogue.baseline(self.record.id))

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
        )
        return Run(run, self._bench)

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
