"""The view that starts a run: what it takes from its test, what is different this time, what it will be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from loadbench import html
from loadbench.catalogue import etag
from loadbench.errors import InvalidInput, TargetUnreachable
from loadbench.model import LoadTest
from loadbench.panel.call import BENCH, Call
from loadbench.panel.field import Field, Form, listed
from loadbench.panel.tests import written_duration
from loadbench.panel.view import ViewOfTest, button, heading, row

LATEST = "latest"
OF_THE_TEST = "as the test says"


class Launch(ViewOfTest):
    """Start a run of the chosen test."""

    title = "Launch"

    def build_body(self) -> Sequence[ipywidgets.Widget]:
        self.record: LoadTest | None = None
        self.form = Form(
            {
                "users": Field(1),
                "spawn_rate": Field(1.0, hint="users started per second"),
                "duration": Field("1m", hint="90s, 1m30s or 2h"),
                "target_url": Field(),
                "revision": Field(LATEST, options=[LATEST]),
                "cluster": Field(OF_THE_TEST, options=[OF_THE_TEST]),
                "workers": Field(0, hint="0 for one Locust process, N for a master with N workers"),
                "arguments": Field(hint="the script's own: shop=corner, verbose"),
                "name": Field(hint="left empty: the name of the test"),
                "tags": Field(hint="separated by commas"),
                "notes": Field(rows=2, hint="why this run is made"),
                "gates": Field(rows=3, hint="of this run, one a line, such as: p95 > 800ms for 10s -> stop"),
            },
            wide=("notes", "gates"),
        )
        self.estimate = ipywidgets.HTML()
        self.estimate.add_class("lb-estimate")
        self.start = button("Start", self.on_start, style="primary")
        self.start.add_class("lb-big")
        for field in ("users", "spawn_rate", "duration", "workers"):
            self.form[field].input.observe(lambda _: self.look_ahead(), "value")
        for field in self.form.fields.values():
            field.input.observe(lambda _: self._write(), "value")
        return [self.form, heading("What will run"), self.estimate, row(self.start)]

    def read_test(self, name: str) -> None:
        record = self.bench.test(name).record
        if self.record is None or self.record.id != record.id or etag(self.record)[:9] != etag(record)[:9]:
            self._fill(record)  # only if the definition is another: a run that went on changes nothing here
        self._look_ahead()
        self._write()

    def _fill(self, record: LoadTest) -> None:
        """Put the values of the test into the form; what was entered for another test is gone."""
        self.record = None  # nothing is to be computed from a form that is half filled
        numbers = [str(number) for number in range(record.latest_revision_number, 0, -1)]
        self.form["revision"].input.options = [LATEST, *numbers]
        clusters = [cluster.id for cluster in self.panel.clusters()]
        self.form["cluster"].input.options = [OF_THE_TEST, *clusters]
        self.form.fill(
            users=record.default_users, spawn_rate=record.default_spawn_rate,
            duration=written_duration(record.default_duration_sec), target_url=record.target_url, revision=LATEST,
            cluster=OF_THE_TEST, workers=0, arguments="", name="", tags="", notes="", gates="\n".join(record.gates),
        )  # fmt: skip
        self.record = record

    def overrides(self) -> dict[str, Any]:
        """Give what is to be different from the test, as `Test.start` calls it."""
        record, values = self.record, self.form.values()
        inherited = {
            "users": record.default_users, "spawn_rate": record.default_spawn_rate, "target_url": record.target_url,
            "duration": written_duration(record.default_duration_sec), "workers": 0, "name": "", "notes": "",
        }  # fmt: skip
        found = {name: values[name] for name, usual in inherited.items() if values[name] != usual}
        if values["revision"] != LATEST:
            found["revision"] = int(values["revision"])
        if values["cluster"] != OF_THE_TEST:
            found["cluster"] = values["cluster"]
        if values["tags"]:
            found["tags"] = listed(values["tags"])
        if values["arguments"]:
            found["arguments"] = arguments_of(values["arguments"])
        gates = [line.strip() for line in values["gates"].splitlines() if line.strip()]
        if tuple(gates) != self.record.gates:
            found["gates"] = gates
        return found

    def call(self) -> Call:
        """Give what Start does."""
        return BENCH.test(self.record.name).start(**self.overrides())

    def _write(self) -> None:
        if self.record is not None:
            self.write(self.call())

    def look_ahead(self) -> None:
        """Say what will run, as it stands in the form."""
        if self.record is not None:
            self.reading.start("", self._look_ahead)

    def _look_ahead(self) -> None:
        fields = ("users", "spawn_rate", "duration", "workers")
        chosen = {name: self.form[name].value for name in fields}
        try:
            estimate = BENCH.test(self.record.name).estimate(**chosen).perform(self.bench)
        except InvalidInput as error:
            self.form.refuse(error)
            self.estimate.value = html.panel_line("hint", "Not known while a field above is wrong.")
            return
        self.form.clear()
        self.estimate.value = html.panel_line("hint", repr(estimate))

    def on_start(self) -> None:
        if self.record is None:
            return
        call = self.call()

        def work() -> str:
            self.write(call)
            try:
                run = call.perform(self.bench)
            except TargetUnreachable as error:
                raise InvalidInput(str(error), field="target_url") from None
            self.record = self.bench.test(self.record.name).record
            self.panel.watch([run.id])
            return f"Started: {run.record.name} ({html.short_id(run.id)}). It is shown in Live."

        self.form.clear()
        self.job.start("Starting Locust…", work, buttons=[self.start], refused=self.form.refuse)


def arguments_of(text: str) -> dict[str, Any]:
    """Read a script's own arguments: `shop=corner, verbose`; one without a value is an option that is set."""
    found: dict[str, Any] = {}
    for part in listed(text):
        name, given, value = part.partition("=")
        found[name.strip().removeprefix("--")] = value.strip() if given else True
    return found
