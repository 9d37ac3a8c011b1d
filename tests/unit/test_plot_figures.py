"""Figures of the lab: true to their data, a unit on every axis, told apart without colour, bounded, never empty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from loadbench import plots
from loadbench import testing as synthetic
from loadbench.analysis import frames, time_columns
from loadbench.analysis.errors_over_time import errors_over_time
from loadbench.analysis.heatmap import heatmap
from loadbench.analysis.load_levels import load_levels
from loadbench.analysis.summary import histograms
from loadbench.model import Window

HOSTILE = "/<img src=x onerror=hacked()>"
SAFE = "/&lt;img src=x onerror=hacked()&gt;"
LONG = "/api/" + "a-name-that-nobody-would-shorten/" * 7
WINDOWS = (
    Window(name="ramp", start_s=0, end_s=20, found=True),
    Window(name="steady", start_s=20, end_s=70, found=True),
    Window(name="drain", start_s=70, found=True),
)


@pytest.fixture(scope="module")
def made() -> synthetic.Synthetic:
    return synthetic.run(
        seed="figures", seconds=90, rps=60, endpoints=[HOSTILE, LONG, "/c"], ramp_s=20, stalled=(40,),
        failure_ratio=0.05, messages=(HOSTILE, "b", "c"), lost=(50, 51, 52),
    )  # fmt: skip


def a_forest(rows: int = 5) -> pd.DataFrame:
    verdicts = list(plots.VERDICTS)
    return pd.DataFrame(
        {
            "endpoint": [f"GET {HOSTILE}", f"GET {LONG}", *(f"GET /{n}" for n in range(rows))][:rows],
            "percentile": [95.0] * rows,
            "effect_percent": np.linspace(-8, 12, rows),
            "low_percent": np.linspace(-8, 12, rows) - 3,
            "high_percent": np.linspace(-8, 12, rows) + 4,
            "verdict": [verdicts[n % len(verdicts)] for n in range(rows)],
            "smallest_percent": [5.0] * rows,
        }
    )


def a_shift() -> pd.DataFrame:
    q = np.array([10.0, 50, 90, 99])
    return pd.DataFrame({"percentile": q, "effect_percent": q / 10, "low_percent": q / 10 - 1, "high_percent": q / 5})


def a_history(runs: int = 12) -> pd.DataFrame:
    level = np.where(np.arange(runs) < runs // 2, 100.0, 120.0)
    started = pd.date_range("2026-01-01", periods=runs, freq="D", tz="UTC")
    return pd.DataFrame(
        {
            "started_at": started, "revision": [1.0] * runs, "name": [HOSTILE] * runs, "p95_ms": level + 1,
            "segment_ms": level, "low_ms": level - 2, "high_ms": level + 2, "valid": [True] * (runs - 1) + [False],
        }
    )  # fmt: skip


def changes() -> pd.DataFrame:
    return pd.DataFrame(
        {"position": [6, 9], "change_percent": [20.0, -3.0], "state": ["confirmed", "dismissed"], "revision": [2, None]}
    )


def traces() -> list[plots.GateTrace]:
    seconds = np.arange(1.0, 91)
    values = np.where(seconds > 60, 900.0, 200.0)
    return [
        plots.GateTrace(f"p95 of {HOSTILE} < 800ms", seconds, values, "ms", 800, False, [(60, 90)], "above for 30 s"),
        plots.GateTrace("p99 <= 1.2 x baseline", seconds, values, "ms", because="no baseline"),
    ]


def levels() -> tuple[pd.DataFrame, pd.DataFrame]:
    users = np.array([5.0, 10, 20, 40])
    points = pd.DataFrame({"users": users, "requests_per_s": users * 9, "low": users * 8, "high": users * 10})
    grid = np.linspace(1, 80, 50)
    return points, pd.DataFrame({"users": grid, "requests_per_s": grid * 9, "low": grid * 8, "high": grid * 10})


DRAWN: dict[str, Callable[[synthetic.Synthetic], go.Figure]] = {
    "timeline": lambda m: plots.timeline(frames.timeline(m.run, m.documents), title=HOSTILE, windows=WINDOWS),
    "heatmap": lambda m: plots.heatmap(heatmap(m.run, m.documents), windows=WINDOWS, title=HOSTILE),
    "heatmap of shares": lambda m: plots.heatmap(heatmap(m.run, m.documents), colour="share"),
    "percentiles": lambda m: plots.percentiles_over_time(frames.timeline(m.run, m.documents), windows=WINDOWS),
    "percentiles by endpoint": lambda m: plots.percentiles_over_time(
        time_columns.percentiles_over_time(m.run, m.documents), windows=WINDOWS
    ),
    "load": lambda m: plots.response_time_against_load(
        frames.timeline(m.run, m.documents), load_levels(m.run, m.documents)
    ),
    "load by rate": lambda m: plots.response_time_against_load(
        frames.timeline(m.run, m.documents), against="requests_per_s"
    ),
    "errors": lambda m: plots.errors_over_time(errors_over_time(m.run, m.documents), windows=WINDOWS),
    "errors by endpoint": lambda m: plots.errors_over_time(errors_over_time(m.run, m.documents), by="endpoint"),
    "distributions": lambda m: plots.distribution(histograms(m.run, m.documents)),
    "cdf": lambda m: plots.cdf(histograms(m.run, m.documents)),
    "cdf of the tail": lambda m: plots.cdf(histograms(m.run, m.documents), tail=True),
    "overlay": lambda m: plots.overlay(
        {HOSTILE: frames.timeline(m.run, m.documents), "b": frames.timeline(m.run, m.documents)}, windows=WINDOWS
    ),
    "overlay by users": lambda m: plots.overlay({HOSTILE: load_levels(m.run, m.documents)}, by="users"),
    "shift": lambda _: plots.shift(a_shift()),
    "forest": lambda _: plots.forest(a_forest()),
    "contributions": lambda _: plots.contributions(
        pd.DataFrame({"endpoint": [HOSTILE, LONG], "mix_ms": [1.0, -2], "latency_ms": [3.0, 1]})
    ),
    "history": lambda _: plots.history(a_history(), changes()),
    "gates": lambda _: plots.gates(traces(), windows=WINDOWS),
    "scalability": lambda _: plots.scalability(*levels(), knee=30),
}


@pytest.fixture(scope="module")
def figures(made: synthetic.Synthetic) -> dict[str, go.Figure]:
    return {name: make(made) for name, make in DRAWN.items()}


def subplots(figure: go.Figure) -> tuple[list[go.layout.XAxis], list[go.layout.YAxis]]:
    x = [axis for axis in figure.select_xaxes() if axis.visible is not False]
    return x, [axis for axis in figure.select_yaxes() if axis.visible is not False]


WITHOUT_NAMES = {
    "heatmap of shares", "percentiles", "load", "load by rate", "cdf of the tail", "shift", "scalability",
}  # fmt: skip
UNITS = ("ms", "%", "/s", "users", "time", "runs", "interval", "response time", "p95")


@pytest.mark.parametrize("name", DRAWN)
def test_every_axis_says_what_it_is_in(figures, name):
    across, up = subplots(figures[name])
    assert any(axis.title.text and any(unit in axis.title.text for unit in UNITS) for axis in across)
    if name not in ("forest", "contributions"):  # their vertical axis lists endpoints
        titled = [axis for axis in up if axis.title.text]
        assert titled
        assert all(any(unit in axis.title.text for unit in UNITS) for axis in titled)


@pytest.mark.parametrize("name", DRAWN)
def test_no_name_becomes_markup_and_none_is_long(figures, name):
    text = figures[name].to_json().replace("\\u003c", "<").replace("\\u003e", ">")
    assert "<img" not in text
    assert LONG not in text


@pytest.mark.parametrize("name", sorted(set(DRAWN) - WITHOUT_NAMES))
def test_a_hostile_name_is_shown_as_it_is(figures, name):
    assert "&lt;img src=x" in figures[name].to_json().replace("\\u0026", "&")


@pytest.mark.parametrize("name", DRAWN)
def test_series_are_told_apart_without_colour(figures, name):
    figure = figures[name]
    drawn = [trace for trace in figure.data if trace.name and trace.showlegend is not False and trace.type != "heatmap"]
    looks = {}
    for trace in drawn:
        if trace.type == "bar":
            look = (trace.marker.pattern.shape, trace.marker.color if trace.marker.pattern.shape in (None, "") else "")
        else:
            look = (trace.mode, trace.line.dash, trace.line.width, trace.marker.symbol, trace.fill)
        looks.setdefault(str(look), []).append((trace.name, trace.xaxis, trace.yaxis))
    for same in looks.values():
        places = [place for _, *place in same]
        assert len(places) == len({tuple(place) for place in places}), f"look the same in grey: {same}"


@pytest.mark.parametrize("name", DRAWN)
def test_the_legend_is_never_over_the_title_or_the_axis(figures, name):
    layout = figures[name].layout
    if layout.legend.yref == "container":  # below: there is room for it under the axis title, or above the title
        assert layout.legend.y > 0.9 or layout.margin.b >= 56 + 19


def test_cells_of_the_heatmap_are_those_of_the_grid(made):
    grid = heatmap(made.run, made.documents)
    drawn = plots.heatmap(grid).data[0]
    filled = ~np.isnan(np.asarray(drawn.z, dtype=float))
    assert (filled == (grid.counts > 0)).all()
    assert 10 ** np.asarray(drawn.z, dtype=float)[filled] == pytest.approx(grid.rate_per_s[filled])
    assert np.asarray(drawn.customdata).sum() == len(made.raw)
    assert (np.asarray(drawn.x) - plots.DAY_MS) / 1000 == pytest.approx(grid.edges_s, abs=0.001)
    assert list(drawn.y) == list(grid.edges_ms)


def test_the_heatmap_marks_what_was_not_measured(made):
    figure = plots.heatmap(heatmap(made.run, made.documents))
    spans = [((s.x0 - plots.DAY_MS) / 1000, (s.x1 - plots.DAY_MS) / 1000) for s in figure.layout.shapes]
    assert spans == [(50, 53)]
    assert "nothing measured" in [trace.name for trace in figure.data]
    lines = [trace for trace in figure.data if trace.name == "p95"]
    assert np.isnan(lines[-1].y[50])


def test_the_heatmap_is_small_enough_for_a_page():
    long = synthetic.run(seed="page", seconds=3600, interval_s=5, rps=60, endpoints=1, sigma=1.5)
    figure = plots.heatmap(heatmap(long.run, long.documents))
    assert len(figure.to_json()) < 700_000
    assert figure.data[0].zmax < np.nanmax(np.asarray(figure.data[0].z, dtype=float)) + 1e-9


def test_windows_are_shaded_and_named(made, figures):
    figure = figures["percentiles"]
    rectangles = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [((s.x0 - plots.DAY_MS) / 1000, (s.x1 - plots.DAY_MS) / 1000) for s in rectangles] == [(0, 20), (70, 90)]
    assert [each.text for each in figure.layout.annotations] == ["ramp", "steady", "drain"]
    bare = plots.percentiles_over_time(frames.timeline(made.run, made.documents))
    assert not bare.layout.shapes


def test_peaks_stay_in_percentiles_of_a_long_run():
    long = synthetic.run(seed="peak", seconds=1400, rps=10, endpoints=1, stalled=(1234,), stall_ms=9000)
    frame = frames.timeline(long.run, long.documents)
    figure = plots.percentiles_over_time(frame)
    assert all(len(trace.y) <= plots.MAX_POINTS for trace in figure.data)
    assert max(figure.data[0].y) == frame.p50_ms.max() > 9000


def test_panels_are_the_slowest_endpoints():
    many = synthetic.run(seed="many", seconds=10, endpoints=20, rps=400)
    figure = plots.percentiles_over_time(time_columns.percentiles_over_time(many.run, many.documents))
    assert len(figure.layout.annotations) == 12
    assert "the 12 slowest of 20 endpoints" in figure.layout.title.subtitle.text
    assert "/api/resource-19" in [each.text.removeprefix("GET ") for each in figure.layout.annotations]


def test_load_points_are_intervals_and_lines_are_levels(made):
    frame, merged = frames.timeline(made.run, made.documents), load_levels(made.run, made.documents)
    points, line = plots.response_time_against_load(frame, merged).data[:2]
    assert sorted(zip(points.x, points.y, strict=True)) == sorted(zip(frame.users, frame.p50_ms, strict=True))
    assert list(line.x) == merged.users.tolist()
    assert list(line.y) == merged.p50_ms.tolist()


def test_bars_of_errors_add_up_to_the_failures(made):
    for by in ("message", "endpoint"):
        figure = plots.errors_over_time(errors_over_time(made.run, made.documents), by=by)
        assert sum(sum(bar.customdata) for bar in figure.data) == made.raw.failed.sum()
    many = synthetic.run(
        seed="messages", seconds=20, endpoints=12, rps=300, failure_ratio=0.3, messages=[f"E{n}" for n in range(12)]
    )
    figure = plots.errors_over_time(errors_over_time(many.run, many.documents))
    assert len(figure.data) == 7
    assert figure.data[-1].name.startswith("6 other messages")
    assert sum(sum(bar.customdata) for bar in figure.data) == many.raw.failed.sum()


def test_cdf_is_the_share_of_requests_within(made):
    merged = histograms(made.run, made.documents)["Aggregated"]
    line = plots.cdf({"all": merged}).data[0]
    for x, y in list(zip(line.x, line.y, strict=True))[::20]:
        assert y == pytest.approx(100 * (made.raw.ms <= x * (1 + 1e-9)).mean())
    assert line.y[-1] == 100
    tail = plots.cdf({"all": merged}, tail=True).data[0]
    assert 100 * (1 - 10 ** -np.asarray(tail.y)) == pytest.approx(np.asarray(tail.customdata, dtype=float))


def test_the_reference_is_first_black_and_wide(made):
    frame = frames.timeline(made.run, made.documents)
    figure = plots.overlay({"a": frame, "b": frame.assign(p95_ms=7.0), "c": frame}, reference="b")
    assert [trace.name for trace in figure.data] == ["b (reference)", "a", "c"]
    assert figure.data[0].line.width > figure.data[1].line.width
    assert set(figure.data[0].y) == {7.0}
    many = plots.overlay({str(n): frame for n in range(30)}, column="requests_per_s")
    assert len(many.data) == 24
    assert "the first 24 of 30 runs" in many.layout.title.subtitle.text
    assert many.layout.yaxis.title.text == "requests/s"


def test_the_forest_marks_each_verdict_and_draws_its_interval():
    frame = a_forest()
    figure = plots.forest(frame)
    for row in frame.itertuples():
        trace = next(trace for trace in figure.data if trace.name == row.verdict)
        assert trace.x[0] == row.effect_percent
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row.high_percent)
        assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(row.low_percent)
    symbols = {trace.marker.symbol for trace in figure.data}
    assert len(symbols) == len(figure.data)
    assert "the first 40 of 60" in plots.forest(a_forest(60)).layout.title.subtitle.text


def test_verdicts_without_an_interval_are_drawn_all_the_same():
    frame = a_forest().assign(effect_percent=np.nan, low_percent=np.nan, high_percent=np.nan)
    figure = plots.forest(frame)
    assert sum(len(trace.x) for trace in figure.data if trace.name in plots.VERDICTS) == len(frame)


def test_contributions_name_their_sum():
    frame = pd.DataFrame({"method": ["GET", "GET"], "name": ["/a", "/b"], "mix_ms": [1, -2], "latency_ms": [3, 10.5]})
    figure = plots.contributions(frame, subtitle="x")
    assert figure.layout.title.subtitle.text == "x; in all +12.5 ms"
    assert sum(sum(bar.x) for bar in figure.data) == 12.5
    assert list(figure.data[0].y) == ["GET /a", "GET /b"], "the largest at the top, which is last"


def test_history_draws_runs_levels_and_judged_changes():
    frame = a_history()
    figure = plots.history(frame, changes())
    runs = next(trace for trace in figure.data if "markers" in (trace.mode or ""))
    assert list(runs.y) == frame.p95_ms.tolist()
    assert list(runs.marker.symbol)[-1] == "circle-open"
    assert [shape.x0 for shape in figure.layout.shapes] == [6.5, 9.5]
    assert [shape.line.dash for shape in figure.layout.shapes] == ["solid", "dot"]
    texts = [each.text for each in figure.layout.annotations]
    assert texts == ["+20.0 % (confirmed, revision 2)", "-3.0 % (dismissed)"]
    assert len(plots.history(a_history(5000)).to_json()) < 300_000


def test_gates_show_limit_and_broken_spans():
    figure = plots.gates(traces())
    limits = [shape.y0 for shape in figure.layout.shapes if shape.type == "line"]
    broken = [(s.x0 - plots.DAY_MS, s.x1 - plots.DAY_MS) for s in figure.layout.shapes if s.type == "rect"]
    assert limits == [800]
    assert broken == [(60_000, 90_000)]
    assert "✗ BROKEN" in figure.layout.annotations[0].text
    assert "? not judged" in figure.layout.annotations[1].text


def test_scalability_dashes_what_is_beyond_the_measured():
    points, curve = levels()
    figure = plots.scalability(points, curve, knee=30, limit=300, within=33)
    by_name = {trace.name: trace for trace in figure.data}
    assert max(by_name["fitted law"].x) <= 40 <= min(by_name["beyond what was measured"].x)
    assert by_name["beyond what was measured"].line.dash == "dash"
    assert by_name["measured"].error_y.array.tolist() == [5, 10, 20, 40]
    assert {"knee at 30 users", "33 users keep the limit", "limit 300"} <= {a.text for a in figure.layout.annotations}


def empty(made: synthetic.Synthetic) -> dict[str, go.Figure]:
    run = made.run
    line = frames.timeline(run, [])
    return {
        "timeline": plots.timeline(line, title="x"),
        "heatmap": plots.heatmap(heatmap(run, [])),
        "percentiles": plots.percentiles_over_time(line),
        "load": plots.response_time_against_load(line, load_levels(run, [])),
        "errors": plots.errors_over_time(errors_over_time(run, [])),
        "distribution": plots.distribution({}),
        "cdf": plots.cdf({"a": {}}),
        "overlay": plots.overlay({"a": line}),
        "shift": plots.shift(a_shift().iloc[:0]),
        "forest": plots.forest(a_forest().iloc[:0]),
        "contributions": plots.contributions(pd.DataFrame({"endpoint": [], "mix_ms": [], "latency_ms": []})),
        "history": plots.history(a_history().iloc[:0]),
        "gates": plots.gates([]),
        "scalability": plots.scalability(levels()[0].iloc[:0]),
    }


def test_nothing_to_draw_is_said_in_words(made):
    for name, figure in empty(made).items():
        assert figure.layout.annotations[0].text.startswith("no data: "), name
        assert not figure.data, name


def test_a_long_subtitle_is_wrapped_and_the_plot_stays_as_high():
    short, long = (plots.shift(a_shift(), subtitle="gaps & losses; " * times) for times in (1, 30))
    lines = long.layout.title.subtitle.text.split("<br>")
    assert len(lines) > 2
    assert all(len(line) < 200 for line in lines)
    assert "&amp;" in lines[0]
    assert long.layout.height - long.layout.margin.t == short.layout.height - 104


def test_styles_differ_for_three_dozen_series():
    from loadbench.plots.look import styles

    assert len({(each.color, each.dash) for each in styles(36)}) == 36
