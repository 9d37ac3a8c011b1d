"""A named part of a run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from loadbench.model.fields import Matching
from loadbench.model.record import Record

WindowName = Matching(r"^[a-z][a-z0-9_-]{0,31}$", "1 to 32 lower-case letters, digits, _ or -, and begin with a letter")


class Window(Record):
    """A named part of a run: the intervals that end within (start_s, end_s], in seconds from the start of the run.

    `end_s` is absent for a window that goes on to the end of the run. `found` says that loadbench cut it by itself.
    """

    name: WindowName
    start_s: Annotated[float, Field(ge=0, strict=False)] = 0.0
    end_s: Annotated[float, Field(gt=0, strict=False)] | None = None
    found: bool = False

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"window {self.name} must end after it starts; not {self.start_s:g} s to {self.end_s:g} s")
        return self
