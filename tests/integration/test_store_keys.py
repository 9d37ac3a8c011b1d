"""Idempotency keys: one of many gets to start the run; an abandoned key can be taken over, an expired one is free."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from loadbench.model import now_ms
from loadbench.store import Store
from loadbench.store.idempotency_keys import ABANDONED_MS, Claim

pytestmark = pytest.mark.integration


def claim(store: Store, run_id: str, *, body: str = "a" * 64) -> Claim:
    return store.idempotency_keys.claim("test-1", "key", body_sha256=body, run_id=run_id)


def age(store: Store, **fields: int) -> None:
    store.database["idempotency_keys"].update_many({}, {"$set": fields})


def test_of_many_at_once_one_has_it_and_all_learn_which_run(store):
    with ThreadPoolExecutor(20) as pool:
        claims = list(pool.map(lambda n: claim(store, f"run-{n}"), range(20)))
    [mine] = [found for found in claims if found.is_mine]
    assert {found.run_id for found in claims} == {mine.run_id}


def test_the_key_of_another_test_is_another_key(store):
    first = claim(store, "run-1")
    other = store.idempotency_keys.claim("test-2", "key", body_sha256="b" * 64, run_id="run-2")
    assert first.is_mine
    assert other.is_mine


def test_a_young_key_is_not_taken_over_and_an_abandoned_one_by_one_only(store):
    claim(store, "run-1")
    known = claim(store, "run-2")
    assert store.idempotency_keys.take_over(known, run_id="run-2") is None
    age(store, claimedAt=now_ms() - ABANDONED_MS - 1)
    with ThreadPoolExecutor(10) as pool:
        taken = list(pool.map(lambda n: store.idempotency_keys.take_over(known, run_id=f"run-{n}"), range(2, 12)))
    [winner] = [found for found in taken if found]
    assert claim(store, "run-99").run_id == winner.run_id


def test_a_released_and_an_expired_key_are_free(store):
    store.idempotency_keys.release(claim(store, "run-1"))
    assert claim(store, "run-2").is_mine
    age(store, expiresAt=now_ms() - 1)
    assert claim(store, "run-3").is_mine


def test_releasing_what_somebody_else_has_by_now_does_nothing(store):
    old = claim(store, "run-1")
    age(store, claimedAt=now_ms() - ABANDONED_MS - 1)
    store.idempotency_keys.take_over(old, run_id="run-2")
    store.idempotency_keys.release(old)
    assert not claim(store, "run-3").is_mine
