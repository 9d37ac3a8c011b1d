"""The collection `tokens`: who may push to which run, and who may use the API. Only the hash of a token is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from loadbench.errors import NotFound
from loadbench.model import ApiToken, now_ms
from loadbench.store.documents import NEWEST_FIRST, Documents


class Tokens:
    """Push tokens, each good for one run, and API tokens, each good for a scope and a role."""

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

    def create_api(self, token: ApiToken) -> tuple[ApiToken, str]:
        """Store an API token and make its secret. The secret is shown here once and can never be read again."""
        secret = f"lba_{secrets.token_urlsafe(32)}"
        document = token.to_mongo()
        document |= {"_id": _digest(secret), "tokenId": document["_id"], "kind": "api"}
        self._tokens.insert(document)
        return token, secret

    def find_api(self, secret: str) -> ApiToken | None:
        """Give the API token of a secret; None if it is none, or is revoked or expired."""
        digest = _digest(secret)
        document = self._tokens.one({"_id": digest, "kind": "api"})
        if document is None or not hmac.compare_digest(document["_id"].encode(), digest.encode()):
            return None
        token = _api_token(document)
        return token if token.is_good(now_ms()) else None

    def all_api(self) -> list[ApiToken]:
        """List the API tokens, newest first, the revoked and expired ones too."""
        return [_api_token(document) for document in self._tokens.many({"kind": "api"}, sort=NEWEST_FIRST)]

    def revoke_api(self, token_id: str) -> ApiToken:
        """Make an API token worthless, at once and for ever; a revoked one keeps the time at which it was.

        Raises
        ------
        NotFound
            If there is none with that id.
        """
        is_it = {"kind": "api", "tokenId": token_id}
        self._tokens.update(is_it | {"revokedAt": {"$exists": False}}, {"$set": {"revokedAt": now_ms()}})
        document = self._tokens.one(is_it)
        if document is None:
            raise NotFound(f"no token {token_id}: `loadbench token list` shows those there are")
        return _api_token(document)


def _api_token(document: dict[str, Any]) -> ApiToken:
    fields = {name: value for name, value in document.items() if name not in ("kind", "tokenId")}
    return ApiToken.from_mongo(fields | {"_id": document["tokenId"]})


def _digest(token: str) -> str:
    # A client may send any string, lone surrogates too; those are no reason for an error other than "unknown".
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
