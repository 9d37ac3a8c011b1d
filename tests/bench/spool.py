"""What it costs to keep an interval on disk before it is sent, against writing the same bytes and fsync."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from loadbench.agent.spool import Letter, Spool
from tests.bench.timing import tell, timed_ms

BODY_BYTES = 40_000
TIMES = 500


def letters(body: bytes) -> Iterator[Letter]:
    return (Letter("run-bench", "local-bench", "metrics", seq, body) for seq in range(TIMES + 1))


def written(file: int, body: bytes) -> None:
    os.write(file, body)
    os.fsync(file)


def told(what: str, call: Callable[[], object], goal: str = "") -> None:
    taken = timed_ms(call, TIMES)
    tell(f"{what}, p50", statistics.median(taken), "ms")
    tell(f"{what}, p99", statistics.quantiles(taken, n=100)[-1], "ms", goal)


def main() -> None:
    """Print a JSON line for each figure."""
    body = random.Random(1).randbytes(BODY_BYTES)
    with tempfile.TemporaryDirectory() as name:
        with Spool(Path(name) / "spool.db") as spool:
            waiting = letters(body)
            told("40 kB into the spool", lambda: spool.append(next(waiting)), "<= 15")
        with (Path(name) / "floor").open("wb", buffering=0) as file:
            told("its floor, 40 kB written and fsync", partial(written, file.fileno(), body))


if __name__ == "__main__":
    main()
