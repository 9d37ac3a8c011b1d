"""F6-F8: MongoDB is paused, killed, or not there yet."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import requests

from tests.faults import loads
from tests.faults.crashes import crash_often
from tests.faults.truth import verify
from tests.faults.victims import frozen, mongod_pid
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(400)]

TRIALS = 20


def test_f07_mongod_killed_twenty_times_loses_nothing_that_was_acknowledged(bench, own_mongod, ledger, shop, told):
    run = loads.start(bench, shop, ledger, duration="10m")
    kept = crash_often(own_mongod, ledger, bench._backend.receiver, run.id, trials=TRIALS)
    run.stop().wait()
    counted = verify(ledger, run.id, shop, status="Stopped")
    told(acknowledged=kept, lost=0, requests=counted)


def test_f06_mongod_paused_is_answered_in_time_and_tried_again(bench, proxy, own_mongod, ledger, shop, told):
    run = loads.start(bench, shop, ledger, duration="22s")
    with frozen(mongod_pid(own_mongod)):
        time.sleep(10)
    run.wait()
    counted = verify(ledger, run.id, shop)
    slowest_s = max(seconds for _, _, seconds in proxy.answers)
    told(requests=counted, slowest_answer_s=slowest_s, answered_503=proxy.statuses[503],
         duplicates=bench._backend.receiver.meters.intervals["duplicate"])  # fmt: skip
    assert proxy.statuses[503] >= 1
    assert slowest_s <= 5.2  # 5 s, and a busy machine
    assert proxy.statuses.keys() <= {200, 201, 503}  # what was applied without an answer comes again: 200, not 409


def test_f08_mongod_absent_at_the_start_the_receiver_waits_for_it(bench, own_mongod, ledger, shop, tmp_path, told):
    port, uri = bench._backend.receiver.port, own_mongod.find_or_start()
    run = loads.start(bench, shop, ledger, duration="30s")
    bench.close()
    own_mongod.stop()
    log = tmp_path / "serve.log"
    with log.open("w") as output, subprocess.Popen(
        [sys.executable, "-m", "loadbench.cli", "serve", "--port", str(port)],
        env=os.environ | {"LOADBENCH_MONGODB_URI": uri}, stdout=output, stderr=output,
    ) as serve:  # fmt: skip
        try:
            health = f"http://127.0.0.1:{port}"
            wait_until(lambda: status_of(f"{health}/healthz") == 200, within_s=20, message=log.read_text())
            assert status_of(f"{health}/readyz") == 503
            time.sleep(10)
            assert serve.poll() is None
            assert own_mongod.find_or_start() == uri
            back_ms = 1000 * time.time()
            wait_until(lambda: ledger.first_after(run.id, back_ms), within_s=5, message="no interval after mongod")
            first_s = (ledger.first_after(run.id, back_ms) - back_ms) / 1000
            assert status_of(f"{health}/readyz") == 200
            wait_until(lambda: ledger.run(run.id)["status"] == "Finished", within_s=60, message="the run goes on")
        finally:
            serve.terminate()
    counted = verify(ledger, run.id, shop)
    told(requests=counted, first_201_after_mongod_s=first_s)
    first_line, *rest = log.read_text().splitlines()
    assert first_line.startswith(f"MongoDB at 127.0.0.1:{uri.rpartition(':')[2].partition('/')[0]} does not answer")
    assert "Traceback" not in "\n".join(rest)


def status_of(url: str) -> int:
    try:
        return requests.get(url, timeout=6).status_code
    except requests.ConnectionError:
        return 0
