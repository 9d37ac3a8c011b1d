"""The notebook's handles: Workbench, Test and Run. The composition root of everything below.

A handle holds the record that it saw last and the store behind it. A verb changes the world, a property does no I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import getpass
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from pydantic import ValidationError

from loadbench import exports, html, imports, plots, reports
from loadbench.analysis import frames
from loadbench.analysis.summary import quantiles, summary
from loadbench.backend import Backend
from loadbench.catalogue import Catalogue, etag
from loadbench.errors import Conflict, NotFound, RunFailed, StoreUnavailable
from loadbench.external import Registration
from loadbench.launch.script import read_script
from loadbench.live import LiveView, follow
from loadbench.model import (
    PARAMETERS,
    ApiToken,
    Cluster,
    LoadTest,
    LoadTestRun,
    RunStatus,
    Scope,
    ScriptRevision,
    duration_sec,
    invalid_input,
    now_ms,
)
from loadbench.progress import Progress

POLL_S = 0.25
API_TOKEN_MS = 24 * 3600 * 1000
_FIELDS = {
    "users": "default_users",
    "spawn_rate": "default_spawn_rate",
    "duration": "default_duration_sec",
    "max_duration": "max_duration_sec",
}


class Workbench:
    """One scope's tests and runs, on one MongoDB, with the receiver in this process.

    Parameters
    ----------
    scope : str
        `account/organisation/project`.
    env : str, optional
        An environment of the project, such as `staging`.
    mongodb_uri : str, optional
        Where MongoDB is. Left out: `LOADBENCH_MONGODB_URI`, else the embedded one of the data directory.
    port : int, optional
        Where the receiver listens on loopback. Left out: where it did last time, else a free one.
    by : str, optional
        The name that goes into `createdBy`; left out, the user's.
    clusters : sequence of Cluster or dict, optional
        Where runs may be performed, besides the built-in `local`. Left out: those of `loadbench.toml`.
    host : str, optional
        The address that the receiver listens on; left out, that of `loadbench.toml`, else loopback.
    advertised_url : str, optional
        How clusters on other machines reach the receiver; left out, that of `loadbench.toml`, else its own URL.

    Notes
    -----
    Making it again, or in a restarted kernel, finds everything again: same data, same port, runs that go on.
    """

    def __init__(
        self,
        scope: str = "local/local/default",
        env: str | None = None,
        *,
        mongodb_uri: str | None = None,
        port: int | None = None,
        by: str | None = None,
        clusters: Sequence[Cluster | dict[str, Any]] | None = None,
        host: str | None = None,
        advertised_url: str | None = None,
    ) -> None:
        self.scope = Scope.parse(scope, env)
        self.by = by or getpass.getuser()
        self._api_token: tuple[ApiToken, str] | None = None
        self._backend = Backend.shared(
            mongodb_uri, port=port, host=host, advertised_url=advertised_url, clusters=clusters
        )

    def __repr__(self) -> str:
        return html.workbench_line(self.scope, self._backend.receiver.url)

    def _repr_html_(self) -> str:
        return html.workbench_card(self.scope, self._backend.receiver.url, self._backend.store_line)

    def create_test(
        self,
        name: str,
        script: str | Path,
        *,
        target_url: str,
        users: int = 1,
        spawn_rate: float = 1,
        duration: str | int = "1m",
        max_duration: str | int = "1h",
        description: str = "",
        tags: Sequence[str] = (),
        check: bool = True,
    ) -> Test:
        """Define a load test, once. Running it again brings the test up to date: it never makes a second one.

        Parameters
        ----------
        name : str
            Unique within the scope.
        script : str or Path
            A Locust script: a file, looked for in the working directory and then above it, or the source itself.
            Changed source becomes a new revision.
        target_url : str
            The system under test.
        users : int
            Default number of users, at least 1.
        spawn_rate : float
            Users started per second, above 0.
        duration, max_duration : str or int
            `"1m30s"` or seconds: how long a run takes by default, and may take at most.
        check : bool
            Let Locust load the script first, so that a broken one is never stored.

        Raises
        ------
        InvalidInput, ScriptError
            One line that says what to do; nothing is stored then.
        """
        source = read_script(script)
        definition = {
            "target_url": target_url,
            "default_users": users,
            "default_spawn_rate": float(spawn_rate),
            "default_duration_sec": duration_sec(duration),
            "max_duration_sec": duration_sec(max_duration),
            "description": description,
            "tags": tuple(tags),
        }
        try:
            wanted = LoadTest(
                name=name, created_by=self.by, updated_by=self.by, **self.scope.model_dump(), **definition
            )
        except ValidationError as error:
            raise invalid_input(error, PARAMETERS) from None
        known = self._backend.store.load_tests.find(self.scope, name=name)
        if not known:
            return Test(self._catalogue.create_test(wanted, source, by=self.by, check=check), self)
        # The script first: should it be broken, nothing has changed.
        test = Test(known[0], self)
        if not test._is_latest(source):
            self._catalogue.revise(test.record.id, source, by=self.by, check=check)
        test.record = self._catalogue.update_test(test.record.id, by=self.by, **definition)
        return test

    def test(self, name: str) -> Test:
        """Find a test by its name. NotFound lists the ones there are."""
        found = self._backend.store.load_tests.find(self.scope, name=name)
        if not found:
            names = ", ".join(repr(test.name) for test in self._backend.store.load_tests.find(self.scope)) or "none yet"
            raise NotFound(f"no test {name!r} in {self.scope}; there are: {names}")
        return Test(found[0], self)

    def tests(self) -> pd.DataFrame:
        """List the tests of this scope, newest first."""
        return frames.tests(self._backend.store.load_tests.find(self.scope))

    def run(self, run_id: str) -> Run:
        """Find a run by its id, or by the beginning of it."""
        return Run(self._backend.store.runs.resolve(run_id, self.scope), self)

    def runs(self, *, status: str | RunStatus | None = None, limit: int = 50) -> pd.DataFrame:
        """List the runs of this scope, newest first."""
        wanted = None if status is None else RunStatus(status)
        return frames.runs(self._backend.store.runs.find(self.scope, status=wanted, limit=limit))

    def register_external(
        self,
        name: str,
        *,
        target_url: str,
        users: int = 1,
        spawn_rate: float = 1,
        duration: str | int = "1m",
        notes: str = "",
        tags: Sequence[str] = (),
    ) -> Registration:
        """Register a run of no test, that somebody starts by hand: `print(registration.command)` says how.

        Its pushes arrive as those of any run. If nobody starts it within an hour, it is Failed.
        """
        return self._register(
            self.scope,
            name=name,
            target_url=target_url,
            users=users,
            spawn_rate=float(spawn_rate),
            duration_sec=duration_sec(duration),
            notes=notes,
            tags=tuple(tags),
        )

    def _register(self, owner: LoadTest | Scope, **parameters: Any) -> Registration:
        registered = self._backend.control.register_external(owner, by=self.by, **parameters)
        return registered._replace(run=Run(registered.run, self))

    def import_csv(self, prefix: str | Path, **about: Any) -> Run:
        """Import what Locust wrote with `--csv PREFIX`, best together with `--csv-full-history`, as a finished run.

        Locust's files hold no distributions: there are counts, rates and means, but no percentiles.

        Parameters
        ----------
        prefix : str or Path
            As it was given to Locust.
        **about
            test (a Test, or its name), name, target_url, users, notes, tags. Without a test, target_url is needed.

        Returns
        -------
        Run
            Importing the same files again gives the same run.
        """
        return self._import(imports.read_locust_csv(prefix), about)

    def import_jtl(self, path: str | Path, **about: Any) -> Run:
        """Import a JMeter result file (JTL, in CSV format with its header) as a finished run with full histograms.

        Parameters
        ----------
        path : str or Path
            The file. It is read as a stream, so it may be large.
        **about
            test (a Test, or its name), name, target_url, users, notes, tags.

        Returns
        -------
        Run
            Importing the same file again gives the same run.
        """
        return self._import(imports.read_jtl(path), about)

    def _import(self, recording: imports.Recording, about: dict[str, Any]) -> Run:
        test = about.pop("test", None)
        test = self.test(test) if isinstance(test, str) else test
        owner = self.scope if test is None else test.record
        about["tags"] = tuple(about.get("tags", ()))
        return Run(imports.keep(self._backend.store, recording, owner, by=self.by, **about), self)

    @property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self._backend.store)

    @property
    def api_url(self) -> str:
        """Where the REST API of this workbench is; `/docs` beside it describes it."""
        return f"{self._backend.receiver.url}/v1"

    def api_token(self) -> str:
        """Give a token for the REST API, good for this scope until this workbench is closed, a day at most.

        It is made at the first call and kept in memory only. Pass it on in a header; do not print it.
        """
        tokens = self._backend.store.tokens
        if self._api_token is None or not self._api_token[0].is_good(now_ms() + 60_000):
            parts = self.scope.model_dump(exclude={"env_id"})
            token = ApiToken.build(
                name=self.by, role="admin", created_by=self.by, expires_at=now_ms() + API_TOKEN_MS, **parts
            )
            self._api_token = tokens.create_api(token)
        return self._api_token[1]

    def close(self) -> None:
        """Stop the receiver and let go of MongoDB. Runs that go on are found again by the next Workbench."""
        if self._api_token is not None:
            with contextlib.suppress(StoreUnavailable):  # it expires by itself
                self._backend.store.tokens.revoke_api(self._api_token[0].id)
            self._api_token = None
        self._backend.close()


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


class Run:
    """One execution of a test: watch it, await it, stop it, read its figures."""

    def __init__(self, record: LoadTestRun, bench: Workbench) -> None:
        self.record = record
        self._bench = bench
        self._store = bench._backend.store

    def __repr__(self) -> str:
        return html.run_line(self.record)

    def _repr_html_(self) -> str:
        return html.run_card(self.record)

    def __await__(self) -> Generator[Any, None, Run]:
        """Wait for the end with a progress bar; the kernel stays responsive. RunFailed if the run fails."""
        return self._until_over().__await__()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def status(self) -> RunStatus:
        """The status as this handle saw it last; `refresh` looks again."""
        return self.record.status

    def refresh(self) -> Run:
        """Read the run's record anew."""
        self.record = self._store.runs.get(self.record.id)
        return self

    def wait(self) -> Run:
        """Wait for the end with a progress bar, holding the kernel: buttons of widgets that need it wait as well.

        In a notebook, `await run` is better. An interrupt ends the waiting, never the run. RunFailed if the run fails.
        """
        with Progress(self.record) as progress:
            while not self.refresh().record.is_over:
                progress.show(self.record)
                time.sleep(POLL_S)
            progress.show(self.record)
        return self._judged()

    async def _until_over(self) -> Run:
        with Progress(self.record) as progress:
            while not (await asyncio.to_thread(self.refresh)).record.is_over:
                progress.show(self.record)
                await asyncio.sleep(POLL_S)
            progress.show(self.record)
        return self._judged()

    def _judged(self) -> Run:
        if self.record.status is RunStatus.FAILED:
            raise RunFailed(f"{self.record.id} failed: {self.record.error or self.record.stop_reason}")
        return self

    def stop(self) -> Run:
        """Ask the run to stop: users finish their task, the last figures arrive, then it is Stopped. Returns at once.

        Raises
        ------
        Conflict
            If it is over already.
        """
        self.record = self._bench._backend.control.stop_run(self.record.id)
        return self

    def annotate(
        self,
        *,
        name: str | None = None,
        notes: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: dict[str, str | int | float | bool] | None = None,
    ) -> Run:
        """Write on the run, also while it goes on: what is left out stays as it is."""
        given = {"name": name, "notes": notes, "tags": None if tags is None else tuple(tags), "metadata": metadata}
        fields = {field: value for field, value in given.items() if value is not None}
        self.record = self._bench._catalogue.update_run(self.record.id, by=self._bench.by, **fields)
        return self

    def delete(self) -> None:
        """Delete the run with all its figures; not while it goes on, nor while it is a baseline."""
        self._bench._catalogue.delete_run(self.record.id)

    def live(self) -> LiveView:
        """Show Plotly charts that follow the run, from its first interval on, whenever they are opened."""
        self.refresh()
        view = LiveView(self._documents(), run=self.record, stop=self._stop_if_active)
        runs, ledger, receiver = self._store.runs, self._store.ledger, self._bench._backend.receiver
        follow(
            view,
            read_after=lambda seen: ledger.documents(self.id, after=seen),
            subscribe=lambda callback: receiver.subscribe(self.id, callback),
            read_run=lambda: runs.get(self.id),
        )
        return view

    def _stop_if_active(self) -> None:
        try:
            self.stop()
        except Conflict:
            self.refresh()

    def plot(self) -> go.Figure:
        """Draw the run so far as one static Plotly figure: users, requests/s, errors/s, percentiles."""
        self.refresh()
        return plots.timeline(
            frames.timeline(self.record, self._documents()),
            title=self.record.name,
            subtitle=html.run_caption(self.record),
        )

    def summary(
        self,
        percentiles: Sequence[float] = (50, 95, 99),
        *,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> pd.DataFrame:
        """Give one row per endpoint and a total, of the whole run or of a window.

        Parameters
        ----------
        percentiles : sequence of float
            Any, in [0, 100]; each is computed from merged histograms and within 0.5 % of the exact one.
        start_s, end_s : float, optional
            The window, in seconds since the run began.
        """
        self.refresh()
        return summary(self.record, self._documents(), percentiles=percentiles, start_s=start_s, end_s=end_s)

    def quantile(self, percentile: float) -> float:
        """Give one percentile of all response times of the run, in milliseconds."""
        self.refresh()
        return float(quantiles(self.record, self._documents(), percentile).iloc[0])

    def timeline(self) -> pd.DataFrame:
        """Give one row per interval: users, rates, percentiles."""
        self.refresh()
        return frames.timeline(self.record, self._documents())

    def endpoints(self, percentiles: Sequence[float] = (50, 95, 99)) -> pd.DataFrame:
        """Give one row per interval and endpoint."""
        self.refresh()
        return frames.endpoints(self.record, self._documents(), percentiles=percentiles)

    def failures(self) -> pd.DataFrame:
        """Give one row per endpoint and error message, with its count."""
        self.refresh()
        return frames.failures(self.record, self._documents())

    def report(self, path: str | Path | None = None) -> Path:
        """Write one HTML file that opens anywhere, offline. Left out, `path` is below `reports/`."""
        return reports.report(self._store, self.refresh().record, path)

    def export(self, path: str | Path, table: str = "timeline") -> Path:
        """Write a table as a CSV file for spreadsheets: timeline, summary, endpoints or failures."""
        self.refresh()
        return exports.export(self.record, self._documents(), path, table=table)

    def _documents(self) -> list[dict]:
        if self.record.purged_at is not None:
            raise NotFound(
                f"the intervals of {self.id} were deleted {html.show(self.record.purged_at, 'time')} as too old: "
                "only its totals are left, in run.record.last_metrics"
            )
        return self._store.ledger.documents(self.record.id)
