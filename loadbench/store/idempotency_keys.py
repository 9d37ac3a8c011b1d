"""The collection `idempotency_keys`: which run a request has started, so that repeating it starts no second one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pymongo.errors import DuplicateKeyError

from loadbench.model import now_ms
from loadbench.store.documents import Documents

KEPT_MS = 24 * 3600 * 1000
ABANDONED_MS = 90_000
"""A request that has made no run for so long will make none: its process died, or the run was deleted."""


@dataclass(frozen=True)
class Claim:
    """One request's key: for which run, of which body, and whether the caller is the one who is to start it."""

    id: str
    run_id: str
    body_sha256: str
    is_mine: bool


class IdempotencyKeys:
    """Keys that clients gave. Of several requests with one key, exactly one gets to start the run."""

    def __init__(self, keys: Documents) -> None:
        self._keys = keys

    def claim(self, test_id: str, key: str, *, body_sha256: str, run_id: str) -> Claim:
        """Take a key of a test for a run that is about to be made; or learn for which it is taken."""
        self._keys.delete({"expiresAt": {"$lt": now_ms()}})
        key_id = hashlib.sha256(f"{test_id}\0{key}".encode()).hexdigest()
        fields = {"runId": run_id, "bodySha256": body_sha256, "claimedAt": now_ms(), "expiresAt": now_ms() + KEPT_MS}
        while True:
            try:
                self._keys.insert({"_id": key_id, **fields})
            except DuplicateKeyError:
                known = self._keys.one({"_id": key_id}, fields=("runId", "bodySha256"))
                if known is not None:
                    return Claim(key_id, known["runId"], known["bodySha256"], is_mine=False)
                # released or expired in between: try again
            else:
                return Claim(key_id, run_id, body_sha256, is_mine=True)

    def take_over(self, claim: Claim, *, run_id: str) -> Claim | None:
        """Take the key of a request that was abandoned without a run; None if it is still young, or was taken."""
        old = {"_id": claim.id, "runId": claim.run_id, "claimedAt": {"$lt": now_ms() - ABANDONED_MS}}
        if self._keys.update(old, {"$set": {"runId": run_id, "claimedAt": now_ms()}}):
            return Claim(claim.id, run_id, claim.body_sha256, is_mine=True)
        return None

    def release(self, claim: Claim) -> None:
        """Give a key back: the request was refused before a run was made, and may be repeated."""
        self._keys.delete({"_id": claim.id, "runId": claim.run_id})
