"""The one door to MongoDB: repositories reach their collection through it.

Every failure to reach MongoDB, at the first call or at any later one, leaves here as `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import create_model
from pymongo import IndexModel, ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from loadbench.errors import StoreUnavailable, one_of
from loadbench.model import Record

_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_OUT_OF_DISK = 14031
T = TypeVar("T")
NEWEST_FIRST = (("createdAt", -1), ("_id", -1))


class Place(NamedTuple):
    """Where a MongoDB is, and what to do when it is not there."""

    address: str
    remedy: str

    def silent(self) -> StoreUnavailable:
        return StoreUnavailable(f"MongoDB at {self.address} does not answer: {self.remedy}")


@contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Turn pymongo's ways to say that MongoDB is not there, or not for us, into StoreUnavailable."""
    try:
        yield
    except (ConnectionFailure, WTimeoutError) as error:
        raise place.silent() from error
    except OperationFailure as error:
        if error.code == _AUTHENTICATION_FAILED:
            raise StoreUnavailable(
                f"authentication failed at MongoDB {place.address}: check the user and password in the URI"
            ) from error
        if error.code == _UNAUTHORIZED:
            raise StoreUnavailable(
                f"MongoDB at {place.address} does not let this user in: give it the role readWrite on the database"
            ) from error
        if error.code == _OUT_OF_DISK:
            raise StoreUnavailable(f"MongoDB at {place.address} has no disk space left: free some") from error
        raise
    except InvalidOperation:
        raise StoreUnavailable("this workbench is closed: open it again by making it anew") from None
    except ConfigurationError as error:
        raise StoreUnavailable(f"MongoDB at {place.address} cannot be used: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class Documents:
    """One collection. `DuplicateKeyError` passes through: it is an answer, and repositories ask for it."""

    def __init__(self, collection: Collection[dict[str, Any]], place: Place) -> None:
        self._collection = collection
        self._relaxed = collection.with_options(write_concern=WriteConcern(w=1, j=False))
        self._place = place

    def __repr__(self) -> str:
        return f"Documents({self._place.address}/{self._collection.full_name})"

    def _read(self, query: Callable[[], T]) -> T:
        """Ask once more over a new connection if MongoDB was restarted, but not if it is away or hangs."""
        with reaching(self._place):
            try:
                return query()
            except (NetworkTimeout, ServerSelectionTimeoutError):
                raise
            except AutoReconnect:
                return query()

    def insert(self, document: dict[str, Any]) -> None:
        with reaching(self._place):
            self._collection.insert_one(document)

    def put(self, document: dict[str, Any]) -> None:
        """Store a document in place of the one with its `_id`, if there is one."""
        with reaching(self._place):
            try:
                self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)
            except DuplicateKeyError:  # somebody else has put the first one at the same moment
                self._collection.replace_one({"_id": document["_id"]}, document)

    def insert_all(self, documents: Sequence[dict[str, Any]]) -> None:
        with reaching(self._place):
            self._collection.insert_many(documents, ordered=False)

    def count(self, where: Mapping[str, Any]) -> int:
        return self._read(lambda: self._collection.count_documents(where))

    def one(self, where: Mapping[str, Any], *, sort: Sequence[tuple[str, int]] | None = None,
            fields: Iterable[str] | None = None) -> dict[str, Any] | None:  # fmt: skip
        return self._read(lambda: self._collection.find_one(where, _projection(fields), sort=sort))

    def many(self, where: Mapping[str, Any], *, sort: Sequence[tuple[str, int]] | None = None, limit: int = 0,
             fields: Iterable[str] | None = None) -> list[dict[str, Any]]:  # fmt: skip
        return self._read(lambda: list(self._collection.find(where, _projection(fields), sort=sort, limit=limit)))

    def distinct(self, field: str, where: Mapping[str, Any]) -> list[Any]:
        return self._read(lambda: self._collection.distinct(field, where))

    def update(self, where: Mapping[str, Any], change: Mapping[str, Any], *,
               array_filters: Sequence[Mapping[str, Any]] | None = None, journal: bool = True) -> bool:  # fmt: skip
        """Change the first document that fits; say whether there was one."""
        collection = self._collection if journal else self._relaxed
        with reaching(self._place):
            return collection.update_one(where, change, array_filters=array_filters).matched_count == 1

    def take(self, where: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change the first document that fits and give it as it is now; None if none fits."""
        with reaching(self._place):
            return self._collection.find_one_and_update(where, change, return_document=ReturnDocument.AFTER)

    def delete(self, where: Mapping[str, Any]) -> int:
        with reaching(self._place):
            return self._collection.delete_many(where).deleted_count

    def index(self, indexes: Sequence[IndexModel]) -> None:
        with reaching(self._place):
            self._collection.create_indexes(list(indexes))


def _projection(fields: Iterable[str] | None) -> dict[str, bool] | None:
    return None if fields is None else {"_id": False, **dict.fromkeys(fields, True)}


def changes(record: type[Record], fields: Mapping[str, Any], *, fixed: frozenset[str]) -> dict[str, Any]:
    """Check new values as the record would, and write them as a MongoDB update; None removes an optional field.

    Raises
    ------
    InvalidInput
        If a field is unknown, may not be changed, or its value is wrong.
    """
    names = [name for name in record.model_fields if name not in fixed]
    for name in fields:
        if name not in names:
            raise one_of("the field to change", name, names)
    checked = _partial(record).build(**fields)
    values = checked.model_dump(by_alias=True, exclude_none=True, include=set(fields))
    absent = {_alias(record, name): "" for name, value in fields.items() if value is None}
    return {"$set": values} | ({"$unset": absent} if absent else {})


def unchanged(seen: Record, names: Iterable[str]) -> dict[str, Any]:
    """Give the filter for a document whose fields `names` have the values of `seen`."""
    names = set(names)
    values = dict.fromkeys(_alias(type(seen), name) for name in names)
    values |= seen.model_dump(by_alias=True, exclude_none=True, include=names)  # within a value too, as it is stored
    return {name: {"$eq": value} for name, value in values.items()}  # $eq: else a key of metadata may be an operator


@cache
def _partial(record: type[Record]) -> type[Record]:
    """The record with every field optional, each still checked as in the record."""
    fields: dict[str, Any] = {
        name: (Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation, None)
        for name, info in record.model_fields.items()
    }
    return create_model(f"{record.__name__}Changes", __base__=Record, **fields)


def _alias(record: type[Record], name: str) -> str:
    return record.model_fields[name].alias or name
