"""The history of a test, on stored runs with a planted change: what is told, what is kept, and over which doors."""

from __future__ import annotations

import json
from functools import cache

import pytest
import requests

from loadbench import testing
from loadbench.analysis.columns import column
from loadbench.cli import main
from loadbench.errors import InvalidInput, NotFound
from tests import scripts

ENDPOINTS = [("GET", "/api/products"), ("POST", "/checkout")]


@cache
def drawn() -> list[testing.Synthetic]:
    """14 runs, a day each; the second revision is slower by a fifth from the tenth on."""
    plan = {"changes": {9: 1.2}, "revisions": {9: 2}, "seconds": 20, "rps": 40.0, "endpoints": ENDPOINTS}
    return testing.history(14, seed="planted", **plan)


@pytest.fixture
def planted(bench):
    test = bench.create_test("planted", scripts.STEADY, target_url="http://127.0.0.1:9", check=False)
    test.revise(scripts.ONCE_A_SECOND, note="search is heavier", check=False)
    return test, [testing.keep(bench._backend.store, made, test.record) for made in drawn()]


def test_one_line_says_when_it_started_and_what_changed(planted):
    test, runs = planted
    changes = test.history("POST /checkout").changes()
    assert changes.index.tolist() == [runs[9].id]
    change = changes.iloc[0]
    assert change["low_percent"] <= 20 <= change["high_percent"]
    assert change["what_changed"] == "revision 1 -> 2 (search is heavier)"
    assert (change["revision"], change["state"], change["figure"]) == (2, "found", "p95")
    history = test.history()
    effect = history.changes()["effect_percent"].iloc[0]
    told = f"p95 of Aggregated over 14 runs: 1 change, {effect:+.1f} % at {runs[9].id[:8]}… (revision 2) on 2026-03-23"
    assert repr(history) == told
    assert "search is heavier" in history._repr_html_()
    figure = history.plot()
    assert any(len(trace.x) == 14 for trace in figure.data)


def test_its_values_are_those_of_the_runs_themselves(bench, planted):
    test, runs = planted
    table = test.history(percentile=90).to_frame()
    own = [bench.run(run.id).quantile(90, window="steady") for run in runs]
    assert table["p90_ms"].tolist() == pytest.approx(own)
    assert table["segment"].tolist() == [0] * 9 + [1] * 5
    assert table.index[table["is_change"]].tolist() == [runs[9].id]
    for frame in (table.reset_index(), test.history().changes().reset_index(), test.history().left_out().reset_index()):
        for name in frame.columns:
            assert str(frame[name].dtype) == column(name).dtype, name


@pytest.mark.parametrize(("figure", "name"), [("mean_ms", "mean"), ("requests_per_s", "requests/s")])
def test_other_figures(planted, figure, name):
    history = planted[0].history(figure=figure)
    assert repr(history).startswith(f"{name} of Aggregated over 14 runs: ")
    assert bool(len(history.changes())) == (figure == "mean_ms")


def test_the_distribution_says_which_part_of_it_moved(planted):
    history = planted[0].history(percentile=None)
    assert repr(history).startswith("distribution of Aggregated over 14 runs: 1 change, p")
    assert {"p50_ms", "p99_ms"} <= set(history.to_frame().columns)


def test_a_dismissed_change_does_not_come_back_and_a_confirmed_one_stays(bench, planted):
    test, runs = planted
    history = test.history()
    history.dismiss(runs[9].id, "new hardware")
    assert repr(history) == "p95 of Aggregated over 14 runs: no change"
    assert test.history().changes().empty
    assert not test.history("POST /checkout").changes().empty  # it was said of the other series
    assert history.marks().loc[runs[9].id, ["state", "note", "created_by"]].tolist() == [
        "dismissed", "new hardware", bench.by,
    ]  # fmt: skip
    test.history().confirm(runs[9].id[:12], "the index")
    change = test.history().changes().iloc[0]
    assert (change["state"], change["note"]) == ("confirmed", "the index")
    assert test.history().take_back(runs[9].id).changes()["state"].tolist() == ["found"]
    history.refresh()
    with pytest.raises(InvalidInput, match="is no run of this history; its changes are at: run-"):
        history.dismiss("run-none")
    with pytest.raises(InvalidInput, match="there is nothing before it"):
        history.dismiss(runs[0].id)


def test_runs_that_are_not_comparable_are_left_out_and_say_why(bench, planted):
    test, runs = planted
    more = testing.run(seed="more users", seconds=20, users=40, started_at=runs[3].started_at + 5, endpoints=ENDPOINTS)
    other = testing.keep(bench._backend.store, more, test.record)
    stop = testing.run(seed="stopped", seconds=20, status="Stopped", stop_reason="user", endpoints=ENDPOINTS)
    stopped = testing.keep(bench._backend.store, stop, test.record)
    history = test.history()
    assert repr(history).endswith("; 2 runs left out")
    assert history.left_out()["because"].to_dict() == {other.id: "users 40, not 20", stopped.id: "Stopped (user)"}
    assert test.history(allow_different="users").to_frame().index[4] == other.id
    assert repr(test.history(like=bench.run(other.id))).startswith("p95 of Aggregated over 1 run: too few to tell")
    with pytest.raises(NotFound, match="there are GET /api/products, POST /checkout"):
        test.history("GET /nowhere")


def test_a_test_without_runs_has_an_empty_history(bench):
    test = bench.create_test("new", scripts.STEADY, target_url="http://127.0.0.1:9", check=False)
    history = test.history()
    assert repr(history) == "p95 of Aggregated over 0 runs: too few to tell a change (at least 6 are needed)"
    assert history.changes().empty
    assert history.to_frame().columns.tolist() == planted_columns()
    assert history.plot().layout.height


def planted_columns() -> list[str]:
    return ["started_at", "revision", "p95_ms", "segment", "level", "is_change", "is_outlier", "validity"]


def test_deleting_the_test_deletes_what_was_said_of_it(bench, planted):
    test, runs = planted
    test.history().dismiss(runs[9].id)
    test.delete(cascade=True)
    assert bench._backend.store.change_marks.find(test.record.id, "Aggregated", "p95") == []


def test_over_the_command_line_and_rest(bench, planted, capsys, monkeypatch):
    test, runs = planted
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", bench._backend.store.uri)
    scope = ["--scope", "acme/shop/checkout", "--env", "test"]
    assert main(["history", "planted", *scope]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == repr(test.history())
    assert "revision 1 -> 2 (search is heavier)" in said
    assert main(["history", "planted", *scope, "--json", "--endpoint", "POST /checkout", "--percentile", "99"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [change["run_id"] for change in told["changes"]] == [runs[9].id]
    assert len(told["runs"]) == 14
    assert main(["history", "none", *scope]) == 3
    url = f"{bench.api_url}/load-tests/{test.record.id}/history"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {bench.api_token()}"
        answer = session.get(url, params={"endpoint": "POST /checkout"}, timeout=10).json()
        assert [change["runId"] for change in answer["changes"]] == [runs[9].id]
        assert answer["changes"][0]["whatChanged"] == "revision 1 -> 2 (search is heavier)"
        mine = test.history("POST /checkout").to_frame()
        assert [run["value"] for run in answer["runs"]] == pytest.approx(mine["p95_ms"].tolist())
        assert session.get(url, params={"endpoint": "GET /nowhere"}, timeout=10).status_code == 404
        assert session.get(url, params={"last": 0}, timeout=10).status_code == 400
