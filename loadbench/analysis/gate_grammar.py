"""The grammar of gates: one line such as `p95 of "GET /api/products" > 800ms for 10s -> stop`, read into a `Gate`.

    [N% of seconds] FIGURE [of "ENDPOINT"] [over DURATION] OPERATOR LIMIT [for DURATION] [in WINDOW] [-> stop]

One rule says what a gate means. A comparison that names what is bad (`>` and `>=` on times and errors, `<` and `<=` on
throughput and Apdex) says what breaks it; one that names what is good, and every `=`, says what must hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NoReturn

from loadbench.errors import InvalidInput

Operator = Literal["<", "<=", ">", ">=", "="]
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq,
}  # fmt: skip
EXAMPLE = "p95 < 300ms"
MAX_LENGTH = 256
MAX_DURATION_S = 86_400


@dataclass(frozen=True)
class Figure:
    """A figure that a gate may be about: its unit, which way is better (+1 higher, -1 lower), whether it adds up."""

    name: str
    unit: Literal["ms", "/s", "count", "ratio", ""]
    direction: Literal[-1, 1]
    adds_up: bool = False
    only_grows: bool = False
    """Once it is over a limit, it stays there, however long the run goes on."""


FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("percentile", "ms", -1),
        Figure("mean", "ms", -1),
        Figure("min", "ms", -1),
        Figure("max", "ms", -1, only_grows=True),
        Figure("apdex", "", 1),
        Figure("requests/s", "/s", 1),
        Figure("requests", "count", 1, adds_up=True),
        Figure("error rate", "ratio", -1),
        Figure("errors/s", "/s", -1),
        Figure("errors", "count", -1, adds_up=True, only_grows=True),
    )
}
# Longer words first: "error rate" is not "errors", and "requests/s" is not "requests".
_WORDS = {
    r"error\s+rate|failure\s+rate": "error rate",
    r"errors/s|failures/s": "errors/s",
    r"requests/s|rps\b": "requests/s",
    r"errors\b|failures\b": "errors",
    r"requests\b": "requests",
    r"mean\b|average\b|avg\b": "mean",
    r"min\b": "min",
    r"max\b": "max",
}
_NUMBER = r"\d{1,12}(?:\.\d{1,9})?"
_TIMES = {"ms": Decimal(1), "s": Decimal(1000), "min": Decimal(60_000), "m": Decimal(60_000), "h": Decimal(3_600_000)}
_WINDOW = r"[a-z][a-z0-9_-]{0,31}\b"


@dataclass(frozen=True)
class Gate:
    """What a line says. `str` gives the line in its canonical spelling, which reads into an equal gate.

    Parameters
    ----------
    figure : str
        A key of `FIGURES`.
    comparison : str
        A key of `COMPARISONS`.
    limit : float
        In the figure's unit (ms, /s, a ratio in [0, 1] for percentages); a factor if `of_baseline`.
    of_baseline : bool
        Whether the limit is a multiple of the baseline's figure.
    percentile : float, optional
        In [0, 100], of a percentile.
    threshold_ms : float, optional
        Of an Apdex: what satisfies.
    endpoint : str, optional
        Method and name, or name; `*` stands for any characters. Left out, all requests.
    over_s : float, optional
        The figure is that of each stretch of this length, its histograms merged: a sliding window.
    for_s : float, optional
        It is broken only if it is for this long without a break.
    share : float, optional
        In (0, 1]: of so much of the time the comparison is true.
    window : str, optional
        The window of the run that counts; left out, the caller decides.
    stops : bool
        Whether a run is stopped as soon as it is broken.
    """

    figure: str
    comparison: Operator
    limit: float
    of_baseline: bool = False
    percentile: float | None = None
    threshold_ms: float | None = None
    endpoint: str | None = None
    over_s: float | None = None
    for_s: float | None = None
    share: float | None = None
    window: str | None = None
    stops: bool = False

    @property
    def unit(self) -> str:
        """The unit of the figure."""
        return FIGURES[self.figure].unit

    @property
    def direction(self) -> int:
        """+1 if a higher figure is better, -1 if a lower one is."""
        return FIGURES[self.figure].direction

    @property
    def says(self) -> Literal["breaks", "holds"]:
        """Whether the comparison says what breaks the gate, or what must hold."""
        bad = (">", ">=") if self.direction < 0 else ("<", "<=")
        return "breaks" if self.comparison in bad else "holds"

    @property
    def is_windowed(self) -> bool:
        """Whether it is about parts of the run, so that the run's intervals have to be read."""
        return self.over_s is not None or self.for_s is not None or self.share is not None

    @property
    def shown_figure(self) -> str:
        """The figure as the line names it: `p99.9`, `apdex(500ms)`, `error rate`."""
        if self.percentile is not None:
            return f"p{_plain(Decimal(repr(self.percentile)))}"
        return f"apdex({_time(self.threshold_ms)})" if self.threshold_ms is not None else self.figure

    def __str__(self) -> str:
        words = [] if self.share is None else [f"{_percent(self.share)} of seconds"]
        words.append(self.shown_figure)
        words += [f'of "{self.endpoint}"'] if self.endpoint is not None else []
        words += [f"over {_time(1000 * self.over_s)}"] if self.over_s is not None else []
        words += [self.comparison, self.shown_limit]
        words += [f"for {_time(1000 * self.for_s)}"] if self.for_s is not None else []
        words += [f"in {self.window}"] if self.window is not None else []
        return " ".join([*words, *(["-> stop"] if self.stops else [])])

    @property
    def shown_limit(self) -> str:
        """The limit as the line gives it, with its unit: `800ms`, `1%`, `1.2 x baseline`."""
        if self.of_baseline:
            return f"{_plain(Decimal(repr(self.limit)))} x baseline"
        return {"ms": _time, "ratio": _percent}.get(self.unit, lambda value: _plain(Decimal(repr(value))))(self.limit)


