"""The figures of a run: any percentile, share or table of any window, endpoint group and outcome, after the fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from loadbench import sealing
from loadbench.agent.histogram import Histogram
from loadbench.analysis import distribution, frames
from loadbench.analysis.columns import frame
from loadbench.analysis.distribution import CDF_POINTS
from loadbench.analysis.intervals import FIELDS, ROWS, Document, Outcome
from loadbench.analysis.selection import places
from loadbench.analysis.series import TOTALS
from loadbench.analysis.summary import summary
from loadbench.analysis.validity import Validity, judge, pacing_ms
from loadbench.analysis.windows import STEADY, WHOLE, named, span

if TYPE_CHECKING:
    from loadbench.model import LoadTestRun, Window
    from loadbench.store import Store

WindowLike = str | tuple[float, float | None] | None
"""A window's name ("steady"), or (start_s, end_s) in seconds from the start of the run; None is the whole run."""
EndpointsLike = str | Sequence[str] | None
"""An endpoint ("GET /api/products"), a pattern ("GET /api/*"), or several of them; None is all."""


class RunFigures:
    """What a run handle answers from its stored figures. Every percentile is read from merged histograms.

    A run that is over is read from its seal where that tells, so that answers come in milliseconds.
    """

    record: LoadTestRun
    _store: Store
    _validity: Validity | None = None

    def refresh(self) -> RunFigures:
        """Read the run's record anew."""
        raise NotImplementedError

    def windows(self) -> pd.DataFrame:
        """List the windows of the run, those found and those set, with what lies in each of them."""
        seal = self._seal()
        rows = [named(seal.windows, WHOLE), *seal.windows]
        parts = [seal.parts.get(window.name, {}) for window in rows]
        return frame(
            {
                "window": [window.name for window in rows],
                "start_s": [window.start_s for window in rows],
                "end_s": [window.end_s for window in rows],
                "found": [window.found for window in rows],
                "requests": [part.get("requests", 0) for part in parts],
                "failures": [part.get("failed", 0) for part in parts],
                "requests_per_s": [
                    1000 * part["requests"] / part["durationMs"] if part.get("durationMs") else None for part in parts
                ],
            }
        ).set_index("window")

    def validity(self, window: WindowLike = STEADY, *, percentiles: Sequence[float] | None = None) -> Validity:
        """Say whether the figures of a window can be trusted: VALID, SUSPECT or INVALID, with reasons.

        Parameters
        ----------
        window : str or (start_s, end_s)
            The steady window if left out, as for verdicts.
        percentiles : sequence of float, optional
            Those that there must be enough requests for: 50 and 95 if left out.
        """
        if window == STEADY and percentiles is None:
            return self._seal(windows=()).validity
        self.refresh()
        shown, run, documents = self._part(window)
        return judge(run, documents, window=shown, **({} if percentiles is None else {"percentiles": percentiles}))

    def summary(
        self,
        percentiles: Sequence[float] = (50, 95, 99),
        *,
        window: WindowLike = None,
        outcome: Outcome = "all",
    ) -> pd.DataFrame:
        """Give one row per endpoint and a total, of the whole run or of a window.

        Parameters
        ----------
        percentiles : sequence of float
            Any, in [0, 100]; each is computed from merged histograms and within 0.5 % of the exact one.
        window : str or (start_s, end_s), optional
            "steady", another of `windows()`, or seconds since the run began, `end_s` None for the end.
        outcome : {"all", "ok", "failed"}
            Which requests are counted.

        Notes
        -----
        `attrs["window"]` and `attrs["validity"]` of the frame say which window it is of, and whether it can be trusted.
        """
        self.refresh()
        shown, run, documents = self._part(window)
        table = summary(run, documents, percentiles=percentiles, outcome=outcome)
        table.attrs |= {"window": shown.name, "validity": str(judge(run, documents, window=shown))}
        return table

    def quantile(
        self,
        percentile: float | Sequence[float],
        *,
        window: WindowLike = None,
        endpoints: EndpointsLike = None,
        outcome: Outcome = "all",
    ) -> float | pd.DataFrame:
        """Give a percentile of the response times in milliseconds, or several with their bounds.

        Parameters
        ----------
        percentile : float or sequence of float
            In [0, 100].
        window : str or (start_s, end_s), optional
            The whole run if left out.
        endpoints : str or sequence of str, optional
            "GET /api/products", a pattern such as "GET /api/*", or several; all if left out.
        outcome : {"all", "ok", "failed"}

        Returns
        -------
        float or DataFrame
            For one percentile a float, within 0.5 % of the exact one. For a sequence a frame: percentile, ms, low_ms,
            high_ms, requests; the exact percentile lies between low_ms and high_ms.
        """
        run, documents, chosen = self._group(window, endpoints)
        found = distribution.quantiles(run, documents, percentile, endpoints=chosen, outcome=outcome)
        return found if isinstance(percentile, Sequence) else float(found["ms"].iloc[0])

    def histogram(
        self, *, window: WindowLike = None, endpoints: EndpointsLike = None, outcome: Outcome = "all"
    ) -> Histogram:
        """Give the merged histogram: bucket -> requests (`loadbench.agent.histogram` says which times a bucket holds).

        `window`, `endpoints` and `outcome` as for `quantile`.
        """
        run, documents, chosen = self._group(window, endpoints)
        return distribution.histogram(run, documents, endpoints=chosen, outcome=outcome)

    def share_above(
        self, ms: float, *, window: WindowLike = None, endpoints: EndpointsLike = None, outcome: Outcome = "all"
    ) -> float:
        """Give the share of requests, in [0, 1], that took longer than `ms`: exact for a threshold within 0.5 % of it.

        `window`, `endpoints` and `outcome` as for `quantile`.
        """
        merged = self.histogram(window=window, endpoints=endpoints, outcome=outcome)
        return distribution.share_above(merged, ms)

    def cdf(
        self,
        points: int | Sequence[float] = CDF_POINTS,
        *,
        window: WindowLike = None,
        endpoints: EndpointsLike = None,
        outcome: Outcome = "all",
    ) -> pd.DataFrame:
        """Give the cumulative distribution as ms and share: at so many points, or at the times given.

        `window`, `endpoints` and `outcome` as for `quantile`.
        """
        return distribution.cdf(self.histogram(window=window, endpoints=endpoints, outcome=outcome), points)

    def apdex(self, threshold_ms: float, *, window: WindowLike = None, endpoints: EndpointsLike = None) -> float:
        """Give the Apdex, in [0, 1]: up to the threshold satisfies, up to 4 times it is tolerated, failures frustrate.

        `window` and `endpoints` as for `quantile`.
        """
        run, documents, chosen = self._group(window, endpoints)
        succeeded, failed = (
            distribution.histogram(run, documents, endpoints=chosen, outcome=outcome) for outcome in ("ok", "failed")
        )
        return distribution.apdex(succeeded, failed, threshold_ms)

    def corrected(
        self,
        interval_ms: float | None = None,
        percentiles: float | Sequence[float] = (50, 95, 99),
        *,
        window: WindowLike = None,
        endpoints: EndpointsLike = None,
    ) -> pd.DataFrame:
        """Estimate, beside the measured percentiles, those without coordinated omission; for scripts with a pace only.

        Parameters
        ----------
        interval_ms : float, optional
            How often each user means to send one of these requests (Locust's `constant_pacing`), in milliseconds; left
            out, it is `pacing_ms` in the metadata of the run.

        Returns
        -------
        DataFrame
            percentile, ms (measured), estimate_ms, requests, estimate_requests (those that the estimate adds).

        Raises
        ------
        InvalidInput
            If the pace is not known.
        """
        run, documents, chosen = self._group(window, endpoints)
        pace_ms = pacing_ms(run) if interval_ms is None else interval_ms
        merged = distribution.histogram(run, documents, endpoints=chosen)
        return distribution.estimate(merged, pace_ms, percentiles)

    def timeline(self, percentiles: Sequence[float] = (50, 95, 99), *, window: WindowLike = None) -> pd.DataFrame:
        """Give one row per interval: users, rates, percentiles."""
        self.refresh()
        table = frames.timeline_of_totals(self.record, self._documents(window, TOTALS), percentiles=percentiles)
        if table is not None:
            return table
        return frames.timeline(self.record, self._documents(window, FIELDS), percentiles=percentiles)

    def endpoints(
        self,
        percentiles: Sequence[float] = (50, 95, 99),
        *,
        window: WindowLike = None,
        endpoints: EndpointsLike = None,
    ) -> pd.DataFrame:
        """Give one row per interval and endpoint; of some endpoints if they are named as for `quantile`."""
        self.refresh()
        told = {"percentiles": percentiles, "only": places(self.record, endpoints)}
        table = frames.endpoints_of_rows(self.record, self._documents(window, ROWS), **told)
        return frames.endpoints(self.record, self._documents(window, FIELDS), **told) if table is None else table

    def failures(self, *, window: WindowLike = None) -> pd.DataFrame:
        """Give one row per endpoint and error message, with its count."""
        self.refresh()
        return frames.failures(self.record, self._documents(window))

    def _group(
        self, window: WindowLike, endpoints: EndpointsLike
    ) -> tuple[LoadTestRun, list[Document], tuple[int, ...] | None]:
        """Give the run, what stands for its intervals of a window, and the places of the endpoints asked for."""
        self.refresh()
        _, run, documents = self._part(window)
        return run, documents, places(run, endpoints)

    def _part(self, window: WindowLike) -> tuple[Window, LoadTestRun, list[Document]]:
        if window is not None and not isinstance(window, str):
            return span(window), *sealing.condensed(self._store, self.record, window)
        name = WHOLE if window is None else window
        seal = self._seal(windows=[name], refresh=False)
        return named(seal.windows, name), seal.run, seal.documents(name)

    def _seal(self, *, windows: Sequence[str] | None = None, refresh: bool = True) -> sealing.Seal:
        if refresh:
            self.refresh()
        seal = sealing.seals(self._store, [self.record], windows=windows)[0]
        self._validity = seal.validity if self.record.is_over else None
        return seal

    def _documents(self, window: WindowLike = None, fields: Sequence[str] | None = None) -> list[Document]:
        """Give the stored intervals of a window."""
        if self.record.purged_at is not None:
            raise sealing.purged(self.record)
        if window is None:
            return self._store.ledger.documents(self.record.id, fields=fields)
        if isinstance(window, str):
            chosen = named(self._seal(windows=(), refresh=False).windows, window)
        else:
            chosen = span(window)
        start_ms, end_ms = sealing.bounds_ms(self._store, self.record, chosen)
        return self._store.ledger.documents(self.record.id, start_ms=start_ms, end_ms=end_ms, fields=fields)
