"""The collection `metrics_timeseries`: the ledger of intervals, one document each, nothing lost and nothing twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from pymongo.errors import DuplicateKeyError

from loadbench.errors import InvalidInput, one_of
from loadbench.model import Completeness, Gap, Interval, LoadTestRun, SourceState
from loadbench.store.documents import Documents

Appended = Literal["created", "duplicate", "conflict"]

FIELDS = tuple("_id" if name == "id" else info.alias or name for name, info in Interval.model_fields.items())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 500
_COUNTS = ("seq", "requests", "failed", "cumRequests")


class Ledger:
    """All intervals of all runs. The string `_id`, run:source:seq, is what makes a repeated push harmless."""

    def __init__(self, intervals: Documents) -> None:
        self._intervals = intervals

    def append(self, interval: Interval) -> Appended:
        """Write an interval to disk; "created" is returned only when the journal has it.

        Returns
        -------
        str
            "created"; "duplicate" if it is there already, made from the same body; "conflict" if another one is.
        """
        if interval.id != Interval.key(interval.run_id, interval.source, interval.seq):
            raise InvalidInput(f"id must be runId:source:seq; not {interval.id!r}", field="id")
        try:
            self._intervals.insert(interval.to_mongo())
        except DuplicateKeyError:
            stored = self._intervals.one({"_id": interval.id}, fields=("bodySha256",))
            return "duplicate" if stored and stored["bodySha256"] == interval.body_sha256 else "conflict"
        return "created"

    def fill(self, intervals: Sequence[Interval]) -> None:
        """Write the intervals of a run that nobody pushes to, many at once. None of them may be there yet."""
        for start in range(0, len(intervals), _BATCH):
            self._intervals.insert_all([interval.to_mongo() for interval in intervals[start : start + _BATCH]])

    def delete(self, run_id: str) -> None:
        """Delete all intervals of a run, in parts that take MongoDB less than a second each."""
        while found := self._intervals.many({"runId": run_id}, limit=_BATCH, fields=("_id",)):
            self._intervals.delete({"_id": {"$in": [document["_id"] for document in found]}})

    def run_ids(self) -> list[str]:
        """List the runs that have intervals."""
        return self._intervals.distinct("runId", {})

    def documents(
        self,
        run_id: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        after: dict[str, int] | None = None,
        fields: Iterable[str] | None = None,
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Read a run's intervals as stored, by time.

        Parameters
        ----------
        run_id : str
            The run.
        start_ms, end_ms : int, optional
            Intervals that end within (start, end], in Unix ms: neighbouring windows share none.
        after : dict of str to int, optional
            Source -> the last seq seen of it. Only later intervals are given, and all of the sources not named.
        fields : iterable of str, optional
            The fields wanted, named as in MongoDB; `timestamp`, `source` and `seq` are always there. All if left out.
        limit : int
            Only so many, the earliest; 0 for all.

        Returns
        -------
        list of dict
            Ascending by `timestamp`, then `seq`. `timestamp` is an aware datetime in UTC.
        """
        wanted = None if fields is None else {"timestamp", "source", "seq", *fields}
        for field in wanted or ():
            if field not in FIELDS:
                raise one_of("field", field, FIELDS)
        where: dict[str, Any] = {"runId": run_id}
        window = {"$gt": _datetime(start_ms), "$lte": _datetime(end_ms)}
        if start_ms is not None or end_ms is not None:
            where["timestamp"] = {operator: bound for operator, bound in window.items() if bound is not None}
        if not after:
            return self._intervals.many(where, sort=(("timestamp", 1), ("seq", 1)), limit=limit, fields=wanted)
        # Sorted here: with a sort asked of it, MongoDB prefers the index by time and reads the whole run.
        later = self._intervals.many({"$or": [where | part for part in _later(after)]}, fields=wanted)
        later.sort(key=lambda document: (document["timestamp"], document["seq"]))
        return later[:limit] if limit else later

    def check(self, run: LoadTestRun) -> tuple[Completeness, list[Gap]]:
        """Answer "is everything here that the run's sources said they sent?".

        Returns
        -------
        completeness : str
            "complete" if of each source all intervals up to its last are here, their sums are what it counted, it
            dropped nothing, and no worker was lost together with what it had counted last; "gaps" if not; "unknown" if
            a source that pushed has not said how it ended.
        gaps : list of Gap
            Each missing range, with the number of requests in it where the running totals around it tell. Where all
            intervals are here but their sums fall short, the whole range is given.
        """
        if not run.sources:
            return "unknown", []
        gaps: list[Gap] = []
        whole = True
        for state in run.sources:
            found = self._gaps(run.id, state)
            gaps += found
            whole = whole and not found and state.dropped == 0
        if not whole or run.workers_lost:
            return "gaps", gaps
        unfinished = set(self._intervals.distinct("source", {"runId": run.id})) - {s.source for s in run.sources}
        return ("unknown" if unfinished else "complete"), []

    def _gaps(self, run_id: str, state: SourceState) -> list[Gap]:
        stored = self._intervals.many(
            {"runId": run_id, "source": state.source, "seq": {"$lte": state.last_seq}},
            sort=(("seq", 1),),
            fields=_COUNTS,
        )
        missing = _missing(stored, state)
        if missing:
            return missing
        requests = sum(document["requests"] for document in stored)
        failures = sum(document["failed"] for document in stored)
        if (requests, failures) == (state.requests, state.failures):
            return []
        short = state.requests - requests
        return [Gap(source=state.source, from_seq=0, to_seq=state.last_seq, requests=short if short > 0 else None)]


def _missing(stored: Sequence[dict[str, Any]], state: SourceState) -> list[Gap]:
    """The ranges of seq up to the last that are not there; `stored` ascends by seq."""
    # One imagined interval before the first, and one after the last that begins where the source ended.
    first = {"seq": -1, "requests": 0, "cumRequests": 0}
    last = {"seq": state.last_seq + 1, "requests": 0, "cumRequests": state.requests}
    gaps = []
    for before, behind in pairwise([first, *stored, last]):
        if behind["seq"] - before["seq"] > 1:
            requests = behind["cumRequests"] - behind["requests"] - before["cumRequests"]
            gaps.append(
                Gap(
                    source=state.source,
                    from_seq=before["seq"] + 1,
                    to_seq=behind["seq"] - 1,
                    requests=requests if requests >= 0 else None,
                )
            )
    return gaps


def _later(after: dict[str, int]) -> list[dict[str, Any]]:
    seen = [{"source": source, "seq": {"$gt": seq}} for source, seq in after.items()]
    return [*seen, {"source": {"$nin": list(after)}}]


def _datetime(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)
