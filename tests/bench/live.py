"""What the live view costs: kernel ms and bytes per push, browser ms per drawing, push to drawn; and its peer.

The peer is a FigureWidget of plotly.py with as many traces and points; each push gives it new arrays in one batch.
`busy` is all that the browser's main thread did between the first and the last push, JupyterLab's own work too.

`kernel_ms` is the processor time of one push: `p50` after 0.7 s of rest, with cold caches, `in_a_row` without a rest.
`bytes` are those of one push without Jupyter's envelope.

Prints one JSON line per measurement; under a minute. Needs a Chromium on PATH.

    python tests/bench/live.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "browser")]

from lab_pages import Lab, NotebookPage  # noqa: E402
from lab_process import chromium, jupyterlab  # noqa: E402
from playwright.sync_api import Page  # noqa: E402

from tests.bench.timing import tell  # noqa: E402

CELL = """\
import json, statistics, threading, time
from datetime import UTC, datetime
from loadbench import testing
from loadbench.live import LiveView
from loadbench.model import RunStatus
start_ms = int(1000 * (time.time() - {points}))
seconds = {points} + {pushes} + 100
made = testing.run(
    seconds=seconds, endpoints=20, rps=100, started_at=start_ms, status=RunStatus.RUNNING, finished_at=None
)
history, later = made.documents[:{points}], made.documents[{points}:]
opened = time.time()
view = LiveView(history, run=made.run)
costs_ms, in_a_row_ms, sent = [], [], []
send = view.comm.publish_msg
def counted(*args, **kwargs):
    sent.append((kwargs["data"], kwargs["buffers"] or []))
    send(*args, **kwargs)
def feed():
    time.sleep(3)
    view._chosen = {chosen}
    view._send_rows(0)
    time.sleep(1)
    view.comm.publish_msg = counted
    for document in later[:{pushes}]:
        document = document | {{"timestamp": datetime.now(UTC)}}
        start = time.thread_time()
        view.append(document)
        costs_ms.append(1000 * (time.thread_time() - start))
        time.sleep({every_s})
    rest = later[{pushes}:]
    start = time.thread_time()
    for document in rest:
        view.append(document)
    in_a_row_ms.append(1000 * (time.thread_time() - start) / len(rest))
thread = threading.Thread(target=feed, daemon=True)
thread.start()
view
"""
REPORT = """\
thread.join()
sizes = [len(json.dumps(data)) + sum(len(buffer) for buffer in buffers) for data, buffers in sent]
figures = {"kernel_ms_p50": statistics.median(costs_ms), "kernel_ms_in_a_row": in_a_row_ms[0], "opened": opened}
print("REPORT", json.dumps({**figures, "bytes_p50": statistics.median(sizes), "bytes_max": max(sizes)}))
"""
PEER = """\
import json, statistics, threading, time
import numpy as np, plotly.graph_objects as go
number, traces, pushes = {points}, {traces}, {pushes}
x, y = np.arange(number + pushes, dtype=float), np.random.default_rng(1).lognormal(4, 0.3, (traces, number + pushes))
figure = go.FigureWidget([go.Scatter(x=x[:number], y=row[:number]) for row in y])
costs_ms, sent = [], []
send = figure.comm.publish_msg
def counted(*args, **kwargs):
    sent.append(len(json.dumps(kwargs["data"])) + sum(len(buffer) for buffer in kwargs["buffers"] or []))
    send(*args, **kwargs)
def feed():
    time.sleep(8)
    figure.comm.publish_msg = counted
    for end in range(number + 1, number + pushes + 1):
        start = time.thread_time()
        with figure.batch_update():
            for trace, row in zip(figure.data, y):
                trace.x, trace.y = x[:end], row[:end]
        costs_ms.append(1000 * (time.thread_time() - start))
        time.sleep({every_s})
thread = threading.Thread(target=feed, daemon=True)
thread.start()
figure
"""
PEER_REPORT = """\
thread.join()
print("REPORT", json.dumps({"kernel_ms": statistics.median(costs_ms), "bytes": sum(sent) / len(costs_ms)}))
"""
SHOWN = {
    "kernel_ms_p50": ("kernel per push, after a rest", "ms", "<= 0.2"),
    "kernel_ms_in_a_row": ("kernel per push, in a row", "ms", "<= 0.2"),
    "bytes_p50": ("sent per push", "bytes", "<= 2048"),
    "draw_ms_p50": ("browser's main thread per update, p50", "ms", "<= 50"),
    "push_to_drawn_ms_p50": ("push to drawn, p50", "ms", "<= 80"),
    "open_s": ("until it is drawn first", "s", "<= 2"),
    "busy_ms": ("browser's main thread busy per update, JupyterLab with it", "ms", ""),
}
PUSHES, EVERY_S = 10, 0.7
WATCH = """() => {
    window.draws = [];
    const keep = entry => window.draws.push({
        ms: entry.duration, rows: entry.detail.rows, end: entry.detail.lastEndMs,
        drawn: performance.timeOrigin + entry.startTime + entry.duration,
    });
    const ours = list => list.getEntries().filter(entry => entry.name === 'loadbench-draw').forEach(keep);
    new PerformanceObserver(ours).observe({entryTypes: ['measure']});
}"""


def busy_ms(page: Page, rows: str, *, points: int) -> float:
    """Say how long the main thread was busy per push; `rows` is JavaScript that gives how many rows are shown."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def task_s(shown: int) -> float:
        page.wait_for_function(f"n => ({rows} ?? 0) >= n", arg=shown, timeout=90_000)
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "TaskDuration")

    began = task_s(points + 1)
    return 1000 * (task_s(points + PUSHES) - began) / (PUSHES - 1)


