"""How long a run takes, as people write it."""

from __future__ import annotations

import re

from loadbench.errors import InvalidInput

_DURATION = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?$")


def duration_sec(value: str | int | float) -> int:
    """Read a duration: `90`, `"90s"`, `"1m30s"`, `"2h"`.

    Returns
    -------
    int
        Seconds, at least 1.

    Raises
    ------
    InvalidInput
        If it is not a duration, or below one second.
    """
    seconds: int | None = None
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match and any(match.groups()):
            hours, minutes, rest = (int(part or 0) for part in match.groups())
            seconds = 3600 * hours + 60 * minutes + rest
    elif not isinstance(value, bool) and value == int(value):
        seconds = int(value)
    if seconds is None or seconds < 1:
        raise InvalidInput(
            f"duration must be whole seconds or read like 90s, 1m30s or 2h, at least 1s; not {value!r}",
            field="duration",
        )
    return seconds
