"""A strict server for tests, over real sockets: it speaks OpenRouter's published contract and fails as told.

What the contract (`openrouter_contract`) forbids is refused with 400, a missing or wrong key with 401. Embeddings
come back shuffled, with their index. A reply is a function that writes to the handler; `replies` are used up one per
request before the regular behaviour resumes, `always` replaces it (and may call `regular` itself). `FAULTS` has one of
every failure.
"""

import base64
import email.utils
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from tests.openrouter_catalogue import KEY_INFO, MODELS, model_of, providers_of, resolved
from tests.openrouter_contract import POSTED, Refused, check_body, check_headers, demand, picture, pictures_in

KEY = "test-key-0123456789"
ROOT = "/api/v1"
STATUSES = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 524, 529)
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
            self.answer(json.loads(data))
        except ValueError:
            fails(400, "the body is not JSON")(self)

    def answer(self, body: Any) -> None:
        """Note the request and reply as told."""
        host = self.server.openrouter
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.received = Recorded(path, headers, body, self.command, dict(parse_qsl(query)))
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
        """A client that hangs up is no news."""


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


def unavailable(status: int, code: str, message: str = "", **availability: Any) -> Reply:
    """An error of the newer shape, which has no `code` beside the message; more about the availability by name."""
    error = {"message": message, "error_type": "not_found", "http_status": status}
    return sends({"error": {**error, "availability": {"code": code, "retryable": False, **availability}}}, status)


def limits(seconds: float | None = None, *, as_date: bool = False, platform: bool = True) -> Reply:
    """A 429, with the time to wait when it is given; the platform's own limit tells its figures, a provider's does not.

    A date counts whole seconds, so the wait it tells is up to a second shorter.
    """

    def reply(handler: Handler) -> None:
        headers = {}
        if platform:
            headers = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1768435200000"}
        if seconds is not None:
            at = email.utils.formatdate(time.time() + seconds, usegmt=True)
            headers["Retry-After"] = at if as_date else str(seconds)
        metadata = {"error_type": "rate_limit_exceeded"}
        fails(429, "Rate limit exceeded", headers=headers, metadata=metadata)(handler)

    return reply


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


def usage_chunk(usage: Json = USAGE) -> Json:
    """The chunk that carries the usage and no choice."""
    return {**chunk(), "choices": [], "usage": usage}


def error_chunk(code: object = 502, message: str = "lost", **metadata: Any) -> Json:
    """The chunk that ends a stream in failure; `metadata` has an error_type unless it is given."""
    metadata = {"error_type": "provider_unavailable", **metadata}
    return {**chunk("", "error"), "error": {"code": code, "message": message, "metadata": metadata}}


FAULTS: Mapping[str, Reply] = {
    **{str(status): fails(status, f"failure {status}") for status in STATUSES},
    "429 platform": limits(0),
    "429 date": limits(0, as_date=True),
    "429 provider": limits(0, platform=False),
    "400 without code": unavailable(400, "model_not_found", "No such model"),
    "404 without code": unavailable(404, "no_endpoints", "No endpoints found"),
    "503 without code": unavailable(503, "temporarily_unavailable", "Try again", retryable=True, retry_after=0),
    "error within": sends({"error": {"code": 502, "message": "the provider failed"}}),
    "error in the choice": sends(
        {
            **chunk(),
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "The fee"},
                    "finish_reason": "error",
                    "error": {"code": 502, "message": "the provider failed"},
                }
            ],
        }
    ),
    "html": sends(b"<html><body>Bad gateway</body></html>", 502, "text/html"),
    "html with 200": sends(b"<html><body>Sign in</body></html>", 200, "text/html"),
    "truncated JSON": sends(b'{"object": "list", "data": [{"obj'),
    "broken off": breaks_off(b'{"object": "list", "data": [{"obj'),
    "no object": sends(b"[]"),
    "empty object": sends({}),
    "empty body": sends(b""),
    "reset": resets,
    "stall": stalls,
    "cut stream": streams(COMMENT, event(chunk("The fee")), end="cut"),
    "stalled stream": streams(COMMENT, event(chunk("The fee")), end="stall"),
    "error in the stream": streams(COMMENT, event(chunk("The fee")), event(error_chunk())),
}
"""Every way to fail, by name; each answers, cuts or stalls any request, whatever it asks."""


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
    host, path = handler.server.openrouter, unquote(handler.received.path.removeprefix(ROOT))
    if path == "/key":
        _check_key(handler)
        sends({"data": host.key_info})(handler)
    elif path == "/models":
        asked = handler.received.query.get("output_modalities", "text").split(",")
        _list(handler, [model for model in host.models if "all" in asked or _gives(model) in asked])
    elif path == "/embeddings/models":
        _list(handler, [model for model in host.models if _gives(model) == "embeddings"])
    else:
        found = [model for model in host.models if path == f"/models/{model['id']}/endpoints"]
        _demand_found(found, "Not Found")
        sends({"data": providers_of(found[0])})(handler)


