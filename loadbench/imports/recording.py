"""What an importer has read, and how it becomes a stored run."""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from loadbench.agent import wire
from loadbench.agent.histogram import Histogram, pack, unpack
from loadbench.agent.recorder import MAX_ENDPOINTS, MAX_METHOD, OTHER_ENDPOINT, UNNAMED, printable
from loadbench.errors import InvalidInput
from loadbench.messages import IntervalPush, interval_of, last_metrics
from loadbench.model import Endpoint, Interval, LoadTest, LoadTestRun, RunStatus, Scope, SourceState, now_ms
from loadbench.store import Store

SOURCE = "import"
MAX_SECONDS = 7 * 24 * 3600
_BATCH = 500


@dataclass(slots=True)
class Row:
    """What one endpoint did within one interval; times in milliseconds. `untimed` requests are in no histogram."""

    n: int = 0
    failures: int = 0
    untimed: int = 0
    sum_ms: float = 0.0
    failed_sum_ms: float = 0.0
    min_ms: float = 0.0
    max_ms: float = 0.0
    size: int = 0
    ok: Histogram = field(default_factory=dict)
    failed: Histogram = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One interval: its end in Unix ms, its length, the users at its end, and its rows by endpoint index, packed."""

    end_ms: int
    duration_ms: float
    users: int
    columns: list[tuple[Any, ...]]
    histograms: bytes
    errors: dict[tuple[int, str], int]

    def fail(self, endpoint: int, message: str, n: int = 1) -> None:
        """Count a message of a failure."""
        count_error(self.errors, endpoint, message, n)


def count_error(errors: dict[tuple[int, str], int], endpoint: int, message: str, n: int = 1) -> None:
    """Count a message; those beyond the limit of an interval share one."""
    if (endpoint, message) not in errors and len(errors) >= wire.MAX_ERROR_ROWS:
        message = wire.OTHER
        endpoint = next((place for place, text in errors if text == message), endpoint)
    errors[endpoint, message] = errors.get((endpoint, message), 0) + n


def packed(rows: dict[int, Row]) -> tuple[list[tuple[Any, ...]], bytes]:
    """Write rows in the little memory that is left to the seconds of a large file."""
    columns = [
        (index, row.n, row.failures, row.untimed, row.sum_ms, row.failed_sum_ms, row.min_ms, row.max_ms, row.size)
        for index, row in rows.items()
    ]
    return columns, pack([histogram for row in rows.values() for histogram in (row.ok, row.failed)])


def unpacked(columns: Sequence[tuple[Any, ...]], histograms: bytes) -> dict[int, Row]:
    """Read what `packed` wrote."""
    parts = unpack(histograms)
    return {
        index: Row(*rest, parts[2 * number], parts[2 * number + 1]) for number, (index, *rest) in enumerate(columns)
    }


class Endpoints:
    """The endpoints of a file in the order in which they come; those beyond the limit are counted as "(other)"."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}
        self._index: dict[tuple[str, str], int] = {}

    def index(self, method: str, name: str) -> int:
        try:
            return self._known[method, name]
        except KeyError:
            label = (printable(method, MAX_METHOD), printable(name, wire.MAX_NAME) or UNNAMED)
            if label not in self._index and len(self._index) >= MAX_ENDPOINTS:
                label = OTHER_ENDPOINT
            return self._known.setdefault((method, name), self._index.setdefault(label, len(self._index)))

    def all(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(method=method, name=name) for method, name in self._index)


