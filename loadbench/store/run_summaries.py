"""The collection `run_summaries`: what a run that is over comes down to, its merged histograms by window.

A run has a head, with its windows and what they were made at, and a document for each window that has intervals: a
window of 2,000 endpoints takes megabytes, and MongoDB takes 16 in one document. All carry the same stamp, and documents
with different stamps are of different makings: together they are no seal.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadbench.store.documents import Documents

LARGE_BYTES = 4_000_000
"""Packed histograms above this size are compressed, so that a document with them stays below 16 MB."""


class RunSummaries:
    """The seals of all runs."""

    def __init__(self, summaries: Documents) -> None:
        self._summaries = summaries

    def put(self, head: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Store a seal in place of the one that the run had. `head` has `runId` and `stamp`."""
        run_id, stamp = head["runId"], head["stamp"]
        for window, part in parts.items():
            kept = {"_id": f"{run_id}:{window}", "runId": run_id, "stamp": stamp, "window": window}
            self._summaries.put(kept | {"part": _packed(part)})
        self._summaries.put({"_id": run_id, **head, "parts": sorted(parts)})
        kept = [run_id, *(f"{run_id}:{window}" for window in parts)]
        self._summaries.delete({"runId": run_id, "_id": {"$nin": kept}})

    def read(
        self, run_ids: Sequence[str], *, windows: Iterable[str] | None = None
    ) -> dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
        """Read the seals of runs in one query: run id -> its head and its parts by window.

        With `windows`, only the parts of these. A run whose documents are of different makings is left out.
        """
        where: dict[str, Any] = {"runId": {"$in": list(run_ids)}}
        if windows is not None:
            where["window"] = {"$in": [None, *windows]}
        heads: dict[str, dict[str, Any]] = {}
        parts: dict[str, dict[str, dict[str, Any]]] = {}
        for found in self._summaries.many(where):
            if "window" in found:
                parts.setdefault(found["runId"], {})[found["window"]] = found
            else:
                heads[found["runId"]] = found
        wanted = None if windows is None else set(windows)
        seals = {}
        for run_id, head in heads.items():
            names = [name for name in head["parts"] if wanted is None or name in wanted]
            made = {name: parts.get(run_id, {}).get(name) for name in names}
            if all(part is not None and part["stamp"] == head["stamp"] for part in made.values()):
                seals[run_id] = (head, {name: _unpacked(part["part"]) for name, part in made.items()})
        return seals

    def delete(self, run_id: str) -> None:
        """Delete the seal of a run."""
        self._summaries.delete({"runId": run_id})


def _packed(part: Mapping[str, Any]) -> dict[str, Any]:
    if len(part["histograms"]) <= LARGE_BYTES:
        return dict(part)
    return dict(part) | {"histograms": zlib.compress(part["histograms"], 1), "compressed": True}


def _unpacked(part: dict[str, Any]) -> dict[str, Any]:
    if part.pop("compressed", False):
        part["histograms"] = zlib.decompress(part["histograms"])
    return part
