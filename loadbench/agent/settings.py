"""The settings that a launcher passes to a Locust process, in its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from loadbench.agent import wire


@dataclass(frozen=True)
class Settings:
    """What the launcher passes in the environment."""

    run_id: str
    url: str
    token: str = field(repr=False)
    spool: Path
    duration_s: float | None
    workers: int
    web_ui: bool = False

    @classmethod
    def take(cls) -> Settings | None:
        """Read the environment; None if this process has no run. The token is taken out: no child shall inherit it."""
        run_id = os.environ.get(wire.ENV_RUN_ID)
        if not run_id:
            return None
        duration = os.environ.get(wire.ENV_DURATION_S)
        return cls(
            run_id=run_id,
            url=os.environ.get(wire.ENV_RECEIVER_URL, ""),
            token=os.environ.pop(wire.ENV_TOKEN, ""),
            spool=Path(os.environ.get(wire.ENV_SPOOL) or f"{run_id}.db").absolute(),
            duration_s=float(duration) if duration else None,
            workers=int(os.environ.get(wire.ENV_WORKERS) or 0),
            web_ui=os.environ.get(wire.ENV_WEB_UI) == "1",
        )
