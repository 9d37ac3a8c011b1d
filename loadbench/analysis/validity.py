"""Validity: whether the figures of a run can be taken for what they claim to be, and why not.

A stamp is judged from the run's record and from what its intervals of a window come down to, never from the figures
that somebody would like to see. The rules and their limits are the constants below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from loadbench.agent import wire
from loadbench.analysis import packed
from loadbench.analysis.condense import BUSY_PERCENT, condense
from loadbench.analysis.intervals import Document
from loadbench.analysis.windows import STEADY, WHOLE
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun, RunStatus, Window

Level = Literal["VALID", "SUSPECT", "INVALID"]
LEVELS: tuple[Level, ...] = ("VALID", "SUSPECT", "INVALID")
PERCENTILES = (50.0, 95.0)
"""There must be enough requests for these, unless others are asked for."""
BEYOND = 10
"""A percentile q of n requests needs n * (1 - q / 100) of at least this: p95 200 requests, p99 1,000, p99.9 10,000."""
REACHED, HALF = 0.95, 0.5
"""Offered load: below the first share of what was meant the figures are suspect, below the second invalid."""
STOOD = 0.9
"""In a steady window, users never fall below this share of their highest number."""
BUSY_SOME, BUSY_MOST = 0.05, 0.5
"""A generator above 90 % of a core for more than the first share of the time is suspect, the second invalid."""
MISSING_SOME, MISSING_MOST = 0.01, 0.2
"""The same of the time that is missing from the window."""
SKEW_MS = 2000
LEAST_STEADY_S = 10.0
OFFERED_PER_S = "offered_per_s"
"""Metadata of a run whose script paces its arrivals: the requests per second that it meant to send."""
PACING_MS = "pacing_ms"
"""Metadata of a run whose users are paced: how often each of them meant to send a request, in milliseconds."""


@dataclass(frozen=True)
class Validity:
    """VALID, SUSPECT or INVALID, and the reasons, the gravest first."""

    level: Level
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.level}: {'; '.join(self.reasons)}" if self.reasons else self.level

    def __repr__(self) -> str:
        return str(self)


def judge(
    run: LoadTestRun,
    documents: Sequence[Document] | Mapping[str, Any] | None,
    *,
    window: Window | str | None = None,
    percentiles: Iterable[float] = PERCENTILES,
) -> Validity:
    """Answer "can the figures of this window of this run be trusted, and if not, why?".

    Parameters
    ----------
    run : LoadTestRun
    documents : sequence of documents, or document
        Its stored intervals of the window, or the condensed document of them (`loadbench.analysis.condense`).
    window : Window or str, optional
        Which window they are of; the whole run if left out.
    percentiles : sequence of float
        In [0, 100]: those that there must be enough requests for.

    Returns
    -------
    Validity
        INVALID if the run failed, nothing was measured, or more than half of the load, of the generator's time or a
        fifth of the window is not what it should be; SUSPECT if there is a lesser reason; VALID if there is none.

    Notes
    -----
    A percentile q needs n requests with n * (1 - q / 100) >= 10: fewer than ten beyond it, and chance decides it.
    Users are compared with the users asked for; for a script that paces arrivals, the rate with `offered_per_s` of the
    run's metadata.
    """
    part = documents if isinstance(documents, Mapping) or documents is None else condense(run, documents)
    name = window.name if isinstance(window, Window) else window or WHOLE
    found = _of_record(run)
    if part is None:
        found.append(("INVALID", "no interval was stored" if name == WHOLE else f"no interval lies in window {name}"))
    else:
        found += [*_of_load(run, part, name), *_of_generator(part), *_of_time(run, part, name)]
        found += _of_samples(part, percentiles)
    found.sort(key=lambda each: -LEVELS.index(each[0]))
    return Validity(found[0][0] if found else "VALID", tuple(dict.fromkeys(reason for _, reason in found)))


def pacing_ms(run: LoadTestRun) -> float:
    """Give how often each user of a run meant to send a request, in milliseconds, if its metadata tell.

    Raises
    ------
    InvalidInput
        If they do not.
    """
    pace_ms = run.metadata.get(PACING_MS)
    if isinstance(pace_ms, bool) or not isinstance(pace_ms, int | float) or pace_ms <= 0:
        raise InvalidInput(
            f"{run.id} does not say how its users are paced: give interval_ms, or set {PACING_MS} in its metadata",
            field="interval_ms",
        )
    return float(pace_ms)


Reasons = list[tuple[Level, str]]


def _of_record(run: LoadTestRun) -> Reasons:
    found: Reasons = []
    if run.status is RunStatus.FAILED:
        why = (run.error or run.stop_reason or "reason unknown").strip().splitlines()
        found.append(("INVALID", f"the run failed: {(why or ['reason unknown'])[0][:160]}"))
    elif not run.is_over:
        found.append(("SUSPECT", "the run goes on"))
    elif run.status is RunStatus.STOPPED and run.started_at and run.finished_at:
        ran_s = (run.finished_at - run.started_at) / 1000
        if ran_s < REACHED * run.duration_sec:
            by = f" by {run.stop_reason}" if run.stop_reason else ""
            found.append(("SUSPECT", f"stopped{by} after {ran_s:.0f} s of {run.duration_sec} s"))
    if run.origin == "synthetic":
        found.append(("SUSPECT", "synthetic: made up, not measured"))
    if any((endpoint.method, endpoint.name) == ("", wire.OTHER) for endpoint in run.endpoints):
        found.append(("SUSPECT", f'endpoints beyond {wire.MAX_ROWS:,} are one row, "{wire.OTHER}": name them by route'))
    found += [("SUSPECT", reason) for reason in lacks(run)]
    return found


def lacks(run: LoadTestRun) -> list[str]:
    """Say what of a run's data never arrived or cannot be relied on: gaps, drops, lost workers, clock skew."""
    found = []
    if run.gaps:
        intervals = sum(gap.to_seq - gap.from_seq + 1 for gap in run.gaps)
        requests = [gap.requests for gap in run.gaps]
        size = "" if None in requests else f", {sum(requests):,} requests"
        found.append(f"{_plural(intervals, 'interval')} missing in {_plural(len(run.gaps), 'gap')}{size}")
    elif run.completeness == "gaps" and not run.workers_lost:
        found.append("intervals are missing")
    elif run.is_over and run.started_at and run.completeness == "unknown" and run.origin != "imported":
        found.append("not known whether all intervals arrived")
    dropped = sum(source.dropped for source in run.sources)
    if dropped:
        found.append(f"{_plural(dropped, 'interval')} dropped by a full spool")
    if run.workers_lost:
        found.append(f"{_plural(run.workers_lost, 'worker')} lost")
    if run.clock_skew_ms is not None and abs(run.clock_skew_ms) > SKEW_MS:
        found.append(f"clocks differ by {abs(run.clock_skew_ms) / 1000:.1f} s")
    return found


