"""Notebooks executed with parameters: papermill's work, in a kernel of the Python that asks for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from loadbench import html
from loadbench.errors import InvalidInput, LoadbenchError

_SECRET = re.compile(r"token|secret|passw|api_?key|credential", re.IGNORECASE)
_QUIET = "--IPKernelApp.log_level=50"  # its remarks on transport and shutdown help nobody here


def execute_notebook(
    source: str | Path,
    output: str | Path,
    parameters: Mapping[str, str | int | float | bool | None] | None = None,
    *,
    cwd: str | Path | None = None,
    progress: bool = True,
    environment: Mapping[str, str] | None = None,
    preload: str = "",
) -> Path:
    """Execute a notebook with papermill.

    Parameters
    ----------
    source, output : str or Path
        The notebook, and where the executed one goes; after an error it is there too, up to the failing cell.
    parameters : mapping, optional
        Values for the cell tagged `parameters`: JSON scalars. They are stored in the output, so never secrets.
    cwd : str or Path, optional
        Working directory of the notebook; left out, that of this process.
    progress : bool
        Show a progress bar on stderr.
    environment : mapping, optional
        What the kernel's environment has beyond that of this process. It is stored nowhere: the place for secrets.
    preload : str
        A module that the kernel imports while papermill is still being imported here.

    Returns
    -------
    Path
        The absolute path of the executed notebook.

    Raises
    ------
    InvalidInput
        If there is no such notebook, or a parameter is a secret or not known to it.
    LoadbenchError
        If a cell fails: one line with the cell and its error.
    """
    notebook, target = Path(source).expanduser().absolute(), Path(output).expanduser().absolute()
    values = dict(parameters or {})
    _check_parameters(notebook, values)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _kernel(cwd, environment or {}, preload) as kernel:
        import papermill  # heavy: 1 to 2 s, in which the kernel gets ready
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        try:
            papermill.execute_notebook(
                str(notebook), str(target), parameters=values, progress_bar=progress, km=kernel, kernel_name="python3"
            )
        except PapermillExecutionError as error:
            raise LoadbenchError(
                f"{notebook.name} failed in cell {error.exec_count}: {error.ename}: {html.error_line(error.evalue)} "
                f"(executed up to there in {target})"
            ) from None
        except DeadKernelError:
            raise LoadbenchError(
                f"{notebook.name}: its kernel died, perhaps for lack of memory (executed up to there in {target})"
            ) from None
    return target


@contextlib.contextmanager
def _kernel(cwd: str | Path | None, environment: Mapping[str, str], preload: str) -> Iterator[Any]:
    """Start a kernel at once, and end it with the block."""
    kernel = _kernel_class()()
    warming = [f"--IPKernelApp.exec_lines=__import__({preload!r}) and None"] if preload else []
    kernel.run_sync(
        kernel.start_kernel(
            extra_arguments=[_QUIET, *warming],
            env=os.environ | dict(environment),
            **({"cwd": str(cwd)} if cwd else {}),
        )
    )
    try:
        yield kernel
    finally:
        kernel.run_sync(kernel.end())
        _close_loop()


def _close_loop() -> None:
    """Close the event loop that jupyter_core has made for this thread, and would leave open when the thread ends."""
    from jupyter_core.utils import ensure_event_loop

    if threading.current_thread() is threading.main_thread():
        return
    loop = ensure_event_loop()
    if not loop.is_running():
        loop.close()


@cache
def _kernel_class() -> type:
    """Make the class when it is needed: jupyter_client takes a quarter of a second to import."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    class Kernel(AsyncKernelManager):
        """A kernel of this very Python, whatever the user has registered under the name `python3`."""

        clients: tuple[Any, ...] = ()

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

        def client(self, **kwargs: Any) -> Any:
            client = super().client(**kwargs)
            self.clients += (client,)
            return client

        async def end(self) -> None:
            for client in self.clients:
                client.stop_channels()
            await self.shutdown_kernel()

        @staticmethod
        def run_sync(awaitable: Any) -> Any:
            async def wait() -> Any:
                return await awaitable

            return run_sync(wait)()

    return Kernel


def _check_parameters(notebook: Path, values: Mapping[str, Any]) -> None:
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"no notebook in {notebook}: give the path of an .ipynb file", field="source") from None
    for name, value in values.items():
        if _SECRET.search(name):
            raise InvalidInput(
                f"parameter {name} looks like a secret, and papermill stores parameters: pass it by environment",
                field="parameters",
            )
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidInput(f"parameter {name} must be a text, a number, true, false or null", field="parameters")
    if values and not any("parameters" in cell.get("metadata", {}).get("tags", ()) for cell in cells):
        raise InvalidInput(f"{notebook.name} has no cell tagged parameters to take {', '.join(values)}", field="source")
