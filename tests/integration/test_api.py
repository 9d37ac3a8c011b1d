"""The REST API on the real store: define, revise, list, run, annotate, delete, as a program does it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadbench.control import ControlPlane
from loadbench.model import LoadTestRun, RunStatus, now_ms
from loadbench.store import Store
from server.app import Receiver
from tests.api_client import raw, status_of
from tests.builders import a_run, a_test
from tests.rest_client import Client, a_definition, a_token, encoded
from tests.scripts import ONCE_A_SECOND, STEADY
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    receiver = Receiver(store)
    receiver = Receiver(store, control=ControlPlane(store, receiver_url=lambda: receiver.url))
    with receiver:
        yield receiver


@pytest.fixture
def client(receiver: Receiver, store: Store) -> Client:
    return Client(receiver.url, a_token(store))


@pytest.fixture(scope="module")
def lasting(mongod) -> Iterator[tuple[Client, Store]]:
    """A server for all requests that are refused: they leave nothing behind."""
    uri = mongod.find_or_start().replace("/loadbench?", "/test_api?")
    with Store.open(uri) as store:
        control = ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9")
        with Receiver(store, control=control) as receiver:
            yield Client(receiver.url, a_token(store)), store
        store.database.client.drop_database(store.database.name)


@pytest.fixture
def refusing(lasting: tuple[Client, Store]) -> Iterator[Client]:
    client, store = lasting
    yield client
    for collection in ("load_tests", "script_revisions", "load_test_runs"):
        store.database[collection].delete_many({})


def ended(store: Store, test=None, *, status: RunStatus = RunStatus.FINISHED, **changes) -> LoadTestRun:
    run = store.runs.add(a_run(test, **changes))
    if status is not RunStatus.FAILED:
        store.runs.move(run.id, RunStatus.RUNNING, started_at=now_ms())
    return store.runs.move(run.id, status)


def defined(store: Store, **changes) -> str:
    """A stored test with a script; gives its path. Locust has not looked at the script, which takes it a second."""
    test = store.load_tests.add(a_test(**changes))
    store.script_revisions.add(test.id, STEADY.encode())
    return f"/v1/load-tests/{test.id}"


class TestLoadTests:
    def test_one_is_defined_with_its_script_and_read_back(self, client):
        body = a_definition(
            scriptContent=encoded(), description="all of them", tags=["nightly"], defaultSpawnRate=2, metadata={"n": 1}
        )
        made = client.post("/v1/load-tests", body)
        assert made.status_code == 201
        read = client.get(made.headers["Location"])
        assert read.json() == made.json()
        assert read.headers["ETag"] == made.headers["ETag"]
        record = read.json()
        given = {key: value for key, value in body.items() if key != "scriptContent"}
        assert given.items() <= record.items()
        assert (record["latestRevisionNumber"], record["createdBy"]) == (1, "a admin")
        assert client.get(f"{made.headers['Location']}/script").json()["scriptContent"] == encoded()

    def test_a_script_that_locust_cannot_load_is_refused_and_nothing_is_stored(self, client, store):
        for script in ("def", "x = 1", "-" * 100_000 + "1", "x" + ".a" * 100_000):
            refused = client.post("/v1/load-tests", a_definition(scriptContent=encoded(script)))
            assert (refused.status_code, refused.json()["field"]) == (400, "scriptContent")
        assert store.load_tests.find() == []

    def test_a_taken_name_is_409(self, client):
        assert client.post("/v1/load-tests", a_definition()).status_code == 201
        assert client.post("/v1/load-tests", a_definition()).status_code == 409

    def test_an_update_replaces_and_needs_the_etag_that_was_read(self, client):
        made = client.post("/v1/load-tests", a_definition(description="old", tags=["a"], clusterId="local"))
        url, seen = made.headers["Location"], made.headers["ETag"]
        body = a_definition(name="renamed", defaultUsers=7)
        assert client.put(url, body).status_code == 428
        assert client.put(url, body, **{"If-Match": '"0123456789abcdef"'}).status_code == 412
        changed = client.put(url, body, **{"If-Match": seen})
        assert changed.status_code == 200
        record = changed.json()
        assert (record["name"], record["defaultUsers"], record["description"]) == ("renamed", 7, "")
        assert "clusterId" not in record
        assert changed.headers["ETag"] == client.get(url).headers["ETag"] != seen
        late = client.put(url, body, **{"If-Match": seen})
        assert (late.status_code, late.json()["field"]) == (412, "If-Match")
        assert client.put(url, body, **{"If-Match": "*"}).status_code == 200

    def test_of_two_editors_with_the_same_etag_one_wins(self, client):
        made = client.post("/v1/load-tests", a_definition())
        url, seen = made.headers["Location"], made.headers["ETag"]

        def edit(number: int) -> int:
            return client.put(url, a_definition(name=f"by {number}"), **{"If-Match": seen}).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(edit, range(8)))
        assert statuses == [200] + [412] * 7

    def test_an_unchanged_record_is_304(self, client):
        made = client.post("/v1/load-tests", a_definition())
        again = client.send("GET", made.headers["Location"], headers={"If-None-Match": made.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_deleting_needs_cascade_where_there_are_runs(self, client, store):
        url = defined(store)
        test = store.load_tests.get(url.rpartition("/")[2])
        run = ended(store, test)
        assert client.delete(url).status_code == 409
        assert client.delete(url, cascade="true").status_code == 204
        assert [client.get(gone).status_code for gone in (url, f"/v1/runs/{run.id}", f"{url}/script")] == [404] * 3
        assert store.database["script_revisions"].count_documents({}) == 0


class TestScripts:
    def test_an_edit_is_a_new_revision_and_the_old_one_stays(self, client, store):
        url = defined(store)
        body = {"scriptContent": encoded(ONCE_A_SECOND), "description": "slower"}
        edited = client.put(f"{url}/script", body)
        assert (edited.status_code, edited.json()["revisionNumber"]) == (201, 2)
        assert client.get(edited.headers["Location"]).json() == edited.json()
        assert client.get(f"{url}/script").json() == edited.json()
        assert client.get(f"{url}/script/revisions/1").json()["scriptContent"] == encoded()
        listed = client.get(f"{url}/script/revisions").json()["items"]
        assert [item["revisionNumber"] for item in listed] == [2, 1]
        assert not any("scriptContent" in item for item in listed)

    def test_two_revisions_are_compared(self, client, store):
        url = defined(store)
        client.put(f"{url}/script", {"scriptContent": encoded(ONCE_A_SECOND)})
        compared = client.get(f"{url}/script/revisions/2", against="1").json()
        assert compared["against"] == 1
        assert "-    wait_time = constant(0.05)\n+    wait_time = constant(1)\n" in compared["diff"]
        assert client.get(f"{url}/script/revisions/2", against="7").status_code == 404

    def test_an_edit_of_what_somebody_else_edited_is_412(self, client, store):
        url = defined(store)
        seen = client.get(f"{url}/script").headers["ETag"]
        body = {"scriptContent": encoded(ONCE_A_SECOND)}
        assert client.put(f"{url}/script", body, **{"If-Match": seen}).status_code == 201
        assert client.put(f"{url}/script", body, **{"If-Match": seen}).status_code == 412

    def test_a_revision_of_another_test_is_not_found_here(self, client, store):
        one, other = defined(store), defined(store, name="other")
        revision = client.get(f"{other}/script").json()["id"]
        for unknown in (revision, "rev-0000000000000000", "2", "9" * 40, "²"):
            assert client.get(f"{one}/script/revisions/{unknown}").status_code == 404, unknown


class TestLists:
    def test_pages_cover_all_once_although_records_come_meanwhile(self, client, store):
        test = store.load_tests.add(a_test())
        names = [
            store.runs.add(a_run(test, name=f"run {n}", created_at=1_795_000_000_000 + n // 3)).id for n in range(9)
        ]
        seen, cursor = [], None
        while True:
            page = client.get("/v1/runs", limit=2, **({"cursor": cursor} if cursor else {})).json()
            assert len(page["items"]) <= 2
            seen += [item["id"] for item in page["items"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                break
            store.runs.add(a_run(test, name="newcomer", created_at=1_795_000_001_000))
        assert sorted(seen) == sorted(names)
        assert seen == [item.id for item in store.runs.find(limit=99) if item.name != "newcomer"]

    @pytest.mark.parametrize("sort", ["name", "-name", "createdAt", "-createdAt", "updatedAt", "-updatedAt"])
    def test_they_are_sorted(self, client, store, sort):
        for number, name in enumerate(("beta", "alpha", "gamma", "Delta", "épsilon")):
            store.load_tests.add(a_test(name=name, created_at=1_795_000_000_000 + number * 7 % 3, updated_at=now_ms()))
        found, cursor = [], {}
        for _ in range(5):
            page = client.get("/v1/load-tests", sort=sort, limit=1, **cursor).json()
            found += page["items"]
            cursor = {"cursor": page.get("nextCursor")}
        field = sort.removeprefix("-")
        expected = sorted(found, key=lambda item: (item[field], item["id"]), reverse=sort.startswith("-"))
        assert found == expected
        assert len({item["id"] for item in found}) == 5

    def test_runs_are_filtered(self, client, store):
        test = store.load_tests.add(a_test())
        finished = ended(store, test, tags=("nightly", "eu"), name="Peak (1.5x)")
        failed = ended(store, test, status=RunStatus.FAILED, tags=("nightly",), notes="the CART broke")
        other = ended(store, env_id="prod", name="another")

        def found(**query) -> set[str]:
            return {item["id"] for item in client.get("/v1/runs", **query).json()["items"]}

        assert found() == {finished.id, failed.id, other.id}
        assert found(loadTestId=test.id) == found(tag="nightly") == {finished.id, failed.id}
        assert found(tag=["nightly", "eu"]) == found(text="(1.5X)") == {finished.id}
        assert found(text="cart") == found(status="Failed") == {failed.id}
        assert found(status=["Failed", "Finished"], envId="prod") == found(text=other.id) == {other.id}
        assert found(accountId="other") == found(text=".*") == found(status="Stopping") == set()
        assert {
            item["id"] for item in client.get(f"/v1/load-tests/{test.id}/runs", status="Failed").json()["items"]
        } == {failed.id}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"limit": "0"}, "limit"),
            ({"limit": "201"}, "limit"),
            ({"limit": "many"}, "limit"),
            ({"limit": ["1", "2"]}, "limit"),
            ({"sort": "password"}, "sort"),
            ({"status": "Broken"}, "status"),
            ({"text": "a\0b"}, "text"),
            ({"projectId": "../x"}, "projectId"),
            ({"cursor": "nonsense"}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b'["-createdAt",{"$gt":0},"x"]').decode()}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b'["-createdAt",1e999,"x"]').decode()}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b"[" * 3000).decode()[:1900]}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b'["name","a","b"]').decode()}, "cursor"),
            ({"colour": "red"}, "colour"),
            ({"$where": "1"}, "$where"),
        ],
    )
    def test_what_cannot_be_asked_names_the_parameter(self, refusing, query, field):
        answer = refusing.get("/v1/runs", **query)
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["field"].split(".")[0] == field

    def test_bytes_that_are_not_utf8_are_400(self, client):
        assert client.get("/v1/runs?text=%ff").json()["field"] == "text"
        assert client.get("/v1/runs/%ff").status_code == 400


class TestRuns:
    def test_one_is_annotated_and_keeps_what_is_left_out(self, client, store):
        run = ended(store, tags=("a",))
        url = f"/v1/runs/{run.id}"
        seen = client.get(url).headers["ETag"]
        changed = client.patch(url, {"notes": "slow today"}, **{"If-Match": seen})
        assert (changed.status_code, changed.json()["notes"], changed.json()["tags"]) == (200, "slow today", ["a"])
        assert client.patch(url, {"notes": "no"}, **{"If-Match": seen}).status_code == 412
        assert client.patch(url, {"tags": []}).json()["tags"] == []
        refused = client.patch(url, {"status": "Finished"})
        assert (refused.status_code, refused.json()["field"]) == (400, "status")

    def test_what_it_runs_on_is_not_told(self, client, store):
        run = ended(store)
        store.runs.update(run.id, process={"host": "box", "pid": 1, "create_time": 1.0, "directory": "/secret/place"})
        answers = [client.get(f"/v1/runs/{run.id}"), client.get("/v1/runs"), client.patch(f"/v1/runs/{run.id}", {})]
        assert not any("/secret/place" in answer.text for answer in answers)

    def test_only_one_that_is_over_and_no_baseline_is_deleted(self, client, store):
        test = store.load_tests.add(a_test())
        active, kept, gone = store.runs.add(a_run(test)), ended(store, test), ended(store, test)
        assert client.put(f"/v1/load-tests/{test.id}/baseline", {"runIds": [kept.id]}).status_code == 200
        statuses = [client.delete(f"/v1/runs/{run.id}").status_code for run in (active, kept, gone, gone)]
        assert statuses == [409, 409, 204, 404]

    def test_stopping_one_that_is_over_is_409(self, client, store):
        assert client.post(f"/v1/runs/{ended(store).id}/stop").status_code == 409

    def test_a_baseline_is_set_read_and_removed(self, client, store):
        test, stranger = store.load_tests.add(a_test()), ended(store)
        one, two, failed = ended(store, test), ended(store, test), ended(store, test, status=RunStatus.FAILED)
        url = f"/v1/load-tests/{test.id}/baseline"
        assert client.get(url).json() == {"items": []}
        put = client.put(url, {"runIds": [one.id, two.id]})
        assert {item["id"] for item in put.json()["items"]} == {one.id, two.id}
        assert client.put(url, {"runIds": [failed.id]}).status_code == 409
        assert client.put(url, {"runIds": [stranger.id]}).status_code == 404
        assert client.put(url, {"runIds": []}).json()["field"] == "runIds"
        assert client.delete(url, runId=one.id).status_code == 204
        assert [item["id"] for item in client.get(url).json()["items"]] == [two.id]
        assert client.delete(url, runId=one.id).status_code == 404
        assert client.delete(url).status_code == 204
        assert client.get(url).json() == {"items": []}

    def test_an_external_run_takes_pushes_with_the_token_of_its_answer(self, client):
        made = client.post("/v1/runs/external", {"name": "by hand", "targetUrl": "http://127.0.0.1:9"})
        assert made.status_code == 201
        answer = made.json()
        assert answer["token"] in answer["command"]
        assert client.get(made.headers["Location"]).json()["origin"] == "external"
        assert answer["token"] not in client.get(made.headers["Location"]).text
        missing = client.post("/v1/runs/external", {"name": "by hand"})
        assert (missing.status_code, missing.json()["field"]) == (400, "targetUrl")

    def test_without_a_control_plane_none_is_started(self, store):
        with Receiver(store) as receiver:
            client = Client(receiver.url, a_token(store))
            url = client.post("/v1/load-tests", a_definition()).headers["Location"]
            assert client.post(f"{url}/runs", {}).status_code == 503


class TestStarting:
    def test_a_target_that_does_not_answer_is_422_and_makes_no_run(self, client, store):
        url = defined(store)
        for headers in ({}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "one"}):
            refused = client.post(f"{url}/runs", {"targetUrl": "http://127.0.0.1:1"}, **headers)
            assert (refused.status_code, refused.json()["field"]) == (422, "targetUrl")
        assert store.runs.find() == []
        assert store.database["idempotency_keys"].count_documents({}) == 0

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"targetUsers": 0}, "targetUsers"),
            ({"targetUsers": "5"}, "targetUsers"),
            ({"spawnRate": True}, "spawnRate"),
            ({"durationSec": 3601}, "durationSec"),
            ({"durationSec": 2**63}, "durationSec"),
            ({"targetUrl": "http://" + "a" * 70 + ".example:80"}, "targetUrl"),
            ({"targetUrl": "http://127.0.0.1:99999"}, "targetUrl"),
            ({"targetUrl": "http://[::1"}, "targetUrl"),
            ({"targetUrl": "file:///etc/passwd"}, "targetUrl"),
            ({"status": "Finished"}, "status"),
        ],
    )
    def test_a_wrong_parameter_is_named(self, refusing, lasting, body, field):
        _, store = lasting
        url = defined(store)
        refused = refusing.post(f"{url}/runs", body)
        assert (refused.status_code, refused.json()["field"]) == (400, field)
        assert store.runs.find() == []

    def test_no_script_or_no_such_revision_is_404(self, client):
        url = client.post("/v1/load-tests", a_definition()).headers["Location"]
        assert client.post(f"{url}/runs", {}).status_code == 404
        assert client.post(f"{url}/runs", {"revisionNumber": 3}).status_code == 404

    @pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
    def test_an_unusable_key_is_named(self, refusing, lasting, key):
        refused = refusing.post(f"{defined(lasting[1])}/runs", {}, **{"Idempotency-Key": key})
        assert (refused.status_code, refused.json()["field"]) == (400, "Idempotency-Key")

    def test_a_run_is_started_watched_and_stopped_over_http(self, bench, store, shop):
        client = Client(bench._backend.receiver.url, a_token(store))
        test = client.post("/v1/load-tests", a_definition(targetUrl=shop.url, scriptContent=encoded(STEADY)))
        body = {"targetUsers": 3, "spawnRate": 10, "durationSec": 60, "notes": "by hand", "tags": ["rest"]}
        started = client.post(f"{test.headers['Location']}/runs", body)
        assert started.status_code == 201
        assert body.items() <= started.json().items()
        url = started.headers["Location"]
        wait_until(
            lambda: client.get(url).json().get("lastMetrics", {}).get("cumRequests"), within_s=20, message="figures"
        )
        assert client.delete(url).status_code == 409
        assert client.post(f"{url}/stop").status_code == 202
        wait_until(lambda: client.get(url).json()["status"] == "Stopped", within_s=20, message="Stopped")
        run = client.get(url).json()
        assert (run["stopReason"], run["completeness"], run["createdBy"]) == ("user", "complete", "a admin")
        test_url = test.headers["Location"]
        wait_until(
            lambda: client.get(test_url).json()["recentRuns"][0]["status"] == "Stopped",
            within_s=5,
            message="the run's entry on the test",
        )

    def test_twenty_posts_with_one_key_start_one_run(self, bench, store, shop):
        client = Client(bench._backend.receiver.url, a_token(store))
        url = client.post("/v1/load-tests", a_definition(targetUrl=shop.url, scriptContent=encoded())).headers[
            "Location"
        ]
        body = {"targetUsers": 1, "durationSec": 60}

        def start(_: int):
            return client.post(f"{url}/runs", body, **{"Idempotency-Key": "the same"})

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(start, range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(store.runs.find()) == 1
        other = client.post(f"{url}/runs", body | {"targetUsers": 2}, **{"Idempotency-Key": "the same"})
        assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
        client.post(f"/v1/runs/{answers[0].json()['id']}/stop")

    def test_a_run_that_could_not_be_started_is_answered_as_failed(self, store, shop):
        class Broken:
            def start(self, *_):
                raise OSError("no more processes")

        receiver = Receiver(store)
        control = ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9", launcher=Broken())
        receiver = Receiver(store, control=control)
        with receiver:
            client = Client(receiver.url, a_token(store))
            url = defined(store, target_url=shop.url)
            answers = [client.post(f"{url}/runs", {}, **{"Idempotency-Key": "once"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert {(answer.json()["status"], answer.json()["error"]) for answer in answers} == {
            ("Failed", "no more processes")
        }
        assert len(store.runs.find()) == 1


BAD_BODIES = [
    pytest.param(b"", 400, id="B01-empty"),
    pytest.param(b"null", 400, id="B01-null"),
    pytest.param(b"[]", 400, id="B01-list"),
    pytest.param(b'{"name": "x"', 400, id="B02-truncated"),
    pytest.param(b"{'name': 'x'}", 400, id="B02-single-quotes"),
    pytest.param(b'{"name":"x","targetUrl":"http://a"} x', 400, id="B02-trailing-text"),
    pytest.param('{"name":"x","targetUrl":"http://a"}'.encode("utf-16"), 400, id="B03-utf-16"),
    pytest.param(b'\xef\xbb\xbf{"name":"x","targetUrl":"http://a"}', 400, id="B03-bom"),
    pytest.param(b'{"name":"\xff","targetUrl":"http://a"}', 400, id="B04-not-utf-8"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultSpawnRate":NaN}', 400, id="B05-nan"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"a":Infinity}}', 400, id="B05-infinity"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultSpawnRate":1e999}', 400, id="B06-1e999"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"a":1e999}}', 400, id="B06-1e999-in-metadata"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultUsers":9223372036854775808}', 400, id="B07-2**63"),
    pytest.param(
        b'{"name":"x","targetUrl":"http://a","metadata":{"a":9223372036854775808}}', 400, id="B07-in-metadata"
    ),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultUsers":' + b"9" * 5000 + b"}", 400, id="B08-5000-digits"),
    pytest.param(
        b'{"name":"x","targetUrl":"http://a","metadata":{"a":' + b"9" * 5000 + b"}}", 400, id="B08-in-metadata"
    ),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultUsers":-1}', 400, id="B09-negative"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultUsers":true}', 400, id="B10-true"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","defaultUsers":"5"}', 400, id="B10-text"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","colour":1}', 400, id="B11-unknown-field"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","id":"test-1"}', 400, id="B11-a-field-of-the-server"),
    pytest.param(b'{"name":"y","name":"x","targetUrl":"http://a"}', 201, id="B12-twice"),
    pytest.param(b'{"name":"\\ud800","targetUrl":"http://a"}', 400, id="B13-lone-surrogate"),
    pytest.param(b'{"name":"a\\u0000b","targetUrl":"http://a"}', 400, id="B14-nul"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"a\\u0000":1}}', 400, id="B14-nul-in-a-key"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"$where":1}}', 400, id="B15-$where"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"a.b":1}}', 400, id="B15-a.b"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","metadata":{"":1}}', 400, id="B15-empty-key"),
    pytest.param(b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 400, id="B16-nested"),
    pytest.param(b'{"tags":' + b"[" * 2000 + b"]" * 2000 + b"}", 400, id="B16-nested-lists"),
    pytest.param(b'{"name":"' + b"x" * 10_000 + b'","targetUrl":"http://a"}', 400, id="B17-long-name"),
    pytest.param('{"name":"<img src=x onerror=alert(1)>\u202e","targetUrl":"http://a"}'.encode(), 201, id="B18-html"),
    pytest.param(b'{"name":"' + b"x" * 2_000_000 + b'"}', 413, id="B19-2-mb"),
    pytest.param(b'{"name":"x","targetUrl":"http://a","scriptContent":"?"}', 400, id="not base64"),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_bodies(refusing, lasting, body, status):
    _, store = lasting
    answer = refusing.send("POST", "/v1/load-tests", data=body)
    assert answer.status_code == status
    if status == 201:
        assert [test.name for test in store.load_tests.find()] == [answer.json()["name"]]
    else:
        problem = answer.json()
        assert {"type", "title", "status", "detail"} <= problem.keys()
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert store.load_tests.find() == []


def test_heads(refusing):
    """B19-B26, B30: what is wrong with a request besides its body."""
    port = int(refusing.url.rpartition(":")[2])
    token = f"Authorization: Bearer {refusing.token}\r\n".encode()
    host = f"Host: 127.0.0.1:{port}\r\n".encode()
    rest = b"Content-Type: application/json\r\n" + token
    heads = [
        (b"GET /v1/runs HTTP/1.1\r\nHost: evil.example\r\n" + token, 421),
        (b"GET /v1/runs HTTP/1.1\r\n" + token, 400),
        (b"GET /v1/runs HTTP/1.1\r\n" + host + host + token, 400),
        (b"POST /v1/load-tests HTTP/1.1\r\n" + host + b"Content-Length: 2\r\nContent-Length: 3\r\n" + rest, 400),
        (b"POST /v1/load-tests HTTP/1.1\r\n" + host + b"Content-Length: -5\r\n" + rest, 400),
        (
            b"POST /v1/load-tests HTTP/1.1\r\n" + host + b"Content-Length: 3000000\r\nExpect: 100-continue\r\n" + rest,
            413,
        ),
        (b"GET /v1/runs/../load-tests HTTP/1.1\r\n" + host + token, 404),
        (b"GET /v1/runs/" + b"x" * 300 + b" HTTP/1.1\r\n" + host + token, 404),
        ("GET /v1/runs/run-٣ HTTP/1.1\r\n".encode() + host + token, 404),
        (b"GET /v1/nothing HTTP/1.1\r\n" + host + token, 404),
        (b"FETCH /v1/runs HTTP/1.1\r\n" + host + token, 405),
    ]
    for head, status in heads:
        assert status_of(raw(port, head + b"\r\n")) == status, head[:80]


def test_methods_and_media_types(refusing):
    client = refusing
    wrong = client.send("DELETE", "/v1/runs")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET")
    assert client.get("/v1/runs/external").status_code == 405
    plain = client.send("POST", "/v1/load-tests", data=b"{}", headers={"Content-Type": "text/plain"})
    assert (plain.status_code, plain.json()["field"]) == (415, "Content-Type")
    packed = client.send("POST", "/v1/load-tests", data=b"{}", headers={"Content-Encoding": "gzip"})
    assert (packed.status_code, packed.json()["field"]) == (400, "Content-Encoding")
