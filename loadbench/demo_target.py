"""The sample shop: a small system under test, with known delays and failures, that counts what it served.

How it counts: a request counts, under its method and route, when its response is written, whatever became of the
client; `failed` are those with a status of 400 or more. `abandoned` are those among them whose client had closed the
connection by then, so `served - abandoned` is what clients can have seen. A path that is no route counts as
"(unmatched)". `GET /_counts` and `POST /_reset` do not count.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from loadbench.errors import InvalidInput, ReceiverError

ENV_URL = "LOADBENCH_DEMO_TARGET_URL"
UNMATCHED = "(unmatched)"
PRODUCTS = 500
_KINDS = ("kettle", "lamp", "rucksack", "notebook", "teapot", "scarf", "clock", "bench", "vase", "stool")
_JOIN_TIMEOUT_S = 10.0


def _product(number: int) -> dict[str, Any]:
    kind = _KINDS[number % len(_KINDS)]
    return {
        "id": number,
        "name": f"{kind} no. {number}",
        "category": kind,
        "price": round(4.99 + number * 37 % 200, 2),
        "currency": "EUR",
        "inStock": number % 7 != 0,
    }


CATALOGUE = [_product(number) for number in range(1, PRODUCTS + 1)]


@dataclass(frozen=True)
class Behaviour:
    """How a route behaves.

    Parameters
    ----------
    median_ms : float
        Median delay, at least 0 ms.
    sigma : float
        Spread of the lognormal distribution; 0 makes every delay the median, 0.5 puts p95 at 2.3 times it.
    failure_ratio : float
        Share of requests that fail, in [0, 1].
    failure_status : int
        With which status, 400-599.
    """

    median_ms: float
    sigma: float = 0.35
    failure_ratio: float = 0.0
    failure_status: int = 500

    def __post_init__(self) -> None:
        for name, low, high in (
            ("median_ms", 0, 600_000),
            ("sigma", 0, 5),
            ("failure_ratio", 0, 1),
            ("failure_status", 400, 599),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(f"{name} must be in [{low}, {high}]; not {value!r}", field=name)

    def delay_s(self, chance: random.Random) -> float:
        return self.median_ms / 1000 * math.exp(chance.gauss(0, self.sigma))


BEHAVIOURS: Mapping[str, Behaviour] = {
    "GET /api/products": Behaviour(25, 0.35),
    "GET /api/products/:id": Behaviour(15, 0.35, 0.005, 404),
    "GET /api/search": Behaviour(60, 0.5, 0.01, 503),
    "POST /api/cart/items": Behaviour(40, 0.45, 0.02, 500),
}


@dataclass
class Count:
    """What was served on one route."""

    served: int = 0
    failed: int = 0
    abandoned: int = 0


class Shop:
    """Behaviours, chance and counts: what the handlers share."""

    def __init__(self, behaviours: Mapping[str, Behaviour], seed: int) -> None:
        self.behaviours = behaviours
        self.chance = random.Random(seed)
        self._counts: dict[tuple[str, str], Count] = {}
        self._lock = threading.Lock()

    def count(self, method: str, route: str, *, failed: bool, abandoned: bool) -> None:
        with self._lock:
            count = self._counts.setdefault((method, route), Count())
            count.served += 1
            count.failed += failed
            count.abandoned += abandoned

    def counts(self) -> dict[tuple[str, str], Count]:
        with self._lock:
            return {key: replace(count) for key, count in sorted(self._counts.items())}

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()


class ShopHandler(RequestHandler):
    route = UNMATCHED

    def initialize(self, shop: Shop) -> None:
        self.shop = shop
        self._abandoned = False

    def on_connection_close(self) -> None:
        self._abandoned = True

    def finish(self, chunk: str | bytes | dict | None = None) -> Any:
        # Counted just before it is written: who has seen a response finds it counted.
        failed = self.get_status() >= 400
        abandoned = self._abandoned or self.request.connection.stream.closed()
        self.shop.count(self.request.method, self.route, failed=failed, abandoned=abandoned)
        return super().finish(chunk)

    def write_error(self, status_code: int, **_: Any) -> None:
        self.finish({"error": {"status": status_code, "message": self._reason}})

    async def behave(self) -> bool:
        """Take the route's time, and fail as often as it fails; say whether the request may go on."""
        behaviour = self.shop.behaviours[f"{self.request.method} {self.route}"]
        fails = self.shop.chance.random() < behaviour.failure_ratio
        await asyncio.sleep(behaviour.delay_s(self.shop.chance))
        if fails:
            self.send_error(behaviour.failure_status)
        return not fails


