"""The collection `load_tests`."""

from __future__ import annotations

from typing import Any

from pymongo.errors import DuplicateKeyError

from loadbench.errors import Conflict, NotFound
from loadbench.model import LoadTest, Scope, now_ms
from loadbench.store.documents import NEWEST_FIRST, Documents, changes

_FIXED = frozenset(
    {"id", "account_id", "org_id", "project_id", "created_at", "created_by", "updated_at", "recent_runs"}
    | {"latest_revision_id", "latest_revision_number"}
)
_LIMITS = ("default_duration_sec", "max_duration_sec")


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


def _taken(name: str, scope: Scope) -> Conflict:
    return Conflict(f"{scope} has a test named {name!r} already: open that one, or choose another name")
