"""rag.openrouter.client, connections and failures: over real sockets, against the strict server."""

import email.utils
import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from rag.errors import (
    BadKey,
    BadReply,
    InputRejected,
    ModelUnavailable,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
    Stopped,
)
from rag.openrouter.client import Call, Client
from rag.openrouter.failures import Purpose, retry_after
from rag.stopping import Stop
from tests.openrouter_server import (
    KEY,
    OpenRouterServer,
    Reply,
    breaks_off,
    fails,
    resets,
    sends,
    serving,
    stalls,
)

PURPOSE = Purpose("embedding", "maker/model-1", "FOOTNOTE_EMBEDDING_MODEL")
CALL = Call("/embeddings", {"model": "maker/model-1", "input": ["text"]}, PURPOSE, patience=20.0)


@pytest.fixture
def host() -> Iterator[OpenRouterServer]:
    with serving() as server:
        yield server


@pytest.fixture
def connect(host: OpenRouterServer) -> Iterator[Callable[..., Client]]:
    clients = []

    def connected(key: str | None = KEY, url: str | None = None, **options: float) -> Client:
        client = Client(url or host.url, SecretStr(key) if key else None, **{"backoff": 0.0001, **options})
        clients.append(client)
        return client

    yield connected
    for client in clients:
        client.close()


def post(client: Client, call: Call = CALL, stop: Stop | None = None) -> Mapping[str, Any]:
    return client.post(call, stop or Stop(), dict)


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
    """And nothing attributes calls to other servers than openrouter.ai."""
    post(connect())
    headers = host.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "http-referer" not in headers and "x-openrouter-title" not in headers


def test_without_a_key_none_is_sent(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A server of one's own may want none."""
    host.key = None
    post(connect(key=None))
    assert "authorization" not in host.requests[0].headers


def test_attribution_goes_to_openrouter(host: OpenRouterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """openrouter.ai learns which application asks, also through a proxy of this machine."""
    host.always = sends({"fine": True})
    monkeypatch.setenv("http_proxy", host.url.removesuffix("/api/v1"))
    client = Client("http://openrouter.ai/api/v1", None)
    assert post(client) == {"fine": True}
    client.close()
    assert host.requests[0].path == "http://openrouter.ai/api/v1/embeddings"
    assert host.requests[0].headers["x-openrouter-title"] == "Footnote"


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


# ---------------------------------------------------------------- failures as sentences

MODEL_SENTENCE = (
    "The embedding model maker/model-1 cannot be used at {host} ({status}). Check FOOTNOTE_EMBEDDING_MODEL."
)
STATUSES: list[tuple[int, type[ProviderError], str, int]] = [
    (400, InputRejected, "{host} refused the embedding request for maker/model-1 (400).", 1),
    (401, BadKey, "The key was refused by {host} (401). Check OPENROUTER_API_KEY.", 1),
    (402, OutOfCredit, "No credit left at {host} (402). Add credit or raise the key's limit.", 1),
    (403, BadKey, "The key may not be used for this at {host} (403). Check its permissions and limits.", 1),
    (404, ModelUnavailable, MODEL_SENTENCE, 1),
    (408, ProviderDown, "{host} could not complete the embedding request (408). Try again in a minute.", 8),
    (413, InputRejected, "The embedding request was too large for {host} (413).", 1),
    (422, InputRejected, "{host} refused the embedding request for maker/model-1 (422).", 1),
    (429, RateLimited, "{host} takes no more embedding requests for now (429). Wait a moment and try again.", 8),
    (500, ProviderDown, "{host} could not complete the embedding request (500). Try again in a minute.", 3),
    (502, ProviderDown, "{host} could not complete the embedding request (502). Try again in a minute.", 8),
    (503, ProviderDown, "{host} could not complete the embedding request (503). Try again in a minute.", 8),
    (504, ProviderDown, "{host} could not complete the embedding request (504). Try again in a minute.", 8),
    (524, ProviderDown, "{host} could not complete the embedding request (524). Try again in a minute.", 8),
    (529, ProviderDown, "{host} could not complete the embedding request (529). Try again in a minute.", 8),
]


@pytest.mark.parametrize(("status", "kind", "sentence", "attempts"), STATUSES)
def test_every_status_has_its_sentence_and_its_retries(
    host: OpenRouterServer,
    connect: Callable[..., Client],
    status: int,
    kind: type[ProviderError],
    sentence: str,
    attempts: int,
) -> None:
    """What went wrong, what to do; and tried again only where that can help."""
    client = connect()
    error = failing(host, client, fails(status))
    assert (type(error), str(error)) == (kind, sentence.format(host=client.host, status=status))
    assert error.status == status
    assert len(host.requests) == attempts


@pytest.mark.parametrize(("status", "kind", "sentence", "attempts"), STATUSES)
def test_an_error_inside_a_200_counts_as_its_status(
    host: OpenRouterServer,
    connect: Callable[..., Client],
    status: int,
    kind: type[ProviderError],
    sentence: str,
    attempts: int,
) -> None:
    """A server that has answered 200 already can still fail; the body says how."""
    client = connect()
    error = failing(host, client, sends({"error": {"code": status, "message": ""}}))
    assert (type(error), str(error)) == (kind, sentence.format(host=client.host, status=status))
    assert len(host.requests) == attempts


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "429", "message": "slow down"}, RateLimited),
        ({"code": "server_error", "message": "oops"}, ProviderDown),
        ({"message": "no code", "metadata": {"error_type": "payment_required"}}, OutOfCredit),
        ({"message": "no code", "http_status": 401}, BadKey),
        ({"code": "model_not_found", "message": "?"}, ModelUnavailable),
        ({"message": "nothing else"}, ProviderDown),
        ({"code": True, "message": ["odd"], "metadata": "odd"}, ProviderDown),
        ("just words", ProviderDown),
    ],
)
def test_an_error_may_name_itself_in_many_ways(
    host: OpenRouterServer, connect: Callable[..., Client], error: object, kind: type[ProviderError]
) -> None:
    """Codes are numbers, words or missing; what says nothing counts as a failing server."""
    assert type(failing(host, connect(), sends({"error": error}))) is kind


