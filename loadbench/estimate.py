"""What a run will probably be: known before it starts, from its settings and from the last run of its test."""

from __future__ import annotations

from dataclasses import dataclass

from loadbench import html
from loadbench.model import LoadTestRun


@dataclass(frozen=True)
class Estimate:
    """How many users, how soon, for how long, and about how many requests.

    `requests` is None if the test has not run yet: nothing is guessed then. `based_on` is the run it is taken from.
    """

    users: int
    spawn_rate: float
    duration_sec: int
    workers: int = 0
    requests: int | None = None
    based_on: str | None = None

    @property
    def ramp_s(self) -> float:
        """Seconds until all users are there, should the run be that long."""
        return min(self.users / self.spawn_rate, float(self.duration_sec))

    @property
    def reached_users(self) -> int:
        """The most users at once: fewer than asked for if the run ends before all are there."""
        return min(self.users, max(1, int(self.spawn_rate * self.duration_sec)))

    @property
    def processes(self) -> int:
        """Locust processes: one, or a master and its workers."""
        return 1 + self.workers if self.workers else 1

    def __repr__(self) -> str:
        users = "1 user" if self.users == 1 else f"{self.users:,} users"
        there = f"all there after {html.show(self.ramp_s, 's')}"
        if self.reached_users < self.users:
            there = f"only {self.reached_users:,} of them there at the end"
        processes = "1 Locust process" if self.processes == 1 else f"{self.processes} Locust processes"
        text = f"{users}, {there}; {html.show(self.duration_sec, 's')} in all; {processes}"
        if self.requests is None:
            return f"{text}; no finished run yet to tell the number of requests from"
        return f"{text}; about {self.requests:,} requests, if each user makes as many as in {self.based_on}"


def estimate(
    *, users: int, spawn_rate: float, duration_sec: int, workers: int = 0, last: LoadTestRun | None = None
) -> Estimate:
    """Answer "what will this run be?".

    Parameters
    ----------
    users : int
        At least 1.
    spawn_rate : float
        Users per second, above 0.
    duration_sec : int
        Seconds.
    workers : int
        0 for one process.
    last : LoadTestRun, optional
        A run of the same test that is over, and whose requests per user-second tell how busy a user is.

    Notes
    -----
    User-seconds of a run of U users at r users/s for T seconds: U T - U^2 / (2 r) if all of them get there, r T^2 / 2
    otherwise. Requests = those of `last` per user-second of it, times the user-seconds of this run. A system that gets
    slower under more users makes fewer.
    """
    requests = None
    if last is not None and last.last_metrics is not None and last.last_metrics.cum_requests:
        seconds = html.elapsed_s(last)
        measured = _user_seconds(last.target_users, last.spawn_rate, seconds) if seconds > 0 else 0.0
        if measured > 0:
            rate = last.last_metrics.cum_requests / measured
            requests = round(rate * _user_seconds(users, spawn_rate, duration_sec))
    return Estimate(users, spawn_rate, duration_sec, workers, requests, last.id if requests is not None else None)


def _user_seconds(users: int, spawn_rate: float, seconds: float) -> float:
    ramp_s = users / spawn_rate
    if ramp_s >= seconds:
        return spawn_rate * seconds**2 / 2
    return users * (seconds - ramp_s / 2)
