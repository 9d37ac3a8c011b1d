"""What recording adds to the response times that a load measures: loadbench's agent against bare Locust, same script.

20 users make 200 requests/s of a target that answers after 10 ms. Runs are paired in the order bare, recorded,
recorded, bare, so that a drift of the machine cancels; once more with a receiver that takes connections and never
answers. The times are those of a listener in the script itself.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from loadbench.agent import wire
from loadbench.model import LoadTestRun, Scope
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server.app import Receiver
from tests.bench.timing import tell
from tests.bench.workers import clean

PAIRS, USERS, DURATION_S, SETTLING_S = 4, 20, 13, 3
TARGET = """
import asyncio, sys

BODY = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok"

class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): asyncio.get_running_loop().call_later(0.01, self.transport.write, BODY)

async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
SCRIPT = f"""
import json, time
from locust import HttpUser, constant_throughput, events, task

class Asker(HttpUser):
    wait_time = constant_throughput(10)

    @task
    def ask(self):
        self.client.get("/")

times = []

@events.test_start.add_listener
def begin(environment, **_):
    settled = time.monotonic() + {SETTLING_S}
    environment.events.request.add_listener(
        lambda response_time, **_: times.append(response_time) if time.monotonic() > settled else None
    )

@events.test_stop.add_listener
def end(**_):
    json.dump(times, open("times.json", "w"))
"""


def measured(module: str, url: str, *, folder: Path, context: dict[str, str]) -> tuple[float, float]:
    """Load the target once: requests/s, and p95 of the response times in ms."""
    (folder / "times.json").unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-m", module, "-f", "locustfile.py", "--headless", "--users", str(USERS),
         "--spawn-rate", "100", "--host", url, "--run-time", f"{DURATION_S}s"],
        cwd=folder, env=clean() | context, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    times = json.loads((folder / "times.json").read_text())
    return len(times) / (DURATION_S - SETTLING_S), statistics.quantiles(times, n=20)[-1]


def recording(store: Store, receiver_url: str, url: str, folder: Path) -> dict[str, str]:
    """Give the environment of an agent for a run of its own."""
    run = store.runs.add(LoadTestRun(
        name="times", target_url=url, target_users=USERS, spawn_rate=100, duration_sec=DURATION_S,
        **Scope.parse("acme/shop/checkout").model_dump(),
    ))  # fmt: skip
    return {
        wire.ENV_RECEIVER_URL: receiver_url,
        wire.ENV_RUN_ID: run.id,
        wire.ENV_TOKEN: store.tokens.create_push(run.id),
        wire.ENV_SPOOL: str(folder / f"{run.id}.db"),
        wire.ENV_DURATION_S: str(DURATION_S),
    }


def compared(store: Store, receiver_url: str, url: str, folder: Path) -> list[tuple[float, float]]:
    """Pair recorded runs with bare ones: for each, the ratio of requests/s and the difference of p95 in ms."""
    pairs = []
    for pair in range(PAIRS):
        found = {}
        for recorded in (False, True) if pair % 2 == 0 else (True, False):
            context = recording(store, receiver_url, url, folder) if recorded else {}
            module = "loadbench.agent" if recorded else "locust"
            found[recorded] = measured(module, url, folder=folder, context=context)
        (rate, p95), (bare_rate, bare_p95) = found[True], found[False]
        pairs.append((rate / bare_rate, p95 - bare_p95))
    return pairs


def main() -> None:
    """Print a JSON line for each figure."""
    target = subprocess.Popen([sys.executable, "-c", TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{target.stdout.readline().strip()}"
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as deaf:
        folder, mongod = Path(name), Mongod(Path(name) / "home")
        (folder / "locustfile.py").write_text(SCRIPT)
        try:
            with Store.open(mongod.find_or_start()) as store, Receiver(store, port=0) as receiver:
                silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
                for where, receiver_url in (("", receiver.url), (", the receiver never answering", silent)):
                    pairs = compared(store, receiver_url, url, folder)
                    rate, later = (statistics.median(each) for each in zip(*pairs, strict=True))
                    tell(f"200 requests/s{where}: requests/s recorded over bare Locust", rate, "ratio", ">= 0.98")
                    tell(f"200 requests/s{where}: p95 recorded, more than bare Locust's", later, "ms", "<= 1")
        finally:
            target.stdin.close()
            target.wait(timeout=10)
            mongod.stop()


if __name__ == "__main__":
    main()
