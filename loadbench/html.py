"""How records look: escaped HTML cards, one-line texts that say the same, and the one registry of number formats.

Nothing here reads a clock or a store: a card shows what its record says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jinja2
import pandas as pd

from loadbench.analysis.validity import Validity, lacks
from loadbench.model import LastMetrics, LoadTest, LoadTestRun, RunStatus, Scope, ScriptRevision, now_ms

MISSING = "–"
LAG_SHOWN_S = 5
SHOWN_REVISIONS = 5
ERROR_IN_LINE = 160
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LOGIN = re.compile(r"(?<=://)[^/?#@\s]*@")


@dataclass(frozen=True)
class Format:
    """How values of one unit are written; `suffix` is the unit where it is not part of the number."""

    number: Callable[[Any], str]
    suffix: str = ""

    def __call__(self, value: Any) -> str:
        if is_missing(value):
            return MISSING
        return f"{self.number(value)} {self.suffix}".rstrip()


def is_missing(value: Any) -> bool:
    """Say whether there is no value: None, nan, NaT or NA."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _significant(value: float) -> str:
    if value == round(value):
        return f"{value:,.0f}"
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f}"


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _percent(ratio: float) -> str:
    percent = 100 * ratio
    if 0 < percent < 0.01:
        return "<0.01"
    if 99.99 < percent < 100:
        return ">99.99"
    if percent in (0, 100):
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.995 else f"{percent:.2f}".rstrip("0")


def _size(count: float) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _moment(value: Any) -> str:
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, tz=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_TIMES = ("mean", "p50", "p95", "p99", "max")

FORMATS: dict[str, Format] = {
    "ms": Format(_milliseconds, "ms"),
    "s": Format(_duration),
    "/s": Format(_significant, "/s"),
    "count": Format(lambda value: f"{value:,.0f}"),
    "bytes": Format(_size),
    "ratio": Format(_percent, "%"),
    "percent": Format(lambda value: f"{value:.0f}", "%"),
    "time": Format(_moment),
    "": Format(lambda value: printable(str(value))),
}


def show(value: Any, unit: str) -> str:
    """Write a value with its unit; a dash for a missing one. Units are the keys of FORMATS."""
    return FORMATS[unit](value)


def printable(text: str) -> str:
    """Make control characters and marks that turn the writing direction visible, so that no name can forge a text."""
    return "".join(
        char.encode("unicode_escape").decode()
        if char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def error_text(text: str) -> str:
    """Make an error of a child process readable: without terminal colours, its lines kept."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in _ANSI.sub("", text).strip().splitlines())


def error_line(text: str) -> str:
    """Give the line of an error that says what is wrong: the first, or the last of a traceback."""
    lines = [line.strip() for line in error_text(text).splitlines() if line.strip()] or [""]
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return line if len(line) <= ERROR_IN_LINE else line[: ERROR_IN_LINE - 1] + "…"


def shown_url(url: str) -> str:
    """Give a URL without the user and password that it may carry."""
    return printable(_LOGIN.sub("…@", url))


def short_id(record_id: str) -> str:
    """Shorten an id for reading: `run-5d1c…`."""
    prefix, dash, rest = record_id.partition("-")
    return f"{prefix}{dash}{rest[:4]}…" if len(rest) > 5 else record_id


def elapsed_s(run: LoadTestRun) -> float:
    """Say for how many seconds the run has gone on, as far as its record knows."""
    if run.started_at is None:
        return 0.0
    latest = run.finished_at or (run.last_metrics.timestamp if run.last_metrics else run.started_at)
    return max(0.0, (latest - run.started_at) / 1000)


def run_warnings(run: LoadTestRun) -> list[str]:
    """Name what the reader must know of the data: gaps, drops, lost workers, clock skew."""
    found = lacks(run)
    if run.metadata.get("hasDistributions") is False and run.origin == "imported":
        found.insert(0, f"no percentiles: {run.metadata.get('importedFormat')} files hold no distributions")
    if (lag_s := _lag_s(run)) > LAG_SHOWN_S:
        found.append(f"figures are {lag_s:.0f} s behind")
    return found + _purge_warning(run)


def _lag_s(run: LoadTestRun) -> float:
    """Say how old the newest figures of a run that goes on are, by the clock of the receiver."""
    if run.is_over or run.last_metrics is None or run.lease_expires_at is None:
        return 0.0
    return (now_ms() - run.last_metrics.timestamp - (run.clock_skew_ms or 0)) / 1000


def _purge_warning(run: LoadTestRun) -> list[str]:
    if run.purged_at is None:
        return []
    return [f"its intervals were deleted {show(run.purged_at, 'time')} as too old: only its summary is left"]


def run_origin(run: LoadTestRun) -> str:
    """Say where a run comes from, if it was not started here; empty if it was."""
    if run.origin == "imported":
        return f"imported from {printable(str(run.metadata.get('importedFormat', 'files')))}"
    return {"external": "started elsewhere", "synthetic": "made up, not measured"}.get(run.origin, "")


def run_facts(run: LoadTestRun) -> list[str]:
    """Give the figures of a run in short phrases: of the last interval while it goes on, of all of it afterwards."""
    last = run.last_metrics
    if last is None:
        return [_plural(run.target_users, "user")] if not run.is_over else []
    facts = [f"{FORMATS['/s'].number(_per_s(run, last))} requests/s", f"{show(_failure_ratio(last), 'ratio')} failed"]
    if run.is_over:
        return [f"{show(last.cum_requests, 'count')} requests", *facts]
    quantile = [] if last.p95_ms is None else [f"p95 {show(last.p95_ms, 'ms')}"]
    return [_plural(last.users, "user"), *facts, *quantile]


def run_caption(run: LoadTestRun, validity: Validity | None = None) -> str:
    """Say in one line where a run stands: status, time, figures, and what is wrong with its data."""
    status, seconds = run.status.value, show(round(elapsed_s(run)), "s")
    if run.status is RunStatus.FAILED:
        head = f"Failed: {error_line(run.error)}" if run.error else f"Failed ({run.stop_reason or 'reason unknown'})"
    elif run.is_over:
        by = f" by {stopped_by(run)}" if run.stop_reason not in (None, "duration") else ""
        head = f"{status}{by} after {seconds}" if run.started_at else f"{status}{by} before it started"
    elif run.started_at is None:
        head = f"{status}, planned for {show(run.duration_sec, 's')}"
    else:
        by = f", asked by {stopped_by(run)}" if run.gate_broken else ""
        head = f"{status} {seconds} of {show(run.duration_sec, 's')}{by}"
    origin = run_origin(run)
    state = run_warnings(run) if validity is None else [printable(str(validity)), *_purge_warning(run)]
    return ", ".join([head, *([origin] if origin else []), *run_facts(run), *state])


def stopped_by(run: LoadTestRun) -> str:
    """Name what ended a run: its stop reason, and the gate if it was one."""
    gate = f" {printable(run.gate_broken.removesuffix(' -> stop'))}" if run.gate_broken else ""
    return f"{run.stop_reason}{gate}"


def run_line(run: LoadTestRun, validity: Validity | None = None) -> str:
    """Give the one-line text of a run; with its validity, if that is known, in place of its warnings."""
    return f'<Run {short_id(run.id)} "{printable(run.name)}" {run_caption(run, validity)}>'


def test_line(test: LoadTest) -> str:
    """Give the one-line text of a test."""
    users, duration = _plural(test.default_users, "user"), show(test.default_duration_sec, "s")
    known = f"revision {test.latest_revision_number}, {users}, {duration}, {shown_url(test.target_url)}"
    return f'<Test "{printable(test.name)}" {known}>'


def workbench_line(scope: Scope, receiver_url: str | None = None) -> str:
    """Give the one-line text of a workbench."""
    return f"<Workbench {scope}, receiver {receiver_url or 'not started'}>"


def summary_text(summary: pd.DataFrame) -> str:
    """Write a run's summary as a table for a terminal: what fits a line, with units in its head."""
    rows = [["endpoint", "requests", "failed %", "requests/s", *(f"{name} ms" for name in _TIMES)]]
    for row in summary.to_dict("records"):
        endpoint = printable(f"{row['method']} {row['name']}".strip())
        counts = [show(row["requests"], "count"), FORMATS["ratio"].number(row["failure_ratio"])]
        times = [FORMATS["ms"].number(row[f"{name}_ms"]) for name in _TIMES]
        rows.append([endpoint, *counts, FORMATS["/s"].number(row["requests_per_s"]), *times])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    )


