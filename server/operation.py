"""What one method of a route takes, gives and demands: OpenAPI says it, and the handler checks it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel, to_snake

from loadbench.model import Role

ALWAYS = (400, 401, 403, 421, 429, 503)
"""Statuses that every operation may answer: bad input, no token, role or page, wrong Host, too busy, no MongoDB."""
_PARAMETER = re.compile(r"\{(\w+)\}")


class Query(BaseModel):
    """The base of query strings: camelCase names, values as text; a name that is not declared is refused.

    A field that is a tuple may be given several times.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=False, allow_inf_nan=False
    )


class Problem(BaseModel):
    """Why a request was refused, as `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


@dataclass(frozen=True)
class Operation:
    """One method of a route.

    Parameters
    ----------
    summary : str
        One line, as in a table of contents.
    answer : type of BaseModel, optional
        The body of a good answer; left out, there is none (204).
    status : int
        Of a good answer.
    role : str
        The least role that may ask.
    query, body : type of BaseModel, optional
        What is read by `ApiHandler.query_of` and `ApiHandler.body_of`.
    refuses : tuple of int
        Statuses that it may answer besides `ALWAYS`, 404 for a path with an id, and 413 and 415 for one with a body.
    etag, if_match, idempotent : bool
        The answer has an `ETag`; an `If-Match` is honoured; an `Idempotency-Key` is honoured.
    name : str, optional
        The operationId; left out, it is made of method and path.
    """

    summary: str
    answer: type[BaseModel] | None = None
    status: int = 200
    role: Role = "viewer"
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    refuses: tuple[int, ...] = ()
    etag: bool = False
    if_match: bool = False
    idempotent: bool = False
    name: str = ""
    description: str = ""

    def problems(self, template: str) -> list[int]:
        """List the statuses of its error answers at a path."""
        statuses = {*ALWAYS, *self.refuses}
        statuses |= {404} if parameters(template) else set()
        statuses |= {413, 415} if self.body else set()
        statuses |= {412} if self.if_match else set()
        return sorted(statuses)


def parameters(template: str) -> list[str]:
    """Name the parameters of a path such as `/v1/runs/{runId}/graph`."""
    return _PARAMETER.findall(template)


def pattern(template: str) -> str:
    """Give Tornado's pattern for a path; the handler takes `{runId}` as `run_id`."""
    return _PARAMETER.sub(lambda match: f"(?P<{to_snake(match[1])}>[^/]+)", template)
