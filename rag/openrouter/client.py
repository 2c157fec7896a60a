"""Sends calls to a models' server: one HTTP client, retries, every failure as a sentence. Nothing else retries."""

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from rag.errors import BadKey, BadReply, ProviderDown, ProviderError, RateLimited, Stopped
from rag.openrouter import failures
from rag.openrouter.connections import Flight, Transport
from rag.openrouter.failures import Purpose, Server
from rag.openrouter.sse import Decoder
from rag.stopping import Stop

QUESTION_PATIENCE = 10.0
"""Seconds within which a retry may still begin while a person waits for an answer."""

INGEST_PATIENCE = 60.0
"""The same while documents are indexed in the background."""

_IDLE_CONNECTIONS = 16
_MAX_REPLY_BYTES = 64 * 1024 * 1024
_MAX_EVENT_BYTES = 4 * 1024 * 1024
_MAX_ATTEMPTS = 8
_FEW_ATTEMPTS = 3  # a server's own fault or nonsense rarely goes away, and each attempt may be billed
_LONGEST_BACKOFF = 10.0

DONE: Mapping[str, Any] = {}
"""The last event of a stream that the server itself ended."""

Reply = TypeVar("Reply")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the path after the base URL, its JSON body, what it is for and how long to go on trying (s)."""

    path: str
    body: Mapping[str, Any]
    purpose: Purpose
    patience: float


class Client:
    """Calls to one server. Threads may share it; each call ends as soon as its `Stop` is set.

    `backoff` is the first pause before a retry, doubled each time; `read_timeout` the longest silence; all seconds.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr | None,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        backoff: float = 0.5,
    ) -> None:
        url = httpx.URL(base_url.rstrip("/"))
        secret = key.get_secret_value() if key else None
        if secret and not (secret.isascii() and secret.isprintable() and " " not in secret):
            # Such a header value would be refused at the first request, by an error that quotes it.
            raise BadKey("The key must be one word of plain letters, digits and signs. Check OPENROUTER_API_KEY.")
        headers = {"User-Agent": "Footnote"}
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        if url.host == "openrouter.ai" or url.host.endswith(".openrouter.ai"):
            headers |= {"HTTP-Referer": "http://localhost:8501", "X-OpenRouter-Title": "Footnote"}
        self._base_url = str(url)
        self._server = Server(host=url.netloc.decode("ascii"), key=secret)
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

    def post(self, call: Call, stop: Stop, read: Callable[[Mapping[str, Any]], Reply]) -> Reply:
        """What `read` makes of the JSON object that answers the call; it raises BadReply where that is unusable.

        Raises ProviderError, Stopped.
        """
        attempts = _Attempts(call, stop, self._backoff)
        while True:
            try:
                with self._reply(call, stop) as response:
                    reply = self._object(response, call)
                return read(reply)
            except ProviderError as error:
                attempts.pause_after(error)

    def events(self, call: Call, stop: Stop) -> Iterator[Mapping[str, Any]]:
        """The JSON object of each server-sent event, then `DONE` unless the connection was lost before the end.

        A server that does not stream gives its whole reply as one event. Retries only before the first event.
        Raises ProviderError (also amid the events), Stopped.
        """
        attempts = _Attempts(call, stop, self._backoff)
        while True:
            begun = False
            try:
                with self._reply(call, stop) as response:
                    for event in self._events(response, call, stop):
                        begun = True
                        yield event
                if begun:
                    return
                raise ProviderDown(f"{self.host} ended the {call.purpose.name} reply before it began. Try again.")
            except ProviderError as error:
                if begun:
                    raise
                attempts.pause_after(error)

    @contextmanager
    def _reply(self, call: Call, stop: Stop) -> Iterator[httpx.Response]:
        """The reply to one attempt, its body still to be read; closed on leaving."""
        stop.check()
        # A lone surrogate is no text: it becomes "?" rather than a failure.
        content = json.dumps(call.body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        request = self._http.build_request(
            "POST", self._base_url + call.path, content=content, headers={"Content-Type": "application/json"}
        )
        with Flight(stop) as flight:
            try:
                with flight.departing():
                    response = self._http.send(request, stream=True)
                try:
                    yield response
                finally:
                    response.close()
            except httpx.HTTPError as error:
                stop.check()
                raise self._broken(error, call) from error

    def _object(self, response: httpx.Response, call: Call) -> Mapping[str, Any]:
        """The reply's JSON object, or the error it stands for."""
        body = bytearray()
        for data in response.iter_bytes():
            body += data
            if len(body) > _MAX_REPLY_BYTES:
                raise BadReply(f"{self.host} sent far more than was asked for.", status=response.status_code)
        payload = failures.parsed(bytes(body))
        self._raise_failure(response, payload, call)
        if not isinstance(payload, dict):
            raise self._nonsense(call)
        return payload

    def _events(self, response: httpx.Response, call: Call, stop: Stop) -> Iterator[Mapping[str, Any]]:
        content_type = response.headers.get("content-type", "")
        if response.status_code != 200 or "json" in content_type or "html" in content_type:
            yield self._object(response, call)
            yield DONE
            return
        decoder = Decoder()
        begun = False
        try:
            for data in response.iter_bytes():
                for event in decoder.feed(data):
                    if event.strip() == "[DONE]":
                        yield DONE
                        return
                    payload = failures.parsed(event)
                    self._raise_failure(response, payload, call)
                    if not isinstance(payload, dict):
                        raise self._nonsense(call)
                    begun = True
                    yield payload
                if decoder.held > _MAX_EVENT_BYTES:
                    raise BadReply(f"{self.host} sent far more than was asked for.", status=response.status_code)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if not begun and not stop.is_set:
                raise
        # A cut connection can look like a regular end, so whose end it was is asked here for both.
        stop.check()

    def _raise_failure(self, response: httpx.Response, payload: object, call: Call) -> None:
        """Raise what the reply's status or an error in its body stands for."""
        error = failures.error_in(payload)
        if error is not None or not response.is_success:
            wait = failures.retry_after(response.headers)
            raise failures.failure(response.status_code, error, wait, call.purpose, self._server)

    def _nonsense(self, call: Call) -> BadReply:
        return BadReply(
            f"{self.host} answered the {call.purpose.name} request with something that is not JSON. "
            "Check OPENROUTER_BASE_URL, or whether a proxy stands in between.",
            status=200,
        )

    def _broken(self, error: httpx.HTTPError, call: Call) -> ProviderError:
        host = self.host
        match error:
            case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return ProviderDown(f"The certificate of {host} cannot be verified. Check OPENROUTER_BASE_URL.")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return ProviderDown(f"{host} cannot be reached. Check the network connection and OPENROUTER_BASE_URL.")
            case httpx.ProxyError():
                return ProviderDown(
                    f"The proxy on the way to {host} refused. Check the proxy settings of this machine."
                )
            case httpx.TimeoutException():
                return ProviderDown(
                    f"{host} was silent for {self._read_timeout:g} seconds during the {call.purpose.name} request. "
                    "Try again in a minute."
                )
            case httpx.DecodingError():
                return self._nonsense(call)
            case _:
                return ProviderDown(f"{host} broke off the {call.purpose.name} request. Try again in a minute.")


class _Attempts:
    """The retries of one call: how many, how long between them, and when to give up."""

    def __init__(self, call: Call, stop: Stop, backoff: float) -> None:
        self._call = call
        self._stop = stop
        self._pause = backoff
        self._end = time.monotonic() + call.patience
        self._made = 0

    def pause_after(self, error: ProviderError) -> None:
        """Wait before the next attempt, or raise `error` when no further one is due. Raises Stopped."""
        self._made += 1
        if self._made >= _attempts_at(error):
            raise error
        pause = max(self._pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311 - no secret
        if time.monotonic() + pause > self._end:
            raise error
        logger.info("%s again in %.1f s after status %s", self._call.path, pause, error.status)
        if self._stop.wait(pause):
            raise Stopped("Stopped.") from error
        self._pause = min(2 * self._pause, _LONGEST_BACKOFF)


def _attempts_at(error: ProviderError) -> int:
    """How often a call that fails like this is made at most."""
    match error:
        case BadReply(status=200) | ProviderDown(status=500):
            return _FEW_ATTEMPTS
        case ProviderDown() | RateLimited():
            return _MAX_ATTEMPTS
        case _:
            return 1
