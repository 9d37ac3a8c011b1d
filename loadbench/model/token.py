"""Who may do what over REST."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from loadbench.model.fields import Id, Millis, Name, new_id, now_ms
from loadbench.model.record import Record
from loadbench.model.scope import Scoped, ScopePart

Role = Literal["viewer", "runner", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "runner", "admin")
"""Each may do what those before it may: a viewer reads, a runner also starts, stops, writes; an admin also deletes."""


class ApiToken(Record):
    """Who may ask over REST, for what, and until when. The secret itself is kept nowhere, only its hash.

    A part of the scope that is left out means all: a token of an account is good for all of its organisations.
    """

    id: Id = Field(default_factory=lambda: new_id("tok"))
    name: Name
    role: Role
    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    created_at: Millis = Field(default_factory=now_ms)
    created_by: Name = "unknown"
    expires_at: Millis | None = None
    revoked_at: Millis | None = None

    @model_validator(mode="after")
    def _from_the_top(self) -> Self:
        if (self.project_id and not self.org_id) or (self.org_id and not self.account_id):
            raise ValueError("a scope is given from the top: account, account/organisation or all three")
        return self

    @property
    def scope_filter(self) -> dict[str, str]:
        """The parts of the scope that a record must have, by their names in MongoDB; empty for all."""
        return self.model_dump(by_alias=True, exclude_none=True, include={"account_id", "org_id", "project_id"})

    def allows(self, record: Scoped) -> bool:
        """Say whether a record is within the scope of this token."""
        mine = (self.account_id, self.org_id, self.project_id)
        theirs = (record.account_id, record.org_id, record.project_id)
        return all(part is None or part == other for part, other in zip(mine, theirs, strict=True))

    def may(self, role: Role) -> bool:
        """Say whether its role covers another one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def is_good(self, at_ms: int) -> bool:
        """Say whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or at_ms < self.expires_at)
