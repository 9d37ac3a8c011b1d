"""The API's page in a real browser: it shows every route, "Authorize" works, and nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from server.app import ROUTES, Receiver
from tests.builders import a_test
from tests.rest_client import a_token

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "artifacts"


class Docs:
    """The open page, with what it asked for and what it complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{url}/docs")
        page.locator(".opblock").first.wait_for()

    def _hear(self, kind: str, text: str) -> None:
        # An answer of 401 is what one of the tests is after; the browser reports it as an error of loading.
        if kind in ("error", "warning") and "the server responded with a status of 401" not in text:
            self.complaints.append(text)

    def authorize(self, token: str) -> None:
        self.page.get_by_role("button", name="Authorize").first.click()
        dialog = self.page.locator(".dialog-ux")
        dialog.locator("input").fill(token)
        dialog.get_by_role("button", name="Apply credentials").click()
        dialog.get_by_role("button", name="Close").click()

    def call(self, operation: str) -> None:
        block = self.block(operation)
        if "is-open" not in (block.get_attribute("class") or ""):
            block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Execute").click()
        block.locator(".live-responses-table .response-col_status").first.wait_for()

    def block(self, operation: str):
        return self.page.locator(f"[id$='-{operation}']")

    def status(self, operation: str) -> str:
        return self.block(operation).locator(".live-responses-table .response-col_status").last.inner_text()


@pytest.fixture
def docs(browser: Browser, store) -> Iterator[Docs]:
    with Receiver(store) as receiver:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        yield Docs(context.new_page(), receiver.url)
        context.close()


def test_it_shows_every_operation_and_nothing_comes_from_elsewhere(docs):
    operations = sum(len(handler.operations) for _, handler in ROUTES)
    expect(docs.page.locator(".opblock")).to_have_count(operations)
    assert [url for url in docs.requests if not url.startswith((docs.url, "data:"))] == []
    assert docs.complaints == []
    ARTIFACTS.mkdir(exist_ok=True)
    docs.page.screenshot(path=ARTIFACTS / "docs.png", full_page=True)


def test_authorize_is_sent_and_kept_by_nobody(docs, store):
    store.load_tests.add(a_test(name="<img src=x onerror=alert(1)>"))
    token = a_token(store, "viewer")
    docs.call("listLoadTests")
    assert docs.status("listLoadTests").startswith("401")
    docs.authorize(token)
    docs.call("listLoadTests")
    expect(docs.block("listLoadTests").locator(".live-responses-table .response-col_status").last).to_contain_text(
        "200"
    )
    expect(docs.block("listLoadTests").locator(".live-responses-table")).to_contain_text("<img src=x onerror=alert(1)>")
    docs.page.screenshot(path=ARTIFACTS / "docs-authorized.png")
    assert docs.complaints == []
    assert [url for url in docs.requests if not url.startswith((docs.url, "data:"))] == []
    stored = docs.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert token not in stored
    assert token not in docs.page.url


def test_the_policy_stops_a_script_that_gets_into_the_page(docs):
    docs.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
    )
    assert docs.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in docs.complaints)


def test_the_vendored_files_are_those_of_the_decision():
    page = (ROOT / "docs/decisions/005-swagger-ui.md").read_text()
    sums = dict(re.findall(r"(swagger-ui\S*) +\d+ bytes\n +sha256 +([0-9a-f]{64})", page))
    assert sums.keys() == {"swagger-ui-bundle.js", "swagger-ui.css"}
    for name, expected in sums.items():
        content = (ROOT / "server/static" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected, name
