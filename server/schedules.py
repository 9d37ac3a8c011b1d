"""Schedules over REST: make, list, switch, remove; what came of their firings. `loadbench serve` fires them."""

from __future__ import annotations

from pathlib import PurePath
from typing import ClassVar

from loadbench import schedules
from loadbench.model import PlannedRun, Schedule
from server import bodies
from server.access import ApiHandler
from server.operation import Operation


class ScheduleHandlerBase(ApiHandler):
    """What the handlers of one schedule share."""

    async def visible_schedule(self, schedule_id: str) -> Schedule:
        """Fetch a schedule that the caller may see; 404 otherwise."""
        return await self.run(self.within_scope, self.service.store.schedules.get, schedule_id, "schedule")


class SchedulesHandler(ApiHandler):
    operations: ClassVar = {
        "GET": Operation("List schedules", bodies.SchedulePage, query=bodies.ScheduleQuery, name="listSchedules"),
        "POST": Operation(
            "Make a schedule",
            Schedule,
            201,
            role="runner",
            body=bodies.NewSchedule,
            refuses=(404, 409),
            name="createSchedule",
            description="Of a load test, in its scope. `cron` is five fields, minute hour day-of-month month "
            "day-of-week, by the clock of `timezone`; `nextFireAt` of the answer says when it fires first. It fires "
            "while a `loadbench serve` runs. Of its runs, what `run` leaves out is inherited at each firing; without "
            "`run`, it builds reports only.",
        ),
    }

    async def get(self) -> None:
        query = self.query_of(bodies.ScheduleQuery)
        where = {"$and": [self.caller.scope_filter, query.filter()]}
        page = await self.run(lambda: self.service.store.schedules.page(where, **query.paging()))
        self.write_items(page.items, next_cursor=page.next_cursor)

    async def post(self) -> None:
        body, by = self.body_of(bodies.NewSchedule), self.caller.name
        test = await self.visible_test(body.load_test_id)
        fields = {name: getattr(body, name) for name in type(body).model_fields if name != "run"}
        plan = None if body.run is None else dict(body.run)

        def make() -> Schedule:
            run = None if plan is None else PlannedRun.build(**plan)
            schedule = Schedule.build(**dict(test.scope), **fields, run=run, created_by=by, updated_by=by)
            return schedules.keep(self.service.store, schedule, confined=True)

        made = await self.run(make)
        self.write_record(201, made, location=f"/v1/schedules/{made.id}")


class ScheduleHandler(ScheduleHandlerBase):
    operations: ClassVar = {
        "GET": Operation("Read a schedule", Schedule, name="getSchedule"),
        "PATCH": Operation(
            "Switch a schedule on or off", Schedule, role="runner", body=bodies.ScheduleChange, name="switchSchedule"
        ),
        "DELETE": Operation(
            "Remove a schedule with its history",
            status=204,
            role="admin",
            name="deleteSchedule",
            description="Runs that it started stay, and so do reports.",
        ),
    }

    async def get(self, schedule_id: str) -> None:
        self.write_record(200, await self.visible_schedule(schedule_id))

    async def patch(self, schedule_id: str) -> None:
        enabled, by = self.body_of(bodies.ScheduleChange).enabled, self.caller.name
        schedule = await self.visible_schedule(schedule_id)
        switch = schedules.set_enabled
        self.write_record(200, await self.run(lambda: switch(self.service.store, schedule, enabled, by=by)))

    async def delete(self, schedule_id: str) -> None:
        schedule = await self.visible_schedule(schedule_id)
        await self.run(self.service.store.schedules.delete, schedule.id)
        self.write_nothing()


class FiringsHandler(ScheduleHandlerBase):
    operations: ClassVar = {
        "GET": Operation(
            "List what came of the firings of a schedule, the newest first",
            bodies.FiringList,
            query=bodies.FiringQuery,
            name="listFirings",
        ),
        "POST": Operation(
            "Ask for a firing now",
            Schedule,
            202,
            role="runner",
            name="fireSchedule",
            description="Beside its times, also of one that is switched off. A `loadbench serve` does it in seconds.",
        ),
    }

    async def get(self, schedule_id: str) -> None:
        query, schedule = self.query_of(bodies.FiringQuery), await self.visible_schedule(schedule_id)
        found = await self.run(lambda: self.service.store.schedules.history(schedule.id, limit=query.limit))
        names = [tuple(PurePath(path).name for path in firing.reports) for firing in found]
        shown = [one.model_copy(update={"reports": files}) for one, files in zip(found, names, strict=True)]
        self.write_items(shown, without={"owner", "lease_expires_at"})

    async def post(self, schedule_id: str) -> None:
        schedule, by = await self.visible_schedule(schedule_id), self.caller.name
        asked = await self.run(lambda: schedules.ask(self.service.store, schedule, by=by))
        self.write_record(202, asked)


routes = [
    ("/v1/schedules", SchedulesHandler),
    ("/v1/schedules/{scheduleId}", ScheduleHandler),
    ("/v1/schedules/{scheduleId}/firings", FiringsHandler),
]
