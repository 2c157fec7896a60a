"""Sends calls to a models' server: one HTTP client, retries, every failure as a sentence. Nothing else retries."""

import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from rag.errors import BadKey, BadReply, ProviderDown, ProviderError, RateLimited, Stopped
from rag.interfaces import Errand
from rag.openrouter import failures
from rag.openrouter.billing import Bill
from rag.openrouter.connections import Flight, Transport
from rag.openrouter.failures import AccountRateLimited, Meaning, Misconfigured, Purpose, Server
from rag.openrouter.limiter import Limiter
from rag.openrouter.sse import Decoder
from rag.stopping import Stop

QUESTION_PATIENCE = 10.0
"""Seconds within which a retry may still begin while a person waits for an answer."""

INGEST_PATIENCE = 300.0
"""The same while documents are indexed in the background: free models allow twenty requests a minute."""

_IDLE_CONNECTIONS = 16
_MAX_REPLY_BYTES = 64 * 1024 * 1024
_MAX_EVENT_BYTES = 4 * 1024 * 1024
_MAX_ATTEMPTS = 8
_FEW_ATTEMPTS = 3  # a server's own fault or nonsense rarely goes away, and each attempt may be billed
_LONGEST_BACKOFF = 10.0
_LONGEST_HOLD = 300.0  # a server that asks for more is asked again after this: its clock may be wrong
_LONGEST_SESSION = 256
_LONGEST_TAIL = 0.25  # seconds for what comes after the last event: nothing, from a server that means to be asked again
_BUSY = (503, 529)
_LOCAL_REFERER = "http://localhost:8501"

DONE: Mapping[str, Any] = {}
"""The last event of a stream that the server itself ended."""

Reply = TypeVar("Reply")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the path after the base URL, its JSON body, what it is for and how long to go on trying (s).

    `prompt_tokens` is an estimate, billed where the server reports no usage. `batch` is True for one of many requests
    that nobody waits for: the client bounds how many of them are under way at once.
    """

    path: str
    body: Mapping[str, Any]
    purpose: Purpose
    patience: float
    prompt_tokens: int = 0
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Attribution:
    """How the application names itself to servers that list who uses them: its address (None: not told) and title."""

    url: str | None
    title: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What goes over the line, and for what."""

    method: str
    path: str
    query: Mapping[str, str]
    content: bytes | None
    purpose: Purpose


