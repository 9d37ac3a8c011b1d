"""Store: the connection to MongoDB and the repositories on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.errors import (
    CollectionInvalid,
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    NetworkTimeout,
    OperationFailure,
)
from pymongo.uri_parser import parse_uri

from loadbench.errors import InvalidInput, StoreUnavailable
from loadbench.home import data_home
from loadbench.store.change_marks import ChangeMarks
from loadbench.store.documents import Documents, Place, one_line, reaching
from loadbench.store.idempotency_keys import IdempotencyKeys
from loadbench.store.load_test_runs import LoadTestRuns
from loadbench.store.load_tests import LoadTests
from loadbench.store.metrics_timeseries import Ledger
from loadbench.store.mongod import DATABASE, Mongod
from loadbench.store.run_summaries import RunSummaries
from loadbench.store.schedules import Schedules
from loadbench.store.script_revisions import ScriptRevisions
from loadbench.store.tokens import Tokens

ENV_URI = "LOADBENCH_MONGODB_URI"

# pymongo's own defaults let one call block for 30 s when MongoDB is away; with these timeouts alone its retries still
# make 9 to 11 s of 4 s when MongoDB hangs. (pymongo.timeout bounds a call too, but it replaces the server selection
# timeout: 4 s to notice that nobody listens.) An option that the URI names is left to the URI.
_BOUNDS = {
    "serverSelectionTimeoutMS": 1500,
    "connectTimeoutMS": 1500,
    "socketTimeoutMS": 4000,
    "retryReads": False,
    "maxAdaptiveRetries": 0,
}

_ENGINE_OPTIONS_REFUSED = (2, 9, 72, 8000)  # BadValue, FailedToParse, InvalidOptions, AtlasError
_EXISTS = 48  # another process was quicker

_SCOPE = [("accountId", ASCENDING), ("orgId", ASCENDING), ("projectId", ASCENDING), ("envId", ASCENDING)]
_NEWEST = ("createdAt", DESCENDING)
_INDEXES = {
    "load_tests": [
        IndexModel([*_SCOPE, ("name", ASCENDING)], unique=True),
        IndexModel([("tags", ASCENDING)]),
        IndexModel([_NEWEST]),
    ],
    "script_revisions": [IndexModel([("loadTestId", ASCENDING), ("revisionNumber", ASCENDING)], unique=True)],
    "load_test_runs": [
        IndexModel([("loadTestId", ASCENDING), _NEWEST]),
        IndexModel([*_SCOPE, ("status", ASCENDING)]),
        IndexModel([("status", ASCENDING)]),
        IndexModel([_NEWEST]),
        IndexModel([("finishedAt", ASCENDING)]),
    ],
    "metrics_timeseries": [
        # `seq` is there so that reading a run in order needs no sort in memory, which MongoDB limits to 100 MB.
        IndexModel([("runId", ASCENDING), ("timestamp", ASCENDING), ("seq", ASCENDING)]),
        IndexModel([("runId", ASCENDING), ("source", ASCENDING), ("seq", ASCENDING)]),
        IndexModel([("timestamp", ASCENDING)]),
    ],
    "run_summaries": [IndexModel([("runId", ASCENDING)])],
    "change_marks": [IndexModel([("loadTestId", ASCENDING)])],
    "tokens": [
        IndexModel([("runId", ASCENDING)]),
        IndexModel([("tokenId", ASCENDING)], unique=True, partialFilterExpression={"kind": "api"}),
    ],
    "idempotency_keys": [IndexModel([("expiresAt", ASCENDING)])],
    "schedules": [
        IndexModel([*_SCOPE, ("name", ASCENDING)], unique=True),
        IndexModel([("enabled", ASCENDING), ("nextFireAt", ASCENDING)]),
        IndexModel([("fireAskedAt", ASCENDING)], sparse=True),
        IndexModel([_NEWEST]),
    ],
    "firings": [
        IndexModel([("scheduleId", ASCENDING), ("dueAt", DESCENDING)], unique=True),
        IndexModel([("outcome", ASCENDING), ("dueAt", ASCENDING)]),
    ],
}


class Store:
    """All records of loadbench, in one MongoDB database. Threads may share it; it is closed by `close` or `with`.

    `silence` says why MongoDB did not answer when a patient store was opened; it is empty once `prepare` has succeeded.
    """

    def __init__(
        self, client: MongoClient[dict[str, Any]], uri: str, *, database: str, place: Place, patient: bool = False
    ) -> None:
        self.uri = uri
        self._client = client
        self._place = place
        self.silence = ""
        try:
            w = self._acknowledgement()
        except StoreUnavailable as error:
            if not patient or not isinstance(error.__cause__, ConnectionFailure):
                raise
            w, self.silence = "majority", str(error)  # of one server, that is the one
        self.database: Database[dict[str, Any]] = client.get_database(database, write_concern=WriteConcern(w=w, j=True))
        self.load_tests = LoadTests(self._documents("load_tests"))
        self.script_revisions = ScriptRevisions(self._documents("script_revisions"), self._documents("load_tests"))
        self.runs = LoadTestRuns(self._documents("load_test_runs"), self._documents("load_tests"))
        self.ledger = Ledger(self._documents("metrics_timeseries"))
        self.run_summaries = RunSummaries(self._documents("run_summaries"))
        self.change_marks = ChangeMarks(self._documents("change_marks"))
        self.tokens = Tokens(self._documents("tokens"))
        self.idempotency_keys = IdempotencyKeys(self._documents("idempotency_keys"))
        self.schedules = Schedules(self._documents("schedules"), self._documents("firings"))

    def _acknowledgement(self) -> int | str:
        """Say how many must have a write: it has to survive the loss of a machine where there is more than one."""
        with reaching(self._place):
            hello = self._client.admin.command("hello")
        return "majority" if "setName" in hello or hello.get("msg") == "isdbgrid" else 1

    @classmethod
    def open(cls, uri: str | None = None, *, home: Path | None = None, patient: bool = False) -> Self:
        """Connect to MongoDB, and make the collections and indexes that are not there yet.

        Parameters
        ----------
        uri : str, optional
            A MongoDB URI; its path names the database, `loadbench` if it has none. Without one,
            `LOADBENCH_MONGODB_URI` is used, else the embedded mongod of `home`, which is started if it does not run.
        home : Path, optional
            The data directory of the embedded mongod; `loadbench.home.data_home()` if left out.
        patient : bool
            Whether to give a store also if nobody answers at the URI yet; `prepare` has to succeed before it is used.

        Raises
        ------
        StoreUnavailable
            If MongoDB does not answer, refuses the password, or no mongod can be found or started.
        InvalidInput
            If the URI cannot be read.
        """
        uri = uri or os.environ.get(ENV_URI)
        remedy = f"start it, or name another one in {ENV_URI}"
        if not uri:
            uri = Mongod(home or data_home()).find_or_start()
            remedy = "the embedded mongod has ended or hangs; opening the workbench again starts it"
        parsed = _parse(uri)
        address = ", ".join(f"{host}:{port}" if port else host for host, port in parsed["nodelist"])
        place = Place(address, remedy)
        with reaching(place):
            client: MongoClient[dict[str, Any]] = MongoClient(uri, **_options(parsed["options"]))
        try:
            store = cls(client, uri, database=parsed["database"] or DATABASE, place=place, patient=patient)
            if not store.silence:
                store.ensure_indexes()
        except BaseException:
            client.close()
            raise
        return store

    @classmethod
    @contextmanager
    def open_briefly(cls) -> Iterator[Self]:
        """Open the store for a `with` block; an embedded mongod that had to be started for it is stopped after it."""
        mongod = Mongod(data_home())
        ran_before = mongod.status().running
        try:
            with cls.open() as store:
                yield store
        finally:
            if not ran_before:
                mongod.stop()

    def prepare(self) -> None:
        """Make what is missing in the database of a patient store, now that MongoDB may answer.

        Raises
        ------
        StoreUnavailable
            If it still does not.
        """
        self.ensure_indexes()
        self.silence = ""

    def ensure_indexes(self) -> None:
        """Make the collections and indexes that are not there yet; several processes may do it at once.

        A busy disk can take longer over it than any other call may: it is asked once more then.
        """
        try:
            self._make_what_is_missing()
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, NetworkTimeout):
                raise
            self._make_what_is_missing()

    def _make_what_is_missing(self) -> None:
        with reaching(self._place):
            if "metrics_timeseries" not in self.database.list_collection_names():
                self._create_ledger()
        for name, indexes in _INDEXES.items():
            self._documents(name).index(indexes)

    def _create_ledger(self) -> None:
        try:
            self.database.create_collection(
                "metrics_timeseries", storageEngine={"wiredTiger": {"configString": "block_compressor=zstd"}}
            )
        except CollectionInvalid:
            pass  # another process was quicker
        except OperationFailure as error:
            # A hosted MongoDB may refuse engine options; its own compression will do.
            if error.code not in _ENGINE_OPTIONS_REFUSED and error.code != _EXISTS:
                raise

    def _documents(self, name: str) -> Documents:
        return Documents(self.database[name], self._place)

    def close(self) -> None:
        """End the connection. The embedded mongod goes on: other kernels may use it."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._place.address}/{self.database.name})"


def _parse(uri: str) -> dict[str, Any]:
    try:
        return parse_uri(uri, validate=True, warn=False)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise InvalidInput(
            f"the MongoDB URI cannot be used ({_without_secret(error, uri)}): "
            "it should read like mongodb://user:password@host:27017/loadbench",
            field=ENV_URI,
        ) from None


def _without_secret(error: Exception, uri: str) -> str:
    """The reason, unless it repeats a part of the URI that may hold the password."""
    login = uri.partition("://")[2].rpartition("@")[0]
    text = one_line(error)
    return "bad user or password part" if any(part and part in text for part in login.split(":")) else text


def _options(named: Any) -> dict[str, Any]:
    given = {name.lower() for name in named}
    return {"tz_aware": True, "appname": "loadbench"} | {
        name: value for name, value in _BOUNDS.items() if name.lower() not in given
    }
