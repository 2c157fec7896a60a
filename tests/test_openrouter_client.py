"""rag.openrouter.client, billing and usage: over real sockets, against the strict server."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Spending, Usage
from rag.errors import BadKey, BadReply, ProviderDown, ProviderError, RateLimited, Stopped
from rag.interfaces import Errand
from rag.openrouter.client import DONE, Attribution, Call, Client
from rag.openrouter.failures import Purpose
from rag.stopping import Stop
from tests.openrouter_faults import FAULTS, error_chunk
from tests.openrouter_server import (
    COMMENT,
    KEY,
    MODEL,
    OpenRouterServer,
    Reply,
    breaks_off,
    chunk,
    event,
    fails,
    resets,
    sends,
    serving,
    stalls,
    streams,
    usage_chunk,
)

PURPOSE = Purpose("embedding", "maker/model-1", "FOOTNOTE_EMBEDDING_MODEL")
CALL = Call("/embeddings", {"model": "maker/model-1", "input": ["text"]}, PURPOSE, patience=20.0)
CHAT = Call(
    "/chat/completions",
    {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True},
    Purpose("chat", MODEL, "FOOTNOTE_CHAT_MODEL"),
    patience=20.0,
    prompt_tokens=50,
)


@pytest.fixture
def connect(host: OpenRouterServer) -> Iterator[Callable[..., Client]]:
    clients = []

    def connected(key: str | None = KEY, url: str | None = None, **options: Any) -> Client:
        client = Client(url or host.url, SecretStr(key) if key else None, **{"backoff": 0.0001, **options})
        clients.append(client)
        return client

    yield connected
    for client in clients:
        client.close()


def post(client: Client, call: Call = CALL, stop: Stop | None = None) -> Mapping[str, Any]:
    return client.post(call, Errand(stop or Stop()), dict)


def failing(host: OpenRouterServer, client: Client, reply: Reply) -> ProviderError:
    host.always = reply
    with pytest.raises(ProviderError) as caught:
        post(client)
    return caught.value


# ---------------------------------------------------------------- what is sent


def test_a_call_is_answered(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The reply's JSON object arrives."""
    assert post(connect())["object"] == "list"


