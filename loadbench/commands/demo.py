"""`loadbench demo` and `loadbench lab`: a first look at it, on the sample shop."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadbench.commands.shape import add_command


def add(commands) -> None:
    demo = add_command(commands, "demo", run_demo, "a real load test of the sample shop, with its report in reports/")
    demo.add_argument("--duration", default="20s", help="of the load test (default: %(default)s)")
    demo.add_argument("--reports", type=Path, default=Path("reports"), help="where files go (default: %(default)s)")

    lab = add_command(commands, "lab", open_lab, "JupyterLab in notebooks/, with the sample shop beside it")
    lab.add_argument("arguments", nargs="*", help="for jupyter lab; put -- before the first")


def run_demo(options: argparse.Namespace) -> int:
    from loadbench.demo import demo

    return demo(duration=options.duration, reports=options.reports)


def open_lab(options: argparse.Namespace) -> int:
    from loadbench.demo import lab

    return lab(options.arguments)
