"""What a test says over its runs: its history, campaigns of two sides, sweeps over users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadbench.analysis.history import ALPHA
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.windows import STEADY
from loadbench.campaign import Campaign, Side
from loadbench.history import History
from loadbench.load_test_run import Run
from loadbench.model import LoadTest, RunStatus
from loadbench.scalability import Scalability
from loadbench.sweep import Sweep

if TYPE_CHECKING:
    from loadbench.store import Store
    from loadbench.workbench import Workbench


class TestLab:
    """The part of the handle of a test that asks many runs."""

    __test__ = False  # pytest: not a test class

    record: LoadTest
    _bench: Workbench
    _store: Store

    def history(
        self,
        endpoint: str = AGGREGATED,
        percentile: float | None = 95,
        *,
        figure: str | None = None,
        last: int = 100,
        window: str = STEADY,
        like: Run | None = None,
        allow_different: bool | str | Iterable[str] = False,
        alpha: float = ALPHA,
        seed: int = 0,
    ) -> History:
        """Look for changes over the finished runs: `test.history("POST /checkout").changes()`.

        Parameters
        ----------
        endpoint : str
            Method and name, or the name alone; left out, all requests.
        percentile : float or None
            In [0, 100]; None for the distribution: p50, p75, p90, p95 and p99 at once.
        figure : str, optional
            mean_ms, failure_ratio or requests_per_s, instead of a percentile.
        last : int
            Look at so many of the newest runs at most, up to 1000.
        window : str
            The part of each run that counts.
        like : Run, optional
            Take the runs that are comparable with this one; left out, those of the commonest load, target and duration.
        allow_different : bool or names
            In what runs of a series may differ: True, or some of test, target, users, spawn rate, duration, arguments.
        alpha : float
            How often a series without a change may be said to have one.
        seed : int
            Of the permutations.
        """
        return History(
            self._store, self.record, by=self._bench.by, endpoint=endpoint, percentile=percentile, figure=figure,
            last=last, window=window, like=None if like is None else like.record, allow_different=allow_different,
            alpha=alpha, seed=seed,
        )  # fmt: skip

    def campaign(
        self,
        *,
        a: Side,
        b: Side,
        users: int | None = None,
        spawn_rate: float | None = None,
        duration: str | int | None = None,
        until_percent: float = 5.0,
        max_runs: int = 20,
        max_duration: str | int | None = None,
        endpoint: str = AGGREGATED,
        percentile: float = 95,
        name: str = "",
    ) -> Campaign:
        """Measure two revisions or targets in turn, A B B A, until the ratio is known: `await test.campaign(a=1, b=2)`.

        Nothing starts before it is awaited, or its `wait` is called. An interrupt stops the run that goes on and keeps
        the others; the same call goes on from there, also in a restarted kernel.

        Parameters
        ----------
        a, b : int, str or mapping
            A revision's number, a target's URL, or parameters: revision, target_url, arguments, users, spawn_rate,
            workers.
        users, spawn_rate, duration : optional
            As for `start`, of each run.
        until_percent : float
            It ends as soon as the 95 % interval of the ratio of the percentiles reaches this far to each side.
        max_runs : int
            It ends after so many finished runs at the latest: 4, 8, 12, ...
        max_duration : str or int, optional
            It starts no run that would end later than this, of time spent in runs.
        endpoint, percentile : str, float
            What the ratio is of.
        name : str
            Another name is another campaign.
        """
        return Campaign(
            self._bench, self.record, a=a, b=b, users=users, spawn_rate=spawn_rate, duration=duration,
            until_percent=until_percent, max_runs=max_runs, max_duration=max_duration, endpoint=endpoint,
            percentile=percentile, name=name,
        )  # fmt: skip

    def sweep(
        self,
        users: Sequence[int],
        duration: str | int | None = None,
        *,
        spawn_rate: float | None = None,
        until: str | None = None,
        repeats: int = 1,
        revision: int | None = None,
        target_url: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        think_s: float | None = None,
        rate_per_user: float | None = None,
        name: str = "",
    ) -> Sweep:
        """Run the test at rising numbers of users, to find how far it scales: `await test.sweep([5, 10, 20, 40])`.

        As with `campaign`, nothing starts before it is awaited, and the same call goes on where it was interrupted.

        Parameters
        ----------
        users : sequence of int
            The levels, rising; at least 4 for a law with an interval.
        duration : str or int, optional
            Of each run; left out, that of the test.
        spawn_rate : float, optional
            Users per second; left out, that of the test, or so many that they are there after a tenth of the run.
        until : str, optional
            End at the first level that breaks a limit such as `p95 < 300ms`.
        repeats : int
            How often each level is run: the interval holds the noise between runs only if it is at least 2.
        revision, target_url, arguments : optional
            As for `start`.
        think_s, rate_per_user : float, optional
            What a user waits between requests, or sends per second, if you know it: for what is offered.
        name : str
            Another name is another sweep.
        """
        return Sweep(
            self._bench, self.record, users=users, duration=duration, spawn_rate=spawn_rate, until=until,
            repeats=repeats, revision=revision, target_url=target_url, arguments=arguments, think_s=think_s,
            rate_per_user=rate_per_user, name=name,
        )  # fmt: skip

    def scalability(self, *runs: Run, think_s: float | None = None, rate_per_user: float | None = None) -> Scalability:
        """Say how the test scales, from these runs, else from all finished ones; parameters as for `sweep`."""
        chosen = [run.record for run in runs] or self._store.runs.find(
            self._bench.scope, load_test_id=self.record.id, status=RunStatus.FINISHED, limit=0
        )
        return Scalability(self._store, chosen, name=self.name, think_s=think_s, rate_per_user=rate_per_user)
