"""What the lines of the grammar mean, and what is said of those that mean nothing."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadbench.analysis.gate_grammar import COMPARISONS, FIGURES, Gate, parse
from loadbench.errors import InvalidInput

PRINTABLE = st.characters(categories=["L", "N", "P", "S"], exclude_characters='"')
PAGE = Path(__file__).parents[2] / "docs" / "gates.md"
READ = [
    (
        'p95 of "GET /api/products" > 800ms for 10s -> stop',
        {"percentile": 95.0, "endpoint": "GET /api/products", "limit": 800.0, "for_s": 10.0, "stops": True},
        "breaks",
    ),
    ("error rate > 1%", {"figure": "error rate", "limit": 0.01}, "breaks"),
    ("p99 <= 1.2 x baseline", {"percentile": 99.0, "limit": 1.2, "of_baseline": True}, "holds"),
    ("p99 <= baseline", {"limit": 1.0, "of_baseline": True}, "holds"),
    ("95% of seconds p95 < 300ms", {"share": 0.95, "limit": 300.0}, "holds"),
    ("5% of seconds p95 > 300ms", {"share": 0.05}, "breaks"),
    ("requests/s >= 100", {"figure": "requests/s", "limit": 100.0}, "holds"),
    ("rps < 100/s", {"figure": "requests/s", "limit": 100.0}, "breaks"),
    ("requests >= 1000", {"figure": "requests"}, "holds"),
    ("mean < 200ms", {"figure": "mean", "limit": 200.0}, "holds"),
    ("median < 1.5s", {"percentile": 50.0, "limit": 1500.0}, "holds"),
    ("max < 5s", {"figure": "max", "limit": 5000.0}, "holds"),
    ("min > 1m", {"figure": "min", "limit": 60_000.0}, "breaks"),
    ("errors > 100 -> stop", {"figure": "errors", "limit": 100.0, "stops": True}, "breaks"),
    ("errors/s > 2", {"figure": "errors/s", "limit": 2.0}, "breaks"),
    ('p99.9 of "*/checkout" <= 2s in peak', {"percentile": 99.9, "endpoint": "*/checkout", "window": "peak"}, "holds"),
    ("apdex(500ms) >= 0.9", {"figure": "apdex", "threshold_ms": 500.0, "limit": 0.9}, "holds"),
    ("apdex(0.5s) < 0.9", {"threshold_ms": 500.0}, "breaks"),
    ("error rate over 30s > 5% -> stop", {"over_s": 30.0, "limit": 0.05, "stops": True}, "breaks"),
    ("requests/s over 1min >= 20 -> stop", {"over_s": 60.0}, "holds"),
    ('failures of "POST /cart" = 0', {"figure": "errors", "endpoint": "POST /cart", "comparison": "="}, "holds"),
    ('  P95   OVER 10s OF "a"  ≥  4.35 S  ', {"over_s": 10.0, "endpoint": "a", "limit": 4350.0}, "breaks"),
]
REFUSED = [
    ("", "^", "a figure"),
    ("latency < 3s", "^latency", "a figure: p95 or another percentile, mean, min, max"),
    ("p101 < 3s", "^p101", "a percentile from p0 to p100"),
    ("p95 < 300", "^300", "a time with its unit, such as 800ms or 2s"),
    ("p95 < 1e3ms", "^1e3ms", "a time with its unit"),
    ("error rate > 0.01", "^0.01", "a percentage, such as 1%"),
    ("requests/s > 5%", "^5%", "a number per second"),
    ("apdex(500) > 0.5", "^500)", "a time with its unit"),
    ("p95 300ms", "^300ms", "<, <=, >, >= or ="),
    ("p95 of GET / < 3s", "^GET", 'an endpoint in double quotes, such as "GET /api/products"'),
    ("p95 over 30 > 3s", "^30", "a duration with its unit, such as over 30s"),
    ("p95 > 3s for 100ms", "^100ms", "a duration from 1s to 24h"),
    ("0% of seconds p95 < 3s", "p95", "more than 0%"),
    ("p95 > 3s -> abort", "^-> abort", "`for 10s`, `in steady`, `-> stop`, or nothing more"),
    ("p95 > 3s for 10s -> stop now", "^now", "nothing more"),
    ("p95 > 3s for 10s for 20s", "^for 20s", "`for` only once"),
]
MEANINGLESS = [
    ("p95 < 300ms for 10s", "write p95 >= 300ms for ..."),
    ("p95 = 300ms", "use <= or >="),
    ("95% of seconds p95 > 3s for 10s", "leave one out"),
    ("errors over 10s > 2 x baseline", "use errors/s"),
    ("error rate > 1% -> stop", "for example error rate over 30s > 1% -> stop"),
    ("requests/s < 10 -> stop", "for example requests/s over 30s < 10 -> stop"),
    ("95% of seconds p95 < 3s -> stop", "known at the end of a run only"),
    ("errors > 3 in steady -> stop", "leave `in steady` out"),
]


@pytest.mark.parametrize(("text", "fields", "says"), READ, ids=[text for text, *_ in READ])
def test_a_line_means_what_a_reader_thinks(text, fields, says):
    gate = parse(text)
    assert {name: getattr(gate, name) for name in fields} == fields
    assert gate.says == says
    assert parse(str(gate)) == gate


@pytest.mark.parametrize(("text", "at", "expected"), REFUSED, ids=[text for text, *_ in REFUSED])
def test_what_cannot_be_read_is_pointed_at(text, at, expected):
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert at in str(refused.value)
    assert f"expected {expected}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.field == "gates"
    parse(str(refused.value).rpartition("reads like ")[2])


@pytest.mark.parametrize(("text", "instead"), MEANINGLESS, ids=[text for text, _ in MEANINGLESS])
def test_what_would_mean_something_else_is_refused_with_what_to_write(text, instead):
    with pytest.raises(InvalidInput, match=re.escape(instead)):
        parse(text)


@given(
    figure=st.sampled_from(sorted(set(FIGURES) - {"percentile", "apdex"})),
    comparison=st.sampled_from(sorted(COMPARISONS)),
    limit=st.decimals(0, 10**9, places=3),
    over_s=st.none() | st.integers(1, 86_400),
    endpoint=st.none()
    | st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters='"'), min_size=1, max_size=40),
)
def test_the_canonical_spelling_reads_into_the_same_gate(figure, comparison, limit, over_s, endpoint):
    unit = {"ms": "ms", "ratio": "%"}.get(FIGURES[figure].unit, "")
    of, over = f'of "{endpoint}"' if endpoint else "", f"over {over_s}s" if over_s else ""
    try:
        gate = parse(f"{figure} {of} {over} {comparison} {limit}{unit}")
    except InvalidInput:
        assert comparison == "="
        return
    assert isinstance(gate, Gate)
    assert parse(str(gate)) == gate
    assert str(parse(str(gate))) == str(gate)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    with contextlib.suppress(InvalidInput):
        assert parse(str(parse(text))) == parse(text)
        return
    with pytest.raises(InvalidInput, match=r"\Agate .*\Z"):
        parse(text)


def test_every_example_of_the_page_is_read_as_the_page_says():
    rows = re.findall(r"^\| `([^`]+)` \| (breaks|holds) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 15
    assert {text: parse(text).says for text, _ in rows} == dict(rows)
    told = re.findall(r"^\| `([^`]+)` \| refused", PAGE.read_text(), re.MULTILINE)
    assert told
    for text in told:
        with pytest.raises(InvalidInput):
            parse(text)
