"""An order: the run that the control plane hands to a persistent master, as it came over HTTP, checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_SCRIPT_BYTES = 1 << 20
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class BadOrder(Exception):
    """A field that cannot be used, and why."""


class Busy(Exception):
    """Another run is on, or there is nobody to perform this one."""


@dataclass(frozen=True)
class Order:
    """One run: its script, where it pushes, and what Locust is to do."""

    run_id: str
    script: bytes = field(repr=False)
    sha256: str
    receiver_url: str
    push_token: str = field(repr=False)
    target_url: str
    users: int
    spawn_rate: float
    duration_s: float
    stop_timeout_s: float
    arguments: tuple[str, ...] = ()

    @classmethod
    def read(cls, body: Any) -> Order:
        """Check the body of a request, and that the script is the one whose hash came with it.

        Raises
        ------
        BadOrder
            Names the field.
        """
        if not isinstance(body, Mapping):
            raise BadOrder("the body must be a JSON object")
        order = cls(
            run_id=_text(body, "runId"),
            script=_script(body),
            sha256=_text(body, "sha256"),
            receiver_url=_url(body, "receiverUrl"),
            push_token=_text(body, "pushToken"),
            target_url=_url(body, "targetUrl"),
            users=int(_number(body, "users", most=1_000_000, whole=True)),
            spawn_rate=_number(body, "spawnRate", most=100_000),
            duration_s=_number(body, "durationSec", most=7 * 24 * 3600),
            stop_timeout_s=_number(body, "stopTimeoutSec", most=3600),
            arguments=_arguments(body),
        )
        if not _RUN_ID.fullmatch(order.run_id):
            raise BadOrder("runId must be letters, digits, - and _, at most 64")
        if hashlib.sha256(order.script).hexdigest() != order.sha256:
            raise BadOrder("sha256 is not that of the script: it was changed on its way")
        return order


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadOrder(f"{name} must be a string")
    return value


def _url(body: Mapping[str, Any], name: str) -> str:
    value = _text(body, name)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise BadOrder(f"{name} must be an http or https URL")
    return value


def _number(body: Mapping[str, Any], name: str, *, most: float, whole: bool = False) -> float:
    value = body.get(name)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not 0 < value <= most:
        raise BadOrder(f"{name} must be a {'whole ' if whole else ''}number above 0 and at most {most:g}")
    return value


def _script(body: Mapping[str, Any]) -> bytes:
    try:
        script = base64.b64decode(_text(body, "script"), validate=True)
    except (binascii.Error, ValueError):
        raise BadOrder("script must be base64") from None
    if len(script) > MAX_SCRIPT_BYTES:
        raise BadOrder(f"script must have at most {MAX_SCRIPT_BYTES} bytes")
    return script


def _arguments(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("arguments", [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadOrder("arguments must be a list of strings")
    return tuple(value)
