"""The collection `load_tests`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from loadbench.errors import Conflict, NotFound
from loadbench.model import LoadTest, Scope, now_ms
from loadbench.store.documents import NEWEST_FIRST, Documents, changes, unchanged
from loadbench.store.paging import Page, page

_FIXED = frozenset(
    {"id", "account_id", "org_id", "project_id", "created_at", "created_by", "updated_at", "recent_runs"}
    | {"latest_revision_id", "latest_revision_number"}
)
_LIMITS = ("default_duration_sec", "max_duration_sec")
_NOT_EDITED = frozenset({"recent_runs", "created_at", "created_by", "updated_at", "updated_by"})
_EDITED = frozenset(LoadTest.model_fields) - _NOT_EDITED - {"id"}


def within(scope: Scope | None) -> dict[str, Any]:
    """The filter for a scope; one without an environment covers all environments of its project."""
    return scope.to_mongo() if scope else {}


class LoadTests:
    """What may be run. Names are unique within account, organisation, project and environment."""

    def __init__(self, tests: Documents) -> None:
        self._tests = tests

    def add(self, test: LoadTest) -> LoadTest:
        """Store a new test.

        Raises
        ------
        Conflict
            If its scope has a test of that name already.
        """
        try:
            self._tests.insert(test.to_mongo())
        except DuplicateKeyError:
            raise _taken(test.name, test.scope) from None
        return test

    def get(self, test_id: str) -> LoadTest:
        """Fetch one test; NotFound if there is none with that id."""
        document = self._tests.one({"_id": test_id})
        if document is None:
            raise NotFound(f"no test {test_id}: list the tests of the project to see those there are")
        return LoadTest.from_mongo(document)

    def find(
        self, scope: Scope | None = None, *, name: str | None = None, tag: str | None = None, limit: int = 100
    ) -> list[LoadTest]:
        """List tests, newest first; `name` is the whole name."""
        where = within(scope)
        if name is not None:
            where["name"] = name
        if tag is not None:
            where["tags"] = tag
        return [LoadTest.from_mongo(document) for document in self._tests.many(where, sort=NEWEST_FIRST, limit=limit)]

    def page(self, where: Mapping[str, Any], **how: Any) -> Page[LoadTest]:
        """List tests that fit a MongoDB filter, a page at a time; `how` as in `paging.page`."""
        return page(self._tests, LoadTest, where, searched=("name", "description"), **how)

    def update(self, test_id: str, **fields: Any) -> LoadTest:
        """Change fields, named as in `LoadTest`; None removes an optional one.

        Raises
        ------
        InvalidInput
            If a field is unknown or fixed, or a value is wrong alone or together with the others.
        Conflict
            If the new name is taken.
        """
        change = changes(LoadTest, fields, fixed=_FIXED)
        change["$set"]["updatedAt"] = now_ms()
        while True:
            current = self.get(test_id)
            checked = LoadTest.build(**(dict(current) | fields))
            # The limits are checked against each other, so none of them may change between the check and the write.
            seen = current.model_dump(by_alias=True, include=set(_LIMITS))
            try:
                document = self._tests.take({"_id": test_id} | seen, change)
            except DuplicateKeyError:
                raise _taken(checked.name, checked.scope) from None
            if document is not None:
                return LoadTest.from_mongo(document)

    def update_unchanged(self, seen: LoadTest, **fields: Any) -> LoadTest | None:
        """Change fields as `update` does, but only if the test is as it was seen; None if it is not.

        Runs that come and go do not matter. Of several callers that saw the same, exactly one succeeds.
        """
        change = changes(LoadTest, fields, fixed=_FIXED)
        change["$set"]["updatedAt"] = now_ms()
        checked = LoadTest.build(**(dict(seen) | fields))
        try:
            document = self._tests.take({"_id": seen.id} | unchanged(seen, _EDITED), change)
        except DuplicateKeyError:
            raise _taken(checked.name, checked.scope) from None
        return None if document is None else LoadTest.from_mongo(document)

    def delete_unused(self, test_id: str) -> bool:
        """Delete a test that has neither recent runs nor a baseline; say whether it is gone."""
        unused = {"recentRuns.0": {"$exists": False}, "baselineRunIds.0": {"$exists": False}}
        return self._tests.delete({"_id": test_id} | unused) == 1 or self._tests.one({"_id": test_id}) is None

    def forget_run(self, test_id: str, run_id: str) -> bool:
        """Take a run out of `recentRuns`, unless it is a baseline; say whether the run may be deleted."""
        pulled = self._tests.update(
            {"_id": test_id, "baselineRunIds": {"$ne": run_id}}, {"$pull": {"recentRuns": {"runId": run_id}}}
        )
        return pulled or self._tests.one({"_id": test_id}, fields=("_id",)) is None

    def is_baseline(self, run_id: str) -> bool:
        """Say whether a run is a baseline of any test."""
        return self._tests.one({"baselineRunIds": run_id}, fields=("_id",)) is not None


def _taken(name: str, scope: Scope) -> Conflict:
    return Conflict(f"{scope} has a test named {name!r} already: open that one, or choose another name")
