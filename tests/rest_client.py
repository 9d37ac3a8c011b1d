"""The REST API's verbs as functions, as a program would use it with nothing but an HTTP library."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import requests

from loadbench.model import ApiToken, Scope
from loadbench.store import Store
from tests.builders import SCOPE
from tests.scripts import STEADY


@dataclass
class Client:
    """One token's view of a server."""

    url: str
    token: str | None

    def send(self, method: str, path: str, *, data: bytes | None = None, **options: Any) -> requests.Response:
        """Send a request; `json` or `data`, `params` and `headers` as in requests."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": "application/json"} if data is not None else {}
        headers |= options.pop("headers", {})
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, data=data, headers=headers, timeout=60, **options)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.send("GET", path, params=params)

    def post(self, path: str, body: Any = None, **headers: str) -> requests.Response:
        return self.send("POST", path, json=body, headers=headers)

    def put(self, path: str, body: Any, **headers: str) -> requests.Response:
        return self.send("PUT", path, json=body, headers=headers)

    def patch(self, path: str, body: Any, **headers: str) -> requests.Response:
        return self.send("PATCH", path, json=body, headers=headers)

    def delete(self, path: str, **params: Any) -> requests.Response:
        return self.send("DELETE", path, params=params)


def a_token(store: Store, role: str = "admin", *, scope: Scope | None = SCOPE, **changes: Any) -> str:
    """Make an API token for a project, or for everything if `scope` is None; give its secret."""
    parts = scope.model_dump(exclude={"env_id"}) if scope else {}
    return store.tokens.create_api(ApiToken.build(**({"name": f"a {role}", "role": role} | parts | changes)))[1]


def encoded(script: str | bytes = STEADY) -> str:
    return base64.b64encode(script.encode() if isinstance(script, str) else script).decode()


def a_definition(**changes: Any) -> dict[str, Any]:
    """The body of a test to define; the scope is that of the token."""
    return {"name": "products", "targetUrl": "http://127.0.0.1:8000"} | changes