@pytest.mark.parametrize(
    "reply",
    [
        fails(400, "maker/model-1 is not a valid model ID"),
        fails(400, "?", availability={"code": "wrong_endpoint"}),
        fails(403, "?", availability={"code": "region_restricted"}),
        fails(404, "No endpoints found for maker/model-1."),
        sends({"error": {"message": "gone", "error_type": "model_deprecated"}}, status=404),
        sends({"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}, status=404),
    ],
)
def test_a_wrong_model_is_named_with_its_setting(
    host: OpenRouterServer, connect: Callable[..., Client], reply: Reply
) -> None:
    """However the server puts it, the person learns which setting to change."""
    error = failing(host, connect(), reply)
    assert isinstance(error, ModelUnavailable)
    assert "maker/model-1" in str(error) and "FOOTNOTE_EMBEDDING_MODEL" in str(error)


def test_a_missing_key_is_asked_for(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """401 without a key is another matter than a refused key."""
    client = connect(key=None)
    with pytest.raises(BadKey) as caught:
        post(client)
    assert str(caught.value).startswith(f"{client.host} asks for a key (401). Set OPENROUTER_API_KEY.")


def test_moderated_text_is_not_blamed_on_the_key(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """403 with reasons is about the text."""
    error = failing(host, connect(), fails(403, "flagged", metadata={"reasons": ["violence"]}))
    assert isinstance(error, InputRejected)


def test_an_unknown_path_points_to_the_base_url(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """404 without an error object means there is no such service here."""
    error = failing(host, connect(), sends(b"<html>nginx</html>", status=404, content_type="text/html"))
    assert "OPENROUTER_BASE_URL" in str(error)


def test_a_redirect_is_not_followed(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """The key goes to no other address than the one that was set."""
    elsewhere = host.url + "/elsewhere"
    error = failing(host, connect(), lambda handler: handler.send(307, b"", Location=elsewhere))
    assert isinstance(error, BadReply) and "OPENROUTER_BASE_URL" in str(error)
    assert len(host.requests) == 1


@pytest.mark.parametrize("status", [502, 503])
def test_html_from_a_proxy_is_a_failing_server(
    host: OpenRouterServer, connect: Callable[..., Client], status: int
) -> None:
    """Nothing of the page is shown."""
    error = failing(host, connect(), sends(b"<html><script>x</script>", status=status, content_type="text/html"))
    assert isinstance(error, ProviderDown)
    assert "<" not in str(error)


@pytest.mark.parametrize("body", [b"<html>Log in to the WLAN</html>", b'{"data": [', b"", b"[1]", b"[" * 100_000])
def test_a_200_that_is_no_json_object_is_a_bad_reply(
    host: OpenRouterServer, connect: Callable[..., Client], body: bytes
) -> None:
    """Tried a few times, then said."""
    error = failing(host, connect(), sends(body))
    assert isinstance(error, BadReply) and "not JSON" in str(error)
    assert len(host.requests) == 3


def test_a_reply_without_end_is_cut_short(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """Also when it is small until it is unpacked: memory is bounded whatever the server sends."""
    bomb = gzip.compress(b'"' + bytes(65 * 1024 * 1024), compresslevel=1)
    error = failing(host, connect(), lambda handler: handler.send(200, bomb, Content_Encoding="gzip"))
    assert isinstance(error, BadReply) and "far more than was asked for" in str(error)


def test_the_servers_words_are_quoted_shortened_and_clean(
    host: OpenRouterServer, connect: Callable[..., Client]
) -> None:
    """Control characters, line ends and direction marks are taken out, at most 200 characters are shown."""
    error = failing(host, connect(), fails(400, "bad\x1b[31m\nin\u202eput " + "x" * 1000))
    quoted = str(error).partition("It says: “")[2].removesuffix("”")
    assert quoted.startswith("bad [31m in put xxx")
    assert len(quoted) == 200 and quoted.endswith("…")


@pytest.mark.parametrize("echo", [KEY, "sk-or-v1-t************6789", "sk-proj-abcdefgh"])
def test_the_key_is_never_repeated(host: OpenRouterServer, connect: Callable[..., Client], echo: str) -> None:
    """Not even when the server quotes it, wholly or masked."""
    error = failing(host, connect(), fails(401, f"Incorrect API key provided: {echo}."))
    assert echo not in str(error)
    assert "Incorrect API key provided: [key]" in str(error)


def test_a_key_that_cannot_be_sent_is_refused_at_once(host: OpenRouterServer) -> None:
    """And is not quoted."""
    with pytest.raises(BadKey) as caught:
        Client(host.url, SecretStr("sk-with\nline"))
    assert "sk-with" not in str(caught.value)


def test_no_log_line_holds_the_key_or_the_text(
    host: OpenRouterServer, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, of ours or of the HTTP library."""
    with caplog.at_level(logging.INFO):
        host.replies.append(fails(429))
        post(connect(), Call("/embeddings", {"model": "m", "input": ["confidential"]}, PURPOSE, 20.0))
    assert caplog.records
    assert KEY not in caplog.text and "confidential" not in caplog.text


def test_what_the_provider_behind_said_is_quoted_too(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """ "Provider returned error" alone helps nobody."""
    error = failing(host, connect(), fails(400, "Provider returned error", metadata={"raw": "too many images"}))
    assert "“Provider returned error: too many images”" in str(error)


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


def test_a_refused_connection_is_said(connect: Callable[..., Client]) -> None:
    """With what to check."""
    with serving() as gone:
        url = gone.url
    client = connect(url=url)
    with pytest.raises(ProviderDown) as caught:
        post(client)
    assert str(caught.value) == (
        f"{client.host} cannot be reached. Check the network connection and OPENROUTER_BASE_URL."
    )


def test_a_silent_server_is_given_up(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """After the longest silence allowed."""
    host.always = stalls
    with pytest.raises(ProviderDown, match=r"was silent for 0\.1 seconds"):
        post(connect(read_timeout=0.1), Call("/embeddings", {}, PURPOSE, patience=0.0))


def test_what_read_refuses_is_asked_for_again(host: OpenRouterServer, connect: Callable[..., Client]) -> None:
    """A reply of the wrong shape may be a passing fault too."""
    host.replies.append(sends({"data": []}))

    def read(reply: Mapping[str, Any]) -> str:
        if not reply["data"]:
            raise BadReply("empty", status=200)
        return "fine"

    assert connect().post(CALL, Stop(), read) == "fine"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: Mapping[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds or a date; nonsense is no wish."""
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    """It counts from now."""
    seconds = retry_after({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert seconds is not None and 90 < seconds <= 100


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
