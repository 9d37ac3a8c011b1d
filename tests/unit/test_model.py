"""The records: strictness, names outside, scope and durations; and what a message must satisfy to be accepted."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from pydantic import ValidationError

from loadbench.agent.histogram import pack
from loadbench.errors import InvalidInput
from loadbench.messages import IntervalPush, TestStop
from loadbench.model import (
    RECENT_RUNS,
    TRANSITIONS,
    Endpoint,
    Gap,
    Interval,
    LastMetrics,
    LoadTest,
    LoadTestRun,
    RecentRun,
    Record,
    RunEnvironment,
    RunProcess,
    RunStatus,
    Scope,
    ScriptRevision,
    SourceState,
    duration_sec,
    new_id,
)
from loadbench.model.fields import PATTERNS
from tests import builders
from tests.builders import START_MS, a_run, a_test, an_interval, an_interval_push

SCRIPT = b"from locust import HttpUser\n"
INT64 = CodecOptions(tz_aware=True)


def a_revision(**changes: Any) -> ScriptRevision:
    fields: dict[str, Any] = {
        "load_test_id": "test-1",
        "revision_number": 1,
        "script_content": base64.b64encode(SCRIPT).decode(),
        "sha256": hashlib.sha256(SCRIPT).hexdigest(),
    }
    return ScriptRevision(**(fields | changes))


def a_full_run() -> LoadTestRun:
    metrics = LastMetrics(timestamp=START_MS, users=2, total_rps=4.0, errors_per_sec=1.0, p50_ms=20.0, cum_requests=4,
                          cum_failures=1)  # fmt: skip
    return a_run(
        status=RunStatus.STOPPED,
        stop_reason="user",
        completeness="gaps",
        gaps=(Gap(source="m", from_seq=2, to_seq=3, requests=8),),
        started_at=START_MS,
        finished_at=START_MS + 60_000,
        last_metrics=metrics,
        endpoints=builders.ENDPOINTS,
        sources=(SourceState(source="m", last_seq=9, requests=40, failures=10),),
        environment=RunEnvironment(locust="2.47.0", python="3.11.7", host="here", workers=2, script_sha256="0" * 64),
        process=RunProcess(host="here", pid=1, create_time=1.5, directory="/runs/run-1"),
        metadata={"commit": "abc", "n": 3, "ok": True},
    )


RECORDS = [
    pytest.param(a_test(tags=("a", "b"), metadata={"team": "x", "share": 0.5}), id="test"),
    pytest.param(
        a_test(recent_runs=(RecentRun(run_id="run-1", name="n", status=RunStatus.RUNNING, created_at=START_MS),)),
        id="test-with-runs",
    ),
    pytest.param(a_revision(), id="revision"),
    pytest.param(a_run(), id="run"),
    pytest.param(a_full_run(), id="run-with-everything"),
    pytest.param(an_interval(), id="interval"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_comes_back_from_bson_as_it_went(record: Record) -> None:
    document = bson.decode(bson.encode(record.to_mongo()), INT64)
    assert type(record).from_mongo(document) == record
    assert document["_id"] == record.id
    assert "id" not in document
    assert not [name for name in document if name != "_id" and "_" in name]
    assert None not in document.values()


@pytest.mark.parametrize("record", RECORDS[:-1])
def test_a_record_comes_back_from_json_as_it_went(record: Record) -> None:
    assert type(record).model_validate_json(record.model_dump_json(by_alias=True)) == record


def test_the_names_outside_are_those_of_the_design() -> None:
    assert {"accountId", "envId", "targetUrl", "latestRevisionNumber", "defaultDurationSec", "recentRuns"} <= set(
        LoadTest.model_json_schema(by_alias=True)["properties"]
    )
    assert {"totalRps", "p50Ms", "p95Ms", "p99Ms", "cumRequests", "bodySha256"} <= set(an_interval().to_mongo())
    assert "p50Ms" in a_full_run().to_mongo()["lastMetrics"]


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_test().name = "other"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"default_users": True}, "defaultUsers", id="bool-for-int"),
        pytest.param({"default_users": "5"}, "defaultUsers", id="text-for-int"),
        pytest.param({"default_users": 5.0}, "defaultUsers", id="float-for-int"),
        pytest.param({"default_users": 0}, "defaultUsers", id="no-users"),
        pytest.param({"default_users": 2**63}, "defaultUsers", id="beyond-int64"),
        pytest.param({"default_spawn_rate": 0}, "defaultSpawnRate", id="no-spawn-rate"),
        pytest.param({"default_spawn_rate": math.nan}, "defaultSpawnRate", id="nan"),
        pytest.param({"default_spawn_rate": math.inf}, "defaultSpawnRate", id="infinite"),
        pytest.param({"target_url": "127.0.0.1:8000"}, "targetUrl", id="url-without-scheme"),
        pytest.param({"target_url": "ftp://a"}, "targetUrl", id="url-of-another-scheme"),
        pytest.param({"name": ""}, "name", id="no-name"),
        pytest.param({"name": "a\x00b"}, "name", id="nul-in-a-name"),
        pytest.param({"name": "x" * 257}, "name", id="long-name"),
        pytest.param({"name": "\ud800"}, "name", id="lone-surrogate"),
        pytest.param({"created_at": 1_795_000_000}, "createdAt", id="seconds-for-ms"),
        pytest.param({"created_at": 253_370_764_800_000}, "createdAt", id="year-9999"),
        pytest.param({"project_id": "a/b"}, "projectId", id="slash-in-scope"),
        pytest.param({"id": "../x"}, "id", id="path-for-an-id"),
        pytest.param({"colour": "red"}, "colour", id="unknown-field"),
        pytest.param({"default_duration_sec": 7200}, None, id="duration-over-the-maximum"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        a_test(**changes)
    assert caught.value.field in (field, field and next(iter(changes)))
    assert "\n" not in str(caught.value)


def test_seconds_are_recognised_as_such() -> None:
    with pytest.raises(InvalidInput, match="looks like seconds"):
        a_test(created_at=1_795_000_000)


def test_recent_runs_are_ten_at_most() -> None:
    entries = tuple(
        RecentRun(run_id=f"run-{n}", name="n", status=RunStatus.PENDING, created_at=START_MS) for n in range(11)
    )
    assert len(a_test(recent_runs=entries[:RECENT_RUNS]).recent_runs) == 10
    with pytest.raises(InvalidInput, match="10"):
        a_test(recent_runs=entries)


def test_a_revision_is_its_script_byte_for_byte() -> None:
    assert a_revision().script == SCRIPT
    with pytest.raises(ValidationError, match="sha256"):
        a_revision(sha256="0" * 64)
    with pytest.raises(ValidationError, match="base64"):
        a_revision(script_content="not base64!")


class TestScope:
    def test_reads_account_organisation_project(self) -> None:
        scope = Scope.parse("acme/shop/checkout", env="staging")
        assert scope == builders.SCOPE
        assert str(scope) == "acme/shop/checkout (staging)"
        assert str(Scope.parse("a/b/c")) == "a/b/c"
        assert a_test().scope == scope

    @pytest.mark.parametrize("text", ["", "acme", "acme/shop", "a/b/c/d", "a//c", "a/b/ c", "a/b/$where", "../b/c"])
    def test_refuses_anything_else(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            Scope.parse(text)


@pytest.mark.parametrize(
    ("value", "seconds"), [(90, 90), (90.0, 90), ("90", 90), ("90s", 90), ("1m30s", 90), ("2h", 7200), (" 1m ", 60)]
)
def test_durations(value: str | float, seconds: int) -> None:
    assert duration_sec(value) == seconds


@pytest.mark.parametrize("value", [0, -1, 0.5, True, "", "m", "1d", "1.5m", "30s1m", "-5s", "0s"])
def test_what_is_no_duration(value: str | float) -> None:
    with pytest.raises(InvalidInput, match="duration must be"):
        duration_sec(value)


def test_no_state_is_left_out_of_the_transitions_and_final_ones_are_final() -> None:
    assert set(TRANSITIONS) == set(RunStatus)
    assert [status for status in RunStatus if status.is_final and TRANSITIONS[status]] == [RunStatus.FAILED]


def test_ids_differ_and_carry_no_separator() -> None:
    ids = {new_id("run") for _ in range(100)}
    assert len(ids) == 100
    assert not [one for one in ids if ":" in one]
    assert Interval.key("run-1", "m", 3) == "run-1:m:3"


def body(**changes: Any) -> dict[str, Any]:
    return json.loads(an_interval_push().model_dump_json(by_alias=True)) | changes


def accepted(document: dict[str, Any]) -> IntervalPush:
    return IntervalPush.model_validate_json(json.dumps(document))


def packed(*histograms: dict[int, int]) -> str:
    return base64.b64encode(pack(histograms)).decode()


def test_an_interval_push_comes_back_from_json_as_it_went() -> None:
    assert accepted(body()) == an_interval_push()


BIG = "1" + "0" * 4999


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="B1-empty"),
        pytest.param(b"null", id="B1-null"),
        pytest.param(b"[]", id="B1-list"),
        pytest.param(json.dumps(body()).encode()[:-1], id="B2-cut"),
        pytest.param(json.dumps(body()).encode() + b" x", id="B2-trailing-text"),
        pytest.param(json.dumps(body()).replace('"', "'").encode(), id="B2-single-quotes"),
        pytest.param(json.dumps(body()).encode("utf-16"), id="B3-utf-16"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(body()).encode(), id="B3-byte-order-mark"),
        pytest.param(json.dumps(body()).encode().replace(b"500 Int", b"\xff00 Int"), id="B4-invalid-utf-8"),
        pytest.param(json.dumps(body(cpuPercent=math.nan)).encode(), id="B5-nan"),
        pytest.param(json.dumps(body(durationMs=math.inf)).encode(), id="B5-infinity"),
        pytest.param(json.dumps(body()).replace("60.0", "1e999").encode(), id="B6-1e999"),
        pytest.param(json.dumps(body(cumRequests=2**63)).encode(), id="B7-2-to-the-63"),
        pytest.param(json.dumps(body()).replace('"cumRequests": 4', f'"cumRequests": {BIG}').encode(), id="B8-huge"),
        pytest.param(json.dumps(body()).replace("500 Internal", "\\ud800").encode(), id="B13-lone-surrogate"),
        pytest.param(b"[" * 100_000, id="B16-deep"),
    ],
)
def test_what_is_no_acceptable_json(raw: bytes) -> None:
    assert raw != json.dumps(body()).encode()
    with pytest.raises(ValidationError):
        IntervalPush.model_validate_json(raw)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"n": [-3, 1]}, "greater than or equal to 0", id="B9-negative-count"),
        pytest.param({"failures": [4, 1]}, "failures must not exceed n", id="B9-more-failures-than-requests"),
        pytest.param({"n": [2, 1]}, "the buckets of row 0 hold 3", id="B9-fewer-than-in-the-buckets"),
        pytest.param({"n": [4, 1]}, "the buckets of row 0 hold 3", id="B9-more-than-in-the-buckets"),
        pytest.param({"untimed": [1, 0]}, "less untimed", id="B9-untimed-that-are-timed"),
        pytest.param({"sumMs": [-1.0, 0.0]}, "greater than or equal to 0", id="B9-negative-time"),
        pytest.param({"cumRequests": 3}, "cumRequests", id="B9-total-below-the-interval"),
        pytest.param({"cumFailures": 0}, "cumFailures", id="B9-failed-total-below-the-interval"),
        pytest.param({"n": [3]}, "one value for each of the 2", id="B9-a-row-short"),
        pytest.param({"endpoints": [{"method": "GET", "name": "/"}] * 2}, "repeat", id="B9-endpoint-twice"),
        pytest.param({"histograms": packed({1: 3}, {})}, "must hold 4", id="B9-histograms-short"),
        pytest.param({"histograms": "AQ=="}, "shorter", id="B9-histograms-cut"),
        pytest.param({"histograms": "???"}, "base64", id="B9-histograms-no-base64"),
        pytest.param({"errors": [[2, "x", 1]]}, "errors must name a row", id="B9-error-of-no-row"),
        pytest.param({"seq": True}, "valid integer", id="B10-bool-for-int"),
        pytest.param({"seq": "5"}, "valid integer", id="B10-text-for-int"),
        pytest.param({"seq": 5.0}, "valid integer", id="B10-float-for-int"),
        pytest.param({"final": 1}, "valid boolean", id="B10-int-for-bool"),
        pytest.param({"$where": "1"}, "not permitted", id="B15-operator"),
        pytest.param({"a.b": 1}, "not permitted", id="B15-dotted"),
        pytest.param({"": 1}, "not permitted", id="B15-empty-key"),
        pytest.param({"colour": 1}, "not permitted", id="B11-unknown-field"),
        pytest.param({"endpoints": [{"method": "GET", "name": "/", "x": 1}] * 2}, "not permitted", id="B11-nested"),
        pytest.param(
            {"endpoints": [{"method": "GET", "name": "a\x00"}, {"method": "GET", "name": "b"}]}, "control", id="B14-nul"
        ),
        pytest.param(
            {"endpoints": [{"method": "GET", "name": "x" * 257}, {"method": "GET", "name": "b"}]}, "256", id="B17-name"
        ),
        pytest.param({"seq": -1}, "greater than or equal to 0", id="B28-negative-seq"),
        pytest.param({"timestamp": 1_795_000_001}, "looks like seconds", id="B31-seconds"),
        pytest.param({"timestamp": 0}, "greater than or equal to 1", id="B31-1970"),
        pytest.param({"timestamp": 253_370_764_800_000}, "plausible", id="B31-year-9999"),
        pytest.param({"durationMs": 0}, "greater than 0", id="no-duration"),
        pytest.param({"version": 2}, "should be 1: the agent", id="version-from-the-future"),
        pytest.param({"runId": "../x"}, "pattern", id="B30-path-for-an-id"),
    ],
)
def test_what_an_interval_may_not_say(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        accepted(body(**changes))


def test_more_rows_than_allowed_are_refused() -> None:
    names = [{"method": "GET", "name": str(n)} for n in range(2001)]
    with pytest.raises(ValidationError, match="at most 2000"):
        accepted(body(endpoints=names))


def test_markup_in_a_name_is_data() -> None:
    name = "<img src=x onerror=alert(1)>"
    push = accepted(body(endpoints=[{"method": "GET", "name": name}, {"method": "GET", "name": "/"}]))
    assert push.endpoints[0] == Endpoint(method="GET", name=name)


@pytest.mark.parametrize(
    ("changes", "final"),
    [
        pytest.param({}, {"final": False}, id="final-not-marked"),
        pytest.param({"last_seq": 8}, {}, id="another-last-seq"),
        pytest.param({"run_id": "run-2"}, {}, id="another-run"),
        pytest.param({"source": "other"}, {}, id="another-source"),
        pytest.param({"reason": "lost"}, {}, id="reason-that-an-agent-cannot-know"),
    ],
)
def test_a_stop_agrees_with_its_final_interval(changes: dict[str, Any], final: dict[str, Any]) -> None:
    def stop(changes: dict[str, Any], final: dict[str, Any]) -> TestStop:
        last = an_interval_push(seq=9, **({"final": True} | final))
        fields = {"version": 1, "run_id": "run-1", "source": builders.SOURCE, "timestamp": START_MS, "final": last}
        return TestStop(**(fields | {"reason": "duration", "auto_stopped": True, "last_seq": 9} | changes))

    assert stop({}, {}).final.seq == 9
    with pytest.raises(ValidationError):
        stop(changes, final)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"target_url": "shop"}, "target_url must be a URL such as http://127.0.0.1:8000; not 'shop'"),
        ({"name": ""}, "name should have at least 1 character; not ''"),
        ({"org_id": "a b"}, "org_id must be 1 to 64 letters, digits, _, . or -, and begin with a letter or a digit"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_in_words(fields, expected):
    given = {"name": "products", "target_url": "http://127.0.0.1:1", **Scope.parse("acme/shop/checkout").model_dump()}
    with pytest.raises(InvalidInput) as error:
        LoadTest.build(**given | fields)
    assert str(error.value).startswith(expected)


def test_every_pattern_is_put_in_words():
    """A pattern without words would break the very message that it is for."""
    records = [Record]
    for record in records:
        records += record.__subclasses__()
    schemas = json.dumps([record.model_json_schema() for record in records])
    used = {json.loads(found) for found in re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', schemas)}
    assert len(used) > 5
    assert used <= PATTERNS.keys()
