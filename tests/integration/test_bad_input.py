"""What a person gets wrong: one readable line, a fitting error, and nothing half-made."""

from __future__ import annotations

import socket

import pytest

from loadbench.backend import Backend
from loadbench.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ReceiverError,
    RunFailed,
    ScriptError,
    StoreUnavailable,
    TargetUnreachable,
)
from loadbench.store import Store
from loadbench.workbench import Workbench
from tests import scripts


@pytest.fixture
def test(bench, shop):
    return bench.create_test(
        "given", scripts.STEADY, target_url=shop.url, duration="2s", max_duration="5s", check=False
    )


def assert_readable(raised, *words: str) -> None:
    text = str(raised.value)
    assert "\n" not in text
    assert all(word in text for word in words), text
    assert raised.value._render_traceback_() == [f"{type(raised.value).__name__}: {text}"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("nowhere/missing.py", ["no script", "give a path"], id="missing"),
        pytest.param("import locust\nx = (\n", ["does not compile", "line 2"], id="syntax error"),
        pytest.param("import locust\nx = 1\n", ["no User class", "define one"], id="no User class"),
        pytest.param("import locust\nimport not_there\n", ["line 2", "No module named 'not_there'"], id="import error"),
    ],
)
def test_a_script_that_cannot_run_is_never_stored(bench, shop, store, script, words):
    with pytest.raises(ScriptError) as raised:
        bench.create_test("broken", script, target_url=shop.url)
    assert_readable(raised, *words)
    assert store.load_tests.find() == []
    assert store.database.script_revisions.count_documents({}) == 0


def test_a_bad_revision_changes_nothing(test):
    with pytest.raises(ScriptError):
        test.revise("import locust\nx = (\n", note="oops")
    assert list(test.revisions().index) == [1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"users": 0}, ["users", "greater than or equal to 1"]),
        ({"users": -3}, ["users", "greater than or equal to 1"]),
        ({"spawn_rate": 0}, ["spawn_rate", "greater than 0"]),
        ({"spawn_rate": -1.5}, ["spawn_rate", "greater than 0"]),
        ({"duration": "6s"}, ["over the maximum", "5 s", "raise max_duration"]),
        ({"duration": "soon"}, ["duration", "90s"]),
        ({"duration": 0}, ["duration", "at least 1s"]),
        ({"workers": -1}, ["workers", "greater than or equal to 0"]),
        ({"target_url": "shop.example"}, ["target_url", "http"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_parameters_of_a_run(test, store, options, words):
    with pytest.raises(InvalidInput) as raised:
        test.start(**options)
    assert_readable(raised, *words)
    assert store.database.load_test_runs.count_documents({}) == 0


def test_parameters_of_a_test(bench, shop, store):
    for options in ({"users": 0}, {"spawn_rate": 0}, {"duration": "2h"}, {"target_url": "ftp://x"}):
        with pytest.raises(InvalidInput):
            bench.create_test("never", scripts.STEADY, **{"target_url": shop.url, **options})
    with pytest.raises(InvalidInput):
        bench.create_test("", scripts.STEADY, target_url=shop.url)
    assert store.load_tests.find() == []


def test_a_target_that_does_not_answer(test, store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TargetUnreachable) as raised:
            test.start(target_url=f"http://127.0.0.1:{free.getsockname()[1]}")
    assert_readable(raised, "does not answer", "start it")
    assert store.database.load_test_runs.count_documents({}) == 0
    assert store.database.tokens.count_documents({}) == 0


def test_unknown_names_say_what_there_is(bench, test):
    with pytest.raises(NotFound) as raised:
        bench.test("givne")
    assert_readable(raised, "'givne'", "'given'")
    with pytest.raises(NotFound) as raised:
        test.start(revision=7)
    assert_readable(raised, "7", "1")
    with pytest.raises(NotFound) as raised:
        bench.run("run-0000000000000000")
    assert_readable(raised, "run-0000000000000000")


def test_a_scope_that_is_none():
    with pytest.raises(InvalidInput) as raised:
        Workbench("acme")
    assert_readable(raised, "account/organisation/project")


def test_a_script_that_fails_at_its_start_fails_the_run_with_its_own_words(bench, shop):
    test = bench.create_test("late", scripts.FAILS_AT_START, target_url=shop.url, check=False)
    run = test.start(duration="5s")
    with pytest.raises(RunFailed) as raised:
        run.wait()
    assert_readable(raised, "the test data is missing")
    assert run.record.stop_reason == "error"
    with pytest.raises(Conflict):
        run.stop()


def test_the_port_of_the_receiver_is_taken(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ReceiverError) as raised:
            Workbench("acme/shop/checkout", mongodb_uri=store.uri, port=port)
    assert_readable(raised, str(port), "pid")


def test_mongodb_that_does_not_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailable) as raised:
            Backend(f"mongodb://127.0.0.1:{free.getsockname()[1]}/loadbench", port=0)
    assert_readable(raised, "127.0.0.1", "does not answer")


def test_no_mongod_to_be_found(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreUnavailable) as raised:
        Store.open()
    assert_readable(raised, "mongod", "LOADBENCH_MONGODB_URI")
