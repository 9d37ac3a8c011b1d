"""The shape that commands share: how one is added, the options that many take, and JSON as the answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loadbench.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from loadbench.model import LoadTest, Scope
    from loadbench.store import Store


def add_command(
    commands, name: str, perform: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command, or an action of one; `perform` gives the exit code."""
    parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(command=perform)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command answer as `print_json` does."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Let a command say in which project it looks."""
    parser.add_argument(
        "--scope", default="local/local/default", help="account/organisation/project (default: %(default)s)"
    )
    parser.add_argument("--env", help="environment of the project")


def parse_setting(text: str) -> tuple[str, str]:
    """Read `key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--set takes key=value; not {text!r}", field="set")
    return key, value


def find_test(store: Store, scope: Scope, name: str) -> LoadTest:
    """Give the test of this name; one that is missed is told with those that are there."""
    tests = store.load_tests.find(scope, name=name)
    if not tests:
        names = ", ".join(repr(test.name) for test in store.load_tests.find(scope)) or "none yet"
        raise NotFound(f"no test {name!r} in {scope}; there are: {names}")
    return tests[0]


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
