"""The records in MongoDB: one repository for each collection, and the embedded mongod."""

from __future__ import annotations

from loadbench.store.database import Store

__all__ = ["Store"]
