"""The notebook session in a real Jupyter kernel: restart, interrupt, and a cell that is busy."""

from __future__ import annotations

import pytest

from tests import scripts
from tests.notebook_kernel import Notebook

OPEN = """
import loadbench as lb
bench = lb.Workbench("acme/shop/checkout", env="test", mongodb_uri={uri!r})
test = bench.create_test("restarted", {script!r}, target_url={url!r}, users=4, spawn_rate=4, check=False)
"""


@pytest.fixture
def notebook():
    notebook = Notebook()
    yield notebook
    notebook.close()


@pytest.fixture
def opening(store, shop) -> str:
    return OPEN.format(uri=store.uri, script=scripts.STEADY, url=shop.url)


@pytest.mark.parametrize(
    "now", [pytest.param(False, id="restart", marks=pytest.mark.long), pytest.param(True, id="killed")]
)
def test_the_first_cells_find_the_run_again_after_a_restart(notebook, opening, store, shop, now):
    notebook.run(opening)
    started = notebook.run("run = test.start(duration='10s'); print(run.id, run.record.process.pid)")
    notebook.restart(now=now)
    notebook.run(opening)
    again = notebook.run("run = test.active_run(); print(run.id, run.record.process.pid)")
    assert again == started
    notebook.run("await run")
    notebook.run("assert (run.status, run.record.completeness) == ('Finished', 'complete'), run")
    assert int(notebook.run("print(run.summary()['requests'].iloc[-1])")) == shop.total()[0]
    assert store.database.load_test_runs.count_documents({}) == 1
    assert store.database.script_revisions.count_documents({}) == 1


def test_interrupts_and_busy_cells_do_not_touch_the_load(notebook, opening, shop):
    notebook.run(opening + "run = test.start(duration='6s')")
    notebook.run("import time\nend = time.time() + 2\nwhile time.time() < end: pass")
    for _ in range(3):
        notebook.manager.interrupt_kernel()
    notebook.run("await run")
    assert int(notebook.run("print(run.summary()['requests'].iloc[-1])")) == shop.total()[0]


def test_the_session_leaves_no_token_in_what_it_shows(notebook, opening):
    shown = notebook.run(
        opening + "run = test.start(duration='1s')\nawait run\nprint(repr(run), run._repr_html_(), bench)"
    )
    environment = notebook.run(
        "import glob; print(open(run.record.process.directory + '/locust.log').read(), run.record)"
    )
    assert "TOKEN" not in environment
    assert "token" not in shown