class Client:
    """Calls to one server. Threads may share it; each call ends as soon as its errand is stopped.

    `address_setting` and `key_setting` are what its address and key are called where they are set. `backoff` is the
    first pause before a retry, doubled each time; `read_timeout` the longest silence; all seconds.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr | None,
        *,
        attribution: Attribution = Attribution(None, "Footnote"),
        address_setting: str = "OPENROUTER_BASE_URL",
        key_setting: str = "OPENROUTER_API_KEY",
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        backoff: float = 0.5,
    ) -> None:
        url = httpx.URL(base_url.rstrip("/"))
        secret = key.get_secret_value() if key else None
        if secret and not (secret.isascii() and secret.isprintable() and " " not in secret):
            # Such a header value would be refused at the first request, by an error that quotes it.
            raise BadKey("The key must be one word of plain letters, digits and signs: check it in Settings → Keys.")
        headers = {"User-Agent": "Footnote", "X-OpenRouter-Title": attribution.title}
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        if referer := attribution.url or (_LOCAL_REFERER if is_openrouter(url.host) else None):
            headers["HTTP-Referer"] = referer
        self.limiter = Limiter()
        self._base_url = str(url)
        self._server = Server(url.netloc.decode("ascii"), secret, address_setting, key_setting)
        self._read_timeout = read_timeout
        self._backoff = backoff
        self._http = httpx.Client(
            transport=Transport(url, _IDLE_CONNECTIONS),
            headers=headers,
            timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
            follow_redirects=False,
        )

    @property
    def host(self) -> str:
        """The server's host, to be named in sentences."""
        return self._server.host

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def post(self, call: Call, errand: Errand, read: Callable[[Mapping[str, Any]], Reply]) -> Reply:
        """What `read` makes of the JSON object that answers the call; it raises BadReply where that is unusable.

        Billed once. Raises ProviderError, Stopped.
        """
        with Bill(errand, call.purpose.model, call.prompt_tokens) as bill:
            return self._object_of(_posted(call), call, errand, bill, read)

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        purpose: Purpose,
        errand: Errand,
        read: Callable[[Mapping[str, Any]], Reply],
    ) -> Reply:
        """What `read` makes of the JSON object at a path; not billed. Raises ProviderError, Stopped."""
        call = Call(path, {}, purpose, QUESTION_PATIENCE)
        unbilled = Bill(errand, purpose.model, 0)  # never entered, so nobody is told
        return self._object_of(_Request("GET", path, query, None, purpose), call, errand, unbilled, read)

    def events(self, call: Call, errand: Errand) -> Iterator[Mapping[str, Any]]:
        """The JSON object of each server-sent event, then `DONE` unless the connection was lost before the end.

        A server that does not stream gives its whole reply as one event. Retries only before the first event. Billed
        once, when it ends or is closed; closing it closes the connection. Raises ProviderError (also amid the events),
        Stopped.
        """
        request = _posted(call)
        with Bill(errand, call.purpose.model, call.prompt_tokens) as bill:
            attempts = _Attempts(call, errand.stop, self.limiter, self._backoff)
            while True:
                begun = False
                try:
                    with attempts.turn(self._held), self._reply(request, errand, bill) as (response, flight):
                        for event in self._events(response, flight, request, bill):
                            begun = True
                            yield event
                    if begun:
                        return
                    raise self._failed(failures.BROKEN, call.purpose)
                except ProviderError as error:
                    if begun:
                        raise
                    attempts.pause_after(error)

    def _object_of(
        self,
        request: _Request,
        call: Call,
        errand: Errand,
        bill: Bill,
        read: Callable[[Mapping[str, Any]], Reply],
    ) -> Reply:
        attempts = _Attempts(call, errand.stop, self.limiter, self._backoff)
        while True:
            try:
                with attempts.turn(self._held), self._reply(request, errand, bill) as (response, _):
                    payload = self._object(response, request, bill)
                try:
                    return read(payload)
                except ProviderError as error:
                    failures.identified(error, payload, response.headers, self._server.key)
                    raise
            except ProviderError as error:
                attempts.pause_after(error)

    @contextmanager
    def _reply(self, request: _Request, errand: Errand, bill: Bill) -> Iterator[tuple[httpx.Response, Flight]]:
        """The reply to one attempt, its body still to be read; closed on leaving."""
        errand.stop.check()
        bill.attempt()
        headers = {"Content-Type": "application/json"} if request.content is not None else {}
        if errand.session:
            headers["x-session-id"] = errand.session[:_LONGEST_SESSION]
        built = self._http.build_request(
            request.method,
            self._base_url + request.path,
            params=request.query or None,
            content=request.content,
            headers=headers,
        )
        with Flight(errand.stop, bill.sent) as flight:
            try:
                with flight.departing():
                    response = self._http.send(built, stream=True)
                try:
                    yield response, flight
                finally:
                    response.close()
            except httpx.HTTPError as error:
                errand.stop.check()
                raise self._broken(error, request.purpose) from error

    def _object(self, response: httpx.Response, request: _Request, bill: Bill) -> Mapping[str, Any]:
        """The reply's JSON object, or the error it stands for."""
        body = bytearray()
        for data in response.iter_bytes():
            body += data
            if len(body) > _MAX_REPLY_BYTES:
                raise self._failed(failures.TOO_MUCH, request.purpose, response)
        return self._sound(failures.parsed(bytes(body)), response, request, bill)

    def _events(
        self, response: httpx.Response, flight: Flight, request: _Request, bill: Bill
    ) -> Iterator[Mapping[str, Any]]:
        content_type = response.headers.get("content-type", "")
        if response.status_code != 200 or "json" in content_type or "html" in content_type:
            yield self._object(response, request, bill)
            bill.settle("done")
            yield DONE
            return
        decoder = Decoder()
        begun = False
        pieces = response.iter_bytes()
        try:
            for data in pieces:
                for event in decoder.feed(data):
                    if event.strip() == "[DONE]":
                        bill.settle("done")
                        yield DONE
                        _read_to_the_end(pieces, flight)
                        return
                    payload = self._sound(failures.parsed(event), response, request, bill)
                    begun = True
                    yield payload
                if decoder.held > _MAX_EVENT_BYTES:
                    raise self._failed(failures.TOO_MUCH, request.purpose, response)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if not begun and not flight.stop.is_set:
                raise
        # A cut connection can look like a regular end, so whose end it was is asked here for both.
        flight.stop.check()
        bill.settle("done" if bill.finished else "failed")

    def _sound(self, payload: object, response: httpx.Response, request: _Request, bill: Bill) -> Mapping[str, Any]:
        """A reply, or an event of one, that is a JSON object without an error; entered in the bill either way."""
        if isinstance(payload, dict):
            payload = failures.without_key(payload, self._server)
            bill.read(payload)
        if failures.error_in(payload) is not None or not response.is_success:
            bill.refused()
            raise failures.failure(response.status_code, payload, response.headers, request.purpose, self._server)
        if not isinstance(payload, dict):
            raise self._failed(failures.NOT_JSON, request.purpose, response)
        return payload

    def _failed(self, meaning: Meaning, purpose: Purpose, response: httpx.Response | None = None) -> ProviderError:
        error = failures.explained(
            meaning,
            purpose,
            self._server,
            status=response.status_code if response else None,
            silence=self._read_timeout,
        )
        return failures.identified(error, {}, response.headers, self._server.key) if response else error

    def _held(self, purpose: Purpose, seconds: float) -> ProviderError:
        """The server asked to be left alone for longer than the caller can wait."""
        return failures.explained(failures.BUSY, purpose, self._server, wait=seconds)

    def _broken(self, error: httpx.HTTPError, purpose: Purpose) -> ProviderError:
        match error:
            case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                meaning = failures.UNVERIFIED
            case httpx.ConnectError() if _has_cause(error, ssl.SSLError):
                meaning = failures.NO_TLS
            case httpx.ConnectError() if _has_cause(error, socket.gaierror):
                meaning = failures.NO_NAME
            case httpx.ConnectError() | httpx.ConnectTimeout():
                meaning = failures.UNREACHABLE
            case httpx.ProxyError():
                meaning = failures.PROXY
            case httpx.TimeoutException():
                meaning = failures.SILENT
            case httpx.DecodingError():
                meaning = failures.NOT_JSON
            case _:
                meaning = failures.BROKEN
        return self._failed(meaning, purpose)


