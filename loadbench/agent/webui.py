"""Locust's own web interface beside a run that was launched with it: closed to other web pages, gone after the run."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import gevent

LINGER_S = 3.0
"""How long the interface stays after the end, so that its page learns of it."""


def guard(web_ui: Any) -> None:
    """Answer the interface's own pages only.

    Locust reflects every Origin and takes a plain form from anywhere, so any page in the same browser could stop the
    run or raise its users. The Host is checked too, against DNS rebinding.
    """
    import flask  # part of Locust; only there when its web interface is

    own = {f"{name}:{web_ui.port}" for name in ("127.0.0.1", "localhost")}

    @web_ui.app.before_request
    def refuse_strangers() -> None:
        origin = flask.request.headers.get("Origin")
        if flask.request.host not in own or (origin and urlsplit(origin).netloc not in own):
            flask.abort(403)


def close_soon(web_ui: Any) -> None:
    """Close the interface in a moment; Locust's process ends with it."""
    gevent.spawn_later(LINGER_S, web_ui.stop)
