"""The sender: takes the spool to the receiver, in order, one request at a time, until all is acknowledged.

`Sender` waits on what it is given, so the same code runs in a greenlet of Locust and in an ordinary thread (`drain`).
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import requests

from loadbench.agent import wire
from loadbench.agent.collector import encode
from loadbench.agent.spool import Letter, Spool

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 6.0  # a kernel that computes a regex or a large json.dumps stalls its threads for 2-4 s
BACKOFF_FIRST_S = 0.25
BACKOFF_CAP_S = 5.0
SOON_CAP_S = 2.0
"""That of a receiver that nobody hears, which costs nothing, or that has said when it may be asked again: who restarts
it, or its MongoDB, shall have figures within 5 s."""
RETRY_AFTER_CAP_S = 60.0
UNAUTHORIZED_PATIENCE_S = 60.0
CLOSING_PAUSE_S = 1.0
HEARTBEAT_EVERY_S = 2.0

log = logging.getLogger(__name__)


class Signal(Protocol):
    """What `threading.Event` and `gevent.event.Event` have in common."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Any: ...


class Answer(NamedTuple):
    """What the receiver said; status 0 if it could not be reached."""

    status: int
    run_status: str = ""
    detail: str = ""
    retry_after_s: float = 0.0


class Sender:
    """Delivers the letters of a spool.

    Parameters
    ----------
    spool : Spool
        Where they lie.
    url : str
        The receiver, without a path.
    token : str
        The run's push token. It is in no repr, no log and no file.
    session : requests.Session, optional
        To share connections.
    on_status : callable, optional
        Takes the run's status as each answer tells it.
    off_loop : callable
        Runs a function of the spool; a greenlet passes one that runs it in a real thread.
    patience_s : float
        How long a 401 is retried: a receiver that has just been restarted may not know the token yet.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        url: str,
        token: str,
        session: requests.Session | None = None,
        on_status: Callable[[str], None] = lambda status: None,
        off_loop: Callable[..., Any] = lambda function, *args: function(*args),
        patience_s: float = UNAUTHORIZED_PATIENCE_S,
    ) -> None:
        self._spool = spool
        self._url = url.rstrip("/") + wire.ROUTE_PREFIX
        self._session = session or plain_session()
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._on_status = on_status
        self._off_loop = off_loop
        self._patience_s = patience_s
        self._failures = 0
        self._unauthorized_since: float | None = None
        self._warned = False
        self.delivered = 0

    def __repr__(self) -> str:
        return f"<Sender to {self._url}: {self.delivered} delivered>"

    def run(self, *, wake: Signal, closing: Signal, heartbeat: Callable[[], dict[str, Any] | None]) -> None:
        """Send for as long as the process lives; return when `closing` is set and nothing is left.

        Parameters
        ----------
        wake : Signal
            Set when there is something new in the spool.
        closing : Signal
            Set when nothing more will come.
        heartbeat : callable
            Gives the heartbeat to send while there is nothing else, or None.
        """
        while True:
            wake.clear()
            try:
                pause_s = self.step()
                if pause_s is None and not closing.is_set() and (message := heartbeat()):
                    self._post(wire.HEARTBEAT, encode(message))
            except Exception as error:  # whatever it is, later intervals must still have their chance
                log.warning("sending to %s failed (%s); it is tried again", self._url, type(error).__name__)
                log.debug("sending failed", exc_info=True)
                pause_s = BACKOFF_CAP_S
            if pause_s is None:
                if closing.is_set():
                    return
                wake.wait(HEARTBEAT_EVERY_S)
            elif pause_s:
                _rest(pause_s, closing)

    def step(self) -> float | None:
        """Try to deliver the oldest letter.

        Returns
        -------
        float or None
            Seconds to wait before the next try; None if there was nothing to send.
        """
        letter = self._off_loop(self._spool.head)
        if letter is None:
            return None
        answer = self._post(letter.kind, letter.body)
        if 200 <= answer.status < 300:
            self._off_loop(self._spool.delete, letter)
            self.delivered += 1
            self._recovered()
            return 0.0
        if self._is_final(answer):
            log.warning(
                "the receiver refused %s %d of run %s for good: %d %s",
                letter.kind,
                letter.seq,
                letter.run,
                answer.status,
                answer.detail,
            )
            self._off_loop(self._spool.bury, letter, answer.status, answer.detail)
            return 0.0
        return self._back_off(answer)

    def _is_final(self, answer: Answer) -> bool:
        if answer.status != 401:
            self._unauthorized_since = None
            return 300 <= answer.status < 500 and answer.status not in (408, 429)
        now = time.monotonic()
        if self._unauthorized_since is None:
            self._unauthorized_since = now
        return now - self._unauthorized_since >= self._patience_s

    def _back_off(self, answer: Answer) -> float:
        """Give a random wait of up to 0.25, 0.5, 1 ... 5 s (full jitter), on top of what the receiver asked for.

        It is 2 s at most for one that cannot be reached, or that has asked for a time.
        """
        if not self._warned:
            self._warned = True
            what = f"answers {answer.status} {answer.detail}".rstrip() if answer.status else "cannot be reached"
            log.warning("the receiver at %s %s: intervals wait in the spool", self._url, what)
        cap = BACKOFF_CAP_S if answer.status and not answer.retry_after_s else SOON_CAP_S
        limit = min(cap, BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
        self._failures += 1
        return answer.retry_after_s + random.uniform(0.02, limit)

    def _recovered(self) -> None:
        self._failures = 0
        self._unauthorized_since = None
        if self._warned:
            self._warned = False
            log.warning("the receiver at %s is back", self._url)

    def _post(self, kind: str, body: bytes) -> Answer:
        try:
            response = self._session.post(
                self._url + kind,
                data=body,
                headers=self._headers | {wire.SENT_AT_HEADER: str(time.time_ns() // 1_000_000)},
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return Answer(0, detail=type(error).__name__)
        answer = _read(response)
        if answer.run_status:
            self._on_status(answer.run_status)
        return answer


def drain(
    spool: Spool,
    *,
    url: str,
    token: str,
    session: requests.Session | None = None,
    patience_s: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Deliver what an ended run left in its spool, from an ordinary thread.

    Parameters
    ----------
    spool : Spool
        The left-overs. What could not be delivered stays in it; what was refused for good is in its dead letters.
    url : str
        The receiver, without a path.
    token : str
        A push token of the run.
    session : requests.Session, optional
        By default a new one that heeds neither proxies nor netrc.
    patience_s : float
        How long the receiver may be away or refuse the token, in seconds, before this gives up.
    sleep : callable
        Waits.

    Returns
    -------
    int
        How many messages were delivered.
    """
    with contextlib.nullcontext(session) if session else plain_session() as connection:
        sender = Sender(spool, url=url, token=token, session=connection, patience_s=patience_s)
        progress = time.monotonic()
        while (pause_s := sender.step()) is not None:
            if not pause_s:
                progress = time.monotonic()
            elif time.monotonic() + pause_s - progress > patience_s:
                break
            else:
                sleep(pause_s)
    return sender.delivered


