"""The records: one frozen pydantic model for each, the same in MongoDB, over REST and in the notebook.

Field names are camelCase outside and snake_case here. Times are Unix milliseconds (int64) unless a name says otherwise.
In MongoDB the field `id` is `_id`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from loadbench.agent import wire
from loadbench.errors import InvalidInput

INT64_MAX = 2**63 - 1
EARLIEST_MS = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)
LATEST_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)
RECENT_RUNS = 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def now_ms() -> int:
    """Give the wall clock in Unix milliseconds: a label, never the base of a duration."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str) -> str:
    """Make an id such as `run-5d1c0e9f2a7b4c38`: readable, unguessable, without a colon."""
    return f"{prefix}-{secrets.token_hex(8)}"


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _plausible_ms(value: int) -> int:
    if 0 < value < EARLIEST_MS:
        raise ValueError("looks like seconds; give Unix milliseconds")
    if value >= LATEST_MS:
        raise ValueError("is not a plausible time in Unix milliseconds")
    return value


def _storable_numbers(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > INT64_MAX:
            raise ValueError(f"{name!r} is a number of more than 64 bits")
    return values


Millis = Annotated[int, Field(ge=1, le=INT64_MAX), AfterValidator(_plausible_ms)]
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=wire.MAX_NAME), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=10_000)]
MetadataKey = Annotated[str, Field(pattern=r"^[^$.][^.]*$", max_length=wire.MAX_NAME), AfterValidator(_printable)]
Metadata = Annotated[
    dict[MetadataKey, str | int | float | bool], Field(max_length=100), AfterValidator(_storable_numbers)
]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+[^\s]*$", max_length=2000)]
ScopePart = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
UserCount = Annotated[int, Field(ge=1, le=1_000_000)]
SpawnRate = Annotated[float, Field(gt=0, le=100_000, strict=False)]
Seconds = Annotated[int, Field(ge=1, le=7 * 24 * 3600)]
WorkerCount = Annotated[int, Field(ge=0, le=1000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ScriptArgument = Annotated[str, Field(pattern=r"^--[A-Za-z][A-Za-z0-9_-]{0,63}(=.*)?$", max_length=1000)]
"""One of a script's own command line arguments, as `--shop=corner`."""
Source = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def Items(item: Any, **limits: Any) -> Any:  # noqa: N802 - reads as a type
    """A tuple of `item` that may arrive as a JSON or BSON array."""
    return Annotated[tuple[item, ...], Field(strict=False, **limits)]


class Record(BaseModel):
    """What all records share: frozen, strict, no unknown fields, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
    )

    def to_mongo(self) -> dict[str, Any]:
        """Give the MongoDB document: camelCase names, `id` as `_id`, absent values left out."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        if "id" in document:
            document["_id"] = document.pop("id")
        return document

    @classmethod
    def from_mongo(cls, document: dict[str, Any]) -> Self:
        """Read a MongoDB document that `to_mongo` wrote."""
        fields = dict(document)
        if "_id" in fields:
            fields["id"] = fields.pop("_id")
        return cls.model_validate(fields)

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Make a record, or raise InvalidInput with one line that names the first field that is wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise invalid_input(error) from None


PARAMETERS = {
    "default_users": "users",
    "default_spawn_rate": "spawn_rate",
    "default_duration_sec": "duration",
    "max_duration_sec": "max_duration",
    "target_users": "users",
    "duration_sec": "duration",
}
"""What callers call the fields that they give as parameters of a test or a run."""


def invalid_input(error: ValidationError, names: Mapping[str, str] | None = None) -> InvalidInput:
    """Turn pydantic's report into one line about its first finding; `names` says what the caller calls a field."""
    first = error.errors(include_url=False)[0]
    field = ".".join((names or {}).get(str(part), str(part)) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = first.get("input")
    shown = f"; not {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) < 80 else ""
    head = f"{field} " if first["msg"].startswith("Input ") else f"{field}: " if field else ""
    return InvalidInput(f"{head}{message}{shown}", field=field or None)


class Scope(Record):
    """Whose things these are: account > organisation > project, and optionally an environment."""

    account_id: ScopePart
    org_id: ScopePart
    project_id: ScopePart
    env_id: ScopePart | None = None

    @classmethod
    def parse(cls, text: str, env: str | None = None) -> Scope:
        """Read `account/organisation/project`."""
        parts = text.split("/")
        if len(parts) != 3:
            raise InvalidInput(
                f"scope must read account/organisation/project, for example acme/shop/checkout; not {text!r}",
                field="scope",
            )
        return cls.build(account_id=parts[0], org_id=parts[1], project_id=parts[2], env_id=env)

    def __str__(self) -> str:
        path = f"{self.account_id}/{self.org_id}/{self.project_id}"
        return f"{path} ({self.env_id})" if self.env_id else path


ClusterKind = Literal["local", "cluster", "external"]


class Cluster(Record):
    """Where runs are performed: fresh Locust processes here, a persistent master somewhere, or by somebody else's hand.

    The scope is what it serves; a part that is left out means all. `token_env` names the environment variable that
    holds the secret of a persistent master: the secret itself stands in no file.
    """

    id: Id
    kind: ClusterKind = "cluster"
    base_url: Url | None = None
    workers: WorkerCount = 0
    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    env_id: ScopePart | None = None
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] = wire.ENV_AGENT_TOKEN

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "cluster" and self.base_url is None:
            raise ValueError(f"cluster {self.id} needs baseUrl, the URL that its `loadbench agent --master` prints")
        if self.kind != "cluster" and self.base_url is not None:
            raise ValueError(f"cluster {self.id} is {self.kind}: only the kind cluster has a baseUrl")
        if self.kind != "local" and self.workers:
            raise ValueError(f"cluster {self.id} is {self.kind}: only the kind local has a number of workers")
        path = (self.account_id, self.org_id, self.project_id)
        if any(part is None and below is not None for part, below in pairwise(path)):
            raise ValueError(f"the scope of cluster {self.id} is given from the top: account, organisation, project")
        if self.env_id is not None and self.account_id is None:
            raise ValueError(f"the scope of cluster {self.id} has an environment, but no account")
        return self

    def __str__(self) -> str:
        parts = [self.account_id, self.org_id, self.project_id]
        serves = "/".join(part for part in parts if part) + (f" ({self.env_id})" if self.env_id else "")
        where = f" at {self.base_url}" if self.base_url else ""
        return f"{self.id} [{self.kind}{where}]" + (f" for {serves}" if serves else "")


class RunStatus(StrEnum):
    """Where a run stands. Moves are in `TRANSITIONS`; each is one compare-and-set in MongoDB."""

    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    FINISHED = "Finished"
    STOPPED = "Stopped"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        return self in (RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED)


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.STOPPING, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset({RunStatus.FINISHED, RunStatus.STOPPING, RunStatus.FAILED}),
    RunStatus.STOPPING: frozenset({RunStatus.STOPPED, RunStatus.FAILED}),
    RunStatus.FINISHED: frozenset(),
    RunStatus.STOPPED: frozenset(),
    # Only for a run that was given up as lost, when its spool arrives after all (store.load_test_runs.recover).
    RunStatus.FAILED: frozenset({RunStatus.FINISHED, RunStatus.STOPPED}),
}

Origin = Literal["launched", "external", "imported", "synthetic"]
StopReason = Literal["duration", "user", "gate", "shape", "script", "workers-lost", "error", "lost"]
Completeness = Literal["complete", "gaps", "unknown"]


class Audited(Record):
    """Who made a record and who changed it last."""

    created_at: Millis = Field(default_factory=now_ms)
    created_by: Name = "unknown"
    updated_at: Millis = Field(default_factory=now_ms)
    updated_by: Name = "unknown"


class Scoped(Record):
    """The scope fields of a stored record."""

    account_id: ScopePart
    org_id: ScopePart
    project_id: ScopePart
    env_id: ScopePart | None = None

    @property
    def scope(self) -> Scope:
        return Scope(account_id=self.account_id, org_id=self.org_id, project_id=self.project_id, env_id=self.env_id)


Role = Literal["viewer", "runner", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "runner", "admin")
"""Each may do what those before it may: a viewer reads, a runner also starts, stops, writes; an admin also deletes."""


class ApiToken(Record):
    """Who may ask over REST, for what, and until when. The secret itself is kept nowhere, only its hash.

    A part of the scope that is left out means all: a token of an account is good for all of its organisations.
    """

    id: Id = Field(default_factory=lambda: new_id("tok"))
    name: Name
    role: Role
    account_id: ScopePart | None = None
    org_id: ScopePart | None = None
    project_id: ScopePart | None = None
    created_at: Millis = Field(default_factory=now_ms)
    created_by: Name = "unknown"
    expires_at: Millis | None = None
    revoked_at: Millis | None = None

    @model_validator(mode="after")
    def _from_the_top(self) -> Self:
        if (self.project_id and not self.org_id) or (self.org_id and not self.account_id):
            raise ValueError("a scope is given from the top: account, account/organisation or all three")
        return self

    @property
    def scope_filter(self) -> dict[str, str]:
        """The parts of the scope that a record must have, by their names in MongoDB; empty for all."""
        return self.model_dump(by_alias=True, exclude_none=True, include={"account_id", "org_id", "project_id"})

    def allows(self, record: Scoped) -> bool:
        """Say whether a record is within the scope of this token."""
        mine = (self.account_id, self.org_id, self.project_id)
        theirs = (record.account_id, record.org_id, record.project_id)
        return all(part is None or part == other for part, other in zip(mine, theirs, strict=True))

    def may(self, role: Role) -> bool:
        """Say whether its role covers another one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def is_good(self, at_ms: int) -> bool:
        """Say whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or at_ms < self.expires_at)


