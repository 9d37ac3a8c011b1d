"""The collection `change_marks`: which changes in a test's history people have confirmed or dismissed."""

from __future__ import annotations

from loadbench.model import ChangeMark
from loadbench.store.documents import Documents


class ChangeMarks:
    """What people said of changes; the latest word on a run of a series counts."""

    def __init__(self, marks: Documents) -> None:
        self._marks = marks

    def put(self, mark: ChangeMark) -> None:
        """Keep a mark in place of the one that the run had in that series."""
        document = mark.to_mongo()
        self._marks.put(document | {"_id": _key(mark.load_test_id, mark.endpoint, mark.figure, mark.run_id)})

    def find(self, test_id: str, endpoint: str, figure: str) -> list[ChangeMark]:
        """List the marks of a series, in the order in which they were made."""
        where = {"loadTestId": test_id, "endpoint": endpoint, "figure": figure}
        found = self._marks.many(where, sort=(("markedAt", 1), ("_id", 1)))
        return [ChangeMark.from_mongo({name: value for name, value in mark.items() if name != "_id"}) for mark in found]

    def take_back(self, test_id: str, endpoint: str, figure: str, run_id: str) -> bool:
        """Forget a mark; say whether there was one."""
        return self._marks.delete({"_id": _key(test_id, endpoint, figure, run_id)}) == 1

    def delete_all(self, test_id: str) -> None:
        """Delete all marks of a test that is deleted."""
        self._marks.delete({"loadTestId": test_id})


def _key(test_id: str, endpoint: str, figure: str, run_id: str) -> str:
    return f"{test_id}:{run_id}:{figure}:{endpoint}"
