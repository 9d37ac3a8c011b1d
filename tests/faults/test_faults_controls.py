"""Negative controls: each takes one safeguard away, and the harness must see what that costs."""

from __future__ import annotations

import random
import time

import pytest
from bson import ObjectId
from pymongo import WriteConcern

from loadbench.store.documents import Documents
from tests.faults import loads
from tests.faults.crashes import crash_often
from tests.faults.proxy import Trouble
from tests.faults.sessions import Session
from tests.faults.truth import verify
from tests.faults.victims import kernel_pid, kill

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture
def not_journaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledge writes that are in memory only: what the driver does by itself."""
    monkeypatch.setattr("loadbench.store.database.WriteConcern", lambda w, j: WriteConcern(w=1, j=False))


@pytest.mark.usefixtures("not_journaled")
def test_f07_is_red_without_the_journal(bench, own_mongod, ledger, shop):
    run = loads.start(bench, shop, ledger, duration="10m")
    with pytest.raises(AssertionError, match="acknowledged intervals lost"):
        crash_often(own_mongod, ledger, bench._backend.receiver, run.id, trials=20)


@pytest.fixture
def no_unique_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store intervals under an id that says nothing, as most collections do."""
    insert = Documents.insert
    monkeypatch.setattr(Documents, "insert", lambda self, document: insert(self, anonymous(document)))


def anonymous(document: dict) -> dict:
    return document | {"_id": ObjectId()} if "seq" in document else document


@pytest.mark.usefixtures("no_unique_key")
def test_f11_is_red_without_the_unique_key(bench, proxy, ledger, shop):
    chance = random.Random(11)
    proxy.trouble = lambda number, path: Trouble(drop_answer=chance.random() < 0.3)
    run = loads.start(bench, shop, ledger, duration="12s")
    run.wait()
    with pytest.raises(AssertionError, match="are there twice"):
        verify(ledger, run.id, shop)


NO_SPOOL = """
from loadbench.agent.sender import Sender
from loadbench.agent.spool import Letter

back_off = Sender._back_off

def forget(self, answer):
    letter = self._off_loop(self._spool.head)
    if letter.kind == "metrics":
        self._off_loop(self._spool.delete, letter)
    return back_off(self, answer)

Sender._back_off = forget
"""


def test_f01_is_red_without_the_spool(notebook, ledger, shop):
    session = Session(notebook, shop, script=NO_SPOOL + loads.PACED)
    session.open()
    run_id, _ = session.start(ledger, duration="15s")
    kill(kernel_pid(notebook))
    time.sleep(4)
    notebook.restart(now=True)
    session.open()
    session.finish(run_id)
    with pytest.raises(AssertionError, match="lost intervals"):
        verify(ledger, run_id, shop)
