"""Properties of the latency histogram, for any data."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from ddsketch.mapping import LogarithmicMapping
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loadbench.agent.histogram import (
    ALPHA,
    FIRST_BUCKET,
    GAMMA,
    LARGEST_MS,
    LAST_BUCKET,
    SMALLEST_MS,
    Histogram,
    bucket_of,
    merge,
    pack,
    quantile,
    unpack,
    value_of,
)

HOURS_MS = 48 * 3_600_000.0
times = st.floats(min_value=SMALLEST_MS, max_value=HOURS_MS, allow_nan=False)
histograms = st.dictionaries(st.integers(FIRST_BUCKET, LAST_BUCKET), st.integers(1, 2**32 - 1), max_size=30)
shares = st.one_of(st.floats(0, 1), st.sampled_from((0.0, 0.5, 0.95, 0.99, 0.999, 1.0)))
HEADER_BYTES = 8


def histogram_of(data: list[float]) -> Histogram:
    return merge([{bucket_of(ms): 1} for ms in data])


@given(histograms, histograms, histograms)
def test_merge_is_associative_and_commutative(a: Histogram, b: Histogram, c: Histogram) -> None:
    assert merge([a, merge([b, c])]) == merge([merge([a, b]), c]) == merge([c, b, a])
    assert sum(merge([a, b]).values()) == sum(a.values()) + sum(b.values())


@given(histograms)
def test_merge_with_nothing_changes_nothing(a: Histogram) -> None:
    before = dict(a)
    assert merge([a, {}]) == merge([a]) == a == before
    assert merge([]) == {}


@given(st.lists(times, min_size=1, max_size=200), shares)
@example([1171.0], 0.95)
@example([SMALLEST_MS, HOURS_MS], 1.0)
def test_a_quantile_is_within_half_a_percent_of_the_exact_one(data: list[float], q: float) -> None:
    # numpy rounds q * n otherwise than ceil does when it is within a rounding error of a whole number.
    assume(q == 0 or not math.isclose(q * len(data), round(q * len(data)), rel_tol=1e-12) or q * len(data) % 1 == 0)
    exact = float(np.quantile(data, q, method="inverted_cdf"))
    assert abs(quantile(histogram_of(data), q) - exact) <= ALPHA * exact * (1 + 1e-9)


@given(st.lists(st.lists(times, max_size=30), min_size=1, max_size=8), shares)
def test_merging_parts_loses_nothing_against_recording_at_once(parts: list[list[float]], q: float) -> None:
    at_once = histogram_of([ms for part in parts for ms in part])
    merged = merge([histogram_of(part) for part in parts])
    assert merged == at_once
    assert quantile(merged, q) == quantile(at_once, q) or not at_once


@given(times)
def test_a_time_lies_in_its_bucket(ms: float) -> None:
    bucket = bucket_of(ms)
    assert GAMMA ** (bucket - 1) * (1 - 1e-9) < ms <= GAMMA**bucket * (1 + 1e-9) or ms == SMALLEST_MS
    assert abs(value_of(bucket) - ms) <= ALPHA * ms * (1 + 1e-9)


@given(times)
def test_the_buckets_are_those_of_ddsketch(ms: float) -> None:
    oracle = LogarithmicMapping(ALPHA)
    # At the very edge of a bucket the two logarithms may round to different sides.
    edge = math.log(ms) / math.log(GAMMA)
    assume(abs(edge - round(edge)) > 1e-6)
    assert bucket_of(ms) == oracle.key(ms)
    assert value_of(bucket_of(ms)) == pytest.approx(oracle.value(oracle.key(ms)), rel=1e-9)


@pytest.mark.parametrize(
    ("ms", "bucket"),
    [
        pytest.param(0.0, FIRST_BUCKET, id="zero"),
        pytest.param(-5.0, FIRST_BUCKET, id="negative-by-a-clock-step"),
        pytest.param(SMALLEST_MS, FIRST_BUCKET, id="smallest"),
        pytest.param(LARGEST_MS, LAST_BUCKET, id="largest"),
        pytest.param(1e300, LAST_BUCKET, id="beyond-the-largest"),
        pytest.param(math.inf, LAST_BUCKET, id="infinite"),
        pytest.param(1.0, 0, id="one-millisecond"),
    ],
)
def test_times_at_and_beyond_the_ends(ms: float, bucket: int) -> None:
    assert bucket_of(ms) == bucket


def test_quantiles_of_a_histogram_checked_by_hand() -> None:
    ten, twenty = bucket_of(10), bucket_of(20)
    histogram = {ten: 1, twenty: 3}
    assert [quantile(histogram, q) for q in (0, 0.25, 0.26, 1)] == [value_of(b) for b in (ten, ten, twenty, twenty)]
    assert math.isnan(quantile({}, 0.5))


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_a_share_outside_0_and_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        quantile({0: 1}, q)


@given(st.lists(histograms, max_size=8))
def test_what_is_packed_is_unpacked(several: list[Histogram]) -> None:
    assert unpack(pack(several)) == several


def test_a_packed_histogram_has_the_documented_bytes() -> None:
    packed = pack([{5: 7, -3: 2}, {}])
    assert packed == struct.pack("<BxxxI 2I 2h 2I", 1, 2, 2, 0, -3, 5, 2, 7)


@given(st.lists(histograms, min_size=1, max_size=4), st.data())
def test_a_cut_or_prolonged_binary_is_refused(several: list[Histogram], data: st.DataObject) -> None:
    packed = pack(several)
    length = data.draw(st.integers(0, len(packed) - 1))
    for broken in (packed[:length], packed + b"\x00", packed + packed):
        with pytest.raises(ValueError, match=r"packed histograms|cut off|shorter"):
            unpack(broken)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read_as_what_they_are(noise: bytes) -> None:
    try:
        found = unpack(noise)
    except ValueError:
        return
    assert pack(found)[HEADER_BYTES:] == noise[HEADER_BYTES:]


def corrupt(*, version: int = 1, number: int = 1, lengths: tuple[int, ...] = (2,), buckets: tuple[int, ...] = (1, 2),
            counts: tuple[int, ...] = (1, 1)) -> bytes:  # fmt: skip
    return b"".join(
        (
            struct.pack("<BxxxI", version, number),
            struct.pack(f"<{len(lengths)}I", *lengths),
            struct.pack(f"<{len(buckets)}h", *buckets),
            struct.pack(f"<{len(counts)}I", *counts),
        )
    )


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01\x00\x00", id="half-a-header"),
        pytest.param(corrupt(version=0), id="version-0"),
        pytest.param(corrupt(version=2), id="version-from-the-future"),
        pytest.param(corrupt(number=2**32 - 1), id="four-thousand-million-histograms"),
        pytest.param(corrupt(lengths=(2**32 - 1,)), id="four-thousand-million-buckets"),
        pytest.param(corrupt(lengths=(3,)), id="length-too-large"),
        pytest.param(corrupt(lengths=(1,)), id="length-too-small"),
        pytest.param(corrupt(buckets=(FIRST_BUCKET - 1, 2)), id="bucket-below-the-first"),
        pytest.param(corrupt(buckets=(1, LAST_BUCKET + 1)), id="bucket-above-the-last"),
        pytest.param(corrupt(buckets=(2, 1)), id="buckets-descend"),
        pytest.param(corrupt(buckets=(1, 1)), id="bucket-twice"),
        pytest.param(corrupt(counts=(1, 0)), id="count-of-nothing"),
    ],
)
def test_every_kind_of_corruption_is_refused(packed: bytes) -> None:
    assert unpack(corrupt()) == [{1: 1, 2: 1}]
    with pytest.raises(ValueError):
        unpack(packed)


def test_a_count_that_does_not_fit_is_an_error_and_not_a_smaller_count() -> None:
    with pytest.raises(struct.error):
        pack([{0: 2**32}])
