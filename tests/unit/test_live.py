"""The live view without a browser: what it knows, what it sends, what it does with messages, how it follows a run."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import comm
import numpy as np
import pandas as pd
import pytest
from comm.base_comm import BaseComm as PlainComm
from ipykernel.comm.comm import BaseComm as KernelComm
from live_documents import ENDPOINTS, a_run, an_interval
from waiting import wait_until

from loadbench import live, testing
from loadbench.agent.histogram import merge, pack, quantile, unpack
from loadbench.analysis.band import band
from loadbench.errors import StoreUnavailable
from loadbench.live import LiveView, follow
from loadbench.model import Gap, RunStatus
from loadbench.model.interval import column
from loadbench.points import COLUMNS, Points, endpoint_row

Sent = list[tuple[dict[str, Any], list[bytes]]]


def _recording(base: type) -> type:
    class Recording(base):
        kernel = "a kernel"  # a widget sends nothing without one

        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
        ) -> None:
            if msg_type == "comm_msg" and data["method"] == "custom":
                self.__dict__.setdefault("sent", []).append((data["content"], buffers or []))

    return Recording


@pytest.fixture(params=[KernelComm, PlainComm], ids=["ipykernel", "other kernel"])
def any_comm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = _recording(request.param)
    monkeypatch.setattr(comm, "create_comm", lambda **arguments: recording(**arguments))


@pytest.fixture
def kernel_comm(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = _recording(KernelComm)
    monkeypatch.setattr(comm, "create_comm", lambda **arguments: recording(**arguments))


def sent(view: LiveView, kind: str) -> Sent:
    return [(content, buffers) for content, buffers in getattr(view.comm, "sent", []) if content["kind"] == kind]


def from_page(view: LiveView, kind: str, *, id: str = "1", early: bool = True, late: bool = True, **more: Any) -> None:  # noqa: A002
    """Deliver a message as ipykernel does: first the question where it belongs, later the message itself."""
    data = {"method": "custom", "content": {"kind": kind, "id": id, "page": "p", **more}}
    route = getattr(view.comm, "_reply_subshell_for", None)
    if early and route is not None:
        assert route(data, "subshell") in ("subshell", None)
    if late:
        view.comm.handle_msg({"content": {"data": data}, "buffers": []})


def rows_of(buffers: list[bytes], width: int = len(COLUMNS)) -> np.ndarray:
    return np.frombuffer(buffers[0], "<f4").reshape(-1, width)


def opened(history: list[dict[str, Any]] | None = None, **arguments: Any) -> LiveView:
    view = LiveView(history or [], **{"run": a_run(), **arguments})
    from_page(view, "open", id="open")
    wait_until(lambda: sent(view, "rows"), within_s=5, message="no history was sent")
    return view


def test_each_interval_counts_once_in_whatever_order():
    points = Points()
    assert [points.add(an_interval(seq)) for seq in (0, 2, 2, 1, 0, 5)] == [True, True, False, True, False, True]
    assert points.position() == {"master": 2}
    assert points.missing() == 2
    assert points.position(patience=1) == {"master": 4}
    assert points.add(an_interval(0, source="other"))
    assert points.position() == {"master": 2, "other": 0}
    assert points.latest["seq"] == 5


def test_percentiles_of_an_endpoint_come_from_its_own_histograms():
    document = an_interval(3, slow_ms=900)
    histograms = unpack(document["histograms"])
    for endpoint in range(len(ENDPOINTS)):
        both = merge(histograms[2 * endpoint : 2 * endpoint + 2])
        expected = (
            column(document, "n")[endpoint],
            column(document, "failures")[endpoint],
            *(quantile(both, q) for q in (0.5, 0.95, 0.99)),
        )
        assert endpoint_row(document, endpoint) == expected
    assert endpoint_row({**document, "durationMs": 500.0}, 0)[0] == 2 * column(document, "n")[0]


def test_stored_percentiles_of_an_endpoint_are_those_of_its_histograms():
    made = testing.run(seed="live", seconds=20, endpoints=3, rps=20, failure_ratio=0.2, untimed_ratio=0.3)
    for document in made.documents:
        older = {field: value for field, value in document.items() if not field.startswith("row")}
        for endpoint in range(3):
            assert endpoint_row(document, endpoint) == pytest.approx(endpoint_row(older, endpoint), nan_ok=True)


def test_endpoint_without_requests_has_a_rate_and_no_percentiles():
    absent = endpoint_row(an_interval(0, endpoints=2), 4)
    silent = endpoint_row({**an_interval(0, endpoints=1), "histograms": pack([{}, {}]), "n": [0]}, 0)
    for row in (absent, silent):
        assert row[:2] == (0, 0)
        assert all(math.isnan(value) for value in row[2:])


def test_a_page_that_opens_gets_the_history_in_one_message(any_comm: None):
    view = opened([an_interval(seq) for seq in (1, 0, 2)])
    (header, buffers), *more = sent(view, "rows")
    assert more == []
    assert (header["first"], header["page"]) == (0, "p")
    assert rows_of(buffers)[:, 0].tolist() == [1, 0, 2]
    (status, _), *_ = sent(view, "status")
    assert status["endpoints"] == [str(endpoint) for endpoint in ENDPOINTS]


def test_a_push_sends_the_new_row_only(any_comm: None):
    view = opened([an_interval(seq) for seq in range(3)])
    before = len(view.comm.sent)
    assert view.append(an_interval(3))
    assert not view.append(an_interval(3))
    (header, buffers), *more = view.comm.sent[before:]
    assert more == []
    assert header["first"] == 3
    document = an_interval(3)
    expected = [3, 4, 1, document["users"], document["totalRps"], document["errorsPerSec"]]
    assert rows_of(buffers)[0, :6].tolist() == expected
    assert len(json.dumps(header)) + len(buffers[0]) < 2048


def test_nothing_is_sent_while_no_page_looks(any_comm: None):
    view = LiveView([], run=a_run())
    view.append(an_interval(0))
    view.set_status(a_run(status=RunStatus.FINISHED))
    assert getattr(view.comm, "sent", []) == []


def test_chosen_endpoints_ride_with_every_row(any_comm: None):
    view = opened([an_interval(0)])
    from_page(view, "endpoints", id="2", endpoints=[2, 2, 99, -1, "0", True, 0])
    header, buffers = wait_until(lambda: sent(view, "rows")[1:], within_s=5, message="no rows")[0]
    assert header["endpoints"] == (2, 0)
    view.append(an_interval(1))
    header, buffers = sent(view, "rows")[-1]
    row = rows_of(buffers, len(COLUMNS) + 10)[0]
    assert row[9:14].tolist() == np.float32(endpoint_row(an_interval(1), 2)).tolist()
    from_page(view, "endpoints", id="3", endpoints=list(range(6)))
    wait_until(lambda: len(sent(view, "rows")) == 4, within_s=5, message="no rows")
    assert sent(view, "rows")[-1][0]["endpoints"] == (0, 1, 2, 3, 4)


def test_a_message_is_handled_once_and_early_where_the_kernel_allows(kernel_comm: None):
    stops = []
    view = opened(stop=lambda: stops.append(threading.current_thread()))
    from_page(view, "stop", id="s", late=False)
    wait_until(lambda: stops, within_s=5, message="Stop waited for the main thread")
    from_page(view, "stop", id="s", early=False)
    from_page(view, "stop", id="t")
    wait_until(lambda: view._worker is None, within_s=5, message="the worker does not end")
    assert len(stops) == 1
    assert stops[0] is not threading.main_thread()


def test_the_answer_to_the_kernel_s_question_is_left_alone(kernel_comm: None):
    view = LiveView([], run=a_run())
    view.comm._reply_subshell_ids["echo"] = "the subshell that asked"
    echo = {"content": {"id": "echo"}}
    assert view.comm._reply_subshell_for(echo, "default") == "the subshell that asked"
    assert view.comm._reply_subshell_for({"method": "update"}, "default") == "default"
    assert view.comm._reply_subshell_for(None, "default") == "default"


def test_library_is_sent_to_the_page_that_asked(any_comm: None):
    view = opened()
    from_page(view, "plotly", id="2")
    ((header, buffers),) = wait_until(lambda: sent(view, "plotly"), within_s=5, message="no library")
    assert header["page"] == "p"
    assert buffers[0][:2] == b"\x1f\x8b"
    assert len(buffers[0]) < 600_000


def test_stop_that_fails_says_so_and_can_be_pressed_again(any_comm: None):
    def stop() -> None:
        raise StoreUnavailable("MongoDB does not answer; start it")

    view = opened(stop=stop)
    from_page(view, "stop", id="2")
    note = "the run could not be stopped: MongoDB does not answer; start it"
    wait_until(lambda: note in view.notes(), within_s=5, message="no note")
    assert sent(view, "status")[-1][0]["canStop"]
    assert not sent(view, "status")[-1][0]["stopping"]


def test_the_band_of_the_baseline_is_sent_once_to_each_page_that_opens(any_comm: None):
    lines = pd.DataFrame({"elapsed_s": [1.0, 4.0], "requests_per_s": [10.0, 30.0], "p95_ms": [100.0, 90.0]})
    view = opened([an_interval(0)], band=band([lines, lines + 1]))
    ((header, buffers),) = wait_until(lambda: sent(view, "band"), within_s=5, message="no band")
    assert (header["page"], header["label"]) == ("p", "baseline (2 runs)")
    assert np.frombuffer(buffers[0], "<f4").tolist() == [2.5, 10, 31, 90, 101]
    view.append(an_interval(1))
    assert len(sent(view, "band")) == 1


def test_gates_are_shown_as_they_stand_and_looked_at_now_and_then(any_comm: None):
    asked = []

    def judged() -> pd.DataFrame:
        asked.append(1)
        return pd.DataFrame(
            {
                "gate": ["p95 < 1s", "error rate < 1%"],
                "passed": pd.array([True, None], dtype="boolean"),
                "because": ["p95 was 90 ms", "no requests"],
                "at_s": [np.nan, np.nan],
            }
        )

    run = a_run(gates=("p95 < 1s", "error rate < 1%"), revision_number=7, notes="release 4.2")
    view = opened(run=run, gates=judged)
    status, _ = sent(view, "status")[-1]
    assert [gate["gate"] for gate in status["gates"]] == ["p95 < 1s", "error rate < 1%"]
    assert (status["revision"], status["remarks"]) == (7, "release 4.2")
    view.judge_gates()
    view.judge_gates()
    assert len(asked) == 1, "a run that goes on is looked at again only after a while"
    gates = sent(view, "status")[-1][0]["gates"]
    assert [(gate["passed"], gate["because"], gate["atS"]) for gate in gates] == [
        (True, "p95 was 90 ms", None),
        (None, "no requests", None),
    ]
    view.set_status(a_run(status=RunStatus.FINISHED, gates=("p95 < 1s",)))
    view.judge_gates()
    assert len(asked) == 2


def test_notes_tell_what_is_wrong_with_the_data():
    gap = Gap(source="master", from_seq=3, to_seq=5)
    run = a_run(status=RunStatus.FINISHED, gaps=(gap,), workers_lost=2, clock_skew_ms=2500)
    assert LiveView([], run=run).notes() == (
        "3 intervals lost: the lines are broken there",
        "2 workers lost",
        "clock of the load generator is off by +2.5 s",
    )
    assert LiveView([an_interval(0)], run=a_run(clock_skew_ms=-2000)).notes() == ()
    missing_one = {**an_interval(0), "workers": 1}
    assert LiveView([missing_one], run=a_run()).notes() == ("1 of 2 workers missing",)


def test_a_final_status_is_not_taken_back():
    view = LiveView([], run=a_run(status=RunStatus.FINISHED))
    view.set_status(a_run())
    assert view.run.status is RunStatus.FINISHED


def test_state_is_small_and_holds_neither_library_nor_data():
    view = LiveView([an_interval(seq) for seq in range(100)], run=a_run())
    state = json.dumps(view.get_state(), default=str)
    assert len(state) < 40_000
    assert "Plotly, Inc." not in state


def test_representations_are_text_and_a_small_static_twin():
    view = LiveView([an_interval(seq) for seq in range(1000)], run=a_run(workers_lost=1))
    data, _ = view._repr_mimebundle_()
    first, second = data["text/plain"].splitlines()
    assert first.startswith("LiveView('products, 50 users', Running, 1000 intervals, 50 users, ")
    assert second == "1 worker lost"
    assert len(json.dumps(data["application/vnd.plotly.v1+json"])) < 60_000
    empty, _ = LiveView([], run=a_run())._repr_mimebundle_()
    assert "application/vnd.plotly.v1+json" not in empty


def test_page_code_names_no_other_host():
    ours = [*live.STATIC.glob("*.css"), *(path for path in live.STATIC.glob("*.js") if path != live.PLOTLY_JS)]
    assert len(ours) >= 9
    for path in ours:
        text = path.read_text()
        assert "://" not in text
        assert "innerHTML" not in text


class Ledger:
    """Stored documents and a run, as `follow` reads them."""

    def __init__(self, *seqs: int) -> None:
        self.documents = {seq: an_interval(seq) for seq in seqs}
        self.run = a_run()
        self.positions: list[dict[str, int]] = []
        self.down = False

    def read_after(self, position: dict[str, int]) -> list[dict[str, Any]]:
        if self.down:
            raise StoreUnavailable("MongoDB does not answer")
        self.positions.append(dict(position))
        return [self.documents[seq] for seq in sorted(self.documents) if seq > position.get("master", -1)]

    def read_run(self) -> Any:
        return self.run


@pytest.fixture
def following() -> Iterator[Callable[..., tuple[LiveView, threading.Thread | None]]]:
    views = []

    def start(ledger: Ledger, **arguments: Any) -> tuple[LiveView, threading.Thread | None]:
        views.append(LiveView(arguments.pop("history", []), run=ledger.run))
        followed = follow(
            views[-1], read_after=ledger.read_after, read_run=ledger.read_run, **{"every_s": 0.02, **arguments}
        )
        return views[-1], followed

    yield start
    for view in views:
        view.close()


def seqs(view: LiveView) -> set[int]:
    return {document["seq"] for document in view._points.documents}


def test_following_the_ledger_fills_gaps_and_ends_with_the_run(following: Callable[..., Any]):
    ledger = Ledger(0, 1, 3)
    view, thread = following(ledger)
    wait_until(lambda: seqs(view) == {0, 1, 3}, within_s=5, message="the ledger was not read")
    ledger.documents[2] = an_interval(2)
    wait_until(lambda: view.position() == {"master": 3}, within_s=5, message="the gap was not filled")
    ledger.documents[4] = an_interval(4)
    ledger.run = a_run(status=RunStatus.FINISHED)
    thread.join(5)
    assert not thread.is_alive()
    assert seqs(view) == {0, 1, 2, 3, 4}
    assert view.run.status is RunStatus.FINISHED


def test_pushes_are_shown_at_once_and_the_ledger_makes_up_for_lost_ones(following: Callable[..., Any]):
    ledger, callbacks, ended = Ledger(0), [], []

    def subscribe(callback: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
        callbacks.append(callback)
        return lambda: ended.append(callback)

    view, thread = following(ledger, subscribe=subscribe)
    wait_until(lambda: seqs(view) == {0}, within_s=5, message="the ledger was not read")
    callbacks[0](an_interval(2))
    assert seqs(view) == {0, 2}
    ledger.documents[1] = an_interval(1)
    wait_until(lambda: seqs(view) == {0, 1, 2}, within_s=5, message="a push that was missed stayed missing")
    ledger.run = a_run(status=RunStatus.STOPPED)
    callbacks[0]({"status": "Stopped"})
    thread.join(5)
    assert not thread.is_alive()
    assert ended == callbacks


def test_after_the_end_everything_is_read_and_no_thread_is_left(following: Callable[..., Any]):
    ledger = Ledger(0, 1, 2)
    ledger.run = a_run(status=RunStatus.FINISHED)
    view, thread = following(ledger, history=[an_interval(0)])
    assert thread is None
    assert seqs(view) == {0, 1, 2}
    assert ledger.positions == [{"master": 0}]


def test_a_closed_view_is_not_followed_and_holds_no_interval(following: Callable[..., Any]):
    view, thread = following(Ledger(0), every_s=60)
    wait_until(lambda: seqs(view) == {0}, within_s=5, message="no interval")
    view.close()
    thread.join(5)
    assert not thread.is_alive()
    assert not view.append(an_interval(1))
    assert seqs(view) == set()


def test_a_store_that_is_away_is_a_note_until_it_is_back(following: Callable[..., Any]):
    ledger = Ledger(0)
    ledger.down = True
    view, _ = following(ledger)
    wait_until(lambda: any("MongoDB does not answer" in note for note in view.notes()), within_s=5, message="no note")
    ledger.down = False
    wait_until(lambda: seqs(view) == {0} and view.notes() == (), within_s=5, message="the note stayed")
