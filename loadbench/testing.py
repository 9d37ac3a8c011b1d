"""The test kit: made-up runs with known truth, to learn on and to test what is computed from runs.

A run drawn here has the intervals that an agent would have stored, and every request of it. What a real system does is
drawn too: each run is a little faster or slower as a whole (`run_sd`), good and bad seconds follow each other
(`interval_sd`, `correlation`), and a change can be planted. Nothing is measured: the runs say that they are synthetic.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.special import ndtr

from loadbench.agent.histogram import FIRST_BUCKET, GAMMA, LAST_BUCKET, merge, quantile, unpack
from loadbench.analysis import packed
from loadbench.analysis.intervals import BUCKETS, stored_percentiles
from loadbench.analysis.scalability import throughput
from loadbench.errors import InvalidInput
from loadbench.model import (
    Endpoint,
    Interval,
    LastMetrics,
    LoadTest,
    LoadTestRun,
    RunEnvironment,
    RunStatus,
    SourceState,
)
from loadbench.store import Store

STARTED_AT = int(datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC).timestamp() * 1000)
MESSAGES = ("HTTPError('503 Service Unavailable')", "ConnectionResetError(104, 'reset by peer')", "basket is empty")


@dataclass(frozen=True)
class Synthetic:
    """A run, its stored documents, and every request of it.

    `raw` has a row per request: seq (interval), source, endpoint (index), ms (nan if untimed), failed, bytes.
    """

    run: LoadTestRun
    documents: list[dict[str, Any]]
    raw: pd.DataFrame


def run(
    *,
    seed: int | str = 0,
    seconds: int = 60,
    endpoints: int | Sequence[str | tuple[str, str]] = 4,
    rps: float = 50.0,
    median_ms: float | Sequence[float] = 60.0,
    sigma: float = 0.45,
    failure_ratio: float = 0.01,
    untimed_ratio: float = 0.0,
    interval_s: float = 1.0,
    stalled: Sequence[int] = (),
    stall_ms: float = 3000.0,
    lost: Sequence[int] = (),
    sources: int = 1,
    users: int = 20,
    messages: Sequence[str] = MESSAGES,
    weights: Sequence[float] | None = None,
    slowdown: float | Mapping[int, float] = 1.0,
    run_sd: float = 0.0,
    interval_sd: float = 0.0,
    correlation: float = 0.7,
    ramp_s: float | None = None,
    drain_s: float = 0.0,
    cpu_per_user: float = 0.5,
    started_at: int = STARTED_AT,
    **fields: Any,
) -> Synthetic:
    """Draw a run with lognormal response times.

    Parameters
    ----------
    seed : int or str
        The same seed gives the same run, whatever the machine.
    seconds, interval_s : float
        Length of the run and of its intervals.
    endpoints : int or sequence
        How many, or their names ("GET" is the method of a bare name).
    rps : float
        Requests per second in all, Poisson; endpoints share it unevenly.
    median_ms : float or sequence of float
        Median response time of the first endpoint (each further one is slower by half of it), or of each.
    sigma : float
        Standard deviation of the logarithm of the response times.
    failure_ratio, untimed_ratio : float
        Share of requests that fail, and that have no response time.
    stalled : sequence of int
        Intervals in which all requests take `stall_ms` longer.
    lost : sequence of int
        Intervals that never arrive; the truth in `raw` leaves them out, the running totals do not.
    sources : int
        Agents that share the requests and report at the same timestamps.
    users, messages, **fields
        Users at full load, texts of the failures, and fields of LoadTestRun.
    weights : sequence of float, optional
        How the endpoints share the requests; left out, 1, 1/2, 1/3 and so on. Change it to plant a mix shift.
    slowdown : float or mapping of int to float
        Factor on the response times of all endpoints, or of some, by their place in the list: a planted change.
    run_sd : float
        Standard deviation of the logarithm of a factor that the whole run shares: the noise between runs.
    interval_sd, correlation : float
        Standard deviation of the logarithm of a factor that all requests of an interval share, and how much of it the
        next interval inherits (an AR(1) process).
    ramp_s, drain_s : float
        Users, and with them requests, rise over the first and fall over the last seconds. Without a ramp, users rise
        over a tenth of the run, and requests are there from the start.
    cpu_per_user : float
        Percent of a core that each user costs the load generator, above 20 %.
    started_at : int
        Unix ms.
    """
    rng = _rng(str(seed))
    known = _endpoints(endpoints)
    intervals = round(seconds / interval_s)
    load = _load(intervals, interval_s, ramp_s, drain_s)
    raw = _requests(rng, rps * interval_s * load, _shares(weights, len(known)), sources)
    medians = (
        np.broadcast_to(median_ms, len(known)) if np.ndim(median_ms) else median_ms * (1 + np.arange(len(known)) / 2)
    )
    medians = medians * _slowdown(slowdown, len(known))
    if run_sd or interval_sd:  # drawn only then, so that a seed without them gives the run that it always gave
        noise = run_sd * rng.standard_normal() + _wander(rng, intervals, interval_sd, correlation)
        raw["noise"] = np.exp(noise)[raw.seq]
    raw["ms"] = rng.lognormal(np.log(medians[raw.endpoint]), sigma) + stall_ms * np.isin(raw.seq, list(stalled))
    if "noise" in raw:
        raw["ms"] *= raw.pop("noise")
    raw["failed"] = rng.random(len(raw)) < failure_ratio
    raw.loc[rng.random(len(raw)) < untimed_ratio, "ms"] = np.nan
    raw["bytes"] = rng.integers(100, 5000, len(raw))
    if ramp_s is None:
        ramp = np.minimum(users, np.ceil(users * (np.arange(intervals) + 1) / max(1, intervals // 10))).astype(int)
    else:
        ramp = np.ceil(users * load).astype(int)
    record = _record(known, seconds, users, seed, started_at, fields)
    documents = [
        document
        for source in range(sources)
        for document in _documents(
            record, f"master-{source}", raw[raw.source == source], interval_s, ramp, messages, cpu_per_user
        )
    ]
    stored = sorted((d for d in documents if d["seq"] not in lost), key=lambda d: (d["timestamp"], d["seq"]))
    kept = raw[~raw.seq.isin(list(lost))].reset_index(drop=True)
    return Synthetic(run=_finished(record, documents, stored, bool(lost)), documents=stored, raw=kept)


def nearest_rank(values: Any, percentile: float) -> float:
    """Give the exact order statistic that a percentile means: the value of rank ceil(percentile / 100 * n)."""
    ordered = np.sort(np.asarray(values))
    rank = math.ceil(Fraction(str(percentile)) * len(ordered) / 100)  # numpy rounds 99.9 % of 4000 up to rank 3997
    return float(ordered[max(rank, 1) - 1])


def _endpoints(endpoints: int | Sequence[str | tuple[str, str]]) -> list[Endpoint]:
    if isinstance(endpoints, int):
        endpoints = [f"/api/resource-{index:02d}" for index in range(endpoints)]
    pairs = [("GET", each) if isinstance(each, str) else each for each in endpoints]
    return [Endpoint(method=method, name=name) for method, name in pairs]


def _requests(rng: np.random.Generator, expected: np.ndarray, shares: np.ndarray, sources: int) -> pd.DataFrame:
    seq = np.repeat(np.arange(len(expected)), rng.poisson(expected))
    return pd.DataFrame(
        {
            "seq": seq,
            "source": rng.integers(0, sources, len(seq)),
            "endpoint": rng.choice(len(shares), len(seq), p=shares),
        }
    )


def _shares(weights: Sequence[float] | None, endpoints: int) -> np.ndarray:
    given = 1 / (1 + np.arange(endpoints)) if weights is None else np.asarray(weights, float)
    if len(given) != endpoints:
        raise InvalidInput(f"weights: one for each of the {endpoints} endpoints; not {len(given)}", field="weights")
    return given / given.sum()


def _slowdown(slowdown: float | Mapping[int, float], endpoints: int) -> np.ndarray:
    if not isinstance(slowdown, Mapping):
        return np.full(endpoints, float(slowdown))
    return np.array([slowdown.get(index, 1.0) for index in range(endpoints)])


def _load(intervals: int, interval_s: float, ramp_s: float | None, drain_s: float) -> np.ndarray:
    """Give the share of full load in each interval."""
    end_s = interval_s * (np.arange(intervals) + 1)
    up = np.minimum(1, end_s / ramp_s) if ramp_s else np.ones(intervals)
    left_s = interval_s * intervals - end_s + interval_s
    down = np.minimum(1, left_s / drain_s) if drain_s else np.ones(intervals)
    return np.minimum(up, down)


def _wander(rng: np.random.Generator, intervals: int, sd: float, correlation: float) -> np.ndarray:
    """Draw an AR(1) process whose values have the standard deviation `sd`, from its stationary start."""
    steps = rng.standard_normal(intervals) * sd
    steps[1:] *= math.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], steps)


def _record(
    known: Sequence[Endpoint],
    seconds: int,
    users: int,
    seed: int | str,
    started_at: int,
    fields: Mapping[str, Any],
) -> LoadTestRun:
    defaults = {
        "id": "run-" + hashlib.sha256(f"run {seed}".encode()).hexdigest()[:16],
        "account_id": "acme",
        "org_id": "shop",
        "project_id": "checkout",
        "env_id": "staging",
        "name": "products",
        "revision_number": 2,
        "target_url": "http://127.0.0.1:8089",
        "target_users": users,
        "spawn_rate": 5.0,
        "duration_sec": max(1, int(seconds)),
        "status": RunStatus.FINISHED,
        "stop_reason": "duration",
        "completeness": "complete",
        "started_at": started_at,
        "finished_at": started_at + round(seconds * 1000),
        "created_at": started_at - 900,
        "updated_at": started_at + round(seconds * 1000),
        "origin": "synthetic",
        "endpoints": tuple(known),
        "environment": RunEnvironment(
            locust="2.47.0",
            python="3.12.4",
            host="load-1",
            workers=0,
            user_classes=("Shopper", "Searcher"),
            script_sha256=hashlib.sha256(b"script").hexdigest(),
        ),
    }
    return LoadTestRun.build(**(defaults | dict(fields)))


def _documents(
    record: LoadTestRun, source: str, raw: pd.DataFrame, interval_s: float, ramp: np.ndarray, messages: Sequence[str],
    cpu_per_user: float = 0.5,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write a source's intervals as the receiver stores them."""
    endpoints = len(record.endpoints)
    seq, endpoint = raw.seq.to_numpy(), raw.endpoint.to_numpy()
    edges = np.searchsorted(seq, np.arange(len(ramp) + 1))
    documents, cum_requests, cum_failures = [], 0, 0
    for number, active in enumerate(ramp.tolist()):
        part = slice(edges[number], edges[number + 1])
        ms, failed = raw.ms.to_numpy()[part], raw.failed.to_numpy()[part]
        present, row = np.unique(endpoint[part], return_inverse=True)
        arrays = _arrays(row, len(present), ms, failed, raw.bytes.to_numpy()[part])
        requests, failures = len(ms), int(failed.sum())
        cum_requests, cum_failures = cum_requests + requests, cum_failures + failures
        interval = Interval.build(
            id=Interval.key(record.id, source, number),
            run_id=record.id,
            source=source,
            seq=number,
            timestamp=datetime.fromtimestamp(
                (record.started_at + round((number + 1) * interval_s * 1000)) / 1000, tz=UTC
            ),
            duration_ms=interval_s * 1000,
            users=active,
            workers=0,
            workers_expected=0,
            requests=requests,
            failed=failures,
            total_rps=requests / interval_s,
            errors_per_sec=failures / interval_s,
            error_rate=failures / requests if requests else 0.0,
            avg_ms=None if np.isnan(ms).all() else float(np.nanmean(ms)),
            cum_requests=cum_requests,
            cum_failures=cum_failures,
            cpu_percent=20.0 + cpu_per_user * active,
            final=number == len(ramp) - 1,
            endpoints=tuple(present.tolist()),
            errors=_errors(endpoint[part][failed], endpoints, messages),
            received_at=record.started_at + round((number + 1) * interval_s * 1000) + 12,
            body_sha256=hashlib.sha256(f"{record.id}:{source}:{number}".encode()).hexdigest(),
            **arrays,
            **stored_percentiles(arrays["histograms"], len(present)),
        )
        documents.append(interval.to_mongo())
    return documents


