"""The API's description for people: Swagger UI at /docs, from files of this package; nothing comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib import resources

from server.base import Handler, Refused

PAGE = "docs.html"
FILES = {
    "docs.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
# Swagger UI sets style attributes and has its icons in data: URLs; scripts come from files of ours only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _content(name: str) -> bytes:
    return resources.files("server").joinpath("static", name).read_bytes()


class DocsHandler(Handler):
    """The page."""

    limited = False

    async def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        self.finish(_content(PAGE))


class FileHandler(Handler):
    """What the page loads."""

    limited = False

    async def get(self, name: str) -> None:
        if name not in FILES:
            raise Refused(404, "not_found", "there is nothing at this path")
        self.set_header("Content-Type", FILES[name])
        self.set_header("Cache-Control", "no-cache")  # kept, and asked for with its ETag
        self.finish(_content(name))


class ToDocsHandler(Handler):
    """Leads whoever opens the server in a browser to the page."""

    limited = False

    async def get(self) -> None:
        self.redirect("/docs")


routes = [("/", ToDocsHandler), ("/docs", DocsHandler), ("/docs/", ToDocsHandler), ("/docs/{name}", FileHandler)]
