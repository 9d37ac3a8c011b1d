"""JMeter's result files (JTL) in CSV format: every sample is there, so the histograms are as good as recorded ones."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadbench.agent import wire
from loadbench.agent.histogram import bucket_of
from loadbench.agent.recorder import printable
from loadbench.imports.recording import (
    MAX_SECONDS,
    CsvFile,
    Endpoints,
    Recording,
    Row,
    Span,
    count_error,
    no_samples,
    packed,
    unpacked,
)
from loadbench.model import EARLIEST_MS, LATEST_MS

REQUIRED = ("timeStamp", "elapsed", "label")
OPEN_SECONDS = 120
_TRANSACTION = "Number of samples in transaction"


def read_jtl(path: str | Path, *, progress: bool = True) -> Recording:
    """Read a JTL file. It is streamed: what stays in memory is the result, not the file.

    A sample counts in the second in which it ended. The label is the endpoint; JMeter records no method. Samples of
    transaction controllers are left out: they repeat the time of the samples within.

    Raises
    ------
    InvalidInput
        If it is XML, has no header, lacks a column, or a line is wrong; the message names the line.
    """
    path = Path(path).expanduser()
    file = CsvFile(path, progress=progress)
    seconds, endpoints = Seconds(), Endpoints()
    facts = _Samples(file, seconds, endpoints).read()
    if not seconds:
        raise no_samples([path.name])
    return Recording(
        form="JMeter JTL",
        files=(path.name,),
        sha256=file.sha256,
        name=path.stem,
        started_at=facts.first_ms,
        spans=seconds.spans(facts.first_ms, facts.last_ms),
        endpoints=endpoints.all(),
        notes=facts.notes,
        target_url=facts.target_url,
    )


class Seconds:
    """Rows by second. Only the seconds used last are open; the others are packed, and opened again if need be."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, dict[int, Row]] = OrderedDict()
        self._packed: dict[int, Any] = {}
        self.users: dict[int, int] = {}
        self.errors: dict[int, dict[tuple[int, str], int]] = {}

    def __bool__(self) -> bool:
        return bool(self._open or self._packed)

    def rows(self, second: int) -> dict[int, Row]:
        """Give the rows of a second to write in, until the next call."""
        rows = self._open.get(second)
        if rows is None:
            stored = self._packed.pop(second, None)
            rows = self._open[second] = {} if stored is None else unpacked(*stored)
            if len(self._open) > OPEN_SECONDS:
                oldest, left = self._open.popitem(last=False)
                self._packed[oldest] = packed(left)
        else:
            self._open.move_to_end(second)
        return rows

    def fail(self, second: int, endpoint: int, message: str) -> None:
        """Count a failure's message."""
        count_error(self.errors.setdefault(second, {}), endpoint, message)

    def spans(self, first_ms: int, last_ms: int) -> list[Span]:
        """Give all seconds from the first start to the last end, the idle ones too."""
        self._packed.update((second, packed(rows)) for second, rows in self._open.items())
        self._open.clear()
        nothing, users, spans = packed({}), 0, []
        for second in range(first_ms // 1000, last_ms // 1000 + 1):
            users = self.users.get(second, users)
            start, end = max(1000 * second, first_ms), min(1000 * second + 1000, max(last_ms, 1000 * second + 1))
            columns, histograms = self._packed.get(second, nothing)
            spans.append(Span(end, float(max(end - start, 1)), users, columns, histograms, self.errors.get(second, {})))
        return spans


class _Samples:
    """The lines of one file, counted."""

    def __init__(self, file: CsvFile, seconds: Seconds, endpoints: Endpoints) -> None:
        self._file, self._seconds, self._endpoints = file, seconds, endpoints
        self.first_ms, self.last_ms = LATEST_MS, 0
        self.target_url: str | None = None
        self._transactions = 0
        self._knows_users = False

    @property
    def notes(self) -> str:
        notes = ["Imported from a JMeter result file."]
        if self._transactions:
            notes.append(f"{self._transactions} samples of transaction controllers are left out.")
        if not self._knows_users:
            notes.append("It has no column allThreads: the number of users is not known.")
        return " ".join(notes)

    def read(self) -> _Samples:
        rows = self._file.rows(delimiters=",;\t", required=REQUIRED)
        place = self._places(first := next(rows, None))
        if first is not None:
            self._count(first, place)
            for row in rows:
                self._count(row, place)
        return self

    def _places(self, first: list[str] | None) -> dict[str, int]:
        place = {name: number for number, name in enumerate(self._file.header)}
        if first is not None and not {"success", "responseCode"} & place.keys():
            raise self._file.error("cannot be judged: there is no column 'success', nor 'responseCode'")
        self._knows_users = "allThreads" in place
        return place

    def _count(self, row: list[str], place: dict[str, int]) -> None:
        if row == self._file.header:
            return  # files put together with cat

        def text(column: str) -> str:
            return row[place[column]] if column in place else ""

        start, elapsed = self._start(text("timeStamp")), self._file.number(text("elapsed"), "elapsed")
        if text("responseMessage").startswith(_TRANSACTION) and text("URL") in ("", "null"):
            self._transactions += 1
            return
        end = start + elapsed
        if start < self.first_ms or end > self.last_ms:
            self._widen(start, end)
        second = end // 1000
        index = self._endpoints.index("", text("label"))
        rows = self._seconds.rows(second)
        found = rows.get(index)
        if found is None:
            found = rows[index] = Row(min_ms=float(elapsed))
        found.n += 1
        found.sum_ms += elapsed
        found.min_ms = min(found.min_ms, float(elapsed))
        found.max_ms = max(found.max_ms, float(elapsed))
        if size := text("bytes"):
            found.size += self._file.number(size, "bytes")
        histogram = found.ok
        if not self._succeeded(text("success"), text("responseCode")):
            found.failures += 1
            found.failed_sum_ms += elapsed
            histogram = found.failed
            message = text("failureMessage") or f"{text('responseCode')} {text('responseMessage')}".strip()
            self._seconds.fail(second, index, printable(message, wire.MAX_ERROR_TEXT) or "failed")
        bucket = bucket_of(elapsed)
        histogram[bucket] = histogram.get(bucket, 0) + 1
        if self._knows_users and (threads := text("allThreads")):
            self._seconds.users[second] = self._file.number(threads, "allThreads")
        if self.target_url is None and text("URL").startswith(("http://", "https://")):
            url = urlsplit(text("URL"))
            self.target_url = f"{url.scheme}://{url.netloc}"

    def _start(self, text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
        if not EARLIEST_MS <= value < LATEST_MS:
            raise self._file.error(
                f"has no Unix milliseconds as timeStamp: {text[:60]!r} (in JMeter: timestamp_format=ms)"
            )
        return value

    def _widen(self, start: int, end: int) -> None:
        self.first_ms, self.last_ms = min(start, self.first_ms), max(end, self.last_ms)
        if self.last_ms - self.first_ms > 1000 * MAX_SECONDS:
            days = (self.last_ms - self.first_ms) / 86_400_000
            raise self._file.error(f"is {days:.0f} days away from the others: a run may take 7 at most")

    def _succeeded(self, success: str, code: str) -> bool:
        if success:
            verdict = {"true": True, "false": False}.get(success.strip().lower())
            if verdict is None:
                raise self._file.error(f"has neither true nor false as success: {success[:60]!r}")
            return verdict
        return code[:1] in ("2", "3")
