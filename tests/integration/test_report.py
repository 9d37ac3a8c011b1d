"""Reports and executed notebooks: what is in them, and what happens when they cannot be made."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import resource
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import loadbench as lb
from loadbench import pages, reports, sheets
from loadbench import testing as synthetic
from loadbench.catalogue import Catalogue
from loadbench.errors import InvalidInput, LoadbenchError, ReceiverError
from loadbench.model import Gap, LoadTest, RunStatus
from loadbench.notebooks import execute_notebook
from loadbench.store import Store
from loadbench.store.database import ENV_URI
from tests.executed import executed, run_page

SCRIPT = "from locust import HttpUser, task\n\n\nclass Shopper(HttpUser):\n    pass  # </script><b>\n"
HOSTILE = "/<img src=x onerror=alert(1)>"
SCOPE = {"account_id": "acme", "org_id": "shop", "project_id": "checkout", "env_id": "staging"}
GATES = ("p95 < 500ms", "error rate < 0.1%")
DAY_MS = 86_400_000
SHAPE = {"seconds": 40, "rps": 60, "ramp_s": 6, "origin": "launched", "run_sd": 0.02, "gates": GATES}


@pytest.fixture(scope="module")
def week(mongod) -> Iterator[tuple[Store, LoadTest]]:
    """A test with two revisions and five runs of each in the last days, the later ones slower by a quarter."""
    uri = mongod.find_or_start().replace("/loadbench?", f"/test_{uuid.uuid4().hex[:12]}?")
    with Store.open(uri) as store:
        catalogue, now = Catalogue(store), int(datetime.now(UTC).timestamp() * 1000)
        test = catalogue.create_test(
            LoadTest(name="shop", target_url="http://user:hunter2@127.0.0.1:8089", **SCOPE),
            SCRIPT.encode(), by="ada", check=False,
        )  # fmt: skip
        catalogue.revise(test.id, SCRIPT.replace("pass", "wait_time = 1").encode(), by="ada", check=False)
        test = store.load_tests.get(test.id)
        for number in range(10):
            revision = 1 + number // 5
            made = synthetic.run(
                seed=f"week {number}", started_at=now - (10 - number) * DAY_MS // 2, revision_number=revision,
                slowdown=1.25 if revision == 2 else 1.0, **SHAPE,
            )  # fmt: skip
            synthetic.keep(store, made, test)
        yield store, test
        store.database.client.drop_database(store.database.name)


@pytest.fixture
def bench(week) -> Iterator[lb.Workbench]:
    bench = lb.Workbench("acme/shop/checkout", "staging", mongodb_uri=week[0].uri, receive=False)
    yield bench
    bench.close()


@pytest.fixture
def kept(store, monkeypatch):
    """Keep made-up runs in a database of this test's own; notebooks executed here find it."""
    monkeypatch.setenv(ENV_URI, store.uri)
    return lambda **how: synthetic.keep(store, synthetic.run(**how))


def page(path: Path) -> str:
    """Give the report without plotly.js and its own styles."""
    text = re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def figures_of(path: Path) -> list[dict]:
    cells = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [output["data"][pages.FIGURE] for output in outputs if pages.FIGURE in output.get("data", {})]


def is_offline(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"<(?:script|img|iframe|object|embed)[^>]*\b(?:src|data)=", text)
    assert not re.findall(r"<link[^>]*href=\"(?!data:)", text)
    assert not re.findall(r"(?:https?:)?//(?:cdn|unpkg|cdnjs)", page(path))
    assert text.count("Plotly, Inc.") == 1


