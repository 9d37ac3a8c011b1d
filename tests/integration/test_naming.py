"""What the API calls things: unknown fields, texts of errors, sizes, and where `/` leads."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from loadbench.control import ControlPlane
from loadbench.errors import ScriptError
from loadbench.launch.script import check_script
from loadbench.model import MAX_SCRIPT_BYTES, Cluster
from loadbench.store import Store
from server.app import Receiver
from tests.api_client import get
from tests.builders import a_test
from tests.rest_client import Client, a_definition, a_token, encoded
from tests.scripts import STEADY

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(mongod) -> Iterator[tuple[Client, str]]:
    uri = mongod.find_or_start().replace("/loadbench?", "/test_naming?")
    with Store.open(uri) as store:
        control = ControlPlane(store, receiver_url=lambda: "http://127.0.0.1:9")
        test = store.load_tests.add(a_test())
        store.script_revisions.add(test.id, STEADY.encode())
        with Receiver(store, control=control) as receiver:
            yield Client(receiver.url, a_token(store)), f"/v1/load-tests/{test.id}/runs"
        store.database.client.drop_database(store.database.name)


@pytest.mark.parametrize(
    ("body", "field", "meant"),
    [
        ({"users": 5}, "users", "targetUsers"),
        ({"duration": "1m"}, "duration", "durationSec"),
        ({"spawn_rate": 2}, "spawn_rate", "spawnRate"),
        ({"target_url": "http://a"}, "target_url", "targetUrl"),
        ({"cluster": "lab"}, "cluster", "clusterId"),
        ({"revision": 2}, "revision", "revisionNumber"),
        ({"tragetUsers": 2}, "tragetUsers", "targetUsers"),
        ({"zzz": 2}, "zzz", None),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_an_unknown_field_says_what_it_may_be_called(served, body, field, meant):
    client, url = served
    refused = client.post(url, body)
    assert (refused.status_code, refused.json()["field"]) == (400, field)
    detail = refused.json()["detail"]
    assert detail.startswith(f"there is no field {field}: ")
    assert (f"did you mean {meant}?" in detail) if meant else ("did you mean" not in detail)
    assert "it takes name, targetUrl, targetUsers" in detail


def test_of_a_test_and_within_a_part_of_a_body_too(served):
    client, url = served
    refused = client.post("/v1/load-tests", a_definition(users=5)).json()
    assert "did you mean defaultUsers?" in refused["detail"]
    test_id = url.split("/")[3]
    body = {"name": "n", "loadTestId": test_id, "cron": "0 2 * * *", "run": {"users": 5}}
    refused = client.post("/v1/schedules", body).json()
    assert refused["field"] == "run.users"
    assert "did you mean targetUsers?" in refused["detail"]


@pytest.mark.parametrize(
    ("body", "field", "starts"),
    [
        ({"targetUsers": 0}, "targetUsers", "targetUsers should be"),
        ({"durationSec": 4000}, "durationSec", "durationSec 4000 s is over the maximum of 'products', 3600 s"),
        ({"targetUrl": "http://127.0.0.1:99999"}, "targetUrl", "targetUrl has no valid host or port"),
        ({"targetUrl": "http://127.0.0.1:9"}, "targetUrl", "the target http://127.0.0.1:9 does not answer"),
        ({"revisionNumber": 0}, "revisionNumber", "revisionNumber should be"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_the_text_of_an_error_names_the_field_as_the_field_does(served, body, field, starts):
    client, url = served
    refused = client.post(url, body).json()
    assert refused["field"] == field
    assert refused["detail"].startswith(starts)
    assert not {"target_url", "spawn_rate", "max_duration", "users ", "duration "} & set(refused["detail"].split())


def test_what_a_caller_wrote_itself_is_not_renamed(served):
    client, _ = served
    refused = client.post("/v1/load-tests", a_definition(targetUrl="ftp://target_url")).json()
    assert refused["field"] == "targetUrl"
    assert "ftp://target_url" in refused["detail"]


def test_the_largest_script_fits_a_body_and_a_larger_one_is_told_the_limit(served):
    client, _ = served
    largest = b"x = 1 #" + b"a" * (MAX_SCRIPT_BYTES - 7)
    refused = client.post("/v1/load-tests", a_definition(scriptContent=encoded(largest), description="d" * 10_000))
    assert (refused.status_code, refused.json()["field"]) == (400, "scriptContent")
    assert "no User class" in refused.json()["detail"]  # Locust has read it: it was not too large
    refused = client.post("/v1/load-tests", a_definition(scriptContent=encoded(largest + b"aaa")))
    assert (refused.status_code, refused.json()["field"]) == (400, "scriptContent")
    assert "700 KiB" in refused.json()["detail"]
    refused = client.post("/v1/load-tests", a_definition(scriptContent=encoded(largest + b"a" * 200_000)))
    assert (refused.status_code, "1 MiB" in refused.json()["detail"]) == (413, True)
    with pytest.raises(ScriptError, match="700 KiB"):
        check_script(largest + b"a")


def test_a_browser_is_led_to_the_docs_and_only_under_a_name_of_ours(served):
    client, _ = served
    for path in ("/", "/docs/"):
        answer = client.send("GET", path, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")
        assert get(client.url + path).url == f"{client.url}/docs"
        assert client.send("GET", path, headers={"Host": "evil.example"}).status_code == 421


def test_a_cluster_may_have_many_workers():
    assert Cluster.build(id="big", kind="local", workers=10_000).workers == 10_000
