"""The view of a test's script: edit, check, save as a revision, compare revisions, restore one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.errors import InvalidInput
from loadbench.panel.call import BENCH
from loadbench.panel.diff import diff_table
from loadbench.panel.elements import Editor, Table
from loadbench.panel.tests import line_of
from loadbench.panel.view import ViewOfTest, button, heading, row, short_time

COLUMNS = (
    ("revision", "Revision", "number"), ("note", "Note"), ("created_by", "By"), ("created_at", "When (UTC)"),
    ("bytes", "Size", "number"), ("sha256", "SHA-256"),
)  # fmt: skip


class Script(ViewOfTest):
    """The script of the chosen test, and its revisions."""

    title = "Script"

    def build_body(self) -> Sequence[ipywidgets.Widget]:
        self.loaded: tuple[str, int, str] | None = None
        self.editor = Editor()
        self.problem = ipywidgets.HTML()
        self.note = ipywidgets.Text(description="Note", placeholder="what was changed, and why")
        self.note.add_class("lb-grow")
        self.check = button("Check", self.on_check, hint="Let Locust load the script; nothing is stored")
        self.save = button("Save as new revision", self.on_save, style="primary")
        self.revisions = Table(COLUMNS, choose="one", label="Revisions", empty="This test has no script yet: save one.")
        self.old = ipywidgets.Dropdown(description="Compare")
        self.new = ipywidgets.Dropdown(description="with")
        self.diff = ipywidgets.HTML()
        self.restore = button("Restore as new revision", lambda: self._do_with_chosen(self.on_restore),
                              hint="Make the chosen revision the latest again")  # fmt: skip
        self.to_editor = button("Open in the editor", lambda: self._do_with_chosen(self.on_open),
                                hint="Put the chosen revision into the editor")  # fmt: skip
        for chooser in (self.old, self.new):
            chooser.observe(lambda _: self.compare(), "value")
        self.editor.observe(lambda _: self._says(""), "value")
        return [
            self.editor, self.problem, row(self.note, self.check, self.save),
            heading("Revisions", "Each save is a revision; none is ever changed."), self.revisions,
            row(self.restore, self.to_editor), heading("What differs"), row(self.old, self.new), self.diff,
        ]  # fmt: skip

    def read_test(self, name: str) -> None:
        test = self.bench.test(name)
        table = test.revisions()
        self.revisions.show([_row(number, each) for number, each in table[::-1].iterrows()])
        numbers = [int(number) for number in table.index]
        latest = numbers[-1] if numbers else 0
        if self.loaded is None or self.loaded[0] != name or (self.is_untouched and self.loaded[1] < latest):
            self._load(name, test.script() if numbers else "", latest)
        if list(self.new.options) != numbers:
            with self.hold_trait_notifications():
                self.old.options = self.new.options = numbers
                self.new.value = latest or None
                self.old.value = numbers[-2] if len(numbers) > 1 else self.new.value
            self._compare()
        self.write(BENCH.test(name).script())

    @property
    def is_untouched(self) -> bool:
        """Say whether the editor holds what was loaded into it."""
        return self.loaded is not None and self.editor.value == self.loaded[2]

    def _load(self, name: str, source: str, revision: int) -> None:
        self.loaded = (name, revision, source)
        self.editor.value = source
        self.note.value = ""
        self._says("")

    def on_check(self) -> None:
        source = self.editor.value
        call = BENCH.check_script(source)

        def work() -> str:
            users = self.perform(call)
            return f"Locust loads it. User classes: {', '.join(users)}."

        self._says("")
        self.job.start("Locust loads the script…", work, buttons=[self.check, self.save], refused=self._refused)

    def on_save(self) -> None:
        name, source, note = self.panel.test_name, self.editor.value, self.note.value.strip()
        options = {"note": note} if note else {}
        call = BENCH.test(name).revise(source, **options)

        def work() -> str:
            before = self.bench.test(name).record.latest_revision_number
            latest = self.perform(call).record.latest_revision_number
            self.panel.choose_test(name)
            self.loaded = (name, latest, source)
            self.read()
            self.write(call)
            return (
                f"Saved as revision {latest}."
                if latest != before
                else f"The same as revision {latest}: nothing to save."
            )

        self._says("")
        self.job.start("Locust loads the script…", work, buttons=[self.check, self.save], refused=self._refused)

    def on_restore(self, chosen: int) -> None:
        name = self.panel.test_name
        call = BENCH.test(name).restore(chosen)

        def work() -> str:
            test = self.perform(call)
            self._load(name, test.script(), test.record.latest_revision_number)
            self.read()
            self.write(call)
            return f"Revision {chosen} is revision {test.record.latest_revision_number} now."

        self.job.start("Restoring…", work, buttons=[self.restore])

    def on_open(self, chosen: int) -> None:
        name = self.panel.test_name
        call = BENCH.test(name).script(chosen)

        def work() -> str:
            self._load(name, self.perform(call), self.new.options[-1])  # it stays, though it is not the latest
            return f"Revision {chosen} is in the editor; it is saved only when you save it."

        self.job.start("Reading…", work, buttons=[self.to_editor])

    def _do_with_chosen(self, do: Callable[[int], None]) -> None:
        if self.revisions.chosen:
            do(int(self.revisions.chosen[0]))
        else:
            self.job.say("Choose a revision in the table first.", kind="hint")

    def compare(self) -> None:
        """Show the two chosen revisions side by side."""
        if self.panel.test_name and self.old.value and self.new.value:
            self.job.start("", self._compare)

    def _compare(self) -> None:
        name, old, new = self.panel.test_name, self.old.value, self.new.value
        if not (name and old and new):
            self.diff.value = ""
            return
        if len(self.new.options) == 1:
            self.diff.value = '<p class="lb-empty">One revision so far: save another to see what differs.</p>'
            return
        test = self.bench.test(name)
        titles = {"old_title": f"revision {old}", "new_title": f"revision {new}"}
        self.diff.value = diff_table(test.script(old), test.script(new), **titles)
        if old != new:
            self.write(BENCH.test(name).diff(old, new))

    def _refused(self, error: InvalidInput) -> bool:
        self._says(str(error))
        return True

    def _says(self, message: str) -> None:
        self.problem.value = html.panel_line("error", message) if message else ""
        self.editor.error_line = line_of(message)


def _row(number: Any, revision: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "revision": [str(number), int(number)],
        "note": html.printable(revision["note"]),
        "created_by": html.printable(revision["created_by"]),
        "created_at": short_time(revision["created_at"]),
        "bytes": [html.show(revision["bytes"], "bytes"), int(revision["bytes"])],
        "sha256": revision["sha256"][:12],
    }
