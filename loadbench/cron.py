"""When a cron expression fires in a time zone. Times are Unix milliseconds, so summer time is settled here alone.

What happens when the clocks change is cronsim's rule, which is Debian cron's. An expression of fixed times (neither
minute nor hour begins with `*`) fires once each day: a time that the clock skips moves to the first minute after the
gap, and of a time that comes twice only the first counts. Any other expression follows the clock as it is: what lies
in the gap does not exist, and the hour that comes twice fires twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from loadbench.errors import InvalidInput

FIELDS = "minute hour day-of-month month day-of-week"
EXAMPLE = "0 2 * * 1-5"
UPCOMING = 3


def check(cron: str, timezone: str) -> None:
    """Refuse an expression or a time zone that cannot be used.

    Raises
    ------
    InvalidInput
        One line that says what is wrong, and what it should read like.
    """
    zone = zone_of(timezone)
    try:
        found = next(_times(cron, zone, datetime.now(zone)), None)
    except CronSimError as error:
        raise _bad(cron, str(error).lower()) from None
    if found is None:
        raise _bad(cron, "no such day ever comes")


def zone_of(timezone: str) -> ZoneInfo:
    """Give the time zone of an IANA name."""
    known = _zones()
    if timezone not in known:
        names = [*difflib.get_close_matches(timezone, known, n=2, cutoff=0.75)]
        last = {name.rpartition("/")[2].casefold(): name for name in sorted(known)}
        names = [last[timezone.casefold()]] if timezone.casefold() in last else names
        hint = f": did you mean {' or '.join(names)}?" if names else ""
        raise InvalidInput(
            f"timezone must be an IANA name such as Europe/Berlin or UTC; not {timezone!r}{hint}", field="timezone"
        )
    return ZoneInfo(timezone)


def next_ms(cron: str, timezone: str, after_ms: int) -> int:
    """Say when an expression fires next, strictly after a moment."""
    return next(firings(cron, timezone, after_ms))


def upcoming(cron: str, timezone: str, after_ms: int, count: int = UPCOMING) -> list[int]:
    """Give the next few times at which an expression fires."""
    times = firings(cron, timezone, after_ms)
    return [moment for _, moment in zip(range(count), times, strict=False)]


def firings(cron: str, timezone: str, after_ms: int) -> Iterator[int]:
    """Give the times at which an expression fires, strictly after a moment and in order."""
    zone = zone_of(timezone)
    for moment in _times(cron, zone, datetime.fromtimestamp(after_ms / 1000, zone)):
        at_ms = int(moment.astimezone(UTC).timestamp() * 1000)
        # Begun within the hour that comes twice, cronsim goes by the wall clock and may go back to its first passage.
        if at_ms > after_ms:
            yield at_ms
            after_ms = at_ms


def shown(at_ms: int, timezone: str) -> str:
    """Write a moment as people in its time zone read it: `Tue 2026-11-24 02:00 +0100`."""
    return datetime.fromtimestamp(at_ms / 1000, zone_of(timezone)).strftime("%a %Y-%m-%d %H:%M %z")


def _times(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    if len(cron.split()) != 5:
        raise CronSimError(f"{len(cron.split())} fields")  # cronsim takes a sixth one, of seconds
    return CronSim(cron, after)


def _bad(cron: str, reason: str) -> InvalidInput:
    return InvalidInput(
        f"cron must be five fields, {FIELDS}, such as {EXAMPLE!r}; not {cron!r} ({reason})", field="cron"
    )


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
