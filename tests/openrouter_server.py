"""A strict server for tests, over real sockets: it speaks OpenRouter's published contract and fails as told.

What the contract (`openrouter_contract`) forbids is refused with 400, a missing or wrong key with 401. Embeddings
come back shuffled, with their index. A reply is a function that writes to the handler; `replies` are used up one per
request before the regular behaviour resumes, `always` replaces it (and may call `regular` itself);
`openrouter_faults` has one for every failure.
"""

import base64
import io
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.openrouter_catalogue import KEY_INFO, MODELS, check_length, check_model, page, providers_of, resolved
from tests.openrouter_contract import Refused, check_body, check_headers, demand, picture

KEY = "test-key-0123456789"
ROOT = "/api/v1"
PROVIDER = "Inventor"
COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
GENERATION = "gen-1"
MODEL = "writer/large-2026"
"""The account's own chat model, which answers where none is asked for."""

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 9,
    "total_tokens": 129,
    "cost": 0.00031,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
"""What a chat call took, in tokens and US dollars."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived: names of headers in small letters, no body of a GET."""

    path: str
    headers: Mapping[str, str]
    body: Any
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every reply in two writes waits 40 ms for the client's acknowledgement
    server: "_Listener"
    received: Recorded

    @property
    def body(self) -> Any:
        """The request's body."""
        return self.received.body

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(data, parse_constant=_no_constant)
        except ValueError:
            body = None
        self.answer(body)

    def answer(self, body: Any) -> None:
        """Note the request and reply as told."""
        host = self.server.openrouter
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.received = Recorded(path, headers, body, self.command, dict(parse_qsl(query, keep_blank_values=True)))
        with host.changed:
            host.requests.append(self.received)
            reply = host.replies.popleft() if host.replies else host.always
            host.changed.notify_all()
        try:
            (reply or regular)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.lost()

    def lost(self) -> None:
        """The client has gone."""
        self.close_connection = True
        self.server.openrouter.disconnected_at.append(time.monotonic())
        self.server.openrouter.disconnected.set()

    def send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """A whole reply."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == 200 and self.path.endswith("/chat/completions"):
            self.send_header("X-Generation-Id", GENERATION)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        """The head of a chunked event stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Generation-Id", GENERATION)
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
        """A client that hangs up is no news; a mistake in a test's own reply is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@dataclass
class OpenRouterServer:
    """What the server is told and what it has seen.

    `float_vectors` ignores the asked-for base64. A request of more than `max_inputs` texts or `max_documents` is
    refused. `unavailable` names models that answer 404, or are passed over for the next of `models`. `text_pieces` is
    the chat's answer, `reasoning_pieces` what it thinks before (unless told not to), `json_reply` its answer in a
    structured format (or one answer for each schema's name). `models` are listed, `key_info` is the key's account.
    """

    url: str = ""
    requests: list[Recorded] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)
    always: Reply | None = None
    key: str | None = KEY
    float_vectors: bool = False
    max_inputs: int = 1000
    max_documents: int = 1000
    echoes_documents: bool = True
    unavailable: set[str] = field(default_factory=set)
    text_pieces: Sequence[str] = ("The fee is ", "12 euros [1].")
    reasoning_pieces: Sequence[str] = ()
    json_reply: str | Mapping[str, str] = "{}"
    usage: Json = field(default_factory=lambda: USAGE)
    models: Sequence[Json] = MODELS
    key_info: Json = field(default_factory=lambda: KEY_INFO)
    disconnected: threading.Event = field(default_factory=threading.Event)
    disconnected_at: list[float] = field(default_factory=list)
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
    host.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_port}{ROOT}"
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
    return sends(payload, status, **(headers or {}))


def sends(body: Json | bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> Reply:
    """These bytes, or this JSON, whatever was asked."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: handler.send(status, data, content_type, **headers)


def resets(handler: Handler) -> None:
    """Drop the connection with a TCP reset before a byte of the reply."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.wfile.close()
    handler.rfile.close()
    handler.connection.close()
    handler.wfile = io.BytesIO()  # http.server flushes once more


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


def chunk(content: object = None, finish_reason: str | None = None, **delta: Any) -> Json:
    """One chat completion chunk."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content, **delta}, "finish_reason": finish_reason}
    return {
        "id": GENERATION,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "provider": PROVIDER,
        "choices": [{**choice, "native_finish_reason": finish_reason}],
    }


def thought(text: str) -> Json:
    """A chunk of reasoning, which says it twice, as the service does."""
    details = [{"type": "reasoning.text", "text": text, "index": 0}]
    return chunk("", reasoning=text, reasoning_details=details)


def completion(content: str, finish_reason: str = "stop", **message: Any) -> Json:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, "refusal": None, **message}}
    reasons = {"finish_reason": finish_reason, "native_finish_reason": finish_reason}
    return {
        **chunk(),
        "object": "chat.completion",
        "system_fingerprint": None,
        "choices": [{**choice, **reasons}],
        "usage": USAGE,
    }


