"""Cards, one-line texts and formats: what they say, and that no name gets out of them."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from loadbench import html
from loadbench import testing as synthetic
from loadbench.analysis.summary import summary
from loadbench.model import (
    Gap,
    LastMetrics,
    LoadTest,
    LoadTestRun,
    RecentRun,
    RunStatus,
    Scope,
    ScriptRevision,
    SourceState,
)

HOSTILE = "<img src=x onerror=alert(1)>"
SCOPE = Scope.parse("acme/shop/checkout", "staging")
START = synthetic.STARTED_AT


def a_running(**changes) -> LoadTestRun:
    fields = {
        "id": "run-5d1c0e9f2a7b4c38",
        "name": "products",
        "target_url": "http://127.0.0.1:8089",
        "target_users": 20,
        "spawn_rate": 5.0,
        "duration_sec": 60,
        "revision_number": 2,
        "status": RunStatus.RUNNING,
        "started_at": START,
        "last_metrics": LastMetrics(
            timestamp=START + 12_000,
            users=20,
            total_rps=143.2,
            errors_per_sec=0.5,
            p50_ms=61.0,
            p95_ms=182.3,
            p99_ms=402.0,
            cum_requests=1500,
            cum_failures=6,
        ),
    }
    return LoadTestRun.build(**dict(SCOPE), **(fields | changes))


def a_finished(**changes) -> LoadTestRun:
    over = {
        "status": RunStatus.FINISHED,
        "stop_reason": "duration",
        "completeness": "complete",
        "finished_at": START + 60_000,
        "last_metrics": a_running().last_metrics.model_copy(update={"timestamp": START + 60_000}),
    }
    return a_running(**(over | changes))


def a_test(**changes) -> LoadTest:
    fields = {
        "name": "products",
        "target_url": "http://127.0.0.1:8089",
        "default_users": 20,
        "default_spawn_rate": 5.0,
        "latest_revision_number": 2,
    }
    return LoadTest.build(**dict(SCOPE), **(fields | changes))


def a_revision(number: int, note: str) -> ScriptRevision:
    script = b"print(1)"
    return ScriptRevision(
        load_test_id="test-1",
        revision_number=number,
        script_content=base64.b64encode(script).decode(),
        sha256=hashlib.sha256(script).hexdigest(),
        description=note,
    )


class Elements(HTMLParser):
    """Collects start tags and text; a card must hold no script, no handler, no image and no address to load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.stack, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text += data


def checked(card: str) -> str:
    """Give the visible text of a card that is well formed and inert."""
    found = Elements(card)
    assert not found.stack
    assert not {"script", "img", "link", "iframe", "a", "object"} & set(found.tags)
    assert not [name for name in found.attributes if name.startswith("on") or name in ("src", "href")]
    return " ".join(found.text.split())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param(
            {},
            '<Run run-5d1c… "products" Running 12 s of 60 s, 20 users, 143.2 requests/s, 0.4 % failed, p95 182 ms>',
            id="running",
        ),
        pytest.param(
            {"status": RunStatus.PENDING, "started_at": None, "last_metrics": None},
            '<Run run-5d1c… "products" Pending, planned for 60 s, 20 users>',
            id="pending",
        ),
        pytest.param(
            {"status": RunStatus.STOPPING, "clock_skew_ms": -3210},
            '<Run run-5d1c… "products" Stopping 12 s of 60 s, 20 users, 143.2 requests/s, 0.4 % failed, p95 182 ms, '
            "clocks differ by 3.2 s>",
            id="stopping, skewed",
        ),
        pytest.param(
            {"clock_skew_ms": 2000, "workers_lost": 1},
            '<Run run-5d1c… "products" Running 12 s of 60 s, 20 users, 143.2 requests/s, 0.4 % failed, p95 182 ms, '
            "1 worker lost>",
            id="a worker lost",
        ),
    ],
)
def test_the_line_of_a_run_that_goes_on(changes, line):
    assert html.run_line(a_running(**changes)) == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({}, '"products" Finished after 60 s, 1,500 requests, 25 requests/s, 0.4 % failed>', id="finished"),
        pytest.param(
            {"status": RunStatus.STOPPED, "stop_reason": "user", "finished_at": START + 30_000},
            '"products" Stopped by user after 30 s, 1,500 requests, 25 requests/s, 0.4 % failed>',
            id="stopped",
        ),
        pytest.param(
            {
                "completeness": "gaps",
                "gaps": (Gap(source="m", from_seq=3, to_seq=4, requests=280), Gap(source="m", from_seq=9, to_seq=9)),
                "sources": (SourceState(source="m", last_seq=59, requests=1500, failures=6, dropped=3),),
            },
            '"products" Finished after 60 s, 1,500 requests, 25 requests/s, 0.4 % failed, '
            "3 intervals missing in 2 gaps, 3 intervals dropped by a full spool>",
            id="gaps",
        ),
        pytest.param(
            {"gaps": (Gap(source="m", from_seq=3, to_seq=3, requests=1280),), "completeness": "gaps"},
            '"products" Finished after 60 s, 1,500 requests, 25 requests/s, 0.4 % failed, '
            "1 interval missing in 1 gap, 1,280 requests>",
            id="gap of known size",
        ),
        pytest.param(
            {
                "status": RunStatus.FAILED,
                "stop_reason": "error",
                "started_at": None,
                "finished_at": START,
                "last_metrics": None,
                "error": "Traceback (most recent call last):\n  File 'x.py', line 3\n\x1b[31mNameError\x1b[0m: x",
            },
            '"products" Failed: NameError: x>',
            id="failed",
        ),
        pytest.param(
            {"status": RunStatus.FAILED, "stop_reason": "lost", "completeness": "unknown", "last_metrics": None},
            '"products" Failed (lost), not known whether all intervals arrived>',
            id="lost",
        ),
    ],
)
def test_the_line_of_a_run_that_is_over(changes, line):
    assert html.run_line(a_finished(**changes)) == f"<Run run-5d1c… {line}"


