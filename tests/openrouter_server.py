"""A strict server for tests, over real sockets: it speaks OpenRouter's published contract and fails as told.

Unknown or ill-typed fields are refused with 400, a missing or wrong key with 401. Embeddings come back shuffled, with
their index. A reply is a function that writes to the handler; `replies` are used up one per request before the regular
behaviour resumes, `always` replaces it.
"""

import base64
import json
import random
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "test-key-0123456789"
DONE = b"data: [DONE]\n\n"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every reply in two writes waits 40 ms for the client's acknowledgement
    server: "_Listener"
    body: Any

    def do_POST(self) -> None:
        host = self.server.openrouter
        self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        with host.changed:
            headers = {name.lower(): value for name, value in self.headers.items()}
            host.requests.append(Recorded(self.path, headers, self.body))
            reply = host.replies.popleft() if host.replies else host.always
            host.changed.notify_all()
        try:
            (reply or _regular)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.lost()

    def lost(self) -> None:
        """The client has gone."""
        self.close_connection = True
        self.server.openrouter.disconnected.set()

    def send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """A whole reply."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        """The head of a chunked event stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_piece(self, data: bytes) -> None:
        """One chunk, on the wire at once."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def wait_for_disconnect(self) -> None:
        """Keep silent until the client hangs up (or the server is closed)."""
        self.connection.settimeout(0.05)
        while not self.server.openrouter.closing.is_set():
            try:
                if not self.connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.lost()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


Reply = Callable[[Handler], None]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    openrouter: "OpenRouterServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@dataclass
class OpenRouterServer:
    """What the server is told and what it has seen. `float_vectors` ignores the asked-for base64."""

    url: str = ""
    requests: list[Recorded] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)
    always: Reply | None = None
    key: str | None = KEY
    float_vectors: bool = False
    max_inputs: int = 1000
    text_pieces: Sequence[str] = ("The fee is ", "12 euros [1].")
    disconnected: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for_requests(self, count: int) -> None:
        """Return when so many requests have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, timeout=10)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[OpenRouterServer]:
    """A server on a free port of this machine, over TLS when it is given what to show."""
    host = OpenRouterServer()
    listener = _Listener(("127.0.0.1", 0), Handler)
    listener.openrouter = host
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    host.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_port}/api/v1"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        host.closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


# ---------------------------------------------------------------- replies to script


def fails(status: int, message: str = "", *, headers: Mapping[str, str] | None = None, **error: Any) -> Reply:
    """An error as the contract has it; more members of the error object by name."""
    payload = {"error": {"code": status, "message": message, **error}}

    def reply(handler: Handler) -> None:
        handler.send(status, json.dumps(payload).encode(), **(headers or {}))

    return reply


def sends(body: Json | bytes, status: int = 200, content_type: str = "application/json") -> Reply:
    """These bytes, or this JSON, whatever was asked."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: handler.send(status, data, content_type)


def resets(handler: Handler) -> None:
    """Drop the connection with a TCP reset before a byte of the reply."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.wfile.close()
    handler.rfile.close()
    handler.connection.close()


def stalls(handler: Handler) -> None:
    """Accept the request and say nothing."""
    handler.wait_for_disconnect()


