"""The guard: what goes wrong in the plugin is a warning and a gap, never a failed request."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


def guarded(handler: Callable[..., None]) -> Callable[..., None]:
    """Turn an exception of an event handler into a warning: Locust would end the process with code 2 for it."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            handler(*args, **kwargs)
        except Exception as error:
            kind = type(error).__name__
            log.warning("%s failed (%s: %s): the load goes on, figures may be missing", handler.__name__, kind, error)
            log.debug("%s failed", handler.__name__, exc_info=True)

    return call
