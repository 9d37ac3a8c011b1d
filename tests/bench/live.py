"""What the live view costs: kernel ms and bytes per push, browser ms per drawing, push to drawn.

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

from lab_pages import Lab  # noqa: E402
from lab_process import chromium, jupyterlab  # noqa: E402

CELL = """\
import json, statistics, threading, time
from datetime import UTC, datetime, timedelta
from live_documents import a_run, an_interval
from loadbench.live import LiveView
began = datetime.now(UTC) - timedelta(seconds={points})
history = [an_interval(seq, start=began, requests=2) for seq in range({points})]
opened = time.time()
view = LiveView(history, run=a_run(start=began, duration_sec={points} + 600))
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
    for seq in range({points}, {points} + {pushes}):
        document = an_interval(seq, start=began, end=datetime.now(UTC), requests=2)
        start = time.thread_time()
        view.append(document)
        costs_ms.append(1000 * (time.thread_time() - start))
        time.sleep({every_s})
    rest = [an_interval(seq, start=began, requests=2) for seq in range({points} + {pushes}, {points} + {pushes} + 100)]
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
SHOWN = {
    "kernel_ms_p50": ("kernel per push, after a rest", "ms", "<= 0.2"),
    "kernel_ms_in_a_row": ("kernel per push, in a row", "ms", "<= 0.2"),
    "bytes_p50": ("sent per push", "bytes", "<= 2048"),
    "draw_ms_p50": ("browser's main thread per update, p50", "ms", "<= 50"),
    "push_to_drawn_ms_p50": ("push to drawn, p50", "ms", "<= 80"),
    "open_s": ("until it is drawn first", "s", "<= 2"),
}
WATCH = """() => {
    window.draws = [];
    const keep = entry => window.draws.push({
        ms: entry.duration, rows: entry.detail.rows, end: entry.detail.lastEndMs,
        drawn: performance.timeOrigin + entry.startTime + entry.duration,
    });
    const ours = list => list.getEntries().filter(entry => entry.name === 'loadbench-draw').forEach(keep);
    new PerformanceObserver(ours).observe({entryTypes: ['measure']});
}"""


def measure(
    lab: Lab, *, points: int, chosen: tuple[int, ...], pushes: int = 10, every_s: float = 0.7
) -> dict[str, object]:
    """Open a view with `points` intervals of history, push some more, and say what each cost."""
    cell = CELL.format(points=points, pushes=pushes, every_s=every_s, chosen=chosen)
    notebook = lab.open_notebook(lab.write_notebook(f"bench-{points}-{len(chosen)}.ipynb", cell, REPORT), width=1500)
    notebook.page.evaluate(WATCH)
    notebook.run_all()
    notebook.page.wait_for_function(
        "n => Number(document.querySelector('.loadbench-live')?.dataset.rows ?? 0) >= n",
        arg=points + pushes,
        timeout=60_000,
    )
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
    }


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as (url, token, directory),
        chromium() as browser,
    ):
        for points in (60, 600, 3600):
            lab = Lab(url, token, directory, browser)
            figures = measure(lab, points=points, chosen=(1,))
            for name, (what, unit, goal) in SHOWN.items():
                text = f"live view, {points} points, {figures['traces']} traces: {what}"
                print(json.dumps({"what": text, "value": figures[name], "unit": unit, "goal": goal}), flush=True)
            lab.close_pages()


if __name__ == "__main__":
    main()
