"""`loadbench gate`, and the end of `loadbench run`: results as a table, JSON or JUnit XML, and an exit code for CI."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadbench.commands.shape import add_command, add_json, add_scope, find_test, print_json
from loadbench.errors import InvalidInput

if TYPE_CHECKING:
    from loadbench.analysis.gates import GateResult
    from loadbench.gatekeeper import GateTrial
    from loadbench.model import LoadTest, LoadTestRun
    from loadbench.store import Store

BROKEN = 9


def add(commands) -> None:
    gate = add_command(commands, "gate", judge_run, "judge a run by its gates, or all runs of a test by a new one")
    judged = gate.add_mutually_exclusive_group(required=True)
    judged.add_argument("run", nargs="?", help="run id, or the beginning of one")
    judged.add_argument("--test", help="try the gates on the stored runs of this test instead")
    gate.add_argument("--last", type=int, help="with --test: on so many runs, the newest (default: 30)")
    gate.add_argument("--since", help="with --test: on runs of so long ago at most, 30d, or since a day, 2026-03-14")
    gate.add_argument("--window", help="of the run, for gates that name none (default: steady)")
    add_gates(gate, "in place of those that the run was started with, or the test has")
    add_json(gate)
    add_scope(gate)


def judge_run(options: argparse.Namespace) -> int:
    from loadbench.model import Scope
    from loadbench.store import Store

    with Store.open() as store:
        scope = Scope.parse(options.scope, options.env)
        if options.test is not None and options.junit is not None:
            raise InvalidInput("--junit is of one run: name the run in place of --test", field="junit")
        if options.test is not None:
            tried = trials(
                store, find_test(store, scope, options.test), options.gate,
                last=options.last, since=options.since, window=options.window,
            )  # fmt: skip
            if options.json:
                print_json([{"gate": str(each.gate), "runs": each.to_frame().reset_index()} for each in tried])
            else:
                print(*tried, sep="\n")
            return BROKEN if any(each.failed or (options.strict and each.unjudged) for each in tried) else 0
        run = store.runs.resolve(options.run, scope)
        judged = Judgement.of(
            store, run, options.gate, window=options.window, junit=options.junit, strict=options.strict
        )
    print_json({"run": run} | judged.to_json()) if options.json else print(judged)
    return judged.exit_code


def add_gates(parser: argparse.ArgumentParser, text: str) -> None:
    """Let a command judge a run; `text` says what the gates stand in for."""
    parser.add_argument("--gate", action="append", metavar="TEXT", help=f"such as 'p95 < 300ms', {text}; repeatable")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    parser.add_argument("--strict", action="store_true", help="a gate that could not be judged counts as broken")


@dataclass(frozen=True)
class Judgement:
    """A run and what its gates say; `strict`: one that could not be judged counts as broken."""

    run: LoadTestRun
    results: Sequence[GateResult]
    strict: bool = False

    @classmethod
    def of(
        cls,
        store: Store,
        run: LoadTestRun,
        gates: Sequence[str] | None = None,
        *,
        window: str | None = None,
        junit: Path | None = None,
        strict: bool = False,
    ) -> Judgement:
        """Judge a run, and write JUnit XML if a file is named.

        Raises
        ------
        InvalidInput
            If there is no gate to judge it by.
        """
        from loadbench.gatekeeper import judge
        from loadbench.junit import write_junit

        results = judge(store, run, gates, window=window)
        if not results:
            raise InvalidInput(
                f"{run.id} was started without gates: give one, such as --gate 'p95 < 300ms', or set them on its test",
                field="gate",
            )
        if junit is not None:
            write_junit(junit, run, results, strict=strict)
        return cls(run, results, strict)

    @property
    def exit_code(self) -> int:
        """9 if a gate is broken, else 0."""
        bad = (False, None) if self.strict else (False,)
        return BROKEN if any(result.passed in bad for result in self.results) else 0

    def to_json(self) -> dict[str, Any]:
        """Give what `--json` prints."""
        from loadbench.analysis.gates import table

        return {"passed": self.exit_code == 0, "gates": table(self.results)}

    def __str__(self) -> str:
        from loadbench.gatekeeper import gates_text

        counts = {
            name: sum(each.verdict == name for each in self.results) for name in ("passed", "broken", "not judged")
        }
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{gates_text(self.results)}\n{said}"


def check_before(test: LoadTest, gates: Sequence[str] | None, *, junit: Path | None, strict: bool) -> None:
    """Refuse, before a run is started, to judge one that will have no gates."""
    given = test.gates if gates is None else gates
    if not given and (junit is not None or strict):
        raise InvalidInput("there are no gates to judge the run by: give some with --gate", field="gate")


def trials(store: Store, test: LoadTest, gates: Sequence[str] | None, **which: Any) -> list[GateTrial]:
    """Try gates on the stored runs of a test; its own, if none are given."""
    from loadbench.gatekeeper import try_gates

    gates = test.gates if gates is None else gates
    if not gates:
        raise InvalidInput(f"{test.name!r} has no gates: give one, such as --gate 'p95 < 300ms'", field="gate")
    return try_gates(store, test, gates, **which)
