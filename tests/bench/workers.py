"""What recording costs a master with four workers: loadbench's agent against bare Locust, same script, same target.

Runs are paired in the order bare, recorded, recorded, bare, so that a drift of the machine cancels. The users wait for
nothing, so that the processors are busy: what recording takes is missing in the requests that the target counts.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import psutil

from loadbench.agent import wire
from loadbench.model import LoadTestRun, Scope
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from tests.bench.timing import tell
from tests.sink import free_port
from tests.waiting import wait_until

PAIRS, WORKERS, USERS = 4, 4, 8
SETTLING_S, MEASURED_S = 3, 6
TARGET = """
import asyncio, sys

BODY = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok"
answered = 0

class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        global answered
        number = data.count(b"\\r\\n\\r\\n")
        answered += number
        self.transport.write(BODY * number)

async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(answered, flush=True)

asyncio.run(main())
"""
SCRIPT = """
from locust import HttpUser, constant, task

class Asker(HttpUser):
    wait_time = constant(0)

    @task
    def ask(self):
        self.client.get("/")
"""


class Target:
    """An own process that answers, and says how many requests it has answered."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, "-c", TARGET], text=True, **pipes)
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def answered(self) -> int:
        print(file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=10)


@contextmanager
def session(command: list[str], *, environment: dict[str, str], folder: Path) -> Iterator[psutil.Process]:
    """Run a command in a session of its own, because Linux shares the processors among sessions; end all of it."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def bare(target: Target, folder: Path) -> AbstractContextManager[psutil.Process]:
    port = str(free_port())
    locust = [sys.executable, "-m", "locust", "-f", "locustfile.py"]
    master = [*locust, *arguments(target), "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    worker = [*locust, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    lines = [f"{shlex.join(worker)} &"] * WORKERS + [shlex.join([*master, "--expect-workers", str(WORKERS)])]
    return session(["sh", "-c", "\n".join(lines)], environment=clean(), folder=folder)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}


def recorded(store: Store, receiver: Receiver, target: Target, folder: Path) -> AbstractContextManager[psutil.Process]:
    run = store.runs.add(LoadTestRun(
        name="workers", target_url=target.url, target_users=USERS, spawn_rate=100, duration_sec=600, workers=WORKERS,
        **Scope.parse("acme/shop/checkout").model_dump(),
    ))  # fmt: skip
    context = {
        wire.ENV_RECEIVER_URL: receiver.url,
        wire.ENV_RUN_ID: run.id,
        wire.ENV_TOKEN: store.tokens.create_push(run.id),
        wire.ENV_SPOOL: str(folder / f"{run.id}.db"),
        wire.ENV_DURATION_S: "600",
        wire.ENV_WORKERS: str(WORKERS),
    }
    master = [sys.executable, "-m", "loadbench.agent", "-f", "locustfile.py", *arguments(target), "--master"]
    master += ["--master-bind-host", "127.0.0.1", "--master-bind-port", "0", "--expect-workers", str(WORKERS)]
    return session(master, environment=clean() | context, folder=folder)


def arguments(target: Target) -> list[str]:
    return ["--headless", "--users", str(USERS), "--spawn-rate", "100", "--host", target.url]


def cost(target: Target, load: Callable[[], AbstractContextManager[psutil.Process]]) -> tuple[float, float]:
    """Start a load and let it settle: requests per second that the target answers, and CPU seconds of each."""
    before = target.answered()
    with load() as first:
        wait_until(lambda: target.answered() > before + 100, within_s=60, message="no load")
        time.sleep(SETTLING_S)
        group = [first, *first.children(recursive=True)]
        answered, busy_s, began = target.answered(), cpu_s(group), time.perf_counter()
        time.sleep(MEASURED_S)
        answered = target.answered() - answered
        return answered / (time.perf_counter() - began), (cpu_s(group) - busy_s) / answered


def cpu_s(group: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in group)


def main() -> None:
    """Print a JSON line for each figure."""
    with tempfile.TemporaryDirectory() as name:
        folder, mongod, target = Path(name), Mongod(Path(name) / "home"), Target()
        (folder / "locustfile.py").write_text(SCRIPT)
        try:
            with Store.open(mongod.find_or_start()) as store, Receiver(store, port=0) as receiver:
                without = partial(bare, target, folder)
                with_it = partial(recorded, store, receiver, target, folder)
                costs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
                for pair in range(PAIRS):
                    for on in (False, True) if pair % 2 == 0 else (True, False):
                        costs[on].append(cost(target, with_it if on else without))
        finally:
            target.close()
            mongod.stop()
    pairs = list(zip(costs[True], costs[False], strict=True))
    for index, what, goal in ((0, "requests/s", ">= 0.98"), (1, "CPU per request", "")):
        ratio = statistics.median(on[index] / off[index] for on, off in pairs)
        tell(f"{WORKERS} workers: {what}, recorded over bare Locust", ratio, "ratio", goal)
    tell(
        f"{WORKERS} workers: requests/s of bare Locust",
        statistics.median(rate for rate, _ in costs[False]),
        "requests/s",
    )


if __name__ == "__main__":
    main()