def parse(text: str) -> Gate:
    """Read a gate.

    Parameters
    ----------
    text : str
        One line; spaces do not matter, nor does case outside of quotes.

    Returns
    -------
    Gate

    Raises
    ------
    InvalidInput
        One line: the text with a `^` before what could not be read, what was expected there, and an example; or why a
        gate that can be read means nothing.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a gate is one line of text, such as {EXAMPLE}; not {text!r}", field="gates")
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"a gate has at most {MAX_LENGTH} characters; not {len(text)}", field="gates")
    reader = _Reader(text)
    share = reader.share()
    figure, percentile, threshold_ms = reader.figure()
    endpoint = over_s = None
    while word := reader.take(r"(of|over)\b", unless_given={"of": endpoint, "over": over_s}):
        if word == "of":
            endpoint = reader.quoted()
        else:
            over_s = reader.duration_s("over 30s")
    comparison = reader.comparison()
    limit, of_baseline = reader.limit(FIGURES[figure])
    for_s = window = None
    while word := reader.take(r"(for|in)\b", unless_given={"for": for_s, "in": window}):
        if word == "for":
            for_s = reader.duration_s("for 10s")
        else:
            window = reader.expect(_WINDOW, "the name of a window, such as steady")
    stops = reader.take(r"(->|→)\s*stop\b") is not None
    reader.end(is_stop=stops)
    gate = Gate(
        figure=figure, comparison=comparison, limit=limit, of_baseline=of_baseline, percentile=percentile,
        threshold_ms=threshold_ms, endpoint=endpoint, over_s=over_s, for_s=for_s, share=share, window=window,
        stops=stops,
    )  # fmt: skip
    _check(gate)
    return gate


def _check(gate: Gate) -> None:
    """Refuse what can be read, but would not mean what it seems to."""
    figure, why = FIGURES[gate.figure], None
    opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
    if gate.comparison == "=" and figure.unit in ("ms", "/s"):
        why = f"{gate.shown_figure} is a measured value, and never exactly another: use <= or >="
    elif gate.for_s is not None and gate.says == "holds":
        said = f"write {gate.shown_figure} {opposite.get(gate.comparison, '>')} {gate.shown_limit} for ..."
        why = f"`for` goes with what breaks a gate, not with what must hold: {said}"
    elif gate.share is not None and gate.for_s is not None:
        why = "`of seconds` and `for` do not go together: leave one out"
    elif gate.of_baseline and figure.adds_up and gate.is_windowed:
        why = f"{gate.figure} of a part of a run cannot be set against those of a whole one: use {gate.figure}/s"
    elif gate.stops and gate.window is not None:
        why = f"a gate that stops a run watches all of it: leave `in {gate.window}` out"
    elif gate.stops and gate.share is not None:
        why = "a share of the seconds is known at the end of a run only: leave `-> stop` out, or use `for`"
    elif gate.stops and not gate.is_windowed and not (figure.only_grows and gate.says == "breaks"):
        said = f"{gate.shown_figure} over 30s {gate.comparison} {gate.shown_limit} -> stop"
        why = f"`-> stop` needs to know of which time: for example {said}"
    if why is not None:
        raise InvalidInput(f"gate {str(gate)!r}: {why}", field="gates")


class _Reader:
    """Reads a text from left to right, and says where it could not go on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, pattern: str, unless_given: dict[str, Any] | None = None) -> str | None:
        """Read a pattern if it comes next: its first group, or all of it, in lower case."""
        found = re.compile(rf"\s*({pattern})", re.IGNORECASE).match(self._text, self._at)
        if found is None:
            return None
        word = (found[2] if found.re.groups > 1 else found[1]).lower()
        if (unless_given or {}).get(word) is not None:
            self.fail(f"`{word}` only once")
        self._at = found.end()
        return word

    def expect(self, pattern: str, what: str) -> str:
        found = self.take(pattern)
        return self.fail(what) if found is None else found

    def fail(self, expected: str) -> NoReturn:
        at = len(self._text) - len(self._text[self._at :].lstrip())
        marked = f"{self._text[:at]}^{self._text[at:]}"
        raise InvalidInput(f"gate {marked!r}: at ^ expected {expected}; a gate reads like {EXAMPLE}", field="gates")

    def share(self) -> float | None:
        number = self.take(rf"({_NUMBER})\s*%")
        if number is None:
            return None
        self.expect(r"of\s+seconds\b", "`of seconds`")
        ratio = float(Decimal(number) / 100)
        return ratio if 0 < ratio <= 1 else self.fail("more than 0% and at most 100% of seconds")

    def figure(self) -> tuple[str, float | None, float | None]:
        start = self._at
        if number := self.take(r"p(\d{1,3}(?:\.\d{1,6})?)\b"):
            if float(number) <= 100:
                return "percentile", float(number), None
            self._at = start
            self.fail("a percentile from p0 to p100")
        if self.take(r"median\b"):
            return "percentile", 50.0, None
        if self.take(r"apdex\s*\("):
            threshold_ms = self.time_ms()
            self.expect(r"\)", "`)`")
            return "apdex", None, threshold_ms
        for words, name in _WORDS.items():
            if self.take(words):
                return name, None, None
        known = ", ".join(name for name in FIGURES if name not in ("percentile", "apdex"))
        return self.fail(f"a figure: p95 or another percentile, {known}, or apdex(500ms)")

    def quoted(self) -> str:
        found = re.compile(r'\s*"([^"\x00-\x1f\x7f]{1,300})"').match(self._text, self._at)
        if found is None:
            self.fail('an endpoint in double quotes, such as "GET /api/products" or "*/checkout"')
        self._at = found.end()
        return found[1]

    def duration_s(self, example: str) -> float:
        start = self._at
        seconds = self.time_ms(f"a duration with its unit, such as {example}") / 1000
        if not 1 <= seconds <= MAX_DURATION_S:
            self._at = start
            self.fail("a duration from 1s to 24h")
        return seconds

    def comparison(self) -> Operator:
        found = self.expect(r"<=|>=|≤|≥|==|<|>|=", "<, <=, >, >= or =")
        return {"≤": "<=", "≥": ">=", "==": "="}.get(found, found)

    def limit(self, figure: Figure) -> tuple[float, bool]:
        if self.take(r"baseline\b"):
            return 1.0, True
        if factor := self.take(rf"({_NUMBER})\s*(?:x|×|\*)\s*baseline\b"):
            return float(factor), True
        if figure.unit == "ms":
            return self.time_ms(), False
        if figure.unit == "ratio":
            return float(Decimal(self.expect(rf"({_NUMBER})\s*%", "a percentage, such as 1%")) / 100), False
        wanted = {"/s": "a number per second, such as 100", "count": "a number, such as 100"}
        found = self.expect(rf"({_NUMBER})(?![\w.%])", wanted.get(figure.unit, "a number from 0 to 1, such as 0.9"))
        if figure.unit == "/s":
            self.take(r"/\s*s\b")
        return float(found), False

    def time_ms(self, what: str = "a time with its unit, such as 800ms or 2s") -> float:
        number = self.take(rf"({_NUMBER})(?=\s*(?:ms|s|min|m|h)\b)")
        unit = None if number is None else self.take(r"(ms|min|s|m|h)\b")
        return self.fail(what) if unit is None else float(Decimal(number) * _TIMES[unit])

    def end(self, *, is_stop: bool) -> None:
        if self._text[self._at :].strip():
            self.fail("nothing more" if is_stop else "`for 10s`, `in steady`, `-> stop`, or nothing more")


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")


def _time(ms: float) -> str:
    number = Decimal(repr(ms))
    return f"{_plain(number / 1000)}s" if number >= 1000 else f"{_plain(number)}ms"


def _percent(ratio: float) -> str:
    return f"{_plain(Decimal(repr(ratio)) * 100)}%"
