"""A persistent Locust master: runs are handed to it over HTTP, and it performs them on its workers.

The master answers at once that it takes a run; whether its script could be loaded everywhere is asked afterwards, like
whether a local process lives. Figures are pushed as by any run: nothing is polled for them.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from loadbench.agent import wire
from loadbench.agent.sender import plain_session
from loadbench.errors import Conflict, InvalidInput, LoadbenchError, RunFailed, TargetUnreachable
from loadbench.home import data_home
from loadbench.launch.base import STOP_TIMEOUT_S, RunContext
from loadbench.launch.script import explain
from loadbench.model import Cluster, LoadTestRun

CONNECT_WITHIN_S = 2.0
ANSWER_WITHIN_S = 8.0
ASK_WITHIN_S = 3.0
_ALIVE = ("loading", "running", "delivering")


class ClusterLauncher:
    """Hands runs to the persistent master of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session = plain_session()

    def __repr__(self) -> str:
        return f"<ClusterLauncher on {self._cluster}>"

    def start(self, run: LoadTestRun, script: bytes, context: RunContext) -> None:
        """Check that both sides reach each other, and hand the run over.

        Raises
        ------
        RunFailed
            If one side cannot reach the other, saying which; or if the token or the order is refused.
        TargetUnreachable
            If the cluster does not reach the system under test.
        Conflict
            If the cluster is busy, or has no workers.
        """
        self._check_reach(run, context)
        order = {
            "runId": run.id,
            "script": base64.b64encode(script).decode(),
            "sha256": hashlib.sha256(script).hexdigest(),
            "receiverUrl": context.receiver_url,
            "pushToken": context.token,
            "targetUrl": run.target_url,
            "users": run.target_users,
            "spawnRate": run.spawn_rate,
            "durationSec": run.duration_sec,
            "stopTimeoutSec": STOP_TIMEOUT_S,
            "arguments": list(run.arguments),
        }
        self._ask("POST", "/runs", order, within_s=ANSWER_WITHIN_S)

    def is_alive(self, run: LoadTestRun) -> bool | None:
        """Ask the master whether it has this run; None if it does not answer: then the lease decides."""
        try:
            return self._ask("GET", f"/runs/{run.id}")["state"] in _ALIVE
        except Unknown:
            return None if run.started_at is None else False  # it may be on its way there
        except (RunFailed, Conflict):
            return None

    def stop(self, run: LoadTestRun) -> None:
        """Ask the master to stop the run. If it cannot be reached, the answer to its next push tells it."""
        self._try("POST", f"/runs/{run.id}/stop", {"force": False})

    def kill(self, run: LoadTestRun) -> None:
        """Let all workers of the run drop what they do."""
        self._try("POST", f"/runs/{run.id}/stop", {"force": True})

    def last_words(self, run: LoadTestRun) -> str:
        """Say why the run failed, as the master tells it, naming the worker if it was one."""
        try:
            told = self._ask("GET", f"/runs/{run.id}")
        except Unknown as error:
            return str(error)
        except (RunFailed, Conflict):
            return ""
        words = explain(told["error"]) or told["error"].strip().rpartition("\n")[2]
        if not words:
            return ""
        where = f"worker {told['worker']}" if told["worker"] else f"the master of cluster {self._cluster.id}"
        return f"{where}: {words}"

    def deliver(self, run: LoadTestRun, context: RunContext) -> int:
        """Let the master send what an earlier process of it left undelivered; give the number of messages."""
        body = {"receiverUrl": context.receiver_url, "pushToken": context.token}
        told = self._try("POST", f"/runs/{run.id}/deliver", body)
        return told["delivered"] if told else 0

    def state(self) -> dict[str, Any]:
        """Ask the master for its versions, its workers and its run.

        Raises
        ------
        RunFailed
            If it does not answer, or refuses the token.
        """
        return self._ask("GET", "/state")

    def _check_reach(self, run: LoadTestRun, context: RunContext) -> None:
        name, receiver = self._cluster.id, context.receiver_url
        state = self.state()
        if state.get("protocol") != wire.AGENT_PROTOCOL:
            raise RunFailed(f"the agent of cluster {name} is of another version: install the same loadbench there")
        if is_loopback(receiver) and not is_loopback(self._cluster.base_url):
            raise RunFailed(
                f"cluster {name} cannot reach the receiver at {receiver}, which is an address of this machine alone: "
                "set host and advertised_url of the receiver to one that the cluster reaches"
            )
        reach = {"receiverUrl": receiver, "targetUrl": run.target_url}
        found = self._ask("POST", "/reach", reach, within_s=ANSWER_WITHIN_S)
        if found["receiver"]:
            raise RunFailed(
                f"cluster {name} ({found['host']}) cannot reach the receiver at {receiver} ({found['receiver']}), "
                "although this machine reaches the cluster: check advertised_url, and the firewall on this side"
            )
        if found["target"]:
            raise TargetUnreachable(
                f"cluster {name} ({found['host']}) cannot reach the target {run.target_url} ({found['target']}): "
                "start it, or give another target_url"
            )

    def _try(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self._ask(method, path, body)
        except (RunFailed, Conflict):
            return None

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, within_s: float = ASK_WITHIN_S
    ) -> dict[str, Any]:
        name, url = self._cluster.id, self._cluster.base_url.rstrip("/")
        try:
            answer = self._session.request(
                method,
                f"{url}{wire.AGENT_PREFIX}{path}",
                json=body,
                headers={"Authorization": f"Bearer {agent_token(self._cluster)}"},
                timeout=(CONNECT_WITHIN_S, within_s),
                allow_redirects=False,
            )
            told = answer.json()
        except requests.JSONDecodeError:
            raise RunFailed(
                f"what answers at {url} is not the agent of cluster {name} (it says {answer.status_code}): check "
                "base_url"
            ) from None
        except requests.RequestException as error:
            raise RunFailed(
                f"this machine cannot reach cluster {name} at {url} ({_reason(error)}): start `loadbench agent "
                "--master` there, and let this machine through its firewall"
            ) from None
        if answer.ok and isinstance(told, dict):
            return told
        detail = str(told.get("detail", "")) if isinstance(told, dict) else ""
        if answer.status_code == 404:
            raise Unknown(f"cluster {name}: {detail}")
        if answer.status_code == 409:
            raise Conflict(f"cluster {name} cannot take the run: {detail}")
        if answer.status_code == 401:
            raise RunFailed(f"cluster {name} refuses the token in {self._cluster.token_env}: give it that of its agent")
        raise RunFailed(f"cluster {name} refused ({answer.status_code}): {detail}")


