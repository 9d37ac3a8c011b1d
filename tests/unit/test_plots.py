"""Static figures: every peak stays, every axis has its unit, no name becomes markup."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly
import pytest
from plotly.offline import get_plotlyjs_version

import loadbench
from loadbench import plots
from loadbench.agent.histogram import bucket_of, merge

STATIC = Path(loadbench.__file__).parent / "static"
DECISION = Path(loadbench.__file__).parents[1] / "docs" / "decisions" / "003-plotly-js.md"


def a_timeline(n: int = 5, *, without: tuple[int, ...] = ()) -> pd.DataFrame:
    seconds = np.array([second for second in range(1, n + 1) if second not in without], dtype=float)
    moments = pd.to_datetime(1_795_428_000_000 + (1000 * seconds).astype(int), unit="ms", utc=True).as_unit("ms")
    rates = {"users": 10, "requests_per_s": seconds * 2, "failures_per_s": 0.0}
    return pd.DataFrame(
        {"elapsed_s": seconds, "timestamp": moments, **rates, "p50_ms": 20.0, "p95_ms": 40.0, "p99_ms": seconds}
    )


def test_every_axis_of_the_timeline_has_its_unit():
    layout = plots.timeline(a_timeline(), title="products").layout
    units = [layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert units == ["users", "requests/s", "errors/s", "ms"]
    assert layout.xaxis3.title.text == layout.xaxis4.title.text == "time since start"


def test_timeline_shows_the_rows_and_leaves_them_as_they_were():
    frame = a_timeline()
    before = frame.copy()
    figure = plots.timeline(frame, title="products", subtitle="1 worker lost")
    assert list(figure.data[1].y) == [2, 4, 6, 8, 10]
    assert [x - plots.DAY_MS for x in figure.data[1].x] == [1000, 2000, 3000, 4000, 5000]
    assert figure.layout.title.subtitle.text == "1 worker lost"
    pd.testing.assert_frame_equal(frame, before)


def test_no_line_is_drawn_across_missing_intervals():
    figure = plots.timeline(a_timeline(10, without=(4, 5, 6)), title="products")
    assert np.isnan(figure.data[1].y).tolist() == [False] * 3 + [True] + [False] * 4


@pytest.mark.parametrize("seconds", [4000, 1, 0])
def test_timeline_of_any_length(seconds: int):
    figure = plots.timeline(a_timeline(seconds), title="products")
    assert all(len(trace.y) <= plots.MAX_POINTS for trace in figure.data)
    if seconds:
        assert max(figure.data[5].y) == seconds


def a_summary(*names: str) -> pd.DataFrame:
    p95 = [float(10 * (n + 1)) for n in range(len(names))]
    return pd.DataFrame(
        {"p50_ms": [x / 2 for x in p95], "p95_ms": p95, "p99_ms": [x * 2 for x in p95]}, index=list(names)
    )


def test_names_are_never_markup():
    name = 'GET /<b>x</b> & <a href="javascript:1">y</a>'
    shown = 'GET /&lt;b&gt;x&lt;/b&gt; &amp; &lt;a href="javascript:1"&gt;y&lt;/a&gt;'
    assert plots.endpoint_percentiles(a_summary(name)).data[1].y[0] == shown
    assert plots.timeline(a_timeline(), title=name, subtitle=name).layout.title.text == shown
    assert plots.timeline(a_timeline(), title="x", subtitle=name).layout.title.subtitle.text == shown
    assert plots.distribution({name: {10: 1}}).data[0].name == shown


def test_endpoints_are_sorted_and_bounded():
    figure = plots.endpoint_percentiles(a_summary(*(f"GET /{n}" for n in range(50))))
    by_name = {trace.name: trace for trace in figure.data if trace.name}
    assert by_name["p95"].y[-1] == "GET /49", "the slowest is drawn on top"
    assert len(by_name["p95"].y) == plots.MAX_ENDPOINTS
    assert figure.layout.title.subtitle.text == "the slowest 40 of 50 endpoints"
    assert "ms" in figure.layout.xaxis.title.text


def test_endpoint_without_a_timed_request_has_no_dots():
    summary = a_summary("GET /", "GET /none")
    summary.loc["GET /none"] = np.nan
    assert list(plots.endpoint_percentiles(summary).data[1].y) == ["GET /"]
    assert "no data" in plots.endpoint_percentiles(summary.iloc[:0]).layout.annotations[0].text


def test_distribution_adds_up_and_marks_the_percentiles():
    histogram = merge([{bucket_of(ms): 1} for ms in range(1, 1001)])
    figure = plots.distribution({"all": histogram})
    assert sum(figure.data[0].y) == pytest.approx(100)
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert [text.split()[0] for text in texts] == ["p50", "p95", "p99"]
    assert [shape.x0 for shape in figure.layout.shapes] == pytest.approx([500, 950, 990], rel=0.005)
    assert "no data" in plots.distribution({"all": {}}).layout.annotations[0].text
    assert plots.distribution({"before": histogram, "after": histogram}).layout.showlegend


def test_the_vendored_library_is_the_version_that_plotly_for_python_draws_with():
    head = (STATIC / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:300]
    version = re.search(r"v(\d+\.\d+\.\d+)", head).group(1)
    assert version == get_plotlyjs_version(), f"plotly {plotly.__version__} draws with another plotly.js"
    assert "MIT" in head
    assert "MIT" in (STATIC / "plotly-LICENSE").read_text()


def test_the_vendored_library_is_the_file_that_the_decision_names():
    digest = hashlib.sha256((STATIC / "plotly-cartesian.min.js").read_bytes()).hexdigest()
    text = DECISION.read_text()
    assert digest in text
    assert get_plotlyjs_version() in text
