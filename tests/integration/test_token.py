"""Tokens from the command line and from the notebook: shown once, good for a scope, worthless when revoked."""

from __future__ import annotations

import json

import pytest

from loadbench.cli import main
from server.app import Receiver
from tests.rest_client import Client

pytestmark = pytest.mark.integration


@pytest.fixture
def cli(store, monkeypatch, capsys):
    """Run a command on the test's database, and give its exit code and what it printed."""
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(arguments), capsys.readouterr().out

    return run


def test_create_list_revoke(cli, store):
    code, made = cli("token", "create", "ci", "--role", "runner", "--scope", "acme/shop", "--days", "30", "--json")
    assert code == 0
    token, secret = json.loads(made)["token"], json.loads(made)["secret"]
    assert (token["role"], token["accountId"], token["orgId"]) == ("runner", "acme", "shop")
    assert token["expiresAt"] - token["createdAt"] == pytest.approx(30 * 86_400_000, abs=5000)
    with Receiver(store) as receiver:
        client = Client(receiver.url, secret)
        assert client.get("/v1/load-tests").status_code == 200
        for arguments in (["token", "list"], ["token", "list", "--json"]):
            listing = cli(*arguments)[1]
            assert token["id"] in listing
            assert secret not in listing
        assert cli("token", "revoke", token["id"])[0] == 0
        assert client.get("/v1/load-tests").status_code == 401
    assert "revoked" in cli("token", "list")[1]


def test_the_secret_alone_is_on_standard_output(cli, store):
    secret = cli("token", "create", "everything", "--scope", "*", "--role", "admin")[1].strip()
    assert store.tokens.find_api(secret).scope_filter == {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["revoke", "tok-0000000000000000"], 3),
        (["create", "x", "--scope", "a/b/c/d"], 2),
        (["create", "x", "--scope", "a//c"], 2),
        (["create", "x", "--days", "0"], 2),
        (["create", "", "--scope", "a"], 2),
    ],
)
def test_mistakes_are_one_line(cli, store, arguments, code):
    assert cli("token", *arguments)[0] == code
    assert store.tokens.all_api() == []


def test_a_notebook_makes_its_own_and_takes_it_back(bench, store):
    token = bench.api_token()
    assert bench.api_token() == token
    assert token not in repr(bench) + bench._repr_html_()
    client = Client(bench.api_url.removesuffix("/v1"), token)
    assert client.get("/v1/runs").status_code == 200
    [record] = store.tokens.all_api()
    assert record.scope_filter == {"accountId": "acme", "orgId": "shop", "projectId": "checkout"}
    bench.close()
    assert store.tokens.find_api(token) is None
