"""`loadbench doctor`: what is wrong with the installation."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from loadbench.commands.shape import add_command, add_json, print_json


def add(commands) -> None:
    add_json(add_command(commands, "doctor", examine, "say what is wrong with the installation, one line each"))


def examine(options: argparse.Namespace) -> int:
    from loadbench.doctor import examine

    findings = examine()
    if options.json:
        print_json([asdict(finding) for finding in findings])
    for finding in [] if options.json else findings:
        print(finding)
    return 0 if all(finding.good for finding in findings) else 1