@dataclass(frozen=True)
class Recording:
    """What a result file says of a run. `notes` names what it does not say."""

    form: str
    files: tuple[str, ...]
    sha256: str
    name: str
    started_at: int
    spans: Sequence[Span]
    endpoints: tuple[Endpoint, ...]
    notes: str = ""
    target_url: str | None = None
    has_distributions: bool = True

    def intervals(self, run_id: str) -> Iterator[Interval]:
        """Make the intervals to store, in order."""
        requests = failures = 0
        for seq, span in enumerate(self.spans):
            requests += sum(row[1] for row in span.columns)
            failures += sum(row[2] for row in span.columns)
            yield self._interval(run_id, seq, span, requests, failures)

    def _interval(self, run_id: str, seq: int, span: Span, requests: int, failures: int) -> Interval:
        index, n, failed, untimed, sums, failed_sums, low, high, sizes = (
            zip(*span.columns, strict=True) if (span.columns) else [()] * 9
        )
        push = IntervalPush.model_construct(  # made here, of what was checked: nothing to check again
            version=wire.WIRE_VERSION,
            run_id=run_id,
            source=SOURCE,
            timestamp=span.end_ms,
            seq=seq,
            duration_ms=span.duration_ms,
            users=span.users,
            workers=0,
            workers_expected=0,
            endpoints=tuple(self.endpoints[place] for place in index),
            n=n,
            failures=failed,
            untimed=untimed,
            sum_ms=sums,
            failed_sum_ms=failed_sums,
            min_ms=low,
            max_ms=high,
            bytes=sizes,
            histograms=base64.b64encode(span.histograms).decode(),
            cum_requests=requests,
            cum_failures=failures,
            final=seq == len(self.spans) - 1,
        )
        digest = hashlib.sha256(push.model_dump_json(by_alias=True).encode()).hexdigest()
        interval = interval_of(push, index, received_at=now_ms(), body_sha256=digest)
        update: dict[str, Any] = {}
        if span.errors:
            rows = [{"endpoint": place, "message": text, "n": count} for (place, text), count in span.errors.items()]
            update["errors"] = rows
        if interval.avg_ms is None and interval.requests and sum(sums):
            update["avg_ms"] = sum(sums) / interval.requests  # a mean is known although no distribution is
        return Interval(**(dict(interval) | update)) if update else interval


def keep(
    store: Store,
    recording: Recording,
    owner: LoadTest | Scope,
    *,
    by: str,
    name: str | None = None,
    target_url: str | None = None,
    users: int | None = None,
    notes: str = "",
    tags: tuple[str, ...] = (),
    progress: bool = True,
) -> LoadTestRun:
    """Store a recording as a finished run, of a test or only of a scope. The run is there when all of it is.

    Parameters
    ----------
    name, target_url, users : optional
        Left out, they are those of the recording, else of the test.

    Returns
    -------
    LoadTestRun
        The one that is there already, if the same files were imported under the same name before.

    Raises
    ------
    InvalidInput
        If the target is not known from anywhere, or a value is wrong; nothing is stored then.
    """
    run = _run(recording, owner, by=by, name=name, target_url=target_url, users=users, notes=notes, tags=tags)
    known = store.runs.get_all([run.id])
    if known:
        return known[0]
    store.ledger.delete(run.id)  # of an import that was killed
    try:
        last = None
        intervals = iter(tqdm(recording.intervals(run.id), "storing", len(recording.spans), leave=False,
                              disable=not progress))  # fmt: skip
        while batch := list(itertools.islice(intervals, _BATCH)):
            store.ledger.fill(batch)
            last = batch[-1]
        return store.runs.add(run.model_copy(update={"last_metrics": last_metrics(last)}))
    except BaseException:
        store.ledger.delete(run.id)
        raise


