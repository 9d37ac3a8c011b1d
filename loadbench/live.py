"""The live view of a run: one widget with all its charts, fed from any thread, right however late it is opened.

The page gets numbers as binary rows and draws them with Plotly.js (`static/live.js`). Nothing large is widget state, so
an executed notebook stays small. How messages from the page get through while a cell is busy: `LiveView._take_early`.
"""

from __future__ import annotations

import functools
import gzip
import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
from pymongo.errors import PyMongoError

from loadbench.analysis import packed
from loadbench.analysis.band import Band
from loadbench.analysis.summary import summary
from loadbench.errors import LoadbenchError
from loadbench.model import LoadTestRun, RunStatus, now_ms
from loadbench.points import Points

STATIC = Path(__file__).parent / "static"
PLOTLY_JS = STATIC / "plotly-cartesian.min.js"
PLOTLY_LOADER = (STATIC / "plotly_loader.js").read_text()
MAX_ENDPOINTS = 5
STATIC_POINTS = 150
SKEW_WORTH_A_NOTE_MS = 2000
POLL_S = 1.0
GAP_PATIENCE = 60
GATES_EVERY_S = 4.0
GATES_SHARE = 0.05
"""How much of one processor looking at the gates may take: a long run is looked at less often."""
RUN_EVERY_TICKS = 5
_KINDS = frozenset({"open", "plotly", "stop", "endpoints"})


@functools.cache
def plotly_gzip() -> bytes:
    """Give Plotly.js, compressed: 0.5 MB instead of 1.5 MB on the wire, once per page."""
    return gzip.compress(PLOTLY_JS.read_bytes(), 6, mtime=0)


