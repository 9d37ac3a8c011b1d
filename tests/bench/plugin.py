"""What recording costs the load: one Locust process that takes its recorder off and on, block by block.

Blocks of half a second are paired in the order on-off-off-on, so that a drift of the machine cancels; the figure is the
median over pairs of requests per second with the recorder, divided by those without.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.timing import tell

PAIRS = 60
TARGET = """
import asyncio, sys

BODY = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok"

class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(BODY * data.count(b"\\r\\n\\r\\n"))

async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
SCRIPT = """
import gevent, json, time
from locust import {kind}, constant, events, task
from loadbench.agent.recorder import Recorder

class Asker({kind}):
    wait_time = constant(0)

    @task
    def ask(self):
        self.client.get("/")

def measure(environment):
    recorder = Recorder()
    recorder.start(time.monotonic())
    request, total = environment.events.request, environment.stats.total
    gevent.sleep(2)
    blocks = []
    for pair in range({pairs}):
        for on in ((True, False) if pair % 2 else (False, True)):
            if on:
                request.add_listener(recorder.on_request)
            requests, cpu, wall = total.num_requests, time.process_time(), time.perf_counter()
            gevent.sleep(0.5)
            requests, cpu, wall = (
                total.num_requests - requests, time.process_time() - cpu, time.perf_counter() - wall
            )
            if on:
                request.remove_listener(recorder.on_request)
                recorder.take()
            blocks.append((on, requests / wall, cpu / requests * 1e6))
    json.dump(blocks, open("blocks.json", "w"))
    environment.runner.quit()

@events.test_start.add_listener
def begin(environment, **_):
    gevent.spawn(measure, environment)
"""


def ratios(kind: str, url: str) -> tuple[float, float, float]:
    """Requests/s with over without the recorder, the same of CPU per request, and requests/s without."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "locustfile.py").write_text(SCRIPT.format(kind=kind, pairs=PAIRS))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
        subprocess.run(
            [sys.executable, "-m", "locust", "--headless", "-u", "10", "-r", "10", "--host", url, "--only-summary"],
            cwd=folder, env=environment, check=True, timeout=30 + 4 * PAIRS, capture_output=True,
        )  # fmt: skip
        blocks = json.loads((Path(folder) / "blocks.json").read_text())
    on = [block for block in blocks if block[0]]
    off = [block for block in blocks if not block[0]]
    rate = statistics.median(a[1] / b[1] for a, b in zip(on, off, strict=True))
    cpu = statistics.median(a[2] / b[2] for a, b in zip(on, off, strict=True))
    return rate, cpu, statistics.median(block[1] for block in off)


def main() -> None:
    """Print a JSON line for each figure."""
    target = subprocess.Popen([sys.executable, "-c", TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{target.stdout.readline().strip()}"
        for kind in ("HttpUser", "FastHttpUser"):
            rate, cpu, without = ratios(kind, url)
            for what, value, unit, goal in (
                (f"{kind}: requests/s with the recorder over without", rate, "ratio", ">= 0.98"),
                (f"{kind}: CPU per request with the recorder over without", cpu, "ratio", ""),
                (f"{kind}: requests/s without the recorder", without, "requests/s", ""),
            ):
                tell(what, value, unit, goal)
    finally:
        target.stdin.close()
        target.wait(timeout=10)


if __name__ == "__main__":
    main()
