"""What the report of a run costs, ten minutes of 20 endpoints, against a notebook that only imports loadbench."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import nbformat

from loadbench import reports, testing
from loadbench.notebooks import execute_notebook
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from tests.bench.timing import copies, median_ms, tell

TIMES = 3


def main() -> None:
    """Print a JSON line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        mongod = Mongod(place / "home")
        try:
            with Store.open(mongod.find_or_start()) as store:
                measure(store, place)
        finally:
            mongod.stop()


def measure(store: Store, place: Path) -> None:
    (run,) = copies(store, testing.run(seed="report", seconds=600, endpoints=20, rps=500, ramp_s=30), 1)
    made = place / "run.html"
    cost_ms = median_ms(partial(reports.run_report, store, run, made, progress=False), TIMES)
    empty = place / "import.ipynb"
    cell = nbformat.v4.new_code_cell("import loadbench.workbench")
    empty.write_text(json.dumps(nbformat.v4.new_notebook(cells=[cell])))
    execute = partial(execute_notebook, empty, place / "done.ipynb", progress=False, preload="loadbench.report_kernel")
    floor_ms = median_ms(execute, TIMES)
    tell("report of a run of 10 min x 20 endpoints", cost_ms / 1000, "s")
    tell("  its floor, a notebook that only imports loadbench", floor_ms / 1000, "s")
    tell("  so many times its floor", cost_ms / floor_ms, "ratio")
    tell("size of the page", made.stat().st_size / 1e6, "MB")
    tell("size of the executed notebook", made.with_suffix(".ipynb").stat().st_size / 1e6, "MB")


if __name__ == "__main__":
    main()