class LiveView(anywidget.AnyWidget):
    """All charts of one run, in one widget.

    Parameters
    ----------
    history : sequence of dict
        Stored interval documents known so far, in any order.
    run : LoadTestRun
        The run as it stands.
    stop : callable, optional
        What the Stop button calls, in a thread of its own. Without it there is no button.
    band : Band, optional
        Where the baseline lay: drawn behind the lines of requests/s and p95.
    gates : callable, optional
        Says how the run stands to its gates now, as a DataFrame (`Run.gates`). It is asked now and then, by `follow`.
    """

    _esm = PLOTLY_LOADER + (STATIC / "live.js").read_text()
    _css = STATIC / "live.css"

    def __init__(
        self,
        history: Sequence[Mapping[str, Any]] = (),
        *,
        run: LoadTestRun,
        stop: Callable[[], object] | None = None,
        band: Band | None = None,
        gates: Callable[[], pd.DataFrame] | None = None,
    ) -> None:
        self._run = run
        self._stop = stop
        self._band = band
        self._judge = gates
        self._judge_at = 0.0
        self._gates: tuple[dict[str, Any], ...] = ()
        self._stopping = False
        self._trouble = ""
        self._points = Points()
        self._chosen: tuple[int, ...] = ()
        self._told: dict[str, Any] = {}
        self._opened = False
        self._guard = threading.RLock()
        self._mail_guard = threading.Lock()
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[dict[str, Any]] = deque()
        self._worker: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        for document in history:
            self._points.add(document)
        super().__init__()
        self.on_msg(lambda _, content, __: self._take(content))
        self._take_early()

    def append(self, document: Mapping[str, Any]) -> bool:
        """Add a stored interval, from any thread; False if it is there already."""
        with self._guard:
            first = len(self._points.rows)
            if self._closed or not self._points.add(document):
                return False
            if self._opened:
                self._send_rows(first)
                self._send_status()
        return True

    def set_status(self, run: LoadTestRun) -> None:
        """Show the run as it stands now, from any thread. A final status is never taken back by an older record."""
        with self._guard:
            if self._run.is_over and not run.is_over:
                return
            self._run = run
            self._send_status()
        if run.is_over:
            self._wake.set()

    def set_trouble(self, text: str) -> None:
        """Show that the view cannot follow the run at present; an empty text takes that away."""
        with self._guard:
            self._trouble = text
            self._send_status()

    def judge_gates(self) -> None:
        """Look how the run stands to its gates, and show it; not too often, unless the run is over."""
        if self._judge is None or not self._run.gates or (time.monotonic() < self._judge_at and not self._run.is_over):
            return
        began = time.monotonic()
        table = self._judge()
        took_s = time.monotonic() - began
        self._judge_at = time.monotonic() + max(GATES_EVERY_S, took_s / GATES_SHARE)
        with self._guard:
            self._gates = tuple(_gate(row) for _, row in table.iterrows())
            self._send_status()

    @property
    def run(self) -> LoadTestRun:
        """The run as this view knows it."""
        return self._run

    def position(self, *, patience: int | None = None) -> dict[str, int]:
        """Say per source up to which sequence number everything is here."""
        with self._guard:
            return self._points.position(patience=patience)

    def knows_endpoints_of(self, document: Mapping[str, Any]) -> bool:
        """Tell whether the run record names every endpoint of an interval."""
        return packed.column([document], "endpoints").max(initial=-1) < len(self._run.endpoints)

    def close(self) -> None:
        """Take the view off the page; what follows the run for it ends, and its intervals are let go of.

        IPython keeps what a cell gave: 20 endpoints would take 45 MB for each hour that was followed.
        """
        self._closed = True
        self._wake.set()
        with self._guard:
            self._points = Points()
        super().close()

    def notes(self) -> tuple[str, ...]:
        """Say what the reader must know of the data: a line for each thing that is not as it should be."""
        run, points = self._run, self._points
        notes = []
        if self._trouble:
            notes.append(self._trouble)
        if run.status is RunStatus.FAILED and run.error:
            notes.append(run.error)
        lost = sum(gap.to_seq - gap.from_seq + 1 for gap in run.gaps)
        missing = max(points.missing(), lost)
        if missing:
            plural = "interval" if missing == 1 else "intervals"
            notes.append(f"{missing} {plural} {'lost' if lost else 'not here yet'}: the lines are broken there")
        latest = points.latest
        if latest and not run.is_over and latest["workers"] < latest["workersExpected"]:
            notes.append(
                f"{latest['workersExpected'] - latest['workers']} of {latest['workersExpected']} workers missing"
            )
        elif run.workers_lost:
            notes.append(f"{run.workers_lost} {'worker' if run.workers_lost == 1 else 'workers'} lost")
        if latest and latest.get("dropped"):
            notes.append(f"{latest['dropped']} intervals dropped by the agent: its spool was full")
        if run.clock_skew_ms is not None and abs(run.clock_skew_ms) > SKEW_WORTH_A_NOTE_MS:
            notes.append(f"clock of the load generator is off by {run.clock_skew_ms / 1000:+.1f} s")
        return tuple(notes)

    def __repr__(self) -> str:
        run, latest = self._run, self._points.latest
        text = f"LiveView({run.name!r}, {run.status}, {len(self._points.rows)} intervals"
        if latest:
            text += f", {latest['users']} users, {latest['totalRps']:,.1f} requests/s"
            text += f", {latest['errorRate']:.1%} errors"
            p95_ms = latest.get("p95Ms")
            text += f", p95 {p95_ms:,.0f} ms" if p95_ms is not None else ""
        return text + ")"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_()
        if bundle is None:
            return None
        data = {**bundle[0], "text/plain": "\n".join((repr(self), *self.notes()))}
        if self._points.rows:
            data["application/vnd.plotly.v1+json"] = json.loads(self.figure().to_json())
        return data, bundle[1]

    def figure(self) -> Any:
        """Draw what is here now as a static figure, for where no widget can live."""
        from loadbench import plots

        with self._guard:
            frame, notes = self._points.frame(), self.notes()
        title = f"{self._run.name} ({self._run.status})"
        return plots.timeline(frame, title=title, subtitle="; ".join(notes), points=STATIC_POINTS)

    def _take_early(self) -> None:
        """Act on messages from the page in a thread of the view, at once, also while a cell is busy.

        ipykernel 7.4 delivers a comm message in the main thread, behind the cell that runs there: a Stop button would
        wait for the end of the very run it should stop. But `Kernel.shell_channel_thread_main` asks the comm, in the
        shell channel's thread, which subshell a message belongs to, and it asks before it routes the message. This view
        listens there. The same message still arrives in the main thread later; `_take` knows it by its id. Where the
        attribute does not exist (another kernel, another version) the ordinary delivery is all there is.
        See docs/decisions/002-live-view-messages.md.
        """
        route = getattr(self.comm, "_reply_subshell_for", None)
        if route is None:
            return

        def listening_route(data: Any, default: Any) -> Any:
            if isinstance(data, dict) and data.get("method") == "custom":
                self._take(data.get("content"))
            return route(data, default)

        self.comm._reply_subshell_for = listening_route

    def _take(self, content: Any) -> None:
        """Queue a message from the page for the worker thread, once."""
        if not isinstance(content, dict) or content.get("kind") not in _KINDS:
            return
        with self._mail_guard:
            message_id = str(content.get("id"))
            if message_id in self._answered:
                return
            self._answered[message_id] = None
            if len(self._answered) > 1000:
                self._answered.popitem(last=False)
            self._waiting.append(content)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="loadbench-live-messages", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while True:
            with self._mail_guard:
                if not self._waiting:
                    self._worker = None
                    return
                content = self._waiting.popleft()
            self._answer(content)

    def _answer(self, content: Mapping[str, Any]) -> None:
        page = str(content.get("page", ""))
        if content["kind"] == "plotly":
            self.send({"kind": "plotly", "page": page}, buffers=[plotly_gzip()])
        elif content["kind"] == "stop":
            threading.Thread(target=self._stop_run, name="loadbench-live-stop", daemon=True).start()
        elif content["kind"] == "open":
            with self._guard:
                self._opened = True
                self._send_status(page=page)
                self._send_rows(0, page=page)
                self._send_band(page)
        elif content["kind"] == "endpoints":
            wanted = content.get("endpoints")
            known = range(len(self._run.endpoints))
            indices = [index for index in wanted if type(index) is int and index in known] if wanted else []
            with self._guard:
                self._chosen = tuple(dict.fromkeys(indices))[:MAX_ENDPOINTS]
                self._send_rows(0)

    def _stop_run(self) -> None:
        if self._stop is None or self._stopping or self._run.is_over:
            return
        self._show_stopping(True)
        try:
            self._stop()
        except (LoadbenchError, PyMongoError, OSError) as error:
            self._show_stopping(False)
            self.set_trouble(f"the run could not be stopped: {_one_line(error)}")

    def _show_stopping(self, stopping: bool) -> None:
        with self._guard:
            self._stopping = stopping
            self._send_status()

    def _overall(self) -> dict[str, float] | None:
        """Give the figures of the whole run, for the header of one that is over."""
        table = summary(self._run, self._points.documents, percentiles=(95,))
        if table.empty:
            return None
        names = {"rate": "requests_per_s", "errors": "failures_per_s", "p95": "p95_ms"}
        values = {key: float(table[name].iloc[-1]) for key, name in names.items()}
        return {key: value for key, value in values.items() if value == value}

    def _send_rows(self, first: int, *, page: str | None = None) -> None:
        """Send rows to all pages, or to one that has just opened. Rows are numbered, so that a page can miss none."""
        header = {"kind": "rows", "first": first, "t0": self._points.t0_ms, "endpoints": self._chosen, "page": page}
        self.send(header, buffers=[self._points.binary(first, self._chosen)])

    def _send_band(self, page: str) -> None:
        if self._band is not None:
            runs = "1 run" if self._band.runs == 1 else f"{self._band.runs} runs"
            message = {"kind": "band", "page": page, "label": f"baseline ({runs})"}
            self.send(message, buffers=[self._band.binary()])

    def _send_status(self, *, page: str | None = None) -> None:
        """Send the state of the run if it has changed since it was last sent; always to a page that has just opened."""
        if not self._opened:
            return
        run = self._run
        status: dict[str, Any] = {
            "name": run.name,
            "status": run.status,
            "stopReason": run.stop_reason,
            "startedAt": run.started_at,
            "finishedAt": run.finished_at,
            "durationSec": run.duration_sec,
            "targetUsers": run.target_users,
            "canStop": self._stop is not None and not run.is_over,
            "stopping": self._stopping or run.status is RunStatus.STOPPING,
            "notes": self.notes(),
            "revision": run.revision_number,
            "remarks": run.notes,
            "gates": self._gates or tuple({"gate": str(gate)} for gate in run.gates),
            "gateBroken": run.gate_broken,
            "overall": self._overall() if run.is_over else None,
        }
        names = len(run.endpoints)
        told = {**status, "names": names}
        if page is None and told == self._told:
            return
        if page is not None or names != self._told.get("names"):
            status["endpoints"] = [str(endpoint) for endpoint in run.endpoints]
        self._told = told
        self.send({"kind": "status", "page": page, "now": now_ms(), **status})