def _run(recording: Recording, owner: LoadTest | Scope, *, by: str, name: str | None, target_url: str | None,
         users: int | None, notes: str, tags: tuple[str, ...]) -> LoadTestRun:  # fmt: skip
    test = owner if isinstance(owner, LoadTest) else None
    target = target_url or recording.target_url or (test and test.target_url)
    if not target:
        raise InvalidInput(f"{recording.form} files do not name the target: give target_url", field="target_url")
    name = name or recording.name
    identity = f"{owner.id if test else owner}\n{name}\n{recording.sha256}"
    requests = sum(row[1] for span in recording.spans for row in span.columns)
    failures = sum(row[2] for span in recording.spans for row in span.columns)
    finished_at = recording.spans[-1].end_ms
    source = SourceState(source=SOURCE, last_seq=len(recording.spans) - 1, requests=requests, failures=failures)
    return LoadTestRun.build(
        # The same files under the same name are the same run: importing twice does not count twice.
        id=f"run-{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
        **(test.scope if test else owner).model_dump(),
        load_test_id=test.id if test else None,
        origin="imported",
        name=name,
        target_url=target,
        target_users=users or max(1, *(span.users for span in recording.spans)),
        spawn_rate=1.0,
        duration_sec=max(1, -(-(finished_at - recording.started_at) // 1000)),
        status=RunStatus.FINISHED,
        completeness="complete" if recording.has_distributions else "unknown",
        started_at=recording.started_at,
        finished_at=finished_at,
        endpoints=recording.endpoints,
        sources=(source,) if recording.has_distributions else (),
        notes="\n\n".join(text for text in (notes, recording.notes) if text)[:10_000],
        tags=tags,
        metadata={
            "importedFrom": ", ".join(recording.files),
            "importedFormat": recording.form,
            "importedSha256": recording.sha256,
            "hasDistributions": recording.has_distributions,
        },
        created_by=by,
        updated_by=by,
    )


class CsvFile:
    """A CSV file with a header, read as a stream: hashed on the way, a progress bar shown, errors named by line."""

    def __init__(self, path: Path, *, progress: bool) -> None:
        self._path = path
        self._progress = progress
        self._hash = hashlib.sha256()
        self._reader: Any = None
        self._line = 1
        self.header: list[str] = []

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def rows(self, *, delimiters: str = ",", required: Sequence[str]) -> Iterator[list[str]]:
        """Give the rows after the header, all of its length.

        Raises
        ------
        InvalidInput
            If there is no such file, a required column is missing, or a line is cut off or no CSV.
        """
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise InvalidInput(
                f"cannot read {self._path}: {error.strerror or error}; give the path of a result file", field="path"
            ) from None
        with file, self._bar() as bar:
            lines = self._lines(file, bar)
            first = next(lines, "")
            self._refuse_other_formats(first)
            delimiter = max(delimiters, key=first.count)
            self._reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
            try:
                self.header = [name.strip() for name in next(self._reader, [])]
                missing = [name for name in required if name not in self.header]
                if missing:
                    raise self.error(
                        f"has no column {missing[0]!r}; there are {', '.join(self.header)[:200] or 'none'}"
                    )
                yield from self._of_the_same_length()
            except csv.Error as error:
                raise self.error(f"is no CSV: {error}") from None

    def _of_the_same_length(self) -> Iterator[list[str]]:
        width = len(self.header)
        while True:
            self._line = self._reader.line_num + 1  # a field may hold line breaks: where the row begins
            row = next(self._reader, None)
            if row is None:
                return
            if len(row) != width:
                if not row or row == [""]:
                    continue
                raise self.error(f"has {len(row)} columns, the header {width}: it is cut off or damaged, remove it")
            yield row

    def error(self, text: str) -> InvalidInput:
        """Make the error about the line that was read last."""
        return InvalidInput(f"{self._path.name} line {self._line} {text}", field="path")

    def number(self, text: str, column: str, kind: type = int) -> Any:
        """Read a number that is not negative."""
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not 0 <= value < 2**53:
            raise self.error(f"has no {'whole ' if kind is int else ''}number as {column}: {text[:60]!r}")
        return value

    def _bar(self) -> tqdm:
        size = self._path.stat().st_size
        return tqdm(total=size, unit="B", unit_scale=True, desc=self._path.name, leave=False,
                    disable=not self._progress)  # fmt: skip

    def _lines(self, file: Any, bar: tqdm) -> Iterator[str]:
        read = 0
        for number, raw in enumerate(file):
            self._hash.update(raw)
            read += len(raw)
            if read > 1 << 20:
                bar.update(read)
                read = 0
            yield raw.decode("utf-8-sig" if number == 0 else "utf-8", "replace")
        bar.update(read)

    def _refuse_other_formats(self, first: str) -> None:
        if first.lstrip().startswith("<"):
            raise InvalidInput(
                f"{self._path.name} is XML: save results as CSV (in JMeter: jmeter.save.saveservice.output_format=csv)",
                field="path",
            )
        if not first.strip():
            raise InvalidInput(f"{self._path.name} is empty: there is nothing to import", field="path")


def no_samples(files: Iterable[str]) -> InvalidInput:
    """Make the error for files in which nothing was measured."""
    return InvalidInput(f"{', '.join(files)}: no request is in there, so there is nothing to import", field="path")
