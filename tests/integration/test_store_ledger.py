"""The ledger on the real MongoDB: nothing lost, nothing twice, and every gap said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from loadbench.errors import InvalidInput
from loadbench.model import Gap, Interval, LoadTestRun, SourceState
from loadbench.store import Store
from tests.builders import FAILURES, REQUESTS, SOURCE, START_MS, a_run, an_interval

pytestmark = pytest.mark.integration


def stored(store: Store, seqs: range | list[int], *, source: str = SOURCE, run_id: str = "run-1") -> None:
    for seq in seqs:
        assert store.ledger.append(an_interval(run_id, seq, source=source)) == "created"


def ended(last_seq: int, *, source: str = SOURCE, **changes: int) -> SourceState:
    fields = {"requests": REQUESTS * (last_seq + 1), "failures": FAILURES * (last_seq + 1)}
    return SourceState(source=source, last_seq=last_seq, **(fields | changes))


def of(*sources: SourceState) -> LoadTestRun:
    return a_run(id="run-1", sources=sources)


class TestAppend:
    def test_it_comes_back_as_it_went(self, store: Store) -> None:
        interval = an_interval(cpu_percent=12.5)
        assert store.ledger.append(interval) == "created"
        [document] = store.ledger.documents("run-1")
        assert Interval.from_mongo(document) == interval

    def test_the_same_again_is_a_duplicate_and_another_body_a_conflict(self, store: Store) -> None:
        interval = an_interval()
        assert [store.ledger.append(interval) for _ in range(3)] == ["created", "duplicate", "duplicate"]
        later = interval.model_copy(update={"received_at": interval.received_at + 999})
        assert store.ledger.append(later) == "duplicate"
        assert store.ledger.append(an_interval(body_sha256="0" * 64, requests=5)) == "conflict"
        assert store.ledger.documents("run-1", fields=("receivedAt", "requests")) == [
            {"receivedAt": interval.received_at, "requests": 4, "seq": 0, "source": SOURCE,
             "timestamp": interval.timestamp}
        ]  # fmt: skip

    def test_sent_by_many_at_once_it_is_stored_once(self, store: Store) -> None:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: store.ledger.append(an_interval(seq=n % 4)), range(64)))
        assert (answers.count("created"), answers.count("duplicate")) == (4, 60)
        assert store.database.metrics_timeseries.count_documents({}) == 4

    def test_without_the_unique_key_it_would_be_stored_twice(self, store: Store) -> None:
        """The control: what a client does that leaves the key to MongoDB."""
        document = an_interval().to_mongo()
        for _ in range(2):
            store.database.unkeyed.insert_one({k: v for k, v in document.items() if k != "_id"})
        assert store.database.unkeyed.count_documents({}) == 2

    def test_a_key_that_is_not_that_of_the_interval_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidInput, match="runId:source:seq"):
            store.ledger.append(an_interval(id="run-1:local-1:7"))

    def test_acknowledged_means_journaled(self, store: Store) -> None:
        for repository in (store.ledger._intervals, store.load_tests._tests, store.runs._runs):
            assert repository._collection.write_concern.document == {"w": 1, "j": True}


class TestDocuments:
    def test_they_come_by_time_and_seq(self, store: Store) -> None:
        stored(store, [3, 0, 2, 1])
        stored(store, [0], run_id="run-2")
        assert [document["seq"] for document in store.ledger.documents("run-1")] == [0, 1, 2, 3]
        assert store.ledger.documents("run-0") == []

    def test_a_window_has_the_intervals_that_end_in_it(self, store: Store) -> None:
        stored(store, range(6))  # seq k ends at START + 1000 (k + 1)

        def seqs(start: int | None, end: int | None) -> list[int]:
            found = store.ledger.documents("run-1", start_ms=start, end_ms=end, fields=())
            return [document["seq"] for document in found]

        assert seqs(START_MS, START_MS + 3000) == [0, 1, 2]
        assert seqs(START_MS + 3000, START_MS + 6000) == [3, 4, 5]
        assert seqs(START_MS + 3000, None) == [3, 4, 5]
        assert seqs(None, START_MS + 2999) == [0, 1]

    def test_after_gives_what_is_new_of_each_source(self, store: Store) -> None:
        stored(store, range(4), source="a")
        stored(store, range(3), source="b")

        def new(after: dict[str, int]) -> list[tuple[str, int]]:
            found = store.ledger.documents("run-1", after=after, fields=("seq",))
            return [(document["source"], document["seq"]) for document in found]

        assert new({"a": 1, "b": 2}) == [("a", 2), ("a", 3)]
        assert new({"a": 3}) == [("b", 0), ("b", 1), ("b", 2)]
        assert sorted(new({})) == [*[("a", n) for n in range(4)], *[("b", n) for n in range(3)]]
        assert new({"a": 3, "b": 2}) == []

    def test_following_a_long_run_reads_only_what_is_new(self, store: Store) -> None:
        documents = [an_interval(seq=seq).to_mongo() for seq in range(2000)]
        store.database.metrics_timeseries.insert_many(documents)
        store.database.command("profile", 2)
        try:
            assert [d["seq"] for d in store.ledger.documents("run-1", after={SOURCE: 1997})] == [1998, 1999]
        finally:
            store.database.command("profile", 0)
        [read] = store.database["system.profile"].find(
            {"op": "query", "ns": f"{store.database.name}.metrics_timeseries"}
        )
        assert read["docsExamined"] == 2
        assert read["keysExamined"] < 10

    def test_a_field_that_no_interval_has_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidInput, match=r"field must be one of _id, runId, .*p50Ms.*; not 'p50'"):
            store.ledger.documents("run-1", fields=("p50",))
        stored(store, [0])
        assert set(store.ledger.documents("run-1", fields=("_id", "p50Ms"))[0]) == {
            "_id", "p50Ms", "seq", "source", "timestamp"
        }  # fmt: skip


class TestCheck:
    def test_everything_there_is_complete(self, store: Store) -> None:
        stored(store, range(5))
        assert store.ledger.check(of(ended(4))) == ("complete", [])

    def test_before_any_source_has_ended_nothing_is_known(self, store: Store) -> None:
        stored(store, range(5))
        assert store.ledger.check(of()) == ("unknown", [])

    @pytest.mark.parametrize(
        ("there", "gaps"),
        [
            pytest.param([0, 1, 4], [(2, 3, 8)], id="in-the-middle"),
            pytest.param([2, 3, 4], [(0, 1, 8)], id="at-the-beginning"),
            pytest.param([0, 1, 2], [(3, 4, 8)], id="at-the-end"),
            pytest.param([1, 3], [(0, 0, 4), (2, 2, 4), (4, 4, 4)], id="several"),
            pytest.param([], [(0, 4, 20)], id="everything"),
        ],
    )
    def test_missing_ranges_are_said_with_their_size(self, store: Store, there: list[int], gaps: list) -> None:
        stored(store, there)
        expected = [Gap(source=SOURCE, from_seq=a, to_seq=b, requests=n) for a, b, n in gaps]
        assert store.ledger.check(of(ended(4))) == ("gaps", expected)

    def test_a_gap_is_unsized_where_the_totals_contradict_each_other(self, store: Store) -> None:
        stored(store, [0])
        store.ledger.append(an_interval(seq=2, cum_requests=3))
        assert store.ledger.check(of(ended(2))) == ("gaps", [Gap(source=SOURCE, from_seq=1, to_seq=1)])

    def test_intervals_beyond_the_last_are_no_gap(self, store: Store) -> None:
        stored(store, [0, 1, 2, 7])
        assert store.ledger.check(of(ended(2))) == ("complete", [])

    @pytest.mark.parametrize(
        ("claimed", "size"),
        [({"requests": 22}, 2), ({"requests": 19}, None), ({"failures": 6}, None)],
    )
    def test_sums_that_disagree_are_a_gap_over_the_whole(self, store: Store, claimed: dict, size: int | None) -> None:
        stored(store, range(5))
        expected = [Gap(source=SOURCE, from_seq=0, to_seq=4, requests=size)]
        assert store.ledger.check(of(ended(4, **claimed))) == ("gaps", expected)

    def test_a_source_that_dropped_something_is_not_complete(self, store: Store) -> None:
        stored(store, range(5))
        assert store.ledger.check(of(ended(4, dropped=1))) == ("gaps", [])

    def test_each_source_counts(self, store: Store) -> None:
        stored(store, range(3), source="a")
        stored(store, range(2), source="b")
        a, b = ended(2, source="a"), ended(1, source="b")
        assert store.ledger.check(of(a, b)) == ("complete", [])
        assert store.ledger.check(of(a)) == ("unknown", [])
        expected = [Gap(source="b", from_seq=2, to_seq=2, requests=4)]
        assert store.ledger.check(of(a, ended(2, source="b"))) == ("gaps", expected)
