"""The official `openrouter` package as a client of the tests' own server.

Its models are made from OpenRouter's own description: what they accept is what the service sends, so a server that
satisfies them is a faithful one. Its retries are switched off; they are not what is tested.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openrouter import OpenRouter, errors
from openrouter.components import ChatStreamChunk
from openrouter.utils import BackoffStrategy, RetryConfig

from tests.openrouter_catalogue import MODELS
from tests.openrouter_contract import Refused, check_body
from tests.openrouter_faults import FAULTS, unavailable
from tests.openrouter_server import KEY, OpenRouterServer

# The package reads its own source with names that Python 3.12 and later deprecate.
pytestmark = pytest.mark.filterwarnings(r"ignore:ast\.(Num|Str|NameConstant|Bytes|Ellipsis):DeprecationWarning")
NO_RETRIES = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), retry_connection_errors=False)
PICTURE = f"data:image/png;base64,{base64.b64encode(b'annual').decode()}"
MESSAGES = [{"role": "user", "content": "What is the fee?"}]


@pytest.fixture
def openrouter(host: OpenRouterServer) -> Iterator[OpenRouter]:
    with httpx.Client(trust_env=False, timeout=10) as http:
        yield OpenRouter(api_key=KEY, server_url=host.url, client=http, retry_config=NO_RETRIES)


# ---------------------------------------------------------------- embeddings and rerank


def test_it_embeds_texts(openrouter: OpenRouter) -> None:
    """Vectors with their index; tokens and cost."""
    reply = openrouter.embeddings.generate(model="any/model", input=["banana", "a fee"], input_type="search_document")
    assert {row.index: row.embedding for row in reply.data} == {0: [6, 3, 1], 1: [5, 1, 1]}
    assert (reply.usage.prompt_tokens, reply.usage.cost) == (2, 0.002)


def test_it_embeds_pictures(openrouter: OpenRouter) -> None:
    """Beside a text, and with every preference about providers that is easily misspelt."""
    parts = [{"type": "text", "text": "a fee"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    reply = openrouter.embeddings.generate(
        model="maker/seeing-embed-1",
        input=[{"content": parts}],
        dimensions=3,
        provider={
            "order": ["inventor"],
            "allow_fallbacks": False,
            "require_parameters": True,
            "data_collection": "deny",
            "zdr": True,
            "quantizations": ["fp8"],
            "sort": "price",
            "max_price": {"prompt": "0.5", "completion": "1"},
        },
    )
    assert [row.embedding for row in reply.data] == [[5, 1, 7]]


def test_it_takes_packed_vectors(openrouter: OpenRouter) -> None:
    """Base64 stays a string."""
    reply = openrouter.embeddings.generate(model="any/model", input="a", encoding_format="base64", dimensions=1)
    assert reply.data[0].embedding == base64.b64encode(b"\0\0\x80\x3f").decode()


def test_it_reranks_texts_and_pictures(openrouter: OpenRouter) -> None:
    """The best of them, with what they echo."""
    documents = ["a fee", {"text": "the annual fee"}, {"image": PICTURE}, "none"]
    reply = openrouter.rerank.rerank(model="any/model", query="annual fee", documents=documents, top_n=3)
    assert [(result.index, result.relevance_score) for result in reply.results] == [(1, 1.0), (0, 0.5), (2, 0.5)]
    assert [result.document.text for result in reply.results] == ["the annual fee", "a fee", None]
    assert reply.results[2].document.image == PICTURE
    assert (reply.provider, reply.usage.search_units, reply.usage.cost) == ("Inventor", 1, 0.002)


# ---------------------------------------------------------------- chat


def test_it_gets_a_whole_answer(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """With thoughts and usage, by the first model that is available."""
    host.unavailable = {"a/one"}
    host.reasoning_pieces = ["hm"]
    host.usage = {**host.usage, "prompt_tokens_details": {"cached_tokens": 100}}
    reply = openrouter.chat.send(
        model="a/one", models=["~b/latest"], messages=MESSAGES, temperature=0.2, max_completion_tokens=100
    )
    message = reply.choices[0].message
    assert (message.content, message.reasoning) == ("The fee is 12 euros [1].", "hm")
    assert (reply.model, reply.choices[0].finish_reason) == ("b/large-2026", "stop")
    assert reply.usage.prompt_tokens_details.cached_tokens == 100
    assert reply.usage.cost == 0.00031


def streamed(openrouter: OpenRouter, **more: Any) -> list[ChatStreamChunk]:
    with openrouter.chat.send(model="any/model", messages=MESSAGES, stream=True, **more) as stream:
        return list(stream)


def test_it_gets_a_streamed_answer(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """Thoughts, text, the reason of the end, and last the usage."""
    host.reasoning_pieces = ["hm"]
    *chunks, last = streamed(openrouter, session_id="s-1")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content for delta in deltas) == "The fee is 12 euros [1]."
    assert (deltas[0].reasoning, deltas[0].reasoning_details[0].text) == ("hm", "hm")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens_details.reasoning_tokens) == (120, 0)


def test_it_gets_a_structured_answer(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """As the schema's name asks for."""
    host.json_reply = {"verdict": '{"supported": true}'}
    schema = {
        "type": "object",
        "properties": {"supported": {"type": "boolean"}},
        "required": ["supported"],
        "additionalProperties": False,
    }
    reply = openrouter.chat.send(
        model="any/model",
        messages=MESSAGES,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        },
    )
    assert json.loads(reply.choices[0].message.content) == {"supported": True}


