"""What the API takes and gives, derived from the records, so that a field is described once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, create_model

from loadbench.catalogue import RUN_FIELDS, TEST_FIELDS
from loadbench.model import (
    MAX_SCRIPT_BYTES,
    Cluster,
    Firing,
    Id,
    Items,
    LoadTest,
    LoadTestRun,
    Metadata,
    Name,
    PlannedRun,
    Record,
    RevisionEntry,
    RunStatus,
    Schedule,
    ScopePart,
    ScriptRevision,
    Text,
)
from server.operation import Query

MAX_LIMIT = 200
PRIVATE = frozenset({"process"})
"""Fields of a run that tell of the machine that it runs on, and of nothing that a client needs."""
UNTOLD = frozenset({"token_env"})
"""Fields of a cluster that are for the one who operates it."""
UNLISTED = PRIVATE | {"endpoints", "sources"}
"""Fields of a run that a list leaves out."""
_PLANNED = ("name", "target_url", "target_users", "spawn_rate", "duration_sec", "notes", "tags")
_SpawnRate = Annotated[float, Field(gt=0, le=100_000)]  # strict here: JSON has numbers


def _is_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    return text


def _is_no_larger_script(text: str) -> str:
    if len(text) > 4 * -(-MAX_SCRIPT_BYTES // 3):
        raise ValueError(f"a script may have at most {MAX_SCRIPT_BYTES // 1024} KiB, and its request at most 1 MiB")
    return text


def _derive(name: str, record: type[Record], fields: Iterable[str], *, optional: bool = False, doc: str) -> Any:
    """Make a model with some fields of a record, each with its checks and its default."""
    own: dict[str, Any] = {}
    for field in fields:
        info = record.model_fields[field]
        kind = _SpawnRate if field.endswith("spawn_rate") else info.annotation
        kind = Annotated[(kind, *info.metadata)] if info.metadata and kind is info.annotation else kind
        given: Any = {"default_factory": info.default_factory} if info.default_factory else {"default": info.default}
        extra = {}
        if optional:  # absent, not null: a default would be a value that the field itself refuses
            given, extra = {"default": None}, {"json_schema_extra": lambda schema: schema.pop("default", None)}
        alias = {"alias": info.alias} if info.alias_priority == 2 else {}
        own[field] = (kind, Field(**given, **extra, **alias))
    return create_model(name, __base__=Record, __doc__=doc, **own)


Script = Annotated[
    str,
    Field(description=f"The script, in base64; at most {MAX_SCRIPT_BYTES // 1024} KiB before that."),
    AfterValidator(_is_no_larger_script),
    AfterValidator(_is_base64),
]


class OwnScope(Record):
    """Whose a new record is, as far as the token leaves it open."""

    account_id: ScopePart | None = Field(default=None, description="May be left out if the token is of one account.")
    org_id: ScopePart | None = Field(default=None, description="May be left out if the token is of one organisation.")
    project_id: ScopePart | None = Field(default=None, description="May be left out if the token is of one project.")
    env_id: ScopePart | None = None


Run: Any = _derive(
    "Run",
    LoadTestRun,
    [name for name in LoadTestRun.model_fields if name not in PRIVATE],
    doc="One execution of a test.",
)
RunEntry: Any = _derive(
    "RunEntry",
    LoadTestRun,
    [name for name in LoadTestRun.model_fields if name not in UNLISTED],
    doc="A run as it stands in a list: all but its endpoints and sources.",
)


LoadTestChange = _derive(
    "LoadTestChange", LoadTest, TEST_FIELDS, doc="All that people decide about a test; what is left out is reset."
)


class NewLoadTest(LoadTestChange, OwnScope):
    """A test to define, with its script or without one yet."""

    script_content: Script | None = None


class NewRevision(Record):
    """An edit of a script."""

    script_content: Script
    description: Text = ""


RunChange = _derive(
    "RunChange", LoadTestRun, RUN_FIELDS, optional=True, doc="What people write on a run; what is left out stays."
)
_RunOverrides = _derive("_RunOverrides", LoadTestRun, (*_PLANNED, "workers", "gates"), optional=True, doc="")


class NewRun(_RunOverrides):
    """How a run shall differ from the defaults of its test; `{}` for not at all."""

    revision_number: Annotated[int, Field(ge=1, le=2**31)] | None = None
    cluster_id: Id | None = None
    arguments: Metadata | None = None
    metadata: Metadata | None = None
    web_ui: bool = Field(default=False, description="Locust's own web interface beside the run; local clusters only.")


_ExternalParameters = _derive("_ExternalParameters", LoadTestRun, (*_PLANNED, "gates"), optional=True, doc="")


class NewExternalRun(_ExternalParameters, OwnScope):
    """A run that somebody else will start: of a load test, or of none; then `name` and `targetUrl` are needed."""

    load_test_id: Id | None = None


class ExternalRun(BaseModel):
    """A registered run, its push token, and the command line that starts it. The token is never shown again."""

    run: Run
    token: str
    command: str


class BaselineRuns(Record):
    """The runs that others are compared with, instead of those that are the baseline now."""

    run_ids: Items(Id, min_length=1, max_length=50)


class Listed(Query):
    """What all lists take."""

    text: Annotated[Name, Field(max_length=200)] | None = Field(
        default=None, description="Occurs in the name, description or notes, in any case."
    )
    tag: tuple[Name, ...] = Field(default=(), max_length=20, description="Has this tag; repeatable: has all of them.")
    sort: Literal["createdAt", "-createdAt", "updatedAt", "-updatedAt", "name", "-name"] = "-createdAt"
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(default=None, max_length=2000, description="`nextCursor` of the page before.")

    def filter(self) -> dict[str, Any]:
        """Give the MongoDB filter of these parameters."""
        return {"tags": {"$all": list(self.tag)}} if self.tag else {}

    def paging(self) -> dict[str, Any]:
        """Give what `page` of a repository takes."""
        return {"text": self.text, "sort": self.sort, "limit": self.limit, "cursor": self.cursor}


class OfScope(Listed):
    """A list across scopes; each part narrows it."""

    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    env_id: ScopePart | None = None

    def filter(self) -> dict[str, Any]:
        parts = {"account_id", "org_id", "project_id", "env_id"}
        return super().filter() | self.model_dump(include=parts, by_alias=True, exclude_none=True)


class LoadTestQuery(OfScope):
    """Which tests."""


class TestRunQuery(Listed):
    """Which runs of a test."""

    __test__ = False  # pytest: not a test class

    status: tuple[RunStatus, ...] = Field(default=(), max_length=20, description="Repeatable: has any of them.")

    def filter(self) -> dict[str, Any]:
        return super().filter() | ({"status": {"$in": list(self.status)}} if self.status else {})


class RunQuery(TestRunQuery, OfScope):
    """Which runs."""

    load_test_id: Id | None = None

    def filter(self) -> dict[str, Any]:
        return super().filter() | ({"loadTestId": self.load_test_id} if self.load_test_id else {})


class RevisionQuery(Query):
    """Which revisions of a script."""

    limit: int = Field(default=50, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(default=None, max_length=2000, description="`nextCursor` of the page before.")


class CompareQuery(Query):
    """What to compare a revision with."""

    against: str | None = Field(default=None, max_length=64, description="Number or id of the revision before it.")


class DeleteQuery(Query):
    """How far deleting goes."""

    cascade: bool = Field(default=False, description="Delete its runs too, with all their figures.")


class BaselineQuery(Query):
    """What to take out of a baseline."""

    run_id: tuple[Id, ...] = Field(default=(), max_length=50, description="Only this run; repeatable.")


class ComparedRevision(ScriptRevision):
    """A revision, and how it differs from the one that was asked for, as a unified diff."""

    against: int | None = None
    diff: str | None = None


class LoadTestPage(BaseModel):
    """Tests, and the cursor of the next page where there is one."""

    items: list[LoadTest]
    nextCursor: str | None = None  # noqa: N815 - as on the wire


class RunPage(BaseModel):
    """Runs, and the cursor of the next page where there is one."""

    items: list[RunEntry]
    nextCursor: str | None = None  # noqa: N815


class RevisionPage(BaseModel):
    """Revisions, newest first, and the cursor of the next page where there is one."""

    items: list[RevisionEntry]
    nextCursor: str | None = None  # noqa: N815


ClusterEntry: Any = _derive(
    "ClusterEntry",
    Cluster,
    [name for name in Cluster.model_fields if name not in UNTOLD],
    doc="A cluster that runs may be started on.",
)


class ClusterList(BaseModel):
    """The clusters that serve what the token is for."""

    items: list[ClusterEntry]


class Baseline(BaseModel):
    """The runs that others of the test are compared with, newest first."""

    items: list[RunEntry]


PlannedRunBody: Any = _derive(
    "NewPlannedRun",
    PlannedRun,
    PlannedRun.model_fields,
    optional=True,
    doc="How the runs of a schedule differ from the defaults of its test; `{}` for not at all.",
)
_ScheduleParts = _derive(
    "_ScheduleParts",
    Schedule,
    (
        *("name", "load_test_id", "cron", "timezone", "reports", "report_directory", "trend_days"),
        *("misfire", "grace_sec", "enabled"),
    ),
    doc="",
)


class NewSchedule(_ScheduleParts):
    """A schedule: runs of a test, reports, or both. Its reports go below the server's own directory of reports."""

    run: PlannedRunBody | None = None


