"""The desk: the routes under which a persistent master takes orders. Locust's own routes are closed.

Every request needs `Authorization: Bearer <agent token>`. Errors are `{"title", "status", "detail"}`.
"""

from __future__ import annotations

import hashlib
import hmac
import platform
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import locust
import requests

from loadbench.agent import wire
from loadbench.agent.order import BadOrder, Busy, Order
from loadbench.agent.sender import plain_session

if TYPE_CHECKING:
    from flask import Flask

    from loadbench.agent.host import Host, Run

REACH_WITHIN_S = 2.0
MAX_BODY_BYTES = 4 << 20

Answer = tuple[dict[str, Any], int]


class Desk:
    """Takes orders over HTTP for a host, from whoever knows the token."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(f"Bearer {token}")
        self._host: Host | None = None

    def open(self, app: Flask) -> None:
        """Add the routes, and close all others. Before the first request: Flask takes no routes after it."""
        import flask  # part of Locust; only loaded where there is a web interface

        self._request = flask.request
        app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
        app.before_request(self._check)
        prefix = wire.AGENT_PREFIX
        app.add_url_rule(f"{prefix}/state", "lb_state", self._state)
        app.add_url_rule(f"{prefix}/reach", "lb_reach", self._reach, methods=["POST"])
        app.add_url_rule(f"{prefix}/runs", "lb_start", self._start, methods=["POST"])
        app.add_url_rule(f"{prefix}/runs/<run_id>", "lb_run", self._run)
        app.add_url_rule(f"{prefix}/runs/<run_id>/stop", "lb_stop", self._stop, methods=["POST"])
        app.add_url_rule(f"{prefix}/runs/<run_id>/deliver", "lb_deliver", self._deliver, methods=["POST"])

    def serve(self, host: Host) -> None:
        self._host = host

    def _check(self) -> Answer | None:
        """Let nobody in without the token, and nobody at all to Locust's own routes."""
        request = self._request
        if "Origin" in request.headers:
            return _problem(403, "orders do not come from web pages")
        if not hmac.compare_digest(_digest(request.headers.get("Authorization", "")), self._digest):
            return _problem(401, f"this needs the {wire.ENV_AGENT_TOKEN} that the agent was started with")
        if not request.path.startswith(f"{wire.AGENT_PREFIX}/"):
            return _problem(404, "Locust's own web interface is closed here: runs are started by loadbench")
        if request.method == "POST" and not isinstance(request.get_json(silent=True), dict):
            return _problem(400, "the body must be a JSON object")
        return None

    def _state(self) -> Answer:
        host, current = self._host, self._host.current
        return {
            "protocol": wire.AGENT_PROTOCOL,
            "host": platform.node(),
            "locust": locust.__version__,
            "python": platform.python_version(),
            "workers": [_member(member) for member in host.crew.present()],
            "refused": [member.refused for member in host.crew.refused()],
            "run": _run(current) if current else None,
        }, 200

    def _reach(self) -> Answer:
        """Answer whether this machine reaches a receiver and a target; empty strings mean that it does."""
        body = self._request.get_json()
        receiver, target = body.get("receiverUrl"), body.get("targetUrl")
        if not isinstance(receiver, str) or not isinstance(target, str):
            return _problem(400, "receiverUrl and targetUrl must be strings")
        return {"host": platform.node(), "receiver": healthy(receiver), "target": connects(target)}, 200

    def _start(self) -> Answer:
        try:
            order = Order.read(self._request.get_json())
            run = self._host.take(order)
        except BadOrder as error:
            return _problem(400, str(error))
        except Busy as error:
            return _problem(409, str(error))
        return _run(run), 202

    def _run(self, run_id: str) -> Answer:
        run = self._host.runs.get(run_id)
        return _unknown(run_id) if run is None else (_run(run), 200)

    def _stop(self, run_id: str) -> Answer:
        run = self._host.runs.get(run_id)
        if run is None:
            return _unknown(run_id)
        self._host.stop(run, by_force=self._request.get_json().get("force") is True)
        return _run(run), 202

    def _deliver(self, run_id: str) -> Answer:
        body = self._request.get_json()
        receiver, token = body.get("receiverUrl"), body.get("pushToken")
        if not isinstance(receiver, str) or not isinstance(token, str):
            return _problem(400, "receiverUrl and pushToken must be strings")
        return {"delivered": self._host.deliver(run_id, receiver_url=receiver, push_token=token)}, 200


def healthy(receiver_url: str) -> str:
    """Ask a receiver for its health; say what is wrong, or nothing."""
    try:
        with plain_session() as session:
            answer = session.get(f"{receiver_url.rstrip('/')}/healthz", timeout=REACH_WITHIN_S, allow_redirects=False)
        healthy = answer.status_code == 200 and answer.json().get("status") == "ok"
    except requests.ConnectionError as error:
        return _reason(error)
    except (requests.RequestException, ValueError, AttributeError) as error:
        return type(error).__name__
    return "" if healthy else f"something answers {answer.status_code} there, but it is not a healthy receiver"


def connects(url: str) -> str:
    """Try whether something accepts connections at a URL; say what is wrong, or nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=REACH_WITHIN_S).close()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _reason(error: requests.ConnectionError) -> str:
    text = str(error)
    known = (
        "Connection refused",
        "No route to host",
        "Network is unreachable",
        "Name or service not known",
        "timed out",
    )
    return next((reason for reason in known if reason in text), "no connection")


def _run(run: Run) -> dict[str, Any]:
    order, life = run.order, run.life
    return {
        "runId": order.run_id,
        "state": run.state,
        "error": run.error,
        "worker": run.worker,
        "sha256": order.sha256,
        "undelivered": life.undelivered if life is not None and run.state == "delivering" else 0,
    }


def _member(member: Any) -> dict[str, Any]:
    return {
        "host": member.host,
        "pid": member.pid,
        "locust": member.locust,
        "python": member.python,
        "runId": member.run_id if member.has_script else None,
        "sha256": member.sha256 if member.has_script else None,
    }


def _problem(status: int, detail: str) -> Answer:
    return {"title": detail, "status": status, "detail": detail}, status


def _unknown(run_id: str) -> Answer:
    return _problem(404, f"this master knows nothing of {run_id}: it was started after that run, or never got it")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
