from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import textwrap

from loadbench.agent import wire
from loadbench.agent.spool import RING_SIZE, Letter, Spool

BODY = b"x" * 4000


def a_letter(seq: int, *, kind: str = wire.METRICS, body: bytes = BODY) -> Letter:
    return Letter("run-1", "local-1", kind, seq, body)


def delivered(spool: Spool) -> list[tuple[str, int]]:
    """Take everything out, as a sender would."""
    taken = []
    while letter := spool.head():
        taken.append((letter.kind, letter.seq))
        spool.delete(letter)
    return taken


def test_letters_come_out_in_order_and_unchanged(tmp_path):
    with Spool(tmp_path / "s.db") as spool:
        for number in range(5):
            spool.append(a_letter(number, body=bytes([number]) * 10))
        assert len(spool) == 5
        assert spool.head() == a_letter(0, body=bytes(10))
        assert spool.head() == spool.head()
        assert delivered(spool) == [(wire.METRICS, number) for number in range(5)]
        assert spool.head() is None
        assert repr(spool) == "<Spool s.db: 0 waiting, 0 dropped>"


def test_a_key_is_kept_once(tmp_path):
    with Spool(tmp_path / "s.db") as spool:
        spool.append(a_letter(0, body=b"first"))
        spool.append(a_letter(0, body=b"second"))
        spool.append(a_letter(0, kind=wire.TEST_START))
        assert spool.head().body == b"first"
        assert len(spool) == 2


def test_the_file_is_for_its_owner_only(tmp_path):
    with Spool(tmp_path / "s.db") as spool:
        spool.append(a_letter(0))
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_killed_process_leaves_all_that_append_returned_for(tmp_path):
    script = """
        import os, sys
        from loadbench.agent.spool import Letter, Spool
        spool = Spool(sys.argv[1])
        for number in range(50):
            spool.append(Letter("run-1", "local-1", "metrics", number, b"x" * 40_000))
        os.kill(os.getpid(), 9)
    """
    path = tmp_path / "s.db"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], check=False, timeout=30)
    with Spool(path) as spool:
        assert delivered(spool) == [(wire.METRICS, number) for number in range(50)]


def test_a_full_spool_drops_its_oldest_intervals_and_counts_them(tmp_path):
    warnings: list[str] = []
    with Spool(tmp_path / "s.db", max_bytes=50 * 4096, warn=warnings.append) as spool:
        spool.append(a_letter(0, kind=wire.TEST_START))
        for number in range(200):
            spool.append(a_letter(number))
        spool.append(a_letter(199, kind=wire.TEST_STOP))
        left = delivered(spool)
    assert left[0] == (wire.TEST_START, 0)
    assert left[-1] == (wire.TEST_STOP, 199)
    kept = [seq for kind, seq in left if kind == wire.METRICS]
    assert kept == list(range(200 - len(kept), 200))
    assert spool.dropped == 200 - len(kept) > 100
    assert len(warnings) == 1
    assert (tmp_path / "s.db").stat().st_size <= 50 * 4096


def test_what_is_on_its_way_is_not_dropped(tmp_path):
    with Spool(tmp_path / "s.db", max_bytes=50 * 4096, warn=lambda line: None) as spool:
        spool.append(a_letter(0))
        assert spool.head().seq == 0
        for number in range(1, 100):
            spool.append(a_letter(number))
        assert spool.head().seq == 0
        assert spool.dropped > 0


def test_a_path_that_cannot_be_used_leaves_a_bounded_ring(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    warnings: list[str] = []
    with Spool(tmp_path / "file" / "s.db", warn=warnings.append) as spool:
        spool.append(a_letter(0, kind=wire.TEST_START))
        for number in range(RING_SIZE + 30):
            spool.append(a_letter(number))
        left = delivered(spool)
    assert left[0] == (wire.TEST_START, 0)
    assert [seq for _, seq in left[1:]] == list(range(31, RING_SIZE + 30))
    assert spool.dropped == 31
    assert len(warnings) == 1
    assert "stay in memory" in warnings[0]


def test_a_disk_that_fails_in_the_middle_keeps_the_order(tmp_path):
    """A real write error: the process may not write files beyond 100 KB."""
    script = """
        import sys
        from loadbench.agent.spool import Letter, Spool
        warnings = []
        spool = Spool(sys.argv[1], warn=warnings.append)
        for number in range(60):
            spool.append(Letter("run-1", "local-1", "metrics", number, b"x" * 10_000))
        seqs = []
        while letter := spool.head():
            seqs.append(letter.seq)
            spool.delete(letter)
            assert len(seqs) < 1000
        print(seqs == list(range(60)), spool.dropped, len(spool), len(warnings))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path / "s.db"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.split() == ["True", "0", "0", "1"], done.stdout + done.stderr


def test_a_corrupt_file_is_put_aside_when_it_is_opened(tmp_path):
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.append(a_letter(0))
    path.write_bytes(os.urandom(20_000))
    warnings: list[str] = []
    with Spool(path, warn=warnings.append) as spool:
        spool.append(a_letter(1))
        assert delivered(spool) == [(wire.METRICS, 1)]
    assert (tmp_path / "s.db.corrupt").stat().st_size == 20_000
    assert len(warnings) == 1


def test_a_file_that_becomes_corrupt_is_put_aside_and_its_loss_counted(tmp_path):
    path = tmp_path / "s.db"
    warnings: list[str] = []
    with Spool(path, warn=warnings.append) as spool:
        for number in range(400):
            spool.append(a_letter(number, body=b"y" * 40_000))  # beyond sqlite's page cache and a checkpoint
        with path.open("r+b") as file:
            for page in range(1, path.stat().st_size // 4096):
                file.seek(page * 4096)
                file.write(os.urandom(64))
        with path.with_name("s.db-wal").open("r+b") as journal:
            journal.write(os.urandom(4096))
        first = spool.head()
        while first is not None and not warnings:
            spool.delete(first)
            first = spool.head()
        spool.append(a_letter(1000))
        assert delivered(spool) == [(wire.METRICS, 1000)]
        assert spool.dropped > 300
    assert (tmp_path / "s.db.corrupt").exists()


def test_what_is_refused_goes_to_the_dead_letters(tmp_path):
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.append(a_letter(0))
        spool.append(a_letter(1))
        spool.bury(spool.head(), 409, "run is closed")
        assert spool.head().seq == 1
    with Spool(path) as spool:
        assert [(dead.seq, dead.status, dead.detail) for dead in spool.dead_letters()] == [(0, 409, "run is closed")]
        assert len(spool) == 1


def test_an_empty_spool_can_remove_itself(tmp_path):
    spool = Spool(tmp_path / "s.db")
    spool.append(a_letter(0))
    spool.delete(spool.head())
    spool.close(remove_if_empty=True)
    assert list(tmp_path.iterdir()) == []
    spool = Spool(tmp_path / "s.db")
    spool.append(a_letter(0))
    spool.close(remove_if_empty=True)
    assert (tmp_path / "s.db").exists()


def test_spool_and_sender_are_light():
    code = "import sys, loadbench.agent.sender; print(*{'gevent', 'locust', 'pymongo', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == ""
