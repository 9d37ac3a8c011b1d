"""The report as its reader sees it: opened without a network, every chart drawn, nothing asked for, printable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from loadbench import testing as synthetic
from loadbench.store.database import ENV_URI
from tests.executed import run_page

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
NAMES = [("GET", "/api/products"), ("GET", "/api/products/:id"), ("GET", "/api/search"), ("POST", "/api/cart/items")]
HOSTILE = [("GET", "/<img src=x onerror=hacked()>"), ("GET", "</script><script>hacked()</script>")]
DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg .xaxislayer-above text').length > 10"


class Opened:
    """A page with the network off that keeps what it asked for and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page, self.requests, self.complaints = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri())
        self.page.wait_for_function(DRAWN)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    yield Opened(context.new_page())
    context.close()


@pytest.fixture
def written(store, monkeypatch, tmp_path):
    """Write the page of the report of a made-up run."""
    monkeypatch.setenv(ENV_URI, store.uri)
    return lambda **how: run_page(store, synthetic.keep(store, synthetic.run(**how)), tmp_path / "run.html")


def test_all_charts_are_drawn_offline_and_nothing_is_asked_for(opened, written):
    path = written(
        seed="page", seconds=300, endpoints=NAMES, rps=140, stalled=(180, 181), stall_ms=900, ramp_s=40, drain_s=15,
        origin="launched", gates=("p95 < 300ms", 'p99 of "POST /api/cart/items" < 500ms', "error rate < 2%"),
    )  # fmt: skip
    opened.open(path)
    plots = opened.page.locator(".js-plotly-plot")
    assert plots.count() == 7
    for index in range(7):
        assert plots.nth(index).locator(".main-svg").first.is_visible()
        assert plots.nth(index).locator("path.js-line, path.point, image, .bars path").count() > 0
    assert opened.page.locator("h1").all_text_contents() == ["products"]
    titles = opened.page.locator("h2").all_text_contents()
    assert titles[:3] == ["Gates", "Key figures", "Timeline"]
    assert titles[-3:] == ["What was run", "Methods", "Data"]
    ARTIFACTS.mkdir(exist_ok=True)
    opened.page.screenshot(path=ARTIFACTS / "report.png", full_page=True)
    opened.page.pdf(path=ARTIFACTS / "report.pdf", prefer_css_page_size=True, print_background=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert opened.requests == [path.as_uri()]
    assert opened.complaints == []


def test_code_is_hidden_until_somebody_asks_for_it(opened, written):
    opened.open(written(seed="code", seconds=10))
    code, button = opened.page.locator(".code"), opened.page.get_by_role("button", name="Show code")
    assert code.count() > 10
    assert not any(code.nth(index).is_visible() for index in range(code.count()))
    button.click()
    assert all(code.nth(index).is_visible() for index in range(code.count()))
    assert "run.heatmap()" in opened.page.locator("main").inner_text()
    opened.page.get_by_role("button", name="Hide code").click()
    assert not code.first.is_visible()
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".tools").is_visible()
    assert opened.complaints == []


def test_charts_fit_the_printed_page_and_come_back(opened, written):
    opened.open(written(seed="print", seconds=20, endpoints=NAMES))
    widths = "[...document.querySelectorAll('.main-svg')].map((each) => Number(each.getAttribute('width')))"
    on_screen = opened.page.evaluate(widths)
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert set(opened.page.evaluate(widths)) == {860}
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.page.evaluate(widths) == on_screen
    assert min(on_screen) > 1000


def test_hostile_names_stay_text_in_page_and_charts(opened, written):
    opened.page.add_init_script("window.hacked = () => alert('hacked')")
    path = written(
        seed="hostile", seconds=20, endpoints=HOSTILE, failure_ratio=0.2, messages=("<img src=x onerror=hacked()>",)
    )
    opened.open(path)
    shown = opened.page.locator(".js-plotly-plot .ytick text").all_text_contents()
    assert {f"{method} {name}" for method, name in HOSTILE} <= set(shown)
    cells = opened.page.locator("table").first.locator("td:first-child").all_text_contents()
    assert cells == [f"{method} {name}" for method, name in HOSTILE] + ["Aggregated"]
    assert opened.page.locator("img").count() == 0
    assert opened.requests == [path.as_uri()]
    assert opened.complaints == []


def test_the_policy_of_the_page_forbids_the_network_and_foreign_scripts(opened, written):
    opened.open(written(seed="policy", seconds=5))
    blocked = opened.page.evaluate(
        """() => new Promise((resolve) => {
          const seen = [];
          document.addEventListener("securitypolicyviolation", (event) => {
            seen.push(event.effectiveDirective);
            if (seen.length === 3) resolve(seen.sort());
          });
          new Image().src = "http://127.0.0.1:9/x";
          fetch("http://127.0.0.1:9/x").catch(() => null);
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        })"""
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert opened.page.evaluate("window.ran") is None
