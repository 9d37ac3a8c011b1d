"""The panel without a browser: its widgets are driven as a hand would, against a real store, and real Locust."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadbench import html
from loadbench.model import RunStatus
from loadbench.panel import Panel
from loadbench.panel.call import BENCH, LB, cell
from loadbench.panel.diff import side_by_side
from loadbench.panel.view import View
from tests.builders import a_run
from tests.scripts import STEADY
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def panel(bench: Any) -> Iterator[Panel]:
    panel = Panel(bench)
    settle(panel.tests)
    yield panel
    panel.close()


def settle(view: View, *, within_s: float = 30) -> View:
    """Wait until a view does nothing any more."""
    wait_until(lambda: not (view.reading.running or view.job.running), within_s=within_s, message="the view is busy")
    return view


def turn_to(view: View) -> Any:
    view.panel.turn_to(view)
    return settle(view)


def click(button: Any, view: View) -> str:
    """Press a button, and give what the view says in the end."""
    assert not button.disabled
    button.click()
    settle(view)
    return view.job.value


def create(panel: Panel, url: str, *, name: str = "shop", **values: Any) -> None:
    tests = turn_to(panel.tests)
    tests.new.click()
    tests.script.value = STEADY
    tests.form.fill(name=name, target_url=url, **{"users": 5, "spawn_rate": 5.0, "duration": "3s", **values})
    assert "Created" in click(tests.create, tests)


def define(panel: Panel, bench: Any, url: str, *, name: str = "shop", **options: Any) -> None:
    """Have a test, without the second that Locust takes to load its script."""
    bench.create_test(
        name, STEADY, target_url=url, **{"users": 5, "spawn_rate": 5, "duration": "3s", **options}, check=False
    )
    turn_to(panel.tests)


def performed(view: View, bench: Any) -> Any:
    """Run the code that "Copy as cell" gives, and give the value of its last line."""
    names: dict[str, Any] = {}
    tree = ast.parse(view.code.code)
    assert isinstance(tree.body[1], ast.Assign), "the second statement makes the workbench"
    last = tree.body.pop()
    del tree.body[1]
    names["bench"] = bench
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize(
    "text",
    ["plain", 'a "quoted" one', "it's", "two\nlines", 'with """ in\nit', "back\\slash\nand line", "tab\tand\n",
     "\x07\n", "\nx", "ends with a quote\n'\"", "x\\\n", "ü\u202e"],
)  # fmt: skip
def test_code_that_is_shown_says_what_is_done(text: str):
    source = BENCH.create_test("shop", text, tags=[text], options={"a": 1.5, text: None}).source()
    call = ast.parse(source).body[0].value
    assert ast.literal_eval(call.args[1]) == text
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert given == {"tags": [text], "options": {"a": 1.5, text: None}}


def test_a_cell_has_the_import_and_the_workbench(bench: Any):
    text = cell(bench.scope, LB.compare(BENCH.run("run-1"), [BENCH.run("run-2"), BENCH.run("run-3")]))
    assert text == (
        'import loadbench as lb\n\nbench = lb.Workbench("acme/shop/checkout", env="test")\n'
        'lb.compare(bench.run("run-1"), [bench.run("run-2"), bench.run("run-3")])'
    )


def test_an_empty_database_says_what_to_do_next(panel: Panel):
    assert "No tests yet" in panel.tests.table.empty
    assert panel.tests.table.rows == []
    for view in (panel.script, panel.launch):
        turn_to(view)
        assert view.empty.layout.display == ""
        assert view.body.layout.display == "none"
    for view in (panel.live, panel.runs, panel.comparison, panel.reports):
        turn_to(view)
        assert view.table.rows == []
        assert "start" in view.table.empty.lower() or "yet" in view.table.empty
    assert "No tests yet." in panel.text()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.text()


