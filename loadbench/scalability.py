"""How a test scales: its runs at different numbers of users, the law fitted to them, and how many users fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from loadbench import html, plots
from loadbench.analysis import frames
from loadbench.analysis.columns import frame, percentile_column
from loadbench.analysis.gate_grammar import Gate, parse
from loadbench.analysis.intervals import within
from loadbench.analysis.scalability import (
    ACHIEVED_RATIO,
    MIN_LEVELS,
    Capacity,
    ScalabilityLaw,
    fit,
    offered,
    users_within,
    within_run_sd,
)
from loadbench.analysis.summary import AGGREGATED
from loadbench.analysis.windows import STEADY, named
from loadbench.errors import InvalidInput
from loadbench.model import LoadTestRun
from loadbench.sealing import Seal, seals
from loadbench.store import Store
from loadbench.trend import Figure, figures_of

BUSY_SHARE = 0.1
"""A run whose load generator was above 90 % of a core for a larger share of the window says nothing of the system."""
_BEYOND = 1.25
_CARD = (
    "users",
    "offered_per_s",
    "requests_per_s",
    "p50_ms",
    "p95_ms",
    "failure_ratio",
    "cpu_percent",
    "generator_bound",
)
_TABLE = ("requests_per_s", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "failure_ratio")


class Scalability:
    """Finished runs of a test at different numbers of users, each by its steady window."""

    def __init__(
        self, store: Store, runs: Sequence[LoadTestRun], *, name: str = "", think_s: float | None = None,
        rate_per_user: float | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._store = store
        self._paced: dict[str, Any] = {"think_s": think_s, "rate_per_user": rate_per_user}
        ordered = sorted(runs, key=lambda run: (run.target_users, run.started_at or 0))
        self._seals = [seal for seal in seals(store, ordered) if STEADY in seal.parts]

    def __repr__(self) -> str:
        table = self.to_frame()
        levels = table["users"].nunique()
        if not levels:
            return "<Scalability: no level is measured yet>"
        number = "1 level" if levels == 1 else f"{levels} levels"
        span = f"{number} from {table['users'].min():,} to {table['users'].max():,} users"
        bound = int(table["generator_bound"].sum())
        left = f"; {bound} bound by the load generator, left out" if bound else ""
        return f"<Scalability of {html.printable(self.name)}: {span}: {self._told()}{left}>"

    def _repr_html_(self) -> str:
        return html.finding_card(self._told(), self.shown(), title=self.name)

    def _told(self) -> str:
        usable = self._usable["users"].nunique()
        if usable < MIN_LEVELS:
            return f"no law: {usable} usable levels, at least {MIN_LEVELS} are needed"
        return str(self.law())

    def to_frame(self) -> pd.DataFrame:
        """Give a row per run, by users.

        Returns
        -------
        DataFrame
            Indexed by run_id: users, offered_per_s, requests_per_s, achieved_ratio, mean_ms, p50_ms, p95_ms, p99_ms,
            failure_ratio, think_s, little_ms, cpu_percent, generator_bound, validity. What is offered is told by
            Little's law: see `loadbench.analysis.scalability.offered`.
        """
        return self._table.copy()

    def shown(self) -> pd.DataFrame:
        """Give what fits on a card."""
        return self.to_frame()[list(_CARD)].reset_index(drop=True)

    @cached_property
    def _table(self) -> pd.DataFrame:
        figure = Figure(_TABLE, "p95_ms", "")
        rows = [(seal, figures_of(seal, AGGREGATED, figure, STEADY)) for seal in self._seals]
        kept = [(seal, row) for seal, row in rows if row is not None and row[0] > 0]
        values = dict(zip(_TABLE, np.array([row for _, row in kept]).reshape(-1, len(_TABLE)).T, strict=True))
        users = [seal.run.target_users for seal, _ in kept]
        load = offered(users, values["mean_ms"], values["requests_per_s"], **self._paced)
        return frame(
            {
                "run_id": [seal.run.id for seal, _ in kept],
                "users": users,
                "offered_per_s": load["offered_per_s"],
                "requests_per_s": values["requests_per_s"],
                "achieved_ratio": load["achieved_ratio"],
                **{name: values[name] for name in _TABLE[1:]},
                "think_s": load["think_s"],
                "little_ms": load["little_ms"],
                "cpu_percent": [seal.parts[STEADY].get("cpuPercent", math.nan) for seal, _ in kept],
                "generator_bound": [_is_busy(seal) for seal, _ in kept],
                "validity": [str(seal.validity) for seal, _ in kept],
            }
        ).set_index("run_id")

    @property
    def _usable(self) -> pd.DataFrame:
        table = self._table
        return table[~table["generator_bound"] & ~table["validity"].str.startswith("INVALID")]

    def under_offered(self) -> pd.DataFrame:
        """Give the levels at which less than 95 % of what was offered was achieved: the generator fell behind."""
        table = self.to_frame()
        return table[table["achieved_ratio"] < ACHIEVED_RATIO]

    def law(self, *, seed: int = 0) -> ScalabilityLaw:
        """Fit the Universal Scalability Law to the throughput; levels bound by the load generator are left out."""
        usable = self._usable
        return fit(usable["users"].to_numpy(), usable["requests_per_s"].to_numpy(), seed=seed)

    def users_within(self, limit: str, *, seed: int = 0) -> Capacity:
        """Say how many users keep a limit on a response time.

        Parameters
        ----------
        limit : str
            Such as `p95 < 300ms`, `mean < 0.2s`, `p99 of "POST /checkout" < 1s`.
        seed : int
            Of the simulated sweeps behind the interval.

        Returns
        -------
        Capacity
            Between the levels measured, never beyond them.
        """
        gate, figure = read_limit(limit)
        endpoint = gate.endpoint or AGGREGATED
        usable = set(self._usable.index)
        kept = [seal for seal in self._seals if seal.run.id in usable]
        rows = [(seal, figures_of(seal, endpoint, figure, STEADY)) for seal in kept]
        measured = [(seal, row[0]) for seal, row in rows if row is not None and row[0] > 0]
        if not measured:
            raise InvalidInput(f"no level has {figure.name} of {endpoint}: look at to_frame()", field="limit")
        users = [seal.run.target_users for seal, _ in measured]
        repeated = len(set(users)) < len(users)
        noise = None if repeated else [self._noise(seal, figure) for seal, _ in measured]
        values = [value for _, value in measured]
        return users_within(users, values, gate.limit, label=_words(gate), within_run_sd=noise, seed=seed)

    def plot(self, limit: str | None = None) -> go.Figure:
        """Draw throughput over users with the fitted law, offered and achieved; with a limit, the response time."""
        table = self.to_frame().sort_values("users")
        if limit is not None:
            gate, figure = read_limit(limit)
            column, capacity = figure.shown, self.users_within(limit)
            rows = {seal.run.id: figures_of(seal, gate.endpoint or AGGREGATED, figure, STEADY) for seal in self._seals}
            values = [row[0] if (row := rows[run_id]) is not None else math.nan for run_id in table.index]
            points = pd.DataFrame({"users": table["users"].to_numpy(), column: values}).dropna()
            inside = capacity.users if 0 < capacity.users < math.inf else None
            return plots.scalability(
                points, y=column, limit=gate.limit, within=inside, title=f"{self.name}: {figure.name} by users",
                subtitle=repr(capacity),
            )  # fmt: skip
        points = table[["users", "requests_per_s"]].assign(offered=table["offered_per_s"])
        curve, knee = None, None
        if self._usable["users"].nunique() >= MIN_LEVELS:
            law = self.law()
            curve = law.at(np.linspace(1, _BEYOND * float(table["users"].max()), 120))
            knee = law.knee.value if law.knee_is_measured else None
        return plots.scalability(
            points, curve, knee=knee, title=f"{self.name}: throughput by users", subtitle=self._told()
        )

    def _noise(self, seal: Seal, figure: Figure) -> float:
        if seal.run.purged_at is not None:
            return math.nan
        window = named(seal.windows, STEADY)
        documents = self._store.ledger.documents(seal.run.id)
        inside = within(seal.run, documents, start_s=window.start_s, end_s=window.end_s)
        timeline = frames.timeline(seal.run, inside, percentiles=figure.percentiles)
        return within_run_sd(timeline[figure.shown].dropna().to_numpy())


def read_limit(text: str) -> tuple[Gate, Figure]:
    """Read a limit on a response time, in the language of gates.

    Raises
    ------
    InvalidInput
        If it is none, or not one on a percentile or the mean.
    """
    gate = parse(text)
    plain = gate.of_baseline is False and not gate.is_windowed
    if not plain or gate.figure not in ("percentile", "mean"):
        raise InvalidInput(f"a limit reads like p95 < 300ms or mean < 0.2s; not {text!r}", field="limit")
    if gate.percentile is None:
        return gate, Figure.of(None, "mean_ms")
    return gate, Figure((percentile_column(gate.percentile),), percentile_column(gate.percentile), gate.shown_figure)


def _words(gate: Gate) -> str:
    of = f' of "{html.printable(gate.endpoint)}"' if gate.endpoint else ""
    return f"{gate.shown_figure}{of} {'<' if gate.comparison in '<>' else '<='} {gate.limit:g} ms"


def _is_busy(seal: Seal) -> bool:
    part = seal.parts[STEADY]
    return part.get("cpuBusyMs", 0.0) > BUSY_SHARE * max(part["durationMs"], 1.0)
