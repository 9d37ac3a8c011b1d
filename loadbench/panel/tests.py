"""The view of the tests: list, search, filter by tag, create, edit, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.errors import InvalidInput
from loadbench.model import LoadTest
from loadbench.panel.call import BENCH
from loadbench.panel.elements import Editor, Table
from loadbench.panel.example import STARTER, sample_test
from loadbench.panel.field import Field, Form, listed
from loadbench.panel.view import Confirmation, View, button, heading, row, short_time

ALL_TAGS = "all tags"
COLUMNS = (
    ("name", "Test"), ("latest", "Latest run"), ("users", "Users", "number"), ("duration", "Duration", "number"),
    ("revision", "Revision", "number"), ("baseline", "Baseline", "number"), ("tags", "Tags"), ("target", "Target"),
)  # fmt: skip
_FIELDS = ("name", "target_url", "users", "spawn_rate", "duration", "max_duration", "tags", "cluster", "description")


class Tests(View):
    """Which tests there are, and the form of the one that is chosen or made."""

    __test__ = False  # pytest: not a test class
    title = "Tests"

    def build(self) -> Sequence[ipywidgets.Widget]:
        self.records: list[LoadTest] = []
        self.creating = False
        self.search = ipywidgets.Text(description="Search", placeholder="name, target or description")
        self.tag = ipywidgets.Dropdown(description="Tag", options=[ALL_TAGS])
        self.table = Table(COLUMNS, choose="one", label="Tests", empty=EMPTY)
        self.new = button("New test", self.begin, style="primary")
        self.sample = button("Sample test", self.begin_sample, hint="Fill in a test of the sample shop")
        self.form = Form(
            {
                "name": Field(hint="unique within this project"),
                "target_url": Field(hint="https://shop.example.org"),
                "users": Field(10, hint="how many at once"),
                "spawn_rate": Field(1.0, hint="users started per second"),
                "duration": Field("1m", hint="90s, 1m30s or 2h"),
                "max_duration": Field("1h", hint="the longest that a run may take"),
                "tags": Field(hint="separated by commas"),
                "cluster": Field("", hint="left empty: the usual one"),
                "description": Field(rows=2),
            },
            wide=("description",),
        )
        self.script = Editor(lines=16)
        self.script_problem = ipywidgets.HTML()
        self.script_part = ipywidgets.VBox(
            [heading("Script", "Locust loads it before anything is stored."), self.script, self.script_problem]
        )
        self.create = button("Create test", self.on_create, style="primary")
        self.save = button("Save changes", self.on_save, style="primary")
        self.cancel = button("Cancel", self.on_cancel)
        self.delete = Confirmation("Delete test", self.question, self.on_delete)
        self.form_heading = heading("Test")
        self.editing = ipywidgets.VBox(
            [self.form_heading, self.form, self.script_part, row(self.create, self.save, self.cancel), self.delete]
        )
        self.editing.layout.display = "none"
        self.search.observe(lambda _: self.filter(), "value")
        self.tag.observe(lambda _: self.filter(), "value")
        self.table.observe(lambda change: self.choose_chosen(), "chosen")
        return [row(self.search, self.tag, self.new, self.sample), self.table, self.editing]

    def read(self) -> None:
        self.records = self.panel.read_tests()
        tags = sorted({tag for record in self.records for tag in record.tags})
        with self.hold_trait_notifications():
            chosen = self.tag.value
            if list(self.tag.options) != [ALL_TAGS, *tags]:
                self.tag.options = [ALL_TAGS, *tags]
                self.tag.value = chosen if chosen in tags else ALL_TAGS
        self.filter()
        if not self.creating:
            test = self.panel.test_name
            ids = [record.id for record in self.records if record.name == test]
            self.table.chosen = ids
            self.write(BENCH.test(test)) if ids else self.write(BENCH.tests())

    def filter(self) -> None:
        """Show the tests that fit the search and the tag."""
        words, tag = self.search.value.lower().split(), self.tag.value
        fitting = [
            record
            for record in self.records
            if (tag == ALL_TAGS or tag in record.tags)
            and all(word in f"{record.name} {record.target_url} {record.description}".lower() for word in words)
        ]
        none_fits = "No test fits: take words out of the search, or choose all tags."
        self.table.empty = none_fits if self.records else EMPTY
        self.table.show([_row(record) for record in fitting])

    def begin(self) -> None:
        """Open an empty form."""
        self._open_new({"name": "", "target_url": "", "users": 10, "spawn_rate": 1.0, "duration": "1m",
                        "max_duration": "1h", "description": "", "tags": "", "script": STARTER})  # fmt: skip

    def begin_sample(self) -> None:
        """Open the form with a test of the sample shop."""
        self.job.start("Starting the sample shop…", self._fill_sample, buttons=[self.sample])

    def _fill_sample(self) -> str:
        self._open_new(sample_test())
        return "Filled in: look at it, and press Create test."

    def _open_new(self, fields: dict[str, Any]) -> None:
        self.creating = True
        self.table.chosen = []
        self.form_heading.value = "<h3>New test</h3>"
        self.script.value = fields.pop("script")
        self.form.fill(cluster="", **fields)
        self._script_says("")
        self.job.say("")
        self._open(creating=True)

    def _open(self, *, creating: bool) -> None:
        self.editing.layout.display = ""
        for widget, shown in ((self.script_part, creating), (self.create, creating), (self.save, not creating),
                              (self.delete, not creating)):  # fmt: skip
            widget.layout.display = "" if shown else "none"

    def choose_chosen(self) -> None:
        """Open the form of the test that is chosen in the table; close it if none is."""
        record = self.chosen()
        if record is None:
            self.editing.layout.display = "" if self.creating else "none"
            return
        if self.creating or self.panel.test_name != record.name:
            self.job.say("")
        self.creating = False
        self.panel.choose_test(record.name)
        self.form_heading.value = "<h3>Definition</h3>"
        self.form.fill(**_form_values(record))
        self._open(creating=False)
        self.write(BENCH.test(record.name))

    def on_cancel(self) -> None:
        self.creating = False
        meant = [record.id for record in self.records if record.name == self.panel.test_name]
        if self.table.chosen == meant:
            self.choose_chosen()
        else:
            self.table.chosen = meant

    def chosen(self) -> LoadTest | None:
        return next((record for record in self.records if record.id in self.table.chosen), None)

    def on_create(self) -> None:
        values = self.form.values()
        options = {
            "target_url": values["target_url"], "users": values["users"], "spawn_rate": values["spawn_rate"],
            "duration": values["duration"], "max_duration": values["max_duration"],
            "description": values["description"], "tags": listed(values["tags"]), "cluster": values["cluster"] or None,
        }  # fmt: skip
        options = {name: value for name, value in options.items() if value not in ("", [], None)}
        options.setdefault("target_url", "")
        call = BENCH.create_test(values["name"], self.script.value, **options)

        def work() -> str:
            self._refuse_a_taken_name(values["name"])
            test = self.perform(call)
            self.creating = False
            self.panel.choose_test(test.name)
            self.read()
            return f"Created: {test.name}. Next: Launch starts a run of it."

        self.form.clear()
        self._script_says("")
        self.job.start("Locust loads the script…", work, buttons=[self.create], refused=self._refused)

    def _refuse_a_taken_name(self, name: str) -> None:
        if any(record.name == name for record in self.panel.read_tests()):
            raise InvalidInput(
                f"there is a test {name!r} already: choose another name, or edit that test", field="name"
            )

    def on_save(self) -> None:
        record, values = self.chosen(), self.form.values()
        if record is None:
            return
        before, changed = _form_values(record), {}
        for name, value in values.items():
            if value != before[name]:
                changed["cluster_id" if name == "cluster" else name] = value
        if "tags" in changed:
            changed["tags"] = listed(changed["tags"])
        if "cluster_id" in changed:
            changed["cluster_id"] = changed["cluster_id"] or None
        if not changed:
            self.job.say("Nothing is changed.", kind="hint")
            return
        call = BENCH.test(record.name).update(**changed)

        def work() -> str:
            test = self.perform(call)
            self.panel.choose_test(test.name)
            self.read()
            return f"Saved: {test.name}."

        self.form.clear()
        self.job.start("Saving…", work, buttons=[self.save], refused=self._refused)

    def question(self) -> str:
        record = self.chosen()
        if record is None:
            return ""
        runs = " with all its runs and their figures" if record.recent_runs else ""
        return f"Delete the test “{record.name}” and its script{runs}? This cannot be undone."

    def on_delete(self) -> None:
        record = self.chosen()
        if record is None:
            return
        call = BENCH.test(record.name).delete(cascade=bool(record.recent_runs))

        def work() -> str:
            self.perform(call)
            self.panel.choose_test(None)
            self.table.chosen = []
            self.read()
            return f"Deleted: {record.name}."

        self.job.start("Deleting…", work)

    def _refused(self, error: InvalidInput) -> bool:
        if error.field == "script":
            self._script_says(str(error))
            return True
        return self.form.refuse(error)

    def _script_says(self, message: str) -> None:
        self.script_problem.value = html.panel_line("error", message) if message else ""
        self.script.error_line = line_of(message)


EMPTY = "No tests yet. A test is a Locust script, a target and a load: press New test, or Sample test to try it out."


def line_of(message: str) -> int:
    """Find the line of the script that an error names; 0 if it names none."""
    _, found, rest = message.partition("line ")
    digits = rest.partition(":")[0]
    return int(digits) if found and digits.isdecimal() else 0


def _form_values(record: LoadTest) -> dict[str, Any]:
    return {
        "name": record.name,
        "target_url": record.target_url,
        "users": record.default_users,
        "spawn_rate": record.default_spawn_rate,
        "duration": written_duration(record.default_duration_sec),
        "max_duration": written_duration(record.max_duration_sec),
        "tags": ", ".join(record.tags),
        "cluster": record.cluster_id or "",
        "description": record.description,
    }


def written_duration(seconds: int) -> str:
    """Write seconds as the API reads durations: 90 is `1m30s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if n)


def _row(record: LoadTest) -> dict[str, Any]:
    latest = record.recent_runs[0] if record.recent_runs else None
    return {
        "id": record.id,
        "name": html.printable(record.name),
        "tags": html.printable(", ".join(record.tags)),
        "target": html.shown_url(record.target_url),
        "users": [f"{record.default_users:,}", record.default_users],
        "duration": [html.show(record.default_duration_sec, "s"), record.default_duration_sec],
        "revision": [str(record.latest_revision_number), record.latest_revision_number],
        "baseline": [str(len(record.baseline_run_ids) or html.MISSING), len(record.baseline_run_ids)],
        "latest": [
            f"{latest.status.value}, {short_time(latest.created_at)}" if latest else "no run yet",
            latest.created_at if latest else 0,
        ],
    }