def test_a_test_is_created_found_edited_and_deleted(panel: Panel, bench: Any, shop: Any):
    create(panel, shop.url, tags="smoke, nightly", description="Browse only")
    define(panel, bench, shop.url, name="other")
    record = bench.test("shop").record
    assert (record.default_users, record.default_spawn_rate, record.default_duration_sec) == (5, 5.0, 3)
    assert record.tags == ("smoke", "nightly")
    tests = panel.tests
    assert [row["name"] for row in tests.table.rows] == ["other", "shop"]
    tests.search.value = "browse"
    assert [row["name"] for row in tests.table.rows] == ["shop"]
    tests.search.value = "nothing like it"
    assert tests.table.rows == []
    assert "No test fits" in tests.table.empty
    tests.search.value, tests.tag.value = "", "nightly"
    assert [row["name"] for row in tests.table.rows] == ["shop"]
    tests.tag.value = "all tags"
    tests.table.chosen = [record.id]
    assert panel.chooser.value == "shop"
    assert tests.form["users"].value == 5
    tests.form.fill(users=7, tags="nightly")
    assert "Saved" in click(tests.save, tests)
    assert bench.test("shop").record.default_users == 7
    assert bench.test("shop").record.tags == ("nightly",)
    assert "Nothing is changed" in click(tests.save, tests)
    tests.delete.ask.click()
    assert "Delete the test" in tests.delete.question.value
    assert len(bench.tests()) == 2
    assert "Deleted" in click(tests.delete.yes, tests)
    assert list(bench.tests()["name"]) == ["other"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("users", -1, "Users should be greater than or equal to 1"),
        ("spawn_rate", 0.0, "Spawn rate should be greater than 0"),
        ("duration", "soon", "Duration must be whole seconds or read like 90s"),
        ("duration", "2h", "“Duration” 7200 s is over “Max. duration” 3600 s"),
        ("max_duration", "soon", "Max. duration must be whole seconds or read like 90s"),
        ("target_url", "shop", "Target must be a URL such as http://127.0.0.1:8000; not &#39;shop&#39;"),
        ("name", "", "Name should have at least 1 character"),
        ("tags", "x" * 500, "Tags should have at most"),
    ],
)
def test_what_is_wrong_stands_next_to_its_field(
    panel: Panel, bench: Any, shop: Any, field: str, value: Any, words: str
):
    tests = panel.tests
    tests.new.click()
    tests.script.value = STEADY
    tests.form.fill(**{"name": "shop", "target_url": shop.url, field: value})
    assert "see the field" in click(tests.create, tests)
    assert words in tests.form[field].problem.value
    assert [name for name, each in tests.form.fields.items() if each.problem.value] == [field]
    assert bench.tests().empty
    tests.form[field].value = {"users": 3, "spawn_rate": 1.0}.get(field, "corrected")
    assert tests.form[field].problem.value == ""


def test_what_is_wrong_with_a_launch_stands_next_to_its_field(panel: Panel, bench: Any, shop: Any):
    define(panel, bench, shop.url)
    launch = turn_to(panel.launch)
    over = "Duration 7200 s is over the maximum of &#39;shop&#39;, 3600 s: shorten it, or raise “Max. duration” of the"
    for field, value, words in (
        ("users", 0, "Users should be greater than or equal to 1"),
        ("spawn_rate", -1.0, "Spawn rate should be greater than 0"),
        ("duration", "2h", over),
        ("target_url", "shop", "Target must be a URL such as http://127.0.0.1:8000; not &#39;shop&#39;"),
        ("workers", -1, "Workers should be greater than or equal to 0"),
        ("name", "x" * 500, "Name should have at most"),
        ("tags", "x" * 500, "Tags should have at most"),
        ("gates", "p95 <", "gate &#39;p95 &lt;"),
    ):
        was, launch.form[field].value = launch.form[field].value, value
        settle(launch)
        assert "see the field" in click(launch.start, launch)
        assert words in launch.form[field].problem.value
        assert [name for name, each in launch.form.fields.items() if each.problem.value] == [field]
        launch.form[field].value = was
    assert bench.runs().empty


