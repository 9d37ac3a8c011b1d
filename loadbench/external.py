"""External runs: registered here, started by somebody else, wherever Locust and this package are installed."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from loadbench.agent import wire
from loadbench.analysis.gates import canonical
from loadbench.errors import InvalidInput
from loadbench.launch.base import STOP_TIMEOUT_S
from loadbench.model import LoadTest, LoadTestRun, Scope

START_WITHIN_S = 3600
"""How long a registered run waits for somebody to start it; then it is Failed, and its token worthless."""


class Registration(NamedTuple):
    """A registered run, its push token, and the command to start Locust with. The token can never be read again."""

    run: LoadTestRun
    token: str
    command: str

    def __repr__(self) -> str:
        return f"<Registration of {self.run.id}: print its .command, the only time that its token can be read>"


def external_run(
    owner: LoadTest | Scope,
    *,
    by: str,
    receiver_url: str,
    name: str | None = None,
    target_url: str | None = None,
    users: int | None = None,
    spawn_rate: float | None = None,
    duration_sec: int | None = None,
    notes: str = "",
    tags: tuple[str, ...] = (),
    gates: tuple[str, ...] | None = None,
) -> LoadTestRun:
    """Make the record of a run that somebody else starts; what is left out is inherited from the test, if it has one.

    Raises
    ------
    InvalidInput
        If a value is wrong, over the test's maximum duration, or missing because there is no test.
    """
    test = owner if isinstance(owner, LoadTest) else None
    for field, value in (("name", name), ("target_url", target_url)):
        if test is None and not value:
            raise InvalidInput(f"{field} is needed for a run that is of no test: give it, or name a test", field=field)
    run = LoadTestRun.build(
        **(test.scope if test else owner).model_dump(),
        load_test_id=test.id if test else None,
        origin="external",
        name=name or test.name,
        target_url=target_url or test.target_url,
        target_users=users if users is not None else test.default_users if test else 1,
        spawn_rate=spawn_rate if spawn_rate is not None else test.default_spawn_rate if test else 1.0,
        duration_sec=duration_sec if duration_sec is not None else test.default_duration_sec if test else 60,
        notes=notes,
        tags=tags,
        gates=canonical(gates) if gates is not None else test.gates if test else (),
        receiver_url=receiver_url,
        created_by=by,
        updated_by=by,
    )
    if test and run.duration_sec > test.max_duration_sec:
        raise InvalidInput(
            f"duration {run.duration_sec} s is over the maximum of {test.name!r}, {test.max_duration_sec} s: "
            "shorten it, or raise max_duration of the test",
            field="duration",
        )
    return run


def command_line(run: LoadTestRun, token: str) -> str:
    """Give the shell command that starts a registered run; the token is in its environment, never an argument."""
    environment = {
        wire.ENV_RECEIVER_URL: run.receiver_url or "",
        wire.ENV_RUN_ID: run.id,
        wire.ENV_TOKEN: token,
        wire.ENV_DURATION_S: str(run.duration_sec),
    }
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    words += ["python", "-m", "loadbench.agent", "-f", "locustfile.py", "--headless"]
    words += ["--users", str(run.target_users), "--spawn-rate", f"{run.spawn_rate:g}"]
    words += ["--host", shlex.quote(run.target_url), "--stop-timeout", str(STOP_TIMEOUT_S)]
    return " ".join(words)
