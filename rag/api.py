"""HTTP beside the pages: the API for scripts and bots, page pictures by signed link, and the health check.

`/api/...` exists while FOOTNOTE_API_TOKEN is set and wants `Authorization: Bearer <token>`. Everything it says is JSON,
errors too: {"error": {"code", "message"}}, where the message is a sentence for a person. Where a models' server failed,
"details" has what stands behind it: {status, provider, request_id, said}.

    POST   /api/v1/collections/{name}/documents   multipart `file`; makes the collection if there is none
                                                  202 DOCUMENT and "outcome": "new", or "retried" (it had failed before)
                                                  200 DOCUMENT and "outcome": "present" (same bytes in the collection)
    GET    /api/v1/collections/{name}/documents   200 {"documents": [DOCUMENT, ...]}, newest upload first
    GET    /api/v1/documents/{id}                 200 DOCUMENT
    DELETE /api/v1/documents/{id}                 204; it is gone from lists and answers at once
    POST   /api/v1/collections/{name}/search      {"query", "limit": 1 to 50, default 10; at most 30 are ranked}
                                                  200 {"hits": [HIT, ...], "reranker": its name or null}
    POST   /api/v1/collections/{name}/ask         {"question", "history": [{"role": "user"|"assistant", "content"}]}
                                                  200 ANSWER; with `Accept: text/event-stream` EVENTS
    GET    /health                                200 {"status": "ok"}, else 503 {"status": "starting"|"rebuilding"}
    GET    /pictures/{token}                      200 the page of a citation with its sentence lit, else 404

    DOCUMENT  id, document_id (the same), document (the file's name), collection,
              status (queued, working, ready, failed, cancelled, replaced),
              stage (waiting, reading, splitting, embedding, indexing), done, total (units of the stage),
              pages (null where the format has none), chunks, problem (a sentence or null), warnings
    HIT       text, document, document_id, page_first, page_last, page_label, headings, similarity, vector_rank,
              keyword_score, keyword_rank, document_match, fused, relevance, rank (null where a step did not score it),
              is_picture
    ANSWER    answer, refused, weak,
              citations [{number, document, document_id, page, page_label, quote, relevance, support,
              verdict, verdict_reason: a model's own judgement, null where it was not asked}], hits [HIT, ...],
              usage {prompt_tokens, completion_tokens, search_units, cost, cached_tokens, cache_write_tokens,
              reasoning_tokens, estimated}, timings {step: seconds}, notices [sentence, ...],
              model (null when refused without one), reranker, incomplete, reasoning (null where it is not kept)
    EVENTS    searching {query}, retrieved {count, seconds}, reranked {count, reranker, seconds}, any number of
              reasoning {text} and text {text, citations: those whose numbers it is the first to show}, checking {},
              where it refuses refused {closest: [HIT, ...]}, and at the end answer ANSWER, or error with the body of
              an error reply.
              What fails before the first event is an error reply with its own status.

    400 invalid_request      wrong JSON, field, name or form     409 wrong_embedding_model  re-indexing helps
    401 unauthorized         no token, or a wrong one            413 too_large              the file or the request
    402 over_budget          this month's budget is spent
    404 not_found            no such thing, or the API is off    415 unreadable_document    no PDF or DOCX in the file
    405 method_not_allowed                                       500 internal               the log has its id
    502 bad_key, out_of_credit, model_unavailable, input_rejected, provider_down, bad_reply, provider_error
    503 not_ready, rate_limited, stopped; with Retry-After where it is known
"""

import asyncio
import collections
import functools
import hmac
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag import errors, links, replies, services
from rag.chat import LONGEST_QUESTION
from rag.domain import Citation, Collection, Failure, ReasoningDelta, Turn
from rag.errors import FileTooLarge, FootnoteError, InvalidRequest, NotFound, NotReady, UnreadableDocument, incident
from rag.library import Added
from rag.parsing.sniff import HEAD_BYTES, media_type
from rag.pictures import Picture
from rag.services import Services
from rag.stopping import Stop

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Event = tuple[str, replies.Reply]

_LARGEST_JSON = 1024 * 1024
_FORM_OVERHEAD = 64 * 1024
_MOST_HITS = 50
_KEEP_ALIVE_SECONDS = 15.0
_QUIET: Event = ("", {})

# Blocking work runs beside the event loop, this many at once of each kind, so that none can starve another.
_CATALOGUE = CapacityLimiter(8)
_ANSWERING = CapacityLimiter(8)
_DRAWING = CapacityLimiter(4)

# ---------------------------------------------------------------- errors

