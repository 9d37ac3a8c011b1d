"""What holds of schedules, whoever makes them: notebook, command line or REST.

`loadbench.scheduler` fires them, in `loadbench serve` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from loadbench import cron
from loadbench.errors import InvalidInput, NotFound, one_of
from loadbench.home import data_home
from loadbench.model import (
    PARAMETERS,
    REPORT_KINDS,
    LoadTest,
    PlannedRun,
    ReportKind,
    Schedule,
    Scope,
    invalid_input,
    now_ms,
)
from loadbench.store import Store

_RUN_FIELDS = {
    "users": "target_users", "spawn_rate": "spawn_rate", "duration_sec": "duration_sec", "target_url": "target_url",
    "run_name": "name", "revision": "revision_number", "workers": "workers", "cluster_id": "cluster_id",
    "arguments": "arguments", "notes": "notes", "tags": "tags",
}  # fmt: skip
"""What a caller calls a parameter of the runs -> the field of `PlannedRun`."""
_PARAMETERS = {field: name for name, field in _RUN_FIELDS.items() if field not in ("name", "cluster_id")}
"""The same, as `ControlPlane.start_run` calls them."""


def kinds_of(report: bool | str | Iterable[str], *, runs: bool) -> tuple[ReportKind, ...]:
    """Read which reports are wanted: True for the one that fits, a kind, several, or none."""
    if isinstance(report, bool):
        return (("summary",) if runs else ("trend",)) if report else ()
    kinds = (report,) if isinstance(report, str) else tuple(dict.fromkeys(report))
    for kind in kinds:
        if kind not in REPORT_KINDS:
            raise one_of("report", kind, REPORT_KINDS)
    return kinds


def planned_run(**parameters: Any) -> PlannedRun:
    """Make the plan of a schedule's runs from parameters as callers know them; None inherits from the test."""
    given = {_RUN_FIELDS[name]: value for name, value in parameters.items() if value is not None}
    try:
        return PlannedRun(**given)
    except ValidationError as error:
        raise invalid_input(error, {field: name for name, field in _RUN_FIELDS.items()} | PARAMETERS) from None


def run_parameters(plan: PlannedRun) -> dict[str, Any]:
    """Give a plan as the parameters of `ControlPlane.start_run`."""
    given = {name: value for name, value in dict(plan).items() if value is not None}
    return {_PARAMETERS.get(name, name): value for name, value in given.items()}


def keep(store: Store, schedule: Schedule, *, replace: bool = False, confined: bool = False) -> Schedule:
    """Check a schedule, work out when it is due first, and store it.

    Parameters
    ----------
    replace : bool
        Instead of the one of that name and test, which keeps its id and history. Without it a taken name is a Conflict.
    confined : bool
        Its reports stay below the server's own directory: for whoever has no account on that machine.

    Raises
    ------
    InvalidInput, NotFound, Conflict
        Nothing is stored then.
    """
    cron.check(schedule.cron, schedule.timezone)
    _check_run(store, store.load_tests.get(schedule.load_test_id), schedule.run)
    if confined:
        _check_confined(schedule.report_directory)
    due = cron.next_ms(schedule.cron, schedule.timezone, now_ms())
    schedule = schedule.model_copy(update={"next_fire_at": due if schedule.enabled else None})
    ours = (schedule.name, schedule.scope, schedule.load_test_id)
    known = store.schedules.find(schedule.scope, name=schedule.name)
    same = [one for one in known if (one.name, one.scope, one.load_test_id) == ours]
    if not (replace and same):
        return store.schedules.add(schedule)
    fixed = {"id", *Scope.model_fields, "created_at", "created_by", "updated_at"}
    fixed |= {"last_fired_at", "last_run_id", "last_error", "fire_asked_at"}
    fields = {name: value for name, value in dict(schedule).items() if name not in fixed}
    if (same[0].cron, same[0].timezone, same[0].enabled) == (schedule.cron, schedule.timezone, schedule.enabled):
        del fields["next_fire_at"]  # the cell is run again: a firing that is due now is still due
    return store.schedules.update(same[0].id, **fields)


def set_enabled(store: Store, schedule: Schedule, enabled: bool, *, by: str) -> Schedule:
    """Switch a schedule on or off. Switched on, it is due at its next time, not for what it missed."""
    if enabled == schedule.enabled:
        return schedule
    due = cron.next_ms(schedule.cron, schedule.timezone, now_ms()) if enabled else None
    return store.schedules.update(schedule.id, enabled=enabled, next_fire_at=due, updated_by=by)


def ask(store: Store, schedule: Schedule, *, by: str) -> Schedule:
    """Ask for a firing now, beside the expression; the next `loadbench serve` that looks does it."""
    return store.schedules.update(schedule.id, fire_asked_at=now_ms(), updated_by=by)


def named(store: Store, scope: Scope, name: str) -> Schedule:
    """Find a schedule by its name or id; NotFound lists those there are."""
    found = store.schedules.find(scope, name=name)
    if not found:
        names = ", ".join(repr(schedule.name) for schedule in store.schedules.find(scope)) or "none yet"
        raise NotFound(f"no schedule {name!r} in {scope}; there are: {names}")
    if len(found) > 1:
        ids = ", ".join(f"{schedule.id} ({schedule.scope})" for schedule in found)
        raise InvalidInput(f"{name!r} could be {ids}: give the id", field="name")
    return found[0]


def line(schedule: Schedule) -> str:
    """Say in one line what a schedule does, when, and when next."""
    does = [] if schedule.run is None else ["starts a run"]
    if schedule.reports:
        does.append(f"{' and '.join(schedule.reports)} report{'s' if len(schedule.reports) > 1 else ''}")
    due = schedule.next_fire_at if schedule.enabled else None
    when = f"next {cron.shown(due, schedule.timezone)}" if due else "off"
    return f"{schedule.name}: {schedule.cron} ({schedule.timezone}), {', '.join(does)}; {when}"


def directory_of(schedule: Schedule) -> Path:
    """Say where the reports of a schedule go; what is relative is below `reports/` of the server's data directory."""
    return data_home() / "reports" / (schedule.report_directory or slug(schedule.name))


def slug(name: str) -> str:
    """Make a name fit for a file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "schedule"


def _check_run(store: Store, test: LoadTest, plan: PlannedRun | None) -> None:
    if plan is None:
        return
    revisions = store.script_revisions
    revisions.latest(test.id) if plan.revision_number is None else revisions.number(test.id, plan.revision_number)
    if plan.duration_sec is not None and plan.duration_sec > test.max_duration_sec:
        raise InvalidInput(
            f"duration {plan.duration_sec} s is over the maximum of {test.name!r}, {test.max_duration_sec} s: "
            "shorten it, or raise max_duration of the test",
            field="duration",
        )


def _check_confined(directory: str | None) -> None:
    path = PurePosixPath(directory or "")
    if path.is_absolute() or ".." in path.parts or "\\" in str(path) or str(path).startswith("~"):
        raise InvalidInput(
            "report_directory must be a relative path, which is below the server's own reports/, without ..;"
            f" not {directory!r}",
            field="report_directory",
        )
