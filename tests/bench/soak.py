"""An hour of 200 intervals/s into one `loadbench serve`: does anything grow that should not?

200 agents push an interval of 20 endpoints each second; a run lasts five minutes, then the agent starts another, so
that what is kept of each run has to be let go of as well. A notebook's kernel follows one run live. SOAK_SECONDS makes
it shorter or longer. It writes reports/soak.json and reports/soak.html.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import psutil

from loadbench import exports
from loadbench.agent import wire
from loadbench.messages import IntervalPush
from loadbench.model import now_ms
from loadbench.plots import look
from loadbench.store import Store
from loadbench.store.database import ENV_URI
from loadbench.store.mongod import Mongod
from tests.api_client import a_test_start, a_test_stop, body_of
from tests.bench.ingest import bodies
from tests.bench.timing import tell
from tests.builders import a_run
from tests.notebook_kernel import Notebook
from tests.serving import Server

SECONDS = int(os.environ.get("SOAK_SECONDS", "3600"))
AGENTS, THREADS = 200, 4
RUN_S = 300
SAMPLE_S = 10
OUTPUT = Path("reports")
FIRST = """
import loadbench as lb
bench = lb.Workbench("acme/shop/checkout", port=0)
view = None
"""
FOLLOW = """
if view is not None:
    view.close()
view = bench.run({run_id!r}).live()
view
"""


class Agents:
    """A share of the agents, in a thread of its own: each pushes once a second, in turn."""

    def __init__(self, port: int, store: Store, seconds: list[dict], numbers: range, until: float) -> None:
        self.port, self.store, self.seconds, self.until = port, store, seconds, until
        self.runs = {number: self.life_of_runs(number) for number in numbers}
        self.newest, self.ended = "", False
        self.acknowledged: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.taken_ms: list[tuple[float, float]] = []
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.thread = threading.Thread(target=self.push_all, daemon=True)
        self.thread.start()

    def push_all(self) -> None:
        due = time.monotonic()
        while time.monotonic() < self.until:
            for life in self.runs.values():
                next(life)
                due += 1 / len(self.runs)
                time.sleep(max(0, due - time.monotonic()))
        for life in self.runs.values():
            life.close()
        self.ended = True

    def life_of_runs(self, number: int) -> Iterator[None]:
        """One run after the other; a step for each second."""
        for length in itertools.chain([1 + RUN_S * number // AGENTS], itertools.repeat(RUN_S)):
            run = self.store.runs.add(a_run(duration_sec=length, name=f"soak {number}"))
            token = self.store.tokens.create_push(run.id)
            began, requests = now_ms(), 0
            push = None
            for seq in range(length):
                second = self.seconds[(seq + number) % len(self.seconds)]
                requests += sum(second["n"])
                changes = {"runId": run.id, "seq": seq, "timestamp": began + 1000 * (seq + 1)}
                push = second | changes | {"cumRequests": requests}
                if seq == 0:
                    start = a_test_start(IntervalPush.model_validate(push))
                    self.send(wire.TEST_START, token, body_of(start))
                    self.newest = run.id
                if seq < length - 1:
                    self.send(wire.METRICS, token, json.dumps(push).encode(), timed=True)
                    self.acknowledged[run.id] += 1
                yield
            final = IntervalPush.model_validate(push | {"final": True})
            self.send(wire.TEST_STOP, token, body_of(a_test_stop(run.id, length - 1, final=final, source=final.source)))
            self.acknowledged[run.id] += 1

    def send(self, verb: str, token: str, body: bytes, *, timed: bool = False) -> None:
        """Send until it is acknowledged, as an agent does."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status = 0
        while not 200 <= status < 300:
            began = time.monotonic()
            self.connection.request("POST", wire.ROUTE_PREFIX + verb, body, headers)
            answer = self.connection.getresponse()
            text, status = answer.read(), answer.status
            self.statuses[status] += 1
            if status == 429:
                time.sleep(0.2)
            elif status >= 300:
                raise RuntimeError(f"{verb} is answered {status}: {text.decode()}")
        if timed:
            self.taken_ms.append((began, 1000 * (time.monotonic() - began)))


