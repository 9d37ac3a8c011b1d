"""What agents push: test-start, metrics, test-stop, heartbeat. Each message may come any number of times.

A 2xx is given only after the journaled write. Work is done in an order in which a retry, after a crash at any point,
ends in the same state: the ledger's unique key tells what is there, moves are compare-and-set, the rest overwrites
with equal values. A repeated key counts as the same interval iff the content is equal; spelling of the JSON and the
order of its keys do not matter, and of a key given twice the last one holds.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadbench.agent import wire
from loadbench.agent.histogram import merge, pack, unpack
from loadbench.errors import InvalidInput, NotFound
from loadbench.messages import Heartbeat, IntervalPush, Message, TestStart, TestStop, interval_of, last_metrics
from loadbench.model import (
    EARLIEST_MS,
    LATEST_MS,
    Endpoint,
    Interval,
    LoadTestRun,
    RunStatus,
    SourceState,
    now_ms,
)
from loadbench.store import Store
from server.base import Handler, Refused, Service, parse, unavailable

logger = logging.getLogger("loadbench.receiver")

LEASE_MS = 30_000
MAX_SOURCES = 256
_RUNS_REMEMBERED = 256
_MAX_BUCKET_COUNT = 2**32 - 1
_OTHER = Endpoint(method="", name=wire.OTHER)
_MAX_MOVES = 8
_BY_ITSELF = frozenset({"duration", "shape", "script"})


@dataclass(frozen=True)
class Outcome:
    """What a push led to: the HTTP status, where the run stands, and the interval if it is new."""

    http_status: int
    status: RunStatus
    verdict: str | None = None
    document: dict[str, Any] | None = None


class Ingest:
    """The verbs of the four routes, on one store. Blocking; safe in several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sources: OrderedDict[str, set[str]] = OrderedDict()
        self._lock = threading.Lock()

    def test_start(self, message: TestStart, sent_at: int | None) -> Outcome:
        """Move Pending -> Running; on a run that runs already, add what only this message knows."""
        run = self._run(message.run_id)
        if run.environment == message.environment:
            self._renew(run, sent_at)
            return Outcome(200, run.status)
        self._check_open(run, message.source, None)
        fields: dict[str, Any] = {"environment": message.environment, "started_at": message.timestamp}
        if run.status is RunStatus.PENDING:
            moved = self._store.runs.move(
                run.id, RunStatus.RUNNING, when=[RunStatus.PENDING], lease_expires_at=now_ms() + LEASE_MS, **fields
            )
            if moved is not None:
                return Outcome(201, moved.status)
            run = self._run(run.id)
        if run.environment is None:
            run = self._store.runs.update(run.id, **fields)
        self._renew(run, sent_at)
        return Outcome(201, run.status)

    def metrics(self, push: IntervalPush, sent_at: int | None) -> Outcome:
        """Store one interval; the first one starts a Pending run."""
        run = self._run(push.run_id)
        self._check_open(run, push.source, push.seq)
        verdict, interval = self._append(run, push)
        if push.final and verdict != "conflict":
            self._store.runs.close_source(run.id, _end_of(push))
        if run.status is RunStatus.PENDING:
            started_at = max(1, push.timestamp - round(push.duration_ms))
            self._store.runs.move(run.id, RunStatus.RUNNING, when=[RunStatus.PENDING], started_at=started_at)
            run = self._run(run.id)
        if run.is_over:
            self._decide_completeness(run.id)
        self._renew(run, sent_at, interval)
        return self._stored(run, verdict, interval)

    def test_stop(self, message: TestStop, sent_at: int | None) -> Outcome:
        """Store the final interval, close the source, and end the run."""
        run = self._run(message.run_id)
        self._check_open(run, message.source, message.last_seq)
        verdict, interval = self._append(run, message.final)
        self._store.runs.close_source(run.id, _end_of(message.final))
        self._renew(run, sent_at, interval)
        return self._stored(self._end(message), verdict, interval)

    def heartbeat(self, message: Heartbeat, sent_at: int | None) -> Outcome:
        """Renew the lease: the agent lives although it has nothing to report."""
        run = self._run(message.run_id)
        self._check_open(run, message.source, None)
        self._renew(run, sent_at)
        return Outcome(200, run.status)

    def _run(self, run_id: str) -> LoadTestRun:
        try:
            return self._store.runs.get(run_id)
        except NotFound:
            raise no_such_run() from None

    def _check_open(self, run: LoadTestRun, source: str, seq: int | None) -> None:
        """Refuse what comes too late: after the end that its source has said, or of a run that is over.

        Still taken: what fills a gap of a source that has said its end; and everything of a run that was given up as
        lost, or whose processes were killed before they could say their end.
        """
        closed = {state.source: state.last_seq for state in run.sources}
        if seq is not None and seq > closed.get(source, seq):
            raise Refused(409, "run_closed", f"the source has said that {closed[source]} is its last interval")
        if not run.is_over or run.stop_reason == "lost":
            return
        if source in closed:
            is_open = seq is not None
        elif not closed:
            is_open = run.status is RunStatus.STOPPED
        else:
            is_open = source in self._sources_of(run.id)
        if not is_open:
            raise Refused(409, "run_closed", f"the run is over ({run.status}); it takes no more data")

    def _append(self, run: LoadTestRun, push: IntervalPush) -> tuple[str, Interval]:
        self._check_source(run.id, push.source)
        digest = hashlib.sha256(push.model_dump_json(by_alias=True, exclude_unset=True).encode()).hexdigest()
        push = folded(push, run.endpoints)
        known = {endpoint: index for index, endpoint in enumerate(run.endpoints)}
        if all(endpoint in known for endpoint in push.endpoints):
            indices = [known[endpoint] for endpoint in push.endpoints]
        else:
            # What is refused for its figures must not have added its endpoints to the run.
            interval_of(push, range(len(push.endpoints)), received_at=now_ms(), body_sha256=digest)
            indices = self._store.runs.endpoint_indices(run.id, push.endpoints)
        interval = interval_of(push, indices, received_at=now_ms(), body_sha256=digest)
        verdict = self._store.ledger.append(interval)
        if verdict == "conflict":
            logger.warning("interval %s came again with other content; the first one stays", interval.id)
        return verdict, interval

    def _stored(self, run: LoadTestRun, verdict: str, interval: Interval) -> Outcome:
        if verdict == "created":
            return Outcome(201, run.status, verdict, interval.to_mongo())
        return Outcome(200, run.status, verdict)

    def _renew(self, run: LoadTestRun, sent_at: int | None, interval: Interval | None = None) -> None:
        """Renew the lease; with an interval newer than the last one known, also the figures that lists show.

        An interval of a run that is over is counted as late: after it was stored, whether it was there already or not,
        so that no seal of the run is taken for one that has it.
        """
        if run.is_over:
            if interval is not None:
                self._store.runs.count_late(run.id)
            return
        now = now_ms()
        metrics = workers_lost = None
        if interval is not None:
            metrics = last_metrics(interval)
            if run.last_metrics is not None and metrics.timestamp < run.last_metrics.timestamp:
                metrics = None
            elif not interval.final:  # at the end workers leave; how many were lost is in the test-stop
                workers_lost = max(0, interval.workers_expected - interval.workers)
        renewed = self._store.runs.touch(
            run.id,
            lease_expires_at=now + LEASE_MS,
            last_metrics=metrics,
            clock_skew_ms=None if sent_at is None else now - sent_at,
            workers_lost=workers_lost,
        )
        if not renewed and interval is not None:  # it ended meanwhile
            self._decide_completeness(run.id)
            self._store.runs.count_late(run.id)

    def _end(self, message: TestStop) -> LoadTestRun:
        """Move the run to its end. Each pass makes at most one move, so it may be cut off anywhere and repeated."""
        for _ in range(_MAX_MOVES):
            run = self._decide_completeness(message.run_id, workers_lost=message.workers_lost)
            ended: dict[str, Any] = {"stop_reason": message.reason, "finished_at": message.timestamp}
            if message.error is not None:
                ended["error"] = message.error
            runs = self._store.runs
            if run.status is RunStatus.FAILED and run.stop_reason == "lost":
                ended.setdefault("error", None)
                if message.reason == "workers-lost":
                    return runs.update(run.id, **ended)
                to = RunStatus.FINISHED if message.reason in _BY_ITSELF else RunStatus.STOPPED
                runs.recover(run.id, to, **ended)
            elif run.is_over:
                return run
            elif run.status is RunStatus.PENDING:
                started_at = max(1, message.final.timestamp - round(message.final.duration_ms))
                runs.move(run.id, RunStatus.RUNNING, when=[RunStatus.PENDING], started_at=started_at)
            elif run.status is RunStatus.STOPPING:
                ended["stop_reason"] = run.stop_reason or message.reason
                runs.move(run.id, RunStatus.STOPPED, when=[RunStatus.STOPPING], **ended)
            elif message.reason in _BY_ITSELF:
                runs.move(run.id, RunStatus.FINISHED, when=[RunStatus.RUNNING], **ended)
            elif message.reason == "workers-lost":
                ended.setdefault("error", "all workers were lost")
                runs.move(run.id, RunStatus.FAILED, when=[RunStatus.RUNNING], **ended)
            else:
                runs.move(run.id, RunStatus.STOPPING, when=[RunStatus.RUNNING], stop_reason=message.reason)
        raise unavailable(f"the status of run {message.run_id} keeps changing")

    def _decide_completeness(self, run_id: str, **fields: Any) -> LoadTestRun:
        run = self._run(run_id)
        completeness, gaps = self._store.ledger.check(run.model_copy(update=fields))
        fields |= {"completeness": completeness, "gaps": tuple(gaps)}
        if all(getattr(run, name) == value for name, value in fields.items()):
            return run
        return self._store.runs.update(run_id, **fields)

    def _check_source(self, run_id: str, source: str) -> None:
        sources = self._sources_of(run_id)
        if source not in sources and len(sources) >= MAX_SOURCES:
            raise Refused(429, "too_many_sources", f"a run takes pushes from at most {MAX_SOURCES} sources")
        with self._lock:
            sources.add(source)

    def _sources_of(self, run_id: str) -> set[str]:
        """Give the sources that have pushed intervals of a run; read once from the ledger, then remembered."""
        with self._lock:
            if run_id in self._sources:
                self._sources.move_to_end(run_id)
                return self._sources[run_id]
        stored = set(self._store.database["metrics_timeseries"].distinct("source", {"runId": run_id}))
        with self._lock:
            sources = self._sources.setdefault(run_id, stored)
            while len(self._sources) > _RUNS_REMEMBERED:
                self._sources.popitem(last=False)
            return sources


