"""The watch: stops a run as soon as a gate that says `-> stop` is broken, while its intervals arrive.

A push is answered before the watch looks, in a thread of its own, at what the ledger has more of the run; however many
pushes come meanwhile, it looks once. What it knows of a run it can read again: a receiver that was restarted goes on.
Of several receivers each may look, and the first one stops the run.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from loadbench.analysis import packed
from loadbench.analysis.condense import condense
from loadbench.analysis.gates import Gate, GateResult, Pool, evaluate, parse
from loadbench.analysis.intervals import FIELDS, Document, timestamps_ms
from loadbench.errors import Conflict, LoadbenchError
from loadbench.gatekeeper import baseline_pool
from loadbench.model import LoadTestRun, RunStatus, now_ms
from loadbench.store import Store

if TYPE_CHECKING:  # given as an object: the server does not import what launches
    from loadbench.control import ControlPlane

logger = logging.getLogger("loadbench.receiver")

REMEMBERED = 256
AT_ONCE = 1000
SLACK_S = 60.0
STEADY = "steady"


class Watched:
    """A run that a gate may stop: its gates, and what of its intervals they still need."""

    def __init__(self, store: Store, run: LoadTestRun, gates: Sequence[Gate]) -> None:
        self._store = store
        self.run = run
        self._gates = gates
        self._reach_s = max((gate.over_s or 0) + (gate.for_s or 0) for gate in gates)
        self._seen: dict[str, int] | None = None
        self._recent: list[Document] = []
        self._all: Document | None = None
        self._pool: Pool | None = None
        self.broken: GateResult | None = None

    @property
    def _grows(self) -> bool:
        return any(not gate.is_windowed for gate in self._gates)

    def look(self) -> GateResult | None:
        """Read the intervals that have come since the last look; give the first gate that is broken."""
        if self.broken is None and self._seen is None:
            self._catch_up()
        elif self.broken is None:
            self._take(self._store.ledger.documents(self.run.id, after=self._seen, fields=FIELDS))
        return self.broken

    def _catch_up(self) -> None:
        """Read what is there already: all of it, a part at a time, where a gate counts from the start of the run."""
        self._seen, last = {}, self.run.last_metrics
        start_ms = None
        if last is not None and not self._grows:
            start_ms = max(1, last.timestamp - round(1000 * (self._reach_s + SLACK_S)))
        while self.broken is None:
            part = self._store.ledger.documents(self.run.id, start_ms=start_ms, fields=FIELDS, limit=AT_ONCE)
            self._take(part)
            if len(part) < AT_ONCE:
                return
            start_ms = int(timestamps_ms(part[-1:])[0]) - 1  # what ends together is not torn apart; it is seen once

    def _take(self, documents: Sequence[Document]) -> None:
        new = [each for each in documents if each["seq"] > self._seen.get(each["source"], -1)]
        if not new:
            return
        self._know(new)
        self._recent = sorted([*self._recent, *new], key=lambda each: each["timestamp"])
        if self._grows:
            self._all = condense(self.run, [*([self._all] if self._all else []), *new])
        self.broken = next((result for result in map(self._judge, self._gates) if result.passed is False), None)
        for each in new:
            self._seen[each["source"]] = max(each["seq"], self._seen.get(each["source"], -1))
        end_ms = timestamps_ms(self._recent)
        kept = end_ms > end_ms[-1] - 1000 * (self._reach_s + 2) - max(each["durationMs"] for each in new)
        self._recent = [each for each, is_kept in zip(self._recent, kept, strict=True) if is_kept]

    def _know(self, documents: Sequence[Document]) -> None:
        """Read the run anew if it has met endpoints since."""
        if packed.column(documents, "endpoints").max(initial=-1) >= len(self.run.endpoints):
            self.run = self._store.runs.get(self.run.id)

    def _judge(self, gate: Gate) -> GateResult:
        documents = self._recent if gate.is_windowed else [self._all]
        return evaluate(gate, self.run, documents, window="whole", baseline=self._baseline(gate))

    def _baseline(self, gate: Gate) -> Pool:
        if not gate.of_baseline:
            return ()
        if self._pool is None:
            self._pool = baseline_pool(self._store, self.run, STEADY)
        return self._pool


class GateWatch:
    """Watches the runs of one store that have gates which stop them."""

    def __init__(self, store: Store, control: ControlPlane | None = None) -> None:
        self._store = store
        self._control = control
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loadbench-gates")
        self._watched: OrderedDict[str, Watched | None] = OrderedDict()
        self._due: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def heard(self, run_id: str) -> None:
        """Take notice of a newly stored interval; returns at once."""
        with self._lock:
            of_none = run_id in self._watched and self._watched[run_id] is None
            if self._closed or of_none or run_id in self._due:
                return
            self._due.add(run_id)
            self._executor.submit(self._look, run_id).add_done_callback(_log)

    def close(self) -> None:
        """End it, after the look that it is taking now."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _look(self, run_id: str) -> None:
        with self._lock:
            self._due.discard(run_id)
            known = run_id in self._watched
            watched = self._watched.get(run_id)
        if not known:
            watched = self._begin(run_id)
        if watched is not None and (broken := watched.look()) is not None:
            self._stop(watched.run, broken)
            self._remember(run_id, None)

    def _begin(self, run_id: str) -> Watched | None:
        run = self._store.runs.get(run_id)
        gates = [gate for gate in map(parse, run.gates) if gate.stops]
        is_over = run.is_over or run.status is RunStatus.STOPPING
        return self._remember(run_id, Watched(self._store, run, gates) if gates and not is_over else None)

    def _remember(self, run_id: str, watched: Watched | None) -> Watched | None:
        with self._lock:
            self._watched[run_id] = watched
            self._watched.move_to_end(run_id)
            while len(self._watched) > REMEMBERED:
                self._watched.popitem(last=False)
        return watched

    def _stop(self, run: LoadTestRun, broken: GateResult) -> None:
        logger.info("%s is stopped by its gate %s: %s", run.id, broken.gate, broken.because)
        why: dict[str, Any] = {"gate_broken": str(broken.gate)}
        try:
            if self._control is not None:
                self._control.stop_run(run.id, reason="gate", **why)
            else:  # the answer to its next push tells the agent
                now = now_ms()
                self._store.runs.move(run.id, RunStatus.STOPPING, stop_reason="gate", stop_requested_at=now, **why)
        except Conflict:
            pass  # it has ended by itself meanwhile


def _log(look: Future[None]) -> None:
    """Say what went wrong with a look; the next interval asks for another one."""
    error = None if look.cancelled() else look.exception()
    if isinstance(error, LoadbenchError):
        logger.warning("gates cannot be watched now: %s", error)
    elif error is not None:
        logger.error("gates could not be watched", exc_info=error)