class Unknown(RunFailed):
    """The master does not know the run."""


def agent_token(cluster: Cluster) -> str:
    """Read the secret of a cluster's agent: from the environment, or, on this machine, where the agent has put it.

    Raises
    ------
    RunFailed
        If there is none.
    """
    if token := os.environ.get(cluster.token_env):
        return token
    path = agent_token_path()
    if is_loopback(cluster.base_url) and path.is_file():
        return path.read_text().strip()
    raise RunFailed(f"there is no token for cluster {cluster.id}: set {cluster.token_env} to that of its agent")


def agent_token_path() -> Path:
    """Say where agents on this machine keep the token that they made for themselves."""
    return data_home() / "agent" / "token"


def is_loopback(url: str) -> bool:
    """Say whether a URL names this machine by an address that no other one can use.

    Raises
    ------
    InvalidInput
        If it has no host.
    """
    host = urlsplit(url).hostname
    if not host:
        raise InvalidInput(f"{url!r} has no host", field="base_url")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: requests.RequestException) -> str:
    text = str(error)
    known = ("Connection refused", "No route to host", "Network is unreachable", "Name or service not known")
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return next((reason for reason in known if reason in text), type(error).__name__)


def survey(clusters: Iterable[Cluster]) -> list[dict[str, Any]]:
    """Ask every cluster how it is: a row each with cluster, kind, base_url, host, locust, workers, run_id, trouble."""
    return [{"cluster": cluster.id, "kind": cluster.kind} | _condition(cluster) for cluster in clusters]


def _condition(cluster: Cluster) -> dict[str, Any]:
    if cluster.kind != "cluster":
        return {"workers": cluster.workers if cluster.kind == "local" else None, "trouble": ""}
    try:
        state = ClusterLauncher(cluster).state()
    except LoadbenchError as error:
        return {"base_url": cluster.base_url, "trouble": str(error)}
    return {
        "base_url": cluster.base_url,
        "host": state["host"],
        "locust": state["locust"],
        "workers": len(state["workers"]),
        "run_id": state["run"]["runId"] if state["run"] else None,
        "trouble": "; ".join(state["refused"]),
    }
