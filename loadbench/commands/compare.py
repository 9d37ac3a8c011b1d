"""`loadbench compare`: runs beside each other for a shell, with an exit code for pipelines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadbench.commands.shape import add_command, add_json, add_scope, print_json
from loadbench.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    import pandas as pd

    from loadbench.comparison import Comparison
    from loadbench.model import LoadTestRun
    from loadbench.store import Store

SLOWER = 9


def add(commands) -> None:
    compared = add_command(commands, "compare", compare_runs, "compare runs with one of them, or with the baseline")
    compared.add_argument("run", nargs="+", help="run id, or the beginning of one; the first is the reference")
    compared.add_argument("--reference", action="append", default=[], metavar="RUN", help="another one; repeatable")
    compared.add_argument("--baseline", action="store_true", help="the reference is the baseline of the test")
    compared.add_argument("--together", action="store_true", help="take the other runs as repetitions of each other")
    compared.add_argument("--window", default="steady", help="steady, whole or another one (default: %(default)s)")
    compared.add_argument("--percentiles", default="50,95,99", help="with commas (default: %(default)s)")
    compared.add_argument(
        "--allow-different", nargs="?", const="*", default="", metavar="FACTS",
        help="compare although runs differ: in all facts, or in those named with commas, such as target,users",
    )  # fmt: skip
    compared.add_argument("--important", type=float, default=10.0, help="change that matters, %% (default: 10)")
    compared.add_argument("--fail-if-slower", action="store_true", help="exit with 9 if a verdict is slower")
    compared.add_argument("--report", type=Path, help="also write the comparison to this HTML file")
    add_json(compared)
    add_scope(compared)


def compare_runs(options: argparse.Namespace) -> int:
    from loadbench.comparison import Comparison
    from loadbench.model import Scope
    from loadbench.sides import arrange
    from loadbench.store import Store

    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        runs = [store.runs.resolve(name, scope) for name in options.run]
        named = [store.runs.resolve(name, scope) for name in options.reference]
        if options.baseline and named:
            raise InvalidInput("give --baseline or --reference, not both", field="reference")
        reference = _baseline_of(store, runs[0]) if options.baseline else named
        groups, place = arrange(
            runs, reference=reference, reference_label="baseline" if options.baseline else "reference",
            together=options.together,
        )  # fmt: skip
        names = options.allow_different
        made = Comparison(
            store, groups, reference=place, window=options.window, percentiles=_percentiles(options.percentiles),
            allow_different=True if names == "*" else [part for part in names.split(",") if part],
            important_percent=options.important,
        )  # fmt: skip
        report = made.report(options.report) if options.report else None
        slower = (made.verdicts()["verdict"] == "slower").any()
        print_json(_answer(made, report)) if options.json else print("\n".join(_lines(made, report)))
    return SLOWER if options.fail_if_slower and slower else 0


def _baseline_of(store: Store, run: LoadTestRun) -> list[LoadTestRun]:
    from loadbench.catalogue import Catalogue

    found = Catalogue(store).baseline(run.load_test_id) if run.load_test_id else []
    if not found:
        of = f"test {run.name!r}" if run.load_test_id else f"{run.id}, which is of no test,"
        raise NotFound(f"{of} has no baseline: set one, or name a reference")
    return found


def _percentiles(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(
            f"--percentiles takes numbers with commas, such as 50,95; not {text!r}", field="percentiles"
        ) from None


def _answer(made: Comparison, report: Path | None) -> dict[str, Any]:
    from loadbench.analysis.effect import CONFIDENCE

    differences = made.differences()
    return {
        "headline": made.headline,
        "sides": made.sides,
        "reference": made.reference,
        "window": made.window,
        "falseAlarmRate": round(1 - CONFIDENCE, 10),
        "differences": {aspect: dict(row) for aspect, row in differences.to_dict("index").items()},
        "table": made.table(),
        "verdicts": made.verdicts(),
        "rates": made.rates(),
        "report": report,
    }


def _lines(made: Comparison, report: Path | None) -> list[str]:
    from loadbench.html import printable

    lines = [printable(made.headline), ""]
    differences = made.differences()
    if len(differences):
        lines += [*map(printable, differences.to_string().splitlines()), ""]
    table = made.table()
    for side in [made.reference, *(side for side in made.sides if side != made.reference)]:
        lines += [f"{printable(side)}{' (reference)' if side == made.reference else ''}", _figures(table, side), ""]
    lines += [printable(f"{verdict.endpoint_label}  {verdict!r}") for verdict in made.family]
    return [*lines, *([f"report: {report}"] if report else [])]


def _figures(table: pd.DataFrame, side: str) -> str:
    from loadbench.html import printable, show

    own = table[table["side"] == side]
    times = [name for name in own.columns if name.endswith("_ms")]
    rows = [["endpoint", "requests", "failed %", "requests/s", *(name.replace("_ms", " ms") for name in times)]]
    for row in own.to_dict("records"):
        changes = [row[name.removesuffix("_ms") + "_percent"] for name in times]
        shown = [show(row[name], "ms").removesuffix(" ms") for name in times]
        rows.append(
            [
                printable(f"{row['method']} {row['name']}".strip()),
                show(row["requests"], "count"),
                show(row["failure_ratio"], "ratio").removesuffix(" %"),
                show(row["requests_per_s"], "/s").removesuffix(" /s"),
                *(
                    text if change != change else f"{text} ({change:+.1f} %)"
                    for text, change in zip(shown, changes, strict=True)
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    )
