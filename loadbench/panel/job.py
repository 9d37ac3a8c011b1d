"""Work that a click starts: in a thread of its own, so that the kernel stays free; a line says how it stands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import traitlets
from pymongo.errors import PyMongoError

from loadbench import html
from loadbench.errors import InvalidInput, LoadbenchError


class Job(ipywidgets.HTML):
    """The line that says what is being done, then what came of it. One piece of work at a time."""

    running = traitlets.Bool(False)

    def __init__(self) -> None:
        super().__init__()
        self.add_class("lb-job")
        self._guard = threading.Lock()
        self._again: Callable[[], None] | None = None

    def start(
        self,
        doing: str,
        work: Callable[[], str | None],
        *,
        buttons: Sequence[ipywidgets.Button] = (),
        refused: Callable[[InvalidInput], bool] | None = None,
        queue: bool = False,
    ) -> bool:
        """Do `work` in a thread; the text that it gives is shown when it is done.

        Parameters
        ----------
        doing : str
            What is shown meanwhile; empty for what is quick.
        buttons : sequence of Button
            Which cannot be pressed meanwhile.
        refused : callable, optional
            Shows an error next to the field that it names; false if there is no such field.
        queue : bool
            Should something be running, do this after it, instead of anything that was queued before.

        Returns
        -------
        bool
            False if something is running, and this was not queued.
        """
        with self._guard:
            if self.running:
                if queue:
                    self._again = lambda: self.start(doing, work, buttons=buttons, refused=refused, queue=True)
                return queue
            self.running = True
        for button in buttons:
            button.disabled = True
        if doing:
            self.say(doing, kind="busy")
        arguments = (doing, work, buttons, refused)
        threading.Thread(target=self._work, args=arguments, name="loadbench-panel-job", daemon=True).start()
        return True

    def say(self, text: str, *, kind: str = "done") -> None:
        """Show a line: `busy`, `done`, `error` or `hint`; nothing for an empty text."""
        self.value = html.panel_line(kind, text) if text else ""

    def _work(self, doing: str, work: Callable[[], str | None], buttons: Sequence[Any], refused: Any) -> None:
        try:
            said = work()
            if doing or said:
                self.say(said or "")
        except InvalidInput as error:
            if refused is None or not refused(error):
                self.say(str(error), kind="error")
            else:
                self.say("Not done: see the field marked above.", kind="error")
        except (LoadbenchError, PyMongoError, OSError) as error:
            self.say(html.error_line(str(error)), kind="error")
        except Exception as error:  # in a thread it would vanish, or land in whichever cell ran last
            self.say(f"This is a defect of loadbench, please report it: {type(error).__name__}: {error}", kind="error")
        finally:
            for button in buttons:
                button.disabled = False
            with self._guard:
                self.running = False
                again, self._again = self._again, None
            if again is not None:
                again()
