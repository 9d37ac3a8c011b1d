"""Work that a click starts: in a thread of its own, so that the kernel stays free; a line says how it stands."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence

import ipywidgets
import traitlets
from pymongo.errors import PyMongoError

from loadbench import html
from loadbench.errors import InvalidInput, LoadbenchError


@dataclasses.dataclass(frozen=True)
class _Work:
    doing: str
    work: Callable[[], str | None]
    buttons: Sequence[ipywidgets.Button]
    refused: Callable[[InvalidInput], bool] | None


class Job(ipywidgets.HTML):
    """The line that says what is being done, then what came of it. One piece of work at a time, in the order asked."""

    running = traitlets.Bool(False)

    def __init__(self) -> None:
        super().__init__()
        self.add_class("lb-job")
        self._guard = threading.Lock()
        self._waiting: collections.deque[_Work] = collections.deque()

    def start(
        self,
        doing: str,
        work: Callable[[], str | None],
        *,
        buttons: Sequence[ipywidgets.Button] = (),
        refused: Callable[[InvalidInput], bool] | None = None,
    ) -> None:
        """Do `work` in a thread, after what was asked before; the text that it gives is shown when it is done.

        Parameters
        ----------
        doing : str
            What is shown meanwhile; empty for what is quick.
        work : callable
            Waits but once: asked for again before its turn has come, it is not done twice.
        buttons : sequence of Button
            Which cannot be pressed until it is done.
        refused : callable, optional
            Shows an error next to the field that it names; false if there is no such field.
        """
        for button in buttons:
            button.disabled = True
        if doing:
            self.say(doing, kind="busy")
        with self._guard:
            if not any(each.work == work for each in self._waiting):
                self._waiting.append(_Work(doing, work, buttons, refused))
            if self.running:
                return
            self.running = True
        threading.Thread(target=self._work_off, name="loadbench-panel-job", daemon=True).start()

    def say(self, text: str, *, kind: str = "done") -> None:
        """Show a line: `busy`, `done`, `error` or `hint`; nothing for an empty text."""
        self.value = html.panel_line(kind, text) if text else ""

    def _work_off(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self.running = False
                    return
                asked = self._waiting.popleft()
            self._do(asked)

    def _do(self, asked: _Work) -> None:
        if asked.doing:
            self.say(asked.doing, kind="busy")
        try:
            said = asked.work()
            if asked.doing or said:
                self.say(said or "")
        except InvalidInput as error:
            if asked.refused is None or not asked.refused(error):
                self.say(str(error), kind="error")
            else:
                self.say("Not done: see the field marked above.", kind="error")
        except (LoadbenchError, PyMongoError, OSError) as error:
            self.say(html.error_line(str(error)), kind="error")
        except Exception as error:  # in a thread it would vanish, or land in whichever cell ran last
            self.say(f"This is a defect of loadbench, please report it: {type(error).__name__}: {error}", kind="error")
        finally:
            for button in asked.buttons:
                button.disabled = False