def test_a_script_that_locust_cannot_load_is_not_stored_and_its_line_is_marked(panel: Panel, bench: Any, shop: Any):
    tests = panel.tests
    tests.new.click()
    tests.form.fill(name="shop", target_url=shop.url)
    tests.script.value = STEADY.replace("constant(0.05)", "constants(0.05)")
    click(tests.create, tests)
    assert "NameError" in tests.script_problem.value
    assert tests.script.error_line == 5
    assert bench.tests().empty


def test_scripts_are_checked_revised_compared_and_restored(panel: Panel, bench: Any, shop: Any):
    define(panel, bench, shop.url)
    script = turn_to(panel.script)
    assert script.editor.value == STEADY
    script.editor.value = "def broken(:\n"
    assert click(script.save, script)
    assert script.editor.error_line == 1
    assert "does not compile" in script.problem.value
    script.editor.value = STEADY.replace("0.05", "0.25")
    assert "Shopper" in click(script.check, script)
    assert bench.test("shop").record.latest_revision_number == 1
    script.note.value = "slower users"
    assert "revision 2" in click(script.save, script)
    assert (script.old.value, script.new.value) == (1, 2)
    assert 'class="lb-changed"' in script.diff.value
    assert "constant(0.25)" in script.diff.value
    assert [row["id"] for row in script.revisions.rows] == ["2", "1"]
    script.revisions.chosen = ["1"]
    assert "Revision 1 is revision 3 now" in click(script.restore, script)
    assert bench.test("shop").script() == STEADY
    assert bench.test("shop").revisions()["note"].iloc[-1] == "revision 1 restored"
    assert script.editor.value == STEADY


def test_lines_of_two_scripts_are_aligned():
    before, after = "a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\ne\nf\nG\nnew\nh\n"
    lines = side_by_side(before, after, context=1)
    assert [line.kind for line in lines] == ["folded", "equal", "changed", "added", "equal"]
    assert lines[0].folded == 5
    assert (lines[2].old, lines[2].new) == ((7, "g"), (7, "G"))
    assert (lines[3].old, lines[3].new) == (None, (8, "new"))


