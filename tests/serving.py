"""A real `loadbench serve` in a process of its own, and what the kernel says of its memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from loadbench.store.database import ENV_URI
from tests.waiting import wait_until

_READY = re.compile(r"receiving on (http://127\.0\.0\.1:(\d+))")


class Server:
    """It is up when it is made; what it says goes to `log`."""

    def __init__(self, uri: str, log: Path) -> None:
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "loadbench.cli", "serve", "--port", "0"],
                env=os.environ | {ENV_URI: uri},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        said = wait_until(lambda: _READY.search(log.read_text()), within_s=30, message="`loadbench serve` is not up")
        self.url, self.port = said[1], int(said[2])

    def memory(self, name: str = "VmRSS") -> int:
        """Read `VmRSS`, or `VmHWM`, the most that it ever was, in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", text)[1])

    def forget_peak(self) -> None:
        """Let `VmHWM` begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(15)
