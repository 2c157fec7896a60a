"""rag.openrouter.failures: what a person reads when a call fails, over real sockets; docs/failures.md is its table."""

import contextlib
import email.utils
import gzip
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Failure
from rag.errors import BadKey, InputRejected, ModelUnavailable, OutOfCredit, ProviderDown, ProviderError, RateLimited
from rag.interfaces import Errand
from rag.openrouter import failures
from rag.openrouter.client import Call, Client
from rag.openrouter.failures import Meaning, Purpose, retry_after
from tests.openrouter_faults import ERROR_TYPES, FAULTS, unavailable
from tests.openrouter_server import KEY, OpenRouterServer, Reply, breaks_off, fails, resets, sends, stalls

DOCUMENT = Path(__file__).parent.parent / "docs" / "failures.md"
PURPOSE = Purpose("embedding", "maker/model-1", "FOOTNOTE_EMBEDDING_MODEL")
BODY = {"model": "maker/model-1", "input": ["text"]}
TWICE = 3  # requests


@contextlib.contextmanager
def client_of(url: str, key: str | None = KEY, **options: float) -> Iterator[Client]:
    client = Client(url, SecretStr(key) if key else None, **{"backoff": 0.0001, "read_timeout": 5.0, **options})
    try:
        yield client
    finally:
        client.close()


def failing(client: Client, patience: float = 0.0) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        client.post(Call("/embeddings", BODY, PURPOSE, patience), Errand(), dict)
    return caught.value


def failed(host: OpenRouterServer, reply: Reply) -> ProviderError:
    host.always = reply
    with client_of(host.url) as client:
        return failing(client)


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Case:
    """A way to fail, as the table names it."""

    when: str
    reply: Reply | None = None
    key: str | None = KEY
    url: Callable[[str], str] = lambda url: url
    read_timeout: float = 5.0


def status(code: int, message: str = "", **error: Any) -> Reply:
    return fails(code, message, **error)


def limited(seconds: int, message: str = "Rate limit exceeded", **headers: str) -> Reply:
    return fails(429, message, headers={"Retry-After": str(seconds), **headers})


BOMB = gzip.compress(bytes(65 * 1024 * 1024), compresslevel=1)
UPSTREAM = {"provider_name": "Inventor", "raw": "slow down", "error_type": "rate_limit_exceeded"}
CASES = [
    Case("anything else about the request", status(400)),
    Case("the text or the prompt is too long", status(400, metadata={"error_type": "context_length_exceeded"})),
    Case("the provider's rules on content", status(400, metadata={"error_type": "content_policy_violation"})),
    Case("a picture cannot be used", status(400, metadata={"error_type": "unsupported_image_format"})),
    Case("no such model (or 404)", status(400, "maker/model-1 is not a valid model ID")),
    Case("no key was sent", key=None),
    Case("the key is wrong", status(401, "No auth credentials found")),
    Case("the key is disabled or expired", status(401, "This key has been disabled")),
    Case("no credit left", status(402, "Insufficient credits. Add more using …")),
    Case(
        "too little credit for the answer's limit",
        status(402, "You requested up to 8000 tokens, but can only afford 90. Visit /settings/keys"),
    ),
    Case("the key's own limit (or 403)", status(402, "Key limit exceeded (total limit)")),
    Case("the key lacks a permission", status(403, "Only management keys can perform this operation")),
    Case("moderation", status(403, "Flagged", metadata={"reasons": ["violence"], "flagged_input": "…"})),
    Case("a guardrail of the account", status(403, "Blocked", metadata={"patterns": ["card number"]})),
    Case("not offered in the region", unavailable(403, "region_restricted")),
    Case(
        "the preferences leave no provider", status(404, "No allowed providers are available for the selected model.")
    ),
    Case("the free variant has ended", unavailable(404, "free_variant_ended")),
    Case("no such service at the address", sends(b"<html>nginx</html>", 404, "text/html")),
    Case(
        "a compatible server's word for too long",
        status(500, "input (3002 tokens) is too large to process. increase the physical batch size"),
    ),
    Case("a compatible server's word for no pictures", status(500, "image input is not supported - hint: mmproj")),
    Case(
        "a compatible server's word for an unknown field",
        status(500, "1 validation error: {'loc': ('body', 'response_format', 'type')}"),
    ),
    Case("the server was started without this service", status(501, "This server does not support reranking.")),
    Case("the time for a request is over", status(408)),
    Case("too many bytes", status(413)),
    Case("a field the server cannot work with", status(422)),
    Case("too many requests", limited(45)),
    Case("too many requests of the account", limited(45, X_RateLimit_Remaining="0")),
    Case("too many requests for the provider", status(429, "Provider returned error", metadata=UPSTREAM)),
    Case("the day's free requests are used up", limited(18_000, "Rate limit exceeded: free-models-per-day")),
    Case("a mistake of the server", status(500)),
    Case("the provider is down", status(502)),
    Case("a proxy's page instead of an answer", sends(b"<html>Bad gateway</html>", 502, "text/html")),
    Case("the provider is overloaded", status(503)),
    Case("no provider meets the routing", status(503, "No available provider meets your routing requirements")),
    Case("nothing came in time (or 504)", status(524)),
    Case("all providers are overloaded", status(529)),
    Case("a redirect", lambda handler: handler.send(307, b"", Location="http://elsewhere.example/")),
    Case("an error inside a 200, by its own code", sends({"error": {"code": 502, "message": "gone"}})),
    Case("something other than JSON, or cut JSON", sends(b'{"object": "list", "data": [')),
    Case("far more than was asked for", lambda handler: handler.send(200, BOMB, Content_Encoding="gzip")),
    Case("the connection is lost", resets),
    Case("the reply breaks off", breaks_off(b'{"object"')),
    Case("silence", stalls, read_timeout=0.05),
    Case("nobody answers there", url=lambda url: f"http://127.0.0.1:{free_port()}/v1"),
    Case("the name is unknown", url=lambda url: "http://footnote.invalid/v1"),
    Case("no TLS there", url=lambda url: url.replace("http://", "https://")),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def rows() -> Mapping[str, tuple[str, str, str, str]]:
    """The table of the document: status, sentence, where to go, tried again; by what it is about."""
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {when: (status, sentence, remedy, again) for status, when, sentence, remedy, again in cells}


def row_of(case: Case, host: OpenRouterServer) -> tuple[str, str, str, str]:
    """What really happens, as the table has it."""
    host.always = case.reply
    with client_of(case.url(host.url), case.key, read_timeout=case.read_timeout) as client:
        # Too many requests are asked again until patience ends, everything else only so often.
        error = failing(client, patience=0.5 if case.when.startswith("too many requests") else 20.0)
        requests = len(host.requests)
        sentence = str(error).replace(client.host, "openrouter.ai")
    attempts = {1: "no", TWICE: "twice"}.get(requests, "yes")
    if requests == 0:  # it did not come that far
        attempts = "no" if isinstance(error, failures.Misconfigured) else "yes"
    if error.retry_after:
        attempts = "if the wait fits"
    status = str(error.failure.status or "none")
    return status, sentence, error.failure.remedy, attempts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.when)
