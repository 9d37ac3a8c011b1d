"""The report as its reader sees it: opened without a network, every chart drawn, nothing asked for, printable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from loadbench import reports
from loadbench import testing as synthetic

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


def test_all_charts_are_drawn_offline_and_nothing_is_asked_for(opened, tmp_path):
    made = synthetic.run(seed="page", seconds=300, endpoints=NAMES, rps=140, stalled=(180, 181), stall_ms=900)
    path = reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html")
    opened.open(path)
    plots = opened.page.locator(".js-plotly-plot")
    assert plots.count() == 3
    for index in range(3):
        assert plots.nth(index).locator(".main-svg").first.is_visible()
        assert plots.nth(index).locator("path.js-line, path.point").count() > 0
    titles = opened.page.locator(".chart h2").all_text_contents()
    assert titles == ["Timeline", "Response times by endpoint", "Distribution of response times"]
    ARTIFACTS.mkdir(exist_ok=True)
    opened.page.screenshot(path=ARTIFACTS / "report.png", full_page=True)
    opened.page.pdf(path=ARTIFACTS / "report.pdf", prefer_css_page_size=True, print_background=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert opened.requests == [path.as_uri()]
    assert opened.complaints == []


def test_charts_fit_the_printed_page_and_come_back(opened, tmp_path):
    made = synthetic.run(seed="print", seconds=20, endpoints=NAMES)
    opened.open(reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html"))
    widths = "[...document.querySelectorAll('.main-svg')].map((each) => Number(each.getAttribute('width')))"
    on_screen = opened.page.evaluate(widths)
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert set(opened.page.evaluate(widths)) == {860}
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.page.evaluate(widths) == on_screen
    assert min(on_screen) > 1000


def test_hostile_names_stay_text_in_page_and_charts(opened, tmp_path):
    made = synthetic.run(
        seed="hostile", seconds=20, endpoints=HOSTILE, failure_ratio=0.2, messages=("<img src=x onerror=hacked()>",)
    )
    opened.page.add_init_script("window.hacked = () => alert('hacked')")
    path = reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html")
    opened.open(path)
    shown = opened.page.locator(".js-plotly-plot .ytick text").all_text_contents()
    assert {f"{method} {name}" for method, name in HOSTILE} <= set(shown)
    cells = opened.page.locator("table").first.locator("td:first-child").all_text_contents()
    assert cells == [f"{method} {name}" for method, name in HOSTILE] + ["Aggregated"]
    assert opened.page.locator("img").count() == 0
    assert opened.requests == [path.as_uri()]
    assert opened.complaints == []


def test_the_policy_of_the_page_forbids_the_network_and_foreign_scripts(opened, tmp_path):
    made = synthetic.run(seed="policy", seconds=5)
    opened.open(reports.write_report(made.run, None, None, made.documents, tmp_path / "run.html"))
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
