"""The agent in real Locust processes, against a real target and a receiver that checks every message."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from loadbench.agent import wire
from loadbench.agent.histogram import Histogram, merge, quantile, unpack
from loadbench.agent.sender import drain
from loadbench.agent.spool import Spool
from loadbench.messages import IntervalPush
from tests.sink import Misbehaviour, Sink, Target, free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

TOKEN = "t0ken-that-must-not-be-seen"

SCRIPT = """
import os, sys, time
from locust import HttpUser, constant, events, task

raw = open(f"raw-{os.getpid()}.txt", "w", buffering=1)

@events.request.add_listener
def keep(response_time, **_):
    raw.write(f"{time.time()!r} {response_time!r}\\n")

if "--worker" not in sys.argv:
    @events.test_start.add_listener
    def begin(**_):
        global began
        began = time.monotonic()

    @events.test_stopping.add_listener
    def end(**_):
        global began
        if began:
            print("LASTED", time.monotonic() - began, flush=True)
        began = None

class Shopper(HttpUser):
    wait_time = constant(0.01)

    @task(9)
    def browse(self):
        self.client.get("/ok")

    @task(1)
    def break_it(self):
        self.client.get("/broken")
"""

SHAPE = (
    SCRIPT
    + """
from locust import LoadTestShape

class Forever(LoadTestShape):
    def tick(self):
        return (4, 100)
