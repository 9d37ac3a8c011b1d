"""Where runs are performed."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import model_validator

from loadbench.agent import wire
from loadbench.model.fields import Id, Matching, Url, WorkerCount
from loadbench.model.record import Record
from loadbench.model.scope import ScopePart

ClusterKind = Literal["local", "cluster", "external"]


class Cluster(Record):
    """Where runs are performed: fresh Locust processes here, a persistent master somewhere, or by somebody else's hand.

    The scope is what it serves; a part that is left out means all. `token_env` names the environment variable that
    holds the secret of a persistent master: the secret itself stands in no file.
    """

    id: Id
    kind: ClusterKind = "cluster"
    base_url: Url | None = None
    workers: WorkerCount = 0
    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    env_id: ScopePart | None = None
    token_env: Matching(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", "the name of an environment variable") = wire.ENV_AGENT_TOKEN

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "cluster" and self.base_url is None:
            raise ValueError(f"cluster {self.id} needs baseUrl, the URL that its `loadbench agent --master` prints")
        if self.kind != "cluster" and self.base_url is not None:
            raise ValueError(f"cluster {self.id} is {self.kind}: only the kind cluster has a baseUrl")
        if self.kind != "local" and self.workers:
            raise ValueError(f"cluster {self.id} is {self.kind}: only the kind local has a number of workers")
        path = (self.account_id, self.org_id, self.project_id)
        if any(part is None and below is not None for part, below in pairwise(path)):
            raise ValueError(f"the scope of cluster {self.id} is given from the top: account, organisation, project")
        if self.env_id is not None and self.account_id is None:
            raise ValueError(f"the scope of cluster {self.id} has an environment, but no account")
        return self

    def __str__(self) -> str:
        parts = [self.account_id, self.org_id, self.project_id]
        serves = "/".join(part for part in parts if part) + (f" ({self.env_id})" if self.env_id else "")
        where = f" at {self.base_url}" if self.base_url else ""
        return f"{self.id} [{self.kind}{where}]" + (f" for {serves}" if serves else "")
