"""The recorder: one `request` listener that counts each request into the row of its endpoint and second.

A row is a list, because it is written for every request and travels from worker to master as it is:
`[n, failures, untimed, sum, failed sum, min, max, bytes, ok histogram, failed histogram, errors]`, times in
milliseconds, `errors` a count per message.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

from loadbench.agent import wire
from loadbench.agent.histogram import GAMMA, LARGEST_MS, SMALLEST_MS, bucket_of

N, FAILURES, UNTIMED, SUM, FAILED_SUM, MIN, MAX, BYTES, OK, FAILED, ERRORS = range(11)
OTHER_ENDPOINT = ("", wire.OTHER)
MAX_ENDPOINTS = wire.MAX_ROWS - 1  # the last row of an interval is kept for OTHER_ENDPOINT
MAX_METHOD = 32
UNNAMED = "(unnamed)"

Row = list[Any]
Rows = list[tuple[int, str, str, Row]]

_PER_LOG = 1 / math.log(GAMMA)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_monotonic, _log, _ceil = time.monotonic, math.log, math.ceil


class Clock:
    """The time of one run: the wall clock is read once, all else is monotonic.

    `origin` is moved back to the last whole millisecond of wall time, so that the end of each second is a whole number
    of Unix milliseconds too.
    """

    def __init__(self) -> None:
        wall_ns = time.time_ns()
        self.origin_ms, rest_ns = divmod(wall_ns, 1_000_000)
        self.origin = time.monotonic() - rest_ns / 1e9

    def elapsed(self) -> float:
        """Give the seconds since the start."""
        return time.monotonic() - self.origin

    def now_ms(self) -> int:
        """Give the wall clock as this run counts it, in Unix milliseconds."""
        return self.origin_ms + round(self.elapsed() * 1000)


class Recorder:
    """Counts requests; `on_request` is the listener, `take` hands over what it counted.

    Requests before `start` (those that a script makes in its own start handlers) are counted in second 0.
    """

    __slots__ = ("_by_label", "_done", "_edge", "_known", "_messages", "_origin", "_rows", "_second")

    def __init__(self) -> None:
        self._origin: float | None = None
        self._edge = math.inf
        self._second = 0
        self._rows: dict[Any, Row] = {}
        self._by_label: dict[tuple[str, str], Row] = {}
        self._done: list[tuple[int, dict[tuple[str, str], Row]]] = []
        self._known: set[tuple[str, str]] = set()
        self._messages = 0

    @property
    def started(self) -> bool:
        return self._origin is not None

    def start(self, origin: float) -> None:
        """Count in whole seconds since `origin`, a value of `time.monotonic()`."""
        self._origin = origin
        self._edge = origin + 1

    def elapsed(self) -> float:
        """Give the seconds since the start; 0 before it."""
        return 0.0 if self._origin is None else _monotonic() - self._origin

    def on_request(
        self,
        request_type: Any,
        name: Any,
        response_time: Any,
        response_length: Any,
        exception: Any = None,
        # Not used, but named: collecting them in a dictionary would cost a quarter of this function.
        response: Any = None,
        context: Any = None,
        start_time: Any = None,
        url: Any = None,
        **_: Any,
    ) -> None:
        """Count one request. This runs within every request of the load: what is rare is elsewhere."""
        if _monotonic() >= self._edge:
            self._turn()
        try:
            row = self._rows[request_type, name]
        except (KeyError, TypeError):
            row = self._new_row(request_type, name)
        try:
            row[BYTES] += response_length
            if SMALLEST_MS < response_time < LARGEST_MS:
                bucket = _ceil(_log(response_time) * _PER_LOG)
            else:
                response_time, bucket = _odd(response_time)
        except TypeError:
            response_time, bucket = _odd(response_time)
        row[N] += 1
        if exception:
            row[FAILURES] += 1
            self._count_error(row, exception)
            if bucket is None:
                row[UNTIMED] += 1
                return
            row[FAILED_SUM] += response_time
            histogram = row[FAILED]
        elif bucket is None:
            row[UNTIMED] += 1
            return
        else:
            histogram = row[OK]
        row[SUM] += response_time
        if response_time < row[MIN]:
            row[MIN] = response_time
        if response_time > row[MAX]:
            row[MAX] = response_time
        if bucket in histogram:
            histogram[bucket] += 1
        else:
            histogram[bucket] = 1

    def take(self) -> Rows:
        """Hand over all rows since the last take as (second, method, name, row), the unfinished second included."""
        done, self._done = self._done, []
        if self._by_label:
            done.append((self._second, self._by_label))
        self._renew()
        taken = [(second, *label, row) for second, rows in done for label, row in rows.items()]
        for *_, row in taken:
            # A script may have given numbers of its own kinds (numpy), which neither msgpack nor json would take.
            row[SUM : MAX + 1] = map(float, row[SUM : MAX + 1])
            row[BYTES] = max(int(row[BYTES]), 0)
        return taken

    def _turn(self) -> None:
        if self._by_label:
            self._done.append((self._second, self._by_label))
        self._second = max(self._second + 1, int(_monotonic() - self._origin))
        self._edge = self._origin + self._second + 1
        self._renew()

    def _renew(self) -> None:
        self._rows, self._by_label, self._messages = {}, {}, 0

    def _new_row(self, method: Any, name: Any) -> Row:
        label = (printable(method, MAX_METHOD), printable(name, wire.MAX_NAME) or UNNAMED)
        if label not in self._known:
            if len(self._known) < MAX_ENDPOINTS:
                self._known.add(label)
            else:
                label = OTHER_ENDPOINT
        row = self._by_label.get(label)
        if row is None:
            row = self._by_label[label] = empty_row()
        if label is not OTHER_ENDPOINT and type(name) is str and type(method) is str:
            self._rows[method, name] = row
        return row

    def _count_error(self, row: Row, exception: Any) -> None:
        message, errors = describe(exception), row[ERRORS]
        if message not in errors:
            if self._messages < wire.MAX_ERROR_ROWS:
                self._messages += 1
            else:
                message = wire.OTHER
        errors[message] = errors.get(message, 0) + 1


def empty_row() -> Row:
    """Make a row that has counted nothing."""
    return [0, 0, 0, 0.0, 0.0, math.inf, -1.0, 0, {}, {}, {}]


def add_row(total: Row, row: Row) -> None:
    """Add a row to another one."""
    for field in (N, FAILURES, UNTIMED, SUM, FAILED_SUM, BYTES):
        total[field] += row[field]
    total[MIN] = min(total[MIN], row[MIN])
    total[MAX] = max(total[MAX], row[MAX])
    for field in (OK, FAILED, ERRORS):
        counts = total[field]
        for key, count in row[field].items():
            counts[key] = counts.get(key, 0) + count


def printable(value: Any, limit: int) -> str:
    """Give text that any receiver accepts: no control characters, no lone surrogates, at most `limit` characters."""
    text = value if isinstance(value, str) else _text(value)
    return _CONTROL.sub(" ", text[:limit]).encode("utf-8", "replace").decode()


def describe(exception: Any) -> str:
    """Say in one line what went wrong; memory addresses are taken out, so that equal failures have equal messages."""
    if isinstance(exception, str):
        text = exception
    else:
        kind = type(exception).__name__
        # What a script gave to response.failure() needs no class before it.
        own_words = kind == "CatchResponseError"
        text = _text(exception) if own_words else f"{kind}: {_text(exception)}".removesuffix(": ")
    return printable(_ADDRESS.sub("0x...", text[: 2 * wire.MAX_ERROR_TEXT]), wire.MAX_ERROR_TEXT)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # a script's own class may do anything here, and a failed request must still be counted
        return f"({type(value).__name__} without a text)"


def _odd(response_time: Any) -> tuple[float, int | None]:
    """Give time and bucket of a response time that is not an ordinary one; bucket None counts it as untimed."""
    if response_time is None:
        return 0.0, None
    try:
        ms = float(response_time)
    except (TypeError, ValueError):
        return 0.0, None
    if not math.isfinite(ms):
        return 0.0, None
    ms = max(ms, 0.0)
    return ms, bucket_of(ms)
