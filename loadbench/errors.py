"""Everything that loadbench raises on purpose.

LoadbenchError
 ├─ InvalidInput (ValueError)              a value that cannot be used; `field` names it
 │   └─ ScriptError                        the Locust script is missing, broken, or has no User class
 ├─ NotFound (LookupError)                 no such test, revision or run
 ├─ Conflict                               it exists already, or its state forbids this
 │   └─ PreconditionFailed                 somebody else has changed it since it was read
 ├─ StoreUnavailable (ConnectionError)     MongoDB cannot be found, started or reached
 ├─ ReceiverError (OSError)                the receiver cannot listen
 ├─ TargetUnreachable (ConnectionError)    the system under test does not answer
 └─ RunFailed (RuntimeError)               the run ended Failed; the message says why

Each message is one line that says what is wrong and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class LoadbenchError(Exception):
    """The root to catch. `exit_code` is what the command line returns for it."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Show one line in a notebook instead of a traceback (an IPython protocol)."""
        return [f"{type(self).__name__}: {self}"]


class InvalidInput(LoadbenchError, ValueError):
    """A value that cannot be used."""

    exit_code = 2

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ScriptError(InvalidInput):
    """The Locust script is missing, does not compile, or defines no User class."""


class NotFound(LoadbenchError, LookupError):
    """No such test, revision or run in this scope."""

    exit_code = 3


class Conflict(LoadbenchError):
    """The thing exists already, or its state forbids what was asked."""

    exit_code = 4


class PreconditionFailed(Conflict):
    """Somebody else has changed the record since it was read."""


class StoreUnavailable(LoadbenchError, ConnectionError):
    """MongoDB cannot be found, started or reached."""

    exit_code = 5


class ReceiverError(LoadbenchError, OSError):
    """The receiver cannot listen where it was asked to."""

    exit_code = 6


class TargetUnreachable(LoadbenchError, ConnectionError):
    """The system under test does not answer."""

    exit_code = 7


class RunFailed(LoadbenchError, RuntimeError):
    """The run ended Failed."""

    exit_code = 8


def one_of(field: str, value: Any, allowed: Iterable[Any]) -> InvalidInput:
    """Build the error for a value outside a closed set, naming the set."""
    names = ", ".join(str(item) for item in allowed)
    return InvalidInput(f"{field} must be one of {names}; not {value!r}", field=field)
