"""`loadbench report`: a report of a run, of runs beside each other, or of a test."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadbench.commands.shape import add_command, add_json, add_scope, print_json
from loadbench.errors import InvalidInput


def add(commands) -> None:
    report = add_command(commands, "report", write_report, "execute a report notebook, and make one HTML file of it")
    of = report.add_mutually_exclusive_group(required=True)
    of.add_argument("run", nargs="?", help="run id, or the beginning of one: the summary of this run")
    of.add_argument("--compare", nargs="+", metavar="RUN", help="a comparison of runs; the first is the reference")
    of.add_argument("--test", help="the trend of the test of this name")
    report.add_argument("--days", type=int, default=7, help="of a trend (default: %(default)s)")
    report.add_argument("--window", default="steady", help="steady, whole or another one (default: %(default)s)")
    report.add_argument("--notebook", type=Path, help="a notebook of yours (default: that of loadbench)")
    report.add_argument("--output", type=Path, help="HTML file, with its .ipynb beside it (default: below reports/)")
    add_json(report)
    add_scope(report)


def write_report(options: argparse.Namespace) -> int:
    from loadbench.workbench import Workbench

    bench = Workbench(options.scope, options.env, receive=False)
    how = {"window": options.window, "notebook": options.notebook}
    try:
        if options.test:
            path, found = bench.test(options.test).report(options.days, options.output, **how), {}
        elif options.compare:
            if len(options.compare) < 2:
                raise InvalidInput("--compare takes two runs or more, the first is the reference", field="compare")
            from loadbench.comparison import compare

            reference, *others = map(bench.run, options.compare)
            comparison = compare(*others, reference=reference, window=options.window)
            path, found = comparison.report(options.output, notebook=options.notebook), {}
        else:
            run = bench.run(options.run)
            path = run.report(options.output, **how)
            found = {"run": run.record, **({} if run.record.purged_at else {"summary": run.summary()})}
    finally:
        bench.close()
    print_json({"path": path, **found}) if options.json else print(path)
    return 0