def follow(
    view: LiveView,
    *,
    read_after: Callable[[dict[str, int]], Sequence[Mapping[str, Any]]],
    subscribe: Callable[[Callable[[Mapping[str, Any]], None]], Callable[[], None]] | None = None,
    read_run: Callable[[], LoadTestRun] | None = None,
    every_s: float = POLL_S,
) -> threading.Thread | None:
    """Keep a view in step with its run until the run is over or the view is closed.

    Parameters
    ----------
    read_after : callable
        Reads the ledger: source -> last sequence number known, to the stored documents after it.
    subscribe : callable, optional
        Registers a callback for what is pushed to this process and gives back the way to end that: interval documents,
        and `{"status": ...}` when the run moves. The ledger is still read, in every tick in which nothing was pushed.
    read_run : callable, optional
        Reads the run record: status, names of the endpoints, gaps.
    every_s : float
        Seconds between two looks at the ledger.

    Returns
    -------
    Thread or None
        The daemon thread that follows; None if the run is over, when everything has been read on return.
    """
    follower = _Follower(view, read_after, read_run)
    if view.run.is_over:
        follower.refresh(with_run=False)
        return None
    unsubscribe = subscribe(follower.pushed) if subscribe else None
    thread = threading.Thread(
        target=follower.work, args=(every_s, unsubscribe), name=f"loadbench-live-{view.run.id}", daemon=True
    )
    thread.start()
    return thread


