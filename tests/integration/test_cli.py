"""The command line as a person types it: its own process, its own data directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadbench.cli import main
from tests import scripts
from tests.waiting import wait_until


@pytest.fixture
def loadbench(store, tmp_path):
    """Run a command on the test run's MongoDB and give the finished process."""

    def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-m", "loadbench.cli", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(scripts.STEADY)
    return path


def test_run_then_runs_then_report(loadbench, shop, script, tmp_path):
    done = loadbench("run", script, "--target", shop.url, "--users", 3, "--spawn-rate", 3, "--duration", "3s")
    assert "Finished" in done.stdout
    assert "Aggregated" in done.stdout
    assert str(shop.total()[0]) in done.stdout.replace(",", "")
    listing = loadbench("runs").stdout
    assert "Finished" in listing
    run_id = next(line.split()[0] for line in listing.splitlines() if line.startswith("run-"))
    written = json.loads(loadbench("report", run_id[:9], "--json").stdout)
    assert written["run"]["id"] == run_id
    assert {row["name"] for row in written["summary"]} >= {"Aggregated"}
    assert Path(written["path"]).stat().st_size > 500_000
    assert json.loads(Path(written["path"]).with_suffix(".ipynb").read_text())["cells"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "missing.py", "--target", "http://127.0.0.1:9"], 2, "no script"),
        (["run", "shop.py", "--target", "http://127.0.0.1:9", "--users", "0"], 2, "users"),
        (["run", "shop.py", "--target", "http://127.0.0.1:9"], 7, "does not answer"),
        (["run", "shop.py", "--target", "http://127.0.0.1:9", "--duration", "3h"], 2, "maxDurationSec"),
        (["report", "run-ffff"], 3, "run-ffff"),
        (["report", "--compare", "run-1"], 2, "two runs or more"),
        (["report", "--test", "none"], 3, "no test 'none'"),
        (["runs", "--scope", "acme"], 2, "account/organisation/project"),
        (["runs", "--status", "Runing"], 2, "Running"),
        (["explode"], 2, "invalid choice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gives_one_line_and_a_code(store, script, monkeypatch, capsys, arguments, code, words):
    monkeypatch.setenv("LOADBENCH_MONGODB_URI", store.uri)
    monkeypatch.chdir(script.parent)
    try:
        returned = main(arguments)
    except SystemExit as ended:  # argparse's own way
        returned = ended.code
    assert returned == code
    said = capsys.readouterr().err
    assert words in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_ctrl_c_stops_the_run_and_prints_what_there_is(store, shop, script, tmp_path):
    command = [sys.executable, "-m", "loadbench.cli", "run", script, "--target", shop.url, "--duration", "60s"]
    child = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: shop.total()[0] > 20, within_s=60, message="the load did not begin")
        os.killpg(child.pid, signal.SIGINT)
        output, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert "Stopped" in output
    assert child.returncode == 0


def test_serve_receives_and_ends_on_sigterm(store):
    import requests

    child = subprocess.Popen(
        [sys.executable, "-m", "loadbench.cli", "serve", "--port", "0"],
        env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = child.stdout.readline()
        url = line.split()[2].rstrip(",")
        assert requests.get(f"{url}/readyz", timeout=5).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.stdout.close()


def test_db_of_an_own_data_directory(tmp_path):
    environment = os.environ | {"LOADBENCH_HOME": str(tmp_path / "home")}

    def db(action: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "loadbench.cli", "db", action],
            env=environment, capture_output=True, text=True, timeout=60, check=True,
        ).stdout.strip()  # fmt: skip

    try:
        assert db("stop") == "it was not running"
        uri = db("uri")
        assert uri.startswith("mongodb://loadbench:")
        assert db("uri") == uri
        assert "running" in db("status")
    finally:
        assert db("stop") == "stopped"


def test_doctor_finds_nothing_wrong(tmp_path, store):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "loadbench.cli", "doctor"],
        env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    assert time.monotonic() - began < 60


def test_demo_target_serves_and_counts(tmp_path):
    import requests

    child = subprocess.Popen(
        [sys.executable, "-m", "loadbench.cli", "demo-target", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        url = next(word for word in child.stdout.readline().split() if word.startswith("http")).rstrip(";")
        assert requests.get(f"{url}/api/products", timeout=5).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.stdout.close()


@pytest.mark.long
def test_lab_opens_the_notebooks_and_ends_when_it_is_told(store, tmp_path):
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "loadbench.cli", "lab", "--", "--no-browser", "--port", "0"],
            cwd=tmp_path,
            env=os.environ | {"LOADBENCH_MONGODB_URI": store.uri, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")},
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    try:
        wait_until(lambda: "/lab?token=" in log.read_text(), within_s=60, message="JupyterLab did not start")
        assert (tmp_path / "notebooks" / "01_first_run.ipynb").is_file()
        assert (tmp_path / "locustfiles" / "products.py").is_file()
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=30)
    finally:
        child.kill()
        child.wait()
