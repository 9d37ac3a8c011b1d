"""Stored interval documents of a made-up run, as MongoDB gives them, with real histograms."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from loadbench.agent.histogram import bucket_of, merge, pack, quantile
from loadbench.model import Endpoint, Interval, LoadTestRun, RunStatus

RUN_ID = "run-0123456789abcdef"
START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ENDPOINTS = (
    Endpoint(method="GET", name="/products"),
    Endpoint(method="GET", name="/products/[id]"),
    Endpoint(method="POST", name="/cart <b>bold</b><img src=x onerror=alert(1)>"),
    Endpoint(method="GET", name="/search"),
    Endpoint(method="POST", name="/checkout"),
    Endpoint(method="GET", name="/health"),
)
TYPICAL_MS = (20.0, 35.0, 60.0, 120.0, 240.0, 3.0)


def a_run(*, status: RunStatus = RunStatus.RUNNING, start: datetime = START, **fields: Any) -> LoadTestRun:
    """Make the record of a run; a final status gets its end one minute after the start."""
    start_ms = int(start.timestamp() * 1000)
    if status.is_final:
        fields.setdefault("finished_at", start_ms + 60_000)
    defaults: dict[str, Any] = {
        "id": RUN_ID,
        "account_id": "acme",
        "org_id": "shop",
        "project_id": "checkout",
        "name": "products, 50 users",
        "target_url": "http://127.0.0.1:8000",
        "target_users": 50,
        "spawn_rate": 5.0,
        "duration_sec": 600,
        "status": status,
        "endpoints": ENDPOINTS,
        "started_at": start_ms,
    }
    return LoadTestRun(**{**defaults, **fields})


def an_interval(
    seq: int,
    *,
    start: datetime = START,
    end: datetime | None = None,
    source: str = "master",
    endpoints: int = len(ENDPOINTS),
    slow_ms: float | None = None,
    requests: int = 30,
) -> dict[str, Any]:
    """Make interval number `seq`, one second long; `slow_ms` plants one response time in its first endpoint."""
    chance = random.Random(f"{source}-{seq}")
    users = min(50, 5 * (seq + 1))
    ok, failed, sums = [], [], []
    for endpoint in range(endpoints):
        times = [TYPICAL_MS[endpoint] * chance.lognormvariate(0, 0.35) for _ in range(max(1, requests * users // 50))]
        if slow_ms is not None and endpoint == 0:
            times.append(slow_ms)
        bad = 1 if chance.random() < 0.05 else 0
        ok.append(_histogram(times[bad:]))
        failed.append(_histogram(times[:bad]))
        sums.append(sum(times))
    everything = merge([*ok, *failed])
    n = [sum(a.values()) + sum(b.values()) for a, b in zip(ok, failed, strict=True)]
    failures = [sum(histogram.values()) for histogram in failed]
    interval = Interval(
        id=Interval.key(RUN_ID, source, seq),
        run_id=RUN_ID,
        source=source,
        seq=seq,
        timestamp=end or start + timedelta(seconds=seq + 1),
        duration_ms=1000.0,
        users=users,
        workers=2,
        workers_expected=2,
        requests=sum(n),
        failed=sum(failures),
        total_rps=float(sum(n)),
        errors_per_sec=float(sum(failures)),
        error_rate=sum(failures) / sum(n),
        avg_ms=sum(sums) / sum(n),
        p50_ms=quantile(everything, 0.5),
        p95_ms=quantile(everything, 0.95),
        p99_ms=quantile(everything, 0.99),
        cum_requests=sum(n) * (seq + 1),
        cum_failures=sum(failures) * (seq + 1),
        endpoints=tuple(range(endpoints)),
        n=tuple(n),
        failures=tuple(failures),
        untimed=(0,) * endpoints,
        sum_ms=tuple(sums),
        failed_sum_ms=(0.0,) * endpoints,
        min_ms=(1.0,) * endpoints,
        max_ms=(1.0,) * endpoints,
        bytes=(100,) * endpoints,
        histograms=pack([histogram for pair in zip(ok, failed, strict=True) for histogram in pair]),
        received_at=int(start.timestamp() * 1000),
        body_sha256="0" * 64,
    )
    return interval.to_mongo()


def _histogram(times_ms: list[float]) -> dict[int, int]:
    return merge([{bucket_of(ms): 1} for ms in times_ms])