def test_a_run_is_reported_by_an_executed_notebook(week, bench, tmp_path):
    run = bench.run(bench.test("shop").runs().index[0])
    path = run.report(tmp_path / "new folder" / "run.html")
    assert path == tmp_path / "new folder" / "run.html"
    assert sorted(each.name for each in path.parent.iterdir()) == ["run.html", "run.ipynb"]
    assert path.stat().st_size < 2_500_000
    assert path.with_suffix(".ipynb").stat().st_size < 1_000_000
    text, total, whole = page(path), run.summary(window="steady").iloc[-1], run.summary().iloc[-1]
    for part in (
        ">VALID</b>",
        "1 of 2 gates passed",
        "It ran for its full duration. All intervals arrived, and their sums agree. Of 2 gates: 1 passed, 1 broken.",
        "error rate &lt; 0.1%",
        f"<dt>requests</dt><dd>{total.requests:,}</dd>",
        f"<dt>p95</dt><dd>{total.p95_ms:.0f} ms</dd>",
        f"Whole run: requests {whole.requests:,}",
        "Of the window steady",
        "within 0.5 % of the exact value",
        run.id,
        sheets.data_sha256(run._documents()),
        "2.47.0",
    ):
        assert part in text
    assert len(figures_of(path)) == 7
    is_offline(path)
    for file in (path, path.with_suffix(".ipynb")):
        assert "hunter2" not in file.read_text()
        assert week[0].uri not in file.read_text()
    assert not (Path(os.environ["LOADBENCH_HOME"]) / "receiver.json").exists()


@pytest.mark.long
def test_pools_are_compared_in_a_report(week, bench, tmp_path):
    test = bench.test("shop")
    path = lb.compare(test.pool(revision=2), test.pool(revision=1)).report(tmp_path / "both.html")
    text = page(path)
    for part in (
        "revision 2 (5 runs)</bdi> against <bdi>revision 1 (5 runs)",
        '<b class="stamp">slower</b>',
        "10 of 10 runs VALID",
        "<del>-    pass  # &lt;/script&gt;&lt;b&gt;</del>",
        "<ins>+    wait_time = 1  # &lt;/script&gt;&lt;b&gt;</ins>",
        '<td class="slower">',
        "Holm",
    ):
        assert part in text
    assert len(figures_of(path)) == 6
    assert all(run_id in text for run_id in test.runs().index)
    is_offline(path)


@pytest.mark.long
def test_a_week_of_a_test_is_a_report(week, bench, tmp_path):
    path = bench.test("shop").report(7, tmp_path / "week.html")
    text = page(path)
    for part in ("10 of 10 runs VALID", "10 of 20 gates passed", "1 change in these days", "1 -&gt; 2", "What changed"):
        assert part in text
    assert "p95 &lt; 500ms" in text
    assert len(figures_of(path)) == 1
    is_offline(path)
    parameters = json.loads(path.with_suffix(".ipynb").read_text())["metadata"]["papermill"]["parameters"]
    assert set(parameters) == {"scope", "env", "test_name", "days", "until", "window"}


@pytest.mark.long
def test_the_same_data_gives_the_same_figures(bench, tmp_path):
    run = bench.run(bench.test("shop").runs().index[0])
    first, second = run.report(tmp_path / "a.html"), run.report(tmp_path / "b.html")
    assert figures_of(first) == figures_of(second)
    made = re.compile(r"Made \S+ by")
    assert made.sub("", first.read_text()) == made.sub("", second.read_text())


