"""The chart endpoints over real HTTP: their figures are those of the raw requests, whole, by window and by endpoint."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadbench import testing as synthetic
from loadbench.agent.histogram import ALPHA
from loadbench.errors import NotFound
from loadbench.model import LoadTestRun, RunStatus, Scope
from loadbench.store import Store
from loadbench.store.mongod import Mongod
from server import charts
from server.app import Receiver
from tests.api_client import Agent
from tests.builders import START_MS, a_run
from tests.rest_client import Client, a_token

pytestmark = pytest.mark.integration

PATHS = ("graph", "summary", "requests", "metrics/timeseries", "metrics/scatter", "metrics/aggregate")
STARTED_AT = synthetic.STARTED_AT
SLOW = (50, 95, 99.9)
"""A percentile that no document holds ready-made: it is read from the histograms."""


@pytest.fixture(scope="module")
def store(mongod: Mongod) -> Iterator[Store]:
    """One database for all: nothing here changes a run that it did not make."""
    with Store.open(mongod.find_or_start().replace("/loadbench?", "/test_charts?")) as store:
        yield store
        store.database.client.drop_database(store.database.name)


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[Client]:
    with Receiver(store) as receiver:
        yield Client(receiver.url, a_token(store, "viewer"))


def stored(store: Store, made: synthetic.Synthetic) -> synthetic.Synthetic:
    store.runs.add(made.run)
    if made.documents:
        store.database["metrics_timeseries"].insert_many(made.documents)
    return made


def read(api: Client, run: LoadTestRun, path: str, **query: Any) -> dict[str, Any]:
    answer = api.get(f"/v1/runs/{run.id}/{path}", **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(api: Client, run: LoadTestRun, path: str, **query: Any) -> tuple[int, str | None, str]:
    answer = api.get(f"/v1/runs/{run.id}/{path}", **query)
    problem = answer.json()
    return answer.status_code, problem.get("field"), problem["detail"]


def is_true(figures: dict[str, float], raw: pd.Series) -> bool:
    """Whether percentiles are within the bound of the exact order statistics (and the rounding of the answer)."""
    timed = raw.dropna()
    exact = {name: synthetic.nearest_rank(timed, name.removeprefix("p")) for name in figures}
    return bool(figures) and all(
        abs(figures[name] - exact[name]) <= ALPHA * exact[name] * (1 + 1e-9) + 1e-4 for name in figures
    )


@pytest.fixture(scope="module")
def made(store: Store) -> synthetic.Synthetic:
    return stored(
        store,
        synthetic.run(seed="charts", seconds=90, endpoints=5, rps=60, failure_ratio=0.05, untimed_ratio=0.02),
    )


@pytest.mark.parametrize("percentiles", [(50, 95, 99), SLOW])
def test_graph_shows_each_interval_as_it_was(api, made, percentiles):
    graph = read(api, made.run, "graph", percentiles=",".join(map(str, percentiles)))
    assert graph["timestamp"] == [STARTED_AT + 1000 * (second + 1) for second in range(90)]
    assert graph["users"] == [document["users"] for document in made.documents]
    assert set(graph["percentiles"]) == {f"p{q}" for q in percentiles}
    assert (graph["intervals"], graph["holes"], graph["completeness"]) == (90, [], "complete")
    for seq, raw in made.raw.groupby("seq"):
        assert graph["requestsPerSec"][seq] == len(raw)
        assert graph["errorsPerSec"][seq] == raw.failed.sum()
        assert graph["avgResponseTime"][seq] == pytest.approx(raw.ms.mean(), abs=1e-3)
        assert is_true({name: column[seq] for name, column in graph["percentiles"].items()}, raw.ms)


def test_graph_of_some_endpoints_is_that_of_their_requests(api, store):
    made = stored(store, synthetic.run(seed="idle", seconds=90, endpoints=5, rps=8, failure_ratio=0.05))
    of_two = read(api, made.run, "graph", endpoint=["GET /api/resource-04", "3"], percentiles="90")
    chosen = made.raw[made.raw.endpoint.isin([3, 4])]
    for seq, raw in chosen.groupby("seq"):
        assert (of_two["requestsPerSec"][seq], of_two["errorsPerSec"][seq]) == (len(raw), raw.failed.sum())
        if raw.ms.notna().any():
            assert is_true({"p90": of_two["percentiles"]["p90"][seq]}, raw.ms)
    idle = sorted(set(range(90)) - set(chosen.seq))
    assert idle, "an interval without them is there too"
    assert [of_two["requestsPerSec"][seq] for seq in idle] == [0.0] * len(idle)
    assert [of_two["percentiles"]["p90"][seq] for seq in idle] == [None] * len(idle)
    assert of_two["users"] == [document["users"] for document in made.documents]


@pytest.mark.parametrize("percentiles", ["50,95,99", "50,99.9"])
def test_thinning_keeps_every_stall_and_every_burst_of_errors(api, store, percentiles):
    stalls = sorted(np.random.default_rng(3).choice(1200, 20, replace=False).tolist())
    made = stored(
        store, synthetic.run(seed=f"stalls {percentiles}", seconds=1200, rps=40, stalled=stalls, failure_ratio=0.02)
    )
    graph = read(api, made.run, "graph", points=200, percentiles=percentiles)
    seqs = [(moment - STARTED_AT) // 1000 - 1 for moment in graph["timestamp"]]
    assert 150 < len(seqs) <= 200
    assert seqs == sorted(set(seqs))
    assert set(stalls) <= set(seqs)
    by_errors = made.raw.groupby("seq").failed.sum()
    assert set(by_errors[by_errors == by_errors.max()].index) <= set(seqs)
    assert seqs[0] == 0
    assert seqs[-1] == 1199
    highest = list(graph["percentiles"])[-1]
    for seq, rps, p in zip(seqs, graph["requestsPerSec"], graph["percentiles"][highest], strict=True):
        raw = made.raw[made.raw.seq == seq]
        assert rps == len(raw), "a point is an actual interval"
        assert is_true({highest: p}, raw.ms)
    assert graph["intervals"] == 1200


def test_summary_is_the_truth_of_the_run(api, made):
    summary = read(api, made.run, "summary", percentiles="50,95,99.9")
    raw, timed = made.raw, made.raw.ms.dropna()
    assert (summary["totalRequests"], summary["totalFailures"]) == (len(raw), raw.failed.sum())
    assert summary["requestsPerSec"] == pytest.approx(len(raw) / 90, abs=1e-4)
    assert summary["errorRate"] == pytest.approx(100 * raw.failed.mean(), abs=1e-4), "in percent"
    assert summary["avgResponseTime"] == pytest.approx(timed.mean(), abs=1e-3)
    assert summary["maxResponseTime"] == pytest.approx(timed.max(), abs=1e-3)
    assert set(summary["percentiles"]) == {"p50", "p95", "p99.9"}
    assert is_true(summary["percentiles"], timed)
    assert (summary["measuredSec"], summary["elapsedSec"], summary["status"]) == (90.0, 90.0, "Finished")
    assert summary["configuration"] == {
        "targetUrl": made.run.target_url,
        "targetUsers": 20,
        "spawnRate": 5.0,
        "durationSec": 90,
        "workers": 0,
        "revisionNumber": 2,
        "scriptSha256": made.run.environment.script_sha256,
    }
    assert summary["missing"] == {"gaps": [], "gapsInAll": 0, "intervals": 0, "requests": 0, "workersLost": 0}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("10", "25"),
        (str(STARTED_AT + 10_000), str(STARTED_AT + 25_000)),
        ("2026-03-14T09:27:03Z", "2026-03-14T11:27:18+02:00"),
        ("9.1", "25.9"),
    ],
)
def test_windows_are_seconds_unix_milliseconds_or_iso_8601(api, made, start, end):
    raw = made.raw[(made.raw.seq >= (9 if start == "9.1" else 10)) & (made.raw.seq < 25)]
    window = {"from": start, "to": end}
    summary = read(api, made.run, "summary", **window)
    assert (summary["totalRequests"], summary["intervals"]) == (len(raw), raw.seq.nunique())
    assert is_true(summary["percentiles"], raw.ms)
    ends = sorted({STARTED_AT + 1000 * (seq + 1) for seq in raw.seq})
    for path in ("graph", "metrics/timeseries", "metrics/scatter"):
        assert read(api, made.run, path, **window)["timestamp"] == ends
    log = read(api, made.run, "requests", limit=5000, **window)["items"]
    assert sum(row["count"] for row in log) == len(raw)


def test_neighbouring_windows_share_no_interval(api, made):
    totals = [
        read(api, made.run, "summary", **{"from": start, "to": start + 30})["totalRequests"] for start in (0, 30, 60)
    ]
    assert sum(totals) == len(made.raw)


@pytest.mark.parametrize("outcome", ["all", "ok", "failed"])
def test_aggregate_is_the_truth_of_each_endpoint(api, made, outcome):
    found = read(api, made.run, "metrics/aggregate", percentiles="50,99.9", outcome=outcome, **{"from": 20, "to": 80})
    raw = made.raw[(made.raw.seq >= 20) & (made.raw.seq < 80)]
    raw = raw if outcome == "all" else raw[raw.failed == (outcome == "failed")]
    assert found["measuredSec"] == 60.0
    by_requests = [row["requests"] for row in found["endpoints"]]
    assert by_requests == sorted(by_requests, reverse=True)
    names = {row["name"]: row for row in found["endpoints"]}
    for index, part in raw.groupby("endpoint"):
        row, timed = names[made.run.endpoints[index].name], part.ms.dropna()
        assert (row["requests"], row["failures"]) == (len(part), part.failed.sum())
        assert row["requestsPerSec"] == pytest.approx(len(part) / 60, abs=1e-4)
        assert row["errorRate"] == pytest.approx(100 * part.failed.mean(), abs=1e-4)
        assert row["avgResponseTime"] == pytest.approx(timed.mean(), rel=1e-5)
        assert row["minResponseTime"] == pytest.approx(timed.min(), rel=ALPHA + 1e-9)
        assert is_true(row["percentiles"], timed)
    assert found["total"]["requests"] == len(raw)
    assert is_true(found["total"]["percentiles"], raw.ms)


def test_aggregate_names_those_with_most_requests_and_counts_the_others(api, made):
    found = read(api, made.run, "metrics/aggregate", limit=2)
    busiest = made.raw.groupby("endpoint").size().sort_values(ascending=False)
    assert [row["requests"] for row in found["endpoints"]] == busiest.iloc[:2].tolist()
    assert (found["endpointsLeftOut"], found["total"]["requests"]) == (3, len(made.raw))
    one = read(api, made.run, "metrics/aggregate", endpoint="GET /api/resource-02")
    assert [row["name"] for row in one["endpoints"]] == ["/api/resource-02"]
    assert one["total"]["requests"] == int((made.raw.endpoint == 2).sum())


def test_requests_are_a_log_that_pages_walk_once(api, made):
    rows, cursor, pages = [], None, 0
    while True:
        page = read(api, made.run, "requests", limit=17, percentiles="95", **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= 17
        rows, cursor, pages = rows + page["items"], page.get("nextCursor"), pages + 1
        if cursor is None:
            break
    truth = made.raw.groupby(["seq", "endpoint"])
    assert len(rows) == len(truth)
    assert pages == -(-len(rows) // 17)
    for row, ((seq, endpoint), raw) in zip(rows, truth, strict=True):
        timed = raw.ms.dropna()
        assert row["timestamp"] == STARTED_AT + 1000 * (seq + 1)
        assert (row["method"], row["name"]) == ("GET", made.run.endpoints[endpoint].name)
        assert (row["count"], row["failed"]) == (len(raw), raw.failed.sum())
        assert row["successful"] == len(raw) - raw.failed.sum()
        assert row["success"] is not bool(raw.failed.any())
        if len(timed):
            assert row["responseTime"] == pytest.approx(timed.mean(), abs=1e-3)
            assert is_true(row["percentiles"], timed)
        else:
            assert "responseTime" not in row
            assert row["percentiles"] == {}


def test_timeseries_has_everything_of_all_and_of_each_endpoint(api, made):
    found = read(api, made.run, "metrics/timeseries", perEndpoint="true", percentiles="50,99")
    assert len(found["timestamp"]) == 90
    assert sum(found["requests"]) == len(made.raw)
    assert [row["name"] for row in found["endpoints"]] == [endpoint.name for endpoint in made.run.endpoints]
    assert found["cpuPercent"] == [document["cpuPercent"] for document in made.documents]
    totals = np.sum([row["requests"] for row in found["endpoints"]], axis=0)
    assert totals.tolist() == found["requests"]
    for index, row in enumerate(found["endpoints"]):
        part = made.raw[made.raw.endpoint == index]
        assert row["requests"] == part.groupby("seq").size().reindex(range(90), fill_value=0).tolist()
        for seq, raw in part.groupby("seq"):
            if raw.ms.notna().any():
                assert row["maxResponseTime"][seq] == pytest.approx(raw.ms.max(), abs=1e-3)
                assert is_true({name: column[seq] for name, column in row["percentiles"].items()}, raw.ms)
    alone = read(api, made.run, "metrics/timeseries", endpoint="2", percentiles="50,99")
    assert alone["endpoints"] == [found["endpoints"][2]]
    assert alone["requests"] == found["requests"], "the columns stay those of all requests"
    assert read(api, made.run, "metrics/timeseries")["endpoints"] == []


def test_timeseries_pages_join_without_a_seam(api, made):
    first = read(api, made.run, "metrics/timeseries", limit=40, perEndpoint="true")
    second = read(api, made.run, "metrics/timeseries", limit=50, perEndpoint="true", cursor=first["nextCursor"])
    whole = read(api, made.run, "metrics/timeseries", perEndpoint="true")
    for name in ("timestamp", "requests", "avgResponseTime"):
        assert first[name] + second[name] == whole[name]
    assert first["endpoints"][4]["requests"] + second["endpoints"][4]["requests"] == whole["endpoints"][4]["requests"]
    assert "nextCursor" not in second


@pytest.mark.parametrize("against", ["users", "requestsPerSec"])
def test_scatter_is_response_time_against_load(api, made, against):
    found = read(api, made.run, "metrics/scatter", against=against, percentiles="95")
    graph = read(api, made.run, "graph", percentiles="95")
    assert found["x"] == graph[against]
    assert found["percentiles"]["p95"] == graph["percentiles"]["p95"]
    assert found["avgResponseTime"] == graph["avgResponseTime"]


def shifted(documents: Sequence[dict[str, Any]], source: str, milliseconds: int) -> list[dict[str, Any]]:
    return [
        document | {"timestamp": document["timestamp"] + timedelta(milliseconds=milliseconds)}
        if document["source"] == source
        else document
        for document in documents
    ]


@pytest.mark.parametrize("offset_ms", [0, 430, 690])
def test_several_sources_are_added_up_second_by_second(api, store, offset_ms, monkeypatch):
    monkeypatch.setattr(charts, "PART_ROWS", 4 * 101)  # parts of 101 intervals: a second is not torn apart
    monkeypatch.setattr(charts, "PART_LEAST", 10)
    made = synthetic.run(seed=f"two {offset_ms}", seconds=120, rps=80, sources=2, failure_ratio=0.05)
    made = stored(store, synthetic.Synthetic(made.run, shifted(made.documents, "master-1", offset_ms), made.raw))
    for percentiles in ("50,95,99", "50,99.9"):
        graph = read(api, made.run, "graph", percentiles=percentiles)
        assert graph["timestamp"] == [STARTED_AT + 1000 * (second + 1) + offset_ms for second in range(120)]
        assert graph["users"][-1] == 40, "the users of both"
        assert graph["requestsPerSec"] == made.raw.groupby("seq").size().tolist()
        for seq, raw in made.raw.groupby("seq"):
            assert is_true({name: column[seq] for name, column in graph["percentiles"].items()}, raw.ms)
    summary = read(api, made.run, "summary")
    assert (summary["measuredSec"], summary["totalRequests"]) == (120.0, len(made.raw))
    assert summary["requestsPerSec"] == pytest.approx(len(made.raw) / 120, abs=1e-4)
    assert is_true(summary["percentiles"], made.raw.ms)
    log = read(api, made.run, "requests", limit=5000)["items"]
    assert (
        len({(row["timestamp"], row["name"]) for row in log}) == len(log) == len(made.raw.groupby(["seq", "endpoint"]))
    )


def test_a_long_run_is_read_part_by_part_and_comes_to_the_same(api, made, monkeypatch):
    queries = [(path, {"percentiles": "50,99.9"}) for path in PATHS] + [("graph", {}), ("requests", {"limit": 5000})]
    whole = [read(api, made.run, path, **query) for path, query in queries]
    reads: list[int] = []
    documents = charts.read_part

    def counted(*args: Any, **kwargs: Any) -> Any:
        reads.append(kwargs["limit"])
        return documents(*args, **kwargs)

    monkeypatch.setattr(charts, "read_part", counted)
    monkeypatch.setattr(charts, "PART_INTERVALS", 13)
    monkeypatch.setattr(charts, "PART_ROWS", 1)
    monkeypatch.setattr(charts, "PART_LEAST", 7)
    assert [read(api, made.run, path, **query) for path, query in queries] == whole
    assert set(reads) == {7, 13}
    assert len(reads) > 60


def test_lost_intervals_are_a_hole_and_are_counted(api, store):
    lost = synthetic.run(seed="lost", seconds=60, lost=(20, 21, 22))
    found = [{"source": "master-0", "from_seq": 20, "to_seq": 22, "requests": 150}]
    run = LoadTestRun.build(**(dict(lost.run) | {"gaps": tuple(found)}))
    made = stored(store, synthetic.Synthetic(run, lost.documents, lost.raw))
    graph = read(api, made.run, "graph")
    assert graph["holes"] == [{"fromMs": STARTED_AT + 20_000, "toMs": STARTED_AT + 23_000}]
    assert (len(graph["timestamp"]), graph["completeness"]) == (57, "gaps")
    summary = read(api, made.run, "summary")
    assert (summary["missing"]["intervals"], summary["missing"]["requests"]) == (3, 150)
    assert summary["missing"]["gaps"] == [{"source": "master-0", "fromSeq": 20, "toSeq": 22, "requests": 150}]
    assert (summary["totalRequests"], summary["measuredSec"]) == (len(made.raw), 57.0)


def test_the_fragment_in_which_a_run_ends_is_counted_but_not_drawn(api, store):
    made = synthetic.run(seed="fragment", seconds=20)
    last = made.documents[-1] | {"durationMs": 4.0}
    made = stored(store, synthetic.Synthetic(made.run, [*made.documents[:-1], last], made.raw))
    graph = read(api, made.run, "graph")
    assert len(graph["timestamp"]) == 19
    assert max(graph["requestsPerSec"]) < 200
    assert read(api, made.run, "summary")["totalRequests"] == len(made.raw)
    assert read(api, made.run, "metrics/timeseries")["durationMs"][-1] == 4.0


@pytest.mark.parametrize("path", PATHS)
def test_a_run_without_intervals_says_why(api, store, path):
    pending, failed = store.runs.add(a_run()), store.runs.add(a_run(status=RunStatus.FAILED, error="no Locust"))
    purged = synthetic.run(seed=f"purged {path}", seconds=10).run.model_copy(update={"purged_at": START_MS})
    store.runs.add(purged)
    notes = [read(api, run, path)["note"] for run in (pending, failed, purged)]
    assert notes[0] == "no interval has arrived yet"
    assert notes[1] == "no interval was ever stored"
    assert "deleted by retention" in notes[2]
    empty = read(api, purged, path)
    assert (empty["intervals"], empty["purgedAt"]) == (0, START_MS)
    assert read(api, pending, path, **{"from": 1, "to": 2})["note"] == "no interval ends within this window"


def test_the_summary_of_a_purged_run_keeps_what_its_agents_counted(api, store):
    made = synthetic.run(seed="purged", seconds=30, failure_ratio=0.1)
    store.runs.add(made.run.model_copy(update={"purged_at": START_MS}))
    summary = read(api, made.run, "summary")
    assert (summary["totalRequests"], summary["totalFailures"]) == (len(made.raw), made.raw.failed.sum())
    assert summary["errorRate"] == pytest.approx(100 * made.raw.failed.mean(), abs=1e-4)
    assert summary["percentiles"] == {}
    assert "requestsPerSec" not in summary
    assert read(api, made.run, "summary", endpoint="0")["totalRequests"] == 0, "of one endpoint nobody counted"


def test_a_running_run_answers_with_what_has_arrived(api, store):
    run = store.runs.add(a_run())
    agent = Agent(api.url, store.tokens.create_push(run.id))
    agent.start(run.id)
    for seq in range(3):
        assert agent.push(run.id, seq, sum_ms=(60.0, 40.0)).status_code == 201
    graph, summary = read(api, run, "graph"), read(api, run, "summary", percentiles="50")
    assert graph["timestamp"] == [START_MS + 1000 * (seq + 1) for seq in range(3)]
    assert graph["percentiles"]["p99"] == pytest.approx([40.0] * 3, rel=ALPHA)
    assert graph["avgResponseTime"] == [25.0] * 3
    assert (summary["status"], summary["completeness"], summary["totalRequests"]) == ("Running", "unknown", 12)
    assert (summary["elapsedSec"], summary["errorRate"]) == (3.0, 25.0)
    assert summary["percentiles"]["p50"] == pytest.approx(20, rel=ALPHA)
    assert [row["name"] for row in read(api, run, "metrics/aggregate")["endpoints"]] == ["/", "/cart"]


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_run_answers_as_one_that_does_not_exist(api, store, made, path):
    stranger = Client(api.url, a_token(store, "viewer", scope=Scope(account_id="other", org_id="o", project_id="p")))
    foreign = stranger.get(f"/v1/runs/{made.run.id}/{path}")
    unknown = stranger.get(f"/v1/runs/run-0000000000000000/{path}")
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
    assert foreign.status_code == 404
    with pytest.raises(NotFound):
        store.runs.get("run-0000000000000000")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"percentiles": "101"}, "percentiles"),
        ({"percentiles": ""}, "percentiles"),
        ({"percentiles": "nan"}, "percentiles"),
        ({"percentiles": ",".join(map(str, range(30)))}, "percentiles"),
        ({"from": "yesterday"}, "from"),
        ({"from": "-1"}, "from"),
        ({"from": "1700000000"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"to": "1e9"}, "to"),
        ({"from": "20", "to": "20"}, "to"),
        ({"endpoint": "GET /nowhere"}, "endpoint"),
        ({"endpoint": "99"}, "endpoint"),
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"fields": "users"}, "fields"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(api, made, query, field):
    for path in PATHS:
        status, named, detail = refused(api, made.run, path, **query)
        assert (status, str(named).split(".")[0]) == (400, field), path
        assert "\n" not in detail


def test_a_refused_request_does_not_cost_the_next_one_its_connection(api, made):
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=8)
    for query, status in (("points=1", 400), ("from=never", 400), ("endpoint=nope", 400), ("points=50", 200)):
        connection.request(
            "GET", f"/v1/runs/{made.run.id}/graph?{query}", headers={"Authorization": f"Bearer {api.token}"}
        )
        answer, used = connection.getresponse(), connection.sock
        assert (answer.status, bool(answer.read())) == (status, True)
        assert used is connection.sock, "the server keeps the connection"
        used.settimeout(0.05)
        with pytest.raises(TimeoutError):
            used.recv(1)
    connection.close()


def test_an_unknown_endpoint_is_told_which_there_are(api, made):
    _, _, detail = refused(api, made.run, "graph", endpoint="GET /nowhere")
    assert "GET /api/resource-00" in detail


def test_percentiles_may_be_repeated_or_joined_by_commas(api, made):
    for given in ("50,99.9", ["50", "99.9"], ["50,99.9", "50"], "50.0,99.90"):
        assert list(read(api, made.run, "summary", percentiles=given)["percentiles"]) == ["p50", "p99.9"]


def test_elapsed_seconds_count_from_the_first_interval_when_the_start_is_unknown(api, store):
    made = synthetic.run(seed="no start", seconds=20)
    made = stored(
        store, synthetic.Synthetic(made.run.model_copy(update={"started_at": None}), made.documents, made.raw)
    )
    found = read(api, made.run, "graph", **{"from": 5, "to": 7})["timestamp"]
    assert found == [STARTED_AT + 6000, STARTED_AT + 7000]
    assert datetime.fromtimestamp(found[0] / 1000, UTC) == made.documents[5]["timestamp"]