def is_openrouter(host: str) -> bool:
    """Whether a server is OpenRouter itself, and not one that speaks its language."""
    return host == "openrouter.ai" or host.endswith(".openrouter.ai")


def _posted(call: Call) -> _Request:
    # A lone surrogate is no text: it becomes "?" rather than a failure.
    content = json.dumps(call.body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return _Request("POST", call.path, {}, content, call.purpose)


def _read_to_the_end(pieces: Iterator[bytes], flight: Flight) -> None:
    """Read what is left of a reply, so that the next call need not open another connection."""
    with flight.cut_after(_LONGEST_TAIL), suppress(httpx.HTTPError):
        for _ in pieces:
            continue


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


class _Attempts:
    """The retries of one call: when each may begin, how many, how long between them, and when to give up."""

    def __init__(self, call: Call, stop: Stop, limiter: Limiter, backoff: float) -> None:
        self._call = call
        self._stop = stop
        self._limiter = limiter
        self._pause = backoff
        self._made = 0
        # A batch's patience begins with its first place: waiting for the batches before it is no failure.
        self._end = None if call.batch else time.monotonic() + call.patience

    @contextmanager
    def turn(self, held: Callable[[Purpose, float], ProviderError]) -> Iterator[None]:
        """One attempt, begun when the server may be asked; raises what `held` gives when that is too long away."""
        model = self._call.purpose.model
        place = self._limiter.place(self._stop) if self._call.batch else nullcontext(0.0)
        with place as taken_at:
            self._end = self._end or taken_at + self._call.patience
            while (pause := self._limiter.pause(model)) > 0:
                if time.monotonic() + pause > self._end:
                    raise held(self._call.purpose, pause)
                if self._stop.wait(pause):
                    raise Stopped("Stopped.")
            try:
                yield
            except ProviderError as error:
                if self._call.batch and (isinstance(error, RateLimited) or error.status in _BUSY):
                    self._limiter.refused(taken_at)
                raise
            if self._call.batch:
                self._limiter.accepted()

    def pause_after(self, error: ProviderError) -> None:
        """Wait before the next attempt, or raise `error` when no further one is due. Raises Stopped."""
        self._made += 1
        pause = max(self._pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311 - no secret
        if isinstance(error, RateLimited) or error.retry_after:
            model = None if isinstance(error, AccountRateLimited) else self._call.purpose.model
            self._limiter.hold(model, min(pause, _LONGEST_HOLD))
        if self._made >= _attempts_at(error) or self._end is None or time.monotonic() + pause > self._end:
            raise error
        logger.info("%s again in %.1f s after status %s", self._call.path, pause, error.status)
        if self._stop.wait(pause):
            raise Stopped("Stopped.") from error
        self._pause = min(2 * self._pause, _LONGEST_BACKOFF)


def _attempts_at(error: ProviderError) -> float:
    """How often a call that fails like this is made at most."""
    match error:
        case Misconfigured():
            return 1
        case BadReply(status=200) | ProviderDown(status=500):
            return _FEW_ATTEMPTS
        case RateLimited():
            return float("inf")  # each is free, and patience ends
        case ProviderDown():
            return _MAX_ATTEMPTS
        case _:
            return 1
