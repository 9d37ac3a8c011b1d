"""Imports: finished runs of other tools' result files. Reading them comes first; only what is read whole is stored."""

from __future__ import annotations

from loadbench.imports.jtl import read_jtl
from loadbench.imports.locust_csv import read_locust_csv
from loadbench.imports.recording import Recording, keep

__all__ = ["Recording", "keep", "read_jtl", "read_locust_csv"]