def _end_of(final: IntervalPush) -> SourceState:
    """Say what a source has counted in all, as its last interval tells."""
    counted = {"requests": final.cum_requests, "failures": final.cum_failures, "dropped": final.dropped}
    return SourceState(source=final.source, last_seq=final.seq, **counted)


def no_such_run() -> Refused:
    """Answer for a run that does not exist and for one of another project: nobody can tell which it was."""
    return Refused(404, "not_found", "there is no such run")


def no_token() -> Refused:
    """Answer for a push without a token that is good for its run."""
    return Refused(
        401,
        "unauthorized",
        "give the run's push token as Authorization: Bearer <token>",
        headers={"WWW-Authenticate": "Bearer"},
    )


def folded(push: IntervalPush, known: Sequence[Endpoint]) -> IntervalPush:
    """Count under "(other)" what would be more than MAX_ROWS endpoints in the run's list.

    An agent folds too; this bounds the run's document against many sources, and against names that never repeat.
    """
    names = set(known)
    room = max(0, wire.MAX_ROWS - len(names))
    new = [endpoint for endpoint in push.endpoints if endpoint not in names]
    if len(new) <= room:
        return push
    names.update(new[:room])
    groups: dict[Endpoint, list[int]] = {}
    for row, endpoint in enumerate(push.endpoints):
        groups.setdefault(endpoint if endpoint in names else _OTHER, []).append(row)
    position = {row: i for i, rows in enumerate(groups.values()) for row in rows}
    histograms = unpack(push.packed)
    merged = [merge([histograms[2 * row + side] for row in rows]) for rows in groups.values() for side in (0, 1)]
    if any(count > _MAX_BUCKET_COUNT for histogram in merged for count in histogram.values()):
        raise InvalidInput("histograms: the counts of one interval are out of range", field="histograms")
    timed = [[row for row in rows if push.n[row] > push.untimed[row]] for rows in groups.values()]
    columns = {
        name: tuple(sum(getattr(push, name)[row] for row in rows) for rows in groups.values())
        for name in ("n", "failures", "untimed", "sum_ms", "failed_sum_ms", "bytes")
    }
    columns["min_ms"] = tuple(min((push.min_ms[row] for row in rows), default=0.0) for rows in timed)
    columns["max_ms"] = tuple(max((push.max_ms[row] for row in rows), default=0.0) for rows in timed)
    return push.model_copy(
        update={
            "endpoints": tuple(groups),
            **columns,
            "histograms": base64.b64encode(pack(merged)).decode(),
            "errors": tuple((position[row], text, n) for row, text, n in push.errors),
        }
    )