def test_a_page_allows_its_own_scripts_only(store, kept, tmp_path):
    text = run_page(store, kept(seed="policy", seconds=10), tmp_path / "run.html").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert policy.split("; ")[:2] == ["default-src 'none'", f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'"]


def test_names_and_messages_cannot_get_out_of_a_report(store, kept, tmp_path):
    run = kept(
        seed="hostile",
        seconds=10,
        endpoints=[("GET", HOSTILE), ("POST", "/\u202egpj.exe")],
        failure_ratio=0.3,
        messages=("\x1b[31mred\x1b[0m </script><script>alert(2)</script>", "<svg onload=alert(3)>"),
        name="</title><script>alert(4)</script>",
        notes="<iframe>",
    )
    text = page(run_page(store, run, tmp_path / "run.html"))
    assert not re.findall(r"<(?:img|svg|iframe)\b", text)
    assert text.count("<script") == text.count('<div class="chart">') == 7
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    for figure in re.findall(r'<script type="application/json">(.*?)</script>', text):
        assert json.loads(figure)["data"]
        assert not set("<>&") & set(figure)


def test_gaps_make_the_run_suspect_in_headline_and_chart(store, kept, tmp_path):
    gap = Gap(source="master-0", from_seq=4, to_seq=6, requests=150)
    run = kept(seed="gaps", seconds=20, lost=(4, 5, 6), gaps=(gap,), workers_lost=2, origin="launched")
    text = page(run_page(store, run, tmp_path / "run.html"))
    assert "Some intervals never arrived: the figures leave them out." in text
    assert ">VALID</b>" not in text
    assert text.count("2 workers lost") >= 3


@pytest.mark.parametrize(
    ("fields", "words", "charts"),
    [
        ({"status": RunStatus.FAILED, "stop_reason": "error", "error": "NameError: name 'x'"}, "INVALID", 0),
        ({"status": RunStatus.RUNNING, "stop_reason": None, "finished_at": None}, "shows what has arrived so far", 7),
        ({"origin": "imported", "metadata": {"hasDistributions": True}}, "All of it is here", 7),
    ],
    ids=["failed", "running", "imported"],
)
def test_every_run_has_an_honest_report(store, kept, tmp_path, fields, words, charts):
    made = synthetic.run(seed="state", seconds=10)
    if not charts:
        fields |= {"started_at": None, "finished_at": None, "completeness": "unknown", "last_metrics": None}
        made = synthetic.Synthetic(made.run.model_copy(update={**fields, "environment": None}), [], made.raw)
    else:
        made = synthetic.Synthetic(made.run.model_copy(update=fields), made.documents, made.raw)
    run = synthetic.keep(store, made)
    text = page(run_page(store, run, tmp_path / "run.html"))
    assert words in text
    assert text.count('<div class="chart">') == charts
    if not charts:
        assert "NameError: name &#39;x&#39;" in text
        assert "No request was recorded." in text
        assert "Timeline" not in text


def test_a_run_whose_intervals_are_deleted_is_reported_from_its_seal(store, kept, tmp_path):
    run = kept(seed="old", seconds=20)
    before = page(run_page(store, run, tmp_path / "before.html"))
    store.ledger.delete(run.id)
    store.database.load_test_runs.update_one({"_id": run.id}, {"$set": {"purgedAt": run.finished_at}})
    text = page(run_page(store, store.runs.get(run.id), tmp_path / "run.html"))
    assert "only its summary is left" in text
    cards = re.compile(r'<dl class="figures">.*?</dl>', re.DOTALL)
    assert cards.search(text)[0] == cards.search(before)[0]
    assert text.count('<div class="chart">') == 2


def test_another_window_is_shown_and_named(store, kept, tmp_path):
    run = kept(seed="window", seconds=30, ramp_s=8)
    text = page(run_page(store, run, tmp_path / "run.html", window="whole"))
    assert "Of the whole run, ramp and drain included." in text
    with pytest.raises(InvalidInput, match=r"window must be one of whole, .*steady.*; not 'middle'"):
        reports.run_report(store, run, tmp_path / "none.html", window="middle")
    assert not (tmp_path / "none.html").exists()


def test_a_test_without_runs_has_a_trend(store, kept, tmp_path):
    Catalogue(store).create_test(
        LoadTest(name="idle", target_url="http://127.0.0.1:9", **SCOPE), SCRIPT.encode(), by="ada", check=False
    )
    parameters = {"scope": "acme/shop/checkout", "env": "staging", "test_name": "idle", "days": 7, "until": None}
    done = executed(reports.template("trend"), parameters | {"window": "steady"}, set())
    assert "No run was started in these days." in pages.render(done, title="idle")
    with pytest.raises(InvalidInput, match="days must be a number in 1-3650; not 0"):
        reports.trend_report(store, store.load_tests.find(name="idle")[0], days=0)


def test_a_workbench_that_only_reads_has_no_receiver(store, kept):
    run = kept(seed="reader", seconds=5)
    bench = lb.Workbench("acme/shop/checkout", "staging", receive=False)
    assert repr(bench) == "<Workbench acme/shop/checkout (staging), receiver not started>"
    assert bench.run(run.id).summary()["requests"].iloc[-1] > 0
    with pytest.raises(ReceiverError, match="this workbench only reads: make it without receive=False"):
        bench.run(run.id).stop()
    bench.close()
    assert not (Path(os.environ["LOADBENCH_HOME"]) / "receiver.json").exists()


def test_a_page_replaces_the_file_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.html"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the disk takes a part of it and no more
    try:
        with pytest.raises(InvalidInput, match=r"cannot write .*run.html: File too large; give a path"):
            pages.write(path, b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_says_where_it_cannot_be_written(store, kept, tmp_path):
    run = kept(seed="path", seconds=5)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"cannot write .*; give a path that can be written"):
        reports.run_report(store, run, tmp_path / "file" / "below.html")
    with pytest.raises(InvalidInput, match=r"the path is that of the HTML file"):
        reports.run_report(store, run, tmp_path / "run.ipynb")


@pytest.mark.long
def test_a_report_that_breaks_leaves_the_old_one_and_says_where(store, kept, tmp_path):
    run = kept(seed="broken", seconds=5)
    (tmp_path / "run.html").write_text("old")
    mine = a_notebook(tmp_path / "mine.ipynb", "scope = env = run_id = window = 1", "1 + 1", "raise ValueError('no')")
    with pytest.raises(LoadbenchError) as caught:
        reports.run_report(store, run, tmp_path / "run.html", notebook=mine)
    failed = tmp_path / "run.failed.ipynb"
    assert str(caught.value) == f"mine.ipynb failed in cell 4: ValueError: no (executed up to there in {failed})"
    assert json.loads(failed.read_text())["cells"]
    assert (tmp_path / "run.html").read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.ipynb", "run.failed.ipynb", "run.html"]


def test_the_data_hash_is_that_of_the_intervals_in_order():
    documents = synthetic.run(seed="hash", seconds=5).documents
    assert sheets.data_sha256(documents) == sheets.data_sha256(documents[::-1])
    assert sheets.data_sha256(documents) != sheets.data_sha256(documents[:-1])
    lines = "".join(f"{document['bodySha256']}\n" for document in documents)
    assert sheets.data_sha256(documents) == hashlib.sha256(lines.encode()).hexdigest()


def a_notebook(path: Path, *sources: str, tags: tuple[str, ...] = ("parameters",)) -> Path:
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{index}",
            "metadata": {"tags": list(tags)} if index == 0 else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for index, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_notebook_is_executed_with_its_parameters(tmp_path):
    source = a_notebook(tmp_path / "in.ipynb", "users = 1", "from pathlib import Path; print(users * 2, Path.cwd())")
    output = execute_notebook(source, tmp_path / "out" / "done.ipynb", {"users": 21}, cwd=tmp_path)
    assert output == tmp_path / "out" / "done.ipynb"
    printed = "".join(json.loads(output.read_text())["cells"][-1]["outputs"][0]["text"])
    assert printed == f"42 {tmp_path}\n"


def test_a_failing_cell_is_one_readable_line(tmp_path):
    source = a_notebook(tmp_path / "in.ipynb", "users = 1", "1 + 1", "raise ValueError('no\\nusers')")
    with pytest.raises(LoadbenchError) as caught:
        execute_notebook(source, tmp_path / "out.ipynb", progress=False)
    assert str(caught.value) == (
        f"in.ipynb failed in cell 3: ValueError: no (executed up to there in {tmp_path / 'out.ipynb'})"
    )
    assert (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("parameters", "tags", "message"),
    [
        ({"api_token": "x"}, ("parameters",), "parameter api_token looks like a secret"),
        ({"users": [1]}, ("parameters",), "parameter users must be a text, a number, true, false or null"),
        ({"users": 1}, (), "in.ipynb has no cell tagged parameters to take users"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, parameters, tags, message):
    source = a_notebook(tmp_path / "in.ipynb", "users = 1", tags=tags)
    with pytest.raises(InvalidInput, match=message):
        execute_notebook(source, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"no notebook in .*missing.ipynb"):
        execute_notebook(tmp_path / "missing.ipynb", tmp_path / "out.ipynb")
