"""What all records share, and what is said of one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from loadbench.errors import InvalidInput
from loadbench.model.fields import PATTERNS, Millis, Name, now_ms

PARAMETERS = {
    "default_users": "users",
    "default_spawn_rate": "spawn_rate",
    "default_duration_sec": "duration",
    "max_duration_sec": "max_duration",
    "target_users": "users",
    "duration_sec": "duration",
}
"""What callers call the fields that they give as parameters of a test or a run."""


def invalid_input(error: ValidationError, names: Mapping[str, str] | None = None) -> InvalidInput:
    """Turn pydantic's report into one line about its first finding; `names` says what the caller calls a field."""
    first = error.errors(include_url=False)[0]
    field = ".".join((names or {}).get(str(part), str(part)) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        message = f"Input must be {PATTERNS[first['ctx']['pattern']]}"
    given = first.get("input")
    shown = f"; not {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) < 80 else ""
    if field and message.startswith(("Input ", "String ")):
        message = f"{field} {message.partition(' ')[2]}"
    elif field:
        message = f"{field}: {message}"
    return InvalidInput(f"{message}{shown}", field=field or None)


class Record(BaseModel):
    """What all records share: frozen, strict, no unknown fields, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
    )

    def to_mongo(self) -> dict[str, Any]:
        """Give the MongoDB document: camelCase names, `id` as `_id`, absent values left out."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        if "id" in document:
            document["_id"] = document.pop("id")
        return document

    @classmethod
    def from_mongo(cls, document: dict[str, Any]) -> Self:
        """Read a MongoDB document that `to_mongo` wrote."""
        fields = dict(document)
        if "_id" in fields:
            fields["id"] = fields.pop("_id")
        return cls.model_validate(fields)

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Make a record, or raise InvalidInput with one line that names the first field that is wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise invalid_input(error) from None


class Audited(Record):
    """Who made a record and who changed it last."""

    created_at: Millis = Field(default_factory=now_ms)
    created_by: Name = "unknown"
    updated_at: Millis = Field(default_factory=now_ms)
    updated_by: Name = "unknown"
