"""Tests and script revisions, on the real MongoDB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pymongo import MongoClient

from loadbench.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from loadbench.home import data_home
from loadbench.model import Scope
from loadbench.store import Store
from tests.builders import SCOPE, START_MS, a_run, a_test

pytestmark = pytest.mark.integration

SCRIPT = b"from locust import HttpUser\n# \xc3\xa9\r\n"
PROJECT = Scope.parse("acme/shop/checkout")


class TestOpen:
    def test_repr_tells_where_but_not_the_password(self, store: Store, mongod) -> None:
        assert repr(store) == f"Store(127.0.0.1:{mongod.status().port}/{store.database.name})"
        assert store.database.name in store.uri

    def test_the_environment_names_the_mongodb(self, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOADBENCH_MONGODB_URI", mongodb_uri)
        with Store.open() as store:
            assert store.uri == mongodb_uri
            store.database.client.drop_database(store.database.name)

    def test_a_uri_without_a_database_means_loadbench(self, mongod) -> None:
        with Store.open(mongod.find_or_start().replace("/loadbench?", "/?")) as store:
            assert store.database.name == "loadbench"
            store.database.client.drop_database("loadbench")

    @pytest.mark.parametrize(
        "uri",
        ["http://127.0.0.1", "127.0.0.1:27017", "mongodb://u:geheim/x@127.0.0.1", "mongodb://127.0.0.1/?colour=red"],
    )
    def test_a_uri_that_cannot_be_read_is_one_clear_line(self, uri: str) -> None:
        with pytest.raises(InvalidInput, match="the MongoDB URI cannot be used") as caught:
            Store.open(uri)
        assert "geheim" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_indexes_and_compression(self, store: Store) -> None:
        def keys(name: str) -> set[tuple[str, ...]]:
            return {tuple(f for f, _ in index["key"]) for index in store.database[name].index_information().values()}

        scope = ("accountId", "orgId", "projectId", "envId")
        assert {("_id",), (*scope, "name"), ("tags",), ("createdAt",)} == keys("load_tests")
        times = {("createdAt",), ("finishedAt",)}
        assert {("_id",), ("loadTestId", "createdAt"), (*scope, "status"), ("status",)} | times == keys(
            "load_test_runs"
        )
        assert {("_id",), ("loadTestId", "revisionNumber")} == keys("script_revisions")
        assert keys("metrics_timeseries") == {
            ("_id",), ("runId", "timestamp", "seq"), ("runId", "source", "seq"), ("timestamp",)
        }  # fmt: skip
        indexes = [i for name in store.database.list_collection_names()
                   for i in store.database[name].index_information().values()]  # fmt: skip
        assert not [index for index in indexes if "expireAfterSeconds" in index]
        stats = store.database.command("collStats", "metrics_timeseries")
        assert "block_compressor=zstd" in stats["wiredTiger"]["creationString"]

    def test_several_may_open_an_empty_database_at_once(self, mongodb_uri: str) -> None:
        def open_and_close(_: int) -> str:
            with Store.open(mongodb_uri) as store:
                return store.database.name

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(open_and_close, range(8)))) == 1
        with MongoClient(mongodb_uri) as client:
            client.drop_database(client.get_default_database().name)

    def test_a_user_without_rights_is_one_clear_line(self, store: Store) -> None:
        store.database.command("createUser", "guest", pwd="guest", roles=[])
        server = store.uri.partition("@")[2].partition("?")[0]
        with pytest.raises(StoreUnavailable, match="does not let this user in: give it the role readWrite"):
            Store.open(f"mongodb://guest:guest@{server}")


class TestTests:
    def test_what_was_added_is_found(self, store: Store) -> None:
        test = store.load_tests.add(a_test(tags=("nightly",), metadata={"build number": 1, "a/b": "x"}))
        other = store.load_tests.add(a_test(name="search", created_at=test.created_at + 1))
        elsewhere = store.load_tests.add(a_test(env_id=None, created_at=test.created_at + 2))
        assert store.load_tests.get(test.id) == test
        assert store.load_tests.find(SCOPE) == [other, test]
        assert store.load_tests.find(PROJECT) == [elsewhere, other, test]
        assert store.load_tests.find(SCOPE, name="products") == [test]
        assert store.load_tests.find(tag="nightly") == [test]
        assert store.load_tests.find(Scope.parse("acme/shop/other")) == []
        assert store.load_tests.find(limit=1) == [elsewhere]

    def test_a_name_is_free_once_in_its_scope(self, store: Store) -> None:
        store.load_tests.add(a_test())
        with pytest.raises(Conflict, match=r"acme/shop/checkout \(staging\) has a test named 'products' already"):
            store.load_tests.add(a_test())
        store.load_tests.add(a_test(env_id="production"))
        store.load_tests.add(a_test(env_id=None))
        with pytest.raises(Conflict):
            store.load_tests.add(a_test(env_id=None))

    def test_an_unknown_id_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no test test-0"):
            store.load_tests.get("test-0")

    def test_update_changes_what_it_names(self, store: Store) -> None:
        test = store.load_tests.add(a_test(cluster_id="c1", updated_at=START_MS))
        changed = store.load_tests.update(test.id, default_users=50, tags=("x",), cluster_id=None, updated_by="ann")
        assert (changed.default_users, changed.tags, changed.cluster_id, changed.updated_by) == (
            50,
            ("x",),
            None,
            "ann",
        )
        assert changed.updated_at > START_MS
        assert store.load_tests.get(test.id) == changed
        assert changed.created_at == test.created_at

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            pytest.param({"default_users": 0}, "default_?[uU]sers.*greater than or equal to 1", id="wrong-value"),
            pytest.param({"target_url": None}, "target_?[uU]rl", id="required-field-removed"),
            pytest.param({"default_duration_sec": 7200}, "over maxDurationSec 3600", id="over-the-stored-maximum"),
            pytest.param({"id": "test-2"}, "the field to change must be one of .*name.*; not 'id'", id="id"),
            pytest.param({"recent_runs": ()}, "not 'recent_runs'", id="kept-by-the-store"),
            pytest.param({"colour": "red"}, "not 'colour'", id="unknown"),
        ],
    )
    def test_update_refuses_what_does_not_fit(self, store: Store, fields: dict, reason: str) -> None:
        test = store.load_tests.add(a_test())
        with pytest.raises(InvalidInput, match=reason):
            store.load_tests.update(test.id, **fields)
        assert store.load_tests.get(test.id) == test

    def test_a_new_name_must_be_free(self, store: Store) -> None:
        store.load_tests.add(a_test(name="search"))
        test = store.load_tests.add(a_test())
        with pytest.raises(Conflict, match="'search'"):
            store.load_tests.update(test.id, name="search")
        with pytest.raises(NotFound):
            store.load_tests.update("test-0", name="x")

    def test_limits_that_are_changed_at_once_never_contradict_each_other(self, store: Store) -> None:
        test = store.load_tests.add(a_test(default_duration_sec=60, max_duration_sec=3600))

        def shorten(_: int) -> bool:
            try:
                return bool(store.load_tests.update(test.id, max_duration_sec=100))
            except InvalidInput:
                return False

        def lengthen(_: int) -> bool:
            try:
                return bool(store.load_tests.update(test.id, default_duration_sec=3000))
            except InvalidInput:
                return False

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(work, n) for n in range(4) for work in (shorten, lengthen)]
        assert len({future.result() for future in done}) == 2
        kept = store.load_tests.get(test.id)
        assert kept.default_duration_sec <= kept.max_duration_sec


class TestRevisions:
    def test_they_are_numbered_and_kept_byte_for_byte(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        first = store.script_revisions.add(test.id, SCRIPT, description="first", by="ann")
        second = store.script_revisions.add(test.id, SCRIPT)
        assert [first.revision_number, second.revision_number] == [1, 2]
        assert store.script_revisions.get(first.id) == first
        assert store.script_revisions.get(first.id).script == SCRIPT
        assert store.script_revisions.number(test.id, 1) == first
        assert store.script_revisions.latest(test.id) == second
        assert store.script_revisions.all(test.id) == [first, second]
        kept = store.load_tests.get(test.id)
        assert (kept.latest_revision_id, kept.latest_revision_number) == (second.id, 2)

    def test_twenty_writers_at_once_get_twenty_numbers(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        with ThreadPoolExecutor(20) as pool:
            added = list(pool.map(lambda n: store.script_revisions.add(test.id, b"%d" % n), range(20)))
        assert sorted(revision.revision_number for revision in added) == list(range(1, 21))
        stored = store.script_revisions.all(test.id)
        assert sorted(stored, key=lambda r: r.id) == sorted(added, key=lambda r: r.id)
        kept = store.load_tests.get(test.id)
        assert (kept.latest_revision_id, kept.latest_revision_number) == (stored[-1].id, 20)

    def test_a_number_is_never_used_again(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        store.script_revisions.add(test.id, b"1")
        second = store.script_revisions.add(test.id, b"2")
        store.database.script_revisions.delete_one({"_id": second.id})
        assert store.script_revisions.add(test.id, b"3").revision_number == 3

    def test_a_writer_that_died_before_naming_the_latest_is_made_up_for(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        store.script_revisions.add(test.id, b"1")
        store.database.load_tests.update_one({"_id": test.id}, {"$set": {"latestRevisionNumber": 0}})
        second = store.script_revisions.add(test.id, b"2")
        assert second.revision_number == 2
        assert store.load_tests.get(test.id).latest_revision_id == second.id

    def test_what_is_not_there_is_said_with_what_is(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        with pytest.raises(NotFound, match="has no script yet"):
            store.script_revisions.latest(test.id)
        store.script_revisions.add(test.id, b"1")
        with pytest.raises(NotFound, match="has no revision 7: it has revision 1 only"):
            store.script_revisions.number(test.id, 7)
        store.script_revisions.add(test.id, b"2")
        with pytest.raises(NotFound, match="it has revisions 1 to 2"):
            store.script_revisions.number(test.id, 7)
        with pytest.raises(NotFound, match="no script revision rev-0"):
            store.script_revisions.get("rev-0")
        with pytest.raises(NotFound, match="no test test-0"):
            store.script_revisions.add("test-0", b"1")

    def test_a_script_that_is_too_large_leaves_nothing_behind(self, store: Store) -> None:
        test = store.load_tests.add(a_test())
        with pytest.raises(InvalidInput, match=r"script_?[cC]ontent"):
            store.script_revisions.add(test.id, b"x" * 1_100_000)
        assert store.script_revisions.all(test.id) == []


class TestTokens:
    def test_a_token_is_for_its_run_until_it_is_revoked(self, store: Store) -> None:
        run, other = store.runs.add(a_run()), store.runs.add(a_run())
        token, second, foreign = (store.tokens.create_push(r.id) for r in (run, run, other))
        assert [store.tokens.run_of(t) for t in (token, second, foreign)] == [run.id, run.id, other.id]
        store.tokens.revoke(run.id)
        assert [store.tokens.run_of(t) for t in (token, second, foreign)] == [None, None, other.id]

    def test_only_the_hash_is_stored(self, store: Store) -> None:
        token = store.tokens.create_push("run-1")
        assert token not in str(list(store.database.tokens.find()))
        assert len(store.database.tokens.find_one()["_id"]) == 64

    @pytest.mark.parametrize("token", ["", "x", "tok\xe9n", "\ud800", "\x00", "x" * 10_240, "lbp_" + "A" * 43])
    def test_any_other_text_is_no_token(self, store: Store, token: str) -> None:
        store.tokens.create_push("run-1")
        assert store.tokens.run_of(token) is None

    def test_its_digest_is_no_token(self, store: Store) -> None:
        store.tokens.create_push("run-1")
        assert store.tokens.run_of(store.database.tokens.find_one()["_id"]) is None


class TestHome:
    def test_the_variable_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOADBENCH_HOME", str(tmp_path / "a" / "b"))
        assert data_home() == tmp_path / "a" / "b"
        assert data_home().stat().st_mode & 0o777 == 0o700

    def test_without_it_the_xdg_directory_and_then_the_home_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("LOADBENCH_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert data_home() == tmp_path / "xdg" / "loadbench"
        for ignored in ("", "relative"):
            monkeypatch.setenv("XDG_DATA_HOME", ignored)
            assert data_home() == tmp_path / ".local" / "share" / "loadbench"

    def test_one_that_others_may_read_is_closed_to_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "open").mkdir(mode=0o755)
        monkeypatch.setenv("LOADBENCH_HOME", str(tmp_path / "open"))
        assert data_home().stat().st_mode & 0o777 == 0o700

    def test_one_that_cannot_be_made_is_one_clear_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("LOADBENCH_HOME", str(tmp_path / "file" / "home"))
        with pytest.raises(InvalidInput, match="set LOADBENCH_HOME to a directory of your own"):
            data_home()