def test_a_failure_is_told_as_the_table_says(host: OpenRouterServer, case: Case) -> None:
    """The sentence, where to go, and whether it was tried again."""
    assert row_of(case, host) == rows()[case.when]


def test_the_table_has_nothing_that_is_not_tried() -> None:
    """Every row is a case above; the two that need certificates and proxies are tried with the connections."""
    elsewhere = {"the certificate is not trusted", "the proxy refuses"}
    assert rows().keys() == {case.when for case in CASES} | elsewhere


def test_every_sentence_is_in_the_table() -> None:
    """No failure has a sentence that the table lacks."""
    told = [sentence for _, sentence, _, _ in rows().values()]
    for name, meaning in vars(failures).items():
        if isinstance(meaning, Meaning):
            pattern = re.sub(r"\\{[^}]*\\}", ".+", re.escape(meaning.sentence))
            assert any(re.fullmatch(pattern, sentence) for sentence in told), name


def test_every_sentence_is_one_and_says_what_to_do() -> None:
    """What happened, a colon, and what to do about it."""
    for _, sentence, _, _ in rows().values():
        assert re.fullmatch(r"[^:]+: [a-z][^\n]+\.", sentence), sentence


def test_a_wait_longer_than_the_patience_is_told_at_once(host: OpenRouterServer) -> None:
    """With how long it is; nobody waits in vain."""
    error = failed(host, limited(3_600))
    assert isinstance(error, RateLimited) and error.retry_after == 3600
    assert "try again in 60 minutes" in str(error)
    assert len(host.requests) == 1


@pytest.mark.parametrize("name", [name for name in FAULTS if "stream" not in name])
def test_every_fault_of_the_server_has_a_sentence(host: OpenRouterServer, name: str) -> None:
    """Whatever happens, the person learns what to do, and nothing of the server's own words is in the sentence."""
    host.always = FAULTS[name]
    with client_of(host.url, read_timeout=0.2) as client:
        if name == "empty object":  # what lacks is for the reader of the reply to find out
            assert client.post(Call("/embeddings", BODY, PURPOSE, 0.0), Errand(), dict) == {}
            return
        error = failing(client)
    assert re.fullmatch(r".+: [a-z].+\.", str(error).replace(client.host, "host"))
    assert "failure" not in str(error) and "<" not in str(error)


