"""`loadbench export`, `import` and `external`: figures for other tools, and runs that come from elsewhere."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from loadbench.commands.shape import add_command, add_json, add_scope, find_test, print_json


def add(commands) -> None:
    export = add_command(
        commands, "export", export_table, "write a table of a run as CSV or Parquet, or a chart as HTML"
    )
    export.add_argument("run", help="run id, or the beginning of one")
    export.add_argument(
        "--table",
        default="timeline",
        help="timeline, summary, endpoints, failures or histograms; of .html, a chart such as timeline, heatmap or "
        "distribution (default: %(default)s)",
    )
    export.add_argument("--output", type=Path, help="a .csv, .parquet or .html file (default: CSV on standard output)")
    add_json(export)
    add_scope(export)

    imported = add_command(
        commands, "import", import_run, "import a finished run: a JMeter JTL, or Locust's --csv files"
    )
    imported.add_argument("path", help="a JTL file in CSV format, or the prefix that was given to locust --csv")
    imported.add_argument("--test", help="name of the test that it is a run of (default: none)")
    imported.add_argument("--name", help="of the run (default: that of the file)")
    imported.add_argument("--target", help="URL of the system under test (default: that of the file, or of the test)")
    imported.add_argument("--notes", default="", help="kept with the run")
    add_json(imported)
    add_scope(imported)

    external = add_command(commands, "external", register_run, "register a run that you start by hand; print how")
    external.add_argument("name", help="of the run, and of its test if there is one of that name")
    external.add_argument("--target", help="URL of the system under test (default: that of the test)")
    external.add_argument("--users", type=int, help="(default: those of the test, else 1)")
    external.add_argument("--spawn-rate", type=float, help="users per second (default: that of the test, else 1)")
    external.add_argument("--duration", help="such as 90s or 1m30s (default: that of the test, else 1m)")
    external.add_argument("--receiver", metavar="URL", help="where Locust shall push (default: the one that runs here)")
    add_json(external)
    add_scope(external)


def export_table(options: argparse.Namespace) -> int:
    from loadbench import exports
    from loadbench.workbench import Workbench

    bench = Workbench(options.scope, options.env, receive=False)
    try:
        run = bench.run(options.run)
        if options.output:
            path = run.export(options.output, options.table)
            print_json({"path": path}) if options.json else print(path)
        else:
            table = exports.table_of(run.record, run._documents(), options.table)
            print_json(table) if options.json else print(exports.csv_text(table), end="")
    finally:
        bench.close()
    return 0


def import_run(options: argparse.Namespace) -> int:
    from loadbench import html, imports
    from loadbench.model import Scope
    from loadbench.store import Store

    path = Path(options.path).expanduser()
    is_file = path.exists() and not path.name.endswith(("_stats.csv", "_stats_history.csv", "_failures.csv"))
    recording = imports.read_jtl(path) if is_file else imports.read_locust_csv(path)
    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        owner = scope if options.test is None else find_test(store, scope, options.test)
        run = imports.keep(
            store,
            recording,
            owner,
            by=getpass.getuser(),
            name=options.name,
            target_url=options.target,
            notes=options.notes,
        )
    if options.json:
        print_json(run)
    else:
        print(run.id)
        print(html.run_line(run))
    return 0


def register_run(options: argparse.Namespace) -> int:
    from loadbench.control import ControlPlane
    from loadbench.external import START_WITHIN_S
    from loadbench.model import Scope, duration_sec
    from loadbench.store import Store

    url = options.receiver or _running_receiver()
    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        tests = store.load_tests.find(scope, name=options.name)
        registered = ControlPlane(store, receiver_url=lambda: url).register_external(
            tests[0] if tests else scope,
            by=getpass.getuser(),
            name=options.name,
            target_url=options.target,
            users=options.users,
            spawn_rate=options.spawn_rate,
            duration_sec=duration_sec(options.duration) if options.duration else None,
        )
    if options.json:
        print_json(registered._asdict())
    else:
        minutes = START_WITHIN_S // 60
        print(
            f"{registered.run.id} waits {minutes} minutes to be started. The token in this command is shown only now:"
        )
        print(registered.command)
    return 0


def _running_receiver() -> str:
    """Find the receiver that agents can push to: the advertised one, else one that answers here."""
    from loadbench.backend import find_receiver

    url, answers = find_receiver()
    if not answers:
        print(f"no receiver answers at {url}: start one with `loadbench serve`", file=sys.stderr)
    return url
