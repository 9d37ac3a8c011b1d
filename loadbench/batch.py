"""A batch: runs of a test that are started one after the other, until it is enough."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Self

from tqdm.auto import tqdm

from loadbench import html
from loadbench.errors import Conflict
from loadbench.load_test_run import POLL_S, Run
from loadbench.model import LoadTest, LoadTestRun, RunStatus

if TYPE_CHECKING:
    from loadbench.workbench import Workbench

_STOP_WITHIN_S = 30.0


class Batch:
    """Runs that belong together. Nothing is started before it is awaited, or `wait` is called.

    Each run carries the id of the batch in its metadata, and the id is made of what was asked for: the same cell in a
    restarted kernel finds the runs that are there, waits for the one that goes on, and starts those that are missing.
    """

    kind = "batch"

    def __init__(self, bench: Workbench, test: LoadTest, asked: dict[str, Any]) -> None:
        self.test = test
        self._bench = bench
        self._store = bench._backend.store
        told = json.dumps([self.kind, test.id, asked], sort_keys=True, default=str)
        self.id = f"{self.kind}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def __await__(self) -> Generator[Any, None, Self]:
        """Start what is missing, run by run, with a progress bar; an interrupt stops the run that goes on."""
        return self._until_done().__await__()

    def wait(self) -> Self:
        """Do what `await` does, holding the kernel."""
        with self._bar() as bar:
            try:
                while (run := self._advance()) is not None:
                    while not run.refresh().record.is_over:
                        self._show(bar, run)
                        time.sleep(POLL_S)
                    self._show(bar, run._judged())
            except KeyboardInterrupt:
                self._stop()
                raise
        return self

    async def _until_done(self) -> Self:
        with self._bar() as bar:
            try:
                while (run := await asyncio.to_thread(self._advance)) is not None:
                    while not (await asyncio.to_thread(run.refresh)).record.is_over:
                        self._show(bar, run)
                        await asyncio.sleep(POLL_S)
                    self._show(bar, run._judged())
            except (KeyboardInterrupt, asyncio.CancelledError):
                self._stop()
                raise
        return self

    def runs(self) -> list[Run]:
        """Give all runs of this batch, oldest first: those that were stopped or failed too."""
        return [Run(record, self._bench) for record in self._records()]

    def _next(self, records: list[LoadTestRun]) -> dict[str, Any] | None:
        """Say how the next run is to be started; None if it is enough."""
        raise NotImplementedError

    def _planned(self) -> int:
        """Say how many runs there will be at most."""
        raise NotImplementedError

    def _records(self) -> list[LoadTestRun]:
        return self._store.runs.find(load_test_id=self.test.id, metadata={self.kind: self.id}, limit=0)[::-1]

    def _finished(self, records: list[LoadTestRun]) -> dict[str, LoadTestRun]:
        """Give the finished runs by their place in the batch."""
        return {run.metadata["place"]: run for run in records if run.status is RunStatus.FINISHED}

    def _advance(self) -> Run | None:
        records = self._records()
        active = next((run for run in records if not run.is_over), None)
        if active is not None:
            return Run(active, self._bench)
        wanted = self._next(records)
        if wanted is None:
            return None
        # Gates are left out: this is to measure, also what breaks them.
        metadata = {self.kind: self.id, **wanted.pop("metadata")}
        started = self._bench._backend.control.start_run(
            self._store.load_tests.get(self.test.id), by=self._bench.by, gates=(), metadata=metadata, **wanted
        )
        return Run(started, self._bench)

    def _bar(self) -> tqdm:
        return tqdm(total=self._planned(), bar_format="{n}/{total} runs |{bar}| {desc}")

    def _show(self, bar: tqdm, run: Run) -> None:
        bar.n = len(self._finished(self._records()))
        bar.set_description_str(f"{html.printable(str(run.record.metadata['place']))}: {html.run_caption(run.record)}")

    def _stop(self) -> None:
        """Stop the run that goes on, and wait for its end; what is finished stays."""
        active = next((run for run in self.runs() if not run.record.is_over), None)
        if active is None:
            return
        with contextlib.suppress(Conflict):
            active.stop()
        until = time.monotonic() + _STOP_WITHIN_S
        while not active.refresh().record.is_over and time.monotonic() < until:
            time.sleep(POLL_S)
