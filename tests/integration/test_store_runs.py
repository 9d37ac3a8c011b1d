"""Runs on the real MongoDB: moves, recent runs, endpoints, sources."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadbench.errors import Conflict, InvalidInput, NotFound
from loadbench.model import TRANSITIONS, Endpoint, LastMetrics, RunStatus, Scope, SourceState
from loadbench.store import Store
from tests.builders import CART, HOME_PAGE, SCOPE, START_MS, a_run, a_test

pytestmark = pytest.mark.integration

FINAL = (RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED)
PATHS = {
    RunStatus.PENDING: (),
    RunStatus.RUNNING: (RunStatus.RUNNING,),
    RunStatus.STOPPING: (RunStatus.RUNNING, RunStatus.STOPPING),
    RunStatus.FINISHED: (RunStatus.RUNNING, RunStatus.FINISHED),
    RunStatus.STOPPED: (RunStatus.RUNNING, RunStatus.STOPPING, RunStatus.STOPPED),
    RunStatus.FAILED: (RunStatus.FAILED,),
}
MOVE_IN_A_PROCESS = """
import sys
from loadbench.store import Store
with Store.open(sys.stdin.readline().strip()) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(store.runs.move(sys.argv[1], "Stopping") is not None for _ in range(5)), flush=True)
"""


def recent(store: Store, test_id: str) -> list[tuple[str, str, int | None]]:
    return [(entry.run_id, str(entry.status), entry.finished_at) for entry in store.load_tests.get(test_id).recent_runs]


def brought_to(store: Store, status: RunStatus, **changes: object) -> str:
    run = store.runs.add(a_run(**changes))
    for step in PATHS[status]:
        assert store.runs.move(run.id, step).status is step
    return run.id


class TestFinding:
    def test_what_was_added_is_found_newest_first(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        old = store.runs.add(a_run(test, created_at=START_MS))
        new = store.runs.add(a_run(test, created_at=START_MS + 1))
        foreign = store.runs.add(a_run(env_id="production", created_at=START_MS + 2))
        assert store.runs.get(old.id) == old
        assert store.runs.find(SCOPE) == [new, old]
        assert store.runs.find() == [foreign, new, old]
        assert store.runs.find(load_test_id=test.id, limit=1) == [new]
        store.runs.move(old.id, RunStatus.RUNNING)
        assert [run.id for run in store.runs.find(status=RunStatus.RUNNING)] == [old.id]
        assert [run.id for run in store.runs.find(SCOPE, status=["Pending", RunStatus.RUNNING])] == [new.id, old.id]
        with pytest.raises(InvalidInput, match="status must be one of Pending"):
            store.runs.find(status="Broken")

    def test_a_run_of_no_test_is_not_added(self, store: Store) -> None:
        with pytest.raises(NotFound, match="create the test before its run"):
            store.runs.add(a_run(load_test_id="test-0"))
        assert store.runs.find() == []

    def test_a_prefix_is_enough(self, store: Store) -> None:
        for run_id in ("run-ab12", "run-ab34", "run-cd56", "run-cd5"):
            store.runs.add(a_run(id=run_id))
        assert [store.runs.resolve(p).id for p in ("run-ab12", "run-ab1", "ab1", "cd56")] == [
            *["run-ab12"] * 3,
            "run-cd56",
        ]
        assert store.runs.resolve("cd5").id == "run-cd5"  # a whole id, although it begins another one
        with pytest.raises(InvalidInput, match="ab could be run-ab12, run-ab34: give more characters"):
            store.runs.resolve("ab")
        with pytest.raises(NotFound, match=r"no run ff: the newest are run-\w+ \(products 1\), "):
            store.runs.resolve("ff")
        with pytest.raises(InvalidInput):
            store.runs.resolve("")
        with pytest.raises(NotFound):
            store.runs.resolve(".*")

    def test_a_prefix_is_looked_up_in_its_scope_only(self, store: Store) -> None:
        run = store.runs.add(a_run(id="run-ab12"))
        elsewhere = Scope.parse("acme/shop/other")
        with pytest.raises(NotFound, match="no run ab in acme/shop/other: there are no runs yet"):
            store.runs.resolve("ab", elsewhere)
        assert store.runs.resolve("ab", SCOPE) == run


class TestMoving:
    @pytest.mark.parametrize(("origin", "to"), list(itertools.product(RunStatus, RunStatus)))
    def test_only_the_transitions_happen(self, store: Store, origin: RunStatus, to: RunStatus) -> None:
        run_id = brought_to(store, origin)
        moved = store.runs.move(run_id, to)
        if to in TRANSITIONS[origin] and not origin.is_final:
            assert moved == store.runs.get(run_id)
            assert moved.status is to
            assert (moved.finished_at is not None) == to.is_final
        else:
            assert moved is None
            assert store.runs.get(run_id).status is origin

    def test_fields_are_written_with_the_status_or_not_at_all(self, store: Store) -> None:
        run_id = brought_to(store, RunStatus.RUNNING)
        moved = store.runs.move(
            run_id, "Finished", stop_reason="duration", completeness="complete", finished_at=START_MS
        )
        assert (moved.stop_reason, moved.completeness, moved.finished_at) == ("duration", "complete", START_MS)
        assert store.runs.move(run_id, RunStatus.FAILED, stop_reason="lost") is None
        assert store.runs.get(run_id) == moved
        with pytest.raises(InvalidInput, match=r"stop_?[rR]eason"):
            store.runs.move(brought_to(store, RunStatus.RUNNING), RunStatus.FAILED, stop_reason="bored")

    def test_when_narrows_the_origins(self, store: Store) -> None:
        run_id = brought_to(store, RunStatus.RUNNING)
        assert store.runs.move(run_id, RunStatus.FAILED, when=[RunStatus.PENDING]) is None
        assert store.runs.move(run_id, RunStatus.FAILED, when=[RunStatus.PENDING, RunStatus.RUNNING]) is not None

    def test_of_twenty_callers_one_moves_it(self, store: Store) -> None:
        run_id = brought_to(store, RunStatus.RUNNING)
        with ThreadPoolExecutor(20) as pool:
            moved = list(pool.map(lambda _: store.runs.move(run_id, RunStatus.STOPPING), range(20)))
        assert len([run for run in moved if run is not None]) == 1

    def test_of_three_processes_one_moves_it(self, store: Store) -> None:
        run_id = brought_to(store, RunStatus.RUNNING)
        movers = [
            subprocess.Popen([sys.executable, "-c", MOVE_IN_A_PROCESS, run_id], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]  # fmt: skip
        try:
            for mover in movers:
                mover.stdin.write(f"{store.uri}\n")
                mover.stdin.flush()
            assert [mover.stdout.readline() for mover in movers] == ["ready\n"] * 3
            counts = [mover.communicate("\n", timeout=30)[0].strip() for mover in movers]
        finally:
            for mover in movers:
                mover.kill()
                mover.wait()
        assert sorted(counts) == ["0", "0", "1"]

    def test_an_unknown_run_or_state_is_an_error(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no run run-0"):
            store.runs.move("run-0", RunStatus.RUNNING)
        with pytest.raises(InvalidInput, match="status must be one of"):
            store.runs.move("run-0", "Broken")

    def test_a_lost_run_can_recover_and_no_other(self, store: Store) -> None:
        lost, broken = brought_to(store, RunStatus.RUNNING), brought_to(store, RunStatus.RUNNING)
        store.runs.move(lost, RunStatus.FAILED, stop_reason="lost", error="its processes are gone")
        store.runs.move(broken, RunStatus.FAILED, stop_reason="error")
        assert store.runs.recover(broken, RunStatus.FINISHED) is None
        assert store.runs.recover(brought_to(store, RunStatus.RUNNING), RunStatus.STOPPED) is None
        found = store.runs.recover(lost, RunStatus.FINISHED, stop_reason="duration", completeness="complete")
        assert (found.status, found.stop_reason, found.error) == (RunStatus.FINISHED, "duration", None)
        assert store.runs.recover(lost, RunStatus.FINISHED) is None
        with pytest.raises(InvalidInput, match="must be one of Finished, Stopped; not"):
            store.runs.recover(lost, RunStatus.RUNNING)


class TestRecentRuns:
    def test_the_entry_is_there_at_once_and_follows_in_place(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        first = store.runs.add(a_run(test, created_at=START_MS))
        second = store.runs.add(a_run(test, created_at=START_MS + 1))
        assert recent(store, test.id) == [(second.id, "Pending", None), (first.id, "Pending", None)]
        store.runs.move(first.id, RunStatus.RUNNING)
        assert recent(store, test.id) == [(second.id, "Pending", None), (first.id, "Running", None)]
        store.runs.move(first.id, RunStatus.FAILED, finished_at=START_MS + 9, stop_reason="lost")
        assert recent(store, test.id) == [(second.id, "Pending", None), (first.id, "Failed", START_MS + 9)]
        store.runs.recover(first.id, RunStatus.STOPPED, finished_at=START_MS + 8)
        assert recent(store, test.id) == [(second.id, "Pending", None), (first.id, "Stopped", START_MS + 8)]

    def test_there_are_ten_and_the_eleventh_leaves(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        runs = [store.runs.add(a_run(test, created_at=START_MS + n)) for n in range(12)]
        newest = [(run.id, "Pending", None) for run in reversed(runs[2:])]
        assert recent(store, test.id) == newest
        store.runs.move(runs[0].id, RunStatus.RUNNING)
        assert recent(store, test.id) == newest

    def test_adding_again_changes_nothing(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        run = store.runs.add(a_run(test))
        store.runs.move(run.id, RunStatus.RUNNING)
        assert store.runs.add(run).status is RunStatus.RUNNING
        assert recent(store, test.id) == [(run.id, "Running", None)]
        with pytest.raises(Conflict, match="there is another run"):
            store.runs.add(run.model_copy(update={"name": "other"}))

    def test_adding_at_once_makes_one_entry(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        run = a_run(test)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(store.runs.add, [run] * 8)) == [run] * 8
        assert recent(store, test.id) == [(run.id, "Pending", None)]

    @pytest.mark.parametrize("repair", ["add", "move"])
    def test_a_crash_between_the_two_writes_is_made_up_for(self, store: Store, repair: str) -> None:
        test = store.load_tests.add(a_test())
        run = a_run(test)
        store.database.load_test_runs.insert_one(run.to_mongo())  # all that the process did that died
        assert recent(store, test.id) == []
        if repair == "add":
            store.runs.add(run)
        else:
            store.runs.move(run.id, RunStatus.FINISHED)
        assert recent(store, test.id) == [(run.id, "Pending", None)]

    def test_a_crash_between_move_and_note_is_made_up_for(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        run = store.runs.add(a_run(test))
        store.database.load_test_runs.update_one({"_id": run.id}, {"$set": {"status": "Running"}})
        assert store.runs.move(run.id, RunStatus.RUNNING) is None
        assert recent(store, test.id) == [(run.id, "Running", None)]

    def test_a_late_note_of_an_earlier_state_changes_nothing(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        run = store.runs.add(a_run(test))
        running = store.runs.move(run.id, RunStatus.RUNNING)
        store.runs.move(run.id, RunStatus.FINISHED, finished_at=START_MS)
        store.runs._note(running)  # as a process does that was paused between its two writes
        assert recent(store, test.id) == [(run.id, "Finished", START_MS)]

    def test_many_moves_at_once_leave_the_truth(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        runs = [store.runs.add(a_run(test, created_at=START_MS + n)) for n in range(4)]
        steps = [(run.id, to) for to in (RunStatus.RUNNING, RunStatus.STOPPING, *FINAL) for run in runs] * 2
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda step: store.runs.move(*step), steps))
        stored = [store.runs.get(run.id) for run in reversed(runs)]
        assert all(run.status.is_final for run in stored)
        assert recent(store, test.id) == [(run.id, str(run.status), run.finished_at) for run in stored]


class TestUpdating:
    def test_update_changes_what_it_names_but_never_the_status(self, store: Store) -> None:
        run = store.runs.add(a_run(notes="x", updated_at=START_MS))
        changed = store.runs.update(run.id, notes="slow database", tags=("bad",), receiver_url="http://127.0.0.1:1")
        assert (changed.notes, changed.tags) == ("slow database", ("bad",))
        assert changed.updated_at > START_MS
        assert store.runs.update(run.id, receiver_url=None).receiver_url is None
        for field in ("status", "endpoints", "sources", "id"):
            with pytest.raises(InvalidInput, match=f"not '{field}'"):
                store.runs.update(run.id, **{field: "Failed"})
        with pytest.raises(NotFound):
            store.runs.update("run-0", notes="")

    def test_touch_goes_forward_only(self, store: Store) -> None:
        def figures(at: int, total: int) -> LastMetrics:
            return LastMetrics(timestamp=at, users=2, total_rps=4.0, errors_per_sec=1.0, p50_ms=20.0,
                               cum_requests=total, cum_failures=1)  # fmt: skip

        run = store.runs.add(a_run())
        late, early = figures(START_MS + 2000, 8), figures(START_MS + 1000, 4)
        store.runs.touch(run.id, lease_expires_at=START_MS + 30, last_metrics=late, clock_skew_ms=-5, workers_lost=1)
        store.runs.touch(run.id, lease_expires_at=START_MS + 20, last_metrics=early, workers_lost=0)
        kept = store.runs.get(run.id)
        assert (kept.lease_expires_at, kept.last_metrics) == (START_MS + 30, late)
        assert (kept.workers_lost, kept.clock_skew_ms) == (1, -5)
        store.runs.touch(run.id, lease_expires_at=START_MS + 40)
        assert store.runs.get(run.id).lease_expires_at == START_MS + 40

    def test_a_source_is_closed_once(self, store: Store) -> None:
        run = store.runs.add(a_run())
        states = [SourceState(source=source, last_seq=9, requests=40, failures=10) for source in ("a", "b")]
        for state in (*states, *states):
            store.runs.close_source(run.id, state)
        assert store.runs.get(run.id).sources == tuple(states)
        with pytest.raises(NotFound):
            store.runs.close_source("run-0", states[0])

    def test_closing_at_once_makes_one_entry(self, store: Store) -> None:
        run = store.runs.add(a_run())
        state = SourceState(source="a", last_seq=9, requests=40, failures=10)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.runs.close_source(run.id, state), range(16)))
        assert store.runs.get(run.id).sources == (state,)


class TestEndpoints:
    def test_an_index_once_given_stays(self, store: Store) -> None:
        run = store.runs.add(a_run())
        search = Endpoint(method="GET", name="/search")
        assert store.runs.endpoint_indices(run.id, [HOME_PAGE, CART]) == [0, 1]
        assert store.runs.endpoint_indices(run.id, [CART, search, HOME_PAGE]) == [1, 2, 0]
        assert store.runs.endpoint_indices(run.id, []) == []
        assert store.runs.get(run.id).endpoints == (HOME_PAGE, CART, search)
        with pytest.raises(NotFound):
            store.runs.endpoint_indices("run-0", [CART])

    def test_the_method_tells_names_apart(self, store: Store) -> None:
        run = store.runs.add(a_run())
        both = [Endpoint(method="GET", name="/cart"), CART]
        assert store.runs.endpoint_indices(run.id, both) == [0, 1]
        assert store.runs.endpoint_indices(run.id, [CART, CART]) == [1, 1]

    def test_writers_at_once_agree(self, store: Store) -> None:
        run = store.runs.add(a_run())
        names = [Endpoint(method="GET", name=f"/{n}") for n in range(12)]
        windows = [names[n : n + 5] for n in range(8)] * 3
        with ThreadPoolExecutor(12) as pool:
            given = list(pool.map(lambda window: store.runs.endpoint_indices(run.id, window), windows))
        stored = store.runs.get(run.id).endpoints
        assert sorted(stored, key=str) == sorted(names, key=str)
        for window, indices in zip(windows, given, strict=True):
            assert [stored[index] for index in indices] == window
