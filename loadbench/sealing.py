"""Sealing: what a run that is over comes down to is computed once, kept, and read instead of its intervals.

A seal holds the merged histograms of the whole run and of each of its windows: any percentile of these is read from it.
It is made when a run ends, and anew when it is read and is missing or old: another interval has arrived since, or
somebody has set a window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from typing import Any

from loadbench.analysis import packed
from loadbench.analysis.condense import condense
from loadbench.analysis.intervals import FIELDS, Document, origin_ms, timestamps_ms, whole_slots, within
from loadbench.analysis.validity import Validity, judge
from loadbench.analysis.windows import STEADY, WHOLE, cut, effective, find, join, named, span, trace
from loadbench.errors import NotFound
from loadbench.model import LoadTestRun, Window, now_ms
from loadbench.store import Store

VERSION = 1
STRETCH_ROWS = 80_000
"""Number of rows, endpoints within intervals, that are read at once with their histograms."""
STRETCH_LEAST = 300


@dataclass(frozen=True)
class Seal:
    """A run, its windows, its validity (of the steady window), and one condensed document for each window.

    A window without intervals has no document in `parts`; `documents` gives none for it then.
    """

    run: LoadTestRun
    windows: tuple[Window, ...]
    validity: Validity
    parts: Mapping[str, Mapping[str, Any]]

    def __repr__(self) -> str:
        return f"<Seal of {self.run.id}: {', '.join(self.parts) or 'no intervals'}; {self.validity.level}>"

    def documents(self, window: str = WHOLE) -> list[Mapping[str, Any]]:
        """Give what a window was condensed to, for functions that take stored intervals.

        Raises
        ------
        InvalidInput
            If the run has no such window.
        """
        named(self.windows, window)
        return [self.parts[window]] if window in self.parts else []


def seal(store: Store, run: LoadTestRun) -> Seal:
    """Give the seal of one run; see `seals`."""
    return seals(store, [run])[0]


def seals(store: Store, runs: Sequence[LoadTestRun], *, windows: Iterable[str] | None = None) -> list[Seal]:
    """Give the seals of runs, in the order given, by one query; what is missing or old is made, and kept.

    Parameters
    ----------
    runs : sequence of LoadTestRun
        One that is not over yet is condensed as it is now, and that is not kept.
    windows : iterable of str, optional
        Read the parts of these windows only.

    Raises
    ------
    NotFound
        If a run has no seal and its intervals are deleted.
    """
    wanted = None if windows is None else set(windows) | {STEADY}
    stored = store.run_summaries.read([run.id for run in runs if run.is_over], windows=wanted)
    return [
        _read(run, *stored[run.id]) if run.id in stored and _is_good(run, stored[run.id][0]) else _made(store, run)
        for run in runs
    ]


def _is_good(run: LoadTestRun, head: Mapping[str, Any]) -> bool:
    if run.purged_at is not None:
        return True  # there is nothing left to make a better one of
    same = (VERSION, run.late_intervals, [window.to_mongo() for window in run.windows])
    return (head["version"], head["lateIntervals"], head["windowsSet"]) == same


def _read(run: LoadTestRun, head: Mapping[str, Any], parts: Mapping[str, Any]) -> Seal:
    windows = tuple(Window.from_mongo(window) for window in head["windows"])
    return Seal(run, windows, judge(run, parts.get(STEADY), window=named(windows, STEADY)), parts)


def _made(store: Store, run: LoadTestRun) -> Seal:
    run = store.runs.get(run.id)  # as it is before its intervals are read: what arrives later makes this seal old
    if run.purged_at is not None:
        raise NotFound(
            f"the intervals of {run.id} were deleted by retention before it had a seal: only its totals are left, in "
            "run.record.last_metrics"
        )
    windows, parts = _condensed(store, run)
    run = knowing(store, run, parts.values())
    made = Seal(run, windows, judge(run, parts.get(STEADY), window=named(windows, STEADY)), parts)
    if run.is_over:
        _keep(store, made)
    return made


def _condensed(store: Store, run: LoadTestRun) -> tuple[tuple[Window, ...], dict[str, dict[str, Any]]]:
    """Find the windows of a run, and condense it by window: each interval is decoded twice, however many there are.

    A long run is read part by part, first to find its windows and then to cut it where one of them begins or ends.
    """
    traces, kept = [], []
    for documents in stretches(store, run):
        run = knowing(store, run, documents)
        traces.append(trace(run, documents))
        kept = documents if not kept and len(traces) == 1 else []
    windows = effective(run, cut(join(traces)) if traces else find(run, []))
    moments = {edge for window in windows for edge in (window.start_s, window.end_s) if edge}
    edges_s = [0.0, *sorted(moments), None]
    pieces: dict[int, list[dict[str, Any]]] = {}
    for documents in [kept] if kept else stretches(store, run):
        for place, (start_s, end_s) in enumerate(pairwise(edges_s)):
            piece = condense(run, within(run, documents, start_s=start_s if place else None, end_s=end_s))
            if piece is not None:
                pieces.setdefault(place, []).append(piece)
    parts = {}
    for window in (named(windows, WHOLE), *windows):
        inside = [
            piece
            for place, found in sorted(pieces.items())
            if _holds(window, edges_s[place], edges_s[place + 1])
            for piece in found
        ]
        if inside:
            parts[window.name] = inside[0] if len(inside) == 1 else condense(run, inside)
    return windows, parts


def _holds(window: Window, start_s: float, end_s: float | None) -> bool:
    """Say whether a stretch between two neighbouring edges lies in the window."""
    return start_s >= window.start_s and (window.end_s is None or (end_s is not None and end_s <= window.end_s))


def stretches(
    store: Store, run: LoadTestRun, *, start_ms: int | None = None, end_ms: int | None = None
) -> Iterator[Sequence[Document]]:
    """Read the intervals of a run that end within (start, end], in Unix ms, a bounded number at a time."""
    limit = max(STRETCH_LEAST, STRETCH_ROWS // max(1, len(run.endpoints)))
    while True:
        documents = store.ledger.documents(run.id, start_ms=start_ms, end_ms=end_ms, fields=FIELDS, limit=limit)
        more = len(documents) == limit
        if more:
            documents = whole_slots(documents)
        if documents:
            yield documents
        if not more:
            return
        start_ms = int(timestamps_ms(documents).max())


def knowing(store: Store, run: LoadTestRun, documents: Iterable[Document]) -> LoadTestRun:
    """Give the run such that it knows all endpoints of these intervals; it may have met some since it was read."""
    highest = packed.column(list(documents), "endpoints").max(initial=-1)
    if highest < len(run.endpoints):
        return run
    return run.model_copy(update={"endpoints": store.runs.get(run.id).endpoints})


def condensed(
    store: Store, run: LoadTestRun, window: str | tuple[float, float | None] | None = None
) -> tuple[LoadTestRun, list[Document]]:
    """Give a run and what stands for its intervals of a window: condensed, read from the seal where that tells.

    Parameters
    ----------
    window : str or (start_s, end_s), optional
        The name of a window, or seconds from the start of the run, `end_s` None for its end; the whole run if left out.

    Raises
    ------
    InvalidInput
        If the run has no such window, or it ends before it starts.
    NotFound
        If the intervals that are needed are deleted.
    """
    if window is None or isinstance(window, str):
        name = WHOLE if window is None else window
        found = seals(store, [run], windows=[name])[0]
        return found.run, found.documents(name)
    start_ms, end_ms = bounds_ms(store, run, span(window))
    if run.purged_at is not None:
        raise purged(run)
    parts = []
    for documents in stretches(store, run, start_ms=start_ms, end_ms=end_ms):
        run = knowing(store, run, documents)
        parts.append(condense(run, documents))
    return run, parts


def windows_of(store: Store, run: LoadTestRun) -> tuple[Window, ...]:
    """Give the windows of a run."""
    return seals(store, [run], windows=())[0].windows


def bounds_ms(store: Store, run: LoadTestRun, window: Window) -> tuple[int | None, int | None]:
    """Give the bounds (start, end] of a window in Unix ms; None where it has none.

    Ends of intervals are whole milliseconds: (start, end] holds the same of them as (floor(start), floor(end)].
    """
    first = [] if run.started_at else store.ledger.documents(run.id, fields=("durationMs",), limit=1)
    origin = origin_ms(run, first)
    start_ms = floor(round(origin + 1000 * window.start_s, 3)) if window.start_s else None
    return start_ms, None if window.end_s is None else floor(round(origin + 1000 * window.end_s, 3))


def purged(run: LoadTestRun) -> NotFound:
    """Build the error for what only intervals tell of a run that has none any more."""
    return NotFound(
        f"the intervals of {run.id} were deleted by retention: only its summary is left, of the whole run and of its "
        "windows by name"
    )


def _keep(store: Store, made: Seal) -> None:
    run = made.run
    content = {
        "version": VERSION,
        "lateIntervals": run.late_intervals,
        "windowsSet": [window.to_mongo() for window in run.windows],
        "windows": [window.to_mongo() for window in made.windows],
        "intervals": made.parts.get(WHOLE, {}).get("intervals", 0),
    }
    stamp = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    store.run_summaries.put({"runId": run.id, "stamp": stamp, "sealedAt": now_ms(), **content}, made.parts)
    if not store.runs.get_all([run.id]):
        store.run_summaries.delete(run.id)  # it was deleted meanwhile
