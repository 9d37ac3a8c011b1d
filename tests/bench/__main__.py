"""Run every measurement, one JSON line for each figure, and a table at the end."""

from __future__ import annotations

import json
import subprocess
import sys

MEASUREMENTS = ("plugin", "ingest", "live", "charts", "frames", "compare")


def main() -> int:
    """Run the measurements named on the command line, or all."""
    chosen = sys.argv[1:] or MEASUREMENTS
    figures, failed = [], []
    for name in chosen:
        print(f"{name}...", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        figures += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            failed.append(name)
    for figure in figures:
        print(json.dumps(figure))
    print()
    for figure in figures:
        goal = f"   goal: {figure['goal']}" if figure.get("goal") else ""
        print(f"{figure['what']:<72} {figure['value']:>10,.3g} {figure['unit']}{goal}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
