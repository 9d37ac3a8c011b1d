"""Sheets of one run: the headline, its gates, key figures, settings, script, and where the data comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from loadbench import html
from loadbench.analysis.gates import written
from loadbench.analysis.summary import summary
from loadbench.analysis.validity import Validity
from loadbench.analysis.windows import STEADY, WHOLE, named
from loadbench.errors import NotFound
from loadbench.model import LoadTest, LoadTestRun, RunStatus, ScriptRevision, Window
from loadbench.sealing import Seal, seal
from loadbench.sheets.table import Sheet, Table, render, table

if TYPE_CHECKING:
    from loadbench.load_test_run import Run

# What ended the run, as a sentence about it.
ENDINGS = {
    "duration": "It ran for its full duration.",
    "user": "A person stopped it before its end.",
    "gate": "A gate stopped it before its end.",
    "shape": "Its load shape came to its end.",
    "script": "The script itself ended it.",
    "workers-lost": "It ended because its workers were lost.",
    "error": "It could not go on.",
    "lost": "Its processes or their reports were lost.",
}


def run_headline(run: Run, *, window: str = STEADY) -> Sheet:
    """Open a report: what was run, whether its figures can be trusted, how its gates did, how it ended."""
    record, sealed = run.refresh().record, _sealed(run)
    stamp = run.validity(window) if sealed else Validity("INVALID", tuple(html.run_warnings(record)))
    gates = gate_counts(run, window=window)
    sentence = f"{verdict(record)} {gates.sentence}"
    return Sheet(
        f"{html.printable(record.name)}: {stamp}. {record.status.value}. {sentence}",
        render("headline.html.j2", run=record, stamp=stamp, gates=gates, verdict=sentence),
    )


@dataclass(frozen=True)
class GateCounts:
    """How many gates of a run passed, failed, and could not be decided."""

    passed: int = 0
    broken: int = 0
    undecided: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.broken + self.undecided

    @property
    def sentence(self) -> str:
        """Say it in words."""
        if not self.total:
            return "It has no gates."
        if self.passed == self.total:
            return "Its gate passed." if self.total == 1 else f"All {self.total} gates passed."
        counts = {"passed": self.passed, "broken": self.broken, "not judged": self.undecided}
        some = ", ".join(f"{number} {how}" for how, number in counts.items() if number)
        return f"Of {self.total} {'gate' if self.total == 1 else 'gates'}: {some}."


def gate_counts(run: Run, *, window: str = STEADY) -> GateCounts:
    """Count the gates that a run was started with by how they did."""
    found = list(run.gates(window=window)["passed"]) if run.record.gates else []
    undecided = sum(1 for passed in found if html.is_missing(passed))
    return GateCounts(found.count(True), found.count(False), undecided)


def gates(run: Run, *, window: str = STEADY) -> Table:
    """List the gates that a run was started with, the broken ones first: measured, limit, and why."""
    found = run.gates(window=window)
    rows = [
        {
            "gate": row["gate"],
            "verdict": "not judged" if html.is_missing(row["passed"]) else "passed" if row["passed"] else "broken",
            "measured": html.MISSING if html.is_missing(row["value"]) else written(row["value"], row["unit"]),
            "limit": html.MISSING if html.is_missing(row["limit"]) else written(row["limit"], row["unit"]),
            "because": row["because"],
            "at_s": row["at_s"],
        }
        for row in found.to_dict("records")
    ]
    rows.sort(key=lambda row: ("broken", "not judged", "passed").index(row["verdict"]))
    at = ["at_s"] if any(not html.is_missing(row["at_s"]) for row in rows) else []
    columns = ["gate", "verdict", "measured", "limit", "because", *at]
    return table(pd.DataFrame(rows, columns=columns), columns, numbers=("measured", "limit"))


def figures(run: Run, *, window: str = STEADY) -> Sheet:
    """Give the key figures of a window, and beside them the totals of the whole run."""
    record, sealed = run.refresh().record, _sealed(run)
    if sealed is None or not sealed.parts:
        last = html.run_figures(record) if record.purged_at is not None else []
        return _figures(last, "" if last else "No request was recorded.")
    part = _key_figures(sealed, window)
    if window == WHOLE:
        return _figures(part, "Of the whole run, ramp and drain included.")
    whole = ", ".join(f"{label} {text}" for label, text in _key_figures(sealed, WHOLE))
    span = named(sealed.windows, window)
    how = "found automatically" if span.found else "set by a person"
    return _figures(part, f"Of the window {window} ({_span(span, record)}, {how}). Whole run: {whole}.")


def _figures(shown: Sequence[tuple[str, str]], note: str) -> Sheet:
    text = ", ".join(f"{label} {value}" for label, value in shown)
    return Sheet(" ".join(filter(None, [text, note])), render("figures.html.j2", figures=shown, note=note))


def _key_figures(sealed: Seal, window: str) -> list[tuple[str, str]]:
    ended = sealed.run.model_copy(update={"status": RunStatus.FINISHED})  # its totals, not those of an interval
    found = summary(sealed.run, sealed.documents(window))
    return html.run_figures(ended, found.iloc[-1].to_dict()) if len(found) else []


def _span(window: Window, record: LoadTestRun) -> str:
    end_s = html.elapsed_s(record) if window.end_s is None else window.end_s
    return f"{html.show(round(window.start_s), 's')} to {html.show(round(end_s), 's')} after the start"


def verdict(run: LoadTestRun) -> str:
    """Say in a sentence or two how the run ended and whether all of its data arrived."""
    if not run.is_over:
        return f"The run is {run.status.value.lower()}: this report shows what has arrived so far."
    if run.purged_at is not None:
        return f"Its intervals were deleted {html.show(run.purged_at, 'time')} by retention: only its summary is left."
    if run.origin == "imported":
        whole = "All of it is here." if run.metadata.get("hasDistributions") else "It holds no distributions."
        return f"Imported from {run.metadata.get('importedFormat', 'files')}. {whole}"
    ending = ENDINGS.get(run.stop_reason or "", "")
    arrived = {
        "complete": "All intervals arrived, and their sums agree.",
        "gaps": "Some intervals never arrived: the figures leave them out.",
        "unknown": "It is not known whether all intervals arrived.",
    }[run.completeness]
    return f"{ending} {arrived}".strip()


def settings(run: Run) -> Sheet:
    """List what was run, with what, and where."""
    record = run.refresh().record
    rows = _settings(record, _test(run), _revision(run))
    return Sheet(", ".join(f"{label}: {text}" for label, text in rows.items()), render("settings.html.j2", rows=rows))


def script(run: Run) -> Sheet:
    """Show the script that was run, folded; nothing for a run of a foreign script."""
    revision = _revision(run)
    text = html.error_text(revision.script.decode("utf-8", "replace")) if revision else ""
    number = run.record.revision_number
    return Sheet(text, render("script.html.j2", script=text, revision=number) if text else "")


def provenance(*runs: Run) -> Sheet:
    """Say of which stored data the figures are, with its hash: the same data gives the same figures."""
    rows = [(run.record, _digest(run)) for run in runs]
    text = "; ".join(f"{count} stored intervals of {run.id}, sha256 {sha256}" for run, (count, sha256) in rows)
    return Sheet(text or "no runs", render("provenance.html.j2", rows=rows))


def _digest(run: Run) -> tuple[int, str]:
    if run.record.purged_at is not None:
        return 0, ""
    documents = run._store.ledger.documents(run.id, fields=("source", "seq", "bodySha256"))
    return len(documents), data_sha256(documents)


def data_sha256(documents: Sequence[Mapping[str, Any]]) -> str:
    """Hash stored intervals: sha256 over the body hashes, one a line, in the order of (source, seq)."""
    ordered = sorted(documents, key=lambda document: (document["source"], document["seq"]))
    return hashlib.sha256("".join(f"{document['bodySha256']}\n" for document in ordered).encode()).hexdigest()


def _settings(run: LoadTestRun, test: LoadTest | None, revision: ScriptRevision | None) -> dict[str, str]:
    ran = run.environment
    workers = run.workers if ran is None else ran.workers
    rows = {
        "test": test.name if test else None,
        "run": run.id,
        "origin": html.run_origin(run),
        "files": str(run.metadata.get("importedFrom", "")) if run.origin == "imported" else None,
        "scope": str(run.scope),
        "target": html.shown_url(run.target_url),
        "users": html.show(run.target_users, "count"),
        "users started": html.show(run.spawn_rate, "/s"),
        "planned duration": html.show(run.duration_sec, "s"),
        "ran for": html.show(html.elapsed_s(run), "s") if run.started_at else None,
        "started": html.show(run.started_at, "time"),
        "finished": html.show(run.finished_at, "time"),
        "workers": html.show(workers, "count") if workers else "none: one Locust process",
        "script revision": str(run.revision_number) if run.revision_number else None,
        "script sha256": revision.sha256 if revision else ran and ran.script_sha256,
        "user classes": ", ".join(ran.user_classes) if ran else None,
        "Locust": ran and ran.locust,
        "Python": ran and ran.python,
        "host": ran and ran.host,
        "started by": run.created_by,
        "tags": ", ".join(run.tags),
        "notes": run.notes,
    }
    return {label: html.printable(text) for label, text in rows.items() if text}


def _test(run: Run) -> LoadTest | None:
    return run._store.load_tests.get(run.record.load_test_id) if run.record.load_test_id else None


def _revision(run: Run) -> ScriptRevision | None:
    known = run.record.script_revision_id
    return run._store.script_revisions.get(known) if known else None


def _sealed(run: Run) -> Seal | None:
    """Give the seal of a run; None if its intervals were deleted before it had one."""
    try:
        return seal(run._store, run.record)
    except NotFound:
        return None
