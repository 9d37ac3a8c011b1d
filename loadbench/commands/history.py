"""`loadbench history`: the changes of a test."""

from __future__ import annotations

import argparse

from loadbench.commands.shape import add_command, add_json, add_scope, find_test, print_json


def add(commands) -> None:
    history = add_command(
        commands, "history", show_history, "say when a test changed, by how much, and what changed with it"
    )
    history.add_argument("test", help="name of the test")
    history.add_argument("--endpoint", default="Aggregated", help="method and name (default: %(default)s)")
    history.add_argument("--percentile", type=float, default=95.0, help="in [0, 100] (default: %(default)g)")
    history.add_argument("--figure", help="mean_ms, failure_ratio or requests_per_s, instead of a percentile")
    history.add_argument("--last", type=int, default=100, help="so many of the newest runs (default: %(default)s)")
    add_json(history)
    add_scope(history)


def show_history(options: argparse.Namespace) -> int:
    from loadbench import html
    from loadbench.history import History
    from loadbench.model import Scope
    from loadbench.store import Store

    with Store.open() as store:
        test = find_test(store, Scope.parse(options.scope, options.env), options.test)
        history = History(
            store, test, endpoint=options.endpoint, percentile=options.percentile, figure=options.figure,
            last=options.last,
        )  # fmt: skip
        if options.json:
            tables = {"runs": history.to_frame(), "changes": history.changes(), "leftOut": history.left_out()}
            print_json({"history": repr(history)} | {name: table.reset_index() for name, table in tables.items()})
            return 0
        print(history)
        for run_id, change in history.changes().iterrows():
            bounds = f"{change['low_percent']:+.1f} to {change['high_percent']:+.1f}, p {change['p']:.3f}"
            effect = f"{change['figure']} {change['effect_percent']:+.1f} {change['unit']} ({bounds})"
            print(f"{run_id}  {html.show(change['started_at'], 'time')}  {change['state']}  {effect}")
            print(f"    {html.printable(change['what_changed'])}")
    return 0
