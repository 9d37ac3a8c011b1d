"""What the fields of records are: types with their limits, and the values of new ids and times."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from loadbench.agent import wire

INT64_MAX = 2**63 - 1
EARLIEST_MS = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)
LATEST_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def now_ms() -> int:
    """Give the wall clock in Unix milliseconds: a label, never the base of a duration."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str) -> str:
    """Make an id such as `run-5d1c0e9f2a7b4c38`: readable, unguessable, without a colon."""
    return f"{prefix}-{secrets.token_hex(8)}"


def printable(text: str) -> str:
    """Let a text pass that has no control characters: for `AfterValidator`."""
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _plausible_ms(value: int) -> int:
    if 0 < value < EARLIEST_MS:
        raise ValueError("looks like seconds; give Unix milliseconds")
    if value >= LATEST_MS:
        raise ValueError("is not a plausible time in Unix milliseconds")
    return value


def _storable_numbers(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > INT64_MAX:
            raise ValueError(f"{name!r} is a number of more than 64 bits")
    return values


PATTERNS: dict[str, str] = {}
"""What the patterns of texts mean, in words, for who gave a text that does not match."""


def Matching(pattern: str, meaning: str, **limits: Any) -> Any:  # noqa: N802 - reads as a type
    """A text that matches a pattern, which is in the API's description too; `meaning` continues "must be"."""
    PATTERNS[pattern] = meaning
    return Annotated[str, Field(pattern=pattern, **limits)]


Millis = Annotated[int, Field(ge=1, le=INT64_MAX), AfterValidator(_plausible_ms)]
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
Id = Matching(r"^[A-Za-z0-9_.-]{1,64}$", "1 to 64 letters, digits, _, . or -")
Name = Annotated[str, Field(min_length=1, max_length=wire.MAX_NAME), AfterValidator(printable)]
Text = Annotated[str, Field(max_length=10_000)]
MetadataKey = Annotated[
    Matching(r"^[^$.][^.]*$", "a name without dots that does not begin with $", max_length=wire.MAX_NAME),
    AfterValidator(printable),
]
Metadata = Annotated[
    dict[MetadataKey, str | int | float | bool], Field(max_length=100), AfterValidator(_storable_numbers)
]
Url = Matching(r"^https?://[^\s/?#]+[^\s]*$", "a URL such as http://127.0.0.1:8000", max_length=2000)
UserCount = Annotated[int, Field(ge=1, le=1_000_000)]
SpawnRate = Annotated[float, Field(gt=0, le=100_000, strict=False)]
Seconds = Annotated[int, Field(ge=1, le=7 * 24 * 3600)]
WorkerCount = Annotated[int, Field(ge=0, le=10_000)]
Sha256 = Matching(r"^[0-9a-f]{64}$", "a SHA-256 in 64 hexadecimal digits")
Source = Id


def Items(item: Any, **limits: Any) -> Any:  # noqa: N802 - reads as a type
    """A tuple of `item` that may arrive as a JSON or BSON array."""
    return Annotated[tuple[item, ...], Field(strict=False, **limits)]
