"""The catalogue: what is defined and kept. Tests, their scripts and baselines, what people write on runs, deleting.

Used by the notebook and by the REST API alike, so that both obey the same rules.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from loadbench.analysis.gates import canonical
from loadbench.analysis.windows import WHOLE
from loadbench.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, one_of
from loadbench.home import data_home
from loadbench.launch.script import check_script, check_size
from loadbench.model import LoadTest, LoadTestRun, Record, RunStatus, ScriptRevision, Window, now_ms
from loadbench.sealing import seal
from loadbench.store import Store

TEST_FIELDS = (
    "name", "description", "tags", "cluster_id", "target_url", "default_users", "default_spawn_rate",
    "default_duration_sec", "max_duration_sec", "gates", "metadata",
)  # fmt: skip
"""What people change of a test; a script by `revise`, a baseline by `set_baseline`."""
RUN_FIELDS = ("name", "notes", "tags", "metadata", "windows")
"""What people write on a run; all else is what happened."""
_OF_A_TEST = {*TEST_FIELDS, "id", "latest_revision_id", "latest_revision_number", "baseline_run_ids"}
_DAY_MS = 24 * 3600 * 1000


def etag(record: Record) -> str:
    """Give a strong entity tag of a record's content: 16 hex digits in double quotes.

    Notes
    -----
    The first half is of what people edit, the second of all the rest. `if_match` compares the first half only:
    a run that goes on meanwhile is no other editor, but a cache must not hold its figures for unchanged.
    """
    edited = set(RUN_FIELDS) if isinstance(record, LoadTestRun) else _OF_A_TEST & set(type(record).model_fields)
    return f'"{_digest(record, include=edited)}{_digest(record)}"'


def _digest(record: Record, include: set[str] | None = None) -> str:
    content = record.model_dump(mode="json", by_alias=True, include=include)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def matches(if_match: str | None, record: Record) -> bool:
    """Say whether `if_match`, an entity tag or several with commas or `*`, is of this record as people edited it."""
    if if_match is None or if_match.strip() == "*":
        return True
    current = etag(record)
    given = [tag.strip() for tag in if_match.split(",")]
    return any(len(tag) == len(current) and tag[:9] == current[:9] and tag[-1] == '"' for tag in given)


class Catalogue:
    """Tests, revisions, baselines, and the upkeep of runs, on one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<Catalogue of {self._store!r}>"

    def create_test(self, test: LoadTest, script: bytes | None, *, by: str, check: bool = True) -> LoadTest:
        """Define a test, with its script as revision 1 if there is one already.

        Parameters
        ----------
        script : bytes, optional
            A Locust script.
        check : bool
            Let Locust load the script first.

        Raises
        ------
        ScriptError
            Before anything is stored.
        Conflict
            If the scope has a test of that name already.
        """
        test = test.model_copy(update={"gates": canonical(test.gates)})
        if script is not None:
            check_size(script)
        if check and script is not None:
            self._refuse_a_taken_name(test)  # before Locust takes a second to load the script
            check_script(script)
        self._store.load_tests.add(test.model_copy(update={"created_by": by, "updated_by": by}))
        if script is not None:
            self._store.script_revisions.add(test.id, script, by=by)
        return self._store.load_tests.get(test.id)

    def update_test(self, test_id: str, *, by: str, if_match: str | None = None, **fields: Any) -> LoadTest:
        """Change fields of a test, named as in `LoadTest`; None removes an optional one.

        Parameters
        ----------
        if_match : str, optional
            The entity tag of the test as the caller saw it; the change is made only if nobody has edited it since.

        Raises
        ------
        PreconditionFailed
            If somebody has.
        InvalidInput
            If a field may not be changed, or a value is wrong.
        Conflict
            If the new name is taken.
        """
        _check_fields(fields, TEST_FIELDS)
        if fields.get("gates"):
            fields["gates"] = canonical(fields["gates"])
        tests = self._store.load_tests
        if if_match is None:
            return tests.update(test_id, updated_by=by, **fields)
        while True:
            seen = tests.get(test_id)
            _require(if_match, seen, f"test {seen.name!r}")
            changed = tests.update_unchanged(seen, updated_by=by, **fields)
            if changed is not None:
                return changed

    def delete_test(self, test_id: str, *, cascade: bool = False) -> None:
        """Delete a test, its revisions and its schedules; its runs too, with all their intervals, if `cascade`.

        Raises
        ------
        Conflict
            If it has runs and this is no cascade, one of them is active, or it has a baseline.
        """
        test = self._store.load_tests.get(test_id)
        runs = self._store.runs.find(load_test_id=test_id, limit=0)
        active = [run for run in runs if not run.is_over]
        if active:
            raise Conflict(f"{active[0].id} of test {test.name!r} is {active[0].status.value}: stop it first")
        if test.baseline_run_ids:
            raise Conflict(f"test {test.name!r} has a baseline of {_count(test.baseline_run_ids)}: remove it first")
        if runs and not cascade:
            raise Conflict(f"test {test.name!r} has {_count(runs)}: delete it with cascade to delete them too")
        for run in runs:
            with contextlib.suppress(NotFound):
                self.delete_run(run.id)
        if not self._store.load_tests.delete_unused(test_id):
            raise Conflict(f"test {test.name!r} got a run or a baseline meanwhile: look at it again")
        self._store.script_revisions.delete_all(test_id)
        self._store.change_marks.delete_all(test_id)
        for schedule in self._store.schedules.find(test_id=test_id):
            self._store.schedules.delete(schedule.id)
        for run in self._store.runs.find(load_test_id=test_id, limit=0):
            self._erase(run.id)  # it was being started while the test went: its start fails, and kills what it made

    def revise(
        self,
        test_id: str,
        script: bytes,
        *,
        description: str = "",
        by: str,
        check: bool = True,
        if_match: str | None = None,
    ) -> ScriptRevision:
        """Store a script as the test's next revision, even if it equals the latest.

        Raises
        ------
        ScriptError
            Before anything is stored.
        PreconditionFailed
            If `if_match` is given and somebody has edited or revised the test since.
        """
        test = self._store.load_tests.get(test_id)
        _require(if_match, test, f"test {test.name!r}")
        check_size(script)
        if check:
            check_script(script)
        after = None if if_match is None else test.latest_revision_number
        revision = self._store.script_revisions.add(test_id, script, description=description, by=by, after=after)
        if revision is None:
            raise _changed(f"test {test.name!r}")
        return revision

    def update_run(self, run_id: str, *, by: str, if_match: str | None = None, **fields: Any) -> LoadTestRun:
        """Change what people write on a run, also while it goes on; `if_match` as in `update_test`.

        Raises
        ------
        PreconditionFailed
            If somebody else has changed it.
        Conflict
            If its windows should change and its intervals are deleted: nothing tells then what would lie in them.
        """
        _check_fields(fields, RUN_FIELDS)
        runs = self._store.runs
        if "windows" in fields:
            fields["windows"] = self._checked_windows(run_id, fields["windows"])
        if if_match is None:
            return runs.annotate(run_id, updated_by=by, **fields)
        while True:
            seen = runs.get(run_id)
            _require(if_match, seen, seen.id)
            changed = runs.annotate(run_id, seen=seen, updated_by=by, **fields)
            if changed is not None:
                return changed

    def set_window(self, run_id: str, name: str, start_s: float, end_s: float | None = None, *, by: str) -> LoadTestRun:
        """Set a window of a run by hand, in place of the one of that name that was found or set."""
        window = Window.build(name=name, start_s=start_s, end_s=end_s)
        return self._change_windows(run_id, lambda kept: (*(w for w in kept if w.name != name), window), by=by)

    def remove_window(self, run_id: str, name: str, *, by: str) -> LoadTestRun:
        """Forget a window that was set by hand.

        Raises
        ------
        NotFound
            If none of that name was.
        """

        def without(kept: tuple[Window, ...]) -> tuple[Window, ...]:
            if name not in {window.name for window in kept}:
                there = ", ".join(window.name for window in kept) or "none"
                raise NotFound(f"no window {name!r} was set on {run_id}; those that were: {there}")
            return tuple(window for window in kept if window.name != name)

        return self._change_windows(run_id, without, by=by)

    def _change_windows(
        self, run_id: str, change: Callable[[tuple[Window, ...]], tuple[Window, ...]], *, by: str
    ) -> LoadTestRun:
        while True:
            seen = self._store.runs.get(run_id)
            windows = self._checked_windows(run_id, change(seen.windows))
            changed = self._store.runs.annotate(run_id, seen=seen, updated_by=by, windows=windows)
            if changed is not None:
                return changed

    def _checked_windows(self, run_id: str, windows: Iterable[Window]) -> tuple[Window, ...]:
        """Give the windows as set by hand, if they can be."""
        run, given = self._store.runs.get(run_id), tuple(w.model_copy(update={"found": False}) for w in windows)
        names = [window.name for window in given]
        if WHOLE in names:
            raise InvalidInput("windows: the whole run is always a window: choose another name", field="windows")
        if len(set(names)) < len(names):
            raise InvalidInput(f"windows: each name once; not {', '.join(names)}", field="windows")
        if run.purged_at is not None and given != run.windows:
            raise Conflict(f"the intervals of {run.id} were deleted by retention: its windows stay as they are")
        return given

    def delete_run(self, run_id: str) -> None:
        """Delete a run: its intervals, tokens, spool, directory and its entry on the test.

        Raises
        ------
        Conflict
            If it is active, or a baseline.
        """
        run = self._store.runs.get(run_id)
        if not run.is_over:
            raise Conflict(f"{run.id} is {run.status.value}: stop it, and delete it when it is over")
        if run.load_test_id and not self._store.load_tests.forget_run(run.load_test_id, run.id):
            raise Conflict(f"{run.id} is a baseline of its test: remove it from the baseline first")
        self._erase(run.id)

    def _erase(self, run_id: str) -> None:
        """Remove all of a run, its record last: should this be cut short, deleting it again completes it."""
        self._store.tokens.revoke(run_id)
        self._store.ledger.delete(run_id)
        home = data_home()
        shutil.rmtree(home / "runs" / run_id, ignore_errors=True)
        for path in home.glob(f"spool/{run_id}.db*"):
            path.unlink(missing_ok=True)
        self._store.runs.delete(run_id)
        self._store.ledger.delete(run_id)  # a push that was on its way while the record was still there
        self._store.run_summaries.delete(run_id)

    def baseline(self, test_id: str) -> list[LoadTestRun]:
        """Give the runs that others of the test are compared with, newest first."""
        ids = self._store.load_tests.get(test_id).baseline_run_ids
        return sorted(self._store.runs.get_all(ids), key=lambda run: (run.created_at, run.id), reverse=True)

    def set_baseline(self, test_id: str, run_ids: Iterable[str], *, by: str) -> LoadTest:
        """Make these runs the baseline of a test, instead of those that were. They cannot be deleted then.

        Raises
        ------
        NotFound
            If a run is not of the test.
        Conflict
            If a run is not over, has failed, or its intervals are deleted.
        """
        wanted = tuple(dict.fromkeys(run_ids))
        if not wanted:
            raise InvalidInput("a baseline needs a run: name one, or remove the baseline", field="runIds")
        for run_id in wanted:
            self._check_baseline(test_id, run_id)
        test = self._store.load_tests.update(test_id, baseline_run_ids=wanted, updated_by=by)
        there = {run.id for run in self._store.runs.get_all(wanted)}
        gone = [run_id for run_id in wanted if run_id not in there]
        if gone:  # deleted between the check and the write
            self.remove_baseline(test_id, gone, by=by)
            raise NotFound(f"{gone[0]} was deleted meanwhile: it is no baseline")
        return test

    def remove_baseline(self, test_id: str, run_ids: Iterable[str] | None = None, *, by: str) -> LoadTest:
        """Take runs, or all, out of the baseline of a test. The runs stay.

        Raises
        ------
        NotFound
            If one of the runs is no baseline.
        """
        tests = self._store.load_tests
        removed = None if run_ids is None else set(run_ids)
        while True:
            seen = tests.get(test_id)
            unknown = sorted((removed or set()) - set(seen.baseline_run_ids))
            if unknown:
                there = ", ".join(seen.baseline_run_ids) or "none"
                raise NotFound(f"{unknown[0]} is no baseline of test {seen.name!r}; its baseline is: {there}")
            left = () if removed is None else tuple(run for run in seen.baseline_run_ids if run not in removed)
            changed = tests.update_unchanged(seen, baseline_run_ids=left, updated_by=by)
            if changed is not None:
                return changed

    def purge(self, days: int, *, now_ms: int | None = None, limit: int | None = None) -> int:
        """Delete the intervals of runs that ended more than `days` days ago; the runs and their summaries stay.

        A run is sealed first: its merged histograms, of the whole run and of its windows, are kept. Runs that are a
        baseline of any test are exempt. `limit` bounds how many runs are taken, the oldest first.

        Returns
        -------
        int
            Of how many runs.
        """
        if isinstance(days, bool) or not isinstance(days, int) or days < 1:
            raise InvalidInput(f"retention must be whole days, at least 1; not {days!r}", field="days")
        now = _now() if now_ms is None else now_ms
        for run_id in self._store.runs.purged(self._store.ledger.run_ids()):  # cut off in the middle
            self._store.ledger.delete(run_id)
        purged = 0
        for run in self._store.runs.unpurged(ended_before=now - days * _DAY_MS):
            if purged == limit:
                break
            if self._store.load_tests.is_baseline(run.id):
                continue
            with contextlib.suppress(NotFound):  # deleted meanwhile, or cut short after its intervals were
                seal(self._store, run)
            with contextlib.suppress(NotFound):  # said first: what is left of half of its intervals is not read
                self._store.runs.update(run.id, purged_at=now)
            self._store.ledger.delete(run.id)
            purged += 1
        return purged

    def _check_baseline(self, test_id: str, run_id: str) -> None:
        test = self._store.load_tests.get(test_id)
        run = next(iter(self._store.runs.get_all([run_id])), None)
        if run is None or run.load_test_id != test_id:
            raise NotFound(f"test {test.name!r} has no run {run_id}: list its runs to see those there are")
        if not run.is_over or run.status is RunStatus.FAILED:
            raise Conflict(f"{run.id} is {run.status.value}: a baseline must be a run that is Finished or Stopped")
        if run.purged_at is not None:
            raise Conflict(f"the intervals of {run.id} are deleted: a baseline must be a run that has them")

    def _refuse_a_taken_name(self, test: LoadTest) -> None:
        same = [known for known in self._store.load_tests.find(test.scope, name=test.name) if known.scope == test.scope]
        if same:
            raise Conflict(
                f"{test.scope} has a test named {test.name!r} already: open that one, or choose another name"
            )


_now = now_ms  # a parameter of `purge` has that name


def _check_fields(fields: Iterable[str], allowed: tuple[str, ...]) -> None:
    for name in fields:
        if name not in allowed:
            error = one_of("the field to change", name, allowed)
            raise InvalidInput(str(error), field=name)


def _require(if_match: str | None, record: Record, what: str) -> None:
    if not matches(if_match, record):
        raise _changed(what)


def _changed(what: str) -> PreconditionFailed:
    return PreconditionFailed(f"{what} was changed by somebody else since you read it: read it again, then change it")


def _count(runs: Iterable[Any]) -> str:
    number = len(tuple(runs))
    return "1 run" if number == 1 else f"{number} runs"
