"""Which clusters there are, which of them performs a run, and the file that says so: `loadbench.toml`.

    [receiver]
    host = "0.0.0.0"
    port = 8765
    advertised_url = "http://10.0.0.5:8765"

    [[cluster]]
    id = "lab"
    kind = "cluster"
    base_url = "http://10.0.0.7:8090"
    account_id = "acme"
    token_env = "LAB_TOKEN"

    [retention]
    days = 90

The file is looked for in the working directory and then above it; `LOADBENCH_CONFIG` names another one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from loadbench.errors import InvalidInput, NotFound
from loadbench.model import Cluster, Items, LoadTest, Name, Record, Url, invalid_input

CONFIG_NAME = "loadbench.toml"
ENV_CONFIG = "LOADBENCH_CONFIG"
LOCAL = Cluster(id="local", kind="local")
"""Fresh Locust processes on this machine: always there, unless the configuration defines another `local`."""


class ReceiverSettings(Record):
    """Where the receiver listens, and by which URL agents on other machines reach it."""

    host: Name | None = None
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    advertised_url: Url | None = None
    allowed_hosts: Items(Name) = ()


class RetentionSettings(Record):
    """For how long intervals are kept; for ever if nothing is said."""

    days: Annotated[int, Field(ge=1, le=99_999)] | None = None


class Configuration(Record):
    """What `loadbench.toml` says."""

    receiver: ReceiverSettings = ReceiverSettings()
    retention: RetentionSettings = RetentionSettings()
    cluster: Items(Cluster) = ()

    @classmethod
    def read(cls, path: Path | None = None) -> Configuration:
        """Read a file; left out, the one that applies here. Without any, everything has its default.

        Raises
        ------
        InvalidInput
            If the file is missing, no TOML, or says something unknown; names it and the field.
        """
        path = path or find_config()
        if path is None:
            return cls()
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidInput(f"{path} cannot be read: {reason}", field=ENV_CONFIG) from None
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            problem = invalid_input(error)
            raise InvalidInput(f"{path}: {problem}", field=problem.field) from None


def find_config() -> Path | None:
    """Say which file applies here: the one that `LOADBENCH_CONFIG` names, else the nearest one, here or above."""
    if named := os.environ.get(ENV_CONFIG):
        return Path(named).expanduser()
    here = Path.cwd()
    return next((folder / CONFIG_NAME for folder in (here, *here.parents) if (folder / CONFIG_NAME).is_file()), None)


class Clusters:
    """The clusters of a configuration, and the built-in `local`."""

    def __init__(self, clusters: Iterable[Cluster | dict[str, Any]] = ()) -> None:
        given = [one if isinstance(one, Cluster) else Cluster.build(**one) for one in clusters]
        ids = [cluster.id for cluster in given]
        for twice in {one for one in ids if ids.count(one) > 1}:
            raise InvalidInput(f"there are two clusters {twice!r}: give each an id of its own", field="cluster")
        self._clusters = [*given, *([] if LOCAL.id in ids else [LOCAL])]

    def __repr__(self) -> str:
        return f"<Clusters: {', '.join(map(str, self._clusters))}>"

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters)

    def __len__(self) -> int:
        return len(self._clusters)

    def find(self, cluster_id: str | None) -> Cluster | None:
        return next((cluster for cluster in self._clusters if cluster.id == cluster_id), None)


def resolve(clusters: Iterable[Cluster], test: LoadTest, override: str | None = None) -> Cluster:
    """Say which cluster performs a run: the one named for it, else for its test, else the one that fits the test best.

    Best is the most specific scope; a cluster without any scope serves every test, but only when it is named. If
    nothing fits, it is the built-in `local`.

    Parameters
    ----------
    clusters : iterable of Cluster
        Those there are.
    test : LoadTest
    override : str, optional
        The id of the cluster that was asked for.

    Raises
    ------
    NotFound
        If the one that was named does not exist or does not serve the test, or nothing fits; lists what does.
    InvalidInput
        If several fit equally well.
    """
    serving = [cluster for cluster in clusters if _serves(cluster, test)]
    named = override or test.cluster_id
    if named is not None:
        chosen = [cluster for cluster in serving if cluster.id == named]
    else:
        best = max(map(_depth, serving), default=0)
        chosen = [cluster for cluster in serving if _depth(cluster) == best and (best or cluster.id == LOCAL.id)]
    if len(chosen) > 1:
        ids = " and ".join(cluster.id for cluster in chosen)
        raise InvalidInput(f"clusters {ids} serve {test.scope} equally well: name one, for the test or the run",
                           field="cluster")  # fmt: skip
    if not chosen:
        what = f"no cluster {named!r}" if named else "no cluster"
        raise NotFound(f"{what} serves {test.scope}; {_listed(serving)}")
    return chosen[0]


def _listed(serving: Sequence[Cluster]) -> str:
    there = ", ".join(map(str, serving))
    return f"these do: {there}" if there else f"define one in {CONFIG_NAME}, or leave the built-in local as it is"


def _serves(cluster: Cluster, test: LoadTest) -> bool:
    parts = ("account_id", "org_id", "project_id", "env_id")
    return all(getattr(cluster, part) in (None, getattr(test, part)) for part in parts)


def _depth(cluster: Cluster) -> int:
    path = (cluster.account_id, cluster.org_id, cluster.project_id)
    return 2 * sum(part is not None for part in path) + (cluster.env_id is not None)
