"""Every command that prints data prints JSON when asked; and what `loadbench.toml` and a running server say counts."""

from __future__ import annotations

import argparse
import json

import pytest

from loadbench import cli
from loadbench.backend import Backend, find_receiver
from loadbench.clusters import Configuration
from loadbench.control import retention_days
from loadbench.errors import InvalidInput
from loadbench.model import RunStatus
from tests.builders import SCOPE, a_run
from tests.contracts.commands import commands
from tests.scripts import STEADY

pytestmark = pytest.mark.integration

WITHOUT = {"demo", "lab", "serve", "agent", "demo-target"}
"""Commands that run until they are ended, or are a show."""


@pytest.fixture
def asked(store, monkeypatch, capsys, tmp_path):
    """Run a command with --json in this process, and give what it printed."""
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0):
        assert cli.main([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_every_command_that_prints_data_takes_json():
    found = {parser.prog.removeprefix("loadbench "): parser for parser, _ in commands(cli.build_parser())}
    lacking = {
        name
        for name, parser in found.items()
        if not any(isinstance(action, argparse._StoreTrueAction) and "--json" in action.option_strings
                   for action in parser._actions)
    }  # fmt: skip
    assert lacking == WITHOUT


def test_the_database_and_the_spools(asked, store):
    assert asked("db", "uri") == {"uri": store.uri}
    assert asked("db", "stop") == {"stopped": False}
    assert asked("drain") == {"delivered": {}}


def test_clusters(asked, tmp_path):
    (tmp_path / "loadbench.toml").write_text(
        '[[cluster]]\nid = "lab"\nbase_url = "http://127.0.0.1:9"\naccount_id = "acme"\n'
    )
    lab, local = asked("clusters")
    assert (lab["cluster"], lab["baseUrl"]) == ("lab", "http://127.0.0.1:9")
    assert lab["trouble"]
    assert local == {"cluster": "local", "kind": "local", "workers": 0, "trouble": ""}


def test_doctor(asked):
    found = asked("doctor")
    assert {"Python", "Locust", "charts"} <= {one["subject"] for one in found}
    assert all(one["good"] and one["text"] for one in found)


def test_delete_and_export(asked, store):
    run = store.runs.add(a_run())
    store.runs.move(run.id, RunStatus.FAILED)
    scope = ("--scope", "acme/shop/checkout", "--env", str(SCOPE.env_id))
    assert asked("export", run.id, "--table", "failures", *scope) == []
    assert asked("delete", run.id, "--yes", *scope) == {"deleted": run.id}


class TestRetention:
    def test_is_read_from_the_file_and_the_environment_wins(self, tmp_path, monkeypatch):
        path = tmp_path / "loadbench.toml"
        path.write_text("[retention]\ndays = 30\n")
        days = Configuration.read(path).retention.days
        assert retention_days(days) == 30
        monkeypatch.setenv("LOADBENCH_RETENTION_DAYS", "7")
        assert retention_days(days) == 7
        monkeypatch.delenv("LOADBENCH_RETENTION_DAYS")
        assert retention_days(Configuration.read(None).retention.days) is None

    @pytest.mark.parametrize("days", ["0", "-1", "true", '"30"', "1.5"])
    def test_that_is_none_is_refused_with_the_name_of_the_file(self, tmp_path, days):
        path = tmp_path / "loadbench.toml"
        path.write_text(f"[retention]\ndays = {days}\n")
        with pytest.raises(InvalidInput, match=r"loadbench\.toml: retention\.days"):
            Configuration.read(path)

    def test_reaches_the_control_plane(self, store, tmp_path, monkeypatch):
        (tmp_path / "loadbench.toml").write_text("[retention]\ndays = 30\n")
        monkeypatch.chdir(tmp_path)
        backend = Backend(store.uri, port=0)
        try:
            assert backend.control._retention_days == 30
        finally:
            backend.close()


def test_external_pushes_to_what_the_running_server_advertises(store, asked, tmp_path):
    backend = Backend(store.uri, port=0, advertised_url="http://bench.example:80", keeps_schedules=True)
    try:
        assert find_receiver() == ("http://bench.example:80", True)
        made = asked("external", "by hand", "--target", "http://127.0.0.1:9")
        assert made["run"]["receiverUrl"] == "http://bench.example:80"
        assert "LOADBENCH_RECEIVER_URL=http://bench.example:80" in made["command"]
    finally:
        backend.close()
    assert find_receiver()[0] != "http://bench.example:80"


def test_an_update_names_its_parameters_as_it_takes_them(bench):
    test = bench.create_test("products", STEADY, target_url="http://127.0.0.1:8000", check=False)
    for wrong, field in (
        ({"users": 0}, "users"),
        ({"spawn_rate": -1.0}, "spawn_rate"),
        ({"duration": "2h"}, "duration"),
    ):
        with pytest.raises(InvalidInput) as caught:
            test.update(**wrong)
        text = str(caught.value)
        assert text.startswith(field) or field == "duration", text
        assert "default_" not in text
