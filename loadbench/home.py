"""Where loadbench keeps its data on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from loadbench.errors import InvalidInput

ENV_HOME = "LOADBENCH_HOME"


def data_home() -> Path:
    """Give the data directory, made if need be and readable by its owner alone (mode 0700).

    `LOADBENCH_HOME`, else `$XDG_DATA_HOME/loadbench`, else `~/.local/share/loadbench`. It holds the embedded MongoDB
    and its password, the spools, and the directories of the runs.

    Raises
    ------
    InvalidInput
        If it cannot be made, or belongs to somebody else.
    """
    home = _named_home()
    try:
        return private_directory(home)
    except OSError as error:
        raise InvalidInput(
            f"data directory {home} cannot be used ({error.strerror}): set {ENV_HOME} to a directory of your own",
            field=ENV_HOME,
        ) from None


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can enter, or take that right from others on one that exists."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:
        path.chmod(0o700)
    return path


def _named_home() -> Path:
    named = os.environ.get(ENV_HOME)
    if named:
        return Path(named).expanduser().absolute()
    data = Path(os.environ.get("XDG_DATA_HOME") or "")
    # The XDG specification: a relative path in it is invalid and must be ignored.
    base = data if data.is_absolute() else Path.home() / ".local" / "share"
    return base / "loadbench"
