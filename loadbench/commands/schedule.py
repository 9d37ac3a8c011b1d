"""`loadbench schedule`: recurring runs and reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadbench.commands.shape import add_command, add_json, add_scope, parse_setting, print_json


def add(commands) -> None:
    schedule = commands.add_parser("schedule", help="recurring runs and reports, which `loadbench serve` keeps")
    actions = schedule.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, text: str, *, of_one: bool = True) -> argparse.ArgumentParser:
        parser = add_command(actions, name, manage_schedule, text)
        parser.set_defaults(action=name.replace("-", "_"))
        if of_one:
            parser.add_argument("name", help="of the schedule, or its id")
        add_json(parser)
        add_scope(parser)
        return parser

    _add_plan(action("add", "make a schedule: runs of a test, reports, or both", of_one=False))
    action("list", "list the schedules, and when each fires next", of_one=False)
    action("remove", "remove a schedule with its history; runs and reports stay")
    action("enable", "switch a schedule on: it fires at its next time, not for what it missed")
    action("disable", "switch a schedule off; a run that goes on is not stopped")
    history = action("history", "what came of each firing, the newest first")
    history.add_argument("--limit", type=int, default=20, help="(default: %(default)s)")
    action("run-now", "ask for a firing now, also of one that is switched off")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("test", help="name of the test")
    parser.add_argument("cron", help="minute hour day-of-month month day-of-week, such as '0 2 * * 1-5'")
    parser.add_argument("--timezone", default="UTC", help="an IANA name such as Europe/Berlin (default: %(default)s)")
    parser.add_argument("--name", help="of the schedule (default: that of the test)")
    parser.add_argument(
        "--report", action="append", default=[], metavar="KIND",
        help="summary of the run, comparison of it with the baseline, or trend of the test; repeatable",
    )  # fmt: skip
    parser.add_argument("--reports-only", action="store_true", help="start no run")
    parser.add_argument("--directory", type=Path, help="where reports go (default: below the server's data directory)")
    parser.add_argument("--days", type=int, default=7, help="that a trend looks back (default: %(default)s)")
    for option, kind, text in (
        ("--users", int, None), ("--spawn-rate", float, "users per second"), ("--duration", str, "such as 90s or 1m"),
        ("--target", str, "URL of the system under test"), ("--revision", int, "of the script (default: the latest)"),
        ("--workers", int, None), ("--cluster", str, "id of a cluster"),
    ):  # fmt: skip
        parser.add_argument(option, type=kind, help=text or "(default: that of the test at each firing)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the script; repeatable"
    )
    parser.add_argument("--notes", help="kept with each run")
    parser.add_argument("--tag", action="append", default=[], help="kept with each run; repeatable")
    parser.add_argument(
        "--misfire", choices=["once", "skip"], default="once",
        help="after a time when no server ran: fire once for what was missed, or skip it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--grace", default="1h", help="how late `once` may still fire (default: %(default)s)")
    parser.add_argument("--disabled", action="store_true", help="switched off at first")


def manage_schedule(options: argparse.Namespace) -> int:
    from loadbench.commands import schedule_actions as perform

    match options.action:
        case "add":
            value, text = perform.add(options, dict(map(parse_setting, options.set)))
        case "list":
            value, text = perform.show(options)
        case _:
            value, text = getattr(perform, options.action)(options)
    print_json(value) if options.json else print(text)
    return 0