class ProductsHandler(ShopHandler):
    route = "/api/products"

    async def get(self) -> None:
        if await self.behave():
            self.finish({"products": CATALOGUE[:20], "total": PRODUCTS, "page": 1})


class ProductHandler(ShopHandler):
    route = "/api/products/:id"

    async def get(self, number: str) -> None:
        if not await self.behave():
            return
        if len(number) > 9 or not 1 <= int(number) <= PRODUCTS:
            self.send_error(404)
        else:
            details = {"description": "Made to last. " * 12, "reviews": int(number) % 40}
            self.finish(CATALOGUE[int(number) - 1] | details)


class SearchHandler(ShopHandler):
    route = "/api/search"

    async def get(self) -> None:
        if not await self.behave():
            return
        query = self.get_query_argument("q", "")[:100]
        found = [product for product in CATALOGUE if query.lower() in product["name"]]
        self.finish({"query": query, "total": len(found), "products": found[:10]})


class CartHandler(ShopHandler):
    route = "/api/cart/items"

    async def post(self) -> None:
        if not await self.behave():
            return
        try:
            item = json.loads(self.request.body)
            product_id, quantity = int(item["productId"]), int(item["quantity"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.send_error(400)
            return
        if not (1 <= product_id <= PRODUCTS and 1 <= quantity <= 99):
            self.send_error(422)
            return
        line = CATALOGUE[product_id - 1]
        self.set_status(201)
        self.finish({"item": line, "quantity": quantity, "subtotal": round(line["price"] * quantity, 2)})


class UnmatchedHandler(ShopHandler):
    def prepare(self) -> None:
        self.send_error(404)


class CountsHandler(RequestHandler):
    def initialize(self, shop: Shop) -> None:
        self.shop = shop

    def get(self) -> None:
        counts = self.shop.counts()
        rows = [{"method": method, "route": route, **asdict(count)} for (method, route), count in counts.items()]
        self.finish({"routes": rows, "served": sum(row["served"] for row in rows),
                     "failed": sum(row["failed"] for row in rows)})  # fmt: skip


class ResetHandler(RequestHandler):
    def initialize(self, shop: Shop) -> None:
        self.shop = shop

    def post(self) -> None:
        self.shop.reset()
        self.set_status(204)


class ShopServer:
    """The sample shop, in a thread of this process.

    Parameters
    ----------
    port : int
        0 lets the system choose.
    host : str
    latency_ms : float, optional
        Median delay of every route.
    failures : float, optional
        Share of requests that fail on every route, in [0, 1].
    behaviours : mapping of str to Behaviour, optional
        How single routes behave, such as `{"GET /api/search": Behaviour(median_ms=80)}`; goes before the others.
    seed : int
        The same seed and the same order of requests give the same delays and failures.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        latency_ms: float | None = None,
        failures: float | None = None,
        behaviours: Mapping[str, Behaviour] | None = None,
        seed: int = 1,
    ) -> None:
        unknown = sorted(set(behaviours or ()) - set(BEHAVIOURS))
        if unknown:
            raise InvalidInput(f"behaviours must be for {', '.join(BEHAVIOURS)}; not {unknown[0]!r}")
        changes: dict[str, Any] = {} if latency_ms is None else {"median_ms": latency_ms}
        changes |= {} if failures is None else {"failure_ratio": failures}
        all_routes = {route: replace(behaviour, **changes) for route, behaviour in BEHAVIOURS.items()}
        self.host, self.port = host, port
        self._shop = Shop(all_routes | dict(behaviours or {}), seed)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        served, failed = self.total()
        return f"<ShopServer {self.url} served {served}, failed {failed}>"

    def __enter__(self) -> ShopServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def counts(self) -> dict[tuple[str, str], Count]:
        """Give what was served so far, by (method, route)."""
        return self._shop.counts()

    def total(self) -> tuple[int, int]:
        """Give how many requests were served so far, and how many of these failed."""
        counts = self.counts().values()
        return sum(count.served for count in counts), sum(count.failed for count in counts)

    def reset(self) -> None:
        """Count from zero again."""
        self._shop.reset()

    def start(self) -> ShopServer:
        """Listen; on a running shop, do nothing."""
        if self._thread is not None:
            return self
        listening = self._bind()
        self.port = listening.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, ready)), name="loadbench-shop", daemon=True
        )
        self._thread.start()
        if not ready.wait(_JOIN_TIMEOUT_S):
            raise ReceiverError("The sample shop does not come up: try again")
        return self

    def stop(self) -> None:
        """Stop listening and join the thread; the counts stay."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join(_JOIN_TIMEOUT_S)

    def _bind(self) -> socket.socket:
        try:
            listening = socket.create_server((self.host, self.port), backlog=1024)
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno > 0 else str(error)
            raise ReceiverError(
                f"The sample shop cannot listen on {self.host}:{self.port} ({reason}): choose another port, or 0"
            ) from None
        listening.setblocking(False)
        return listening

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = HTTPServer(make_shop(self._shop))
        server.add_socket(listening)
        ready.set()
        await self._stopping.wait()
        server.stop()
        await server.close_all_connections()


def make_shop(shop: Shop) -> Application:
    """Build the shop's application."""
    own = {"shop": shop}
    return Application(
        [
            ("/api/products", ProductsHandler, own),
            ("/api/products/([0-9]+)", ProductHandler, own),
            ("/api/search", SearchHandler, own),
            ("/api/cart/items", CartHandler, own),
            ("/_counts", CountsHandler, own),
            ("/_reset", ResetHandler, own),
        ],
        default_handler_class=UnmatchedHandler,
        default_handler_args=own,
        log_function=lambda _: None,
    )


def serve(*, port: int, latency: float | None = None, failures: float | None = None, seed: int = 1) -> int:
    """Run the sample shop until SIGINT or SIGTERM; the exit code for the command line.

    Parameters
    ----------
    port : int
        0 lets the system choose; the URL is printed on the first line.
    latency : float, optional
        Median delay of every route in ms; each route has its own if left out.
    failures : float, optional
        Share of failing requests in [0, 1]; each route has its own if left out.
    seed : int
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ShopServer(port, latency_ms=latency, failures=failures, seed=seed) as shop:
        sys.stdout.write(f"sample shop on {shop.url}; counts at {shop.url}/_counts; Ctrl-C ends it\n")
        sys.stdout.flush()
        ended.wait()
    served, failed = shop.total()
    sys.stdout.write(f"served {served}, failed {failed}\n")
    return 0


@dataclass(frozen=True)
class RunningShop:
    """A sample shop that another process runs."""

    url: str


_shared: ShopServer | None = None
_shared_lock = threading.Lock()


def sample_shop() -> ShopServer | RunningShop:
    """Give a sample shop to test on: the one that `loadbench lab` started, else one in this process, started once."""
    global _shared
    url = os.environ.get(ENV_URL)
    if url:
        return RunningShop(url)
    with _shared_lock:
        if _shared is None:
            _shared = ShopServer().start()
        return _shared
