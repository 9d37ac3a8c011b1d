"""Tokens and passwords are nowhere but in memory, in environments, and in the hands of who asked for them.

The whole stack runs: `loadbench serve`, a notebook with a receiver of its own, Locust with workers, a report. Then
every byte that they left is searched for the secrets that they really used.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import nbformat
import pytest

from loadbench.agent import wire
from loadbench.demo_target import ShopServer
from loadbench.home import data_home
from loadbench.notebooks import execute_notebook
from loadbench.store import Store
from loadbench.store.database import ENV_URI
from tests.rest_client import Client, a_token, encoded
from tests.scripts import STEADY
from tests.serving import Server
from tests.stored import contents
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

CELLS = [
    "import json, os\nfrom pathlib import Path\nimport loadbench as lb",
    'bench = lb.Workbench("acme/shop/checkout", env="test", port=0)\nbench',
    'test = bench.create_test("secret", {script!r}, target_url={url!r}, users=4, spawn_rate=4, check=False)\ntest',
    'run = test.start(duration="4s", workers=1)\nprint(run, bench)\nrun',
    "run.live()",
    "await run",
    "run.summary()",
    "registration = test.register_external()\nprint(registration)\nregistration",
    "token = bench.api_token()\nbench",
    'Path({handed_out!r}).write_text(json.dumps({{"api": token, "external": registration.token}}))',
    'print(run.report(Path({folder!r}) / "run.html"))\nprint(run.record)',
    'for name in ("t.csv", "t.parquet", "t.html"):\n    print(run.export(Path({folder!r}) / name, "timeline"))',
    "bench.runs()",
    "bench.clusters()",
    "bench.panel()",
    'from loadbench.errors import NotFound\ntry:\n    bench.run("run-0")\nexcept NotFound as error:\n    print(error)',
]


class Watch:
    """Looks at all processes of this machine, ten times a second: command lines, push tokens, and what is spooled."""

    def __init__(self, spools: Path) -> None:
        self.command_lines: set[bytes] = set()
        self.push_tokens: set[str] = set()
        self.spooled: dict[str, set[bytes]] = {}
        self._spools = spools
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look_again(self) -> None:
        while not self._over.wait(0.1):
            self.look()

    def look(self) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            self.command_lines.add(_bytes_of(folder / "cmdline"))
            settings = dict(entry.split("=", 1) for entry in _text_of(folder / "environ").split("\0") if "=" in entry)
            if Path(settings.get(wire.ENV_SPOOL, "")).parent == self._spools and wire.ENV_TOKEN in settings:
                self.push_tokens.add(settings[wire.ENV_TOKEN])
        for path in self._spools.glob("*"):
            self.spooled.setdefault(path.name, set()).add(_bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that has ended, or somebody else's; a file that is gone
        return b""


def _text_of(path: Path) -> str:
    return _bytes_of(path).decode(errors="replace")


def found(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Say which secret is in which place."""
    return [
        (name, place) for place, held in places.items() for name, secret in secrets.items() if secret.encode() in held
    ]


def places_of(store: Store, watch: Watch, *folders: Path) -> dict[str, bytes]:
    """Gather all that can be searched: files, documents, command lines, spools as they were."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    places = {f"file {path}": path.read_bytes() for path in files}
    places |= {f"collection {name}": b"\0".join(documents) for name, documents in contents(store).items()}
    places |= {f"spool {name}": b"\0".join(seen) for name, seen in watch.spooled.items()}
    return places | {"command lines": b"\n".join(watch.command_lines)}


@pytest.fixture
def shop() -> Iterator[ShopServer]:
    with ShopServer(port=0, seed=1) as server:
        yield server


@pytest.mark.long
def test_no_secret_is_left_anywhere(store, shop, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(ENV_URI, store.uri)
    left, handed_out = tmp_path / "left", tmp_path / "handed-out.json"
    left.mkdir()
    secrets = {"api token": a_token(store), "password of MongoDB": urlsplit(store.uri).password}
    with Watch(data_home() / "spool") as watch:
        server = Server(store.uri, left / "serve.log")
        try:
            _start_a_run(Client(server.url, secrets["api token"]), store, shop.url)
            _execute(left, handed_out, shop.url)
        finally:
            server.close()
    secrets |= json.loads(handed_out.read_text())
    secrets |= {f"push token {number}": token for number, token in enumerate(sorted(watch.push_tokens))}
    (left / "log-of-this-process").write_text(caplog.text)
    places = places_of(store, watch, left, data_home())

    assert len(watch.push_tokens) == 2
    assert all(len(secret) >= 20 for secret in secrets.values())
    for part in ("locust.log", "serve.log", "run.html", "run.ipynb", "done.ipynb", "t.csv", "collection tokens"):
        assert any(part in place and held for place, held in places.items()), part
    assert any(b'"runId"' in held for place, held in places.items() if place.startswith("spool"))
    assert b"loadbench.agent" in places["command lines"]
    assert found(secrets, places) == []


def _start_a_run(client: Client, store: Store, target_url: str) -> None:
    body = {"name": "over REST", "targetUrl": target_url, "scriptContent": encoded(STEADY), "envId": "test"}
    test = client.post("/v1/load-tests", body).json()
    run = client.post(f"/v1/load-tests/{test['id']}/runs", {"durationSec": 3, "targetUsers": 2}).json()
    wait_until(lambda: store.runs.get(run["id"]).is_over, within_s=40, message="the run did not end")
    assert store.runs.get(run["id"]).completeness == "complete"
    for path in ("", "/summary", "/graph"):
        assert client.get(f"/v1/runs/{run['id']}{path}").status_code == 200
    assert Client(client.url, f"{client.token}x").get("/v1/runs").status_code == 401


def _execute(left: Path, handed_out: Path, target_url: str) -> None:
    values = {"script": STEADY, "url": target_url, "folder": str(left), "handed_out": str(handed_out)}
    cells = [nbformat.v4.new_code_cell(cell.format(**values)) for cell in CELLS]
    notebook = left.parent / "session.ipynb"
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)
    execute_notebook(notebook, left / "done.ipynb", progress=False)


def test_the_search_finds_a_secret_wherever_it_is(store, tmp_path) -> None:
    """The control: without it, nothing found would prove nothing."""
    secret = a_token(store)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "locust.log").write_bytes(b"\xff\0Bearer " + secret.encode())
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "run.db").write_bytes(b"SQLite" + secret.encode())
    store.database["load_test_runs"].insert_one({"_id": "run-1", "deep": [{"notes": f"<{secret}>"}]})
    told = subprocess.Popen(
        [sys.executable, "-c", "input()", secret],
        env=os.environ | {wire.ENV_TOKEN: "lbp_of_a_process", wire.ENV_SPOOL: str(tmp_path / "spool" / "run.db")},
        stdin=subprocess.PIPE,
    )
    watch = Watch(tmp_path / "spool")
    watch.look()
    told.communicate(b"\n", timeout=10)
    where = {place.partition(" ")[2] or place for _, place in found({"it": secret}, places_of(store, watch, tmp_path))}
    deep = {str(tmp_path / "deep" / "locust.log"), str(tmp_path / "spool" / "run.db")}
    assert where == {*deep, "run.db", "load_test_runs", "lines"}
    assert watch.push_tokens == {"lbp_of_a_process"}
    assert found({"it": secret[:-1] + "?"}, places_of(store, watch, tmp_path)) == []
