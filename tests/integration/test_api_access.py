"""Who may do what: every route, for every role, in the own project and in a foreign one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from loadbench.control import ControlPlane
from loadbench.model import ROLES, LoadTestRun, RunStatus, Schedule, Scope, now_ms
from loadbench.store import Store
from server.app import ROUTES, Receiver
from server.operation import parameters
from tests.builders import SCOPE, a_run, a_test
from tests.rest_client import Client, a_definition, a_token, encoded

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
OPERATIONS = [
    pytest.param(template, method, operation, id=f"{method} {template}")
    for template, handler in ROUTES
    for method, operation in handler.operations.items()
]


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
def tokens(server) -> dict[str, dict[str, str]]:
    """Secrets by whose project, then by role."""
    _, store = server
    return {
        "own": {role: a_token(store, role) for role in ROLES},
        "foreign": {role: a_token(store, role, scope=FOREIGN) for role in ROLES},
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


def ask(server, operation, method: str, template: str, token: str | None, ids: dict[str, str]):
    path = template
    for name in parameters(template):
        path = path.replace(f"{{{name}}}", ids[name])
    body = BODIES[operation.body.__name__] if operation.body else None
    headers = {"If-Match": "*"} if operation.if_match else {}
    query = {"runs": ids["runId"]} if template in NAMED_IN_QUERY else {}
    return Client(server[0].url, token).send(method, path, json=body, headers=headers, params=query)


def of(run: LoadTestRun) -> dict[str, str]:
    return {"testId": run.load_test_id, "runId": run.id, "revision": "1", "scheduleId": SCHEDULE}


@pytest.mark.parametrize(("template", "method", "operation"), OPERATIONS)
class TestEveryRoute:
    def test_needs_a_token(self, server, run, template, method, operation):
        answer = ask(server, operation, method, template, None, of(run))
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize("role", ROLES)
    def test_lets_in_by_role(self, server, tokens, run, template, method, operation, role):
        answer = ask(server, operation, method, template, tokens["own"][role], of(run))
        if ROLES.index(role) < ROLES.index(operation.role):
            assert answer.status_code == 403
            assert operation.role in answer.json()["detail"]
        else:
            assert answer.status_code in {operation.status, *operation.problems(template)} - {401, 403, 503}

    @pytest.mark.parametrize("role", ROLES)
    def test_tells_a_foreign_project_nothing(self, server, tokens, run, template, method, operation, role):
        _, store = server
        before = snapshot(store, run)
        foreign = ask(server, operation, method, template, tokens["foreign"][role], of(run))
        unknown = ask(server, operation, method, template, tokens["foreign"][role], UNKNOWN)
        assert snapshot(store, run) == before
        assert run.id not in foreign.text
        if parameters(template) or template in NAMED_IN_QUERY:
            assert foreign.status_code == (404 if ROLES.index(role) >= ROLES.index(operation.role) else 403)
            assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
        elif operation.status == 200:
            shared = ["local"] if template == "/v1/clusters" else []
            assert [item["id"] for item in foreign.json()["items"]] == shared


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
    revoked = a_token(store, name="revoked")
    client = Client(receiver.url, revoked)
    assert client.get("/v1/runs").status_code == 200
    [record] = [token for token in store.tokens.all_api() if token.name == "revoked"]
    store.tokens.revoke_api(record.id)
    assert client.get("/v1/runs").status_code == 401, "at once, not when a cache runs out"
    assert Client(receiver.url, expired).get("/v1/runs").status_code == 401
    push = store.tokens.create_push(run.id)
    assert Client(receiver.url, push).get("/v1/runs").status_code == 401


def test_an_api_token_pushes_nothing(server, tokens):
    answer = Client(server[0].url, tokens["own"]["admin"]).post("/v1/internal/locust/heartbeat", {})
    assert answer.status_code == 401


def test_only_the_hash_of_a_token_is_stored(server, tokens):
    _, store = server
    stored = json.dumps(list(store.database["tokens"].find()), default=str)
    for secrets in tokens.values():
        assert not any(secret in stored for secret in secrets.values())


def test_the_scope_of_a_new_test_is_the_tokens(server, tokens, run):
    receiver, store = server
    client = Client(receiver.url, tokens["own"]["runner"])
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
    client = Client(server[0].url, tokens["own"]["viewer"])
    for origin, status in ((server[0].url, 200), ("http://evil.example", 403), ("null", 403)):
        assert client.send("GET", "/v1/runs", headers={"Origin": origin}).status_code == status


def test_a_refused_post_without_a_body_stops_nothing(server, tokens, run):
    """A refusal is kept until the body is read: the method must not be called meanwhile."""
    _, store = server
    active = store.runs.add(a_run(store.load_tests.get(run.load_test_id), lease_expires_at=now_ms() + 60_000))
    for token in (None, "wrong", tokens["own"]["viewer"], tokens["foreign"]["admin"]):
        answer = Client(server[0].url, token).post(f"/v1/runs/{active.id}/stop")
        assert answer.status_code in (401, 403, 404)
    assert store.runs.get(active.id).status is RunStatus.PENDING