def test_it_shows_a_model_pictures_and_marks_what_to_cache(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """Parts arrive as they were given, in the spelling of the contract."""
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]
    user = [{"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    openrouter.chat.send(model="any/model", messages=messages, reasoning={"effort": "low"})
    assert host.requests[0].body["messages"] == messages


def test_it_gets_an_error_amid_the_text(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """The text so far, then the error in the last chunk."""
    host.always = FAULTS["error in the stream"]
    first, last = streamed(openrouter)
    assert first.choices[0].delta.content == "The fee"
    assert (last.choices[0].finish_reason, last.error.code) == ("error", 502)
    assert last.error.metadata.error_type == "provider_unavailable"


def test_it_reads_an_answer_that_failed(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """The choice's error is beyond its models; the reason of the end and the text are not."""
    host.always = FAULTS["error in the choice"]
    choice = openrouter.chat.send(model="any/model", messages=MESSAGES).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("error", "The fee")


# ---------------------------------------------------------------- models and key


def test_it_lists_all_models(openrouter: OpenRouter) -> None:
    """Page by page."""
    found, page = [], openrouter.models.list(output_modalities="all", limit=3)
    while page is not None and page.result.data:
        found += [model.id for model in page.result.data]
        page = page.next()
    assert found == [model["id"] for model in MODELS]


def test_it_reads_a_model(openrouter: OpenRouter) -> None:
    """Prices are strings; an alias tells its target and may have no length."""
    models = {model.id: model for model in openrouter.models.list().result.data}
    assert models["maker/chat-1"].pricing.completion == "0.000002"
    assert models["maker/thinking-chat-1"].reasoning.default_enabled
    assert models["maker/seeing-chat-1"].architecture.input_modalities == ["text", "image", "file"]
    assert models["~maker/chat-latest"].alias_target.slug == "maker/chat-1"
    assert models["~maker/chat-latest"].context_length is None


def test_it_lists_embedding_models(openrouter: OpenRouter) -> None:
    """Those alone."""
    models = openrouter.embeddings.list_models().result.data
    assert [(model.id, model.context_length) for model in models] == [
        ("maker/embed-1", 512),
        ("maker/seeing-embed-1", 8192),
    ]


@pytest.mark.parametrize("id", [model["id"] for model in MODELS])
def test_it_lists_a_models_providers(openrouter: OpenRouter, id: str) -> None:
    """Of every model."""
    author, _, slug = id.partition("/")
    endpoints = openrouter.endpoints.list(author=author, slug=slug).data.endpoints
    assert [(endpoint.provider_name, endpoint.tag) for endpoint in endpoints] == [
        ("Inventor", "inventor/fp8"),
        ("Second", "second"),
    ]


# The reply's `rate_limit` is deprecated, and the package says so whenever it reads one.
@pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED \*\*:DeprecationWarning:pydantic")
def test_it_reads_the_keys_account(openrouter: OpenRouter) -> None:
    """What is left of its limit."""
    account = openrouter.api_keys.get_current_key_metadata().data
    assert (account.limit, account.limit_remaining, account.limit_reset) == (10.0, 7.5, "monthly")


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.BadRequestResponseError),
        (401, errors.UnauthorizedResponseError),
        (402, errors.PaymentRequiredResponseError),
        (403, errors.ForbiddenResponseError),
        (404, errors.NotFoundResponseError),
        (408, errors.RequestTimeoutResponseError),
        (413, errors.PayloadTooLargeResponseError),
        (422, errors.UnprocessableEntityResponseError),
        (429, errors.TooManyRequestsResponseError),
        (500, errors.InternalServerResponseError),
        (502, errors.BadGatewayResponseError),
        (503, errors.ServiceUnavailableResponseError),
        (524, errors.EdgeNetworkTimeoutResponseError),
        (529, errors.ProviderOverloadedResponseError),
    ],
)
def test_it_tells_failures_apart(
    host: OpenRouterServer, openrouter: OpenRouter, status: int, error: type[errors.OpenRouterError]
) -> None:
    """By their status; the body fits its model of each."""
    host.always = FAULTS[str(status)]
    with pytest.raises(error) as caught:
        openrouter.chat.send(model="any/model", messages=MESSAGES)
    assert (caught.value.data.error.code, str(caught.value)) == (status, f"failure {status}")


def test_a_wrong_key_is_refused(host: OpenRouterServer) -> None:
    """Before anything else."""
    with httpx.Client(trust_env=False) as http:
        stranger = OpenRouter(api_key="wrong-key", server_url=host.url, client=http, retry_config=NO_RETRIES)
        with pytest.raises(errors.UnauthorizedResponseError):
            stranger.api_keys.get_current_key_metadata()


def test_a_refusal_is_understood(openrouter: OpenRouter) -> None:
    """What the server itself refuses has the body of the contract."""
    with pytest.raises(errors.BadRequestResponseError, match="dimensions"):
        openrouter.embeddings.generate(model="any/model", input="a", dimensions=0)
    with pytest.raises(errors.NotFoundResponseError, match="image input"):
        parts = [{"type": "image_url", "image_url": {"url": PICTURE}}]
        openrouter.embeddings.generate(model="maker/embed-1", input=[{"content": parts}])


def test_the_newer_shape_of_errors_is_beyond_it(host: OpenRouterServer, openrouter: OpenRouter) -> None:
    """An error without a code, as the documentation shows it, does not fit its models: ours must not rely on either."""
    host.always = unavailable(404, "no_endpoints", "No endpoints found")
    with pytest.raises(errors.ResponseValidationError, match="code") as caught:
        openrouter.chat.send(model="any/model", messages=MESSAGES)
    assert caught.value.status_code == 404


@pytest.mark.parametrize("name", ["html", "html with 200", "truncated JSON", "error within", "empty object"])
def test_nonsense_is_no_answer_to_it(host: OpenRouterServer, openrouter: OpenRouter, name: str) -> None:
    """Neither a page nor half an object, whatever the status."""
    host.always = FAULTS[name]
    with pytest.raises(errors.OpenRouterError):
        openrouter.chat.send(model="any/model", messages=MESSAGES)


def test_it_says_who_asks(host: OpenRouterServer) -> None:
    """The headers of attribution are spelt as the contract has them."""
    with httpx.Client(trust_env=False) as http:
        named = OpenRouter(
            api_key=KEY,
            server_url=host.url,
            client=http,
            http_referer="https://example.org",
            x_open_router_title="Footnote",
        )
        named.embeddings.generate(model="any/model", input="a")
    headers = host.requests[0].headers
    assert (headers["http-referer"], headers["x-openrouter-title"]) == ("https://example.org", "Footnote")


@pytest.mark.parametrize("field", ["session_id", "user", "trace"])
def test_newer_fields_of_the_package_stay_refused(field: str) -> None:
    """It may send more to rerank than the published contract has; ours must not."""
    body = {"model": "any/model", "query": "q", "documents": ["d"], field: "x"}
    with pytest.raises(Refused, match=field):
        check_body("/rerank", body)