class PushHandler(Handler):
    """One of the four routes: `verb` names the method of Ingest, `model` the message that it takes."""

    cross_site = False

    def initialize(self, service: Service, ingest: Ingest, verb: str, model: type[Message]) -> None:
        super().initialize(service)
        self._verb = getattr(ingest, verb)
        self._model = model

    async def authorize(self) -> None:
        header = self.request.headers.get("Authorization", "")
        tokens = self.service.tokens
        self._run_id = tokens.known(header) or await self.run(tokens.run_of, header)
        if self._run_id is None:
            raise no_token()

    async def post(self) -> None:
        outcome = await self.run(self._take, self.body())
        meters = self.service.meters
        if outcome.verdict is not None:
            meters.intervals[outcome.verdict] += 1
            meters.ingested(self.request.request_time())
        self.service.feed.publish(self._run_id, outcome.status, outcome.document)
        if self.service.watch is not None and outcome.verdict == "created":
            self.service.watch.heard(self._run_id)
        if outcome.verdict == "conflict":
            raise Refused(409, "conflict", "this interval is stored already with other content")
        self.reply(outcome.http_status, {"status": outcome.status})

    def _take(self, body: bytes) -> Outcome:
        message = parse(self._model, body)
        if message.run_id != self._run_id:
            raise no_token() if self._is_of_the_project(message.run_id) else no_such_run()
        return self._verb(message, self._sent_at())

    def _is_of_the_project(self, run_id: str) -> bool:
        """Say whether a run is of the same project as the token's: that it exists is then no secret."""
        runs = {run.id: run.scope for run in self.service.store.runs.get_all([self._run_id, run_id])}
        projects = {(scope.account_id, scope.org_id, scope.project_id) for scope in runs.values()}
        return len(runs) == 2 and len(projects) == 1

    def _sent_at(self) -> int | None:
        """Read when this attempt left the agent; only for showing the skew of its clock, so nothing is refused."""
        header = self.request.headers.get(wire.SENT_AT_HEADER, "")
        sent_at = int(header) if header.isascii() and header.isdecimal() and len(header) < 16 else 0
        return sent_at if EARLIEST_MS <= sent_at < LATEST_MS else None


def routes(service: Service) -> list[tuple[str, type[Handler], dict[str, Any]]]:
    """Give the route table of what agents push."""
    ingest = Ingest(service.store)
    table = (
        (wire.TEST_START, "test_start", TestStart),
        (wire.METRICS, "metrics", IntervalPush),
        (wire.TEST_STOP, "test_stop", TestStop),
        (wire.HEARTBEAT, "heartbeat", Heartbeat),
    )
    return [
        (wire.ROUTE_PREFIX + path, PushHandler, {"service": service, "ingest": ingest, "verb": verb, "model": model})
        for path, verb, model in table
    ]
