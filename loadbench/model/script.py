"""A Locust script: its revisions, and the arguments on its own command line."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from loadbench.model.fields import INT64_MAX, Id, Matching, Sha256, Text, new_id
from loadbench.model.record import Audited

MAX_SCRIPT_BYTES = 700 * 1024
"""In base64 and with all that a request says beside it, it fits a body of 1 MiB."""

ScriptArgument = Matching(r"^--[A-Za-z][A-Za-z0-9_-]{0,63}(=.*)?$", "an option such as --tags=smoke", max_length=1000)
"""One of a script's own command line arguments, as `--shop=corner`."""


class RevisionEntry(Audited):
    """A revision as it stands in a list: all but the script itself."""

    id: Id = Field(default_factory=lambda: new_id("rev"))
    load_test_id: Id
    revision_number: Annotated[int, Field(ge=1, le=INT64_MAX)]
    sha256: Sha256
    description: Text = ""


class ScriptRevision(RevisionEntry):
    """A Locust script as it was at one moment. Never edited: an edit is a new revision."""

    script_content: Annotated[str, Field(max_length=1_400_000)]  # what an earlier version stored can be read still

    @model_validator(mode="after")
    def _content_matches_hash(self) -> Self:
        try:
            content = base64.b64decode(self.script_content, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("scriptContent must be base64") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError("sha256 is not that of scriptContent")
        return self

    @property
    def script(self) -> bytes:
        """The script itself, byte for byte."""
        return base64.b64decode(self.script_content)


def script_arguments(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Write values for a script's own arguments as its command line: `{"shop": "corner"}` is `--shop=corner`.

    True gives the bare option, False and None none at all.
    """
    given = {name.replace("_", "-"): value for name, value in values.items()}
    return tuple(
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    )
