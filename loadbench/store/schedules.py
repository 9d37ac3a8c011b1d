"""The collections `schedules` and `firings`: what happens at which times, and what came of it each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from loadbench.errors import Conflict, NotFound
from loadbench.model import Firing, Schedule, Scope, now_ms
from loadbench.store.documents import Documents, changes
from loadbench.store.load_tests import within
from loadbench.store.paging import Page, page

_FIXED = frozenset({"id", "account_id", "org_id", "project_id", "env_id", "created_at", "created_by", "updated_at"})
_FIRING_FIXED = frozenset({"id", "schedule_id", "due_at"})
_OPEN = ("claimed", "started")


class Schedules:
    """What fires, and its history. Of several servers with one due schedule exactly one gets to fire it."""

    def __init__(self, schedules: Documents, firings: Documents) -> None:
        self._schedules = schedules
        self._firings = firings

    def add(self, schedule: Schedule) -> Schedule:
        """Store a new schedule; Conflict if its scope has one of that name already."""
        try:
            self._schedules.insert(schedule.to_mongo())
        except DuplicateKeyError:
            raise Conflict(
                f"{schedule.scope} has a schedule named {schedule.name!r} already: remove it, or choose another name"
            ) from None
        return schedule

    def get(self, schedule_id: str) -> Schedule:
        """Fetch one schedule; NotFound if there is none with that id."""
        document = self._schedules.one({"_id": schedule_id})
        if document is None:
            raise NotFound(f"no schedule {schedule_id}: `loadbench schedule list` shows those there are")
        return Schedule.from_mongo(document)

    def find(self, scope: Scope | None = None, *, name: str | None = None, test_id: str | None = None,
             limit: int = 1000) -> list[Schedule]:  # fmt: skip
        """List schedules by name; `name` is the whole name, or an id."""
        where: dict[str, Any] = within(scope)
        if name is not None:
            where["$or"] = [{"name": name}, {"_id": name}]
        if test_id is not None:
            where["loadTestId"] = test_id
        found = self._schedules.many(where, sort=(("name", 1), ("_id", 1)), limit=limit)
        return [Schedule.from_mongo(document) for document in found]

    def page(self, where: Mapping[str, Any], **how: Any) -> Page[Schedule]:
        """List schedules that fit a MongoDB filter, a page at a time; `how` as in `paging.page`."""
        return page(self._schedules, Schedule, where, searched=("name",), **how)

    def update(self, schedule_id: str, **fields: Any) -> Schedule:
        """Change fields, named as in `Schedule`; None removes an optional one."""
        change = changes(Schedule, fields, fixed=_FIXED)
        change.setdefault("$set", {})["updatedAt"] = now_ms()
        document = self._schedules.take({"_id": schedule_id}, change)
        if document is None:
            raise NotFound(f"no schedule {schedule_id}: `loadbench schedule list` shows those there are")
        return Schedule.from_mongo(document)

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule with its history. Runs that it started stay, and go on."""
        self._schedules.delete({"_id": schedule_id})
        self._firings.delete({"scheduleId": schedule_id})

    def due(self, at_ms: int) -> list[Schedule]:
        """List the schedules that are due, and those of which somebody asked for a firing; the oldest first."""
        where = {
            "$or": [{"enabled": True, "nextFireAt": {"$lte": at_ms}}, {"fireAskedAt": {"$lte": at_ms}}],
        }
        return [Schedule.from_mongo(found) for found in self._schedules.many(where, sort=(("nextFireAt", 1),))]

    def claim(self, firing: Firing) -> bool:
        """Write the first record of a firing; False if another server has, for its key is unique."""
        try:
            self._firings.insert(firing.to_mongo())
        except DuplicateKeyError:
            return False
        return True

    def advance(self, seen: Schedule, *, next_fire_at: int) -> bool:
        """Set when a schedule is due next, unless it is off, gone, or due at another time than was seen."""
        expected = {"_id": seen.id, "enabled": True, "nextFireAt": seen.next_fire_at}
        return self._schedules.update(expected, {"$set": {"nextFireAt": next_fire_at}})

    def answer(self, seen: Schedule) -> bool:
        """Take back the wish for a firing beside the expression; False if another server has, or the schedule went."""
        return self._schedules.update(
            {"_id": seen.id, "fireAskedAt": seen.fire_asked_at}, {"$unset": {"fireAskedAt": ""}}
        )

    def note(self, schedule_id: str, **fields: Any) -> None:
        """Write on a schedule what its last firing came to; nothing if it is gone."""
        self._schedules.update({"_id": schedule_id}, changes(Schedule, fields, fixed=_FIXED))

    def firing(self, firing_id: str) -> Firing:
        """Fetch one firing; NotFound if there is none with that id."""
        document = self._firings.one({"_id": firing_id})
        if document is None:
            raise NotFound(f"no firing {firing_id}: its schedule is gone")
        return Firing.from_mongo(document)

    def history(self, schedule_id: str, *, limit: int = 50) -> list[Firing]:
        """List the firings of a schedule, the newest first."""
        found = self._firings.many({"scheduleId": schedule_id}, sort=(("dueAt", -1),), limit=limit)
        return [Firing.from_mongo(document) for document in found]

    def open_firings(self) -> list[Firing]:
        """List the firings of which nothing has come yet, the oldest first."""
        found = self._firings.many({"outcome": {"$in": list(_OPEN)}}, sort=(("dueAt", 1),))
        return [Firing.from_mongo(document) for document in found]

    def change(self, seen: Firing, **fields: Any) -> Firing | None:
        """Change a firing, unless another server has taken it over or decided it since; None then."""
        expected = {"_id": seen.id, "owner": seen.owner, "outcome": seen.outcome}
        document = self._firings.take(expected, changes(Firing, fields, fixed=_FIRING_FIXED))
        return None if document is None else Firing.from_mongo(document)
