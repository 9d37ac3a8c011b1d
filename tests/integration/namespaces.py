"""Whether this machine lets tests make network namespaces, and what is missing where it does not."""

from __future__ import annotations

import os
import shutil
import subprocess


def missing() -> str:
    """Try it on a namespace that is gone at once; say what is missing, or nothing."""
    if shutil.which("ip") is None:
        return "no ip (iproute2) on PATH"
    name = f"lbtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    try:
        if made.returncode == 0:
            inside = ["ip", "-n", name, "link", "add", "lbtry0", "type", "veth", "peer", "name", "lbtry1"]
            made = subprocess.run(inside, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return "" if made.returncode == 0 else f"network namespaces are not permitted: {made.stderr.strip()}"
