"""`loadbench serve`: the receiver, and the schedules that it keeps."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from loadbench.commands.shape import add_command


def add(commands) -> None:
    serve = add_command(
        commands, "serve", serve_receiver, "the receiver without a notebook; it also keeps the schedules"
    )
    serve.add_argument("--host", help="address to listen on (default: that of loadbench.toml, else 127.0.0.1)")
    serve.add_argument("--port", type=int, help="0 for a free one (default: that of loadbench.toml, else 8765)")
    serve.add_argument("--advertise", metavar="URL", help="how clusters on other machines reach this receiver")
    serve.add_argument(
        "--allowed-host", action="append", default=[], help="a name by which clients may call this host; repeatable"
    )


def serve_receiver(options: argparse.Namespace) -> int:
    from loadbench.backend import Backend
    from loadbench.clusters import Configuration

    port = options.port if options.port is not None else Configuration.read().receiver.port or 8765
    backend = Backend(
        host=options.host, port=port, allowed_hosts=tuple(options.allowed_host), advertised_url=options.advertise,
        keeps_schedules=True, patient=True,
    )  # fmt: skip
    try:
        if silence := backend.store.silence:
            print(f"{silence}. Until it answers, pushes are refused for now, and agents keep them", file=sys.stderr)
        print(f"receiving on {backend.receiver.url}, storing in {backend.store_line}; Ctrl-C ends it", flush=True)
        _wait_for_signal()
    finally:
        backend.close()
    return 0


def _wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
