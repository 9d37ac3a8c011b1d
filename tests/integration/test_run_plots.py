"""What a run handle draws: from the store, of the window asked for, with its validity in the subtitle."""

from __future__ import annotations

import numpy as np
import pytest

from loadbench import testing as synthetic
from loadbench.errors import InvalidInput
from loadbench.plots import DAY_MS
from loadbench.testing import nearest_rank

NAMES = ["/api/products", "/api/search", "/api/cart"]


@pytest.fixture
def made() -> synthetic.Synthetic:
    return synthetic.run(
        seed="drawn", seconds=120, endpoints=NAMES, rps=60, ramp_s=20, drain_s=15, users=10, failure_ratio=0.03,
        slowdown={1: 8.0}, env_id="test",
    )  # fmt: skip


@pytest.fixture
def run(bench, store, made):
    synthetic.keep(store, made)
    return bench.run(made.run.id)


def counted(figure) -> int:
    return int(np.asarray(figure.data[0].customdata).sum())


def test_every_figure_follows_the_window_and_says_what_it_is_of(run, made):
    run.set_window("peak", 30, 60)
    raw, peak = made.raw, made.raw[made.raw.seq.between(30, 59)]
    whole = run.heatmap()
    assert counted(whole) == len(raw)
    assert whole.layout.title.subtitle.text == str(run.validity())
    assert {"ramp", "steady", "peak"} <= {each.text for each in whole.layout.annotations}
    part = run.heatmap("GET /api/search", window="peak", outcome="ok")
    assert counted(part) == ((peak.endpoint == 1) & ~peak.failed).sum()
    assert part.layout.title.subtitle.text.startswith("GET /api/search; window peak; ok requests only; ")
    assert not part.layout.shapes, "a window in a figure of one window is no news"
    errors = run.errors_over_time(window=(30, 60))
    assert sum(sum(bar.customdata) for bar in errors.data) == peak.failed.sum()
    assert errors.layout.title.subtitle.text.startswith("30 s to 60 s; ")
    for figure in (run.percentiles_over_time(window="peak"), run.percentiles_over_time("*", window="peak")):
        seconds = np.concatenate([(np.asarray(trace.x) - DAY_MS) / 1000 for trace in figure.data])
        assert (seconds.min(), seconds.max()) == (31, 60)
    load = run.response_time_against_load("requests_per_s", window="peak")
    assert len(load.data[0].x) == 30
    assert "window peak" in load.layout.title.subtitle.text
    spread = run.distribution("*", window="peak")
    assert [trace.name for trace in spread.data] == [f"GET {name}" for name in NAMES]
    assert "window peak" in spread.layout.title.subtitle.text
    tail = run.distribution(window="peak", cumulated=True).data[0]
    at = np.searchsorted(np.asarray(tail.customdata, dtype=float), 95)
    assert tail.x[at] == pytest.approx(nearest_rank(peak.ms, 95), rel=0.011)


def test_figures_of_endpoints_are_of_them_alone(run, made):
    panels = run.percentiles_over_time("*", percentiles=(50, 90)).layout.annotations
    assert {f"GET {name}" for name in NAMES} <= {each.text for each in panels}
    alone = run.response_time_against_load(endpoints="/api/search", percentiles=(50,))
    assert len(alone.data[0].x) > 100, "a point per interval"
    assert np.median(alone.data[0].y) == pytest.approx(made.raw.ms[made.raw.endpoint == 1].median(), rel=0.1)
    several = run.response_time_against_load(endpoints=["/api/search", "/api/cart"])
    assert len(several.data[0].x) == 0, "an interval has no one point of several endpoints"
    assert len(several.data[1].x) > 3
    with pytest.raises(InvalidInput, match="no endpoint 'nope'"):
        run.heatmap("nope")


def test_who_names_the_slow_endpoint(run, made):
    found = run.who("steady", (400, None))
    assert found["name"].iloc[0] == "/api/search"
    assert 0.5 < found.loss_ratio.sum() < 1, "the ramp had slow requests too"
    assert run.who(band_ms=(400, None)).loss_ratio.sum() == pytest.approx(1)


def test_a_run_without_intervals_draws_words(bench, store):
    made = synthetic.run(seed="nothing", seconds=5, env_id="test")
    store.runs.add(made.run)
    run = bench.run(made.run.id)
    figures = (
        run.heatmap(), run.percentiles_over_time(), run.percentiles_over_time("*"), run.response_time_against_load(),
        run.errors_over_time(), run.distribution(), run.distribution(cumulated=True),
    )  # fmt: skip
    for figure in figures:
        assert "no data" in figure.layout.annotations[0].text
    assert run.who().empty
