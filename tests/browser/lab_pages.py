"""A JupyterLab as a test uses it: `Lab.open_notebook(path)` gives a `NotebookPage` with verbs."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import requests
from playwright.sync_api import Browser, Page

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


class NotebookPage:
    """One notebook, open in one browser page of its own."""

    def __init__(self, page: Page, host: str) -> None:
        self.page = page
        self.host = host
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def command(self, name: str, **arguments: Any) -> None:
        """Run a JupyterLab command, without waiting for what it starts."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def run_all(self) -> None:
        """Run all cells; returns at once."""
        self.command("notebook:run-all-cells")

    def run_cell(self, index: int) -> None:
        """Run one code cell; returns at once."""
        self.page.evaluate(
            "index => { const panel = window.jupyterapp.shell.currentWidget; panel.content.activeCellIndex = index }",
            index,
        )
        self.command("notebook:run-cell")

    def wait_for_idle(self, *, within_s: float = 60) -> None:
        """Wait until every cell that was started has ended and the kernel is idle."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const prompts = [...panel.node.querySelectorAll('.jp-InputPrompt')].map(p => p.textContent);
                return panel.sessionContext.session?.kernel?.status === 'idle' && !prompts.some(p => p.includes('*'));
            }""",
            timeout=1000 * within_s,
        )

    def is_busy(self) -> bool:
        """Tell whether a cell runs, by its prompt: the kernel calls itself idle after each comm message."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.jp-InputPrompt')].some(p => p.textContent.includes('*'))"
        )

    def outputs(self) -> str:
        """Give the text of all outputs."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.jp-OutputArea-output')].map(o => o.innerText).join('\\n')"
        )

    def save(self, path: Path) -> dict[str, Any]:
        """Save the notebook and give what is in the file."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
        return json.loads(path.read_text())

    def theme(self, name: str) -> None:
        """Choose a theme, for example `JupyterLab Dark`."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the page as artifacts/<name>.png."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def foreign_requests(self) -> list[str]:
        """Give the requests that went to another host than the page's own."""
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme.startswith(("http", "ws")) and urlsplit(url).netloc != self.host
        ]


class Lab:
    """A running JupyterLab with a directory of its own, and the browser to look at it."""

    def __init__(self, url: str, token: str, directory: Path, browser: Browser) -> None:
        self.url = url
        self.directory = directory
        self._token = token
        self._browser = browser
        self._contexts: list[Any] = []

    def write_notebook(self, name: str, *cells: str) -> Path:
        """Make a notebook of code cells in the directory of this JupyterLab."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.directory / name
        nbformat.write(notebook, path)
        return path

    def open_notebook(self, path: Path, *, width: int = 1400, height: int = 900) -> NotebookPage:
        """Open a notebook in a new browser page and wait for its kernel. One from elsewhere is copied here first."""
        if self.directory not in path.parents:
            path = Path(shutil.copy(path, self.directory))
        context = self._browser.new_context(viewport={"width": width, "height": height})
        self._contexts.append(context)
        notebook = NotebookPage(context.new_page(), urlsplit(self.url).netloc)
        relative, workspace = path.relative_to(self.directory).as_posix(), f"w{secrets.token_hex(4)}"
        notebook.page.goto(f"{self.url}lab/workspaces/{workspace}/tree/{relative}?token={self._token}")
        notebook.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        return notebook

    def close_pages(self) -> None:
        """Close what was opened, and end its kernels: the next notebook of that name starts anew."""
        while self._contexts:
            self._contexts.pop().close()
        access = {"Authorization": f"token {self._token}"}
        for session in requests.get(f"{self.url}api/sessions", headers=access, timeout=10).json():
            requests.delete(f"{self.url}api/sessions/{session['id']}", headers=access, timeout=30)
