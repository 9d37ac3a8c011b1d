"""Whose a record is."""

from __future__ import annotations

from loadbench.errors import InvalidInput
from loadbench.model.fields import Matching
from loadbench.model.record import Record

ScopePart = Matching(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", "1 to 64 letters, digits, _, . or -, and begin with a letter or a digit"
)


class Scope(Record):
    """Whose things these are: account > organisation > project, and optionally an environment."""

    account_id: ScopePart
    org_id: ScopePart
    project_id: ScopePart
    env_id: ScopePart | None = None

    @classmethod
    def parse(cls, text: str, env: str | None = None) -> Scope:
        """Read `account/organisation/project`."""
        parts = text.split("/")
        if len(parts) != 3:
            raise InvalidInput(
                f"scope must read account/organisation/project, for example acme/shop/checkout; not {text!r}",
                field="scope",
            )
        return cls.build(account_id=parts[0], org_id=parts[1], project_id=parts[2], env_id=env)

    def __str__(self) -> str:
        path = f"{self.account_id}/{self.org_id}/{self.project_id}"
        return f"{path} ({self.env_id})" if self.env_id else path


class Scoped(Record):
    """The scope fields of a stored record."""

    account_id: ScopePart
    org_id: ScopePart
    project_id: ScopePart
    env_id: ScopePart | None = None

    @property
    def scope(self) -> Scope:
        return Scope(account_id=self.account_id, org_id=self.org_id, project_id=self.project_id, env_id=self.env_id)
