"""`loadbench ...`: everything that a notebook does, for a shell and for scheduled jobs.

Exit codes: 0 done, 1 trouble, 2 bad input, 3 not found, 4 conflict, 5 MongoDB, 6 receiver, 7 target, 8 the run failed,
9 a gate is broken or a verdict is slower, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from loadbench import __version__
from loadbench.commands import (
    clusters,
    compare,
    database,
    demo,
    demo_target,
    doctor,
    drain,
    exchange,
    gate,
    history,
    report,
    run,
    schedule,
    serve,
    token,
)
from loadbench.errors import LoadbenchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except LoadbenchError as error:
        if os.environ.get("LOADBENCH_DEBUG"):
            raise
        print(f"loadbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`loadbench runs | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="loadbench", description="A load-testing workbench in a Jupyter notebook.")
    parser.add_argument("--version", action="version", version=f"loadbench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (
        demo, serve, run, history, report, gate, compare, exchange, database, clusters, token, schedule, drain,
        demo_target, doctor,
    ):  # fmt: skip
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
