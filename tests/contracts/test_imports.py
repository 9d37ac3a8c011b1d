"""What may import what, what is public, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import loadbench

ROOT = Path(__file__).parents[2]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_go_as_the_architecture_says():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_public_names_are_these():
    assert loadbench.__all__ == sorted(loadbench.__all__)
    assert set(loadbench.__all__) == {"Run", "Scope", "Test", "Workbench", "__version__", "compare", "sample_shop"}
    for name in loadbench.__all__:
        assert getattr(loadbench, name) is not None


def test_importing_loadbench_or_starting_its_command_line_loads_nothing_heavy():
    heavy = [
        "numpy",
        "pandas",
        "plotly",
        "pymongo",
        "tornado",
        "pydantic",
        "ipywidgets",
        "locust",
        "gevent",
        "requests",
    ]
    code = f"import sys, loadbench.cli; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_the_agent_needs_only_the_standard_library_locust_and_requests():
    blocked = [
        "numpy", "pandas", "plotly", "pymongo", "bson", "tornado", "pydantic", "ipywidgets", "anywidget", "IPython",
    ]  # fmt: skip
    code = (
        "import sys\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        "import locust, loadbench.agent.plugin, loadbench.agent.sender, loadbench.agent.spool, loadbench.agent.host\n"
        "print('imported')"
    )
    assert run_python(code).strip() == "imported"


def test_the_workbench_never_imports_locust():
    code = "import sys, loadbench.workbench, loadbench.cli; print({'locust', 'gevent'} & set(sys.modules))"
    assert run_python(code).strip() == "set()"
