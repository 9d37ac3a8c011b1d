"""The processes that faults are done to: each is found by its own file or record, and looked at before it is hit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from loadbench.store.mongod import Mongod
from tests.notebook_kernel import Notebook
from tests.waiting import wait_until


def checked(pid: int, *words: str) -> int:
    """Give a pid back if its command line has all the words: no other process shall ever be hit."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    assert all(word in command for word in words), f"pid {pid} is {command!r}"
    return pid


def mongod_pid(own: Mongod) -> int:
    return checked(int((own.data / "mongod.lock").read_text()), "mongod", str(own.data))


def kernel_pid(notebook: Notebook) -> int:
    return checked(notebook.pid, "ipykernel", notebook.manager.connection_file)


def leader_pid(pid: int) -> int:
    """The master or local runner of a run, by the pid in its record."""
    return checked(pid, "loadbench.agent", "locustfile.py")


def worker_pids(leader: int) -> list[int]:
    children = psutil.Process(leader_pid(leader)).children()
    return [checked(child.pid, "loadbench.agent", "--worker") for child in children]


def kill(pid: int) -> None:
    """Send SIGKILL, and wait until the process is gone, or a zombie that somebody has to notice."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_dead(process), within_s=10, message=f"{pid} survived SIGKILL")


def is_dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process with SIGSTOP for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def crash(own: Mongod) -> None:
    """Kill mongod, and start it again on the same data and port."""
    uri = own.find_or_start()
    kill(mongod_pid(own))
    assert own.find_or_start() == uri, "the crashed mongod came back elsewhere"
