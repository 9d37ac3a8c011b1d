"""`loadbench run` and `loadbench runs`: start a run and wait for it; list those that there are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loadbench.commands.gate import Judgement, add_gates, check_before
from loadbench.commands.shape import add_command, add_json, add_scope, parse_setting, print_json
from loadbench.errors import InvalidInput


def add(commands) -> None:
    run = add_command(commands, "run", run_test, "run a Locust script: define or reuse its test, start, watch, print")
    run.add_argument("script", help="a Locust script")
    run.add_argument("--target", required=True, help="URL of the system under test")
    run.add_argument("--test", help="name of the test (default: the script's name)")
    run.add_argument("--users", type=int, default=10, help="(default: %(default)s)")
    run.add_argument("--spawn-rate", type=float, default=1.0, help="users per second (default: %(default)s)")
    run.add_argument("--duration", default="1m", help="such as 90s or 1m30s (default: %(default)s)")
    run.add_argument("--max-duration", default="1h", help="the test's safety limit (default: %(default)s)")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument that the script defines; repeatable",
    )
    run.add_argument("--web-ui", action="store_true", help="Locust's own web interface beside the run")
    run.add_argument("--workers", type=int, help="0: one process; N: a master and N workers (default: 0)")
    run.add_argument("--cluster", help="id of a cluster (default: the one that serves the scope, else this machine)")
    run.add_argument("--report", type=Path, help="also write the HTML run summary to this file")
    add_gates(run, "in place of those of the test")
    add_json(run)
    add_scope(run)

    runs = add_command(commands, "runs", list_runs, "list runs, newest first")
    runs.add_argument("--status", help="only runs with this status")
    runs.add_argument("--limit", type=int, default=20, help="(default: %(default)s)")
    add_json(runs)
    add_scope(runs)


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
        check_before(test.record, options.gate, junit=options.junit, strict=options.strict)
        arguments = dict(map(parse_setting, options.set))
        run = test.start(
            workers=options.workers, cluster=options.cluster, web_ui=options.web_ui, arguments=arguments or None,
            gates=options.gate,
        )  # fmt: skip
        if not options.json:
            print(f"{run.id}: {test.name} revision {run.record.revision_number} on {run.record.target_url}", flush=True)
            if run.record.web_url:
                print(f"Locust's own web interface: {run.record.web_url}", flush=True)
        try:
            run.wait()
        except KeyboardInterrupt:
            print("stopping; once more leaves the run to end by itself", file=sys.stderr, flush=True)
            run.stop().wait()
        judged = None
        if run.record.gates:
            judged = Judgement.of(bench._backend.store, run.record, junit=options.junit, strict=options.strict)
        path = run.report(options.report) if options.report else None
        if options.json:
            of_gates = judged.to_json() if judged else {}
            print_json({"run": run.record, "summary": run.summary(), "report": path} | of_gates)
        else:
            _print_summary(run)
            if judged:
                print(judged)
            if path:
                print(f"report: {path}")
    finally:
        bench.close()
    return judged.exit_code if judged else 0


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
    if options.json:
        print_json(found)
    elif not found:
        print(f"no runs in {options.scope}: start one with `loadbench run SCRIPT --target URL`")
    else:
        columns = ["name", "status", "revision", "users", "duration_s", "requests", "failures", "started_at"]
        print(frames.runs(found)[columns].to_string())
    return 0


def _print_summary(run) -> None:
    """Print a run's line and its per-endpoint table."""
    from loadbench.html import summary_text

    print(run)
    print(summary_text(run.summary()))
