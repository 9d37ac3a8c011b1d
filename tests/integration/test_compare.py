"""Comparing stored runs: in a notebook, over REST, on the command line; all say the same, and read seals only."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import loadbench as lb
from loadbench import testing as synthetic
from loadbench.analysis.columns import column
from loadbench.cli import main
from loadbench.errors import InvalidInput
from loadbench.load_test import Test
from loadbench.model import Scope
from loadbench.store import Store
from loadbench.workbench import Workbench
from server.app import Receiver
from tests.rest_client import Client, a_token

pytestmark = pytest.mark.integration

SCRIPT = "from locust import HttpUser, task\n\n\nclass Shopper(HttpUser):\n    @task\n    def look(self): ...\n"
ENDPOINTS = [("GET", "/api/products"), ("POST", "/checkout")]
SCOPE = "acme/shop/checkout"


@pytest.fixture(scope="module")
def bench(mongod, tmp_path_factory) -> Iterator[Workbench]:
    """Nothing here changes a run that another test looks at."""
    uri = mongod.find_or_start().replace("/loadbench?", "/test_compare?")
    bench = Workbench(SCOPE, mongodb_uri=uri, port=0)
    yield bench
    database = bench._backend.store.database
    database.client.drop_database(database.name)
    bench.close()


@pytest.fixture(scope="module")
def store(bench: Workbench) -> Store:
    return bench._backend.store


@pytest.fixture(scope="module")
def test(bench: Workbench, store: Store) -> Test:
    """Revision 1 and 2 of a script, five runs of each; checkout is 30 % slower in the second."""
    test = bench.create_test("products", SCRIPT, target_url="http://127.0.0.1:9", check=False)
    test.revise(SCRIPT + "# checkout asks twice\n", note="slower", check=False)
    for revision, slowdown in ((1, 1.0), (2, 1.3)):
        for number in range(5):
            made = synthetic.run(
                seed=f"compare {revision} {number}", seconds=120, interval_s=5, endpoints=ENDPOINTS, rps=60,
                slowdown={1: slowdown}, run_sd=0.02, interval_sd=0.05, revision_number=revision,
                started_at=synthetic.STARTED_AT + 600_000 * (5 * revision + number), tags=(f"try-{number}",),
            )  # fmt: skip
            synthetic.keep(store, made, test.record)
    test.set_baseline(*test.pool(revision=1))
    return test


def test_a_pool_is_the_runs_that_were_asked_for(test):
    assert len(test.pool()) == 10
    old = test.pool(revision=1)
    assert {run.record.revision_number for run in old} == {1}
    assert [run.record.created_at for run in old] == sorted((run.record.created_at for run in old), reverse=True)
    assert test.pool(last=3).ids == test.pool().ids[:3]
    assert test.pool(tag="try-4", revision=2).ids == [test.pool(revision=2)[0].id]
    assert len(test.pool(since="2026-03-14T10:20:00Z")) < 10
    assert len(test.pool(target_url="http://127.0.0.1:9")) == 10
    assert len(test.pool(target_url="http://elsewhere")) == 0
    assert test.baseline().ids == old.ids
    assert old.to_frame().index.tolist() == old.ids
    short = ", ".join(f"{run.id[:8]}…" for run in old[:3])
    assert repr(old) == f"<RunPool revision 1: 5 runs of revision 1: {short} and 2 more>"
    assert repr(test.pool(tag="none")) == "<RunPool tag none: 0 runs>"
    assert old[0].id in old._repr_html_()
    for wrong in ({"last": 0}, {"since": "soon"}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            test.pool(**wrong)


def test_one_line_tells_whether_a_revision_made_checkout_slower(test):
    made = lb.compare(test.pool(revision=2), test.pool(revision=1))
    verdict = made.verdict("POST /checkout")
    assert verdict.verdict == "slower"
    assert verdict.low_percent < 30 < verdict.high_percent
    assert repr(verdict).startswith("slower: p95 +")
    assert "5 runs against 5; smallest detectable change" in repr(verdict)
    assert made.verdict("GET /api/products").verdict in ("no difference found", "inconclusive")
    table = made.verdicts().set_index(["name", "percentile"])
    assert table.loc[("/checkout", 95.0), "verdict"] == "slower"
    assert made.headline.startswith("slower: POST /checkout ")
    assert repr(made) == f"<Comparison of revision 2 (5) with revision 1 (5), steady: {made.headline}>"
    assert made.differences().index.tolist() == ["revision"]
    assert "+# checkout asks twice" in made.script_diff()
    assert made.why().iloc[0]["name"] == "/checkout"
    for frame in (made.table(), made.verdicts(), made.rates(), made.why(), made.shifts()):
        for name in frame.columns:
            assert column(name).dtype == str(frame[name].dtype), name


def test_a_card_opens_with_the_verdict_and_what_differs(test):
    card = lb.compare(test.pool(revision=2), test.baseline())._repr_html_()
    places = [
        card.index(text) for text in ("slower</span>", "what differs", "script diff", "endpoint</th><th>side", "+30")
    ]
    assert places[:4] == sorted(places[:4])
    run = test.pool(revision=2)[0]
    run.annotate(name="<script>alert(1)</script>")
    assert "<script>" not in lb.compare(run, test.baseline(), percentiles=95)._repr_html_()
    run.annotate(name="products")


def test_one_run_is_judged_against_a_baseline_and_never_against_one_run(test):
    run, other = test.pool(revision=2)[0], test.pool(revision=1)[0]
    assert lb.compare(run, test.baseline()).verdict("POST /checkout").verdict == "slower"
    alone = lb.compare(run, other)
    assert set(alone.verdicts()["verdict"]) == {"inconclusive"}
    assert alone.headline.startswith("inconclusive: one run on each side cannot tell")
    assert alone.shifts("POST /checkout").set_index("percentile").loc[50, "change_low_ms"] > 0
    assert "within-run noise only" in alone.shift().layout.title.subtitle.text
    pooled = lb.compare(test.pool(revision=2), test.pool(revision=1)).shift("POST /checkout")
    assert "noise between runs" in pooled.layout.title.subtitle.text


def test_a_run_of_the_baseline_is_not_compared_with_itself(test):
    own = test.baseline()[0]
    made = lb.compare(own, test.baseline())
    assert made.verdict().reference_runs == 4
    with pytest.raises(InvalidInput, match="all its runs are on the other side"):
        lb.compare(own, own)
    for given in ([own], [], [test.pool(tag="none"), own], [own.id, own]):
        with pytest.raises(InvalidInput):
            lb.compare(*given)
    with pytest.raises(InvalidInput, match="window must be one of whole, "):
        lb.compare(own, test.baseline(), window="lunch")


def test_many_runs_and_a_reference_among_them(test):
    a, b, c = test.pool(revision=2)[0], test.pool(revision=1)[0], test.pool(revision=1)[1]
    made = lb.compare(a, b, c, reference=a)
    assert made.reference == made.sides[0]
    assert made.table().groupby("name").size().to_dict() == {"/api/products": 3, "/checkout": 3, "Aggregated": 3}
    assert lb.compare(a, b, reference=c).sides[-1] == made.sides[2]
    assert lb.compare([a], [b, c]).verdict().reference_runs == 2
    for by in ("time", "users", "requests_per_s"):
        figure = made.overlay(by=by, endpoint="POST /checkout")
        assert len(figure.data) == 3
        assert figure.layout.yaxis.title.text == "p95 (ms)"
    assert len(made.overlay(column="requests_per_s").data) == 3
    assert made.forest().data
    assert made.contributions(side=made.sides[1]).data
    for wrong in ({"by": "moon"}, {"column": "mean"}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            made.overlay(**wrong)


def test_a_comparison_reads_no_interval_of_a_sealed_run(test, store):
    pools = test.pool(revision=2), test.pool(revision=1)
    lb.compare(*pools).verdicts()  # sealed, if they were not
    before = store.database.command("serverStatus")["metrics"]["document"]["returned"]
    made = lb.compare(*pools)
    made.verdicts()
    made.table()
    made.why()
    after = store.database.command("serverStatus")["metrics"]["document"]["returned"]
    assert after - before <= 4 * 10  # heads and parts of ten seals; ten runs have 240 intervals


@pytest.fixture(scope="module")
def api(store: Store, test: Test) -> Iterator[Client]:
    with Receiver(store) as receiver:
        yield Client(receiver.url, a_token(store, "viewer", scope=Scope.parse(SCOPE)))


def test_rest_gives_what_a_notebook_shows(api, test):
    new, old = test.pool(revision=2), test.pool(revision=1)
    answer = api.get("/v1/compare", runs=",".join(new.ids), reference=",".join(old.ids), together="true")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    made = lb.compare(new, old)
    assert body["headline"] == made.headline
    assert [side["runIds"] for side in body["sides"]] == [new.ids, old.ids]
    truth = made.verdicts().to_dict("records")
    for row, shown in zip(truth, body["verdicts"], strict=True):
        assert (shown["verdict"], shown["because"]) == (row["verdict"], row["because"])
        assert shown["effectPercent"] == pytest.approx(row["effect_percent"])
        assert shown["pAdjusted"] == pytest.approx(row["p_adjusted"])
    figures = {(row["side"], row["name"]): row for row in body["figures"]}
    table = made.table().set_index(["side", "name"])
    assert figures[("revision 2", "/checkout")]["percentiles"]["p95"] == pytest.approx(
        table.loc[("revision 2", "/checkout"), "p95_ms"]
    )
    assert figures[("revision 2", "/checkout")]["changePercent"]["p95"] == pytest.approx(
        table.loc[("revision 2", "/checkout"), "p95_percent"]
    )
    assert [row["aspect"] for row in body["differences"]] == ["revision"]
    assert body["falseAlarmRate"] == 0.05


def test_rest_takes_the_first_run_the_baseline_or_one_endpoint(api, test):
    new, old = test.pool(revision=2)[0].id, test.pool(revision=1)[0].id
    first = api.get("/v1/compare", runs=f"{old},{new}").json()
    assert first["sides"][-1]["runIds"] == [old]
    assert {row["verdict"] for row in first["verdicts"]} == {"inconclusive"}
    asked = api.get("/v1/compare", runs=new, baseline="true", endpoint="POST /checkout", percentiles="95").json()
    assert [row["verdict"] for row in asked["verdicts"]] == ["slower"]
    assert asked["reference"] == "baseline"
    assert {row["name"] for row in asked["figures"]} == {"/checkout"}
    whole = api.get("/v1/compare", runs=f"{old},{new}", window="whole").json()
    assert whole["figures"][0]["requests"] > first["figures"][0]["requests"]


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({}, 400, "runs"),
        ({"runs": "{old}"}, 400, "runs"),
        ({"runs": ",".join(f"run-{number}" for number in range(51))}, 400, "runs"),
        ({"runs": "{old},run-of-nobody"}, 404, None),
        ({"runs": "{old},{foreign}"}, 404, None),
        ({"runs": "{old}", "reference": "{foreign}"}, 404, None),
        ({"runs": "{old},{new}", "window": "lunch"}, 400, "window"),
        ({"runs": "{old},{new}", "percentiles": "101"}, 400, "percentiles.0"),
        ({"runs": "{old},{new}", "endpoint": "GET /nowhere"}, 404, None),
        ({"runs": "{old}", "reference": "{new}", "baseline": "true"}, 400, "reference"),
        ({"runs": "{old},{new}", "allowDifferent": "colour"}, 400, "allowDifferent.0"),
        ({"runs": "{old},{new}", "colour": "red"}, 400, "colour"),
    ],
)
def test_rest_says_what_is_wrong(api, test, store, query, status, field):
    foreign = synthetic.run(seed="foreign", seconds=10, account_id="other").run
    if not store.runs.get_all([foreign.id]):
        store.runs.add(foreign)
    ids = {"new": test.pool(revision=2)[0].id, "old": test.pool(revision=1)[0].id, "foreign": foreign.id}
    answer = api.get("/v1/compare", **{name: text.format(**ids) for name, text in query.items()})
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


def test_the_command_line_compares_and_fails_on_slower(test, store, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    new, old = test.pool(revision=2), test.pool(revision=1)
    scope = ["--scope", SCOPE]
    assert main(["compare", *new.ids, "--baseline", "--together", *scope]) == 0
    text = capsys.readouterr().out
    assert text.startswith("slower: POST /checkout ")
    assert "POST /checkout  slower: p95 +" in text
    assert "baseline (reference)" in text
    assert main(["compare", new[0].id, "--baseline", "--fail-if-slower", "--percentiles", "95", *scope]) == 9
    capsys.readouterr()
    assert main(["compare", old[0].id, new[0].id, "--json", "--fail-if-slower", *scope]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["headline"].startswith("inconclusive")
    assert answer["reference"].startswith(old[0].id[:8])
    assert {row["verdict"] for row in answer["verdicts"]} == {"inconclusive"}
    for wrong, code in (
        ([old[0].id], 2), ([old[0].id, "run-none"], 3), ([old[0].id, new[0].id, "--percentiles", "x"], 2),
        ([old[0].id, "--baseline", "--reference", new[0].id], 2),
        ([old[0].id, new[0].id, "--allow-different", "colour"], 2),
    ):  # fmt: skip
        assert main(["compare", *wrong, *scope]) == code
        assert capsys.readouterr().err.count("\n") == 1


def test_a_run_without_a_baseline_says_so(store, monkeypatch, capsys):
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    run = synthetic.keep(store, synthetic.run(seed="alone", seconds=10))
    assert main(["compare", run.id, "--baseline", "--scope", SCOPE, "--env", "staging"]) == 3
    assert "has no baseline" in capsys.readouterr().err