_ERRORS: tuple[tuple[type[FootnoteError], int, str], ...] = (
    (errors.NotFound, 404, "not_found"),
    (errors.FileTooLarge, 413, "too_large"),
    (errors.InvalidRequest, 400, "invalid_request"),
    (errors.UnreadableDocument, 415, "unreadable_document"),
    (errors.WrongEmbeddingModel, 409, "wrong_embedding_model"),
    (errors.OverBudget, 402, "over_budget"),
    (errors.NotReady, 503, "not_ready"),
    (errors.Stopped, 503, "stopped"),
    (errors.RateLimited, 503, "rate_limited"),
    (errors.BadKey, 502, "bad_key"),
    (errors.OutOfCredit, 502, "out_of_credit"),
    (errors.ModelUnavailable, 502, "model_unavailable"),
    (errors.InputRejected, 502, "input_rejected"),
    (errors.ProviderDown, 502, "provider_down"),
    (errors.BadReply, 502, "bad_reply"),
    (errors.ProviderError, 502, "provider_error"),
)
_STATUS_CODES = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encoded(content), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def _encoded(content: object) -> bytes:
    # Lone surrogates, which a model's reply may hold, have no UTF-8.
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _error(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    details: Failure | None = None,
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if details is not None and any((details.status, details.provider, details.request_id, details.said)):
        error["details"] = replies.failure(details)
    return _json({"error": error}, status, headers)


def _failure(error: Exception) -> Response:
    """The reply to anything raised. What is not ours is logged by where it happened: its text may be a document's."""
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            wait = getattr(error, "retry_after", None) or (5 if kind is NotReady else None)
            headers = {"Retry-After": str(math.ceil(wait))} if wait and status == HTTPStatus.SERVICE_UNAVAILABLE else {}
            return _error(status, code, str(error), headers, getattr(error, "failure", None))
    return _error(500, "internal", incident(logger, error, "A request"))


def _http_error(_request: Request, error: Exception) -> Response:
    """The reply to what Starlette itself refuses: unknown paths, wrong methods, broken forms."""
    if not isinstance(error, HTTPException):
        raise error
    code = _STATUS_CODES.get(error.status_code, "invalid_request")
    message = {
        404: "There is nothing at this address.",
        405: "This address does not know this method.",
        400: f"The form cannot be read: {error.detail}",
    }.get(error.status_code, error.detail)
    return _error(error.status_code, code, message, error.headers)


class _Errors:
    """Middleware: whatever is raised inside becomes a JSON error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replied = False

        async def noting(message: Message) -> None:
            nonlocal replied
            replied = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            return
        except Exception as error:
            if replied:
                raise
            await _failure(error)(scope, receive, send)


class _Token:
    """Middleware: without the API token there is nothing here but an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if scope["type"] != "http" else self._refusal(Request(scope)) or self._app
        await app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        token = services.get().settings.api_token
        if token is None:
            return _error(404, "not_found", "The API is off. It is on while FOOTNOTE_API_TOKEN is set.")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Header values are Latin-1; comparing bytes takes the same time wherever they differ.
        same = hmac.compare_digest(given.strip().encode("latin-1"), token.get_secret_value().encode("latin-1"))
        if scheme.lower() == "bearer" and same:
            return None
        return _error(
            401,
            "unauthorized",
            "Send the API token as “Authorization: Bearer <token>”.",
            {"WWW-Authenticate": "Bearer"},
        )


# ---------------------------------------------------------------- what requests hold


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_JSON:
            raise HTTPException(413, "The request is larger than 1 MB.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The request is not valid JSON.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The request must be a JSON object.")
    return value


def _question(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"“{field}” must be a text that is not empty.")
    if len(value) > LONGEST_QUESTION:
        raise InvalidRequest(f"“{field}” must have at most {LONGEST_QUESTION:,} characters.")
    return _without_surrogates(value)


def _limit(body: Mapping[str, Any]) -> int:
    limit = body.get("limit", 10)
    if type(limit) is not int or not 1 <= limit <= _MOST_HITS:  # True is an int, too
        raise InvalidRequest(f"“limit” must be a whole number from 1 to {_MOST_HITS}.")
    return limit


def _history(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    turns = body.get("history", [])
    if not isinstance(turns, list):
        raise InvalidRequest("“history” must be a list.")
    return tuple(map(_turn, turns))


def _turn(value: object) -> Turn:
    match value:
        case {"role": "user" | "assistant" as role, "content": str(content)}:
            return Turn(role, _without_surrogates(content))
    raise InvalidRequest("Each line of “history” must have a “role”, user or assistant, and a “content”, a text.")


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _collection(name: str) -> Collection:
    collection = services.get().library.collection_named(name)
    if collection is None:
        raise NotFound("There is no collection of this name.")
    return collection


# ---------------------------------------------------------------- documents


async def _upload(request: Request) -> Response:
    largest = services.get().settings.max_upload_bytes
    async with _form(request, largest + _FORM_OVERHEAD) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("Send the document as the file “file” of a multipart form.")
        if file.size == 0:
            raise InvalidRequest("The file is empty.")
        if file.size is not None and file.size > largest:
            raise _too_large(largest)
        add = functools.partial(_add, request.path_params["name"], file.filename or "", file.file)
        added, collection = await to_thread.run_sync(add, limiter=_CATALOGUE)
    return _json(
        {**replies.document(added.document, collection), "outcome": added.outcome},
        200 if added.outcome == "present" else 202,
        {"Location": f"/api/v1/documents/{added.document.id}"},
    )


@asynccontextmanager
async def _form(request: Request, largest: int) -> AsyncIterator[FormData]:
    """The multipart form of a request that is at most `largest` bytes long, whatever its headers say."""
    if not request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
        raise InvalidRequest("Send the document as the file “file” of a multipart form.")
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > largest:
        raise _too_large(largest)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > largest:
            raise _too_large(largest)
        return message

    async with Request(request.scope, receive).form(max_files=1, max_fields=10) as form:
        yield form


def _too_large(largest: int) -> FileTooLarge:
    return FileTooLarge(f"The file is larger than the limit of {largest // (1024 * 1024)} MB.")


def _add(collection_name: str, name: str, stream: BinaryIO) -> tuple[Added, Collection]:
    opened = services.get()
    collection = opened.library.collection_named(collection_name)
    if collection is None:
        media_type(stream.read(HEAD_BYTES), name)  # a file that is refused leaves no empty collection behind
        stream.seek(0)
        collection = _create_collection(opened, collection_name)
    added = opened.library.add(collection.id, name, stream)
    opened.indexer.wake()
    return added, collection


def _create_collection(opened: Services, name: str) -> Collection:
    try:
        return opened.library.create_collection(name, opened.models.embeddings)
    except InvalidRequest:
        # Two first uploads at once: the other one has made it.
        collection = opened.library.collection_named(name)
        if collection is None:
            raise
        return collection


async def _documents(request: Request) -> Response:
    def listed() -> list[dict[str, Any]]:
        collection = _collection(request.path_params["name"])
        return [replies.document(document, collection) for document in services.get().library.documents(collection.id)]

    return _json({"documents": await to_thread.run_sync(listed, limiter=_CATALOGUE)})


async def _one_document(request: Request) -> Response:
    def found() -> dict[str, Any]:
        library = services.get().library
        document = library.document(request.path_params["id"])
        return replies.document(document, library.collection(document.collection_id))

    return _json(await to_thread.run_sync(found, limiter=_CATALOGUE))


async def _remove_document(request: Request) -> Response:
    def remove() -> None:
        opened = services.get()
        opened.library.remove(request.path_params["id"])
        opened.indexer.wake()

    await to_thread.run_sync(remove, limiter=_CATALOGUE)
    return Response(status_code=204)


# ---------------------------------------------------------------- questions


async def _search(request: Request) -> Response:
    body = await _body(request)
    query, limit = _question(body, "query"), _limit(body)

    def search(stop: Stop) -> dict[str, Any]:
        collection = _collection(request.path_params["name"])
        found = services.get().pipeline.search(collection.id, query, stop)
        return {"hits": [replies.hit(hit) for hit in found.hits[:limit]], "reranker": found.reranker}

    return _json(await _until_disconnect(request.receive, search))


async def _ask(request: Request) -> Response:
    body = await _body(request)
    question, history = _question(body, "question"), _history(body)

    def events(stop: Stop) -> Iterator[Event]:
        collection = _collection(request.path_params["name"])
        answer = services.get().pipeline.answer(question, history, collection.id, stop)
        # Thoughts that are not kept are signs of life for those who watch, and nothing to be said.
        return (replies.event(event) for event in answer if event != ReasoningDelta(""))

    if "text/event-stream" in request.headers.get("Accept", ""):
        return _EventStream(events)

    def last(stop: Stop) -> dict[str, Any]:
        return collections.deque(events(stop), maxlen=1)[0][1]

    return _json(await _until_disconnect(request.receive, last))


@asynccontextmanager
async def _stopped_with_client(receive: Receive) -> AsyncIterator[Stop]:
    """A stop that is set as soon as the client goes away, and at the end in any case."""
    stop = Stop()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watcher = asyncio.create_task(watch())
    try:
        yield stop
    finally:
        stop.set()
        watcher.cancel()


async def _until_disconnect(receive: Receive, work: Callable[[Stop], Result]) -> Result:
    async with _stopped_with_client(receive) as stop:
        # The thread is left to its stop when this request is cancelled; waiting for it would keep the stop from it.
        return await to_thread.run_sync(work, stop, limiter=_ANSWERING, abandon_on_cancel=True)


class _EventStream(Response):
    """Events as they happen, with a comment now and then to keep proxies from closing a quiet connection.

    What fails before the first event is an ordinary error reply, what fails later an event.
    """

    def __init__(self, events: Callable[[Stop], Iterator[Event]]) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, media_type="text/event-stream"
        )
        del self.headers["Content-Length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrivals: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(arrival: Event | Exception | None) -> None:
            loop.call_soon_threadsafe(arrivals.put_nowait, arrival)

        def work(stop: Stop) -> None:
            try:
                for event in self._events(stop):
                    put(event)
            except Exception as error:
                put(error)
            put(None)

        async with _stopped_with_client(receive) as stop:
            working = asyncio.create_task(to_thread.run_sync(work, stop, limiter=_ANSWERING, abandon_on_cancel=True))
            try:
                await self._reply(arrivals, scope, receive, send)
            finally:
                working.cancel()

    async def _reply(
        self, arrivals: asyncio.Queue[Event | Exception | None], scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = False
        while (arrival := await _next(arrivals)) is not None:
            if isinstance(arrival, Exception):
                failure = _failure(arrival)
                if not started:
                    await failure(scope, receive, send)
                    return
                piece = _encoded_event("error", bytes(failure.body))
            elif arrival is _QUIET:
                piece = b": still at work\n\n"
            else:
                name, data = arrival
                piece = _encoded_event(name, _encoded(data))
            if not started:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                started = True
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next(arrivals: asyncio.Queue[Event | Exception | None]) -> Event | Exception | None:
    try:
        return await asyncio.wait_for(arrivals.get(), _KEEP_ALIVE_SECONDS)
    except TimeoutError:
        return _QUIET


def _encoded_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


# ---------------------------------------------------------------- beside the API


async def _health(_request: Request) -> Response:
    try:
        state = services.get().state().name
    except NotReady:
        state = "starting"
    return _json({"status": "ok"}) if state == "ready" else _json({"status": state}, 503)


def picture_link(message_id: str, number: int) -> str:
    """The address of the page picture that a citation opens, for a day, for whoever is given it."""
    return f"/pictures/{links.sign(services.get().settings.data_dir, message_id, number)}"


async def _picture(request: Request) -> Response:
    cited = await to_thread.run_sync(_cited, request.path_params["token"], limiter=_CATALOGUE)
    # An answer written anew has other citations under the same links, so browsers ask whether theirs is still right.
    tag = f'"{cited.chunk.id}-{cited.start}-{cited.end}"'
    headers = {"Cache-Control": "private, no-cache", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    picture = await to_thread.run_sync(_draw, cited, limiter=_DRAWING)
    return Response(picture.image, headers=headers, media_type=picture.media_type)


def _cited(token: str) -> Citation:
    """The citation a link stands for, also of an answer that is still being written. Raises NotFound."""
    opened = services.get()
    message_id, number = links.verify(opened.settings.data_dir, token)
    live = opened.chat.live(message_id)
    holder = live.snapshot() if live else opened.conversations.message(message_id).answer
    for citation in holder.citations if holder else ():
        if citation.number == number:
            return citation
    raise NotFound("There is no such citation.")


def _draw(cited: Citation) -> Picture:
    """The page of a citation. Raises NotFound where there is no page to show."""
    try:
        picture = services.cited_page(services.get(), cited)
    except UnreadableDocument as error:
        raise NotFound(str(error)) from error
    if picture is None:
        raise NotFound("This document has no pages to show.")
    return picture


# ---------------------------------------------------------------- all of it


def routes() -> list[BaseRoute]:
    """Everything served beside the pages."""
    api = Starlette(
        routes=[
            Route("/v1/collections/{name}/documents", _upload, methods=["POST"]),
            Route("/v1/collections/{name}/documents", _documents, methods=["GET"]),
            Route("/v1/documents/{id}", _one_document, methods=["GET"]),
            Route("/v1/documents/{id}", _remove_document, methods=["DELETE"]),
            Route("/v1/collections/{name}/search", _search, methods=["POST"]),
            Route("/v1/collections/{name}/ask", _ask, methods=["POST"]),
        ],
        middleware=[Middleware(_Errors), Middleware(_Token)],
        exception_handlers={HTTPException: _http_error},
    )
    api.router.redirect_slashes = False  # a redirect would send the token and the file twice
    return [
        Route("/health", _health),
        Route("/pictures/{token}", _picture, middleware=[Middleware(_Errors)]),
        Route("/api", api),
        Mount("/api", api),
    ]
