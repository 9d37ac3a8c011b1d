"""`loadbench ...`: everything that a notebook does, for a shell and for scheduled jobs.

Exit codes: 0 done, 1 trouble, 2 bad input, 3 not found, 4 conflict, 5 MongoDB, 6 receiver, 7 target, 8 the run failed,
130 interrupted.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadbench import __version__
from loadbench.errors import InvalidInput, LoadbenchError, NotFound


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
    serve.add_argument("--host", help="address to listen on (default: that of loadbench.toml, else 127.0.0.1)")
    serve.add_argument("--port", type=int, help="0 for a free one (default: that of loadbench.toml, else 8765)")
    serve.add_argument("--advertise", metavar="URL", help="how clusters on other machines reach this receiver")
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
    _add_json(run)
    _add_scope(run)

    runs = _add(commands, "runs", list_runs, "list runs, newest first")
    runs.add_argument("--status", help="only runs with this status")
    runs.add_argument("--limit", type=int, default=20, help="(default: %(default)s)")
    _add_json(runs)
    _add_scope(runs)

    report = _add(commands, "report", write_report, "write the HTML run summary of a run")
    report.add_argument("run", help="run id, or the beginning of one")
    report.add_argument("--output", type=Path, help="file (default: below reports/)")
    _add_json(report)
    _add_scope(report)

    export = _add(commands, "export", export_table, "write a table of a run as CSV")
    export.add_argument("run", help="run id, or the beginning of one")
    export.add_argument(
        "--table", default="timeline", help="timeline, summary, endpoints or failures (default: %(default)s)"
    )
    export.add_argument("--output", type=Path, help="file (default: standard output)")
    _add_scope(export)

    imported = _add(commands, "import", import_run, "import a finished run: a JMeter JTL, or Locust's --csv files")
    imported.add_argument("path", help="a JTL file in CSV format, or the prefix that was given to locust --csv")
    imported.add_argument("--test", help="name of the test that it is a run of (default: none)")
    imported.add_argument("--name", help="of the run (default: that of the file)")
    imported.add_argument("--target", help="URL of the system under test (default: that of the file, or of the test)")
    imported.add_argument("--notes", default="", help="kept with the run")
    _add_json(imported)
    _add_scope(imported)

    external = _add(commands, "external", register_run, "register a run that you start by hand; print how")
    external.add_argument("name", help="of the run, and of its test if there is one of that name")
    external.add_argument("--target", help="URL of the system under test (default: that of the test)")
    external.add_argument("--users", type=int, help="(default: those of the test, else 1)")
    external.add_argument("--spawn-rate", type=float, help="users per second (default: that of the test, else 1)")
    external.add_argument("--duration", help="such as 90s or 1m30s (default: that of the test, else 1m)")
    external.add_argument("--receiver", metavar="URL", help="where Locust shall push (default: the one that runs here)")
    _add_json(external)
    _add_scope(external)

    delete = _add(commands, "delete", delete_run, "delete a run with all its figures")
    delete.add_argument("run", help="run id, or the beginning of one")
    delete.add_argument("--yes", action="store_true", help="needed: there is no way back")
    _add_scope(delete)

    database = _add(commands, "db", manage_database, "the embedded MongoDB: its URI for Compass, its status, stop it")
    database.add_argument("action", choices=["uri", "status", "stop"])
    _add_json(database)

    agent = _add(commands, "agent", be_agent, "a persistent Locust master, or a worker of one: it takes run after run")
    role = agent.add_mutually_exclusive_group(required=True)
    role.add_argument("--master", action="store_true", help="take runs, and hand them to the workers")
    role.add_argument("--worker", action="store_true", help="generate load for a master")
    agent.add_argument("--bind", default="127.0.0.1", help="address of a master (default: %(default)s)")
    agent.add_argument("--web-port", type=int, default=8090, help="where a master takes runs (default: %(default)s)")
    agent.add_argument(
        "--worker-port", type=int, default=5557, help="where a master takes workers (default: %(default)s)"
    )
    agent.add_argument("--master-host", default="127.0.0.1", help="of a worker's master (default: %(default)s)")
    agent.add_argument("--master-port", type=int, default=5557, help="its worker port (default: %(default)s)")

    _add(commands, "clusters", list_clusters, "list the clusters of loadbench.toml, and what they do now")

    _add_token(commands)

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


def _add_token(commands) -> None:
    token = commands.add_parser("token", help="make, list and revoke tokens for the REST API")
    actions = token.add_subparsers(required=True, metavar="ACTION")
    create = _add(actions, "create", create_token, "make a token; its secret is printed once and kept nowhere")
    create.add_argument("name", help="whose or what it is; it goes into createdBy of what is made with it")
    create.add_argument(
        "--role",
        choices=["viewer", "runner", "admin"],
        default="viewer",
        help="viewer reads, runner also writes and starts, admin also deletes (default: %(default)s)",
    )
    create.add_argument(
        "--scope",
        default="local/local/default",
        help="account, account/organisation or account/organisation/project; * for everything (default: %(default)s)",
    )
    create.add_argument("--days", type=int, help="how long it is good for (default: until it is revoked)")
    _add_json(create)
    _add_json(_add(actions, "list", list_tokens, "list the tokens, without their secrets"))
    revoke = _add(actions, "revoke", revoke_token, "make a token worthless, at once")
    revoke.add_argument("token", help="its id, as `loadbench token list` shows it")
    _add_json(revoke)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scope", default="local/local/default", help="account/organisation/project (default: %(default)s)"
    )
    parser.add_argument("--env", help="environment of the project")


def run_demo(options: argparse.Namespace) -> int:
    from loadbench.demo import demo

    return demo(duration=options.duration, reports=options.reports)


def open_lab(options: argparse.Namespace) -> int:
    from loadbench.demo import lab

    return lab(options.arguments)


def serve_receiver(options: argparse.Namespace) -> int:
    from loadbench.backend import Backend
    from loadbench.clusters import Configuration

    port = options.port if options.port is not None else Configuration.read().receiver.port or 8765
    backend = Backend(
        host=options.host, port=port, allowed_hosts=tuple(options.allowed_host), advertised_url=options.advertise
    )
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
        arguments = dict(map(parse_setting, options.set))
        run = test.start(
            workers=options.workers, cluster=options.cluster, web_ui=options.web_ui, arguments=arguments or None
        )
        if not options.json:
            print(f"{run.id}: {test.name} revision {run.record.revision_number} on {run.record.target_url}", flush=True)
            if run.record.web_url:
                print(f"Locust's own web interface: {run.record.web_url}", flush=True)
        try:
            run.wait()
        except KeyboardInterrupt:
            print("stopping; once more leaves the run to end by itself", file=sys.stderr, flush=True)
            run.stop().wait()
        path = run.report(options.report) if options.report else None
        if options.json:
            print_json({"run": run.record, "summary": run.summary(), "report": path})
            return 0
        print_summary(run)
        if path:
            print(f"report: {path}")
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
    if options.json:
        print_json(found)
    elif not found:
        print(f"no runs in {options.scope}: start one with `loadbench run SCRIPT --target URL`")
    else:
        columns = ["name", "status", "revision", "users", "duration_s", "requests", "failures", "started_at"]
        print(frames.runs(found)[columns].to_string())
    return 0


def write_report(options: argparse.Namespace) -> int:
    from loadbench.analysis.summary import summary
    from loadbench.model import Scope
    from loadbench.reports import report
    from loadbench.store import Store

    with Store.open() as store:
        run = store.runs.resolve(options.run, Scope.parse(options.scope, options.env))
        path = report(store, run, options.output)
        if options.json:
            print_json({"path": path, "run": run, "summary": summary(run, store.ledger.documents(run.id))})
        else:
            print(path)
    return 0


def export_table(options: argparse.Namespace) -> int:
    from loadbench import exports
    from loadbench.model import Scope
    from loadbench.store import Store

    with Store.open() as store:
        run = store.runs.resolve(options.run, Scope.parse(options.scope, options.env))
        documents = store.ledger.documents(run.id)
    if options.output:
        print(exports.export(run, documents, options.output, table=options.table))
    else:
        print(exports.export_text(run, documents, options.table), end="")
    return 0


def import_run(options: argparse.Namespace) -> int:
    from loadbench import html, imports
    from loadbench.model import Scope
    from loadbench.store import Store

    path = Path(options.path).expanduser()
    is_file = path.exists() and not path.name.endswith(("_stats.csv", "_stats_history.csv", "_failures.csv"))
    recording = imports.read_jtl(path) if is_file else imports.read_locust_csv(path)
    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        owner = scope if options.test is None else _test_named(store, scope, options.test)
        run = imports.keep(
            store,
            recording,
            owner,
            by=getpass.getuser(),
            name=options.name,
            target_url=options.target,
            notes=options.notes,
        )
    if options.json:
        print_json(run)
    else:
        print(run.id)
        print(html.run_line(run))
    return 0


def register_run(options: argparse.Namespace) -> int:
    from loadbench.control import ControlPlane
    from loadbench.external import START_WITHIN_S
    from loadbench.model import Scope, duration_sec
    from loadbench.store import Store

    url = options.receiver or _running_receiver()
    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        tests = store.load_tests.find(scope, name=options.name)
        registered = ControlPlane(store, receiver_url=lambda: url).register_external(
            tests[0] if tests else scope,
            by=getpass.getuser(),
            name=options.name,
            target_url=options.target,
            users=options.users,
            spawn_rate=options.spawn_rate,
            duration_sec=duration_sec(options.duration) if options.duration else None,
        )
    if options.json:
        print_json(registered._asdict())
    else:
        minutes = START_WITHIN_S // 60
        print(
            f"{registered.run.id} waits {minutes} minutes to be started. The token in this command is shown only now:"
        )
        print(registered.command)
    return 0


def delete_run(options: argparse.Namespace) -> int:
    from loadbench.catalogue import Catalogue
    from loadbench.model import Scope
    from loadbench.store import Store

    with Store.open() as store:
        run = store.runs.resolve(options.run, Scope.parse(options.scope, options.env))
        if not options.yes:
            raise InvalidInput(f"this deletes {run.id} ({run.name}) with all its figures: repeat it with --yes")
        Catalogue(store).delete_run(run.id)
    print(f"{run.id} is deleted")
    return 0


def _test_named(store, scope, name: str):
    tests = store.load_tests.find(scope, name=name)
    if not tests:
        names = ", ".join(repr(test.name) for test in store.load_tests.find(scope)) or "none yet"
        raise NotFound(f"no test {name!r} in {scope}; there are: {names}")
    return tests[0]


def _running_receiver() -> str:
    """Find the receiver that agents can push to: the advertised one, else one that answers here."""
    from loadbench.backend import find_receiver

    url, answers = find_receiver()
    if not answers:
        print(f"no receiver answers at {url}: start one with `loadbench serve`", file=sys.stderr)
    return url


def manage_database(options: argparse.Namespace) -> int:
    from loadbench.home import data_home
    from loadbench.store import Store
    from loadbench.store.mongod import Mongod

    mongod = Mongod(data_home())
    if options.action == "uri":
        with Store.open() as store:
            print(store.uri)
    elif options.action == "status" and options.json:
        print_json(asdict(mongod.status()))
    elif options.action == "status":
        status = mongod.status()
        where = f"on 127.0.0.1:{status.port}, pid {status.pid}" if status.running else "(the next workbench starts it)"
        print(f"{'running' if status.running else 'not running'} {where}")
        print(f"data in {status.data_directory}, log in {status.log_file}")
    else:
        print("stopped" if mongod.stop() else "it was not running")
    return 0


def be_agent(options: argparse.Namespace) -> int:
    from loadbench.launch.agent import become_master, become_worker

    if options.master:
        become_master(options.bind, web_port=options.web_port, worker_port=options.worker_port)
    become_worker(options.master_host, master_port=options.master_port)


def list_clusters(_: argparse.Namespace) -> int:
    from loadbench.clusters import Clusters, Configuration
    from loadbench.launch.cluster import survey

    clusters = Clusters(Configuration.read().cluster)
    for cluster, found in zip(clusters, survey(clusters), strict=True):
        print(cluster)
        if "host" in found:
            doing = f"busy with {found['run_id']}" if found["run_id"] else "idle"
            print(f"    {found['host']}, Locust {found['locust']}, workers: {found['workers']}, {doing}")
        if found["trouble"]:
            print(f"    {found['trouble']}")
    return 0


def create_token(options: argparse.Namespace) -> int:
    from loadbench.model import ApiToken, now_ms
    from loadbench.store import Store

    parts = [] if options.scope == "*" else options.scope.split("/")
    if len(parts) > 3:
        raise InvalidInput(f"--scope has at most three parts; not {options.scope!r}", field="scope")
    if options.days is not None and not 1 <= options.days <= 3650:
        raise InvalidInput(f"--days must be in 1-3650; not {options.days}", field="days")
    token = ApiToken.build(
        name=options.name,
        role=options.role,
        created_by=getpass.getuser(),
        expires_at=None if options.days is None else now_ms() + options.days * 86_400_000,
        **dict(zip(("account_id", "org_id", "project_id"), parts, strict=False)),
    )
    with Store.open() as store:
        token, secret = store.tokens.create_api(token)
    if options.json:
        print_json({"token": token, "secret": secret})
    else:
        print(f"{token.id}: {token.role} of {_scope_of(token)}; this is shown once:", file=sys.stderr)
        print(secret)
    return 0


def list_tokens(options: argparse.Namespace) -> int:
    from loadbench.model import now_ms
    from loadbench.store import Store

    with Store.open() as store:
        tokens = store.tokens.all_api()
    if options.json:
        print_json(tokens)
    for token in [] if options.json else tokens:
        state = "good" if token.is_good(now_ms()) else "revoked" if token.revoked_at else "expired"
        print(f"{token.id}  {token.role:<6}  {state:<7}  {_scope_of(token)}  {token.name}")
    if not tokens and not options.json:
        print("no tokens yet: `loadbench token create NAME` makes one")
    return 0


def revoke_token(options: argparse.Namespace) -> int:
    from loadbench.store import Store

    with Store.open() as store:
        token = store.tokens.revoke_api(options.token)
    print_json(token) if options.json else print(f"{token.id} ({token.name}) is revoked")
    return 0


def _scope_of(token) -> str:
    return "/".join(part for part in (token.account_id, token.org_id, token.project_id) if part) or "everything"


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


def print_json(value: Any) -> None:
    """Print records, tables and plain values as one JSON document, named as over REST."""
    import pandas as pd
    from pydantic import BaseModel

    def plain(item: Any) -> Any:
        if isinstance(item, BaseModel):
            return item.model_dump(mode="json", by_alias=True, exclude_none=True)
        if isinstance(item, pd.DataFrame):
            return json.loads(item.to_json(orient="records", date_format="iso", double_precision=15))
        if hasattr(item, "record"):  # a handle
            return plain(item.record)
        return str(item)

    print(json.dumps(value, default=plain, indent=2))


def parse_setting(text: str) -> tuple[str, str]:
    """Read `key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--set takes key=value; not {text!r}", field="set")
    return key, value


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
