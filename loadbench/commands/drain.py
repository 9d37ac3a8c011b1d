"""`loadbench drain`: figures that were left over."""

from __future__ import annotations

import argparse

from loadbench.commands.shape import add_command, add_json, print_json


def add(commands) -> None:
    add_json(add_command(commands, "drain", drain_spools, "deliver figures that finished runs could not push"))


def drain_spools(options: argparse.Namespace) -> int:
    from loadbench.backend import Backend

    backend = Backend(port=0)
    try:
        delivered = backend.left_overs
    finally:
        backend.close()
    if options.json:
        print_json({"delivered": delivered})
        return 0
    for run_id, count in delivered.items():
        print(f"{run_id}: {count} messages delivered")
    if not delivered:
        print("nothing was left over")
    return 0
