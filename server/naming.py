"""Names: what a notebook calls a parameter, and what the API calls the same field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from loadbench.errors import InvalidInput
from loadbench.model import PARAMETERS

FIELDS = {
    "users": "targetUsers",
    "spawn_rate": "spawnRate",
    "duration": "durationSec",
    "target_url": "targetUrl",
    "revision": "revisionNumber",
    "script": "scriptContent",
    "cluster": "clusterId",
    "report_directory": "reportDirectory",
    "grace": "graceSec",
}
"""What the API calls the parameters that a notebook gives."""
_IN_TEXTS = {name: alias for name, alias in FIELDS.items() if "_" in name} | {
    "max_duration": "maxDurationSec",
    "web_ui": "webUi",
}
_QUOTED = re.compile(r"""('[^']*'|"[^"]*"|https?://\S+)""")


def in_wire_words(detail: str, field: str | None) -> tuple[str, str | None]:
    """Give the text and the field of an error as the API calls things; what is quoted is the caller's own."""
    if field is None:
        return detail, None
    alias = FIELDS.get(field, field)
    parts = _QUOTED.split(detail)
    if alias != field:
        parts[0] = re.sub(rf"^{re.escape(field)}\b", alias, parts[0])
    for place in range(0, len(parts), 2):
        for name, wire_name in _IN_TEXTS.items():
            parts[place] = re.sub(rf"\b{name}\b", wire_name, parts[place])
    return "".join(parts), alias


def unknown_field(model: type[BaseModel], error: ValidationError) -> InvalidInput | None:
    """Say of a field that a body does not have what it may be called; None if that is not what is wrong."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return None
    *above, given = first["loc"]
    place = _model_at(model, above)
    if place is None:
        return None
    aliases = {name: info.alias or name for name, info in place.model_fields.items()}
    meant = _meant(str(given), aliases)
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    field = ".".join(map(str, first["loc"]))
    return InvalidInput(f"there is no field {field[:200]}: {hint}it takes {', '.join(aliases.values())}", field=field)


def _meant(given: str, aliases: dict[str, str]) -> list[str]:
    """Name the fields that go by this name elsewhere, else those that are spelled nearly so."""
    known = [alias for name, alias in aliases.items() if given in (PARAMETERS.get(name), name)]
    known += [alias for alias in (FIELDS.get(given), to_camel(given)) if alias in aliases.values()]
    near = difflib.get_close_matches(given, aliases.values(), n=1)
    return list(dict.fromkeys(known)) or near


def _model_at(model: type[BaseModel], path: Iterable[Any]) -> type[BaseModel] | None:
    """Find the model of a part of a body."""
    for name in path:
        if isinstance(name, int):
            continue
        info = next((info for key, info in model.model_fields.items() if name in (key, info.alias)), None)
        found = info and _model_in(info.annotation)
        if not found:
            return None
        model = found
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