"""
)


@dataclass
class Locust:
    """A Locust process group under the agent, and what it left."""

    process: subprocess.Popen[bytes]
    directory: Path
    started_s: float

    @property
    def output(self) -> str:
        return (self.directory / "locust.log").read_text()

    @property
    def spool(self) -> Path:
        return self.directory / "spool.db"

    def wait(self, within_s: float = 30) -> float:
        """Wait for its end; give the seconds it lived."""
        self.process.wait(within_s)
        return time.monotonic() - self.started_s

    @property
    def lasted_s(self) -> float:
        """How long the test was on, from start to stopping, as the script itself saw it."""
        (lasted,) = {line.split()[1] for line in self.output.splitlines() if line.startswith("LASTED")}
        return float(lasted)

    def raw_log(self) -> list[tuple[float, float]]:
        """Give (time of the end in s, response time in ms) of each request, as the script itself saw it."""
        lines = [line for path in self.directory.glob("raw-*.txt") for line in path.read_text().splitlines()]
        return [(float(at), float(ms)) for at, ms in (line.split() for line in lines)]


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as target:
        yield target


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink(token=TOKEN) as sink:
        yield sink


@pytest.fixture
def launch(tmp_path: Path, target: Target) -> Iterator[Callable[..., Locust]]:
    """Start Locust as the launcher does; what is left of its group is killed afterwards."""
    launched: list[Locust] = []

    def start(
        url: str,
        *,
        script: str = SCRIPT,
        workers: int = 0,
        duration_s: float = 3,
        users: int = 6,
        extra: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> Locust:
        (tmp_path / "locustfile.py").write_text(textwrap.dedent(script))
        context = {
            wire.ENV_RECEIVER_URL: url,
            wire.ENV_RUN_ID: "run-1",
            wire.ENV_TOKEN: TOKEN,
            wire.ENV_SPOOL: str(tmp_path / "spool.db"),
            wire.ENV_DURATION_S: str(duration_s),
            wire.ENV_WORKERS: str(workers),
        }
        arguments = ["-f", "locustfile.py", "--headless", "--users", str(users), "--spawn-rate", "100"]
        arguments += ["--host", target.url, "--stop-timeout", "10", "--exit-code-on-error", "0", *extra]
        if workers:
            arguments += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0"]
            arguments += ["--expect-workers", str(workers), "--expect-workers-max-wait", "60"]
        with (tmp_path / "locust.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "loadbench.agent", *arguments],
                cwd=tmp_path,
                env=os.environ | (context if environment is None else environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        launched.append(Locust(process, tmp_path, time.monotonic()))
        return launched[-1]

    yield start
    for locust in launched:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(locust.process.pid, signal.SIGKILL)
        locust.process.wait()
        print(locust.output)  # noqa: T201 - pytest shows it when the test failed


def check_complete(sink: Sink, target: Target, reason: str) -> list[IntervalPush]:
    """Check that what was received is the whole truth, and that the run ended for `reason`."""
    assert sink.invalid == []
    (start,) = sink.of(wire.TEST_START)
    (stop,) = sink.of(wire.TEST_STOP)
    intervals = sink.intervals
    assert [interval.seq for interval in intervals] == list(range(stop.last_seq + 1))
    assert [interval.final for interval in intervals] == [False] * stop.last_seq + [True]
    assert {interval.source for interval in intervals} == {start.source}
    requests, failures = (sum(sum(getattr(i, field)) for i in intervals) for field in ("n", "failures"))
    assert (requests, failures) == (target.served, target.failed)
    assert (stop.final.cum_requests, stop.final.cum_failures) == (target.served, target.failed)
    assert target.failed > 0
    assert stop.reason == reason
    kinds = [received.kind for received in sink.received if received.kind != wire.HEARTBEAT]
    assert kinds == [wire.TEST_START] + [wire.METRICS] * stop.last_seq + [wire.TEST_STOP]
    return intervals


def load_s(intervals: list[IntervalPush]) -> float:
    return sum(interval.duration_ms for interval in intervals) / 1000


def everything(intervals: list[IntervalPush]) -> Histogram:
    return merge([histogram for interval in intervals for histogram in unpack(interval.packed)])


def check_quantiles(histogram: Histogram, times_ms: list[float], *, unsure: int = 0) -> None:
    """Compare with the exact nearest-rank quantiles; `unsure` requests may be on the other side of a boundary."""
    times_ms = sorted(times_ms)
    assert abs(sum(histogram.values()) - len(times_ms)) <= unsure
    for q in (0.5, 0.95, 0.99):
        rank = math.ceil(q * len(times_ms)) - 1
        low = times_ms[max(rank - unsure, 0)]
        high = times_ms[min(rank + unsure, len(times_ms) - 1)]
        assert low * 0.995 <= quantile(histogram, q) <= high * 1.005


def pushed(sink: Sink, number: int) -> Callable[[], bool]:
    return lambda: len(sink.of(wire.METRICS)) >= number


def group(locust: Locust) -> list[psutil.Process]:
    return psutil.Process(locust.process.pid).children(recursive=True)


@pytest.mark.parametrize("workers", [0, 2], ids=["local", "master+2"])
def test_a_run_of_four_seconds_is_recorded_exactly(workers, launch, sink, target):
    locust = launch(sink.url, workers=workers, duration_s=4)
    locust.wait()
    intervals = check_complete(sink, target, "duration")
    assert locust.process.returncode == 0
    assert locust.lasted_s == pytest.approx(4, abs=0.3)
    assert 4 <= load_s(intervals) < 4 + 2  # requests in flight at the end are waited for
    assert sink.of(wire.TEST_STOP)[0].auto_stopped
    assert sink.of(wire.TEST_STOP)[0].workers_lost == 0
    assert {(i.workers, i.workers_expected) for i in intervals} == {(workers, workers)}
    assert {i.users for i in intervals[1:]} == {6}
    assert {endpoint.name for i in intervals for endpoint in i.endpoints} == {"/ok", "/broken"}
    assert any("500 Server Error" in text for i in intervals for _, text, _ in i.errors)
    assert intervals[-1].cpu_percent > 0
    raw = locust.raw_log()
    assert len(raw) == target.served
    check_quantiles(everything(intervals), [ms for _, ms in raw])
    if workers == 0:
        check_window(intervals, raw)
    environment = sink.of(wire.TEST_START)[0].environment
    assert environment.host == platform.node()
    assert environment.python == platform.python_version()
    assert environment.workers == workers
    assert environment.user_classes == ("Shopper",)
    assert not locust.spool.exists()
    assert TOKEN not in locust.output


def check_window(intervals: list[IntervalPush], raw: list[tuple[float, float]]) -> None:
    """Compare seconds 1 and 2; the script looks at its clock some microseconds before the recorder does."""
    begin_s, end_s = intervals[0].timestamp / 1000, intervals[2].timestamp / 1000
    unsure = sum(1 for at, _ in raw if min(abs(at - begin_s), abs(at - end_s)) < 0.003)
    window = [ms for at, ms in raw if begin_s <= at < end_s]
    assert len(window) > 300
    check_quantiles(everything(intervals[1:3]), window, unsure=unsure)


@pytest.mark.parametrize("workers", [0, 2], ids=["local", "master+2"])
def test_a_signal_to_the_group_loses_nothing(workers, launch, sink, target):
    locust = launch(sink.url, workers=workers, duration_s=60)
    wait_until(pushed(sink, 1), within_s=15, message="an interval")
    os.killpg(locust.process.pid, signal.SIGTERM)
    signalled_s = time.monotonic()
    locust.wait()
    assert time.monotonic() - signalled_s < 5
    intervals = check_complete(sink, target, "user")
    assert sink.of(wire.TEST_STOP)[0].workers_lost == 0
    assert not sink.of(wire.TEST_STOP)[0].auto_stopped
    assert intervals[-1].workers == workers


@pytest.mark.parametrize("workers", [0, 2], ids=["local", "master+2"])
def test_the_duration_holds_for_a_load_shape_too(workers, launch, sink, target):
    locust = launch(sink.url, script=SHAPE, workers=workers, duration_s=1.5)
    locust.wait()
    check_complete(sink, target, "duration")
    assert locust.lasted_s == pytest.approx(1.5, abs=0.3)


def test_a_shape_that_ends_by_itself_says_so(launch, sink, target):
    script = SHAPE.replace("return (4, 100)", "return (4, 100) if self.get_run_time() < 0.5 else None")
    launch(sink.url, script=script, duration_s=60).wait()
    check_complete(sink, target, "shape")
    assert sink.of(wire.TEST_STOP)[0].auto_stopped


def test_a_receiver_that_comes_late_gets_all(launch, target):
    port = free_port()
    locust = launch(f"http://127.0.0.1:{port}")
    wait_until(lambda: "cannot be reached" in locust.output, within_s=10, message="a warning")
    wait_until(lambda: target.served > 200, within_s=10, message="load")
    with Sink(port, token=TOKEN) as sink:
        locust.wait()
        check_complete(sink, target, "duration")
    assert locust.output.count("cannot be reached") == 1
    assert not locust.spool.exists()


def test_without_a_receiver_the_spool_stays_and_drain_delivers_it(launch, target):
    locust = launch(f"http://127.0.0.1:{free_port()}", duration_s=1)
    wait_until(lambda: "Shutting down" in locust.output, within_s=20, message="the end of the test")
    ended_s = time.monotonic()
    locust.wait()
    assert 6.5 < time.monotonic() - ended_s < 10
    assert "wait in" in locust.output
    with Spool(locust.spool) as spool, Sink(token=TOKEN) as sink:
        waiting = len(spool)
        assert drain(spool, url=f"http://127.0.0.1:{free_port()}", token=TOKEN, patience_s=0.5) == 0
        assert drain(spool, url=sink.url, token=TOKEN) == waiting
        assert len(spool) == 0
        check_complete(sink, target, "duration")
    assert TOKEN.encode() not in locust.spool.read_bytes()


def test_lost_answers_make_duplicates_with_the_same_bytes(launch, sink, target):
    sink.misbehave = lambda kind, number: Misbehaviour(drop_answer=True) if number % 2 else None
    launch(sink.url, duration_s=2).wait()
    check_complete(sink, target, "duration")
    assert len(sink.duplicates) >= 2
    first = {(one.kind, getattr(one.message, "seq", 0)): one.body for one in sink.received}
    assert all(first[one.kind, getattr(one.message, "seq", 0)] == one.body for one in sink.duplicates)


def test_a_receiver_that_asks_for_peace_gets_it(launch, sink, target):
    busy = Misbehaviour(status=429, headers={"Retry-After": "1"})
    unknown = Misbehaviour(status=401)  # by a receiver that has just been restarted
    tricks = {wire.METRICS: busy, wire.TEST_START: unknown}
    sink.misbehave = lambda kind, number: tricks.get(kind) if number <= 2 else None
    launch(sink.url).wait()
    check_complete(sink, target, "duration")
    tries = [at_s for at_s, kind in sink.requests if kind == wire.METRICS][:3]
    assert min(later - earlier for earlier, later in itertools.pairwise(tries)) >= 1


def test_what_is_refused_for_good_is_put_aside_and_the_rest_goes_on(launch, sink, target):
    refusal = Misbehaviour(status=409)
    sink.misbehave = lambda kind, number: refusal if kind == wire.METRICS and number == 2 else None
    locust = launch(sink.url, duration_s=2)
    locust.wait()
    (stop,) = sink.of(wire.TEST_STOP)
    assert {interval.seq for interval in sink.intervals} == set(range(stop.last_seq + 1)) - {1}
    assert stop.final.cum_requests == target.served
    assert "refused metrics 1 of run run-1 for good: 409" in locust.output
    with Spool(locust.spool) as spool:
        assert [(dead.kind, dead.seq, dead.status) for dead in spool.dead_letters()] == [(wire.METRICS, 1, 409)]


def test_a_script_that_cannot_be_imported_ends_with_its_own_words(launch, sink, target):
    locust = launch(sink.url, script="import no_such_module_at_all")
    assert locust.wait() < 10
    assert locust.process.returncode != 0
    assert "No module named 'no_such_module_at_all'" in locust.output
    assert sink.requests == []


def test_workers_that_cannot_import_the_script_end_the_run(launch, sink, target):
    script = SCRIPT + "import sys\nif '--worker' in sys.argv: raise ImportError('only the workers lack it')\n"
    locust = launch(sink.url, script=script, workers=2)
    assert locust.wait() < 10
    assert locust.process.returncode != 0
    assert "ImportError: only the workers lack it" in locust.output
    assert "before the test began" in locust.output
    assert sink.of(wire.TEST_START) == []
    assert target.served == 0


def test_a_killed_worker_is_told_of_and_the_others_count_on(launch, sink, target):
    locust = launch(sink.url, workers=2)
    wait_until(pushed(sink, 1), within_s=15, message="an interval")
    group(locust)[0].kill()
    locust.wait()
    (stop,) = sink.of(wire.TEST_STOP)
    assert sink.invalid == []
    assert (stop.reason, stop.workers_lost) == ("duration", 1)
    assert "1 of 2 workers were lost" in stop.error
    assert [interval.seq for interval in sink.intervals] == list(range(stop.last_seq + 1))
    assert 0.5 * target.served < stop.final.cum_requests < target.served


def test_the_last_reports_of_workers_that_are_gone_before_they_are_read_count(launch, sink, target):
    script = SCRIPT + textwrap.dedent("""
        import gevent

        if "--worker" not in sys.argv:
            @events.test_stop.add_listener
            def read_late(environment, **_):
                server = environment.runner.server
                read = server.recv_from_client

                def late():
                    gevent.sleep(3)
                    server.recv_from_client = read
                    return read()

                server.recv_from_client = late
    """)
    launch(sink.url, script=script, workers=2, duration_s=1.5).wait()
    check_complete(sink, target, "duration")


def test_a_run_whose_workers_are_all_gone_ends(launch, sink, target):
    locust = launch(sink.url, workers=2, duration_s=60)
    wait_until(pushed(sink, 1), within_s=15, message="an interval")
    for process in group(locust):
        process.kill()
    locust.wait(10)
    (stop,) = sink.of(wire.TEST_STOP)
    assert (stop.reason, stop.workers_lost, stop.auto_stopped) == ("workers-lost", 2, False)


def test_the_answer_stopping_stops_master_and_workers_that_have_no_token(launch, sink, target):
    script = SCRIPT + textwrap.dedent("""
        @events.init_command_line_parser.add_listener
        def mine(parser):
            parser.add_argument("--shop", required=True)
        @events.test_start.add_listener
        def say(environment, **_):
            print("SHOP", environment.parsed_options.shop, os.environ.get("LOADBENCH_RUN_TOKEN"), flush=True)
    """)
    locust = launch(sink.url, script=script, workers=2, duration_s=60, extra=("--shop", "corner"))
    wait_until(pushed(sink, 1), within_s=15, message="an interval")
    workers = group(locust)
    assert len(workers) == 2
    for worker in workers:
        assert wire.ENV_TOKEN not in worker.environ()
        assert os.getsid(worker.pid) == os.getpgid(worker.pid) == locust.process.pid
        assert "--shop" in worker.cmdline()
        assert "--users" not in worker.cmdline()
        assert TOKEN not in " ".join(worker.cmdline())
    sink.status = "Stopping"
    locust.wait(10)
    check_complete(sink, target, "user")
    assert locust.output.count("SHOP corner None") == 3
    assert not any(worker.is_running() for worker in workers)


def test_without_a_run_it_is_plain_locust(launch, sink, target):
    locust = launch(sink.url, environment={}, extra=("--run-time", "1s"))
    locust.wait()
    assert locust.process.returncode == 0
    assert locust.output.count("nothing will be recorded") == 1
    assert target.served > 0
    assert sink.requests == []


def test_a_second_test_in_the_process_is_not_recorded(launch, sink, target):
    script = SCRIPT + textwrap.dedent("""
        import gevent
        @events.init.add_listener
        def twice(environment, runner, **_):
            def run():
                gevent.sleep(1)
                runner.stop()
                runner.start(2, 10)
                gevent.sleep(1)
                runner.quit()
            gevent.spawn(run)
    """)
    locust = launch(sink.url, script=script, duration_s=60)
    locust.wait()
    (stop,) = sink.of(wire.TEST_STOP)
    assert stop.reason == "script"
    assert sink.invalid == []
    assert 0 < stop.final.cum_requests < target.served
    assert locust.output.count("a second test in this process is not recorded") == 1


def test_the_agent_is_light_keeps_the_lease_and_knows_the_script_by_its_bytes(launch, sink, target):
    heavy = {"pymongo", "tornado", "pandas", "pydantic", "numpy", "plotly", "ipywidgets"}
    script = SCRIPT + textwrap.dedent(f"""
        # é
        @events.init.add_listener
        def slow(**_):
            time.sleep(2.5)

        @events.test_start.add_listener
        def warm_up(environment, **_):
            from locust.clients import HttpSession
            HttpSession(environment.host, environment.events.request, None).get("/warm-up")

        @events.quit.add_listener
        def report(**_):
            import sys
            print("LOADED", sorted({heavy!r} & set(sys.modules)), "loadbench.agent.plugin" in sys.modules, flush=True)
    """)
    locust = launch(sink.url, script=script, duration_s=1)
    locust.wait()
    intervals = check_complete(sink, target, "duration")
    assert "LOADED [] True" in locust.output
    assert [beat.state for beat in sink.of(wire.HEARTBEAT)] == ["ready", "ready"]
    assert sink.received[2].kind == wire.TEST_START
    assert "/warm-up" in {endpoint.name for endpoint in intervals[0].endpoints}
    content = (locust.directory / "locustfile.py").read_bytes()
    assert sink.of(wire.TEST_START)[0].environment.script_sha256 == hashlib.sha256(content).hexdigest()
