"""`loadbench ...`: everything that a notebook does, for a shell and for scheduled jobs.

Exit codes: 0 done, 1 trouble, 2 bad input, 3 not found, 4 conflict, 5 MongoDB, 6 receiver, 7 target, 8 the run failed,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from loadbench import __version__
from loadbench.errors import InvalidInput, LoadbenchError


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

    demo = _add(commands, "demo", run_demo, "a real load test of the sample shop, with its report in reports/")
    demo.add_argument("--duration", default="20s", help="of the load test (default: %(default)s)")
    demo.add_argument("--reports", type=Path, default=Path("reports"), help="where files go (default: %(default)s)")

    lab = _add(commands, "lab", open_lab, "JupyterLab in notebooks/, with the sample shop beside it")
    lab.add_argument("arguments", nargs="*", help="for jupyter lab; put -- before the first")

    serve = _add(commands, "serve", serve_receiver, "the receiver on its own, without a notebook")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8765, help="0 for a free one (default: %(default)s)")
    serve.add_argument(
        "--allowed-host", action="append", default=[], help="a name by which clients may call this host; repeatable"
    )

    run = _add(commands, "run", run_test, "run a Locust script: define or reuse its test, start, watch, print")
    run.add_argument("script", help="a Locust script")
    run.add_argument("--target", required=True, help="URL of the system under test")
    run.add_argument("--test", help="name of the test (default: the script's name)")
    run.add_argument("--users", type=int, default=10, help="(default: %(default)s)")
    run.add_argument("--spawn-rate", type=float, default=1.0, help="users per second (default: %(default)s)")
    run.add_argument("--duration", default="1m", help="such as 90s or 1m30s (default: %(default)s)")
    run.add_argument("--max-duration", default="1h", help="the test's safety limit (default: %(default)s)")
    run.add_argument("--workers", type=int, default=0, help="0: one process; N: a master and N workers")
    run.add_argument("--report", type=Path, help="also write the HTML run summary to this file")
    _add_scope(run)

    runs = _add(commands, "runs", list_runs, "list runs, newest first")
    runs.add_argument("--status", help="only runs with this status")
    runs.add_argument("--limit", type=int, default=20, help="(default: %(default)s)")
    _add_scope(runs)

    report = _add(commands, "report", write_report, "write the HTML run summary of a run")
    report.add_argument("run", help="run id, or the beginning of one")
    report.add_argument("--output", type=Path, help="file (default: below reports/)")
    _add_scope(report)

    database = _add(commands, "db", manage_database, "the embedded MongoDB: its URI for Compass, its status, stop it")
    database.add_argument("action", choices=["uri", "status", "stop"])

    _add(commands, "drain", drain_spools, "deliver figures that finished runs could not push")

    shop = _add(commands, "demo-target", serve_shop, "the sample shop, to learn and to test on")
    shop.add_argument("--port", type=int, default=8089, help="0 for a free one (default: %(default)s)")
    shop.add_argument("--latency-ms", type=float, default=None, help="median latency of every route")
    shop.add_argument("--failures", type=float, default=None, help="share of failing requests, 0 to 1")
    shop.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")

    _add(commands, "doctor", examine, "say what is wrong with the installation, one line each")
    return parser


def _add(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(command=function)
    return parser


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scope", default="local/local/default", help="account/organisation/project")
    parser.add_argument("--env", help="environment of the project")


def run_demo(options: argparse.Namespace) -> int:
    from loadbench.demo import demo

    return demo(duration=options.duration, reports=options.reports)


def open_lab(options: argparse.Namespace) -> int:
    from loadbench.demo import lab

    return lab(options.arguments)


def serve_receiver(options: argparse.Namespace) -> int:
    from loadbench.backend import Backend

    backend = Backend(host=options.host, port=options.port, allowed_hosts=tuple(options.allowed_host))
    try:
        print(f"receiving on {backend.receiver.url}, storing in {backend.store_line}; Ctrl-C ends it", flush=True)
        wait_for_signal()
    finally:
        backend.close()
    return 0


def run_test(options: argparse.Namespace) -> int:
    from loadbench.workbench import Workbench

    bench = Workbench(options.scope, options.env)
    try:
        test = bench.create_test(
            options.test or Path(options.script).stem,
            options.script,
            target_url=options.target,
            users=options.users,
            spawn_rate=options.spawn_rate,
            duration=options.duration,
            max_duration=options.max_duration,
        )
        run = test.start(workers=options.workers)
        print(f"{run.id}: {test.name} revision {run.record.revision_number} on {run.record.target_url}", flush=True)
        try:
            run.wait()
        except KeyboardInterrupt:
            print("stopping; once more leaves the run to end by itself", file=sys.stderr, flush=True)
            run.stop().wait()
        print_summary(run)
        if options.report:
            print(f"report: {run.report(options.report)}")
    finally:
        bench.close()
    return 0


def list_runs(options: argparse.Namespace) -> int:
    from loadbench.analysis import frames
    from loadbench.model import RunStatus, Scope
    from loadbench.store import Store

    known = [status.value for status in RunStatus]
    if options.status and options.status not in known:
        raise InvalidInput(f"--status must be one of {', '.join(known)}; not {options.status!r}", field="status")
    with Store.open() as store:
        status = RunStatus(options.status) if options.status else None
        found = store.runs.find(Scope.parse(options.scope, options.env), status=status, limit=options.limit)
    if not found:
        print(f"no runs in {options.scope}: start one with `loadbench run SCRIPT --target URL`")
    else:
        columns = ["name", "status", "revision", "users", "duration_s", "requests", "failures", "started_at"]
        print(frames.runs(found)[columns].to_string())
    return 0


def write_report(options: argparse.Namespace) -> int:
    from loadbench.model import Scope
    from loadbench.reports import report
    from loadbench.store import Store

    with Store.open() as store:
        print(report(store, store.runs.resolve(options.run, Scope.parse(options.scope, options.env)), options.output))
    return 0


def manage_database(options: argparse.Namespace) -> int:
    from loadbench.home import data_home
    from loadbench.store import Store
    from loadbench.store.mongod import Mongod

    mongod = Mongod(data_home())
    if options.action == "uri":
        with Store.open() as store:
            print(store.uri)
    elif options.action == "status":
        status = mongod.status()
        where = f"on 127.0.0.1:{status.port}, pid {status.pid}" if status.running else "(the next workbench starts it)"
        print(f"{'running' if status.running else 'not running'} {where}")
        print(f"data in {status.data_directory}, log in {status.log_file}")
    else:
        print("stopped" if mongod.stop() else "it was not running")
    return 0


def drain_spools(_: argparse.Namespace) -> int:
    from loadbench.backend import Backend

    backend = Backend(port=0)
    try:
        delivered = backend.left_overs
    finally:
        backend.close()
    for run_id, count in delivered.items():
        print(f"{run_id}: {count} messages delivered")
    if not delivered:
        print("nothing was left over")
    return 0


def serve_shop(options: argparse.Namespace) -> int:
    from loadbench.demo_target import serve

    return serve(port=options.port, latency=options.latency_ms, failures=options.failures, seed=options.seed)


def examine(_: argparse.Namespace) -> int:
    from loadbench.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(finding.good for finding in findings) else 1


def print_summary(run) -> None:
    """Print a run's line and its per-endpoint table."""
    from loadbench.html import summary_text

    print(run)
    print(summary_text(run.summary()))


def wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    sys.exit(main())
