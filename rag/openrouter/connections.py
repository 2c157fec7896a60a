"""Connections that a stop can cut at any moment: looking up the name, connecting, before the reply and amid it.

httpx hands out a connection's socket with the reply, which is too late for a server that keeps silent. httpcore's
network backend sees every socket from its first byte on; here it tells the request under way (`Flight`) which one is
its own.
"""

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import SimpleQueue
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx

from rag.errors import Stopped
from rag.stopping import Stop


class Flight:
    """One request on its way; while inside, a stop shuts its connection down from whatever thread it comes.

    `sent` is called when its first bytes are about to leave.
    """

    def __init__(self, stop: Stop, sent: Callable[[], None]) -> None:
        self.stop = stop
        self.sent = sent
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._breaking = stop.breaking(self._cut)

    def __enter__(self) -> Self:
        self._breaking.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._breaking.__exit__(kind, error, traceback)
        with self._lock:  # a stop that is just being carried out must not cut whoever gets the connection next
            self._socket = None

    def uses(self, stream: httpcore.NetworkStream) -> None:
        """This is the connection to cut from now on."""
        with self._lock:
            self._socket = stream.get_extra_info("socket")
        if self.stop.is_set:
            self._cut()

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """While inside, the connection is cut after so long, for a server that does not come to an end."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def departing(self) -> Iterator[None]:
        """While inside, connections used by this thread are this flight's own."""
        token = _departing.set(self)
        try:
            yield
        finally:
            _departing.reset(token)


_departing: ContextVar[Flight | None] = ContextVar("departing", default=None)


class Transport(httpx.HTTPTransport):
    """httpx's own transport over a pool whose connections can be cut; honours the system's proxy settings."""

    def __init__(self, url: httpx.URL, idle_connections: int) -> None:
        # HTTPTransport offers no way to give its pool another network backend, so the pool is made here instead.
        proxy = _proxy_for(url)
        pool: dict[str, Any] = {
            "ssl_context": httpx.create_ssl_context() if url.scheme == "https" else None,
            "max_connections": None,  # callers bound themselves; a question never queues behind an upload
            "max_keepalive_connections": idle_connections,
            "keepalive_expiry": 30.0,
            "network_backend": _Backend(),
        }
        if proxy:
            self._pool = httpcore.HTTPProxy(**pool, proxy_url=str(proxy.url), proxy_auth=proxy.raw_auth)
        else:
            self._pool = httpcore.ConnectionPool(**pool)


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """The HTTP proxy that this machine is set up to use for a server, None for servers on the machine itself."""
    if url.host in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all") or ""
    if address and "://" not in address:
        address = f"http://{address}"
    return httpx.Proxy(address) if address.startswith(("http://", "https://")) else None


class _Backend(httpcore.NetworkBackend):
    """Opens connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _opened(lambda: _SYSTEM.connect_tcp(host, port, timeout, local_address, socket_options))


_SYSTEM = httpcore.SyncBackend()


def _opened(open_stream: Callable[[], httpcore.NetworkStream]) -> httpcore.NetworkStream:
    """The stream that `open_stream` makes, in a thread that is left behind when the departing flight is stopped.

    Name servers, hosts that swallow packets and TLS handshakes cannot be interrupted, only timed out.
    """
    flight = _departing.get()
    if flight is None:
        return _Stream(open_stream())
    outcome: SimpleQueue[httpcore.NetworkStream | Exception] = SimpleQueue()

    def run() -> None:
        try:
            stream = open_stream()
        except Exception as error:  # raised again by the thread that waits for it
            outcome.put(error)
            return
        if flight.stop.is_set:
            stream.close()
        outcome.put(stream)

    with flight.stop.breaking(lambda: outcome.put(Stopped("Stopped."))):
        threading.Thread(target=run, name="footnote-connect", daemon=True).start()
        result = outcome.get()
    if isinstance(result, Exception):
        raise result
    return _Stream(result)


class _Stream(httpcore.NetworkStream):
    """A connection that reports to the flight that is about to use it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        if flight := _departing.get():
            flight.uses(stream)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if flight := _departing.get():
            flight.uses(self._stream)
            flight.sent()
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _opened(lambda: self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