# ---------------------------------------------------------------- statuses


@pytest.mark.parametrize("code", ERROR_TYPES)
def test_an_error_inside_a_200_counts_as_its_status(host: OpenRouterServer, code: int) -> None:
    """A server that has answered 200 already can still fail; the body says how, by code or by type."""
    plain = failed(host, fails(code))
    for inner in ({"code": code, "message": ""}, {"code": str(code), "message": ""}, {"http_status": code}):
        error = failed(host, sends({"error": inner}))
        assert (type(error), str(error), error.failure) == (type(plain), str(plain), plain.failure)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "server_error", "message": "oops"}, ProviderDown),
        ({"message": "no code", "metadata": {"error_type": "payment_required"}}, OutOfCredit),
        ({"message": "no code", "metadata": {"error_type": "rate_limit_exceeded"}}, RateLimited),
        ({"code": "model_not_found", "message": "?"}, ModelUnavailable),
        ({"message": "nothing else"}, ProviderDown),
        ({"code": True, "message": ["odd"], "metadata": "odd", "availability": "odd"}, ProviderDown),
        ({"message": "odd", "availability": {"code": ["odd"]}}, ProviderDown),
        ("just words", ProviderDown),
    ],
)
def test_an_error_may_name_itself_in_many_ways(
    host: OpenRouterServer, error: object, kind: type[ProviderError]
) -> None:
    """Codes are numbers, words or missing; what says nothing counts as a failing server."""
    assert type(failed(host, sends({"error": error}))) is kind


@pytest.mark.parametrize(
    "reply",
    [
        fails(404, "No endpoints found for maker/model-1."),
        unavailable(400, "model_not_found"),
        unavailable(400, "wrong_endpoint"),
        unavailable(404, "no_endpoints"),
        unavailable(404, "model_unavailable_upstream"),
        sends({"error": {"message": "gone", "error_type": "model_deprecated"}}, 404),
        sends({"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}, 404),
    ],
)
def test_a_wrong_model_is_named_with_its_setting(host: OpenRouterServer, reply: Reply) -> None:
    """However the server puts it, the person learns which setting to change."""
    error = failed(host, reply)
    assert isinstance(error, ModelUnavailable) and error.failure.remedy == "models"
    assert "maker/model-1" in str(error) and "FOOTNOTE_EMBEDDING_MODEL" in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        unavailable(404, "privacy_restricted"),
        unavailable(404, "constraint_filtered"),
        fails(404, "No endpoints found matching your data policy. Enable prompt training here: …"),
        fails(404, "No endpoints available matching your guardrail restrictions and data policy."),
        fails(404, "All providers have been ignored."),
        fails(404, "No endpoints found that can handle the requested parameters."),
        fails(503, "There is no available model provider that meets your routing requirements"),
    ],
)
def test_preferences_that_leave_no_provider_lead_to_the_routing(host: OpenRouterServer, reply: Reply) -> None:
    """The model is there, but not under these conditions; asking again cannot help."""
    error = failed(host, reply)
    assert isinstance(error, ModelUnavailable) and error.failure.remedy == "routing"


@pytest.mark.parametrize(
    ("reply", "kind", "remedy"),
    [
        (fails(403, "Key limit exceeded (daily limit). Manage it using …"), OutOfCredit, "key"),
        (fails(402, "To increase, create a key with a higher monthly limit"), OutOfCredit, "key"),
        (fails(402, "This account never purchased credits"), OutOfCredit, "credit"),
        (sends({"error": {"message": "quota", "type": "insufficient_quota"}}, 429), OutOfCredit, "credit"),
        (fails(403, "This model is not available in your region"), ModelUnavailable, "models"),
        (fails(403, "Your input was flagged"), InputRejected, "models"),
        (fails(404, "No endpoints found that support image input"), InputRejected, "models"),
        (fails(400, "This model's maximum context length is 8192 tokens"), InputRejected, "models"),
        (fails(429, "Rate limit exceeded: free-models-per-min."), RateLimited, "wait"),
        (fails(429, "x", metadata={"limit_source": "openrouter_free_tier_daily"}), RateLimited, "credit"),
        (fails(401, "User not found"), BadKey, "key"),
    ],
)
def test_words_tell_what_a_status_does_not(
    host: OpenRouterServer, reply: Reply, kind: type[ProviderError], remedy: str
) -> None:
    """The same status can need another remedy."""
    error = failed(host, reply)
    assert isinstance(error, kind) and error.failure.remedy == remedy


