"""The report file and executed notebooks: what is in them, and what happens when they cannot be made."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import resource
from pathlib import Path

import pytest

from loadbench import reports
from loadbench import testing as synthetic
from loadbench.analysis.summary import summary
from loadbench.errors import InvalidInput, LoadbenchError
from loadbench.model import Gap, LoadTest, RunStatus, ScriptRevision

SCRIPT = b"from locust import HttpUser, task\n\n\nclass Shopper(HttpUser):\n    pass  # </script><b>\n"
HOSTILE = "/<img src=x onerror=alert(1)>"


def a_revision() -> ScriptRevision:
    return ScriptRevision(
        load_test_id="test-1",
        revision_number=2,
        script_content=base64.b64encode(SCRIPT).decode(),
        sha256=hashlib.sha256(SCRIPT).hexdigest(),
    )


def a_test() -> LoadTest:
    return LoadTest(account_id="acme", org_id="shop", project_id="checkout", name="shop", target_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def made() -> synthetic.Synthetic:
    return synthetic.run(seed="report", seconds=30, target_url="http://user:hunter2@127.0.0.1:8089")


def page(path: Path) -> str:
    """Give the report without plotly.js and its own styles."""
    text = re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_a_report_tells_the_run_in_one_small_file(made, tmp_path):
    path = reports.write_report(made.run, a_test(), a_revision(), made.documents, tmp_path / "new folder" / "run.html")
    assert path == tmp_path / "new folder" / "run.html"
    assert [each.name for each in path.parent.iterdir()] == ["run.html"]
    assert path.stat().st_size < 2_500_000
    text, total = page(path), summary(made.run, made.documents).iloc[-1]
    for part in (
        "It ran for its full duration. All intervals arrived, and their sums agree.",
        f"<dt>requests</dt><dd>{total.requests:,}</dd>",
        f"<dt>p99</dt><dd>{total.p99_ms:.0f} ms</dd>",
        "within 0.5 % of the exact value",
        made.run.id,
        "2026-03-14T09:26:53Z",
        a_revision().sha256,
        "2.47.0",
        reports.data_sha256(made.documents),
        "class Shopper(HttpUser):",
        "&lt;/script&gt;&lt;b&gt;",
    ):
        assert part in text
    assert "hunter2" not in path.read_text()


def test_a_report_loads_nothing_and_allows_its_own_scripts_only(made, tmp_path):
    text = reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html").read_text()
    assert not re.findall(r"<(?:script|img|iframe|object|embed)[^>]*\b(?:src|data)=", text)
    assert not re.findall(r"<link[^>]*href=\"(?!data:)", text)
    assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", page(tmp_path / "run.html"))
    assert not re.findall(r"@import", text)
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert policy.split("; ")[:2] == ["default-src 'none'", f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'"]
    assert text.count("Plotly, Inc.") == 1


def test_names_and_messages_cannot_get_out_of_a_report(tmp_path):
    made = synthetic.run(
        seed="hostile",
        seconds=10,
        endpoints=[("GET", HOSTILE), ("POST", "/\u202egpj.exe")],
        failure_ratio=0.3,
        messages=("\x1b[31mred\x1b[0m </script><script>alert(2)</script>", "<svg onload=alert(3)>"),
        name="</title><script>alert(4)</script>",
        notes="<iframe>",
    )
    text = page(reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html"))
    assert not re.findall(r"<(?:img|svg|iframe)\b", text)
    assert text.count("<script") == 3  # the figures
    assert "\u202e" not in text
    assert "\\u202e" in text
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    for figure in re.findall(r'<script type="application/json">(.*?)</script>', text):
        assert json.loads(figure)["data"]
        assert not set("<>&") & set(figure)


def test_gaps_are_in_the_header_and_above_the_charts(tmp_path):
    gap = Gap(source="master-0", from_seq=4, to_seq=6, requests=150)
    made = synthetic.run(seed="gaps", seconds=20, lost=(4, 5, 6), gaps=(gap,), workers_lost=2, clock_skew_ms=3500)
    text = page(reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html"))
    assert "Some intervals never arrived: the figures leave them out." in text
    for warning in ("3 intervals missing in 1 gap, 150 requests", "2 workers lost", "clocks differ by 3.5 s"):
        assert text.count(warning) == 2


def test_long_names_leave_room_in_charts_and_stay_apart():
    names = ["GET /a", "GET /" + "x" * 100 + "/1", "GET /" + "x" * 90 + "/1", "GET /" + "x" * 100 + "/2"]
    labels = reports.short_labels(names)
    assert labels[0] == "GET /a"
    assert len(set(labels)) == 4
    assert max(map(len, labels)) < 60
    assert labels[3].endswith("x/2")


def test_a_run_that_could_not_start_has_a_report_too(made, tmp_path):
    run = made.run.model_copy(
        update={
            "status": RunStatus.FAILED,
            "stop_reason": "error",
            "error": "locustfile.py line 3: NameError: name 'x' is not defined",
            "started_at": None,
            "finished_at": None,
            "completeness": "unknown",
            "environment": None,
            "last_metrics": None,
            "endpoints": (),
        }
    )
    text = page(reports.write_report(run, a_test(), a_revision(), [], tmp_path / "run.html"))
    assert "<b>Failed</b> It could not go on." in text
    assert "NameError: name &#39;x&#39; is not defined" in text
    assert "No request was recorded." in text
    assert 'class="chart"' not in text


def test_a_report_replaces_the_file_as_a_whole_or_not_at_all(made, tmp_path):
    path = tmp_path / "run.html"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the disk takes a part of it and no more
    try:
        with pytest.raises(InvalidInput, match=r"cannot write the report to .*run.html: File too large; give a path"):
            reports.write_report(made.run, None, None, made.documents, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InvalidInput, match=r"cannot write the report to .*; give a path that can be written"):
        reports.write_report(made.run, None, None, made.documents, path / "below a file.html")


def test_the_data_hash_is_that_of_the_intervals_in_order(made):
    assert reports.data_sha256(made.documents) == reports.data_sha256(made.documents[::-1])
    assert reports.data_sha256(made.documents) != reports.data_sha256(made.documents[:-1])
    lines = "".join(f"{document['bodySha256']}\n" for document in made.documents)
    assert reports.data_sha256(made.documents) == hashlib.sha256(lines.encode()).hexdigest()


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
    output = reports.execute_notebook(source, tmp_path / "out" / "done.ipynb", {"users": 21}, cwd=tmp_path)
    assert output == tmp_path / "out" / "done.ipynb"
    printed = "".join(json.loads(output.read_text())["cells"][-1]["outputs"][0]["text"])
    assert printed == f"42 {tmp_path}\n"


def test_a_failing_cell_is_one_readable_line(tmp_path):
    source = a_notebook(tmp_path / "in.ipynb", "users = 1", "1 + 1", "raise ValueError('no\\nusers')")
    with pytest.raises(LoadbenchError) as caught:
        reports.execute_notebook(source, tmp_path / "out.ipynb", progress=False)
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
        reports.execute_notebook(source, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"no notebook in .*missing.ipynb"):
        reports.execute_notebook(tmp_path / "missing.ipynb", tmp_path / "out.ipynb")
