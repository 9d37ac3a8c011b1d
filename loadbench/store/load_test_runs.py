"""The collection `load_test_runs`. A status changes here only, each move by one compare-and-set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo.errors import DuplicateKeyError

from loadbench.errors import Conflict, InvalidInput, NotFound, one_of
from loadbench.model import (
    RECENT_RUNS,
    TRANSITIONS,
    Endpoint,
    LastMetrics,
    LoadTestRun,
    RecentRun,
    RunStatus,
    Scope,
    SourceState,
    now_ms,
)
from loadbench.store.documents import NEWEST_FIRST, Documents, changes, unchanged
from loadbench.store.load_tests import within
from loadbench.store.paging import Page, page

_FIXED = frozenset(
    {"id", "account_id", "org_id", "project_id", "load_test_id", "status", "endpoints", "sources"}
    | {"created_at", "created_by", "updated_at"}
)
_WRITTEN = frozenset({"name", "notes", "tags", "metadata", "windows"})
_SHOWN = 5


class LoadTestRuns:
    """Every run, and its entry in `recentRuns` of its test."""

    def __init__(self, runs: Documents, tests: Documents) -> None:
        self._runs = runs
        self._tests = tests

    def add(self, run: LoadTestRun) -> LoadTestRun:
        """Store a new run and put it first in its test's `recentRuns`.

        Repeating it, after a crash between the two writes too, completes what is missing and changes nothing else.

        Raises
        ------
        NotFound
            If the run names a test that is not there.
        Conflict
            If another run has its id.
        """
        if run.load_test_id and not self._tests.one({"_id": run.load_test_id}, fields=("_id",)):
            raise NotFound(f"no test {run.load_test_id}: create the test before its run")
        stored = run
        try:
            self._runs.insert(run.to_mongo())
        except DuplicateKeyError:
            stored = self.get(run.id)
            if (stored.created_at, stored.load_test_id, stored.name) != (run.created_at, run.load_test_id, run.name):
                raise Conflict(f"there is another run {run.id} already: give this one an id of its own") from None
        self._note(stored)
        if run.load_test_id and not self._tests.one({"_id": run.load_test_id}, fields=("_id",)):
            self.delete(run.id)
            raise NotFound(f"test {run.load_test_id} was deleted meanwhile: there is nothing to run")
        return stored

    def get(self, run_id: str) -> LoadTestRun:
        """Fetch one run; NotFound if there is none with that id."""
        document = self._runs.one({"_id": run_id})
        if document is None:
            raise _unknown(run_id)
        return LoadTestRun.from_mongo(document)

    def resolve(self, prefix: str, scope: Scope | None = None) -> LoadTestRun:
        """Fetch the run whose id is, or begins with, `prefix`; "run-" may be left out.

        Raises
        ------
        NotFound
            If no run of the scope has such an id; the message names the newest ones.
        InvalidInput
            If several have; the message names them.
        """
        if not prefix:
            raise InvalidInput("run must be an id, or its first characters", field="run")
        start = {"$regex": f"^(run-)?{re.escape(prefix)}"}
        ids = [found["_id"] for found in self._runs.many(within(scope) | {"_id": start}, limit=_SHOWN + 1,
                                                         sort=(("_id", 1),), fields=("_id",))]  # fmt: skip
        exact = next((found for found in (prefix, f"run-{prefix}") if found in ids), None)
        if exact is None and len(ids) > 1:
            more = ", ..." if len(ids) > _SHOWN else ""
            raise InvalidInput(f"{prefix} could be {', '.join(ids[:_SHOWN])}{more}: give more characters", field="run")
        if not ids:
            newest = self._runs.many(within(scope), sort=NEWEST_FIRST, limit=_SHOWN, fields=("_id", "name"))
            there = ", ".join(f"{run['_id']} ({run['name']})" for run in newest)
            place = f" in {scope}" if scope else ""
            hint = f"the newest are {there}" if there else "there are no runs yet"
            raise NotFound(f"no run {prefix}{place}: {hint}")
        return self.get(exact or ids[0])

    def find(
        self,
        scope: Scope | None = None,
        *,
        load_test_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        metadata: Mapping[str, str | int | float | bool] | None = None,
        limit: int = 50,
    ) -> list[LoadTestRun]:
        """List runs, newest first; `metadata` are values that they must have."""
        where = within(scope)
        if load_test_id is not None:
            where["loadTestId"] = load_test_id
        if status is not None:
            wanted = [status] if isinstance(status, str) else status
            where["status"] = {"$in": [_status(item) for item in wanted]}
        where |= {f"metadata.{name}": value for name, value in (metadata or {}).items()}
        return [LoadTestRun.from_mongo(found) for found in self._runs.many(where, sort=NEWEST_FIRST, limit=limit)]

    def page(self, where: Mapping[str, Any], **how: Any) -> Page[LoadTestRun]:
        """List runs that fit a MongoDB filter, a page at a time, without their endpoints and sources.

        `how` as in `paging.page`.
        """
        searched = ("name", "notes", "_id")
        return page(self._runs, LoadTestRun, where, searched=searched, without=("endpoints", "sources"), **how)

    def move(
        self, run_id: str, to: RunStatus, *, when: Iterable[RunStatus] | None = None, **fields: Any
    ) -> LoadTestRun | None:
        """Bring a run into another state, if it is now in one from which that is allowed (and which is in `when`).

        Of several callers at once exactly one succeeds. `fields` are written together with the status;
        `finished_at` is now for a final state that is given none.

        Returns
        -------
        LoadTestRun or None
            The run as it is then; None if it was not moved.
        """
        to = _status(to)
        origins = {origin for origin in TRANSITIONS if to in TRANSITIONS[origin] and not origin.is_final}
        if when is not None:
            origins &= {_status(item) for item in when}
        if to.is_final:
            fields.setdefault("finished_at", now_ms())
        moved = self._set_status(run_id, to, {"status": {"$in": sorted(origins)}}, fields)
        if moved is None:
            self._note(self.get(run_id))  # should the process that moved it have died before it could do this
        return moved

    def recover(self, run_id: str, to: RunStatus, **fields: Any) -> LoadTestRun | None:
        """Correct a run that was given up as lost when its end arrives after all; None if it was not lost."""
        to = _status(to)
        if to not in TRANSITIONS[RunStatus.FAILED]:
            raise one_of("the state of a recovered run", to, sorted(TRANSITIONS[RunStatus.FAILED]))
        fields = {"stop_reason": None, "error": None, "finished_at": now_ms()} | fields
        return self._set_status(run_id, to, {"status": RunStatus.FAILED, "stopReason": "lost"}, fields)

    def update(self, run_id: str, **fields: Any) -> LoadTestRun:
        """Change fields, named as in `LoadTestRun`, but never the status; None removes an optional one."""
        change = changes(LoadTestRun, fields, fixed=_FIXED)
        change["$set"]["updatedAt"] = now_ms()
        document = self._runs.take({"_id": run_id}, change)
        if document is None:
            raise _unknown(run_id)
        return LoadTestRun.from_mongo(document)

    def annotate(self, run_id: str, *, seen: LoadTestRun | None = None, **fields: Any) -> LoadTestRun | None:
        """Change what people write on a run: name, notes, tags, ...; None if they are not as `seen` any more."""
        change = changes(LoadTestRun, fields, fixed=_FIXED)
        change["$set"]["updatedAt"] = now_ms()
        condition = unchanged(seen, _WRITTEN) if seen else {}
        document = self._runs.take({"_id": run_id} | condition, change)
        if document is None:
            if not self._runs.one({"_id": run_id}, fields=("_id",)):
                raise _unknown(run_id)
            return None
        run = LoadTestRun.from_mongo(document)
        if "name" in fields and run.load_test_id:
            self._tests.update(
                {"_id": run.load_test_id, "recentRuns.runId": run.id}, {"$set": {"recentRuns.$.name": run.name}}
            )
        return run

    def delete(self, run_id: str) -> None:
        """Delete a run's record, and its entry in `recentRuns`. Its intervals are the ledger's."""
        found = self._runs.one({"_id": run_id}, fields=("loadTestId",))
        self._runs.delete({"_id": run_id})
        if found and found.get("loadTestId"):
            self._tests.update({"_id": found["loadTestId"]}, {"$pull": {"recentRuns": {"runId": run_id}}})

    def get_all(self, run_ids: Iterable[str]) -> list[LoadTestRun]:
        """Fetch the runs of these ids that there are."""
        return [LoadTestRun.from_mongo(found) for found in self._runs.many({"_id": {"$in": list(run_ids)}})]

    def unpurged(self, *, ended_before: int) -> list[LoadTestRun]:
        """List the runs that ended, and came here, before a time in Unix ms and keep their intervals; oldest first."""
        before = {"finishedAt": {"$lt": ended_before}, "createdAt": {"$lt": ended_before}}
        over = [status for status in RunStatus if status.is_final]
        where = before | {"status": {"$in": over}, "purgedAt": {"$exists": False}}
        return [LoadTestRun.from_mongo(found) for found in self._runs.many(where, sort=(("finishedAt", 1),))]

    def purged(self, run_ids: Sequence[str]) -> list[str]:
        """Give those of these runs whose intervals are said to be deleted."""
        found = self._runs.many({"_id": {"$in": list(run_ids)}, "purgedAt": {"$exists": True}}, fields=("_id",))
        return [each["_id"] for each in found]

    def touch(
        self,
        run_id: str,
        *,
        lease_expires_at: int,
        last_metrics: LastMetrics | None = None,
        clock_skew_ms: int | None = None,
        workers_lost: int | None = None,
    ) -> bool:
        """Renew the lease and note the latest figures, unless the run is over. Not journaled: it is done again soon.

        The lease, the figures and the count of lost workers never go back, whatever the order of arrival.

        Returns
        -------
        bool
            False if the run is over: what was stored of it just now may have missed its seal.
        """
        highest: dict[str, Any] = {"leaseExpiresAt": lease_expires_at}
        if last_metrics is not None:
            # MongoDB compares documents field by field, and the first field of this one is its timestamp.
            highest["lastMetrics"] = last_metrics.to_mongo()
        if workers_lost is not None:
            highest["workersLost"] = workers_lost
        change: dict[str, Any] = {"$max": highest}
        if clock_skew_ms is not None:
            change["$set"] = {"clockSkewMs": clock_skew_ms}
        active = {"status": {"$in": [status for status in RunStatus if not status.is_final]}}
        return self._runs.update({"_id": run_id} | active, change, journal=False)

    def count_late(self, run_id: str) -> None:
        """Note that an interval arrived after the end of the run: whatever was computed of it before is old now."""
        self._runs.update({"_id": run_id}, {"$inc": {"lateIntervals": 1}})

    def endpoint_indices(self, run_id: str, endpoints: Sequence[Endpoint]) -> list[int]:
        """Give the place of each endpoint in the run's list, after appending the ones that are new.

        The list only grows at its end, so an index once given stays true.
        """
        while True:
            found = self._runs.one({"_id": run_id}, fields=("endpoints",))
            if found is None:
                raise _unknown(run_id)
            rows = found["endpoints"]
            known = {(row["method"], row["name"]): index for index, row in enumerate(rows)}
            unknown = dict.fromkeys(endpoint for endpoint in endpoints if (endpoint.method, endpoint.name) not in known)
            if not unknown:
                return [known[endpoint.method, endpoint.name] for endpoint in endpoints]
            # Only if nobody else has appended since; otherwise the list is read again.
            self._runs.update(
                {"_id": run_id, "endpoints": {"$size": len(rows)}},
                {"$push": {"endpoints": {"$each": [endpoint.to_mongo() for endpoint in unknown]}}},
            )

    def close_source(self, run_id: str, state: SourceState) -> None:
        """Keep what a source said of its end; the first word counts, repeating it does nothing."""
        added = self._runs.update(
            {"_id": run_id, "sources.source": {"$ne": state.source}}, {"$push": {"sources": state.to_mongo()}}
        )
        if not added and not self._runs.one({"_id": run_id}, fields=("_id",)):
            raise _unknown(run_id)

    def _set_status(
        self, run_id: str, to: RunStatus, condition: dict[str, Any], fields: dict[str, Any]
    ) -> LoadTestRun | None:
        change = changes(LoadTestRun, fields, fixed=_FIXED)
        change["$set"] |= {"status": to, "updatedAt": now_ms()}
        document = self._runs.take({"_id": run_id} | condition, change)
        if document is None:
            return None
        run = LoadTestRun.from_mongo(document)
        self._note(run)
        return run

    def _note(self, run: LoadTestRun) -> None:
        """Make the run's entry in `recentRuns` say what the run says, whoever else is doing the same."""
        if run.load_test_id is None:
            return
        entry = RecentRun(
            run_id=run.id,
            name=run.name,
            status=run.status,
            created_at=run.created_at,
            finished_at=run.finished_at,
        ).to_mongo()
        newest = {"$each": [entry], "$sort": {"createdAt": -1, "runId": -1}, "$slice": RECENT_RUNS}
        self._tests.update(
            {"_id": run.load_test_id, "recentRuns.runId": {"$ne": run.id}}, {"$push": {"recentRuns": newest}}
        )
        # Forward only: the note of an earlier state, written late by a slower process, finds nothing to change.
        self._tests.update(
            {"_id": run.load_test_id},
            {"$set": {f"recentRuns.$[entry].{field}": value for field, value in entry.items() if field != "runId"}},
            array_filters=[{"entry.runId": run.id, "entry.status": {"$in": sorted(_before(run.status))}}],
        )


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"no run {run_id}: list the runs of the project to see those there are")


def _before(status: RunStatus) -> set[RunStatus]:
    """All states from which a run can have come to this one."""
    before: set[RunStatus] = set()
    reached = {status}
    while reached:
        reached = {origin for origin in TRANSITIONS if TRANSITIONS[origin] & reached} - before
        before |= reached
    return before


def _status(value: str) -> RunStatus:
    try:
        return RunStatus(value)
    except ValueError:
        raise one_of("status", value, RunStatus) from None
