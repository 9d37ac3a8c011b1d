"""`loadbench delete` and `loadbench db`: what is kept, and the MongoDB that keeps it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from loadbench.commands.shape import add_command, add_json, add_scope, print_json
from loadbench.errors import InvalidInput


def add(commands) -> None:
    delete = add_command(commands, "delete", delete_run, "delete a run with all its figures")
    delete.add_argument("run", help="run id, or the beginning of one")
    delete.add_argument("--yes", action="store_true", help="needed: there is no way back")
    add_json(delete)
    add_scope(delete)

    database = add_command(
        commands, "db", manage_database, "the embedded MongoDB: its URI for Compass, its status, stop it"
    )
    database.add_argument("action", choices=["uri", "status", "stop"])
    add_json(database)


def delete_run(options: argparse.Namespace) -> int:
    from loadbench.catalogue import Catalogue
    from loadbench.model import Scope
    from loadbench.store import Store

    with Store.open() as store:
        run = store.runs.resolve(options.run, Scope.parse(options.scope, options.env))
        if not options.yes:
            raise InvalidInput(f"this deletes {run.id} ({run.name}) with all its figures: repeat it with --yes")
        Catalogue(store).delete_run(run.id)
    print_json({"deleted": run.id}) if options.json else print(f"{run.id} is deleted")
    return 0


def manage_database(options: argparse.Namespace) -> int:
    from loadbench.home import data_home
    from loadbench.store import Store
    from loadbench.store.mongod import Mongod

    mongod = Mongod(data_home())
    if options.action == "uri":
        with Store.open() as store:
            print_json({"uri": store.uri}) if options.json else print(store.uri)
    elif options.action == "status" and options.json:
        print_json(asdict(mongod.status()))
    elif options.action == "status":
        status = mongod.status()
        where = f"on 127.0.0.1:{status.port}, pid {status.pid}" if status.running else "(the next workbench starts it)"
        print(f"{'running' if status.running else 'not running'} {where}")
        print(f"data in {status.data_directory}, log in {status.log_file}")
    else:
        stopped = mongod.stop()
        print_json({"stopped": stopped}) if options.json else print("stopped" if stopped else "it was not running")
    return 0
