"""The figures of a run that are drawn: heatmap, percentiles over time, response time against load, errors, spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from loadbench import html, plots
from loadbench.analysis import distribution, frames, heatmap, time_columns
from loadbench.analysis.errors_over_time import errors_over_time
from loadbench.analysis.intervals import Outcome
from loadbench.analysis.load_levels import Against, load_levels
from loadbench.analysis.selection import AGGREGATED, places
from loadbench.run_figures import EndpointsLike, RunFigures, WindowLike


class RunPlots(RunFigures):
    """What a run handle draws from its stored intervals.

    Every figure follows `window`, and says in its subtitle what it is of and whether the run is VALID.
    """

    def heatmap(
        self,
        endpoints: EndpointsLike = None,
        *,
        window: WindowLike = None,
        outcome: Outcome = "all",
        colour: str = "rate",
    ) -> go.Figure:
        """Draw how the response times were spread at each moment; `who` says what is behind a region of it.

        Parameters
        ----------
        endpoints : str or sequence of str, optional
            "GET /api/products", a pattern such as "GET /api/*", or several, added up; all if left out.
        window : str or (start_s, end_s), optional
            "steady", another of `windows()`, or seconds since the run began; the whole run if left out.
        outcome : {"all", "ok", "failed"}
            Of which requests.
        colour : {"rate", "share"}
            Requests per second, or the share of the requests of the same moment.
        """
        told, documents = self._told(window, endpoints, outcome), self._documents(window)
        grid = heatmap.heatmap(self.record, documents, endpoints=places(self.record, endpoints), outcome=outcome)
        return plots.heatmap(grid, colour=colour, title=self._title("response times over time"), **told)

    def who(
        self,
        window: WindowLike = None,
        band_ms: tuple[float, float | None] = (0.0, None),
        *,
        threshold_ms: float | None = None,
    ) -> pd.DataFrame:
        """Say who is in a region of the heatmap, and how much of the slow requests of the whole run that is.

        Parameters
        ----------
        window : str or (start_s, end_s), optional
            The region's time.
        band_ms : (low, high)
            The region's response times in milliseconds; None is no upper bound.
        threshold_ms : float, optional
            What the objective allows; the lower end of the band if left out.

        Returns
        -------
        DataFrame
            A row per endpoint and outcome: method, name, outcome, requests, region_ratio, slow, loss_ratio.
        """
        self.refresh()
        region = self._documents(window)
        documents = region if window is None else self._documents()
        return heatmap.who(self.record, documents, region=region, band_ms=band_ms, threshold_ms=threshold_ms)

    def percentiles_over_time(
        self,
        endpoints: EndpointsLike = None,
        *,
        percentiles: Sequence[float] = (50, 95, 99),
        window: WindowLike = None,
        outcome: Outcome = "all",
    ) -> go.Figure:
        """Draw percentiles over time: of all requests together, or of each endpoint named in a panel of its own.

        Parameters
        ----------
        endpoints : str or sequence of str, optional
            As for `heatmap`; "*" is each endpoint of the run.
        percentiles : sequence of float
            In [0, 100].
        """
        told, documents, chosen = self._told(window, endpoints, outcome), self._documents(window), endpoints
        if outcome == "all" and places(self.record, chosen) is None:
            frame = frames.timeline(self.record, documents, percentiles=percentiles)
        else:
            only = places(self.record, chosen)
            frame = time_columns.percentiles_over_time(
                self.record, documents, percentiles=percentiles, endpoints=only, outcome=outcome
            )
        return plots.percentiles_over_time(frame, title=self._title("percentiles over time"), **told)

    def response_time_against_load(
        self,
        against: Against = "users",
        *,
        endpoints: EndpointsLike = None,
        percentiles: Sequence[float] = (50, 95),
        window: WindowLike = None,
    ) -> go.Figure:
        """Draw response times against the load: a point per interval, and a line through levels of like load.

        Parameters
        ----------
        against : {"users", "requests_per_s"}
            The load, of all endpoints together.
        """
        told, documents = self._told(window, endpoints, "all"), self._documents(window)
        del told["windows"]  # time is not on its axes
        only = places(self.record, endpoints)
        levels = load_levels(self.record, documents, against=against, percentiles=percentiles, endpoints=only)
        points = frames.timeline(self.record, documents, percentiles=percentiles)
        if only is not None:  # the load is that of all endpoints; a point of several in one interval is not drawn
            load = points[["elapsed_s", "users", "requests_per_s"]]
            alone = only if len(only) == 1 else ()
            each = frames.endpoints(self.record, documents, percentiles=percentiles, only=alone)
            points = each.drop(columns="requests_per_s").merge(load, on="elapsed_s")
        title = self._title(f"response time against {'users' if against == 'users' else 'requests/s'}")
        return plots.response_time_against_load(points, levels, against=against, title=title, **told)

    def errors_over_time(self, by: str = "message", *, window: WindowLike = None) -> go.Figure:
        """Draw which errors came when, split by "message" or by "endpoint"."""
        told, documents = self._told(window, None, "all"), self._documents(window)
        found = errors_over_time(self.record, documents)
        return plots.errors_over_time(found, by=by, title=self._title("errors over time"), **told)

    def distribution(
        self,
        endpoints: EndpointsLike = None,
        *,
        window: WindowLike = None,
        outcome: Outcome = "all",
        cumulated: bool = False,
    ) -> go.Figure:
        """Draw how response times spread: of all requests, or of each endpoint named as a line.

        Parameters
        ----------
        endpoints : str or sequence of str, optional
            As for `heatmap`; "*" is each endpoint of the run.
        cumulated : bool
            Draw which share stays within a time, with room for 99 %, 99.9 % and 99.99 %.
        """
        told = self._told(window, endpoints, outcome)
        del told["windows"]
        _, run, documents = self._part(window)
        only = places(run, endpoints)
        series: dict[str, tuple[int, ...] | None] = (
            {"all requests": None} if only is None else {str(run.endpoints[place]): (place,) for place in only}
        )
        merged = {
            name: distribution.histogram(run, documents, endpoints=chosen, outcome=outcome)
            for name, chosen in series.items()
        }
        if cumulated:
            return plots.cdf(merged, tail=True, title=self._title("share of requests within a time"), **told)
        return plots.distribution(merged, title=self._title("distribution of response times"), **told)

    def endpoint_percentiles(self, *, window: WindowLike = None) -> go.Figure:
        """Draw p50, p95 and p99 of each endpoint, the slowest first; the slowest 40 if there are more."""
        told = self._told(window, None, "all")
        found = self.summary(window=window)
        found = found[found["name"] != AGGREGATED]
        names = [html.printable(name) for name in (found["method"] + " " + found["name"]).str.strip()]
        figure = plots.endpoint_percentiles(
            found.set_index(pd.Index(names, dtype="str")), title=self._title("response times by endpoint")
        )
        cut = figure.layout.title.subtitle.text
        return figure.update_layout(title_subtitle_text="; ".join(filter(None, [cut, plots.label(told["subtitle"])])))

    def _title(self, what: str) -> str:
        return f"{html.printable(self.record.name)}: {what}"

    def _told(self, window: WindowLike, endpoints: EndpointsLike, outcome: Outcome) -> dict[str, Any]:
        """Give the subtitle of a figure, and the windows to shade: none if it is of one of them."""
        self.refresh()
        seal = self._seal(windows=(), refresh=False)
        group = [endpoints] if isinstance(endpoints, str) else list(endpoints or ())
        named = [each for each in group if each != AGGREGATED]
        of = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        if window is None or isinstance(window, str):
            when = f"window {window}" if window else ""
        else:
            when = f"{window[0]:g} s to {'the end' if window[1] is None else f'{window[1]:g} s'}"
        requests = "" if outcome == "all" else f"{outcome} requests only"
        parts = [of, when, requests, str(seal.validity)]
        subtitle = "; ".join(html.printable(part) for part in parts if part)
        return {"subtitle": subtitle, "windows": () if window else seal.windows}
