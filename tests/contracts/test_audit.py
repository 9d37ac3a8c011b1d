"""The audit of dependencies: red for a known vulnerability, never silently green. The service is a small real one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.sink import free_port

ROOT = Path(__file__).parents[2]
BAD = {"jinja2": "2.4.1"}

pytestmark = pytest.mark.long  # `make lint` audits each time; this is about how


class Service(BaseHTTPRequestHandler):
    """Answers by OSV's protocol: one query, the vulnerabilities of one release."""

    known: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"].lower()
        self.asked.append(name)
        vulnerable = self.known.get(name) in ("any", query["version"])
        body = json.dumps({"vulns": [_vulnerability(query["package"]["name"])]} if vulnerable else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def _vulnerability(name: str) -> dict:
    events = [{"introduced": "0"}, {"fixed": "99.1"}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
    about = {"summary": "a hole", "published": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z"}
    return {"id": f"TEST-{name}", "aliases": ["CVE-2026-0001"], "affected": affected} | about


@pytest.fixture
def service() -> Iterator[tuple[type[Service], str]]:
    handler = type("OneTest", (Service,), {"known": dict(BAD), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()


def audit(url: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit", "--osv-url", url], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_lock_without_known_vulnerabilities_passes_and_all_of_it_was_asked_for(service):
    handler, url = service
    code, said = audit(url)
    assert code == 0, said
    assert re.fullmatch(r"(\d+) locked dependencies audited, 0 vulnerable\n", said), said
    locked = set(re.findall(r"(?m)^([\w.-]+)==[^;\n]*\\$", (ROOT / "requirements.lock").read_text()))
    assert len(locked) > 100
    assert locked <= {name.replace("_", "-") for name in handler.asked}


def test_a_known_vulnerability_is_red_and_named(service):
    handler, url = service
    handler.known["tornado"] = "any"
    code, said = audit(url)
    assert code == 1
    assert re.search(r"VULNERABLE: tornado [\d.]+: CVE-2026-0001 TEST-tornado; fixed in 99.1\n", said), said


def test_no_answer_is_said_and_is_no_pass(service):
    handler, url = service
    handler.known.clear()  # it answers, and knows nothing at all
    for place in (url, f"http://127.0.0.1:{free_port()}/v1/query"):
        code, said = audit(place)
        assert (code, said.count("\n")) == (0, 1)
        assert said.startswith("NOT AUDITED: no vulnerability service answers")
