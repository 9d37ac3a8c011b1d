"""The actions of `loadbench schedule`: each takes what was typed, and gives its result as a value and as text."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Mapping
from typing import Any

from loadbench import cron, schedules
from loadbench.commands.shape import find_test
from loadbench.errors import InvalidInput
from loadbench.model import Firing, Schedule, Scope, duration_sec
from loadbench.store import Store

Result = tuple[Any, str]


def add(options: argparse.Namespace, arguments: Mapping[str, str]) -> Result:
    """Make a schedule; the text shows when it fires next."""
    kinds = schedules.kinds_of(options.report, runs=not options.reports_only)
    plan = None if options.reports_only else schedules.planned_run(
        users=options.users,
        spawn_rate=options.spawn_rate,
        duration_sec=None if options.duration is None else duration_sec(options.duration),
        target_url=options.target,
        revision=options.revision,
        workers=options.workers,
        cluster_id=options.cluster,
        arguments=dict(arguments) or None,
        notes=options.notes,
        tags=tuple(options.tag) or None,
    )  # fmt: skip
    with Store.open() as store:
        test = find_test(store, Scope.parse(options.scope, options.env), options.test)
        schedule = Schedule.build(
            **dict(test.scope),
            name=options.name or test.name,
            load_test_id=test.id,
            cron=options.cron,
            timezone=options.timezone,
            run=plan,
            reports=kinds,
            report_directory=str(options.directory.expanduser().absolute()) if options.directory else None,
            trend_days=options.days,
            misfire=options.misfire,
            grace_sec=duration_sec(options.grace),
            enabled=not options.disabled,
            created_by=getpass.getuser(),
            updated_by=getpass.getuser(),
        )
        kept = schedules.keep(store, schedule)
    return kept, "\n".join([f"{kept.id} {schedules.line(kept)}", *_upcoming(kept)])


def _upcoming(schedule: Schedule) -> list[str]:
    """Say when a schedule fires the next few times."""
    if not schedule.enabled or schedule.next_fire_at is None:
        return ["it is off: `loadbench schedule enable` switches it on"]
    times = cron.upcoming(schedule.cron, schedule.timezone, schedule.next_fire_at - 1)
    shown = ", ".join(cron.shown(moment, schedule.timezone) for moment in times)
    return [f"next: {shown}", "it fires while `loadbench serve` runs on this MongoDB"]


def show(options: argparse.Namespace) -> Result:
    """List the schedules of a scope."""
    with Store.open() as store:
        found = store.schedules.find(Scope.parse(options.scope, options.env))
    lines = [schedules.line(schedule) + (f"; last: {schedule.last_error}" if schedule.last_error else "")
             for schedule in found]  # fmt: skip
    return found, "\n".join(lines) or "no schedules yet: `loadbench schedule add TEST CRON` makes one"


def remove(options: argparse.Namespace) -> Result:
    """Remove a schedule with its history; runs and reports stay."""
    with Store.open() as store:
        schedule = _named(store, options)
        store.schedules.delete(schedule.id)
    return schedule, f"{schedule.name} is removed; its runs and reports stay"


def enable(options: argparse.Namespace) -> Result:
    """Switch a schedule on."""
    with Store.open() as store:
        changed = schedules.set_enabled(store, _named(store, options), True, by=getpass.getuser())
    return changed, "\n".join([schedules.line(changed), *_upcoming(changed)])


def disable(options: argparse.Namespace) -> Result:
    """Switch a schedule off; a run that goes on is not stopped."""
    with Store.open() as store:
        changed = schedules.set_enabled(store, _named(store, options), False, by=getpass.getuser())
    return changed, schedules.line(changed)


def history(options: argparse.Namespace) -> Result:
    """List what came of the firings of a schedule, the newest first."""
    if options.limit < 1:
        raise InvalidInput(f"--limit must be at least 1; not {options.limit}", field="limit")
    with Store.open() as store:
        schedule = _named(store, options)
        found = store.schedules.history(schedule.id, limit=options.limit)
    lines = [_firing_line(firing, schedule.timezone) for firing in found]
    return found, "\n".join(lines) or f"{schedule.name} has not fired yet"


def run_now(options: argparse.Namespace) -> Result:
    """Ask for a firing now; a running `loadbench serve` does it."""
    with Store.open() as store:
        asked = schedules.ask(store, _named(store, options), by=getpass.getuser())
    return asked, f"{asked.name} fires as soon as a `loadbench serve` on this MongoDB looks, within seconds"


def _firing_line(firing: Firing, timezone: str) -> str:
    """Say in one line what came of a firing."""
    words = [cron.shown(firing.due_at, timezone), f"{firing.outcome:<7}", f"by {firing.host}"]
    words += [firing.run_id] if firing.run_id else []
    words += [firing.reason] if firing.reason else []
    return "  ".join([*words, *firing.reports])


def _named(store: Store, options: argparse.Namespace) -> Schedule:
    return schedules.named(store, Scope.parse(options.scope, options.env), options.name)
