"""Who may do what: every route and method, for every caller, in the own project and in a foreign one.

The matrix is made of the API's description: a new route or method is in it by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from loadbench.agent import wire
from loadbench.control import ControlPlane
from loadbench.model import ROLES, LoadTestRun, RunStatus, Schedule, Scope, now_ms
from loadbench.store import Store
from server.app import ROUTES, Receiver
from server.openapi import document
from server.operation import parameters
from tests.builders import SCOPE, a_run, a_test
from tests.rest_client import Client, a_definition, a_token, encoded
from tests.stored import contents

pytestmark = pytest.mark.integration

FOREIGN = Scope(account_id="acme", org_id="shop", project_id="payment")
UNKNOWN = {"testId": "test-0000000000000000", "runId": "run-0000000000000000", "revision": "1"}
UNKNOWN["scheduleId"] = "sched-0000000000000000"
SCHEDULE = "sched-0123456789abcdef"
BODIES = {
    "NewLoadTest": a_definition(name="another"),
    "LoadTestChange": a_definition(name="renamed"),
    "NewRevision": {"scriptContent": encoded()},
    "NewRun": {"targetUrl": "http://127.0.0.1:9"},
    "NewExternalRun": {"name": "by hand", "targetUrl": "http://127.0.0.1:9"},
    "BaselineRuns": {"runIds": ["run-0000000000000000"]},
    "RunChange": {"notes": "seen"},
    "NewSchedule": {"name": "nightly", "loadTestId": "test-0000000000000000", "cron": "0 2 * * *", "run": {}},
    "ScheduleChange": {"enabled": False},
}
PATHS: dict[str, dict[str, Any]] = document(ROUTES)["paths"]
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
OPERATIONS = [
    pytest.param(path, method, item[method.lower()], id=f"{method} {path}")
    for path, item in PATHS.items()
    for method in METHODS
    if method.lower() in item
]
REFUSED = ("nobody", "a run's push token", "revoked", "expired")
FOREIGNERS = (*(f"foreign {role}" for role in ROLES), "admin of another organisation", "admin of another account")
INTERNAL = [wire.ROUTE_PREFIX + verb for verb in (wire.TEST_START, wire.METRICS, wire.TEST_STOP, wire.HEARTBEAT)]


@pytest.fixture(scope="module")
def server(mongod) -> Iterator[tuple[Receiver, Store]]:
    """One server for the whole walk: what a request changes, the next one does not depend on."""
    uri = mongod.find_or_start().replace("/loadbench?", "/test_api_access?")
    with Store.open(uri) as store:
        receiver = Receiver(store)
        receiver = Receiver(store, control=ControlPlane(store, receiver_url=lambda: receiver.url))
        with receiver:
            yield receiver, store
        store.database.client.drop_database(store.database.name)


@pytest.fixture(scope="module")
def tokens(server) -> dict[str, str | None]:
    """What each caller sends: by role in the own project, by name elsewhere."""
    _, store = server
    revoked = a_token(store, name="revoked")
    [record] = store.tokens.all_api()
    store.tokens.revoke_api(record.id)
    return {
        "nobody": None,
        "a run's push token": store.tokens.create_push(store.runs.add(a_run()).id),
        "revoked": revoked,
        "expired": a_token(store, expires_at=now_ms() - 1),
        **{role: a_token(store, role) for role in ROLES},
        **{f"foreign {role}": a_token(store, role, scope=FOREIGN) for role in ROLES},
        "admin of another organisation": a_token(store, scope=None, account_id="acme", org_id="others"),
        "admin of another account": a_token(store, scope=None, account_id="others"),
    }


@pytest.fixture
def run(server) -> Iterator[LoadTestRun]:
    """A run that is over, of a test with a script, in the own project."""
    _, store = server
    test = store.load_tests.add(a_test(name="walked"))
    store.script_revisions.add(test.id, b"pass", by="walker")
    run = store.runs.add(a_run(test, started_at=now_ms()))
    store.runs.move(run.id, RunStatus.RUNNING)
    store.runs.move(run.id, RunStatus.FINISHED)
    scope = dict(test.scope)
    store.schedules.add(
        Schedule.build(**scope, id=SCHEDULE, name="walked", load_test_id=test.id, cron="0 2 * * *", reports=("trend",))
    )
    yield run
    for collection in ("load_tests", "script_revisions", "load_test_runs", "schedules"):
        store.database[collection].delete_many({})


NAMED_IN_QUERY = ("/v1/compare",)


def ask(server, method: str, path: str, token: str | None, ids: dict[str, str]) -> requests.Response:
    described = PATHS[path].get(method.lower(), {})
    url = path
    for name in parameters(path):
        url = url.replace(f"{{{name}}}", ids[name])
    body = described.get("requestBody")
    model = body and body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    headers = {p["name"]: "*" for p in described.get("parameters", ()) if p["name"] == "If-Match"}
    query = {"runs": ids["runId"]} if path in NAMED_IN_QUERY else {}
    return Client(server[0].url, token).send(method, url, json=BODIES.get(model, {}), headers=headers, params=query)


def of(run: LoadTestRun) -> dict[str, str]:
    return {"testId": run.load_test_id, "runId": run.id, "revision": "1", "scheduleId": SCHEDULE}


def role_of(described: dict[str, Any]) -> int:
    return ROLES.index(re.search(r"Needs the role (\w+)\.$", described["description"])[1])


@pytest.mark.parametrize(("path", "method", "described"), OPERATIONS)
class TestEveryOperation:
    def test_is_only_for_who_may(self, server, tokens, run, path, method, described):
        _, store = server
        for caller in (*REFUSED, *ROLES):
            before, answer = contents(store), ask(server, method, path, tokens[caller], of(run))
            status = answer.status_code
            assert str(status) in described["responses"], caller
            if caller in REFUSED:
                assert (status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), caller
            elif ROLES.index(caller) < role_of(described):
                assert status == 403, caller
                assert ROLES[role_of(described)] in answer.json()["detail"]
            else:
                assert status not in (401, 403, 421, 429, 503), caller
            if status in (401, 403):
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert contents(store) == before, caller

    def test_tells_a_foreigner_nothing(self, server, tokens, run, path, method, described):
        _, store = server
        names_a_record = parameters(path) or path in NAMED_IN_QUERY
        for caller in FOREIGNERS:
            everything, own = contents(store), snapshot(store, run)
            foreign = ask(server, method, path, tokens[caller], of(run))
            unknown = ask(server, method, path, tokens[caller], UNKNOWN)
            assert str(foreign.status_code) in described["responses"], caller
            assert snapshot(store, run) == own, caller
            assert not any(known in foreign.text for known in (run.id, run.load_test_id, SCHEDULE)), caller
            if names_a_record:
                may = ROLES.index(caller.split()[-1] if "foreign" in caller else "admin") >= role_of(described)
                assert foreign.status_code == (404 if may else 403), caller
                assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content), caller
                assert heads(foreign) == heads(unknown), caller
                assert contents(store) == everything, caller
            elif method == "GET":
                shared = ["local"] if path == "/v1/clusters" else []
                assert [item["id"] for item in foreign.json()["items"]] == shared, caller


@pytest.mark.parametrize("path", PATHS)
def test_a_method_that_is_not_described_is_405_for_everybody(server, tokens, run, path):
    _, store = server
    before = contents(store)
    allowed = {method for method in METHODS if method.lower() in PATHS[path]}
    for method in set(METHODS) - allowed:
        for caller, token in tokens.items():
            answer = ask(server, method, path, token, of(run))
            assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, allowed), (method, caller)
            assert run.id not in answer.text
    assert contents(store) == before


@pytest.mark.parametrize("path", INTERNAL)
def test_pushes_are_for_push_tokens_only(server, tokens, run, path):
    _, store = server
    before = contents(store)
    for caller, token in tokens.items():
        if caller != "a run's push token":
            answer = Client(server[0].url, token).send("POST", path, json={"runId": run.id})
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), caller
    assert contents(store) == before


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml", "/docs"])
def test_what_needs_no_token_tells_of_no_record(server, run, path):
    answer = Client(server[0].url, None).get(path)
    assert answer.status_code == 200
    told = (run.id, run.load_test_id, run.name, SCHEDULE, *dict(run.scope).values())
    assert not [text for text in told if text in answer.text]


def in_a_body(make: Callable[[str], Any], method: str, path: str):
    return pytest.param(lambda client, ids, known: client.send(method, path.format(**ids), json=make(known)), id=path)


def in_the_query(name: str, path: str, **more: str):
    def send(client, ids, known):
        return client.get(path.format(**ids), **{name: known}, **more)

    return pytest.param(send, id=f"{path}?{name}")


@pytest.mark.parametrize(
    "send",
    [
        in_a_body(lambda known: {"name": "n", "loadTestId": known, "cron": "0 2 * * *"}, "POST", "/v1/schedules"),
        in_a_body(lambda known: {"loadTestId": known}, "POST", "/v1/runs/external"),
        in_a_body(lambda known: {"runIds": [known]}, "PUT", "/v1/load-tests/{testId}/baseline"),
        pytest.param(
            lambda client, ids, known: client.get(f"/v1/load-tests/{ids['testId']}/script/revisions/{known}"),
            id="/v1/load-tests/{testId}/script/revisions/{revision}",
        ),
        in_the_query("runs", "/v1/compare"),
        in_the_query("reference", "/v1/compare", runs="run-0000000000000000"),
        in_the_query("baseline", "/v1/compare", runs="run-0000000000000000"),
        in_the_query("loadTestId", "/v1/runs"),
        in_the_query("loadTestId", "/v1/schedules"),
        in_the_query("against", "/v1/load-tests/{testId}/script/revisions/1"),
    ],
)
def test_an_id_of_another_project_inside_a_request_is_like_an_unknown_one(server, tokens, run, send):
    _, store = server
    mine = store.load_tests.add(a_test(name="mine", **{"project_id": FOREIGN.project_id}))
    store.script_revisions.add(mine.id, b"pass", by="walker")
    client, before = Client(server[0].url, tokens["foreign admin"]), contents(store)
    for known in (run.id, run.load_test_id, store.script_revisions.latest(run.load_test_id).id):
        unknown = re.sub(r"-.*", "-0000000000000000", known)
        answers = [send(client, {"testId": mine.id}, one) for one in (known, unknown)]
        assert {answer.status_code for answer in answers} <= {200, 400, 404}
        told = [
            (answer.status_code, answer.text.replace(one, ""))
            for answer, one in zip(answers, (known, unknown), strict=True)
        ]
        assert told[0] == told[1]
        assert answers[0].status_code != 200 or answers[0].json()["items"] == []
    assert contents(store) == before


def heads(answer: requests.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "Date"}


def snapshot(store: Store, run: LoadTestRun) -> str:
    """The own project's records, to see that nothing of them was changed."""
    test = store.load_tests.get(run.load_test_id)
    revisions = [revision.sha256 for revision in store.script_revisions.all(test.id)]
    schedule = store.schedules.get(SCHEDULE)
    return json.dumps([test.to_mongo(), store.runs.get(run.id).to_mongo(), revisions, schedule.to_mongo()], default=str)