def main() -> int:
    """Push, look at the memory of each process every ten seconds, and count in the end."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(folder) / "home")
        uri = mongod.find_or_start()
        os.environ[ENV_URI] = uri
        server, notebook = Server(uri, Path(folder) / "serve.log"), Notebook()
        try:
            with Store.open(uri) as store:
                return soak(store, server, notebook, mongod)
        finally:
            notebook.close()
            server.close()
            mongod.stop()


def soak(store: Store, server: Server, notebook: Notebook, mongod: Mongod) -> int:
    pids = {"receiver": server.process.pid, "mongod": mongod.status().pid, "kernel": notebook.pid}
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    notebook.run(FIRST)
    seconds = [json.loads(body) for body in bodies("run", intervals=20)]
    began = time.monotonic()
    shares = [range(first, AGENTS, THREADS) for first in range(THREADS)]
    agents = [Agents(server.port, store, seconds, share, began + SECONDS) for share in shares]
    samples: list[dict[str, float]] = []
    followed = 0.0
    while any(each.thread.is_alive() for each in agents):
        at = time.monotonic() - began
        if at >= followed and agents[0].newest:
            notebook.run(FOLLOW.format(run_id=agents[0].newest))
            followed = at + RUN_S
        samples.append({"at_s": at} | {name: each.memory_info().rss / 1e6 for name, each in processes.items()})
        print(json.dumps({name: round(value, 1) for name, value in samples[-1].items()}), file=sys.stderr, flush=True)
        time.sleep(SAMPLE_S - (time.monotonic() - began) % SAMPLE_S)
    if not all(each.ended for each in agents):
        raise SystemExit("an agent failed: see above")
    cpu = {name: sum(each.cpu_times()[:2]) for name, each in processes.items()}
    return report(store, agents, samples, time.monotonic() - began, cpu)


def report(
    store: Store, agents: list[Agents], samples: list[dict[str, float]], lasted_s: float, cpu: dict[str, float]
) -> int:
    acknowledged = sum((each.acknowledged for each in agents), Counter())
    # Run by run: to count an hour at once takes longer than the store waits for an answer.
    ledger = store.database["metrics_timeseries"]
    stored = {run_id: ledger.count_documents({"runId": run_id}) for run_id in acknowledged}
    statuses = sum((each.statuses for each in agents), Counter())
    taken = sorted(ms for each in agents for _, ms in each.taken_ms)
    tell("soak: intervals acknowledged a second", sum(acknowledged.values()) / lasted_s, "intervals/s", ">= 195")
    wrong = sum(stored[run_id] != number for run_id, number in acknowledged.items())
    tell(f"soak: of {len(acknowledged)} runs, stored otherwise than acknowledged", wrong, "runs", "")
    tell("soak: answers 429 of all", 100 * statuses[429] / sum(statuses.values()), "%", "")
    for name, percent in (("p50", 50), ("p95", 95), ("p99", 99)):
        tell(f"soak: acknowledgement {name}", taken[len(taken) * percent // 100], "ms", "")
    for name in cpu:
        tell(f"soak: CPU of the {name}", 100 * cpu[name] / lasted_s, "% of a core", "")
        halves = [level(samples, name, lasted_s * part, lasted_s * (part + 0.25)) for part in (0.25, 0.5, 0.75)]
        for part, value in zip(("second", "third", "last"), halves, strict=True):
            tell(f"soak: memory of the {name}, median of the {part} quarter", value, "MB", "")
        tell(f"soak: memory of the {name}, last quarter over the second", halves[2] / halves[0], "ratio", "<= 1.1")
    exports.write(OUTPUT / "soak.json", json.dumps(samples).encode())
    print(exports.export_chart(chart(samples), OUTPUT / "soak.html"), file=sys.stderr)
    return int(wrong > 0)


def level(samples: list[dict[str, float]], name: str, start_s: float, end_s: float) -> float:
    return statistics.median(each[name] for each in samples if start_s <= each["at_s"] <= end_s)


def chart(samples: list[dict[str, float]]) -> go.Figure:
    minutes = [each["at_s"] / 60 for each in samples]
    colours = {"receiver": look.BLUE, "mongod": look.ORANGE, "kernel": look.GREEN}
    lines = [
        go.Scatter(x=minutes, y=[each[name] for each in samples], name=name, line={"color": colour})
        for name, colour in colours.items()
    ]
    layout = {
        "title": {"text": f"Memory at {AGENTS} intervals/s of 20 endpoints into one receiver"},
        "xaxis": {"title": {"text": "time since the start (min)"}},
        "yaxis": {"title": {"text": "resident memory (MB)"}, "rangemode": "tozero"},
        "template": look.TEMPLATE,
    }
    return go.Figure(lines, layout)


if __name__ == "__main__":
    sys.exit(main())
