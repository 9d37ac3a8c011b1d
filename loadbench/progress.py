"""The progress bar of a run: a widget in JupyterLab, text everywhere else."""

from __future__ import annotations

from tqdm.auto import tqdm

from loadbench import html
from loadbench.model import LoadTestRun, RunStatus


class Progress:
    """A progress bar over a run's duration, with its latest figures."""

    def __init__(self, run: LoadTestRun) -> None:
        self._bar = tqdm(
            total=run.duration_sec, desc=run.name, bar_format="{desc} {percentage:3.0f}% |{bar}| {postfix}", leave=True
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, run: LoadTestRun) -> None:
        elapsed_s = html.elapsed_s(run)
        self._bar.n = run.duration_sec if run.status is RunStatus.FINISHED else min(elapsed_s, run.duration_sec)
        self._bar.set_postfix_str(html.run_caption(run))