def test_the_key_is_sent_as_a_bearer_token(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """To the server it was given for."""
    post(connect())
    assert host.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_that_cannot_be_sent_is_refused_at_once(host: OpenRouterServer) -> None:
    """And is not quoted."""
    with pytest.raises(BadKey) as caught:
        Client(host.url, SecretStr("sk-with\nline"))
    assert "sk-with" not in str(caught.value)


def test_without_a_key_none_is_sent(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A server of one's own may want none."""
    host.key = None
    post(connect(key=None))
    assert "authorization" not in host.requests[0].headers


def test_attribution_is_sent_as_configured(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The address and the title of this installation, to whatever server."""
    post(connect(attribution=Attribution("https://footnote.example/", "Our papers")))
    headers = host.requests[0].headers
    assert (headers["http-referer"], headers["x-openrouter-title"]) == ("https://footnote.example/", "Our papers")


def test_an_address_that_was_not_configured_is_not_told(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Other servers learn no more than the name of the application."""
    post(connect())
    headers = host.requests[0].headers
    assert "http-referer" not in headers and headers["x-openrouter-title"] == "Footnote"


def test_openrouter_always_learns_an_address(host: OpenRouterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it attributes nothing; also through a proxy of this machine."""
    host.always = sends({"fine": True})
    monkeypatch.setenv("http_proxy", host.url.removesuffix("/api/v1"))
    client = Client("http://openrouter.ai/api/v1", None)
    assert post(client) == {"fine": True}
    client.close()
    assert host.requests[0].path == "http://openrouter.ai/api/v1/embeddings"
    headers = host.requests[0].headers
    assert (headers["http-referer"], headers["x-openrouter-title"]) == ("http://localhost:8501", "Footnote")


def test_calls_of_one_session_say_so(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """In a header, which every endpoint reads; never longer than the contract allows, and not at all without one."""
    client = connect()
    for session in ("conversation-1", "s" * 300, ""):
        client.post(CALL, Errand(session=session), dict)
        client.get("/key", {}, PURPOSE, Errand(session=session), dict)
    told = [request.headers.get("x-session-id") for request in host.requests]
    assert told == ["conversation-1", "conversation-1", "s" * 256, "s" * 256, None, None]


def test_a_get_asks_with_its_query(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """No body, the key as everywhere."""
    purpose = Purpose("model list", "", "FOOTNOTE_CHAT_MODEL")
    query = {"output_modalities": "rerank", "offset": "0"}
    assert connect().get("/models", query, purpose, Errand(), lambda reply: len(reply["data"])) > 0
    request = host.requests[0]
    assert (request.method, request.path, request.query, request.body) == ("GET", "/api/v1/models", query, None)


def test_a_get_fails_and_is_tried_again_like_all_else(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A passing fault is not noticed; a lasting one has its sentence."""
    host.replies.extend([fails(502), resets])
    assert connect().get("/key", {}, PURPOSE, Errand(), dict)["data"]
    host.always = fails(402)
    with pytest.raises(ProviderError, match="no credit left"):
        connect().get("/key", {}, PURPOSE, Errand(), dict)


def test_a_base_url_may_end_with_a_slash(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Paths are joined with exactly one."""
    post(connect(url=host.url + "/"))
    assert host.requests[0].path == "/api/v1/embeddings"


def test_half_a_character_is_sent_as_a_question_mark(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A lone surrogate cannot be sent and is no reason to fail."""
    post(connect(), Call("/embeddings", {"model": "m", "input": ["a\ud800b"]}, PURPOSE, 20.0))
    assert host.requests[0].body["input"] == ["a?b"]


def test_a_connection_is_used_again(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Calls one after another share one connection."""
    ports = set()
    host.always = lambda handler: (ports.add(handler.client_address[1]), sends({"fine": True})(handler))[1]
    client = connect()
    for _ in range(3):
        post(client)
    assert len(ports) == 1


def test_no_log_line_holds_the_key_or_the_text(
    host: OpenRouterServer, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, of ours or of the HTTP library."""
    with caplog.at_level(logging.INFO):
        host.replies.append(fails(429))
        post(connect(), Call("/embeddings", {"model": "m", "input": ["confidential"]}, PURPOSE, 20.0))
    assert caplog.records
    assert KEY not in caplog.text and "confidential" not in caplog.text


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize(
    "fault", [fails(429), fails(502), resets, breaks_off(b'{"data"'), sends(b"<html>"), sends({"error": {"code": 503}})]
)
def test_a_passing_fault_is_not_noticed(host: OpenRouterServer, connect: Callable[..., Client], fault: Reply) -> None:
    """Two of them, then the answer."""
    host.replies.extend([fault, fault])
    assert post(connect())["object"] == "list"
    assert len(host.requests) == 3


def test_a_pause_asked_for_is_kept(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Retry-After outweighs the shorter pause of our own."""
    host.replies.append(fails(429, headers={"Retry-After": "0.2"}))
    begun = time.monotonic()
    post(connect())
    assert time.monotonic() - begun >= 0.2


def test_a_pause_beyond_the_patience_is_not_waited_for(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The caller is told how long the server wants to be left alone, at once."""
    error = failing(host, connect(), fails(429, headers={"Retry-After": "3600"}))
    assert isinstance(error, RateLimited) and error.retry_after == 3600
    assert len(host.requests) == 1


def test_patience_ends(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Without patience the first failure is the last."""
    host.always = fails(503)
    with pytest.raises(ProviderDown):
        post(connect(), Call("/embeddings", {}, PURPOSE, patience=0.0))
    assert len(host.requests) == 1


def test_what_read_refuses_is_asked_for_again(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A reply of the wrong shape may be a passing fault too."""
    host.replies.append(sends({"data": []}))

    def read(reply: Mapping[str, Any]) -> str:
        if not reply["data"]:
            raise BadReply("empty", status=200)
        return "fine"

    assert connect().post(CALL, Errand(), read) == "fine"


# ---------------------------------------------------------------- stopping


def stop_once(ready: Callable[[], object], stop: Stop) -> threading.Thread:
    """Set `stop` from another thread as soon as `ready` returns."""

    def run() -> None:
        ready()
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_stop_breaks_the_wait_for_a_silent_server(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The connection is closed, not just left."""
    host.always = stalls
    stop = Stop()
    thread = stop_once(lambda: host.wait_for_requests(1), stop)
    with pytest.raises(Stopped):
        post(connect(), stop=stop)
    thread.join()
    assert host.disconnected.wait(5)
    assert len(host.requests) == 1


def test_a_stop_breaks_a_used_connection_too(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The second request of a connection is cut like the first."""
    client = connect()
    post(client)
    host.always = stalls
    stop = Stop()
    thread = stop_once(lambda: host.wait_for_requests(2), stop)
    with pytest.raises(Stopped):
        post(client, stop=stop)
    thread.join()
    assert host.disconnected.wait(5)


def test_a_stop_breaks_the_pause_before_a_retry(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Nobody waits for a Retry-After in vain."""
    host.always = fails(429, headers={"Retry-After": "15"})
    stop = Stop()
    thread = stop_once(lambda: host.wait_for_requests(1), stop)
    with pytest.raises(Stopped):
        post(connect(), stop=stop)
    thread.join()
    assert len(host.requests) == 1


def test_after_a_stop_nothing_is_sent(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A call that begins stopped does not begin."""
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        post(connect(), stop=stop)
    assert not host.requests


def test_a_stop_leaves_other_calls_alone(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Only the stopped call's connection is cut."""
    client = connect()
    release = threading.Event()
    host.replies.append(lambda handler: (release.wait(10), sends({"fine": True})(handler))[1])
    host.replies.append(stalls)
    results: list[Mapping[str, Any]] = []
    other = threading.Thread(target=lambda: results.append(post(client)))
    other.start()
    host.wait_for_requests(1)
    stop = Stop()
    thread = stop_once(lambda: host.wait_for_requests(2), stop)
    with pytest.raises(Stopped):
        post(client, stop=stop)
    release.set()
    other.join()
    thread.join()
    assert results == [{"fine": True}]


# ---------------------------------------------------------------- streams


def read(client: Client, errand: Errand, call: Call = CHAT) -> list[Mapping[str, Any]]:
    return list(client.events(call, errand))


def test_a_stream_ends_with_its_last_event(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Comments are skipped, the end is told."""
    events = read(connect(), Errand())
    assert [event["choices"][0]["delta"]["content"] for event in events[:2]] == ["The fee is ", "12 euros [1]."]
    assert events[-1] is DONE


@pytest.mark.parametrize("fault", [fails(503), resets, FAULTS["html"], FAULTS["error within"], streams(COMMENT)])
def test_a_stream_that_has_not_begun_is_asked_for_again(
    host: OpenRouterServer, connect: Callable[..., Client], fault: Reply
) -> None:
    """Two faults, then the stream."""
    host.replies.extend([fault, fault])
    assert read(connect(), Errand())[-1] is DONE
    assert len(host.requests) == 3


@pytest.mark.parametrize("name", ["cut stream", "error in the stream"])
def test_a_stream_that_has_begun_is_never_asked_for_again(
    host: OpenRouterServer, connect: Callable[..., Client], name: str
) -> None:
    """What came is passed on first; a cut has no end, an error is raised."""
    host.always = FAULTS[name]
    seen = []
    try:
        for one in connect().events(CHAT, Errand()):
            seen.append(one)
    except ProviderError as error:
        assert name == "error in the stream" and error.status == 502
    assert len(seen) == 1 and len(host.requests) == 1


def test_closing_a_stream_closes_its_connection(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Whoever reads no further ends the call, which counts as stopped."""
    host.always = streams(event(chunk("The fee")), end="stall")
    bills = Bills()
    events = connect().events(CHAT, bills.errand())
    next(events)
    events.close()
    assert host.disconnected.wait(5)
    assert bills.only.outcome == "stopped"


def test_a_stop_ends_a_stream_amid_its_silence(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The connection is closed, and what came is billed."""
    host.always = streams(event(chunk("The fee")), end="stall")
    bills, stop = Bills(), Stop()
    events = connect().events(CHAT, bills.errand(stop))
    next(events)
    thread = stop_once(lambda: None, stop)
    with pytest.raises(Stopped):
        next(events)
    thread.join()
    assert host.disconnected.wait(5)
    assert (bills.only.outcome, bills.only.usage.estimated) == ("stopped", True)


# ---------------------------------------------------------------- bills


class Bills:
    """What was billed."""

    def __init__(self) -> None:
        self.entries: list[Spending] = []

    def errand(self, stop: Stop | None = None) -> Errand:
        return Errand(stop or Stop(), bill=self.entries.append)

    @property
    def only(self) -> Spending:
        (entry,) = self.entries
        return entry


def billed(host: OpenRouterServer, client: Client, reply: Reply | None, call: Call = CHAT) -> Spending:
    """The one bill of a chat call, streamed or not, that may fail."""
    host.always = reply
    bills = Bills()
    try:
        if call.body.get("stream"):
            read(client, bills.errand(), call)
        else:
            client.post(call, bills.errand(), dict)
    except ProviderError:
        pass
    return bills.only


def test_a_call_is_billed_as_the_server_reports(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Who answered, what it took and how long, once."""
    host.usage = {
        "prompt_tokens": 120,
        "completion_tokens": 9,
        "total_tokens": 129,
        "cost": 0.00031,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    entry = billed(host, connect(), None)
    assert entry.usage == Usage(120, 9, 0, 0.00031, cached_tokens=100, cache_write_tokens=7, reasoning_tokens=4)
    assert (entry.model, entry.provider, entry.retries, entry.outcome) == (MODEL, "Inventor", 0, "done")
    assert entry.seconds > 0


def test_whoever_stops_reading_at_the_end_has_a_finished_call(
    host: OpenRouterServer, connect: Callable[..., Client]
) -> None:
    """The last event settles the bill, also when the iterator is closed on it."""
    bills = Bills()
    events = connect().events(CHAT, bills.errand())
    while next(events) is not DONE:
        assert not bills.entries
    events.close()
    assert bills.only.outcome == "done"


def test_retries_are_one_bill(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """With the usage of all attempts that reported any: nonsense may cost too."""
    nonsense = {"data": [], "usage": {"prompt_tokens": 5, "cost": 0.5}}
    host.replies.extend([fails(429), sends(nonsense)])
    bills = Bills()

    def strict(reply: Mapping[str, Any]) -> None:
        if not reply["data"]:
            raise BadReply("empty", status=200)

    connect().post(CALL, bills.errand(), strict)
    assert (bills.only.retries, bills.only.outcome) == (2, "done")
    assert (bills.only.usage.prompt_tokens, bills.only.usage.cost) == (5 + 1, 0.5 + 0.001)


@pytest.mark.parametrize("code", [400, 401, 402, 429, 500, 503])
def test_a_refused_call_costs_nothing(host: OpenRouterServer, connect: Callable[..., Client], code: int) -> None:
    """It is billed as failed, under the model that was asked."""
    call = Call(CHAT.path, CHAT.body, CHAT.purpose, patience=0.0, prompt_tokens=50)
    entry = billed(host, connect(), fails(code), call)
    assert (entry.model, entry.usage, entry.outcome) == (MODEL, Usage(), "failed")


@pytest.mark.parametrize(
    ("reply", "tokens", "outcome"),
    [
        (streams(event(chunk("12345678")), event(chunk("", "stop"))), 2, "done"),
        (streams(event(chunk("1234")), event(chunk("", reasoning="12345678")), end="cut"), 3, "failed"),
        (streams(event(chunk("äöüß")), event(error_chunk())), 2, "failed"),
        (streams(event(error_chunk())), None, "failed"),
        (stalls, 0, "failed"),
        (breaks_off(b"{"), 0, "failed"),
        (sends(b"<html>"), 0, "failed"),
        (streams(event(chunk("1234")), event(usage_chunk({"prompt_tokens": "?"})), end="cut"), 1, "failed"),
    ],
    ids=["no usage", "cut", "error amid", "error at once", "stall", "broken off", "no JSON", "nonsense usage"],
)
def test_what_is_not_reported_is_estimated(
    host: OpenRouterServer, connect: Callable[..., Client], reply: Reply, tokens: int | None, outcome: str
) -> None:
    """The prompt as the caller counts it, and a quarter of the bytes of what was said and thought; marked as such.

    Only a call that the server refused without a word of an answer costs nothing.
    """
    call = Call(CHAT.path, CHAT.body, CHAT.purpose, patience=0.0, prompt_tokens=50)
    entry = billed(host, connect(read_timeout=0.2), reply, call)
    assert entry.outcome == outcome
    assert entry.usage == (Usage() if tokens is None else Usage(50, tokens, estimated=True))


def test_a_whole_reply_without_usage_is_estimated_too(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """From the message it holds."""
    message = {"role": "assistant", "content": "12345678", "reasoning_content": "1234"}
    reply = sends({"choices": [{"message": message, "finish_reason": "stop"}]})
    call = Call(CHAT.path, {**CHAT.body, "stream": False}, CHAT.purpose, patience=0.0, prompt_tokens=50)
    assert billed(host, connect(), reply, call).usage == Usage(50, 3, estimated=True)


def test_a_connection_that_fails_costs_nothing(connect: Callable[..., Client]) -> None:
    """Nothing was sent."""
    with serving() as gone:
        url = gone.url
    bills = Bills()
    with pytest.raises(ProviderDown):
        connect(url=url).post(CALL, bills.errand(), dict)
    assert (bills.only.usage, bills.only.outcome, bills.only.retries) == (Usage(), "failed", 7)


def test_a_call_that_was_stopped_before_it_began_costs_nothing(
    host: OpenRouterServer, connect: Callable[..., Client]
) -> None:
    """It is billed all the same: once per call."""
    bills, stop = Bills(), Stop()
    stop.set()
    with pytest.raises(Stopped):
        connect().post(CALL, bills.errand(stop), dict)
    assert bills.only == Spending("maker/model-1", "", Usage(), 0.0, 0, "stopped")


def test_a_call_stopped_amid_silence_may_have_cost(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The server may work on, so the prompt counts."""
    host.always = stalls
    bills, stop = Bills(), Stop()
    thread = stop_once(lambda: host.wait_for_requests(1), stop)
    with pytest.raises(Stopped):
        connect().post(CHAT, bills.errand(stop), dict)
    thread.join()
    assert (bills.only.usage, bills.only.outcome) == (Usage(50, 0, estimated=True), "stopped")


def test_a_get_is_not_billed(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Lists of models are free."""
    bills = Bills()
    connect().get("/key", {}, PURPOSE, bills.errand(), dict)
    assert not bills.entries


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"search_units": 2, "cost": None}, Usage(search_units=2)),
        ({"total_tokens": 40, "cost": 0.5}, Usage(40, cost=0.5)),
        ({"total_tokens": 40, "completion_tokens": 10}, Usage(30, 10)),
        ({"prompt_tokens": 0, "total_tokens": 0}, Usage()),
        ({"prompt_tokens": 4, "prompt_tokens_details": None, "completion_tokens_details": "x"}, Usage(4)),
        ({"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": -3}}, Usage(4)),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 2.0}}, Usage(cost=2.5)),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": 2.0}}, Usage(cost=0.5)),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": "x"}}, Usage(cost=0.5)),
        ({"search_units": "2", "cost": "free"}, None),
        ({"search_units": -1, "cost": float("nan")}, None),
        ({"search_units": True, "cost": True}, None),
        ({}, None),
        ("free", None),
        (None, None),
    ],
)
def test_usage_is_read_leniently(
    host: OpenRouterServer, connect: Callable[..., Client], usage: Any, read: Usage | None
) -> None:
    """What a reply says about its cost must not cost the answer; what says nothing is estimated."""
    host.always = sends({"usage": usage})
    bills = Bills()
    connect().post(CHAT, bills.errand(), dict)
    assert bills.only.usage == (read or Usage(50, estimated=read is None))


def test_hostile_names_are_not_kept(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A name that cannot be shown, or is none, is not taken over."""
    host.always = sends({"model": "evil\x1b[2J", "provider": ["x"], "usage": {"cost": 1}})
    bills = Bills()
    connect().post(CALL, bills.errand(), dict)
    assert (bills.only.model, bills.only.provider) == ("maker/model-1", "")
