"""Workbench: where a notebook begins, and the composition root of everything below.

A handle holds the record that it saw last and the store behind it. A verb changes the world, a property does no I/O.
"""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from loadbench import html, imports, schedules
from loadbench.analysis import frames
from loadbench.analysis.gates import canonical
from loadbench.backend import Backend, Reader
from loadbench.catalogue import Catalogue
from loadbench.errors import NotFound, StoreUnavailable
from loadbench.external import Registration
from loadbench.launch.cluster import survey
from loadbench.launch.script import check_script, read_script
from loadbench.load_test import Test, seconds_of
from loadbench.load_test_run import Run
from loadbench.load_test_schedule import ScheduledTest
from loadbench.model import (
    PARAMETERS,
    ApiToken,
    Cluster,
    LoadTest,
    RunStatus,
    Scope,
    invalid_input,
    now_ms,
)
from loadbench.run_pool import RunPool

if TYPE_CHECKING:
    from loadbench.panel import Panel

API_TOKEN_MS = 24 * 3600 * 1000


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
    receive : bool
        False for a workbench that only reads, such as that of a report: it has no receiver and supervises no run.

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
        receive: bool = True,
    ) -> None:
        self.scope = Scope.parse(scope, env)
        self.by = by or getpass.getuser()
        self._api_token: tuple[ApiToken, str] | None = None
        self._backend: Backend | Reader = (
            Backend.shared(mongodb_uri, port=port, host=host, advertised_url=advertised_url, clusters=clusters)
            if receive
            else Reader.shared(mongodb_uri)
        )

    def __repr__(self) -> str:
        return html.workbench_line(self.scope, self._backend.receiver_url)

    def _repr_html_(self) -> str:
        return html.workbench_card(self.scope, self._backend.receiver_url, self._backend.store_line)

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
        cluster: str | None = None,
        gates: Sequence[str] | None = None,
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
        cluster : str, optional
            The id of the cluster that performs its runs; left out, the one that serves its scope, else this machine.
        gates : sequence of str, optional
            What its runs shall do, one line each, such as `p95 < 300ms` or `error rate over 30s > 5% -> stop`. Left
            out, a test that is there keeps those that it has.
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
            "default_duration_sec": seconds_of("duration", duration),
            "max_duration_sec": seconds_of("max_duration", max_duration),
            "description": description,
            "tags": tuple(tags),
            "cluster_id": cluster,
        }
        if gates is not None:
            definition["gates"] = canonical(gates)
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

    def check_script(self, script: str | Path) -> list[str]:
        """Let Locust load a script, without storing it, and give the names of its User classes, or ScriptError."""
        return check_script(read_script(script))

    def run(self, run_id: str) -> Run:
        """Find a run by its id, or by the beginning of it."""
        return Run(self._backend.store.runs.resolve(run_id, self.scope), self)

    def runs(self, *, status: str | RunStatus | None = None, limit: int = 50) -> pd.DataFrame:
        """List the runs of this scope, newest first."""
        wanted = None if status is None else RunStatus(status)
        return frames.runs(self._backend.store.runs.find(self.scope, status=wanted, limit=limit))

    def schedule(self, name: str) -> ScheduledTest:
        """Find a schedule by its name or id; `test.schedule(...)` makes one."""
        return ScheduledTest(schedules.named(self._backend.store, self.scope, name), self)

    def schedules(self) -> pd.DataFrame:
        """List the schedules of this scope by name, with when each fires next and what came of it last."""
        store = self._backend.store
        names = {test.id: test.name for test in store.load_tests.find(self.scope, limit=0)}
        return frames.schedules(store.schedules.find(self.scope), names)

    def pool(self, *run_ids: str, label: str = "pool") -> RunPool:
        """Take these runs, by their ids or the beginnings of them, as one pool, in the order given."""
        return RunPool([self.run(run_id) for run_id in run_ids], label=label)

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
            duration_sec=seconds_of("duration", duration),
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

    def clusters(self) -> pd.DataFrame:
        """List the clusters there are, and ask each how it is.

        Returns
        -------
        DataFrame
            Indexed by cluster: kind, base_url, host, locust (version), workers (connected ones), run_id (what it
            performs now), trouble (why it cannot be used).
        """
        columns = ["cluster", "kind", "base_url", "host", "locust", "workers", "run_id", "trouble"]
        rows = survey(self._backend.control.clusters)
        return pd.DataFrame(rows, columns=columns).astype({"workers": "Int64"}).set_index("cluster")

    def panel(self) -> Panel:
        """Show the workbench as a panel, for the whole job with the mouse: every view gives its code as well."""
        from loadbench.panel import Panel  # only here: code that shows no panel needs no form widgets

        return Panel(self)

    def close(self) -> None:
        """Stop the receiver and let go of MongoDB. Runs that go on are found again by the next Workbench."""
        if self._api_token is not None:
            with contextlib.suppress(StoreUnavailable):  # it expires by itself
                self._backend.store.tokens.revoke_api(self._api_token[0].id)
            self._api_token = None
        self._backend.close()