BAD_TOKENS = [
    pytest.param({}, id="none"),
    pytest.param({"Authorization": "Bearer lba_wrong"}, id="unknown"),
    pytest.param({"Authorization": "Bearer " + "x" * 10_000}, id="10 KB"),
    pytest.param({"Authorization": "Bearer"}, id="empty"),
    pytest.param({"Authorization": "Basic YTpi"}, id="basic"),
    pytest.param({"Authorization": "Bearer tok\xe9n".encode("latin-1").decode("latin-1")}, id="not ASCII"),
]


@pytest.mark.parametrize("headers", BAD_TOKENS)
def test_a_bad_token_is_401(server, headers):
    answer = Client(server[0].url, None).send("GET", "/v1/runs", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "unauthorized"


def test_an_expired_a_revoked_and_a_push_token_are_401(server, run):
    receiver, store = server
    expired = a_token(store, expires_at=now_ms() - 1)
    revoked = a_token(store, name="revoked soon")
    client = Client(receiver.url, revoked)
    assert client.get("/v1/runs").status_code == 200
    [record] = [token for token in store.tokens.all_api() if token.name == "revoked soon"]
    store.tokens.revoke_api(record.id)
    assert client.get("/v1/runs").status_code == 401, "at once, not when a cache runs out"
    assert Client(receiver.url, expired).get("/v1/runs").status_code == 401
    push = store.tokens.create_push(run.id)
    assert Client(receiver.url, push).get("/v1/runs").status_code == 401


def test_only_the_hash_of_a_token_is_stored(server, tokens):
    _, store = server
    stored = json.dumps(list(store.database["tokens"].find()), default=str)
    assert not any(secret in stored for secret in tokens.values() if secret)


def test_the_scope_of_a_new_test_is_the_tokens(server, tokens, run):
    receiver, store = server
    client = Client(receiver.url, tokens["runner"])
    made = client.post("/v1/load-tests", a_definition(envId="prod")).json()
    assert {made[f"{part}Id"] for part in ("account", "org", "project", "env")} == {"acme", "shop", "checkout", "prod"}
    refused = client.post("/v1/load-tests", a_definition(projectId="payment"))
    assert (refused.status_code, refused.json()["field"]) == (403, "projectId")
    wide = Client(receiver.url, a_token(store, "runner", scope=None, account_id="acme"))
    missing = wide.post("/v1/load-tests", a_definition(orgId="shop"))
    assert (missing.status_code, missing.json()["field"]) == (400, "projectId")
    elsewhere = wide.post("/v1/load-tests", a_definition(orgId="shop", projectId="payment"))
    assert (elsewhere.status_code, elsewhere.json()["projectId"]) == (201, "payment")


def test_a_wide_token_sees_below_it_and_not_beside_it(server, run):
    receiver, store = server
    account = Client(receiver.url, a_token(store, "viewer", scope=None, account_id=SCOPE.account_id))
    beside = Client(receiver.url, a_token(store, "viewer", scope=None, account_id="other"))
    everything = Client(receiver.url, a_token(store, "viewer", scope=None))
    assert [client.get(f"/v1/runs/{run.id}").status_code for client in (account, beside, everything)] == [200, 404, 200]
    assert [len(client.get("/v1/runs").json()["items"]) for client in (account, beside, everything)] == [1, 0, 1]
    assert beside.get("/v1/runs", accountId=SCOPE.account_id).json()["items"] == []


def test_clusters_are_listed_as_far_as_they_serve_the_token(store):
    clusters = [
        {"id": "everybodys", "base_url": "http://127.0.0.1:8090", "token_env": "SOME_SECRET"},
        {"id": "ours", "base_url": "http://127.0.0.1:8091", "account_id": "acme", "org_id": "shop"},
        {"id": "theirs", "base_url": "http://127.0.0.1:8092", "account_id": "other"},
    ]
    control = ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9", clusters=clusters)
    with Receiver(store, control=control) as receiver:
        answer = Client(receiver.url, a_token(store, "viewer")).get("/v1/clusters")
        everything = Client(receiver.url, a_token(store, "viewer", scope=None)).get("/v1/clusters")
    assert [item["id"] for item in answer.json()["items"]] == ["everybodys", "ours", "local"]
    assert [item["id"] for item in everything.json()["items"]] == ["everybodys", "ours", "theirs", "local"]
    assert "SOME_SECRET" not in everything.text


def test_another_sites_page_is_refused_and_our_own_is_not(server, tokens):
    client = Client(server[0].url, tokens["viewer"])
    for origin, status in ((server[0].url, 200), ("http://evil.example", 403), ("null", 403)):
        assert client.send("GET", "/v1/runs", headers={"Origin": origin}).status_code == status


def test_a_refused_post_without_a_body_stops_nothing(server, tokens, run):
    """A refusal is kept until the body is read: the method must not be called meanwhile."""
    _, store = server
    active = store.runs.add(a_run(store.load_tests.get(run.load_test_id), lease_expires_at=now_ms() + 60_000))
    for token in (None, "wrong", tokens["viewer"], tokens["foreign admin"]):
        answer = Client(server[0].url, token).post(f"/v1/runs/{active.id}/stop")
        assert answer.status_code in (401, 403, 404)
    assert store.runs.get(active.id).status is RunStatus.PENDING
