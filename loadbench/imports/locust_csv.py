"""What Locust writes with `--csv`: counts and means over time, and no distributions.

`PREFIX_stats_history.csv` has running totals, a row a second: of every endpoint with `--csv-full-history`, else of all
together. The difference of two rows is an interval. Its percentiles are rounded, and those of a sliding window
overlap: no percentile of anything can be computed of them, so none is.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from loadbench.agent import wire
from loadbench.agent.recorder import printable
from loadbench.errors import InvalidInput
from loadbench.imports.recording import MAX_SECONDS, CsvFile, Endpoints, Recording, Row, Span, no_samples, packed
from loadbench.model import EARLIEST_MS, LATEST_MS

HISTORY = ("Timestamp", "User Count", "Type", "Name", "Total Request Count", "Total Failure Count",
           "Total Average Response Time")  # fmt: skip
STATS = ("Type", "Name", "Request Count", "Failure Count")
FAILURES = ("Method", "Name", "Error", "Occurrences")
TOTAL = ("", "Aggregated")
ALL_REQUESTS = ("", "(all requests)")
_NAMED = 40
_SUFFIXES = ("_stats_history.csv", "_stats.csv", "_failures.csv")

Label = tuple[str, str]


class Total(NamedTuple):
    """What had happened on an endpoint since the start."""

    n: int = 0
    failures: int = 0
    sum_ms: float = 0.0
    size: float = 0.0

    def since(self, before: Total) -> Total:
        """Give what has happened since an earlier total; a counter that went back was reset."""
        if self.n < before.n or self.failures < before.failures:
            return self
        return Total(*(max(now - then, 0) for now, then in zip(self, before, strict=True)))


def read_locust_csv(prefix: str | Path, *, progress: bool = True) -> Recording:
    """Read the files that `locust --csv PREFIX` wrote.

    Raises
    ------
    InvalidInput
        If the history is missing, lacks a column, or a line is wrong; the message names the line.
    """
    folder, name = _prefix(prefix)
    history, stats, failures = (CsvFile(folder / (name + suffix), progress=progress) for suffix in _SUFFIXES)
    endpoints = Endpoints()
    reading = _History(history, endpoints)
    reading.read()
    notes = [
        "Imported from Locust's CSV files. They hold no distributions, so there are no percentiles, minima and maxima.",
        "Locust writes them once a second: requests after the last row are not in there.",
    ]
    if not reading.by_endpoint:
        notes.append("Written without --csv-full-history: there are no figures of single endpoints.")
    files = [history]
    if (folder / f"{name}_stats.csv").is_file():
        files.append(stats)
        notes.append(_whole_run(stats))
    if (folder / f"{name}_failures.csv").is_file():
        files.append(failures)
        _add_failures(failures, reading.spans, endpoints, by_endpoint=reading.by_endpoint)
    if not any(row[1] for span in reading.spans for row in span.columns):
        raise no_samples([f"{name}{_SUFFIXES[0]}"])
    return Recording(
        form="Locust CSV",
        files=tuple(file.name for file in files),
        sha256=hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
        name=name,
        started_at=reading.started_at,
        spans=reading.spans,
        endpoints=endpoints.all(),
        notes="\n".join(notes),
        has_distributions=False,
    )


def _prefix(prefix: str | Path) -> tuple[Path, str]:
    path = Path(prefix).expanduser()
    name = next((path.name.removesuffix(suffix) for suffix in _SUFFIXES if path.name.endswith(suffix)), path.name)
    if not (path.parent / f"{name}{_SUFFIXES[0]}").is_file():
        raise InvalidInput(
            f"no {name}{_SUFFIXES[0]} in {path.parent.absolute()}: give the prefix that was given to locust --csv",
            field="prefix",
        )
    return path.parent, name


class _History:
    """The running totals, turned into intervals."""

    def __init__(self, file: CsvFile, endpoints: Endpoints) -> None:
        self._file, self._endpoints = file, endpoints
        self._before: dict[Label, Total] = {}
        self._previous_s: int | None = None
        self.spans: list[Span] = []
        self.started_at = 0
        self.by_endpoint = False

    def read(self) -> None:
        second, users, totals = None, 0, {}
        for row in self._file.rows(required=HISTORY):
            of = dict(zip(self._file.header, row, strict=True))
            moment = self._second(of["Timestamp"], second)
            if second is not None and moment != second:
                self._close(second, users, totals)
                totals = {}
            second, users = moment, self._file.number(of["User Count"], "User Count")
            totals[of["Type"], of["Name"]] = self._total(of)
        if second is not None:
            self._close(second, users, totals)

    def _second(self, text: str, last: int | None) -> int:
        value = self._file.number(text, "Timestamp")
        if not EARLIEST_MS <= 1000 * value < LATEST_MS:
            raise self._file.error(f"has no Unix seconds as Timestamp: {text[:60]!r}")
        if last is not None and value < last:
            raise self._file.error("is earlier than the line before: these are the files of several runs")
        if self.started_at and value - self.started_at // 1000 > MAX_SECONDS:
            raise self._file.error("is over 7 days after the first: a run may not take longer")
        return value

    def _total(self, of: dict[str, str]) -> Total:
        n = self._file.number(of["Total Request Count"], "Total Request Count")
        mean_ms = self._file.number(of["Total Average Response Time"], "Total Average Response Time", float)
        size = self._file.number(of.get("Total Average Content Size") or "0", "Total Average Content Size", float)
        failures = self._file.number(of["Total Failure Count"], "Total Failure Count")
        if failures > n:
            raise self._file.error("counts more failures than requests")
        return Total(n, failures, n * mean_ms, n * size)

    def _close(self, second: int, users: int, totals: dict[Label, Total]) -> None:
        single = {label: total for label, total in totals.items() if label != TOTAL}
        self.by_endpoint = self.by_endpoint or bool(single)
        if not self.by_endpoint:
            single = {ALL_REQUESTS: totals.get(TOTAL, Total())}
        parts = {label: total.since(self._before.get(label, Total())) for label, total in single.items()}
        self._before |= single
        if self._previous_s is None and not any(part.n for part in parts.values()):
            self.started_at = 1000 * second
            self._previous_s = second
            return
        if self._previous_s is None:
            self.started_at, self._previous_s = 1000 * (second - 1), second - 1
        rows = {}
        for label, part in parts.items():
            if part.n:
                rows[self._endpoints.index(*label)] = Row(
                    n=part.n, failures=part.failures, untimed=part.n, sum_ms=part.sum_ms, size=round(part.size)
                )
        length_ms = 1000.0 * (second - self._previous_s)
        self.spans.append(Span(1000 * second, length_ms, users, *packed(rows), {}))
        self._previous_s = second


def _whole_run(file: CsvFile) -> str:
    """Give Locust's own percentiles of the whole run, as words: they are rounded, and of another making than ours."""
    lines = []
    for row in file.rows(required=STATS):
        of = dict(zip(file.header, row, strict=True))
        name = f"{of['Type']} {of['Name']}".strip()
        shown = [f"{column} {of[column]} ms" for column in ("50%", "95%", "99%") if of.get(column, "N/A").isdecimal()]
        if shown:
            lines.append(f"{printable(name, wire.MAX_NAME)}: {of['Request Count']} requests, {', '.join(shown)}")
    more = f"\nand {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "Locust's own rounded percentiles of the whole run:\n" + "\n".join(lines[:_NAMED]) + more


def _add_failures(file: CsvFile, spans: list[Span], endpoints: Endpoints, *, by_endpoint: bool) -> None:
    """Put each message where it was seen first and last; in between, nobody knows when."""
    for row in file.rows(required=FAILURES):
        of = dict(zip(file.header, row, strict=True))
        n = file.number(of["Occurrences"], "Occurrences")
        label = (of["Method"], of["Name"]) if by_endpoint else ALL_REQUESTS
        key = endpoints.index(*label), printable(of["Error"], wire.MAX_ERROR_TEXT) or "failed"
        first = _span_at(spans, of.get("First Seen", ""))
        last = _span_at(spans, of.get("Last Seen", ""))
        if n > 1:
            first.fail(*key)
        if n:
            last.fail(*key, n=max(n - 1, 1))


def _span_at(spans: list[Span], text: str) -> Span:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return spans[-1]
    seen_ms = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    return next((span for span in spans if span.end_ms >= seen_ms), spans[-1])