def breaks_off(body: bytes) -> Reply:
    """Announce more bytes than are sent."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body) + 100))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return reply


def streams(*pieces: bytes, end: str = "regular") -> Reply:
    """An event stream in exactly these pieces; `end` is "regular", "cut" (connection lost) or "stall"."""

    def reply(handler: Handler) -> None:
        handler.begin_stream()
        for piece in pieces:
            handler.send_piece(piece)
        if end == "stall":
            handler.wait_for_disconnect()
        elif end == "cut":
            handler.close_connection = True
        else:
            handler.send_piece(b"")

    return reply


def event(payload: Json, line_end: bytes = b"\n") -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + 2 * line_end


def chunk(content: str | None = None, finish_reason: str | None = None, **delta: Any) -> Json:
    """One chat completion chunk."""
    return {
        "id": "gen-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "writer/large-2026",
        "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": content, **delta}, "finish_reason": finish_reason}
        ],
    }


USAGE = {"prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129, "cost": 0.00031}


def usage_chunk(usage: Json = USAGE) -> Json:
    """The chunk that carries the usage and no choice."""
    return {**chunk(), "choices": [], "usage": usage}


# ---------------------------------------------------------------- the regular behaviour


class _Refused(Exception):
    """The contract was broken."""


def vector_of(text: str) -> list[float]:
    """The embedding of a text: its length, its number of "a"s, and 1."""
    return [float(len(text)), float(text.count("a")), 1.0]


def _regular(handler: Handler) -> None:
    host = handler.server.openrouter
    endpoints = {"/api/v1/embeddings": _embeddings, "/api/v1/rerank": _rerank, "/api/v1/chat/completions": _chat}
    if host.key and handler.headers.get("Authorization") != f"Bearer {host.key}":
        fails(401, "No auth credentials found")(handler)
    elif handler.path not in endpoints:
        fails(404, "Not Found")(handler)
    else:
        try:
            endpoints[handler.path](handler)
        except _Refused as refusal:
            fails(400, str(refusal))(handler)


def _demand(true: object, message: str) -> None:
    if not true:
        raise _Refused(message)


def _check(body: Any, required: set[str], fields: Mapping[str, Callable[[Any], bool]]) -> None:
    """Refuse a body that lacks a required field, or has an unknown or an ill-typed one."""
    _demand(isinstance(body, dict), "the body is not an object")
    for name in required - body.keys():
        _demand(False, f"{name} is required")
    for name, value in body.items():
        _demand(name in fields, f"unknown field {name}")
        _demand(fields[name](value), f"ill-typed field {name}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_text, value))


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_temperature(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 2)


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and value != []
        and all(
            isinstance(message, dict)
            and message.keys() == {"role", "content"}
            and message["role"] in ("system", "user", "assistant")
            and _is_text(message["content"])
            for message in value
        )
    )


def _embeddings(handler: Handler) -> None:
    host, body = handler.server.openrouter, handler.body
    _check(
        body,
        {"model", "input"},
        {
            "model": _is_text,
            "input": lambda value: _is_text(value) or _is_texts(value),
            "encoding_format": lambda value: value in ("float", "base64"),
            "dimensions": _is_whole,
            "input_type": _is_text,
            "user": _is_text,
        },
    )
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    _demand(len(texts) <= host.max_inputs, f"at most {host.max_inputs} inputs")
    data = []
    for index, text in enumerate(texts):
        vector = vector_of(text)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        as_text = body.get("encoding_format") == "base64" and not host.float_vectors
        data.append({"object": "embedding", "index": index, "embedding": packed if as_text else vector})
    random.Random(len(texts)).shuffle(data)
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    handler.send(200, json.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage}).encode())


def _rerank(handler: Handler) -> None:
    body = handler.body
    _check(
        body,
        {"model", "query", "documents"},
        {"model": _is_text, "query": _is_text, "documents": _is_texts, "top_n": _is_whole},
    )
    asked = set(body["query"].lower().split())
    results = [
        {
            "index": index,
            "relevance_score": len(asked & set(document.lower().split())) / len(asked),
            "document": {"text": document},
        }
        for index, document in enumerate(body["documents"])
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    usage = {"search_units": 1, "total_tokens": 40, "cost": 0.002}
    reply = {"model": body["model"], "results": results[: body.get("top_n")], "usage": usage}
    handler.send(200, json.dumps(reply).encode())


def _chat(handler: Handler) -> None:
    host, body = handler.server.openrouter, handler.body
    _check(
        body,
        {"messages"},
        {
            "model": _is_text,
            "messages": _is_messages,
            "stream": lambda value: isinstance(value, bool),
            "temperature": _is_temperature,
            "max_completion_tokens": lambda value: value is None or _is_whole(value),
        },
    )
    if body.get("stream"):
        events = [event(chunk(text)) for text in host.text_pieces]
        events += [event(chunk("", "stop")), event(usage_chunk()), DONE]
        streams(b": OPENROUTER PROCESSING\n\n", *events)(handler)
        return
    message = {"role": "assistant", "content": "".join(host.text_pieces)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    reply = {**chunk(), "object": "chat.completion", "system_fingerprint": None, "choices": choices, "usage": USAGE}
    handler.send(200, json.dumps(reply).encode())
