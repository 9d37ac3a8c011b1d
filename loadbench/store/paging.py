"""Lists in pages. A cursor says after which record to go on, so records that come meanwhile move nothing."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from loadbench.errors import InvalidInput, one_of
from loadbench.model import INT64_MAX, Record
from loadbench.store.documents import Documents

SORTED_BY = {"createdAt": int, "updatedAt": int, "name": str}
"""By what lists may be sorted, `-` before it for descending: fields that every record has, with their types."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Page(Generic[R]):
    """Some records, and the cursor with which to ask for those after them; None at the end."""

    items: list[R]
    next_cursor: str | None


def page(
    documents: Documents,
    record: type[R],
    where: Mapping[str, Any],
    *,
    searched: Collection[str] = (),
    text: str | None = None,
    sort: str = "-createdAt",
    cursor: str | None = None,
    limit: int = 50,
    without: Collection[str] = (),
) -> Page[R]:
    """List one page of the records that fit a filter.

    Parameters
    ----------
    searched : collection of str
        The fields of the document in which `text` may be, in any case.
    sort : str
        One of `SORTED_BY`, with a `-` before it for descending. Equal ones are sorted by id.
    cursor : str, optional
        What the page before gave as `next_cursor`, with the same `sort`.
    limit : int
        At most so many, at least 1.
    without : collection of str
        Fields of the record that are not read, and have their default.

    Raises
    ------
    InvalidInput
        If `sort` or `cursor` cannot be used; it names the field.
    """
    field, direction = sort.removeprefix("-"), -1 if sort.startswith("-") else 1
    if field not in SORTED_BY:
        raise one_of("sort", sort, [name for key in SORTED_BY for name in (key, f"-{key}")])
    conditions: list[Mapping[str, Any]] = [where]
    if text:
        conditions.append({"$or": [{name: {"$regex": re.escape(text), "$options": "i"}} for name in searched]})
    if cursor is not None:
        value, last_id = _read(cursor, sort, SORTED_BY[field])
        beyond = "$gt" if direction > 0 else "$lt"
        conditions.append({"$or": [{field: {beyond: value}}, {field: value, "_id": {beyond: last_id}}]})
    fields = ["_id", *(info.alias or name for name, info in record.model_fields.items() if name not in without)]
    found = documents.many(
        {"$and": conditions}, sort=((field, direction), ("_id", direction)), limit=limit + 1, fields=fields
    )
    more = len(found) > limit
    found = found[:limit]
    next_cursor = _write([sort, found[-1][field], found[-1]["_id"]]) if more else None
    return Page([record.from_mongo(document) for document in found], next_cursor)


def _write(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(cursor: str, sort: str, kind: type) -> tuple[Any, str]:
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        of_sort, value, last_id = json.loads(content)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _useless() from None
    fits = type(value) is kind and type(last_id) is str and (kind is str or abs(value) <= INT64_MAX)
    if not fits or not _storable(last_id) or (kind is str and not _storable(value)):
        raise _useless()
    if of_sort != sort:
        raise InvalidInput("cursor belongs to another sort: give the sort of the page before", field="cursor")
    return value, last_id


def _storable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _useless() -> InvalidInput:
    return InvalidInput("cursor is none of ours: give nextCursor of the page before, or leave it out", field="cursor")