def test_from_launch_to_comparison_on_real_locust(panel: Panel, bench: Any, shop: Any):
    define(panel, bench, shop.url)
    launch = turn_to(panel.launch)
    assert "5 users, all there after 1 s; 3 s in all; 1 Locust process; no finished run yet" in launch.estimate.value
    launch.form["users"].value = 0
    settle(launch)
    assert "Users must be above 0" in launch.form["users"].problem.value
    launch.form.fill(users=4, notes="first try", tags="mouse", gates="p95 < 5s")
    settle(launch)
    assert "users=4" in launch.code.code
    assert 'gates=["p95 < 5s"]' in launch.code.code
    launch.form["target_url"].value = "http://127.0.0.1:9"
    assert "see the field" in click(launch.start, launch)
    assert "does not answer" in launch.form["target_url"].problem.value
    launch.form["target_url"].value = shop.url
    said = click(launch.start, launch)
    assert "Started" in said, said
    assert panel.open_view is panel.live
    settle(panel.live)
    (run_id,) = panel.live.views
    run = bench.run(run_id)
    assert (run.record.target_users, run.record.notes, run.record.tags) == (4, "first try", ("mouse",))
    second = bench.test("shop").start(users=4)
    run.wait()
    view = panel.live.views[run_id]
    wait_until(lambda: view.run.is_over, within_s=10, message="the live view did not hear of the end")
    wait_until(lambda: [gate["passed"] for gate in view._gates] == [True], within_s=10, message="gates not judged")
    second.wait()

    runs = turn_to(panel.runs)
    assert [row["id"] for row in runs.table.rows] == [second.id, run_id]
    assert runs.actions.layout.display == "none"
    p95_ms = run.summary(window="steady").iloc[-1]["p95_ms"]
    assert runs.table.rows[1]["p95"] == [html.show(p95_ms, "ms"), p95_ms]
    assert runs.table.rows[1]["validity"] == ["SUSPECT", 1]
    runs.table.chosen = [run_id]
    assert str(run.validity()) in runs.picked.value
    runs.form.fill(notes="kept", tags="mouse, kept", name="the first")
    assert "Saved" in click(runs.annotate, runs)
    assert bench.run(run_id).record.notes == "kept"
    assert "baseline now" in click(runs.make_baseline, runs)
    assert bench.test("shop").record.baseline_run_ids == (run_id,)
    runs.delete.ask.click()
    assert "is a baseline" in click(runs.delete.yes, runs)
    assert "first try" not in runs.code.code

    runs.table.chosen = [run_id, second.id]
    runs.compare.click()
    compare = panel.comparison
    wait_until(lambda: compare.result.layout.display == "" and settle(compare), within_s=20, message=compare.job.value)
    assert compare.chart.figure
    assert f'bench.run("{second.id}")' in compare.code.code
    assert performed(compare, bench).to_json()
    compare.reference.value = "the baseline of the test"
    compare.table.chosen = [second.id]
    assert "baseline()" in compare.code.code
    assert "Compared" in click(compare.go, compare)

    live = turn_to(panel.live)
    live.watch([run_id, second.id])
    settle(live)
    assert set(live.views) == {run_id, second.id}
    assert live.views[second.id]._band.runs == 1
    runs = turn_to(panel.runs)
    runs.table.chosen = [run_id]
    assert "out of the baseline" in click(runs.unmake_baseline, runs)
    runs.table.chosen = [run_id]
    runs.delete.ask.click()
    assert "Deleted" in click(runs.delete.yes, runs)
    assert [row["id"] for row in runs.table.rows] == [second.id]


def test_runs_are_found_by_validity(panel: Panel, bench: Any, shop: Any):
    define(panel, bench, shop.url)
    test, store = bench.test("shop").record, bench._backend.store
    planned = store.runs.add(a_run(test))
    failed = store.runs.add(a_run(test, status=RunStatus.FAILED, error="planted"))
    runs = turn_to(panel.runs)
    assert {row["id"]: (row["p95"][0], row["validity"][0]) for row in runs.table.rows} == {
        planned.id: ("–", "–"), failed.id: ("–", "INVALID"),
    }  # fmt: skip
    runs.table.chosen = [failed.id]
    assert "INVALID: the run failed: planted" in runs.picked.value
    runs.validity.value = "INVALID"
    assert [row["id"] for row in runs.table.rows] == runs.table.chosen == [failed.id]
    runs.validity.value = "VALID"
    assert runs.table.rows == []
    assert "No run fits" in runs.table.empty
    assert runs.actions.layout.display == "none", "what is not listed is not picked"


