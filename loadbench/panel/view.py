"""What all views of the panel share: a line that says how things stand, "Copy as cell", buttons, the panel itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from loadbench import html
from loadbench.panel.call import Call, cell
from loadbench.panel.elements import CodeCell
from loadbench.panel.job import Job

if TYPE_CHECKING:
    from loadbench.panel.frame import Panel


class View(ipywidgets.VBox):
    """One tab. `show` reads what it shows anew, in a worker thread; a click makes a `Call` and shows it as code."""

    title = ""
    purpose = ""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.bench = panel.bench
        self.job = Job()
        self.reading = Job()
        self.code = CodeCell()
        super().__init__()
        self.add_class("lb-view")
        self.children = [self.reading, *self.build(), self.job, self.code]

    def build(self) -> Sequence[ipywidgets.Widget]:
        """Make the widgets of the view, without reading anything."""
        raise NotImplementedError

    def read(self) -> None:
        """Read what the view shows, in a worker thread."""

    def watches(self) -> bool:
        """Say whether something shown moves by itself, so that it is to be read again while the view is open."""
        return False

    def show(self) -> None:
        """Read anew without holding the kernel; should it be reading, once more after that."""
        self.reading.start("", self.read)

    def write(self, *calls: Call) -> None:
        """Show the code of what was done, or would be."""
        self.code.code = cell(self.bench.scope, *calls)

    def perform(self, call: Call) -> Any:
        """Show a call as code, and make it."""
        self.write(call)
        return call.perform(self.bench)


class ViewOfTest(View):
    """A view of the test that is chosen; as long as none is, it says what to do about that."""

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.empty = ipywidgets.HTML(
            '<p class="lb-empty">No test is chosen: choose one above, or make one in Tests.</p>'
        )
        self.body = ipywidgets.VBox(list(self.build_body()))
        self.empty.layout.display = self.body.layout.display = "none"  # until it is read whether there is a test
        return [self.empty, self.body]

    def build_body(self) -> Sequence[ipywidgets.Widget]:
        """Make what is shown of a test."""
        raise NotImplementedError

    def read(self) -> None:
        name = self.panel.test_name
        self.empty.layout.display, self.body.layout.display = ("none", "") if name else ("", "none")
        if name:
            self.read_test(name)

    def read_test(self, name: str) -> None:
        """Read what is shown of this test, in a worker thread."""
        raise NotImplementedError


def button(text: str, on_click: Callable[[], object], *, style: str = "", hint: str = "") -> ipywidgets.Button:
    """Make a button; `style` is that of ipywidgets: primary, danger or nothing."""
    made = ipywidgets.Button(description=text, button_style=style, tooltip=hint or text)
    made.layout.width = "auto"
    made.on_click(lambda _: on_click())
    return made


def heading(text: str, hint: str = "") -> ipywidgets.HTML:
    """Make a heading of a part of a view; the texts are the product's own."""
    quiet = f'<span class="lb-quiet">{hint}</span>' if hint else ""
    made = ipywidgets.HTML(f"<h3>{text}</h3>{quiet}")
    made.add_class("lb-heading")
    return made


def row(*widgets: ipywidgets.Widget) -> ipywidgets.Box:
    """Put widgets side by side; they wrap where there is no room."""
    made = ipywidgets.Box(widgets)
    made.add_class("lb-row")
    return made


def short_time(unix_ms: Any) -> str:
    """Write a time for a column whose heading says that it is UTC."""
    return html.show(unix_ms, "time").replace("T", " ").removesuffix("Z")


class Confirmation(ipywidgets.VBox):
    """A button whose deed is asked about once more, in words, before it is done."""

    def __init__(self, text: str, question: Callable[[], str], do: Callable[[], object]) -> None:
        self.question = ipywidgets.HTML()
        self.ask = button(text, self._asked(question), style="")
        self.yes = button("Yes, delete", self._answered(do), style="danger")
        self.no = button("Keep", lambda: self._close())
        self.box = row(self.question, self.yes, self.no)
        self.box.add_class("lb-confirm")
        self.box.layout.display = "none"
        super().__init__([row(self.ask), self.box])

    def _asked(self, question: Callable[[], str]) -> Callable[[], None]:
        def ask() -> None:
            text = question()
            if text:
                self.question.value = html.panel_line("hint", text)
                self.box.layout.display = ""
                self.yes.focus()

        return ask

    def _answered(self, do: Callable[[], object]) -> Callable[[], None]:
        def answer() -> None:
            self._close()
            do()

        return answer

    def _close(self) -> None:
        self.box.layout.display = "none"
