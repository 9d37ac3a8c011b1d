"""What a run left in MongoDB, against what the shop counted: the judge of every row of the fault matrix.

It reads the scalar fields of the documents by itself. Nothing of the product's own bookkeeping is asked, but for the
state of the run.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from loadbench.demo_target import ShopServer

FIELDS = ("source", "seq", "requests", "failed", "cumRequests", "cumFailures", "final", "receivedAt")


@dataclass(frozen=True)
class Ledger:
    """The database of the mongod of one test."""

    database: Database[dict[str, Any]]

    def intervals(self, run_id: str) -> list[dict[str, Any]]:
        """Give the stored intervals of a run, every document there is."""
        return list(self.database["metrics_timeseries"].find({"runId": run_id}, dict.fromkeys(FIELDS, True)))

    def count(self, run_id: str) -> int:
        return self.database["metrics_timeseries"].count_documents({"runId": run_id})

    def run(self, run_id: str) -> dict[str, Any]:
        return self.database["load_test_runs"].find_one({"_id": run_id})

    def first_after(self, run_id: str, at_ms: float) -> int | None:
        """Say when the first interval that came after a moment was received, in Unix ms."""
        received = [one["receivedAt"] for one in self.intervals(run_id) if one["receivedAt"] > at_ms]
        return min(received, default=None)


def verify(
    ledger: Ledger,
    run_id: str,
    shop: ShopServer,
    *,
    status: str = "Finished",
    completeness: str = "complete",
    sources: int = 1,
) -> int:
    """Check that a run is told in full, once, and as it was; give the number of requests.

    Of each source the seqs 0..last are there once, the last one alone is final, and running totals are the sums; all
    together they are what the shop counted; the run is in the state that is expected.
    """
    by_source = check_sequences(ledger.intervals(run_id))
    assert len(by_source) == sources, f"{len(by_source)} sources"
    intervals = list(itertools.chain.from_iterable(by_source.values()))
    counted = (sum(one["requests"] for one in intervals), sum(one["failed"] for one in intervals))
    assert counted == shop.total(), f"stored (requests, failed) {counted}, the shop counted {shop.total()}"
    assert counted[0] > 0
    check_state(ledger, run_id, status=status, completeness=completeness)
    return counted[0]


def check_sequences(intervals: Iterable[dict[str, Any]], *, ended: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Check that each source has every seq once, without a hole, and its running totals; give them by source."""
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for interval in intervals:
        by_source[interval["source"]].append(interval)
    for source, own in by_source.items():
        own.sort(key=lambda one: one["seq"])
        seqs = [one["seq"] for one in own]
        lost = sorted(set(range(max(seqs) + 1)) - set(seqs))
        twice = sorted({seq for seq in seqs if seqs.count(seq) > 1})
        assert not lost, f"lost intervals {lost} of {source}"
        assert not twice, f"intervals {twice} of {source} are there twice"
        assert [one["final"] for one in own[:-1]] == [False] * (len(own) - 1)
        assert own[-1]["final"] == ended
        for field, total in (("requests", "cumRequests"), ("failed", "cumFailures")):
            assert list(itertools.accumulate(one[field] for one in own)) == [one[total] for one in own]
    assert by_source, "nothing was stored"
    return by_source


def check_state(ledger: Ledger, run_id: str, *, status: str, completeness: str) -> dict[str, Any]:
    run = ledger.run(run_id)
    assert (run["status"], run["completeness"]) == (status, completeness), run
    return run
