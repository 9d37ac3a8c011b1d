"""The spool: what is to be sent lies on disk, in order, until the receiver has acknowledged it.

One sqlite file for each run. It never raises at its user: a full file drops its oldest interval and counts it, a
corrupt one is put aside, and if the disk fails altogether a short ring in memory takes over, with one warning. It holds
no token. One thread at a time may use a spool.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from loadbench.agent import wire

MAX_BYTES = 64 << 20
RING_SIZE = 120
PAGE_BYTES = 4096

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    run TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (run, source, kind, seq));
CREATE TABLE IF NOT EXISTS dead_letters (
    run TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,
    status INTEGER NOT NULL, detail TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (run, source, kind, seq));
"""
_OLDEST = "SELECT run, source, kind, seq, body FROM messages WHERE rowid > ? ORDER BY rowid LIMIT 1"
_ROWID = "SELECT rowid FROM messages WHERE run = ? AND source = ? AND kind = ? AND seq = ?"
_DELETE = "DELETE FROM messages WHERE run = ? AND source = ? AND kind = ? AND seq = ?"
_DROP = """
DELETE FROM messages WHERE rowid = (
    SELECT rowid FROM messages WHERE kind = ? AND NOT (run = ? AND source = ? AND kind = ? AND seq = ?)
    ORDER BY rowid LIMIT 1)
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Letter(NamedTuple):
    """One message: its key and its body, the same bytes at every attempt."""

    run: str
    source: str
    kind: str
    seq: int
    body: bytes

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self[:4]


class DeadLetter(NamedTuple):
    """A message that the receiver refused for good, and why."""

    run: str
    source: str
    kind: str
    seq: int
    status: int
    detail: str


class Spool:
    """The messages of one run that are not acknowledged yet, oldest first.

    Parameters
    ----------
    path : Path or str
        The sqlite file; it is made, readable by its owner only.
    max_bytes : int
        Size at which the oldest interval gives way to a new one.
    warn : callable
        Takes one line when something is lost or moved.

    Attributes
    ----------
    dropped : int
        How many intervals had to be given up by this process.
    """

    def __init__(
        self, path: Path | str, *, max_bytes: int = MAX_BYTES, warn: Callable[[str], None] = log.warning
    ) -> None:
        self.path = Path(path)
        self.dropped = 0
        self._max_pages = max(max_bytes // PAGE_BYTES, 16)
        self._warn = warn
        self._ring: deque[Letter] = deque()
        self._in_flight: tuple[str, str, str, int] | None = None
        self._gone = 0  # rows up to this rowid are done with, although the disk would not let go of them
        self._intervals = 0  # on disk: how many are lost if the file is
        self._failed = False
        self._db: sqlite3.Connection | None = None
        self._try(self._open)

    def __repr__(self) -> str:
        return f"<Spool {self.path.name}: {len(self)} waiting, {self.dropped} dropped>"

    def __len__(self) -> int:
        """Say how many messages wait."""
        query = "SELECT count(*) FROM messages WHERE rowid > ?"
        on_disk = self._try(lambda: self._db.execute(query, (self._gone,)).fetchone()[0])
        return (on_disk or 0) + len(self._ring)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, letter: Letter) -> None:
        """Keep a message. It is on disk when this returns, unless the disk fails."""
        if self._failed or not self._try(lambda: self._insert(letter)):
            self._remember(letter)

    def head(self) -> Letter | None:
        """Give the oldest message, and keep it safe from being dropped until the next call."""
        row = self._try(self._oldest)
        letter = Letter(*row) if row else (self._ring[0] if self._ring else None)
        self._in_flight = letter.key if letter else None
        return letter

    def delete(self, letter: Letter) -> None:
        """Forget a message that was acknowledged."""
        if self._ring and self._ring[0].key == letter.key:
            self._ring.popleft()
        else:
            self._try(lambda: self._remove(letter))

    def bury(self, letter: Letter, status: int, detail: str) -> None:
        """Put a message that was refused for good aside."""
        values = (*letter.key, letter.body, status, detail[:1000], time.time_ns() // 1_000_000)
        self._try(lambda: self._db.execute("INSERT OR REPLACE INTO dead_letters VALUES (?,?,?,?,?,?,?,?)", values))
        self.delete(letter)

    def dead_letters(self) -> list[DeadLetter]:
        """Give what was refused for good."""
        query = "SELECT run, source, kind, seq, status, detail FROM dead_letters ORDER BY rowid"
        return [DeadLetter(*row) for row in self._try(lambda: self._db.execute(query).fetchall()) or ()]

    def close(self, *, remove_if_empty: bool = False) -> None:
        """Close the file; what waits stays in it."""
        empty = remove_if_empty and not self._failed and not len(self) and not self.dead_letters()
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        self._failed = True
        if empty:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _open(self) -> bool:
        # An own file mode: sqlite gives its journals the mode of the file, and bodies name what was tested.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        # Autocommit. Used from one thread at a time, but not always the one that opened it.
        self._db = db = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA max_page_count = {self._max_pages}")
        db.executescript(_SCHEMA)
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise _damaged()
        self._intervals = db.execute("SELECT count(*) FROM messages WHERE kind = ?", (wire.METRICS,)).fetchone()[0]
        self._gone = 0
        return True

    def _try(self, action: Callable[[], Any]) -> Any:
        """Do something with the file; None if it cannot be done."""
        if self._failed and self._db is None:
            return None
        try:
            return action()
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _DAMAGED and self._set_aside(error):
                with contextlib.suppress(sqlite3.Error, OSError):
                    return action() if action != self._open else True
            self._fail(error)
        return None

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._warn(f"the spool {self.path} cannot be used ({error}): the last {RING_SIZE} intervals stay in memory")

    def _set_aside(self, error: Exception) -> bool:
        """Move a corrupt file out of the way and begin a new one."""
        lost, self._intervals = self._intervals, 0
        self.dropped += lost
        aside = self.path.with_name(self.path.name + ".corrupt")
        self._warn(f"the spool {self.path} is corrupt ({error}): moved to {aside.name}; {lost} intervals are lost")
        try:
            if self._db is not None:
                self._db.close()
        except sqlite3.Error:
            log.debug("closing a corrupt spool failed", exc_info=True)
        self._db = None
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return self._open()
        except (sqlite3.Error, OSError) as second:
            self._fail(second)
            return False

    def _insert(self, letter: Letter) -> bool:
        while True:
            try:
                done = self._db.execute("INSERT OR IGNORE INTO messages VALUES (?,?,?,?,?)", letter)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL or not self._drop_oldest():
                    raise
            else:
                self._intervals += done.rowcount * (letter.kind == wire.METRICS)
                return True

    def _drop_oldest(self) -> bool:
        """Give up the oldest interval that is not on its way: 'run began' and 'run ended' are worth more than any."""
        dropped = self._db.execute(_DROP, (wire.METRICS, *(self._in_flight or ("", "", "", -1)))).rowcount
        if dropped and not self.dropped:
            self._warn(f"the spool {self.path} is full: its oldest intervals are dropped until the receiver answers")
        self.dropped += dropped
        self._intervals -= dropped
        return bool(dropped)

    def _oldest(self) -> tuple[Any, ...] | None:
        return self._db.execute(_OLDEST, (self._gone,)).fetchone()

    def _remove(self, letter: Letter) -> None:
        try:
            removed = self._db.execute(_DELETE, letter.key).rowcount
            self._intervals -= removed * (letter.kind == wire.METRICS)
        except sqlite3.OperationalError:
            found = self._db.execute(_ROWID, letter.key).fetchone()
            self._gone = max(self._gone, found[0]) if found else self._gone
            raise

    def _remember(self, letter: Letter) -> None:
        if len(self._ring) >= RING_SIZE:
            old = next((kept for kept in self._ring if kept.kind == wire.METRICS and kept.key != self._in_flight), None)
            if old is not None:
                self._ring.remove(old)
                self.dropped += 1
        self._ring.append(letter)


def _damaged() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("its check failed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
