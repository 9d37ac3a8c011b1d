"""A call of the API as data: what a click does and what "Copy as cell" shows are the same object.

`BENCH.test("shop").start(users=5)` performs nothing: it is a `Call`, which can be written (`source`) and made
(`perform`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loadbench.model import Scope

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

LINE = 88
_INDENT = "    "


@dataclass(frozen=True)
class Call:
    """A name (`bench`, `lb`), or a method of what another call gives, called with arguments that may be calls too."""

    name: str
    of: Call | None = None
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Call:
            return Call(name, self, arguments, options)

        return call

    def perform(self, bench: Workbench) -> Any:
        """Make the call, and those that it is made of."""
        if self.of is None:
            return bench if self.name == "bench" else importlib.import_module("loadbench")
        method = getattr(self.of.perform(bench), self.name)
        arguments = [_performed(argument, bench) for argument in self.arguments]
        return method(*arguments, **{name: _performed(value, bench) for name, value in self.options.items()})

    def source(self) -> str:
        """Write the call as Python, on one line where it fits."""
        if self.of is None:
            return self.name
        head = f"{self.of.source()}.{self.name}"
        parts = [_written(argument) for argument in self.arguments]
        parts += [f"{name}={_written(value)}" for name, value in self.options.items()]
        line = f"{head}({', '.join(parts)})"
        if not parts or (len(line) - line.rfind("\n") <= LINE and not any("\n" in part for part in parts)):
            return line
        return f"{head}(\n{_INDENT}" + f",\n{_INDENT}".join(parts) + ",\n)"


BENCH = Call("bench")
LB = Call("lb")


def cell(scope: Scope, *calls: Call) -> str:
    """Write calls as a cell that runs in any notebook: with the import and the workbench that they need."""
    names = f"{scope.account_id}/{scope.org_id}/{scope.project_id}"
    env = f", env={_written(scope.env_id)}" if scope.env_id else ""
    head = f"import loadbench as lb\n\nbench = lb.Workbench({_written(names)}{env})"
    return "\n".join((head, *(call.source() for call in calls)))


def _performed(value: Any, bench: Workbench) -> Any:
    if isinstance(value, list | tuple):
        return [_performed(item, bench) for item in value]
    return value.perform(bench) if isinstance(value, Call) else value


def _written(value: Any) -> str:
    if isinstance(value, Call):
        return value.source()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _text(text: str) -> str:
    """Write a text as people do: in double quotes, a script in three of them, with its lines as they are."""
    if "\n" not in text:
        plain = repr(text)
        return '"' + plain[1:-1] + '"' if plain[0] == "'" and '"' not in text else plain
    writable = text.isprintable() or all(char.isprintable() or char in "\n\t" for char in text)
    if not writable or '"""' in text or text.endswith(('"', "\\")):
        return repr(text)
    raw = "r" if "\\" in text else ""
    if raw or text.startswith("\n"):
        return f'{raw}"""{text}"""'
    return f'"""\\\n{text}"""'