def show(notebook: NotebookPage, selector: str) -> None:
    """Run the notebook, and scroll to what it shows: what is not in sight is not drawn."""
    notebook.run_all()
    notebook.page.wait_for_selector(selector, state="attached", timeout=60_000)
    notebook.page.evaluate("selector => document.querySelector(selector).scrollIntoView({block: 'start'})", selector)


def peer(lab: Lab, *, points: int, traces: int) -> None:
    """Do the same with a FigureWidget, and print what it cost."""
    cell = PEER.format(points=points, traces=traces, pushes=PUSHES, every_s=EVERY_S)
    notebook = lab.open_notebook(lab.write_notebook(f"peer-{points}.ipynb", cell, PEER_REPORT), width=1500)
    show(notebook, ".js-plotly-plot")
    busy = busy_ms(notebook.page, "document.querySelector('.js-plotly-plot')?.data?.[0]?.x?.length", points=points)
    notebook.wait_for_idle()
    report = json.loads(notebook.outputs().split("REPORT")[1].strip().splitlines()[0])
    for what, value, unit in (
        ("kernel per push", report["kernel_ms"], "ms"),
        ("sent per push", report["bytes"], "bytes"),
        (SHOWN["busy_ms"][0], busy, "ms"),
    ):
        tell(f"FigureWidget, {points} points, {traces} traces: {what}", value, unit)


def measure(lab: Lab, *, points: int, chosen: tuple[int, ...]) -> dict[str, object]:
    """Open a view with `points` intervals of history, push some more, and say what each cost."""
    pushes = PUSHES
    cell = CELL.format(points=points, pushes=pushes, every_s=EVERY_S, chosen=chosen)
    notebook = lab.open_notebook(lab.write_notebook(f"bench-{points}-{len(chosen)}.ipynb", cell, REPORT), width=1500)
    notebook.page.evaluate(WATCH)
    show(notebook, ".loadbench-live")
    busy = busy_ms(notebook.page, "Number(document.querySelector('.loadbench-live')?.dataset.rows)", points=points)
    notebook.wait_for_idle()
    assert notebook.page.evaluate("() => window.draws.length") > 1
    report = json.loads(notebook.outputs().split("REPORT")[1].strip().splitlines()[0])
    draws = notebook.page.evaluate("() => window.draws")
    first, updates = draws[0], [draw for draw in draws if points < draw["rows"] <= points + pushes]
    durations = sorted(draw["ms"] for draw in updates)
    latencies = sorted(draw["drawn"] - draw["end"] for draw in updates)
    traces = notebook.page.evaluate("() => document.querySelector('.js-plotly-plot').data.length")
    return {
        "points": points,
        "traces": traces,
        "kernel_ms_p50": round(report["kernel_ms_p50"], 3),
        "kernel_ms_in_a_row": round(report["kernel_ms_in_a_row"], 3),
        "bytes_p50": report["bytes_p50"],
        "bytes_max": report["bytes_max"],
        "open_s": round((first["drawn"] / 1000) - report["opened"], 2),
        "first_draw_ms": round(first["ms"], 1),
        "draw_ms_p50": round(durations[len(durations) // 2], 1),
        "draw_ms_max": round(durations[-1], 1),
        "push_to_drawn_ms_p50": round(latencies[len(latencies) // 2], 1),
        "push_to_drawn_ms_max": round(latencies[-1], 1),
        "drawn_updates": len(updates),
        "busy_ms": busy,
    }


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as (url, token, directory),
        chromium() as browser,
    ):
        # One endpoint besides the totals; then as many as a view shows.
        for points, chosen in ((60, (1,)), (600, (1,)), (3600, (1,)), (3600, (0, 1, 2, 3, 4))):
            lab = Lab(url, token, directory, browser)
            figures = measure(lab, points=points, chosen=chosen)
            of = f"{points} points, {len(chosen)} of 20 endpoints, {figures['traces']} traces"
            for name, (what, unit, goal) in SHOWN.items():
                tell(f"live view, {of}: {what}", figures[name], unit, goal)
            lab.close_pages()
            if len(chosen) == 1:
                peer(lab, points=points, traces=figures["traces"])
                lab.close_pages()


if __name__ == "__main__":
    main()
