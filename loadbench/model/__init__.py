"""The records: one frozen pydantic model for each, the same in MongoDB, over REST and in the notebook.

Field names are camelCase outside and snake_case here. Times are Unix milliseconds (int64) unless a name says otherwise.
In MongoDB the field `id` is `_id`.
"""

from __future__ import annotations

from loadbench.model.change_mark import ChangeMark
from loadbench.model.cluster import Cluster
from loadbench.model.duration import duration_sec
from loadbench.model.fields import (
    EARLIEST_MS,
    INT64_MAX,
    LATEST_MS,
    Count,
    Id,
    Items,
    Metadata,
    Millis,
    Name,
    Source,
    Text,
    Url,
    WorkerCount,
    new_id,
    now_ms,
)
from loadbench.model.interval import ErrorCount, Interval
from loadbench.model.load_test import RECENT_RUNS, LoadTest, RecentRun
from loadbench.model.record import PARAMETERS, Record, invalid_input
from loadbench.model.run import Endpoint, Gap, LastMetrics, LoadTestRun, RunEnvironment, RunProcess, SourceState
from loadbench.model.schedule import REPORT_KINDS, Firing, Misfire, PlannedRun, ReportKind, Schedule
from loadbench.model.scope import Scope, Scoped, ScopePart
from loadbench.model.script import MAX_SCRIPT_BYTES, RevisionEntry, ScriptRevision, script_arguments
from loadbench.model.status import TRANSITIONS, Completeness, RunStatus, StopReason
from loadbench.model.token import ROLES, ApiToken, Role
from loadbench.model.window import Window, WindowName

__all__ = [
    "EARLIEST_MS",
    "INT64_MAX",
    "LATEST_MS",
    "MAX_SCRIPT_BYTES",
    "PARAMETERS",
    "RECENT_RUNS",
    "REPORT_KINDS",
    "ROLES",
    "TRANSITIONS",
    "ApiToken",
    "ChangeMark",
    "Cluster",
    "Completeness",
    "Count",
    "Endpoint",
    "ErrorCount",
    "Firing",
    "Gap",
    "Id",
    "Interval",
    "Items",
    "LastMetrics",
    "LoadTest",
    "LoadTestRun",
    "Metadata",
    "Millis",
    "Misfire",
    "Name",
    "PlannedRun",
    "RecentRun",
    "Record",
    "ReportKind",
    "RevisionEntry",
    "Role",
    "RunEnvironment",
    "RunProcess",
    "RunStatus",
    "Schedule",
    "Scope",
    "ScopePart",
    "Scoped",
    "ScriptRevision",
    "Source",
    "SourceState",
    "StopReason",
    "Text",
    "Url",
    "Window",
    "WindowName",
    "WorkerCount",
    "duration_sec",
    "invalid_input",
    "new_id",
    "now_ms",
    "script_arguments",
]