def _rng(seed: str) -> np.random.Generator:
    """Give the same numbers for the same words, in every process."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))


def _arrays(row: np.ndarray, rows: int, ms: np.ndarray, failed: np.ndarray, size: np.ndarray) -> dict[str, Any]:
    timed = ~np.isnan(ms)
    time_ms = np.where(timed, ms, 0.0)

    def per_row(weights: np.ndarray) -> np.ndarray:
        return np.bincount(row, weights=weights, minlength=rows)

    low, high = np.full(rows, np.inf), np.full(rows, -np.inf)
    np.minimum.at(low, row[timed], ms[timed])
    np.maximum.at(high, row[timed], ms[timed])

    def counts(weights: np.ndarray) -> tuple[int, ...]:
        return tuple(per_row(weights).astype(int).tolist())

    return {
        "n": counts(np.ones(len(ms))),
        "failures": counts(failed),
        "untimed": counts(~timed),
        "sum_ms": tuple(per_row(time_ms).tolist()),
        "failed_sum_ms": tuple(per_row(time_ms * failed).tolist()),
        "min_ms": tuple(np.where(np.isinf(low), 0.0, low).tolist()),
        "max_ms": tuple(np.where(np.isinf(high), 0.0, high).tolist()),
        "bytes": counts(size),
        "histograms": _pack(2 * row[timed] + failed[timed], 2 * rows, ms[timed]),
    }


def _pack(histogram: np.ndarray, histograms: int, ms: np.ndarray) -> bytes:
    """Count the requests of each histogram into buckets, and pack them."""
    bucket = np.clip(np.ceil(np.log(np.maximum(ms, 1e-9)) / np.log(GAMMA)).astype(int), FIRST_BUCKET, LAST_BUCKET)
    keys, counts = np.unique(histogram * BUCKETS + (bucket - FIRST_BUCKET), return_counts=True)
    return packed.pack(keys // BUCKETS, keys % BUCKETS + FIRST_BUCKET, counts, histograms)


def _errors(failed_endpoint: np.ndarray, endpoints: int, messages: Sequence[str]) -> tuple[dict[str, Any], ...]:
    counts = np.bincount(failed_endpoint, minlength=endpoints)
    return tuple(
        {"endpoint": index, "message": messages[index % len(messages)], "n": int(count)}
        for index, count in enumerate(counts)
        if count
    )


def _finished(
    record: LoadTestRun, documents: Sequence[dict[str, Any]], stored: Sequence[dict[str, Any]], gaps: bool
) -> LoadTestRun:
    """Fill in what the receiver knows at the end; fields that were given stay."""
    finals = [document for document in documents if document["final"]]
    fields: dict[str, Any] = {
        "sources": tuple(
            SourceState(source=d["source"], last_seq=d["seq"], requests=d["cumRequests"], failures=d["cumFailures"])
            for d in finals
        ),
        "completeness": "gaps" if gaps else record.completeness,
    }
    if stored and record.last_metrics is None:
        last = stored[-1]
        merged = merge(unpack(last["histograms"]))
        fields["last_metrics"] = LastMetrics(
            timestamp=round(last["timestamp"].timestamp() * 1000),
            users=last["users"],
            total_rps=last["totalRps"],
            errors_per_sec=last["errorsPerSec"],
            **({f"p{q}_ms": quantile(merged, q / 100) for q in (50, 95, 99)} if merged else {}),
            cum_requests=sum(d["cumRequests"] for d in finals),
            cum_failures=sum(d["cumFailures"] for d in finals),
        )
    return record.model_copy(update=fields)


@dataclass(frozen=True)
class Condensed:
    """A run, and the one document that its intervals come down to; there are no intervals."""

    run: LoadTestRun
    document: dict[str, Any]


def condensed(
    *,
    seed: int | str = 0,
    seconds: int = 600,
    endpoints: int | Sequence[str | tuple[str, str]] = 1,
    rps: float = 50.0,
    median_ms: float = 60.0,
    sigma: float = 0.45,
    failure_ratio: float = 0.01,
    interval_s: float = 5.0,
    users: int = 20,
    weights: Sequence[float] | None = None,
    slowdown: float | Mapping[int, float] = 1.0,
    run_sd: float = 0.02,
    interval_sd: float = 0.05,
    correlation: float = 0.7,
    **fields: Any,
) -> Condensed:
    """Draw what a run comes down to, without its intervals: a thousand of them in some seconds.

    Parameters are those of `run`, and so is the distribution of what is drawn, but for the sums of times, which are
    within 0.5 %: given the noise, the requests in each bucket are Poisson, with the mean that the intervals add up to.
    """
    rng = _rng(f"condensed {seed}")
    known = _endpoints(endpoints)
    record = _record(known, seconds, users, seed, STARTED_AT, fields)
    noise = run_sd * rng.standard_normal() + _wander(rng, round(seconds / interval_s), interval_sd, correlation)
    medians = median_ms * (1 + np.arange(len(known)) / 2) * _slowdown(slowdown, len(known))
    requests = rps * seconds * _shares(weights, len(known))
    spread = 6 * sigma + np.abs(noise).max()
    first, last = (
        math.ceil((math.log(edge) + sign * spread) / math.log(GAMMA))
        for edge, sign in ((medians.min(), -1), (medians.max(), 1))
    )
    edges = np.arange(max(first, FIRST_BUCKET), min(last, LAST_BUCKET) + 1) * math.log(GAMMA)
    counts = np.array(
        [
            rng.poisson(number * np.diff(ndtr((edges - math.log(median) - noise[:, None]) / sigma).mean(axis=0)))
            for number, median in zip(requests, medians, strict=True)
        ]
    )
    failed = rng.binomial(counts, failure_ratio)
    first_bucket = round(edges[0] / math.log(GAMMA)) + 1
    return Condensed(record, _condensed_document(record, seconds, first_bucket, counts, failed))


def _condensed_document(
    record: LoadTestRun, seconds: float, first_bucket: int, counts: np.ndarray, failed: np.ndarray
) -> dict[str, Any]:
    bucket = np.arange(first_bucket, first_bucket + counts.shape[1])
    value_ms = 2 * GAMMA ** bucket.astype(float) / (GAMMA + 1)
    number = len(counts)
    both = np.stack([counts - failed, failed], axis=1).reshape(2 * number, -1)
    row, column = np.nonzero(both)
    held = [np.flatnonzero(each) for each in counts]
    return {
        "_id": f"{record.id}:condensed:0",
        "source": "condensed",
        "seq": 0,
        "timestamp": datetime.fromtimestamp((record.started_at + 1000 * seconds) / 1000, tz=UTC),
        "durationMs": 1000.0 * seconds,
        "users": record.target_users,
        "workers": 0,
        "requests": int(counts.sum()),
        "failed": int(failed.sum()),
        **packed.pack_columns(
            {
                "endpoints": np.arange(number),
                "n": counts.sum(axis=1),
                "failures": failed.sum(axis=1),
                "untimed": np.zeros(number),
                "sumMs": counts @ value_ms,
                "failedSumMs": failed @ value_ms,
                "minMs": [value_ms[each[0]] if len(each) else 0.0 for each in held],
                "maxMs": [value_ms[each[-1]] if len(each) else 0.0 for each in held],
                "bytes": 1000 * counts.sum(axis=1),
            }
        ),
        "histograms": packed.pack(row, bucket[column], both[row, column], 2 * number),
    }


def history(
    runs: int = 30,
    *,
    changes: Mapping[int, float | Mapping[int, float]] | None = None,
    seed: int | str = 0,
    run_sd: float = 0.02,
    every_s: float = 86_400.0,
    revisions: Mapping[int, int] | None = None,
    **parameters: Any,
) -> list[Synthetic]:
    """Draw runs of a test, one a day, oldest first.

    Parameters
    ----------
    changes : mapping of int to float, or to a mapping
        From this run on (from 0), response times are so many times those before: `{20: 1.15}`; `{20: {1: 1.15}}` for
        those of the second endpoint alone.
    revisions : mapping of int to int
        From this run on, the number of the script's revision; 1 before.
    run_sd, **parameters
        As for `run`.
    """
    made = []
    for number in range(runs):
        factor = _together([change for first, change in (changes or {}).items() if number >= first], parameters)
        revision = [1, *(found for first, found in sorted((revisions or {}).items()) if number >= first)][-1]
        moment = STARTED_AT + round(1000 * every_s * number)
        chosen = {"slowdown": factor, "started_at": moment, "revision_number": revision, "run_sd": run_sd} | parameters
        made.append(run(seed=f"{seed}, run {number}", **chosen))
    return made


def _together(changes: Sequence[float | Mapping[int, float]], parameters: Mapping[str, Any]) -> dict[int, float]:
    """Multiply the planted changes, endpoint by endpoint."""
    known = parameters.get("endpoints", 4)
    number = known if isinstance(known, int) else len(known)
    return {
        place: math.prod(each.get(place, 1.0) if isinstance(each, Mapping) else each for each in changes)
        for place in range(number)
    }


def sweep(
    users: Sequence[int],
    *,
    per_user: float,
    contention: float,
    crosstalk: float,
    think_s: float,
    seed: int | str = 0,
    repeats: int = 1,
    rate_sd: float = 0.0,
    sigma: float = 0.45,
    **parameters: Any,
) -> list[Synthetic]:
    """Draw a run at each number of users whose throughput follows the Universal Scalability Law.

    Parameters
    ----------
    per_user, contention, crosstalk : float
        Of `loadbench.analysis.scalability.throughput`, in requests/s.
    think_s : float
        What a user waits between requests: with the throughput, it gives the mean response time (Little's law).
    repeats : int
        Runs at each number of users.
    rate_sd : float
        Standard deviation of the logarithm of a run's throughput: the noise between runs.
    **parameters
        As for `run`.
    """
    made = []
    levels = [level for _ in range(repeats) for level in users]
    rng = _rng(f"sweep {seed}")
    for number, level in enumerate(levels):
        rate = float(throughput(level, per_user, contention, crosstalk)) * math.exp(rate_sd * rng.standard_normal())
        mean_s = level / rate - think_s
        if mean_s <= 0:
            raise InvalidInput(f"think_s must be below {level / rate:.3g} s at {level} users", field="think_s")
        started_at = STARTED_AT + 3_600_000 * number
        chosen = {"endpoints": 1, "cpu_per_user": 0.05, "started_at": started_at} | parameters
        median_ms = 1000 * mean_s / math.exp(sigma**2 / 2)
        made.append(run(seed=f"{seed}, {number}", users=level, rps=rate, median_ms=median_ms, sigma=sigma, **chosen))
    return made


def keep(store: Store, made: Synthetic, test: LoadTest | None = None) -> LoadTestRun:
    """Store a made-up run with its intervals, as a run of `test` if one is given. Keeping it again changes nothing."""
    run = made.run
    if test is not None:
        owner = test.scope.model_dump() | {"load_test_id": test.id, "name": test.name, "target_url": test.target_url}
        run = run.model_copy(update=owner)
    if not store.runs.get_all([run.id]):
        store.ledger.delete(run.id)  # of a keeping that was cut short
        store.ledger.fill([Interval.from_mongo(document) for document in made.documents])
        store.runs.add(run)
    return store.runs.get(run.id)