def test_servers_built_otherwise_are_understood(host: OpenRouterServer) -> None:
    """What FastAPI and vLLM say instead of an error object is part of the details."""
    fast = failed(host, sends({"detail": [{"loc": ["body", "input"], "msg": "Field required"}]}, 422))
    assert isinstance(fast, InputRejected) and "Field required" in fast.failure.said
    other = failed(host, sends({"object": "error", "message": "no such route", "code": 404}, 404))
    assert other.failure.said == "no such route"


# ---------------------------------------------------------------- details


def test_the_details_stand_beside_the_sentence(host: OpenRouterServer) -> None:
    """Status, provider, the id of the request and the server's own words, none of them in the sentence."""
    metadata = {"provider_name": "Inventor", "raw": "too many images"}
    error = failed(host, fails(422, "Provider returned error", metadata=metadata, headers={"X-Generation-Id": "gen-7"}))
    words = "Provider returned error: too many images"
    assert error.failure == Failure(422, "Inventor", "gen-7", words, "models")
    assert "Inventor" not in str(error) and "too many" not in str(error)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-request-id": "r-1", "cf-ray": "ray"}, {"id": "gen-2"}, "r-1"),
        ({"cf-ray": "ray"}, {}, "ray"),
        ({}, {"id": "gen-2"}, "gen-2"),
        ({}, {"id": 7}, ""),
        ({"x-request-id": "r" * 500}, {}, "r" * 200),
    ],
)
def test_the_request_is_known_by_the_first_id_there_is(
    host: OpenRouterServer, headers: Mapping[str, str], body: Mapping[str, Any], expected: str
) -> None:
    """Of the headers, else of the body."""
    error = failed(host, sends({"error": {"code": 500, "message": ""}, **body}, 500, **headers))
    assert error.failure.request_id == expected


def test_a_reply_of_a_wrong_shape_is_known_by_its_id_too(host: OpenRouterServer) -> None:
    """Also where its reader finds out."""
    host.always = sends({"provider": "Inventor", "id": "gen-3"})

    def read(reply: Mapping[str, Any]) -> None:
        raise failures.explained(failures.NOT_JSON, PURPOSE, failures.Server("host", None), status=200)

    with client_of(host.url) as client, pytest.raises(ProviderError) as caught:
        client.post(Call("/embeddings", BODY, PURPOSE, 0.0), Errand(), read)
    assert (caught.value.failure.provider, caught.value.failure.request_id) == ("Inventor", "gen-3")


def test_the_servers_words_are_shortened_and_clean(host: OpenRouterServer) -> None:
    """Control characters, line ends and direction marks are taken out, at most 200 characters are kept."""
    said = failed(host, fails(400, "bad\x1b[31m\nin\u202eput " + "x" * 1000)).failure.said
    assert said.startswith("bad [31m in put xxx")
    assert len(said) == 200 and said.endswith("…")


@pytest.mark.parametrize("echo", [KEY, "sk-or-v1-t************6789", "sk-proj-abcdefgh"])
@pytest.mark.parametrize("code", [400, 401, 429, 500])
def test_the_key_is_never_repeated(
    host: OpenRouterServer, echo: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when the server quotes it, wholly or masked: neither in words nor in details, nor in a log."""
    host.always = fails(code, f"Incorrect API key {echo} given", metadata={"raw": echo, "provider_name": echo})
    with caplog.at_level(logging.DEBUG), client_of(host.url) as client:
        error = failing(client, patience=0.01)
    assert echo not in f"{error} {error!r} {error.failure!r} {error.__cause__!r} {caplog.text}"
    assert error.failure.said == "Incorrect API key [key] given: [key]"


# ---------------------------------------------------------------- waits


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


def test_a_wait_may_stand_in_the_error(host: OpenRouterServer) -> None:
    """As `availability.retry_after`, or as the time at which the account's limit starts anew."""
    error = failed(host, unavailable(503, "temporarily_unavailable", retry_after=12))
    assert error.retry_after == 12
    reset = str(int((time.time() + 100) * 1000))
    for reply in (
        fails(429, headers={"X-RateLimit-Reset": reset}),
        fails(429, metadata={"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}}),
    ):
        error = failed(host, reply)
        assert isinstance(error, failures.AccountRateLimited)
        assert error.retry_after is not None and 90 < error.retry_after <= 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "in 1 second"),
        (1, "in 1 second"),
        (1.2, "in 2 seconds"),
        (90, "in 90 seconds"),
        (91, "in 2 minutes"),
        (5400, "in 90 minutes"),
        (5401, "in 2 hours"),
    ],
)
def test_a_wait_is_told_in_round_words(seconds: float, words: str) -> None:
    """Rounded up, in the largest unit that suits."""
    server = failures.Server("host", None)
    assert words in str(failures.explained(failures.BUSY, PURPOSE, server, status=429, wait=seconds))
