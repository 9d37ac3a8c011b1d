"""`loadbench demo` and `loadbench lab`: the first notebook on the sample shop, executed or opened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadbench.analysis.summary import summary
from loadbench.demo_target import ENV_URL, ShopServer
from loadbench.html import run_line, summary_text
from loadbench.model import Scope
from loadbench.reports import execute_notebook, template
from loadbench.store import Store

FIRST_NOTEBOOK = "01_first_run.ipynb"
SCOPE = "acme/shop/checkout"


def demo(*, duration: str, reports: Path) -> int:
    """Execute the first notebook on the sample shop, print what it measured, and leave nothing running."""
    reports = reports.resolve()
    reports.mkdir(parents=True, exist_ok=True)
    report = reports / "first_run.html"
    with Store.open_briefly() as store, ShopServer(port=0) as shop:
        print(f"MongoDB: {store!r}")
        print(f"sample shop: {shop.url}")
        print(f"executing {FIRST_NOTEBOOK} with papermill: a load test of {duration} on real Locust", flush=True)
        execute_notebook(
            examples() / "notebooks" / FIRST_NOTEBOOK,
            reports / FIRST_NOTEBOOK,
            {"target_url": shop.url, "duration": duration, "report_path": str(report)},
            cwd=examples() / "notebooks",
        )
        run = store.runs.find(Scope.parse(SCOPE), limit=1)[0]
        table = summary(run, store.ledger.documents(run.id))
        served, failed = shop.total()
    print(f"\n{run_line(run)}\n\n{summary_text(table)}\n")
    total = table.iloc[-1]
    print(f"recorded {total['requests']:,} requests, {total['failures']:,} failed; "
          f"the shop itself counted {served:,} and {failed:,}")  # fmt: skip
    print(f"\nreport:   {report}\nnotebook: {reports / FIRST_NOTEBOOK}")
    if (served, failed) != (total["requests"], total["failures"]):
        print("loadbench: the two counts differ, which they never should: please report it", file=sys.stderr)
        return 1
    return 0


def lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab in `notebooks/`, copied from the examples where there is none, with the sample shop beside it."""
    notebooks = Path("notebooks")
    if not notebooks.is_dir():
        for folder in ("notebooks", "locustfiles"):
            shutil.copytree(examples() / folder, folder, dirs_exist_ok=True)
        for kind in ("run", "comparison", "trend"):
            shutil.copy(template(kind), notebooks)
    # JupyterLab refuses root unless told; in a container there is often nobody else.
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    with ShopServer(port=0) as shop:
        print(f"sample shop: {shop.url}", flush=True)
        jupyter = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--notebook-dir", str(notebooks), *as_root, *arguments],
            env=os.environ | {ENV_URL: shop.url},
        )
        # Ctrl-C reaches JupyterLab as well, which asks whether it is meant: it decides, this waits for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
        return jupyter.wait()


def examples() -> Path:
    """Find the folder with `notebooks/` and `locustfiles/`: in the installed package, or in a checkout beside it."""
    package = Path(__file__).parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent
