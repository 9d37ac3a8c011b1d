"""The panel: which test is meant, and the views as tabs. It reads lists; everything else is what its views call."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
from pymongo.errors import PyMongoError

from loadbench import html
from loadbench.errors import LoadbenchError
from loadbench.model import Cluster, LoadTest, LoadTestRun
from loadbench.panel.compare import Compare
from loadbench.panel.elements import Notice
from loadbench.panel.launch import Launch
from loadbench.panel.live import Live
from loadbench.panel.reports import Reports
from loadbench.panel.runs import Runs
from loadbench.panel.script import Script
from loadbench.panel.tests import Tests
from loadbench.panel.view import View

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

NO_TEST = "no test chosen"
LISTED = 200
BEHIND_S = 1.0
"""A kernel that does not come to a task within this time is busy with a cell."""
LOOK_EVERY_S = 2.0
OTHERS_TICKS = 5
"""After so many looks the open view is read anew in any case: somebody else may have changed something."""


class Panel(ipywidgets.VBox):
    """The workbench as a panel in the notebook: Tests, Script, Launch, Live, Runs, Compare, Reports.

    Parameters
    ----------
    bench : Workbench
        Whose tests and runs these are.

    Notes
    -----
    What takes time is done in threads, so the kernel stays free. While a cell of the notebook runs, what is pressed
    waits for its end, and the panel says so; charts go on, and Stop works at once.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.test_name: str | None = None
        self._closed = threading.Event()
        self._choosing = False
        self._guard = threading.RLock()
        self.notice = Notice()
        self.chooser = ipywidgets.Dropdown(description="Test", options=[NO_TEST])
        self.chooser.observe(lambda change: self._chosen_above(change["new"]), "value")
        self.tests, self.script, self.launch, self.live = Tests(self), Script(self), Launch(self), Live(self)
        self.runs, self.comparison, self.reports = Runs(self), Compare(self), Reports(self)
        self.views: tuple[View, ...] = (
            self.tests, self.script, self.launch, self.live, self.runs, self.comparison, self.reports,
        )  # fmt: skip
        self.tabs = ipywidgets.Tab(self.views, titles=[view.title for view in self.views])
        self.tabs.observe(lambda _: self.open_view.show(), "selected_index")
        title = ipywidgets.HTML(html.panel_title(bench.scope))
        head = ipywidgets.Box([title, self.chooser])
        head.add_class("lb-panel-head")
        super().__init__([self.notice, head, self.tabs])
        self.add_class("loadbench-panel")
        _deliver_in_order(self)
        self.open_view.show()
        self._watch(_loop_of_the_kernel())

    @property
    def open_view(self) -> View:
        return self.views[self.tabs.selected_index or 0]

    def turn_to(self, view: View) -> None:
        """Open a view; the one that is open reads anew."""
        if self.open_view is view:
            view.show()
        else:
            self.tabs.selected_index = self.views.index(view)

    def choose_test(self, name: str | None) -> None:
        """Mean this test from now on, in all views."""
        self.test_name = name
        self._offer([test for test in self.chooser.options if test != NO_TEST])

    def _offer(self, names: Sequence[str]) -> None:
        """Offer these tests above the views, and the one that is meant."""
        wanted = [NO_TEST, *names, *([self.test_name] if self.test_name and self.test_name not in names else [])]
        with self._guard:
            self._choosing = True
            try:
                if list(self.chooser.options) != wanted:
                    self.chooser.options = wanted
                self.chooser.value = self.test_name or NO_TEST
            finally:
                self._choosing = False

    def _chosen_above(self, name: str) -> None:
        if self._choosing:
            return
        self.test_name = None if name == NO_TEST else name
        self.tests.creating = False
        self.open_view.show()

    def watch(self, run_ids: Sequence[str]) -> None:
        """Show runs in Live."""
        self.live.wanted = list(run_ids)
        self.turn_to(self.live)

    def compare(self, run_ids: Sequence[str]) -> None:
        """Compare runs, in Compare."""
        self.turn_to(self.comparison)
        self.comparison.reading.start("", lambda: self.comparison.pick(run_ids))

    def report(self, run_ids: Sequence[str]) -> None:
        """Build the report of a run, in Reports."""
        self.turn_to(self.reports)
        self.reports.reading.start("", lambda: self.reports.build_of(run_ids[0]))

    def read_tests(self) -> list[LoadTest]:
        """Read the tests of the scope, newest first, and offer them; the newest is meant if none has been yet."""
        records = self.bench._backend.store.load_tests.find(self.bench.scope)
        names = [record.name for record in records]
        if self.test_name not in names:
            self.test_name = names[0] if names else None
        self._offer(names)
        return records

    def read_runs(self, test_name: str | None, *, limit: int = LISTED) -> list[LoadTestRun]:
        """Read the runs of a test, or of the scope, newest first."""
        test_id = self.bench.test(test_name).record.id if test_name else None
        return self.bench._backend.store.runs.find(self.bench.scope, load_test_id=test_id, limit=limit)

    def baselines(self) -> set[str]:
        """Read which runs are the baseline of a test."""
        return {run_id for record in self.read_tests() for run_id in record.baseline_run_ids}

    def clusters(self) -> Iterable[Cluster]:
        """Give the clusters that a run can be started on."""
        return self.bench._backend.control.clusters

    def close(self) -> None:
        """Take the panel off the page. Runs go on."""
        self._closed.set()
        self.live.close()
        super().close()

    def __repr__(self) -> str:
        return f"<Panel of {self.bench!r}: {', '.join(view.title for view in self.views)}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_() or {}
        return {**bundle, "text/plain": self.text()}

    def text(self) -> str:
        """Say in text what the panel shows first, for where no widget can live."""
        lines = [repr(self)]
        try:
            tests = self.bench._backend.store.load_tests.find(self.bench.scope)
            lines += [html.test_line(record) for record in tests]
            lines += [html.run_line(record) for record in self.read_runs(None, limit=10)]
        except (LoadbenchError, PyMongoError) as error:
            lines.append(html.error_line(str(error)))
        return "\n".join(lines if len(lines) > 1 else [*lines, "No tests yet."])

    def _watch(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Look, in a thread, whether the kernel is free, and read anew what moves in the view that is open."""
        threading.Thread(target=self._look, args=(loop,), name="loadbench-panel-watch", daemon=True).start()

    def _look(self, loop: asyncio.AbstractEventLoop | None) -> None:
        for tick in itertools.count(1):
            if self._closed.wait(LOOK_EVERY_S):
                return
            if loop is not None and not loop.is_closed():
                self.notice.behind = not _comes_to_it(loop, self._closed)
            if self.open_view.watches() or tick % OTHERS_TICKS == 0:
                self.open_view.show()


def _deliver_in_order(widget: ipywidgets.Widget) -> None:
    """Let the main thread have all messages of a widget and those within it, as the page sent them.

    ipykernel 7.4 sends each to the subshell that last used its comm: the text that a thread has filled in would come
    by another way than the click on the button below it, and may come later. See docs/decisions/014-one-queue.md.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, _default: None
    for child in getattr(widget, "children", ()):
        _deliver_in_order(child)


def _loop_of_the_kernel() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # not in a notebook: nothing to wait for
        return None


def _comes_to_it(loop: asyncio.AbstractEventLoop, closed: threading.Event) -> bool:
    came = threading.Event()
    loop.call_soon_threadsafe(came.set)
    return came.wait(BEHIND_S) or closed.is_set()