def usage_chunk(usage: Json = USAGE) -> Json:
    """The chunk that carries the usage and no choice."""
    return {**chunk(), "choices": [], "usage": usage}


# ---------------------------------------------------------------- the regular behaviour


def regular(handler: Handler) -> None:
    """What the contract promises, for whatever was asked."""
    try:
        if handler.command == "GET":
            _get(handler)
        else:
            _post(handler)
    except Refused as refusal:
        fails(refusal.status, str(refusal), metadata={"error_type": refusal.error_type})(handler)


def _get(handler: Handler) -> None:
    models, request = handler.server.openrouter.models, handler.received
    path = unquote(request.path.removeprefix(ROOT))
    described = [model for model in models if path == f"/models/{model['id']}/endpoints"]
    if path == "/key":
        _check_key(handler)
        sends({"data": handler.server.openrouter.key_info})(handler)
    elif path == "/models":
        sends(page(models, request.query.get("output_modalities", "text"), request.path, request.query))(handler)
    elif path == "/embeddings/models":
        sends(page(models, "embeddings", request.path, request.query))(handler)
    elif described:
        sends({"data": providers_of(described[0])})(handler)
    else:
        raise Refused("Not Found", 404, "not_found")


def _post(handler: Handler) -> None:
    host, path, body = handler.server.openrouter, handler.received.path.removeprefix(ROOT), handler.body
    _check_key(handler)
    if path not in _ANSWERS:
        raise Refused("Not Found", 404, "not_found")
    check_headers(handler.received.headers)
    check_body(path, body)
    wanted = [name for name in (body.get("model"), *body.get("models", ())) if name] or [MODEL]
    able = [name for name in wanted if name not in host.unavailable]
    if not able:
        raise Refused(f"No endpoints found for {wanted[0]}.", 404, "not_found")
    check_model(host.models, able[0], _ANSWERS[path][0], body)
    _ANSWERS[path][1](handler, resolved(host.models, able[0]))


def _check_key(handler: Handler) -> None:
    key = handler.server.openrouter.key
    if key and handler.received.headers.get("authorization") != f"Bearer {key}":
        raise Refused("No auth credentials found", 401, "authentication")


def vector_of(text: str, pictures: Sequence[bytes] = ()) -> list[float]:
    """The embedding of a text: its length, its number of "a"s, and 1 more than the bytes of its pictures."""
    return [float(len(text)), float(text.count("a")), 1.0 + sum(map(len, pictures))]


def _parts_of(value: Any) -> tuple[str, Sequence[bytes]]:
    """The text and the pictures of one thing to embed."""
    if isinstance(value, str):
        return value, ()
    text = "".join(part["text"] for part in value["content"] if part["type"] == "text")
    return text, [picture(part["image_url"]["url"]) for part in value["content"] if part["type"] == "image_url"]


