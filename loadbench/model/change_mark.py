"""What a person said of a change in a series of runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loadbench.model.fields import Id, Millis, Name, Text, now_ms
from loadbench.model.record import Record


class ChangeMark(Record):
    """What a person said of a run that is the first after a change in a series: one figure of one endpoint of a test.

    Confirmed, the series begins anew at the run; dismissed, it is no change.
    """

    load_test_id: Id
    endpoint: Name
    figure: Name
    run_id: Id
    state: Literal["confirmed", "dismissed"]
    note: Text = ""
    marked_at: Millis = Field(default_factory=now_ms)
    marked_by: Name = "unknown"
