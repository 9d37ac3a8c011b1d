"""The crew: the workers of a persistent master, who has which script, and who may be given users."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import gevent
import locust
from gevent.event import Event
from locust.dispatch import UsersDispatcher
from locust.rpc import Message
from locust.runners import MasterRunner, WorkerNode

from loadbench.agent import wire

JOIN, BACK, LOAD, IDLE, REFUSED = "lb_join", "lb_back", "lb_load", "lb_idle", "lb_refused"
"""Messages of a worker: "I am here, with this script", "I start anew"; of the master: "start anew with this script",
"start anew without one", "go away"."""
BACK_WITHIN_S = 60.0
"""How long a worker that starts anew still counts as one that will be there."""

log = logging.getLogger(__name__)


@dataclass
class Member:
    """One worker process. Its client id is another one after each start, its key stays."""

    key: str
    client_id: str
    host: str
    pid: int
    locust: str
    python: str
    run_id: str = ""
    sha256: str = ""
    failure: str = ""
    refused: str = ""
    left_s: float = -math.inf

    @property
    def has_script(self) -> bool:
        return bool(self.run_id) and not self.failure

    @property
    def name(self) -> str:
        return f"{self.host} (pid {self.pid})"


class Crew:
    """The workers of one master.

    `current` is the order that workers get when they join: the run and its script, or None. `changed` is set on news.
    """

    def __init__(self, runner: MasterRunner, token: str) -> None:
        self._runner = runner
        self._token = token
        self._members: dict[str, Member] = {}
        self._accepted: dict[str, str] = {}
        self.current: dict[str, Any] | None = None
        self.changed = Event()
        self._indexes: dict[str, int] = {}
        runner.get_worker_index = self.index_of
        runner.register_message(JOIN, self.on_join)
        runner.register_message(BACK, self.on_back)

    def accepts(self, client_id: str) -> bool:
        return client_id in self._accepted

    def hashes(self) -> list[str]:
        """Give the different sha256 that the workers of the run have started from: one, or something is wrong."""
        return sorted(set(self._accepted.values()))

    def present(self) -> list[Member]:
        """Give the workers that are there, or are about to come back."""
        return [member for member in self._members.values() if not member.refused and self._is_there(member)]

    def refused(self) -> list[Member]:
        return [member for member in self._members.values() if member.refused]

    def ready(self) -> list[Member]:
        """Give the workers that have the current script and are connected."""
        return [
            member
            for member in self._members.values()
            if self.accepts(member.client_id) and self._is_connected(member.client_id)
        ]

    def missing(self) -> list[Member]:
        """Give those that the current script was sent to and that have neither loaded it nor said why not."""
        return [one for one in self.present() if not self.accepts(one.client_id) and not self._failed(one)]

    def failed(self) -> list[Member]:
        """Give those that could not load the current script."""
        return [member for member in self._members.values() if self._failed(member)]

    def hand_out(self, run_id: str, script: bytes, arguments: list[str]) -> None:
        """Let all workers start anew with a script, and those that join from now on."""
        sha256 = hashlib.sha256(script).hexdigest()
        self._accepted.clear()
        self.current = {
            "run_id": run_id,
            "sha256": sha256,
            "script": script,
            "arguments": arguments,
            "proof": proof(self._token, LOAD, run_id, sha256, *arguments),
        }
        for member in list(self._members.values()):
            if not self._is_there(member) and not member.refused:
                del self._members[member.key]
        for member in self.present():
            self._send(member.client_id, LOAD, self.current)
        self._dismiss_strangers()

    def dismiss(self) -> None:
        """Let the workers start anew without a script."""
        self.current = None
        for member in self.present():
            if member.has_script:
                self._send_idle(member)

    def _send_idle(self, member: Member) -> None:
        self._send(member.client_id, IDLE, {"proof": proof(self._token, IDLE)})

    def index_of(self, client_id: str) -> int:
        """Number the workers from 0, without gaps: scripts divide their data by that number.

        Locust never gives a number again. Here each start is a new client, so the lowest free one is given.
        """
        if client_id not in self._indexes:
            there = set(self._runner.clients)
            self._indexes = {known: index for known, index in self._indexes.items() if known in there}
            taken = set(self._indexes.values())
            self._indexes[client_id] = next(index for index in itertools.count() if index not in taken)
        return self._indexes[client_id]

    def on_join(self, *, msg: Any, **_: Any) -> None:
        """A worker has started: is it one of ours, and does it have the current script?"""
        said = msg.data
        member = Member(
            client_id=msg.node_id,
            **{name: said[name] for name in ("key", "host", "pid", "locust", "python", "run_id", "sha256", "failure")},
        )
        self._members[member.key] = member
        if reason := self._objection(said, member):
            self._refuse(member, reason)
        elif self.current is not None:
            self._enlist(member, self.current)
        elif member.has_script:  # it was still on its way when that run ended
            self._send_idle(member)
        self.changed.set()

    def on_back(self, *, msg: Any, **_: Any) -> None:
        if member := self._members.get(msg.data["key"]):
            member.left_s = time.monotonic()

    def _objection(self, said: dict[str, Any], member: Member) -> str:
        if not hmac.compare_digest(proof(self._token, JOIN, member.client_id), str(said["proof"])):
            return f"worker {member.name} is refused: its {wire.ENV_AGENT_TOKEN} is not that of this master"
        if member.locust != locust.__version__ or said["protocol"] != wire.AGENT_PROTOCOL:
            return (
                f"worker {member.name} is refused: it has Locust {member.locust}, this master {locust.__version__}; "
                "install the same versions of loadbench and Locust on both"
            )
        return ""

    def _refuse(self, member: Member, reason: str) -> None:
        member.refused = reason
        log.error("%s", reason)
        self._send(member.client_id, REFUSED, {"reason": reason})
        self._send(member.client_id, "quit", None)

    def _enlist(self, member: Member, current: dict[str, Any]) -> None:
        if member.run_id != current["run_id"]:
            self._send(member.client_id, LOAD, current)
        elif member.failure:
            log.error("worker %s cannot load the script:\n%s", member.name, member.failure)
        elif member.sha256 == current["sha256"]:
            self._accepted[member.client_id] = member.sha256
            self._give_users(member)
        else:
            member.failure = f"it started from other bytes (sha256 {member.sha256}) than it was sent"

    def _give_users(self, member: Member) -> None:
        """Let a worker that comes during a run take its part of the users."""
        if self._runner._users_dispatcher is not None and member.client_id in self._runner.clients:
            self._runner._users_dispatcher.add_worker(self._runner.clients[member.client_id])
            gevent.spawn(self._rebalance, self.current)

    def _rebalance(self, order: dict[str, Any]) -> None:
        runner = self._runner
        while runner.state == "spawning":  # that dispatch must end first: two at once would meet in one generator
            gevent.sleep(0.05)
        if runner.state == "running" and order is self.current:
            runner.start(runner.target_user_count, runner.spawn_rate)

    def _dismiss_strangers(self) -> None:
        """Plain Locust workers have nobody who would load a script for them."""
        known = {member.client_id for member in self._members.values()}
        for client_id in set(self._runner.clients) - known:
            log.warning("worker %s is not a loadbench agent: it gets no users, and is told to quit", client_id)
            self._send(client_id, "quit", None)

    def _failed(self, member: Member) -> bool:
        return bool(self.current and member.failure and member.run_id == self.current["run_id"])

    def _is_there(self, member: Member) -> bool:
        return self._is_connected(member.client_id) or time.monotonic() - member.left_s < BACK_WITHIN_S

    def _is_connected(self, client_id: str) -> bool:
        client = self._runner.clients.get(client_id)
        return client is not None and client.state in ("ready", "spawning", "running")

    def _send(self, client_id: str, kind: str, data: Any) -> None:
        self._runner.server.send_to_client(Message(kind, data, client_id))


def dispatcher_of(crew: Crew) -> type[UsersDispatcher]:
    """Make a dispatcher that gives users only to workers that have the current script.

    Locust's own gives them to whoever is connected; a worker without the class raises KeyError and keeps its share.
    """

    class Dispatcher(UsersDispatcher):
        def __init__(self, worker_nodes: list[WorkerNode], user_classes: list[Any]) -> None:
            super().__init__([node for node in worker_nodes if crew.accepts(node.id)], user_classes)

        def add_worker(self, worker_node: WorkerNode) -> None:
            if crew.accepts(worker_node.id) and not self._has(worker_node):
                super().add_worker(worker_node)

        def remove_worker(self, worker_node: WorkerNode) -> None:
            if self._has(worker_node):
                super().remove_worker(worker_node)

        def _has(self, worker_node: WorkerNode) -> bool:
            return any(node.id == worker_node.id for node in self._worker_nodes)

    return Dispatcher


def proof(token: str, *parts: str) -> str:
    """Prove knowledge of the token to the other side, which has it too; the token itself never travels there."""
    text = "\0".join(parts)
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()