@pytest.mark.long
def test_reports_of_a_run_a_comparison_and_a_trend_are_built_and_listed(
    panel: Panel, bench: Any, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    define(panel, bench, shop.url)
    first, second = bench.test("shop").start(), bench.test("shop").start()
    first.wait(), second.wait()
    reports, compare = turn_to(panel.reports), panel.comparison
    assert reports.go.disabled
    assert reports.files.rows == []
    reports.table.chosen = [first.id]
    reports.go.click()
    settle(reports, within_s=150)
    assert "Built" in reports.job.value, reports.job.value
    assert reports._read().lstrip().lower().startswith(b"<!doctype html")
    assert f"{first.id}.html, the executed notebook beside it." in reports.place.value
    assert f'bench.run("{first.id}").report()' in reports.code.code
    reports.trend.click()
    settle(reports, within_s=150)
    assert reports.download.name == f"trend-{bench.test('shop').record.id}.html"
    assert 'bench.test("shop").report()' in reports.code.code
    turn_to(compare).pick([first.id, second.id])
    settle(compare)
    compare.report.click()
    settle(compare, within_s=150)
    assert "listed in Reports as well" in compare.job.value
    turn_to(reports)
    assert reports.download.name == compare.download.name == f"comparison-{second.id}.html"
    assert reports._read() == compare._read_report()
    another = Panel(bench)
    try:
        found = turn_to(another.reports).files.rows
        assert [row["name"] for row in found] == [row["name"] for row in reports.files.rows]
        assert [row["of"].split()[0] for row in found] == ["comparison", "trend", "run"]
    finally:
        another.close()


def test_reports_that_are_there_are_listed_and_given_to_the_page(
    panel: Panel, bench: Any, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    define(panel, bench, shop.url)
    test = bench.test("shop").record
    run = bench._backend.store.runs.add(a_run(test, name="<i>", status=RunStatus.FAILED))
    directory = tmp_path / "reports"
    directory.mkdir()
    for place, name in enumerate((run.id, f"comparison-{run.id}", f"trend-{test.id}", "run-of-somebody-else")):
        path = directory / f"{name}.html"
        path.write_bytes(b"<!doctype html>" + name.encode())
        os.utime(path, (1_800_000_000 + place,) * 2)
    reports = turn_to(panel.reports)
    assert [(row["name"], row["of"].replace(html.short_id(run.id), "id")) for row in reports.files.rows] == [
        (f"trend-{test.id}.html", "trend of shop"),
        (f"comparison-{run.id}.html", "comparison of <i> (id)"),
        (f"{run.id}.html", "run <i> (id)"),
    ]
    assert reports.download.name == ""
    reports.files.chosen = [reports.files.rows[1]["id"]]
    assert reports.download.name == f"comparison-{run.id}.html"
    assert reports._read() == f"<!doctype html>comparison-{run.id}".encode()
    assert f"comparison-{run.id}.html." in reports.place.value
    (directory / f"comparison-{run.id}.html").unlink()
    turn_to(reports)
    assert len(reports.files.rows) == 2
    assert reports.download.name == ""


def test_a_callback_does_not_hold_the_kernel(panel: Panel, shop: Any):
    import time

    tests = panel.tests
    tests.new.click()
    tests.form.fill(name="shop", target_url=shop.url)
    tests.script.value = STEADY
    began = time.monotonic()
    tests.create.click()
    assert time.monotonic() - began < 0.2
    assert tests.job.running
    assert tests.create.disabled
    assert "Locust loads the script" in tests.job.value
    settle(tests)
    assert not tests.create.disabled


def test_what_is_pressed_while_something_else_is_done_is_done_next(panel: Panel, shop: Any):
    script = panel.script
    go_on = threading.Event()
    drawn = []

    def hold() -> None:
        go_on.wait(20)

    script.job.start("", hold)
    for _ in range(3):
        script.job.start("", drawn.clear)
    script.job.start("", lambda: drawn.append("drawn"))
    script.editor.value = STEADY + "\nx = (1"
    script.check.click()
    assert script.check.disabled
    assert "Locust loads the script" in script.job.value
    assert len(script.job._waiting) == 3, "what waits is done once"
    go_on.set()
    settle(script)
    assert drawn == ["drawn"]
    assert "does not compile" in script.problem.value
    assert not script.check.disabled


def test_a_store_that_is_away_is_said_in_words(panel: Panel, bench: Any, monkeypatch: Any):
    from pymongo.errors import ServerSelectionTimeoutError

    def away(*_: Any, **__: Any) -> Callable[..., None]:
        raise ServerSelectionTimeoutError("no server\nand more")

    monkeypatch.setattr(bench._backend.store.load_tests, "find", away)
    tests = turn_to(panel.tests)
    assert "no server" in tests.reading.value
