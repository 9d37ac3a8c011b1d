"""The collection `script_revisions`: numbered 1, 2, 3... for each test, never edited, never reused."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from pymongo.errors import DuplicateKeyError

from loadbench.errors import NotFound
from loadbench.model import RevisionEntry, ScriptRevision, now_ms
from loadbench.store.documents import Documents
from loadbench.store.paging import Page, page

_NEWEST = (("revisionNumber", -1),)


class ScriptRevisions:
    """Every version of every test's script."""

    def __init__(self, revisions: Documents, tests: Documents) -> None:
        self._revisions = revisions
        self._tests = tests

    def add(
        self, test_id: str, script: bytes, *, description: str = "", by: str = "unknown", after: int | None = None
    ) -> ScriptRevision | None:
        """Store a script as the test's next revision, even if it equals the latest.

        The number is the next free one by the unique index: of several writers at once, each gets its own. With
        `after` it is stored only if that is the test's last number still; None if it is not.

        Raises
        ------
        NotFound
            If there is no such test.
        InvalidInput
            If the script is too large, or the description is.
        """
        content = base64.b64encode(script).decode("ascii")
        sha256 = hashlib.sha256(script).hexdigest()
        while True:
            last = self._last_number(test_id)
            if after is not None and last != after:
                return None
            revision = ScriptRevision.build(
                load_test_id=test_id,
                revision_number=last + 1,
                script_content=content,
                sha256=sha256,
                description=description,
                created_by=by,
                updated_by=by,
            )
            try:
                self._revisions.insert(revision.to_mongo())
            except DuplicateKeyError:
                continue  # another writer took the number, so it has made progress and this loop ends
            self._note_latest(revision)
            return revision

    def get(self, revision_id: str) -> ScriptRevision:
        """Fetch one revision; NotFound if there is none with that id."""
        document = self._revisions.one({"_id": revision_id})
        if document is None:
            raise NotFound(f"no script revision {revision_id}: list the revisions of the test to see those there are")
        return ScriptRevision.from_mongo(document)

    def number(self, test_id: str, n: int) -> ScriptRevision:
        """Fetch a test's revision by its number; NotFound names the numbers there are."""
        document = self._revisions.one({"loadTestId": test_id, "revisionNumber": n})
        if document is None:
            raise NotFound(f"test {test_id} has no revision {n}: {self._inventory(test_id)}")
        return ScriptRevision.from_mongo(document)

    def latest(self, test_id: str) -> ScriptRevision:
        """Fetch a test's newest revision; NotFound if it has no script yet."""
        document = self._revisions.one({"loadTestId": test_id}, sort=_NEWEST)
        if document is None:
            raise NotFound(f"test {test_id} has no revision: {self._inventory(test_id)}")
        return ScriptRevision.from_mongo(document)

    def all(self, test_id: str) -> list[ScriptRevision]:
        """List a test's revisions, from the first to the latest."""
        documents = self._revisions.many({"loadTestId": test_id}, sort=(("revisionNumber", 1),))
        return [ScriptRevision.from_mongo(document) for document in documents]

    def delete_all(self, test_id: str) -> None:
        """Delete all revisions of a test that is deleted."""
        self._revisions.delete({"loadTestId": test_id})

    def page(self, test_id: str, **how: Any) -> Page[RevisionEntry]:
        """List a test's revisions without their scripts, a page at a time; `how` as in `paging.page`."""
        return page(self._revisions, RevisionEntry, {"loadTestId": test_id}, **how)

    def _last_number(self, test_id: str) -> int:
        test = self._tests.one({"_id": test_id}, fields=("latestRevisionNumber",))
        if test is None:
            raise NotFound(f"no test {test_id}: list the tests of the project to see those there are")
        newest = self._revisions.one({"loadTestId": test_id}, sort=_NEWEST, fields=("revisionNumber",))
        # The test remembers its last number, so that it is not used again should that revision ever be deleted.
        return max(test["latestRevisionNumber"], newest["revisionNumber"] if newest else 0)

    def _note_latest(self, revision: ScriptRevision) -> None:
        """Name the revision on its test, unless a later one is named there already."""
        self._tests.update(
            {"_id": revision.load_test_id, "latestRevisionNumber": {"$lt": revision.revision_number}},
            {
                "$set": {
                    "latestRevisionId": revision.id,
                    "latestRevisionNumber": revision.revision_number,
                    "updatedAt": now_ms(),
                    "updatedBy": revision.created_by,
                }
            },
        )

    def _inventory(self, test_id: str) -> str:
        numbers = sorted(self._revisions.distinct("revisionNumber", {"loadTestId": test_id}))
        if not numbers:
            return "it has no script yet, add one as its first revision"
        return "it has revision 1 only" if numbers == [1] else f"it has revisions {numbers[0]} to {numbers[-1]}"
