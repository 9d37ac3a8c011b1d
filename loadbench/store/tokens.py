"""The collection `tokens`: who may push to which run. Only the hash of a token is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from loadbench.model import now_ms
from loadbench.store.documents import Documents


class Tokens:
    """Push tokens, each good for one run."""

    def __init__(self, tokens: Documents) -> None:
        self._tokens = tokens

    def create_push(self, run_id: str) -> str:
        """Make a token for pushing to a run. It is shown here once and can never be read again."""
        token = f"lbp_{secrets.token_urlsafe(32)}"
        self._tokens.insert({"_id": _digest(token), "kind": "push", "runId": run_id, "createdAt": now_ms()})
        return token

    def run_of(self, token: str) -> str | None:
        """Say which run a token is for; None if it is not, or no longer, a token."""
        digest = _digest(token)
        document = self._tokens.one({"_id": digest, "kind": "push"}, fields=("_id", "runId"))
        if document is None or not hmac.compare_digest(document["_id"].encode(), digest.encode()):
            return None
        return document["runId"]

    def revoke(self, run_id: str) -> None:
        """Make all tokens of a run worthless."""
        self._tokens.delete({"runId": run_id})


def _digest(token: str) -> str:
    # A client may send any string, lone surrogates too; those are no reason for an error other than "unknown".
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
