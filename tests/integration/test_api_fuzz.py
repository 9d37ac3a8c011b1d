"""Requests that nobody would think of, made from the API's own description: no 5xx, nothing that is not described."""

from __future__ import annotations

import base64
import binascii
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from loadbench.control import ControlPlane
from loadbench.model import RunStatus, Schedule, Scope
from loadbench.store import Store
from server.app import ROUTES, Receiver
from tests.builders import ENDPOINTS, a_run, a_test, an_interval
from tests.rest_client import a_token, encoded

pytestmark = pytest.mark.integration

CASES = int(os.environ.get("FUZZ_CASES", "15"))
"""For each operation and kind of data, valid and broken."""
LONG_CASES = int(os.environ.get("FUZZ_LONG_CASES", "30"))
"""The same in the long test; some operations know fewer different requests."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LONGEST_QUERY = 20_000
"""Tornado closes a connection on a head of more than 32 KB, before anything of ours is asked."""
NOBODY = "http://127.0.0.1:1"
OPERATIONS = [(template, method) for template, handler in ROUTES for method in handler.operations]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def server(mongod) -> Iterator[tuple[Receiver, Store]]:
    uri = mongod.find_or_start().replace("/loadbench?", "/test_api_fuzz?")
    with Store.open(uri) as store:
        receiver = Receiver(store)
        receiver = Receiver(store, control=ControlPlane(store, receiver_url=lambda: receiver.url))
        with receiver:
            yield receiver, store
        store.database.client.drop_database(store.database.name)


@pytest.fixture(scope="module")
def schema(server) -> Any:
    return schemathesis.openapi.from_url(f"{server[0].url}/openapi.json")


@pytest.fixture
def ids(server) -> dict[str, str]:
    return stored(server[1])


def stored(store: Store) -> dict[str, str]:
    """Begin anew with a test with two revisions, and a run of it that is over and has an interval; give their ids."""
    for collection in ("load_tests", "script_revisions", "load_test_runs", "metrics_timeseries", "schedules"):
        store.database[collection].delete_many({})
    test = store.load_tests.add(a_test(target_url=NOBODY))
    revisions = [store.script_revisions.add(test.id, script) for script in (b"first", b"second")]
    run = store.runs.add(a_run(test))
    store.runs.endpoint_indices(run.id, ENDPOINTS)
    store.ledger.append(an_interval(run.id))
    store.runs.move(run.id, RunStatus.RUNNING)
    store.runs.move(run.id, RunStatus.FINISHED)
    schedule = Schedule.build(
        **dict(test.scope), name="nightly", load_test_id=test.id, cron="0 2 * * *", reports=("trend",)
    )
    store.schedules.add(schedule)
    return {"testId": test.id, "runId": run.id, "revision": revisions[0].id} | {"scheduleId": schedule.id}


def made_harmless(body: Any) -> Any:
    """Point what would be a target at a port where nobody listens, and keep Locust from loading a random script."""
    if isinstance(body, dict):
        body = dict(body)
        if str(body.get("targetUrl", "")).startswith("http"):
            body["targetUrl"] = NOBODY
        if is_base64(body.get("scriptContent")):
            body["scriptContent"] = encoded(b"def")
    return body


def is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


@pytest.mark.parametrize("mode", MODES, ids=["valid", "broken"])
@pytest.mark.parametrize(("template", "method"), OPERATIONS, ids=[f"{m} {t}" for t, m in OPERATIONS])
def test_every_answer_is_described(server, schema, ids, template, method, mode):
    receiver, store = server
    assert statuses(schema[template][method], ids, mode, token=a_token(store, "admin", scope=None), cases=CASES)
    assert requests.get(f"{receiver.url}/healthz", timeout=5).status_code == 200


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_answer_to_2000_requests_is_described(server, schema, record_property):
    """Of an admin of everything, and some of one who may do little, of one of another project, and of nobody."""
    receiver, store = server
    admin = a_token(store, "admin", scope=None)
    others = [a_token(store, "viewer"), a_token(store, "admin", scope=Scope.parse("acme/shop/payment")), "unknown"]
    counted: Counter[int] = Counter()
    for template, method in OPERATIONS:
        for mode in MODES:
            for token, cases in ((admin, LONG_CASES), *((other, LONG_CASES // 10) for other in others)):
                asked = schema[template][method]
                counted.update(statuses(asked, stored(store), mode, token=token, cases=cases))
    print(f"{counted.total()} requests to {len(OPERATIONS)} operations: {dict(sorted(counted.items()))}")  # noqa: T201
    record_property("requests", counted.total())
    assert counted.total() >= 2000
    assert {200, 201, 400, 401, 403, 404} <= set(counted), "they reach further than the first check"
    assert max(counted) < 500
    assert requests.get(f"{receiver.url}/healthz", timeout=5).status_code == 200


class Bearer(requests.auth.AuthBase):
    """Puts the token in at last: left to itself, schemathesis sends most broken requests without a good one."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def statuses(operation: Any, ids: dict[str, str], mode: Any, *, token: str, cases: int) -> list[int]:
    """Ask an operation so many times, check each answer, and give their statuses."""
    answers: list[int] = []
    session = requests.Session()
    session.trust_env = False
    session.auth = Bearer(token)

    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case, known):
        if known:
            case.path_parameters = {name: ids[name] for name in case.path_parameters or {}}
        case.body = made_harmless(case.body)
        assume(len(urlencode(case.query or {}, doseq=True)) < LONGEST_QUERY)
        answer = case.call(session=session, timeout=20)
        case.validate_response(answer, checks=CHECKS)
        answers.append(answer.status_code)

    with session:
        ask()
    return answers
