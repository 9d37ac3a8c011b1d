"""The progress bar of a run: a widget in JupyterLab, text everywhere else."""

from __future__ import annotations

from tqdm.auto import tqdm

from loadbench import html
from loadbench.model import LoadTestRun, RunStatus


class Progress:
    """A progress bar over a run's duration, with its latest figures."""

    def __init__(self, run: LoadTestRun) -> None:
        self._shown = ""
        self._bar = tqdm(
            total=run.duration_sec, desc=html.printable(run.name), bar_format="{percentage:3.0f}% |{bar}| {desc}"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, run: LoadTestRun) -> None:
        """Draw the run as it stands, if that is news: a pipe or a log gets a line a second, not four."""
        text = f"{html.printable(run.name)}: {html.run_caption(run)}"
        if text == self._shown:
            return
        self._shown = text
        elapsed_s = min(html.elapsed_s(run), run.duration_sec)
        self._bar.n = run.duration_sec if run.status is RunStatus.FINISHED else elapsed_s
        self._bar.set_description_str(text)