class RecentRun(Record):
    """One entry of `recentRuns` on a test."""

    run_id: Id
    name: Name
    status: Annotated[RunStatus, Field(strict=False)]
    created_at: Millis
    finished_at: Millis | None = None


class LoadTest(Scoped, Audited):
    """Everything needed to run a test, defined once."""

    id: Id = Field(default_factory=lambda: new_id("test"))
    name: Name
    description: Text = ""
    tags: Items(Name, max_length=50) = ()
    cluster_id: Id | None = None
    target_url: Url
    latest_revision_id: Id | None = None
    latest_revision_number: Count = 0
    default_users: UserCount = 1
    default_spawn_rate: SpawnRate = 1.0
    default_duration_sec: Seconds = 60
    max_duration_sec: Seconds = 3600
    gates: Items(Name, max_length=50) = ()
    baseline_run_ids: Items(Id, max_length=50) = ()
    recent_runs: Items(RecentRun, max_length=RECENT_RUNS) = ()
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _within_its_own_maximum(self) -> Self:
        if self.default_duration_sec > self.max_duration_sec:
            raise ValueError(
                f"defaultDurationSec {self.default_duration_sec} s is over maxDurationSec {self.max_duration_sec} s"
            )
        return self


class RevisionEntry(Audited):
    """A revision as it stands in a list: all but the script itself."""

    id: Id = Field(default_factory=lambda: new_id("rev"))
    load_test_id: Id
    revision_number: Annotated[int, Field(ge=1, le=INT64_MAX)]
    sha256: Sha256
    description: Text = ""