def _post(handler: Handler) -> None:
    host, path = handler.server.openrouter, handler.received.path.removeprefix(ROOT)
    _check_key(handler)
    _demand_found(path in POSTED, "Not Found")
    check_headers(handler.received.headers)
    check_body(path, handler.body)
    wanted = [name for name in (handler.body.get("model"), *handler.body.get("models", ())) if name] or [MODEL]
    able = [name for name in wanted if name not in host.unavailable]
    _demand_found(able, f"No endpoints found for {wanted[0]}.")
    answers: Mapping[str, Callable[[Handler, str], None]]
    answers = {"/embeddings": _embeddings, "/rerank": _rerank, "/chat/completions": _chat}
    answers[path](handler, resolved(able[0]))


def _check_key(handler: Handler) -> None:
    key = handler.server.openrouter.key
    if key and handler.received.headers.get("authorization") != f"Bearer {key}":
        raise Refused("No auth credentials found", 401, "authentication")


def _demand_found(found: object, message: str) -> None:
    if not found:
        raise Refused(message, 404, "not_found")


def _gives(model: Json) -> str:
    return str(model["architecture"]["output_modalities"][0])


def _list(handler: Handler, models: Sequence[Json]) -> None:
    """One page of these models."""
    query = handler.received.query
    for name in query.keys() - {"output_modalities", "offset", "limit"}:
        raise Refused(f"unknown parameter {name}")
    demand(all(query.get(name, "0").isdecimal() for name in ("offset", "limit")), "offset or limit is no number")
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 1000))
    demand(1 <= limit <= 1000, "limit must be 1 to 1000")
    following = None
    if offset + limit < len(models):
        following = f"{handler.received.path}?{urlencode({**query, 'offset': offset + limit, 'limit': limit})}"
    page = models[offset : offset + limit]
    sends({"data": page, "total_count": len(models), "links": {"next": following}})(handler)


def _check_model(handler: Handler, name: str, kind: str) -> None:
    """A listed model does only what the list says; any other name can do everything."""
    model = model_of(name)
    if model:
        _demand_found(_gives(model) == kind, f"{name} is not available here")
        sees = "image" in model["architecture"]["input_modalities"]
        _demand_found(sees or not pictures_in(handler.body), "No endpoints found that support image input")


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
    _check_model(handler, name, "embeddings")
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    demand(len(inputs) <= host.max_inputs, f"at most {host.max_inputs} inputs")
    listed = model_of(name)
    data = []
    for index, value in enumerate(inputs):
        text, pictures = _parts_of(value)
        if listed and len(text) > 4 * listed["context_length"]:
            longest = listed["context_length"]
            raise Refused(f"an input is longer than {longest} tokens", error_type="context_length_exceeded")
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
    _check_model(handler, name, "rerank")
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
    _check_model(handler, name, "text")
    text = _structured(host.json_reply, body.get("response_format")) or host.text_pieces
    reasoning = host.reasoning_pieces if _may_think(body) else ()
    if not body.get("stream"):
        message = {"role": "assistant", "content": "".join(text), "refusal": None, "reasoning": "".join(reasoning)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "native_finish_reason": "stop"}
        reply = {**chunk(), "object": "chat.completion", "model": name, "system_fingerprint": None}
        sends({**reply, "choices": [choice], "usage": host.usage})(handler)
        return
    chunks = [chunk("", reasoning=piece) for piece in reasoning]
    chunks += [*map(chunk, text), chunk("", "stop"), usage_chunk(host.usage)]
    streams(COMMENT, *(event({**one, "model": name}) for one in chunks), DONE)(handler)


def _structured(replies: str | Mapping[str, str], response_format: Json | None) -> Sequence[str]:
    """The pieces of the answer in the format asked for; none where plain text will do."""
    if not response_format or response_format["type"] == "text":
        return ()
    return [replies if isinstance(replies, str) else replies[response_format["json_schema"]["name"]]]


def _may_think(body: Json) -> bool:
    reasoning = body.get("reasoning", {})
    effort = reasoning.get("effort", body.get("reasoning_effort"))
    return effort != "none" and reasoning.get("enabled", True) and not reasoning.get("exclude", False)
