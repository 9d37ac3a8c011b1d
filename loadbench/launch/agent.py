"""`loadbench agent`: what a persistent master or worker needs before it becomes Locust."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from typing import NoReturn

from loadbench.agent import wire
from loadbench.errors import InvalidInput, ReceiverError
from loadbench.home import data_home, private_directory
from loadbench.launch.cluster import agent_token_path, is_loopback
from loadbench.launch.script import clean_environment

MIN_TOKEN = 16


def become_master(bind: str, *, web_port: int, worker_port: int) -> NoReturn:
    """Turn this process into a persistent master.

    Parameters
    ----------
    bind : str
        The address on which it takes runs and workers; 0.0.0.0 for all.
    web_port, worker_port : int
        Where it takes runs and where workers; 0 for a free one.

    Raises
    ------
    InvalidInput
        If other machines could reach it, and there is no token.
    ReceiverError
        If it cannot listen there.
    """
    token = _token(bind)
    for port in (web_port, worker_port):
        _check_free(bind, port)
    _become(["--master", "--bind", bind, "--web-port", str(web_port), "--worker-port", str(worker_port)], token=token)


def become_worker(master_host: str, *, master_port: int) -> NoReturn:
    """Turn this process into a worker of a persistent master; it waits for the master if it is not there yet.

    Raises
    ------
    InvalidInput
        If the master is on another machine, and there is no token.
    """
    token = _token(master_host)
    _become(["--worker", "--master-host", master_host, "--master-port", str(master_port)], token=token)


def _become(arguments: list[str], *, token: str) -> NoReturn:
    directory = private_directory(data_home() / "agent")
    command = [sys.executable, "-m", "loadbench.agent.host", *arguments, "--directory", str(directory)]
    # Locust takes single keys from a terminal as orders to add and stop users.
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), sys.stdin.fileno() if sys.stdin else 0)
    sys.stdout.flush()
    os.execve(sys.executable, command, clean_environment() | {wire.ENV_AGENT_TOKEN: token})  # noqa: S606


def _token(host: str) -> str:
    """Give the shared secret: from the environment, or on loopback one that is made once and kept in a file."""
    token = os.environ.get(wire.ENV_AGENT_TOKEN, "")
    if token and len(token) < MIN_TOKEN:
        raise InvalidInput(f"{wire.ENV_AGENT_TOKEN} must have at least {MIN_TOKEN} characters", field="token")
    if token:
        return token
    if not is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        raise InvalidInput(
            f"other machines can reach {host}: set {wire.ENV_AGENT_TOKEN} to a long random secret, the same for the "
            "master, its workers and the control plane",
            field="token",
        )
    path = agent_token_path()
    own = private_directory(path.parent) / f"token-{os.getpid()}"
    own.touch(mode=0o600)
    own.write_text(secrets.token_urlsafe(32))
    with contextlib.suppress(FileExistsError):
        os.link(own, path)  # of several at once one wins, and nobody reads half a token
        print(f"made a token for agents on this machine: {path}", flush=True)  # noqa: T201 - whoever starts it must see
    own.unlink()
    return path.read_text().strip()


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ReceiverError(f"the agent cannot listen on {host}:{port} ({reason}): choose another one") from None
