"""The Locust script: read from where the user keeps it, and checked by Locust itself before it is stored."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from loadbench.errors import ScriptError
from loadbench.model import MAX_SCRIPT_BYTES

SCRIPT_NAME = "locustfile.py"
CHECK_TIMEOUT_S = 60
_LOG_LINE = re.compile(r"^\[\d{4}-\d\d-\d\d [\d:,]+\] \S+/(?P<level>[A-Z]+)/(?P<logger>[^:]+): (?P<text>.*)$")
_SCRIPT_FRAME = re.compile(rf'File "[^"]*{SCRIPT_NAME}", line (\d+)')
_ERROR_LINE = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning))(?:: (?P<text>.*))?$")


def read_script(script: str | Path) -> bytes:
    """Read a Locust script: a path, looked for in the working directory and then above it, or the source itself.

    Raises
    ------
    ScriptError
        If there is no such file; says where it was looked for.
    """
    if isinstance(script, str) and "\n" in script:
        return script.encode()
    path = Path(script).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / path).is_file():
            return (folder / path).read_bytes()
    raise ScriptError(
        f"no script {str(script)!r} in {here} or above it: give a path to a Locust script, or its source",
        field="script",
    )


def check_script(script: bytes) -> list[str]:
    """Answer "would Locust run this?" by letting Locust load it in a process of its own.

    Parameters
    ----------
    script : bytes
        The Locust script. Its module level is executed, as Locust itself would.

    Returns
    -------
    list of str
        The names of its User classes.

    Raises
    ------
    ScriptError
        If it does not compile, fails when it is imported, or defines no User class; says where.
    """
    check_size(script)
    try:
        compile(script, SCRIPT_NAME, "exec", dont_inherit=True)
    except (RecursionError, MemoryError):
        raise ScriptError("the script does not compile: it is nested too deeply", field="script") from None
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ScriptError(f"the script does not compile: {where}{reason}", field="script") from None
    with tempfile.TemporaryDirectory(prefix="loadbench-check-") as directory:
        (Path(directory) / SCRIPT_NAME).write_bytes(script)
        try:
            listing = subprocess.run(
                [sys.executable, "-m", "locust", "-f", SCRIPT_NAME, "--list"],
                cwd=directory,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ScriptError(
                f"the script takes over {CHECK_TIMEOUT_S} s to import: move slow work into on_start or a test_start "
                "listener",
                field="script",
            ) from None
    if listing.returncode != 0:
        reason = explain(listing.stdout + listing.stderr) or f"Locust ended with code {listing.returncode}"
        raise ScriptError(f"Locust cannot load the script: {reason}", field="script")
    names = [line.strip() for line in listing.stdout.partition("Available Users:")[2].splitlines() if line.strip()]
    if not names:
        raise ScriptError(
            "the script has no User class: define one, for example `class Shopper(HttpUser)` with a @task",
            field="script",
        )
    return names


def check_size(script: bytes) -> None:
    """Refuse a script that is larger than a request over REST may be."""
    if len(script) > MAX_SCRIPT_BYTES:
        raise ScriptError(
            f"the script has {len(script)} bytes, and may have at most {MAX_SCRIPT_BYTES} ({MAX_SCRIPT_BYTES // 1024} "
            "KiB): keep data in files of its own",
            field="script",
        )


def explain(output: str) -> str:
    """Find the one line of Locust's output that says why it ended: the script's own error, or Locust's last one."""
    lines = output.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        if match := _ERROR_LINE.match(lines[number].strip()):
            text = f"{match['kind']}: {match['text']}" if match["text"] else match["kind"]
            frames = _SCRIPT_FRAME.findall("\n".join(lines[max(0, number - 60) : number]))
            return f"line {frames[-1]}: {text}" if frames else text
    for line in reversed(lines):
        logged = _LOG_LINE.match(line)
        if logged and logged["level"] in ("ERROR", "CRITICAL"):
            return logged["text"]
    return ""


def clean_environment() -> dict[str, str]:
    """Give the environment without what would silently change a run: LOCUST_* and an outer run's LOADBENCH_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "LOADBENCH_"))}