def _embeddings(handler: Handler, name: str) -> None:
    host, body = handler.server.openrouter, handler.body
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    demand(len(inputs) <= host.max_inputs, f"at most {host.max_inputs} inputs")
    data = []
    for index, value in enumerate(inputs):
        text, pictures = _parts_of(value)
        check_length(host.models, name, text)
        vector = vector_of(text, pictures)
        length = body.get("dimensions", len(vector))
        vector = (vector + [0.0] * length)[:length]
        packed = base64.b64encode(struct.pack(f"<{length}f", *vector)).decode()
        as_text = body.get("encoding_format") == "base64" and not host.float_vectors
        data.append({"object": "embedding", "index": index, "embedding": packed if as_text else vector})
    random.Random(len(inputs)).shuffle(data)
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs), "cost": len(inputs) / 1000}
    sends({"id": "gen-emb-1", "object": "list", "data": data, "model": name, "usage": usage})(handler)


def _words_of(document: str | Json) -> set[str]:
    """The words of a document, and those that the bytes of its picture spell."""
    if isinstance(document, str):
        return set(document.lower().split())
    spelt = picture(document["image"]).decode("latin-1") if "image" in document else ""
    return set(f"{document.get('text', '')} {spelt}".lower().split())


def _rerank(handler: Handler, name: str) -> None:
    """A document's score is the share of the question's words that it has."""
    host, body = handler.server.openrouter, handler.body
    demand(len(body["documents"]) <= host.max_documents, f"at most {host.max_documents} documents")
    asked = _words_of(body["query"])
    results = []
    for index, document in enumerate(body["documents"]):
        result = {"index": index, "relevance_score": len(asked & _words_of(document)) / len(asked)}
        echo = {"document": {"text": document} if isinstance(document, str) else document}
        results.append(result | (echo if host.echoes_documents else {}))
    results.sort(key=lambda result: -result["relevance_score"])
    units = -(-len(body["documents"]) // 100)
    usage = {"search_units": units, "total_tokens": 40, "cost": units / 500}
    reply = {"id": "gen-rerank-1", "model": name, "provider": PROVIDER, "usage": usage}
    sends({**reply, "results": results[: body.get("top_n")]})(handler)


def _chat(handler: Handler, name: str) -> None:
    host, body = handler.server.openrouter, handler.body
    text = _structured(host.json_reply, body.get("response_format")) or host.text_pieces
    reasoning = host.reasoning_pieces if _may_think(body) else ()
    if not body.get("stream"):
        whole = completion("".join(text), reasoning="".join(reasoning) or None)
        sends({**whole, "model": name, "usage": host.usage})(handler)
        return
    chunks = [*map(thought, reasoning), *map(chunk, text), chunk("", "stop"), usage_chunk(host.usage)]
    streams(COMMENT, *(event({**one, "model": name}) for one in chunks), DONE)(handler)


def _structured(replies: str | Mapping[str, str], response_format: Json | None) -> Sequence[str]:
    """The pieces of the answer in the format asked for; none where plain text will do."""
    if not response_format or response_format["type"] == "text":
        return ()
    if isinstance(replies, str):
        return [replies]
    name = response_format.get("json_schema", {}).get("name")
    demand(name in replies, f"json_reply has no answer for the schema {name}")
    return [replies[name]]


def _may_think(body: Json) -> bool:
    reasoning = body.get("reasoning", {})
    effort = reasoning.get("effort", body.get("reasoning_effort"))
    return effort != "none" and reasoning.get("enabled", True) and not reasoning.get("exclude", False)


_ANSWERS: Mapping[str, tuple[str, Callable[[Handler, str], None]]] = {
    "/embeddings": ("embeddings", _embeddings),
    "/rerank": ("rerank", _rerank),
    "/chat/completions": ("text", _chat),
}
"""What a path's models give, and what answers there."""
