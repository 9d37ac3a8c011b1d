"""The control plane: starts runs, stops them, and sees to it that none is left in a state that is not true."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from loadbench.agent.sender import drain
from loadbench.agent.spool import Spool
from loadbench.analysis.gates import canonical
from loadbench.catalogue import Catalogue
from loadbench.clusters import Clusters, resolve
from loadbench.errors import Conflict, InvalidInput, LoadbenchError, NotFound, StoreUnavailable, TargetUnreachable
from loadbench.external import START_WITHIN_S, Registration, command_line, external_run
from loadbench.home import data_home
from loadbench.launch.base import KILL_AFTER_S, Launcher, RunContext
from loadbench.launch.choice import ClusterChoice
from loadbench.model import (
    PARAMETERS,
    Cluster,
    LoadTest,
    LoadTestRun,
    RunStatus,
    Scope,
    StopReason,
    invalid_input,
    new_id,
    now_ms,
    script_arguments,
)
from loadbench.sealing import seal
from loadbench.store import Store

log = logging.getLogger(__name__)

LEASE_MS = 30_000
OVERDUE_S = 60
"""A run that lives this long past its duration and stop timeout no longer obeys its own deadline: it is killed."""
SUPERVISE_EVERY_S = 1.0
ENV_RETENTION_DAYS = "LOADBENCH_RETENTION_DAYS"
RETAIN_EVERY_S = 3600.0
_PURGED_AT_ONCE = 5
_SEALED_AT_ONCE = 3
ACTIVE = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.STOPPING)


class ControlPlane:
    """Runs of one store.

    `receiver_url` answers where agents shall push when a run starts, `advertised_url` where those on clusters shall; it
    is the same unless given. `clusters` are those there are besides the built-in `local`. Intervals are kept for
    `retention_days`; for ever if left out.
    """

    def __init__(
        self,
        store: Store,
        *,
        receiver_url: Callable[[], str],
        launcher: Launcher | None = None,
        clusters: Iterable[Cluster] = (),
        advertised_url: str | None = None,
        retention_days: int | None = None,
    ) -> None:
        self._store = store
        self._receiver_url = receiver_url
        self.clusters = Clusters(clusters)
        self.advertised_url = advertised_url
        self._launcher = launcher or ClusterChoice(data_home(), lambda: self.clusters)
        self._catalogue = Catalogue(store)
        self._retention_days = retention_days
        self._retain_at = time.monotonic()
        self._active: set[str] = set()
        self._unsealed: set[str] = set()
        self._ended = threading.Event()
        self._supervisor: threading.Thread | None = None

    def start_run(
        self,
        test: LoadTest,
        *,
        by: str,
        users: int | None = None,
        spawn_rate: float | None = None,
        duration_sec: int | None = None,
        target_url: str | None = None,
        name: str | None = None,
        revision: int | None = None,
        workers: int | None = None,
        notes: str = "",
        tags: tuple[str, ...] = (),
        run_id: str | None = None,
        cluster_id: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        web_ui: bool = False,
        gates: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> LoadTestRun:
        """Start a run; what is left out is inherited from the test, and `run_id` is made up.

        `cluster_id` names the cluster; left out, it is the test's, or the one that fits its scope best. `workers` is
        for local ones only, and so is `web_ui`: Locust's own web interface beside the run, at the run's `web_url`.
        `arguments` are values for those that the script itself defines: `{"shop": "corner"}`. `gates` stand in place
        of those of the test; the run keeps its own, whatever becomes of the test's.

        Raises
        ------
        InvalidInput, NotFound, TargetUnreachable
            Before anything is made.
        RunFailed
            If Locust could not be started; the run is there, Failed, with the reason.
        """
        script = self._revision(test, revision)
        cluster = resolve(self.clusters, test, cluster_id)
        if workers and cluster.kind != "local":
            raise InvalidInput(f"cluster {cluster.id} has the workers that it has: leave workers out", field="workers")
        if web_ui and cluster.kind != "local":
            raise InvalidInput(f"cluster {cluster.id} is not local: leave web_ui out", field="web_ui")
        run = _new_run(
            test,
            cluster_id=cluster.id,
            web_url=f"http://127.0.0.1:{_free_port()}" if web_ui else None,
            id=run_id or new_id("run"),
            script_revision_id=script.id,
            revision_number=script.revision_number,
            target_users=test.default_users if users is None else users,
            spawn_rate=test.default_spawn_rate if spawn_rate is None else spawn_rate,
            duration_sec=test.default_duration_sec if duration_sec is None else duration_sec,
            target_url=test.target_url if target_url is None else target_url,
            name=name or test.name,
            workers=cluster.workers if workers is None else workers,
            notes=notes,
            tags=tags,
            arguments=script_arguments(arguments or {}),
            metadata=dict(metadata or {}),
            gates=test.gates if gates is None else canonical(tuple(gates)),
            receiver_url=self._url_for(cluster),
            lease_expires_at=now_ms() + LEASE_MS,
            created_by=by,
            updated_by=by,
        )
        if cluster.kind == "local":
            check_target(run.target_url)
        self._store.runs.add(run)
        try:
            context = RunContext(receiver_url=run.receiver_url, token=self._store.tokens.create_push(run.id))
            process = self._launcher.start(run, script.script, context)
        except (LoadbenchError, OSError) as error:
            self._fail(run, str(error), "error")
            raise
        try:
            return self._store.runs.update(run.id, process=process) if process else self._store.runs.get(run.id)
        except LoadbenchError:
            # Nobody could find these processes again.
            self._launcher.kill(run.model_copy(update={"process": process}))
            raise

    def register_external(self, owner: LoadTest | Scope, *, by: str, **parameters: Any) -> Registration:
        """Register a run that somebody else starts: its record, its push token and the command line.

        Parameters
        ----------
        owner : LoadTest or Scope
            The test that it is a run of, or only whose it is.
        **parameters
            name, target_url, users, spawn_rate (1/s), duration_sec (s), notes, tags; what is left out is inherited
            from the test. Without one, name and target_url are needed.

        Raises
        ------
        InvalidInput
            If a value is wrong or missing.
        """
        url = self.advertised_url or self._receiver_url()
        run = self._store.runs.add(external_run(owner, by=by, receiver_url=url, **parameters))
        token = self._store.tokens.create_push(run.id)
        return Registration(run, token, command_line(run, token))

    def _url_for(self, cluster: Cluster) -> str:
        return self.advertised_url if cluster.kind == "cluster" and self.advertised_url else self._receiver_url()

    def _revision(self, test: LoadTest, number: int | None):
        revisions = self._store.script_revisions
        return revisions.latest(test.id) if number is None else revisions.number(test.id, number)

    def stop_run(self, run_id: str, *, reason: StopReason = "user", gate_broken: str | None = None) -> LoadTestRun:
        """Ask a run to stop, at once and for certain: by signal, by the answer to its next push, at last by force.

        Stopping a run that is stopping already changes nothing. `gate_broken` is the gate that asks for it.

        Raises
        ------
        Conflict
            If the run is over.
        """
        why = {"stop_reason": reason} | ({"gate_broken": gate_broken} if gate_broken else {})
        moved = self._store.runs.move(run_id, RunStatus.STOPPING, stop_requested_at=now_ms(), **why)
        if moved:
            if _is_unheard(moved):
                return self._withdraw(moved, RunStatus.STOPPED)
            self._launcher.stop(moved)
            return moved
        run = self._store.runs.get(run_id)
        if run.is_over:
            raise Conflict(f"{run.id} is over already: {run.status.value}")
        return run

    def supervise(self) -> None:
        """Reconcile every second in a thread of its own, until `close`. Idempotent."""
        if self._supervisor is None or not self._supervisor.is_alive():
            self._ended.clear()
            self._supervisor = threading.Thread(target=self._supervise, name="loadbench-supervisor", daemon=True)
            self._supervisor.start()

    def close(self) -> None:
        """End the supervisor. Runs go on: their processes do not depend on this one."""
        self._ended.set()
        if self._supervisor is not None:
            self._supervisor.join(timeout=10)

    def _supervise(self) -> None:
        while not self._ended.wait(SUPERVISE_EVERY_S):
            try:
                self.reconcile()
                self.seal()
                self.retain()
            except StoreUnavailable as error:
                log.warning("runs cannot be looked after: %s", error)
            except Exception:  # whatever it is, no run may stay Running because this thread has died
                log.exception("runs could not be looked after this time")

    def retain(self) -> None:
        """Once an hour, delete the intervals that are older than the retention, if one is set; a few runs at a time."""
        if self._retention_days is None or time.monotonic() < self._retain_at:
            return
        if self._catalogue.purge(self._retention_days, limit=_PURGED_AT_ONCE) < _PURGED_AT_ONCE:
            self._retain_at = time.monotonic() + RETAIN_EVERY_S

    def seal(self) -> None:
        """Seal the runs that were active and are over now, a few at a time; any other is sealed when it is read."""
        ended = sorted(self._unsealed - self._active)[:_SEALED_AT_ONCE]
        for run in self._store.runs.get_all(ended) if ended else ():
            if not run.is_over:
                continue
            try:
                seal(self._store, run)
            except LoadbenchError as error:
                log.warning("%s cannot be sealed now, but when it is read: %s", run.id, error)
        self._unsealed -= set(ended)

    def reconcile(self) -> None:
        """Compare every active run with its processes, and move those that are not what they say."""
        active = self._store.runs.find(status=ACTIVE, limit=1000)
        self._active = {run.id for run in active}
        self._unsealed |= self._active
        for run in active:
            try:
                self._reconcile(run)
            except (LoadbenchError, OSError) as error:
                log.warning("%s cannot be looked after: %s", run.id, error)  # the others still can

    def _reconcile(self, run: LoadTestRun) -> None:
        alive = self._launcher.is_alive(run)
        if alive:
            self._hurry(run)
        elif alive is False:
            self._bury(run)
        elif run.origin == "external" and run.status is RunStatus.PENDING:
            if _is_unheard(run) and now_ms() > run.created_at + 1000 * START_WITHIN_S:
                error = f"nobody started it within {START_WITHIN_S // 60} minutes: register it again"
                self._withdraw(run, RunStatus.FAILED, stop_reason="error", error=error)
        elif (run.lease_expires_at or 0) < now_ms():
            self._fail(run, "nothing was heard of it for 30 s, and its processes cannot be seen from here", "lost")

    def _hurry(self, run: LoadTestRun) -> None:
        """End by force what had its time: a stop that is not obeyed, a run far over its duration."""
        stopping_s = (now_ms() - run.stop_requested_at) / 1000 if run.stop_requested_at else 0
        running_s = (now_ms() - run.started_at) / 1000 if run.started_at else 0
        if stopping_s > KILL_AFTER_S or running_s > run.duration_sec + KILL_AFTER_S + OVERDUE_S:
            self._launcher.kill(run)

    def _bury(self, run: LoadTestRun) -> None:
        """The leader is dead: end what is left of its group, deliver its spool, and only then judge the run."""
        self._launcher.kill(run)
        self.deliver_spool(run)
        run = self._store.runs.get(run.id)
        words = self._launcher.last_words(run)
        if run.status is RunStatus.STOPPING:
            self._end(run, RunStatus.STOPPED)
        elif run.status is RunStatus.PENDING:
            self._fail(run, words or "Locust ended before the test began: see locust.log of the run", "error")
        elif run.status is RunStatus.RUNNING:
            self._fail(run, words or "its processes died", "lost")

    def deliver_spool(self, run: LoadTestRun) -> int:
        """Send what a dead run left in its spool through the receiver, as its agent would have.

        Returns
        -------
        int
            How many messages were delivered.
        """
        path = spool_path(run.id)
        if not path.exists():
            return self._deliver_elsewhere(run)
        # The spool holds no token, and the store only its hash: the left-overs travel on a new one.
        spool = Spool(path)
        try:
            return drain(spool, url=self._receiver_url(), token=self._store.tokens.create_push(run.id))
        finally:
            spool.close(remove_if_empty=True)
            self._store.tokens.revoke(run.id)

    def _deliver_elsewhere(self, run: LoadTestRun) -> int:
        if run.process is not None or run.receiver_url is None or run.origin != "launched":
            return 0
        token = self._store.tokens.create_push(run.id)
        try:
            return self._launcher.deliver(run, RunContext(receiver_url=run.receiver_url, token=token))
        finally:
            self._store.tokens.revoke(run.id)

    def deliver_left_overs(self) -> dict[str, int]:
        """Deliver the spools of all runs whose processes are gone: run id -> number of messages."""
        delivered = {}
        for path in sorted(data_home().joinpath("spool").glob("*.db")):
            with contextlib.suppress(NotFound):
                run = self._store.runs.get(path.stem)
                if not self._launcher.is_alive(run):
                    delivered[run.id] = self.deliver_spool(run)
        return delivered

    def _withdraw(self, run: LoadTestRun, status: RunStatus, **fields: object) -> LoadTestRun:
        """End a registered run that nobody has started, and see to it that nobody does later."""
        self._store.tokens.revoke(run.id)
        self._end(run, status, **fields)
        return self._store.runs.get(run.id)

    def _fail(self, run: LoadTestRun, error: str, reason: str) -> None:
        self._end(run, RunStatus.FAILED, stop_reason=reason, error=error)

    def _end(self, run: LoadTestRun, status: RunStatus, **fields: object) -> None:
        completeness, gaps = self._store.ledger.check(run)
        self._store.runs.move(
            run.id, status, finished_at=now_ms(), completeness=completeness, gaps=tuple(gaps), **fields
        )


def retention_days(configured: int | None = None) -> int | None:
    """Read for how many days intervals are kept: the environment, else what is configured, else None, for ever."""
    text = os.environ.get(ENV_RETENTION_DAYS)
    if not text:
        return configured
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) >= 1):
        raise InvalidInput(
            f"{ENV_RETENTION_DAYS} must be whole days, at least 1; not {text!r}", field=ENV_RETENTION_DAYS
        )
    return int(text)


def _is_unheard(run: LoadTestRun) -> bool:
    """Say whether a run is registered and no agent of it has been heard lately."""
    return run.origin == "external" and run.started_at is None and (run.lease_expires_at or 0) < now_ms()


def spool_path(run_id: str) -> Path:
    """Say where the agent of a local run spools what it has not delivered yet."""
    return data_home() / "spool" / f"{run_id}.db"


def _new_run(test: LoadTest, **fields: object) -> LoadTestRun:
    scope = {name: getattr(test, name) for name in ("account_id", "org_id", "project_id", "env_id")}
    try:
        run = LoadTestRun(load_test_id=test.id, **scope, **fields)
    except ValidationError as error:
        raise invalid_input(error, PARAMETERS) from None
    if run.duration_sec > test.max_duration_sec:
        raise InvalidInput(
            f"duration {run.duration_sec} s is over the maximum of {test.name!r}, {test.max_duration_sec} s: "
            "shorten it, or raise max_duration of the test",
            field="duration",
        )
    return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_target(url: str, *, within_s: float = 3.0) -> None:
    """Make sure that something accepts connections at a URL's host and port.

    Raises
    ------
    TargetUnreachable
        If nothing does.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise InvalidInput(f"target_url has no valid host or port: {url!r}", field="target_url") from None
    try:
        socket.create_connection((parts.hostname, port), timeout=within_s).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TargetUnreachable(
            f"the target {url} does not answer ({reason}): start it, or give another target_url"
        ) from None
    except UnicodeError:  # a name that cannot be one, such as one with a part of over 63 characters
        raise InvalidInput(f"target_url has no valid host: {url!r}", field="target_url") from None
