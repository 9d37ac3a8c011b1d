"""Starting a run over HTTP: once for each `Idempotency-Key`, however often the request comes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from loadbench.errors import LoadbenchError, NotFound
from loadbench.model import LoadTest, LoadTestRun, new_id
from server.access import ApiHandler
from server.base import Refused, Service
from server.bodies import NewExternalRun, NewRun, OwnScope

KEY_HEADER = "Idempotency-Key"
MAX_KEY = 255
_POLL_S = 0.05
_WAIT_S = 4.0
_PARAMETERS = {"target_users": "users", "revision_number": "revision"}
"""What the control plane calls a field of the body, where it is something else."""


def parameters_of(body: NewRun | NewExternalRun) -> dict[str, Any]:
    """Give the parameters of a run that a body names, as the control plane calls them."""
    names = body.model_fields_set - set(OwnScope.model_fields) - {"load_test_id"}
    values = {_PARAMETERS.get(name, name): getattr(body, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


async def start_once(handler: ApiHandler, test: LoadTest, body: NewRun) -> tuple[LoadTestRun, bool]:
    """Start a run, or find the one that an earlier request with the same key has started.

    Returns
    -------
    LoadTestRun
    bool
        Whether it is new.
    """
    control = handler.control
    overrides = parameters_of(body) | {"by": handler.caller.name}
    key = handler.request.headers.get(KEY_HEADER)
    if key is None:
        return await handler.run_long(_start, handler.service, control, test, new_id("run"), overrides), True
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Refused(400, "invalid_input", f"give 1 to {MAX_KEY} ASCII characters as {KEY_HEADER}", field=KEY_HEADER)
    digest = hashlib.sha256(body.model_dump_json(exclude_none=True).encode()).hexdigest()
    deadline = time.monotonic() + _WAIT_S
    while True:
        run, is_new = await handler.run_long(_attempt, handler.service, control, test, key, digest, overrides)
        if run is not None:
            return run, is_new
        if time.monotonic() > deadline:
            raise Refused(
                409, "in_progress", "the first request with this key is still at work", headers={"Retry-After": "2"}
            )
        await asyncio.sleep(_POLL_S)


def _attempt(
    service: Service, control: Any, test: LoadTest, key: str, digest: str, overrides: dict[str, Any]
) -> tuple[LoadTestRun | None, bool]:
    """Start the run if the key is free, give the one that it has started, or nothing while that is being made."""
    keys = service.store.idempotency_keys
    claim = keys.claim(test.id, key, body_sha256=digest, run_id=new_id("run"))
    if claim.body_sha256 != digest:
        raise Refused(422, "key_reused", "this key came with another body before: use a new one", field=KEY_HEADER)
    if not claim.is_mine:
        if (run := _made(service, claim.run_id)) is not None:
            return run, False
        claim = keys.take_over(claim, run_id=new_id("run"))
        if claim is None:
            return None, False
    try:
        return _start(service, control, test, claim.run_id, overrides), True
    except (LoadbenchError, OSError):
        if _made(service, claim.run_id) is None:
            keys.release(claim)
        raise


def _start(service: Service, control: Any, test: LoadTest, run_id: str, overrides: dict[str, Any]) -> LoadTestRun:
    """Start a run; one that could not be started is given as well, as Failed, unless nothing was made."""
    try:
        return control.start_run(test, run_id=run_id, **overrides)
    except (LoadbenchError, OSError):
        if (run := _made(service, run_id)) is not None:
            return run
        raise


def _made(service: Service, run_id: str) -> LoadTestRun | None:
    try:
        return service.store.runs.get(run_id)
    except NotFound:
        return None
