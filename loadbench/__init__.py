"""loadbench: a load-testing workbench in a Jupyter notebook.

The nouns are here; each is imported when it is first used, so that `import loadbench` is quick and a Locust process
that imports `loadbench.agent` loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "compare": "loadbench.comparison",
    "Run": "loadbench.load_test_run",
    "sample_shop": "loadbench.demo_target",
    "Scope": "loadbench.model",
    "Test": "loadbench.load_test",
    "Workbench": "loadbench.workbench",
}

__all__ = ["Run", "Scope", "Test", "Workbench", "__version__", "compare", "sample_shop"]

if TYPE_CHECKING:
    from loadbench.comparison import compare
    from loadbench.load_test import Test
    from loadbench.load_test_run import Run
    from loadbench.model import Scope
    from loadbench.workbench import Workbench


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'loadbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
