"""A persistent cluster for tests: `loadbench agent` as separate processes, each with a log of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from loadbench.agent import wire
from tests.waiting import wait_until

LOADBENCH = [sys.executable, "-m", "loadbench.cli"]
TOKEN_ENV = "TEST_CLUSTER_TOKEN"
READY = re.compile(r"taking runs on http://(\S+):(\d+), workers on port (\d+)")


class Agent:
    """One process, and what it says."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, *, within_s: float = 30, times: int = 1) -> None:
        wait_until(lambda: self.said.count(text) >= times, within_s=within_s, message=f"{text!r} in {self.said}")

    def end(self, number: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Agents:
    """A master and its workers, all with one token, below a directory.

    `inside` puts a command before each, such as `ip netns exec NAME`.
    """

    def __init__(self, directory: Path, *, bind: str = "127.0.0.1", inside: Sequence[str] = ()) -> None:
        self.directory, self.bind, self.inside = directory, bind, list(inside)
        self.token = uuid.uuid4().hex
        self.master: Agent | None = None
        self.workers: list[Agent] = []
        self.web_port = self.worker_port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://{self.bind}:{self.web_port}"

    def start_master(self) -> Agent:
        ports = ["--web-port", str(self.web_port), "--worker-port", str(self.worker_port)]
        master = self.start("master", [*LOADBENCH, "agent", "--master", "--bind", self.bind, *ports])
        self.master = master
        ready = wait_until(
            lambda: READY.search(master.said) or master.process.poll() is not None, within_s=40, message=master.said
        )
        assert ready is not True, master.said
        self.web_port, self.worker_port = int(ready[2]), int(ready[3])
        return master

    def start_worker(self, command: Sequence[str] | None = None, *, inside: Sequence[str] | None = None) -> Agent:
        where = ["--master-host", self.bind, "--master-port", str(self.worker_port)]
        command = [*(command or [*LOADBENCH, "agent", "--worker"]), *where]
        worker = self.start(f"worker-{len(self.workers)}", command, inside=inside)
        self.workers.append(worker)
        return worker

    def start(self, name: str, command: Sequence[str], *, inside: Sequence[str] | None = None) -> Agent:
        home = self.directory / "home"
        environment = os.environ | {wire.ENV_AGENT_TOKEN: self.token, "LOADBENCH_HOME": str(home)}
        command = [*(self.inside if inside is None else inside), *command]
        return Agent(command, log=self.directory / f"{name}.log", environment=environment)

    def close(self) -> None:
        for agent in [*self.workers, *([self.master] if self.master else [])]:
            agent.end()

    def logs(self) -> str:
        agents = [*([self.master] if self.master else []), *self.workers]
        return "\n".join(f"--- {agent.log.name}\n{agent.said}" for agent in agents)