def plain_session() -> requests.Session:
    """Make a session that the environment cannot divert: ~/.netrc would replace the token, HTTP_PROXY receive it."""
    session = requests.Session()
    session.trust_env = False
    return session


def letter(kind: str, message: dict[str, Any], *, seq: int = 0) -> Letter:
    """Write a message as it will be sent, once: every attempt sends the same bytes."""
    return Letter(message["runId"], message["source"], kind, seq, encode(message))


def _rest(pause_s: float, closing: Signal) -> None:
    """Wait before the next try. New intervals do not shorten it: the receiver asked for peace, or is away.

    The end of the process does, to a second: there are a few seconds left to deliver the rest.
    """
    until = time.monotonic() + pause_s
    closing.wait(pause_s)
    time.sleep(max(0.0, min(until - time.monotonic(), CLOSING_PAUSE_S)))


def _read(response: requests.Response) -> Answer:
    try:
        body = response.json()
    except requests.exceptions.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        body = {}
    ok = response.status_code < 300
    detail = "" if ok else str(body.get("detail") or body.get("title") or response.reason or "")[:300]
    try:
        retry_after_s = float(response.headers.get("Retry-After", 0))
    except ValueError:
        retry_after_s = 1.0  # a date: it has a resolution of a second anyway
    return Answer(
        response.status_code,
        str(body.get("status", "")) if ok else "",
        " ".join(detail.split()),
        min(max(retry_after_s, 0.0), RETRY_AFTER_CAP_S),
    )