def _of_load(run: LoadTestRun, part: Mapping[str, Any], name: str) -> Reasons:
    """Compare the load offered with the load achieved."""
    found: Reasons = []
    most, least, asked = part["usersMax"], part["usersMin"], run.target_users
    if name in (WHOLE, STEADY) and 0 < most < REACHED * asked:
        level: Level = "INVALID" if most < HALF * asked else "SUSPECT"
        found.append((level, f"{most:,} of {_plural(asked, 'user')} reached"))
    if name == STEADY and least < STOOD * most:
        found.append(("SUSPECT", f"no steady load: between {least:,} and {_plural(most, 'user')}"))
    offered = run.metadata.get(OFFERED_PER_S)
    if isinstance(offered, int | float) and offered > 0 and name == STEADY and part["durationMs"]:
        achieved = 1000 * part["requests"] / part["durationMs"]
        if achieved < REACHED * offered:
            level = "INVALID" if achieved < HALF * offered else "SUSPECT"
            found.append((level, f"{achieved:.4g} of {offered:.4g} requests/s achieved"))
    return found


def _of_generator(part: Mapping[str, Any]) -> Reasons:
    busy = part["cpuBusyMs"] / part["durationMs"] if part["durationMs"] else 0.0
    if busy <= BUSY_SOME:
        return []
    level: Level = "INVALID" if busy > BUSY_MOST else "SUSPECT"
    return [(level, f"load generator above {BUSY_PERCENT:.0f} % of a core for {100 * busy:.0f} % of the time")]


def _of_time(run: LoadTestRun, part: Mapping[str, Any], name: str) -> Reasons:
    """Say what is missing from the window, and whether it is long enough."""
    end_ms = part["timestamp"].timestamp() * 1000
    span_ms, covered_ms = end_ms - part["beginMs"], part["durationMs"]
    usual_ms = covered_ms / part["slots"]
    missing_ms = span_ms - covered_ms
    found: Reasons = []
    if missing_ms > max(usual_ms / 2, MISSING_SOME * span_ms):
        level: Level = "INVALID" if missing_ms > MISSING_MOST * span_ms else "SUSPECT"
        found.append((level, f"{missing_ms / 1000:.3g} s of {span_ms / 1000:.3g} s are missing"))
    if name == STEADY and run.is_over and covered_ms < 1000 * LEAST_STEADY_S:
        found.append(("SUSPECT", f"steady for {covered_ms / 1000:.3g} s only, less than {LEAST_STEADY_S:.0f} s"))
    return found


def _of_samples(part: Mapping[str, Any], percentiles: Iterable[float]) -> Reasons:
    requests = int(packed.column([part], "n").sum())
    if not requests:
        return [("INVALID", "no request was measured")]
    timed = requests - int(packed.column([part], "untimed").sum())
    if not timed:
        has_times = packed.column([part], "sumMs").any()
        why = "imported without distributions" if has_times else "no request had a response time"
        return [("SUSPECT", f"no percentiles: {why}")]
    few = [q for q in percentiles if timed * (1 - q / 100) < BEYOND - 1e-9 and 0 < q < 100]
    if not few:
        return []
    needed = int(np.ceil(BEYOND / (1 - max(few) / 100) - 1e-9))
    return [("SUSPECT", f"p{max(few):g} needs {needed:,} requests, there are {timed:,}")]


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