class _Follower:
    """What `follow` runs in its thread."""

    def __init__(
        self,
        view: LiveView,
        read_after: Callable[[dict[str, int]], Sequence[Mapping[str, Any]]],
        read_run: Callable[[], LoadTestRun] | None,
    ) -> None:
        self._view = view
        self._read_after = read_after
        self._read_run = read_run
        self._arrived = False
        self._run_is_stale = True

    def pushed(self, document: Mapping[str, Any]) -> None:
        """Take what the receiver stored, in the receiver's thread."""
        if "seq" not in document:
            self._run_is_stale = True
            self._view._wake.set()
        elif self._view.append(document):
            self._arrived = True
            self._run_is_stale |= not self._view.knows_endpoints_of(document)

    def work(self, every_s: float, unsubscribe: Callable[[], None] | None) -> None:
        view, tick = self._view, 0
        try:
            while not view._closed:
                view._wake.clear()
                pushed, self._arrived = self._arrived, False
                stale = self._run_is_stale or not pushed or tick % RUN_EVERY_TICKS == 0
                done = self.refresh(with_run=stale) if stale or view.run.is_over else False
                if done and view.run.is_over:
                    return
                tick += 1
                view._wake.wait(every_s)
        finally:
            if unsubscribe is not None:
                unsubscribe()

    def refresh(self, *, with_run: bool) -> bool:
        """Read the run, then the ledger, then show both: the last interval is there before the run is called over.

        Gives False if they could not be read; the view says so.
        """
        view = self._view
        try:
            self._run_is_stale = False
            run = self._read_run() if with_run and self._read_run is not None else view.run
            over = run.is_over or view.run.is_over
            documents = self._read_after(view.position(patience=None if over else GAP_PATIENCE))
        except (LoadbenchError, PyMongoError) as error:
            view.set_trouble(f"the metrics cannot be read at present, trying again: {_one_line(error)}")
            self._run_is_stale = True
            return False
        for document in documents:
            if view.append(document) and not view.knows_endpoints_of(document):
                self._run_is_stale = True
        if view._trouble:
            view.set_trouble("")
        view.set_status(run)
        try:
            view.judge_gates()
        except (LoadbenchError, PyMongoError) as error:
            view.set_trouble(f"the gates cannot be judged at present, trying again: {_one_line(error)}")
        return True


def _gate(row: Any) -> dict[str, Any]:
    """Give of one row of `Run.gates` what the page shows."""
    passed, at_s = row["passed"], row["at_s"]
    return {
        "gate": str(row["gate"]),
        "passed": None if pd.isna(passed) else bool(passed),
        "because": str(row["because"]),
        "atS": None if pd.isna(at_s) else float(at_s),
    }


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