class ScheduleChange(Record):
    """Whether a schedule fires. Switched on, it fires at its next time, not for what it missed."""

    enabled: bool


class ScheduleQuery(Query):
    """Which schedules."""

    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    env_id: ScopePart | None = None
    load_test_id: Id | None = None
    text: Annotated[Name, Field(max_length=200)] | None = Field(default=None, description="Occurs in the name.")
    sort: Literal["createdAt", "-createdAt", "updatedAt", "-updatedAt", "name", "-name"] = "name"
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(default=None, max_length=2000, description="`nextCursor` of the page before.")

    def filter(self) -> dict[str, Any]:
        """Give the MongoDB filter of these parameters."""
        parts = {"account_id", "org_id", "project_id", "env_id", "load_test_id"}
        return self.model_dump(include=parts, by_alias=True, exclude_none=True)

    def paging(self) -> dict[str, Any]:
        """Give what `page` of a repository takes."""
        return {"text": self.text, "sort": self.sort, "limit": self.limit, "cursor": self.cursor}


class SchedulePage(BaseModel):
    """Schedules, and the cursor of the next page where there is one."""

    items: list[Schedule]
    nextCursor: str | None = None  # noqa: N815


class FiringQuery(Query):
    """How much of a history."""

    limit: int = Field(default=50, ge=1, le=MAX_LIMIT)


FiringEntry: Any = _derive(
    "FiringEntry",
    Firing,
    [name for name in Firing.model_fields if name not in ("owner", "lease_expires_at")],
    doc="One firing of a schedule: when it was due, who took it, and what came of it. `reports` are names of files.",
)


class FiringList(BaseModel):
    """Firings, the newest first."""

    items: list[FiringEntry]
