"""`loadbench demo-target`: the sample shop."""

from __future__ import annotations

import argparse

from loadbench.commands.shape import add_command


def add(commands) -> None:
    shop = add_command(commands, "demo-target", serve_shop, "the sample shop, to learn and to test on")
    shop.add_argument("--port", type=int, default=8089, help="0 for a free one (default: %(default)s)")
    shop.add_argument("--latency-ms", type=float, default=None, help="median latency of every route")
    shop.add_argument("--failures", type=float, default=None, help="share of failing requests, 0 to 1")
    shop.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")


def serve_shop(options: argparse.Namespace) -> int:
    from loadbench.demo_target import serve

    return serve(port=options.port, latency=options.latency_ms, failures=options.failures, seed=options.seed)