def test_the_lines_of_a_test_and_a_workbench():
    assert html.test_line(a_test()) == '<Test "products" revision 2, 20 users, 60 s, http://127.0.0.1:8089>'
    assert (
        html.workbench_line(SCOPE, "http://127.0.0.1:8765")
        == "<Workbench acme/shop/checkout (staging), receiver http://127.0.0.1:8765>"
    )
    assert html.workbench_line(SCOPE) == "<Workbench acme/shop/checkout (staging), receiver not started>"


@pytest.mark.parametrize("status", list(RunStatus))
def test_the_card_of_every_status_says_what_the_line_says(status):
    over = {"finished_at": START + 12_000, "stop_reason": "user"} if status.is_final else {}
    run = a_running(status=status, **over)
    text = checked(html.run_card(run))
    for part in (status.value, "products", run.id, "1,500", "0.4 %", "revision 2", "2026-03-14T09:26:53Z"):
        assert part in text
    assert ("182 ms" in text) is not status.is_final  # the last interval's p95 is not that of the run


def test_the_card_of_a_run_shows_the_percentiles_of_its_summary():
    made = synthetic.run(seed="card")
    totals = summary(made.run, made.documents).iloc[-1].to_dict()
    text = checked(html.run_card(made.run, totals=totals))
    assert html.show(totals["p99_ms"], "ms") in text
    assert f"{len(made.raw):,}" in text


def test_the_card_of_a_failed_run_shows_its_error_in_lines():
    run = a_finished(
        status=RunStatus.FAILED, stop_reason="error", error=f"\x1b[1mline one\x1b[0m\n\tline {HOSTILE}\x07"
    )
    card = html.run_card(run)
    assert f"<pre>line one\n    line {HOSTILE.replace('<', '&lt;').replace('>', '&gt;')}\\x07</pre>" in card
    checked(card)


def test_the_card_of_a_test_shows_its_newest_revisions_and_recent_runs():
    recent = RecentRun(run_id="run-1", name="nightly", status=RunStatus.FINISHED, created_at=START)
    revisions = [a_revision(number, f"note {number}") for number in range(1, 8)]
    text = checked(html.test_card(a_test(recent_runs=(recent,), tags=("api",)), revisions))
    assert "note 7" in text
    assert "note 2" not in text
    for part in ("nightly", "run-1", "api", "acme/shop/checkout (staging)", "60 s"):
        assert part in text


def test_nothing_gets_out_of_a_card():
    name = f"{HOSTILE}\u202egnp.exe\x9b31m"
    recent = RecentRun(run_id="run-1", name=name, status=RunStatus.FINISHED, created_at=START)
    run = a_running(name=name, target_url=f"http://user:pass@x/{HOSTILE.replace(' ', '/')}", notes=HOSTILE)
    test = a_test(name=name, description=name, tags=(name,), recent_runs=(recent,))
    cards = [
        html.run_card(run),
        html.test_card(test, [a_revision(1, name)]),
        html.workbench_card(SCOPE, "http://127.0.0.1:1", f"mongodb://root:pass@127.0.0.1 {HOSTILE}"),
    ]
    for card in cards:
        text = checked(card)
        assert "onerror" in text
        assert "\u202e" not in text
        assert "\x9b" not in text
        assert "pass@" not in text
    assert "\\u202egnp.exe\\x9b31m" in checked(cards[0])
    assert "\u202e" not in html.run_line(run)
    assert "pass@" not in html.test_line(a_test(target_url="http://user:pass@x/"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.4213, "ms", "0.421 ms"),
        (9.96, "ms", "9.96 ms"),
        (182.3, "ms", "182 ms"),
        (12345.6, "ms", "12,346 ms"),
        (12, "s", "12 s"),
        (4.04, "s", "4.04 s"),
        (119.6, "s", "120 s"),
        (150, "s", "2 min 30 s"),
        (3600, "s", "1 h"),
        (3725, "s", "1 h 2 min 5 s"),
        (0.0123, "/s", "0.012 /s"),
        (143.24, "/s", "143.2 /s"),
        (5.0, "/s", "5 /s"),
        (12345.6, "/s", "12,346 /s"),
        (1234567, "count", "1,234,567"),
        (0.004, "ratio", "0.4 %"),
        (0.0, "ratio", "0 %"),
        (0.00001, "ratio", "<0.01 %"),
        (0.00997, "ratio", "1.0 %"),
        (0.0099, "ratio", "0.99 %"),
        (0.125, "ratio", "12.5 %"),
        (0.99999, "ratio", ">99.99 %"),
        (1.0, "ratio", "100 %"),
        (999, "bytes", "999 B"),
        (50_700_000, "bytes", "50.7 MB"),
        (106_000_000, "bytes", "106 MB"),
        (START, "time", "2026-03-14T09:26:53Z"),
        (pd.Timestamp(START, unit="ms", tz="Europe/Berlin"), "time", "2026-03-14T09:26:53Z"),
        (float("nan"), "ms", "–"),
        (np.float64("nan"), "/s", "–"),
        (None, "count", "–"),
        (pd.NaT, "time", "–"),
        (pd.NA, "bytes", "–"),
        ("a\x1b[31mb", "", "a\\x1b[31mb"),
    ],
)
def test_values_are_written_with_their_unit(value, unit, text):
    assert html.show(value, unit) == text


def test_every_unit_of_the_columns_has_a_format():
    from loadbench.analysis.columns import COLUMNS

    assert {column.unit for column in COLUMNS.values()} <= set(html.FORMATS)