def run_card(run: LoadTestRun, *, totals: Mapping[str, Any] | None = None, validity: Validity | None = None) -> str:
    """Draw a run as an HTML card.

    Parameters
    ----------
    totals : mapping, optional
        The row Aggregated of its summary, for percentiles of the whole run; left out, a run that goes on shows those
        of its last interval.
    validity : Validity, optional
        Its stamp, if that is known.
    """
    warnings = run_warnings(run) if validity is None else [*validity.reasons, *_purge_warning(run)]
    return _render("run.html.j2", run=run, figures=run_figures(run, totals), warnings=warnings, validity=validity)


def run_figures(run: LoadTestRun, totals: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """Give the key figures of a run as (label, text)."""
    last = run.last_metrics
    if totals is not None:
        values: Mapping[str, Any] = totals
    elif last is not None:
        values = {
            "requests": last.cum_requests,
            "requests_per_s": _per_s(run, last),
            "failure_ratio": _failure_ratio(last),
            **({} if run.is_over else {"p50_ms": last.p50_ms, "p95_ms": last.p95_ms, "p99_ms": last.p99_ms}),
        }
    else:
        return []
    named = {
        "requests": ("requests", "count"),
        "requests_per_s": ("requests/s", "/s"),
        "failure_ratio": ("failed", "ratio"),
        "p50_ms": ("p50", "ms"),
        "p95_ms": ("p95", "ms"),
        "p99_ms": ("p99", "ms"),
    }
    figures = [
        (label, FORMATS[unit].number(values[name]) if unit == "/s" else show(values[name], unit))
        for name, (label, unit) in named.items()
        if name in values
    ]
    return figures if run.is_over else [("users", show(last.users if last else None, "count")), *figures]


def test_card(test: LoadTest, revisions: Sequence[ScriptRevision] = ()) -> str:  # noqa: PT028 - not a test
    """Draw a test as an HTML card, with its newest revisions if they are given."""
    newest = sorted(revisions, key=lambda revision: -revision.revision_number)[:SHOWN_REVISIONS]
    return _render("test.html.j2", test=test, revisions=newest)


def pool_card(label: str, runs: Sequence[LoadTestRun]) -> str:
    """Draw a pool of runs as an HTML card."""
    return _render("pool.html.j2", label=label, runs=runs)


def finding_card(line: str, table: pd.DataFrame, *, title: str = "") -> str:
    """Draw a finding as an HTML card: one sentence, and the rows that it rests on; numbers with three digits."""

    def cell(value: Any) -> str:
        if is_missing(value):
            return MISSING
        if isinstance(value, datetime):
            return f"{value:%Y-%m-%d %H:%M}"
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return printable(str(value))

    plain = table if table.index.name is None else table.reset_index()
    rows = [[cell(value) for value in row] for row in plain.itertuples(index=False)]
    return _render("finding.html.j2", line=line, title=title, columns=list(plain.columns), rows=rows)


def workbench_card(scope: Scope, receiver_url: str | None = None, store_line: str = "") -> str:
    """Draw a workbench as an HTML card: whose things these are, where they are stored, where pushes arrive."""
    return _render("workbench.html.j2", scope=scope, receiver_url=receiver_url, store_line=store_line)


def panel_line(kind: str, text: str) -> str:
    """Draw a line of the panel: `busy`, `done`, `hint`, or an `error` that screen readers speak at once."""
    return _render("panel_line.html.j2", kind=kind, text=text)


def panel_title(scope: Scope) -> str:
    """Draw the title of the panel: whose things these are."""
    return _render("panel_title.html.j2", scope=scope)


@cache
def templates() -> jinja2.Environment:
    """Give the templates, with autoescape on and the formats as filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("loadbench"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        show=show, printable=printable, error_text=error_text, shown_url=shown_url, short_id=short_id, plural=_plural
    )
    environment.globals.update(elapsed_s=elapsed_s, run_origin=run_origin, stopped_by=stopped_by)
    return environment


def _render(template: str, **context: Any) -> str:
    return templates().get_template(template).render(**context)


def _per_s(run: LoadTestRun, last: LastMetrics) -> float:
    """Requests per second: of the last interval, or of the whole time that a run which is over was measured for."""
    measured_ms = last.timestamp - (run.started_at or last.timestamp)
    return 1000 * last.cum_requests / measured_ms if run.is_over and measured_ms > 0 else last.total_rps


def _failure_ratio(last: LastMetrics) -> float:
    return last.cum_failures / last.cum_requests if last.cum_requests else 0.0


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
