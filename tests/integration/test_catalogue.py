"""What is defined and kept: edits that are never lost, deletes that leave nothing behind, baselines that stay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from loadbench.catalogue import Catalogue, etag
from loadbench.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, ScriptError
from loadbench.home import data_home
from loadbench.model import LastMetrics, RunStatus, SourceState, now_ms
from loadbench.sealing import seal
from tests import scripts
from tests.builders import START_MS, a_run, a_test, an_interval

DAY_MS = 24 * 3600 * 1000
SCRIPT = scripts.STEADY.encode()


@pytest.fixture
def catalogue(store):
    return Catalogue(store)


@pytest.fixture
def test(catalogue):
    return catalogue.create_test(a_test(), SCRIPT, by="ann", check=False)


@pytest.fixture
def finished(store, test):
    """Make a run of the test that is over, with two intervals."""

    def make(*, ended_ms: int = START_MS + 2000, status: RunStatus = RunStatus.FINISHED, owner=test):
        run = store.runs.add(a_run(owner, created_at=ended_ms - 3000))
        store.runs.move(run.id, RunStatus.RUNNING, started_at=ended_ms - 2000)
        for seq in (0, 1):
            store.ledger.append(an_interval(run.id, seq))
        store.runs.close_source(run.id, SourceState(source="local-1", last_seq=1, requests=8, failures=2))
        if status is RunStatus.STOPPED:
            store.runs.move(run.id, RunStatus.STOPPING)
        return store.runs.move(run.id, status, finished_at=ended_ms, completeness="complete")

    return make


def counts(store) -> dict[str, int]:
    names = ("load_tests", "script_revisions", "load_test_runs", "metrics_timeseries", "tokens")
    return {name: store.database[name].count_documents({}) for name in names}


def test_a_test_is_created_with_its_script(catalogue, store):
    test = catalogue.create_test(a_test(), SCRIPT, by="ann")
    assert (test.latest_revision_number, test.created_by) == (1, "ann")
    assert store.script_revisions.latest(test.id).script == SCRIPT
    with pytest.raises(Conflict, match="has a test named 'products' already"):
        catalogue.create_test(a_test(), SCRIPT, by="bob")
    with pytest.raises(ScriptError, match="does not compile"):
        catalogue.create_test(a_test(name="broken"), b"import locust\nx = (\n", by="bob")
    assert [test.name for test in store.load_tests.find()] == ["products"]
    bare = catalogue.create_test(a_test(name="bare"), None, by="ann")
    assert bare.latest_revision_number == 0


def test_a_change_needs_the_current_etag(catalogue, test):
    seen = etag(test)
    changed = catalogue.update_test(test.id, by="bob", if_match=seen, description="first", tags=("a",))
    assert (changed.description, changed.tags, changed.updated_by) == ("first", ("a",), "bob")
    with pytest.raises(PreconditionFailed, match="'products' was changed by somebody else"):
        catalogue.update_test(test.id, by="eve", if_match=seen, description="second")
    assert catalogue.update_test(test.id, by="eve", if_match="*", default_users=7).default_users == 7
    newest = etag(catalogue.update_test(test.id, by="eve", if_match="*", default_users=8))
    for wrong in ("", "x", newest.strip('"'), f"W/{newest}", newest[:9], '"0000000000000000"'):
        with pytest.raises(PreconditionFailed):
            catalogue.update_test(test.id, by="eve", if_match=wrong, description="no")
    assert catalogue.update_test(test.id, by="eve", if_match=f'"0", {newest}', description="yes").description == "yes"
    assert catalogue.update_test(test.id, by="eve", description="blind").description == "blind"


def test_of_twenty_editors_at_once_one_wins_and_the_others_know(catalogue, store, test):
    seen = etag(test)

    def edit(number: int) -> int | None:
        try:
            catalogue.update_test(test.id, by=f"editor-{number}", if_match=seen, description=f"by {number}")
        except PreconditionFailed:
            return None
        return number

    with ThreadPoolExecutor(20) as pool:
        winners = [number for number in pool.map(edit, range(20)) if number is not None]
    assert len(winners) == 1
    stored = store.load_tests.get(test.id)
    assert (stored.description, stored.updated_by) == (f"by {winners[0]}", f"editor-{winners[0]}")


def test_twenty_editors_who_read_again_lose_no_change(catalogue, store, test):
    def add_a_tag(number: int) -> None:
        while True:
            seen = store.load_tests.get(test.id)
            try:
                catalogue.update_test(test.id, by="ann", if_match=etag(seen), tags=(*seen.tags, f"t{number}"))
            except PreconditionFailed:
                continue
            return

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(add_a_tag, range(20)))
    assert sorted(store.load_tests.get(test.id).tags) == sorted(f"t{number}" for number in range(20))


def test_twenty_editors_of_a_run_lose_no_change(catalogue, store, finished):
    run = finished()

    def note(number: int) -> None:
        while True:
            seen = store.runs.get(run.id)
            try:
                catalogue.update_run(run.id, by="ann", if_match=etag(seen), metadata={**seen.metadata, f"n{number}": 1})
            except PreconditionFailed:
                continue
            return

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(note, range(20)))
    assert store.runs.get(run.id).metadata == {f"n{number}": 1 for number in range(20)}


def test_a_run_that_goes_on_is_no_other_editor_but_no_cache_hit(catalogue, store, test):
    run = store.runs.add(a_run(test))
    seen_run, seen_test = etag(run), etag(store.load_tests.get(test.id))
    store.runs.move(run.id, RunStatus.RUNNING, started_at=START_MS)
    last = LastMetrics(timestamp=START_MS, users=1, total_rps=1.0, errors_per_sec=0.0, cum_requests=1, cum_failures=0)
    store.runs.touch(run.id, lease_expires_at=START_MS, last_metrics=last)
    assert etag(store.runs.get(run.id)) != seen_run
    assert etag(store.load_tests.get(test.id)) != seen_test
    assert catalogue.update_run(run.id, by="ann", if_match=seen_run, notes="warm cache").notes == "warm cache"
    assert catalogue.update_test(test.id, by="ann", if_match=seen_test, description="x").description == "x"


def test_what_may_be_changed(catalogue, test, finished):
    run = finished()
    with pytest.raises(InvalidInput, match="must be one of name, notes, tags, metadata, windows; not 'status'"):
        catalogue.update_run(run.id, by="ann", status=RunStatus.FAILED)
    with pytest.raises(InvalidInput, match="not 'baseline_run_ids'"):
        catalogue.update_test(test.id, by="ann", baseline_run_ids=(run.id,))
    with pytest.raises(InvalidInput, match="maxDurationSec"):
        catalogue.update_test(test.id, by="ann", if_match=etag(test), max_duration_sec=5)
    with pytest.raises(InvalidInput, match="metadata"):
        catalogue.update_run(run.id, by="ann", metadata={"$where": 1})
    renamed = catalogue.update_run(run.id, by="ann", name="nightly", notes="n", tags=("x",), metadata={"build": 7})
    assert (renamed.name, renamed.notes, renamed.tags, renamed.metadata) == ("nightly", "n", ("x",), {"build": 7})
    assert catalogue._store.load_tests.get(test.id).recent_runs[0].name == "nightly"
    with pytest.raises(NotFound):
        catalogue.update_run("run-none", by="ann", notes="n")


def test_a_revision_over_somebody_elses_is_refused(catalogue, store, test):
    seen = etag(test)
    assert catalogue.revise(test.id, SCRIPT + b"#2", by="ann", check=False, if_match=seen).revision_number == 2
    with pytest.raises(PreconditionFailed):
        catalogue.revise(test.id, SCRIPT + b"#3", by="bob", check=False, if_match=seen)
    with pytest.raises(ScriptError):
        catalogue.revise(test.id, b"import locust\nx = (\n", by="bob")
    assert catalogue.revise(test.id, SCRIPT + b"#3", by="bob", check=False).revision_number == 3
    seen = etag(store.load_tests.get(test.id))

    def revise(number: int) -> bool:
        try:
            catalogue.revise(test.id, SCRIPT + b"#%d" % number, by="ann", check=False, if_match=seen)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(revise, range(20))) == 1
    assert [revision.revision_number for revision in store.script_revisions.all(test.id)] == [1, 2, 3, 4]


def test_a_deleted_run_leaves_nothing(catalogue, store, test, finished):
    before = counts(store)
    run, other = finished(), finished()
    store.tokens.create_push(run.id)
    spool, folder = data_home() / "spool" / f"{run.id}.db", data_home() / "runs" / run.id
    folder.mkdir(parents=True)
    spool.parent.mkdir(parents=True, exist_ok=True)
    for path in (spool, spool.with_name(f"{spool.name}-wal"), folder / "locust.log"):
        path.write_text("left")
    catalogue.delete_run(run.id)
    assert not folder.exists()
    assert list(spool.parent.iterdir()) == []
    assert [entry.run_id for entry in store.load_tests.get(test.id).recent_runs] == [other.id]
    catalogue.delete_run(other.id)
    assert counts(store) == before
    with pytest.raises(NotFound):
        catalogue.delete_run(run.id)


@pytest.mark.parametrize("status", ["Pending", "Running", "Stopping"])
def test_an_active_run_cannot_be_deleted(catalogue, store, test, status):
    run = store.runs.add(a_run(test))
    for to in ([], [RunStatus.RUNNING], [RunStatus.RUNNING, RunStatus.STOPPING])[
        ["Pending", "Running", "Stopping"].index(status)
    ]:
        store.runs.move(run.id, to)
    with pytest.raises(Conflict, match=f"is {status}: stop it"):
        catalogue.delete_run(run.id)
    with pytest.raises(Conflict, match=f"is {status}: stop it"):
        catalogue.delete_test(test.id, cascade=True)
    assert store.runs.get(run.id).status == status


def test_a_test_goes_with_its_runs_only_when_told(catalogue, store, test, finished):
    other = catalogue.create_test(a_test(name="other"), SCRIPT, by="ann", check=False)
    finished(owner=other)
    before = counts(store)
    for _ in range(12):  # more than recentRuns holds
        finished()
    with pytest.raises(Conflict, match="has 12 runs: delete it with cascade"):
        catalogue.delete_test(test.id)
    catalogue.delete_test(test.id, cascade=True)
    assert counts(store) == before | {"load_tests": before["load_tests"] - 1, "script_revisions": 1}
    with pytest.raises(NotFound):
        catalogue.delete_test(test.id)
    with pytest.raises(NotFound, match="create the test before"):
        store.runs.add(a_run(test))


def test_a_test_without_runs_goes_with_its_revisions(catalogue, store, test):
    catalogue.revise(test.id, SCRIPT, by="ann", check=False)
    catalogue.delete_test(test.id)
    assert set(counts(store).values()) == {0}


def test_deleting_while_runs_start_leaves_no_orphan(catalogue, store):
    for attempt in range(10):
        test = catalogue.create_test(a_test(name=f"race {attempt}"), SCRIPT, by="ann", check=False)

        def start(test=test) -> bool:
            try:
                store.runs.add(a_run(test))
            except NotFound:
                return False
            return True

        def delete(test=test) -> bool:
            try:
                catalogue.delete_test(test.id, cascade=True)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            started = [pool.submit(start) for _ in range(3)]
            deleted = pool.submit(delete).result()
            [future.result() for future in started]
        orphans = 0 if not deleted else len(store.runs.find(load_test_id=test.id))
        assert orphans == 0


def test_a_baseline_is_set_read_protected_and_removed(catalogue, store, test, finished):
    first, second, stopped = finished(), finished(ended_ms=START_MS + 9000), finished(status=RunStatus.STOPPED)
    assert catalogue.baseline(test.id) == []
    catalogue.set_baseline(test.id, [first.id, second.id, first.id], by="ann")
    assert [run.id for run in catalogue.baseline(test.id)] == [second.id, first.id]
    for run in (first, second):
        with pytest.raises(Conflict, match="is a baseline"):
            catalogue.delete_run(run.id)
    with pytest.raises(Conflict, match="baseline of 2 runs: remove it first"):
        catalogue.delete_test(test.id, cascade=True)
    assert store.database.metrics_timeseries.count_documents({}) == 6
    catalogue.set_baseline(test.id, [stopped.id, second.id], by="bob")
    assert catalogue.remove_baseline(test.id, [stopped.id], by="bob").baseline_run_ids == (second.id,)
    with pytest.raises(NotFound, match=f"is no baseline of test 'products'; its baseline is: {second.id}"):
        catalogue.remove_baseline(test.id, [first.id], by="bob")
    assert catalogue.remove_baseline(test.id, by="bob").baseline_run_ids == ()
    catalogue.delete_run(second.id)


def test_what_cannot_be_a_baseline(catalogue, store, test, finished):
    other = catalogue.create_test(a_test(name="other"), SCRIPT, by="ann", check=False)
    active = store.runs.add(a_run(test))
    failed = finished(status=RunStatus.FAILED)
    foreign = finished(owner=other)
    for run, error in ((active, Conflict), (failed, Conflict), (foreign, NotFound)):
        with pytest.raises(error):
            catalogue.set_baseline(test.id, [run.id], by="ann")
    with pytest.raises(NotFound):
        catalogue.set_baseline(test.id, ["run-none"], by="ann")
    with pytest.raises(InvalidInput):
        catalogue.set_baseline(test.id, [], by="ann")
    assert catalogue.baseline(test.id) == []


def test_retention_that_was_cut_off_shows_no_half_run_and_goes_on(catalogue, store, finished, monkeypatch):
    now = START_MS + 30 * DAY_MS
    run = finished(ended_ms=now - 8 * DAY_MS)

    def cut_off(run_id):
        store.database.metrics_timeseries.delete_one({"runId": run_id})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.ledger, "delete", cut_off)
        with pytest.raises(KeyboardInterrupt):
            catalogue.purge(7, now_ms=now)
    assert len(store.ledger.documents(run.id)) == 1
    assert seal(store, store.runs.get(run.id)).parts["whole"]["intervals"] == 2
    with pytest.raises(Conflict, match="windows stay as they are"):
        catalogue.set_window(run.id, "steady", 0, 1, by="ann")
    assert catalogue.purge(7, now_ms=now) == 0
    assert store.ledger.documents(run.id) == []


def test_retention_deletes_old_intervals_but_never_a_baselines(catalogue, store, test, finished):
    now = START_MS + 30 * DAY_MS
    old, kept = finished(ended_ms=now - 8 * DAY_MS), finished(ended_ms=now - 8 * DAY_MS)
    young = finished(ended_ms=now - 6 * DAY_MS)
    store.runs.add(a_run(test, created_at=now - 9 * DAY_MS))  # active
    catalogue.set_baseline(test.id, [kept.id], by="ann")
    assert catalogue.purge(7, now_ms=now) == 1
    assert catalogue.purge(7, now_ms=now) == 0
    assert [len(store.ledger.documents(run.id)) for run in (old, kept, young)] == [0, 2, 2]
    assert store.runs.get(old.id).purged_at == now
    assert store.runs.get(kept.id).purged_at is None
    with pytest.raises(Conflict, match="intervals"):
        catalogue.set_baseline(test.id, [old.id], by="ann")
    for days in (0, -1, 1.5, True):
        with pytest.raises(InvalidInput, match="whole days"):
            catalogue.purge(days)


def test_etags_are_strong_and_tell_records_apart(test):
    assert etag(test) == etag(test.model_copy())
    assert etag(test) != etag(test.model_copy(update={"description": "x"}))
    assert etag(test)[0] == etag(test)[-1] == '"'
    assert len(etag(test)) == 18
    assert etag(a_run(created_at=now_ms())) != etag(test)