class ScriptRevision(RevisionEntry):
    """A Locust script as it was at one moment. Never edited: an edit is a new revision."""

    script_content: Annotated[str, Field(max_length=1_400_000)]

    @model_validator(mode="after")
    def _content_matches_hash(self) -> Self:
        try:
            content = base64.b64decode(self.script_content, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("scriptContent must be base64") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError("sha256 is not that of scriptContent")
        return self

    @property
    def script(self) -> bytes:
        """The script itself, byte for byte."""
        return base64.b64decode(self.script_content)


class Endpoint(Record):
    """What requests are grouped by: never the name alone."""

    method: Annotated[str, Field(max_length=32), AfterValidator(_printable)]
    name: Name

    def __str__(self) -> str:
        return f"{self.method} {self.name}".strip()


class RunProcess(Record):
    """Where the run's Locust processes are, so that they are found again after a kernel restart."""

    host: Name
    pid: Annotated[int, Field(ge=1, le=INT64_MAX)]
    create_time: float
    directory: Annotated[str, Field(max_length=4096)]


class SourceState(Record):
    """What one source of pushes said of its end: with it, `completeness` can be decided."""

    source: Source
    last_seq: Count
    requests: Count
    failures: Count
    dropped: Count = 0


class Gap(Record):
    """Intervals that never arrived."""

    source: Source
    from_seq: Count
    to_seq: Count
    requests: Count | None = None


class LastMetrics(Record):
    """The latest interval's totals, for lists and cards."""

    timestamp: Millis
    users: Count
    total_rps: float
    errors_per_sec: float
    p50_ms: float | None = Field(default=None, alias="p50Ms")
    p95_ms: float | None = Field(default=None, alias="p95Ms")
    p99_ms: float | None = Field(default=None, alias="p99Ms")
    cum_requests: Count
    cum_failures: Count


class RunEnvironment(Record):
    """What the run really ran on, as its agent reported it."""

    locust: Name
    python: Name
    host: Name
    workers: WorkerCount
    user_classes: Items(Name) = ()
    script_sha256: Sha256
    worker_sha256s: Items(Sha256, max_length=10) = Field(default=(), alias="workerSha256s")


WindowName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


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


class LoadTestRun(Scoped, Audited):
    """One execution of a test.

    `windows` are those that a person has set; `gates` those of its test when it started, and `gate_broken` the one that
    stopped it. `late_intervals` counts what arrived after its end: what was computed from its intervals before is old.
    """

    id: Id = Field(default_factory=lambda: new_id("run"))
    load_test_id: Id | None = None
    script_revision_id: Id | None = None
    revision_number: Count | None = None
    name: Name
    cluster_id: Id | None = None
    target_url: Url
    target_users: UserCount
    spawn_rate: SpawnRate
    duration_sec: Seconds
    workers: WorkerCount = 0
    arguments: Items(ScriptArgument, max_length=100) = ()
    origin: Origin = "launched"
    status: Annotated[RunStatus, Field(strict=False)] = RunStatus.PENDING
    stop_reason: StopReason | None = None
    error: Text | None = None
    completeness: Completeness = "unknown"
    gaps: Items(Gap) = ()
    started_at: Millis | None = None
    stop_requested_at: Millis | None = None
    finished_at: Millis | None = None
    purged_at: Millis | None = None
    lease_expires_at: Millis | None = None
    receiver_url: Url | None = None
    web_url: Annotated[Url | None, Field(description="Locust's own web interface, while the run goes on.")] = None
    clock_skew_ms: int | None = None
    workers_lost: Count = 0
    last_metrics: LastMetrics | None = None
    endpoints: Items(Endpoint) = ()
    sources: Items(SourceState) = ()
    windows: Items(Window, max_length=20) = ()
    gates: Items(Name, max_length=50) = ()
    gate_broken: Name | None = None
    late_intervals: Count = 0
    environment: RunEnvironment | None = None
    process: RunProcess | None = None
    notes: Text = ""
    tags: Items(Name, max_length=50) = ()
    metadata: Metadata = {}

    @property
    def is_over(self) -> bool:
        return self.status.is_final


class ErrorCount(Record):
    """How often a message came from an endpoint within an interval."""

    endpoint: Count
    message: str
    n: Count


class Interval(Record):
    """One interval as it is stored: a struct of arrays. `endpoints` are indices into the run's endpoint list."""

    id: str
    run_id: Id
    source: Source
    seq: Count
    timestamp: datetime
    duration_ms: float
    users: Count
    workers: WorkerCount
    workers_expected: WorkerCount
    requests: Count
    failed: Count
    total_rps: float
    errors_per_sec: float
    error_rate: float
    avg_ms: float | None = None
    p50_ms: float | None = Field(default=None, alias="p50Ms")
    p95_ms: float | None = Field(default=None, alias="p95Ms")
    p99_ms: float | None = Field(default=None, alias="p99Ms")
    cum_requests: Count
    cum_failures: Count
    dropped: Count = 0
    cpu_percent: float | None = None
    final: bool = False
    endpoints: Items(Count)
    n: Items(Count)
    failures: Items(Count)
    untimed: Items(Count)
    sum_ms: Items(float)
    failed_sum_ms: Items(float)
    min_ms: Items(float)
    max_ms: Items(float)
    bytes: Items(Count)
    histograms: bytes
    errors: Items(ErrorCount) = ()
    received_at: Millis
    body_sha256: Sha256

    @staticmethod
    def key(run_id: str, source: str, seq: int) -> str:
        """Give the ledger's unique key. A string: a sub-document with its fields in another order is another key."""
        return f"{run_id}:{source}:{seq}"


def script_arguments(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Write values for a script's own arguments as its command line: `{"shop": "corner"}` is `--shop=corner`.

    True gives the bare option, False and None none at all.
    """
    given = {name.replace("_", "-"): value for name, value in values.items()}
    return tuple(
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    )


_DURATION = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?$")


def duration_sec(value: str | int | float) -> int:
    """Read a duration: `90`, `"90s"`, `"1m30s"`, `"2h"`.

    Returns
    -------
    int
        Seconds, at least 1.

    Raises
    ------
    InvalidInput
        If it is not a duration, or below one second.
    """
    seconds: int | None = None
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match and any(match.groups()):
            hours, minutes, rest = (int(part or 0) for part in match.groups())
            seconds = 3600 * hours + 60 * minutes + rest
    elif not isinstance(value, bool) and value == int(value):
        seconds = int(value)
    if seconds is None or seconds < 1:
        raise InvalidInput(
            f"duration must be whole seconds or read like 90s, 1m30s or 2h, at least 1s; not {value!r}",
            field="duration",
        )
    return seconds
