"""The tests' own server refuses what OpenRouter's contract refuses, lest a test of ours pass by its leniency."""

import base64
import email.utils
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.openrouter_catalogue import MODELS
from tests.openrouter_faults import ERROR_TYPES, FAULTS, error_chunk, limits, unavailable
from tests.openrouter_server import (
    KEY,
    OpenRouterServer,
    chunk,
    event,
    regular,
    resets,
    serving,
    stalls,
    streams,
    vector_of,
)

Body = dict[str, Any]


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


PICTURE = data_uri(b"annual")
IMAGE_PART = {"type": "image_url", "image_url": {"url": PICTURE}}
TEXT_PART = {"type": "text", "text": "a fee"}
PROVIDER = {
    "order": ["inventor/fp8"],
    "only": None,
    "ignore": ["second"],
    "allow_fallbacks": False,
    "require_parameters": True,
    "data_collection": "deny",
    "zdr": None,
    "enforce_distillable_text": False,
    "quantizations": ["fp8", "unknown"],
    "sort": {"by": "price", "partition": None},
    "max_price": {"prompt": "0.5", "completion": "1", "request": "1e-3", "image": "0", "audio": "2"},
    "preferred_min_throughput": {"p50": 20, "p90": None},
    "preferred_max_latency": 2.5,
}
SCHEMA = {
    "type": "object",
    "properties": {"supported": {"type": "boolean"}, "type": {"type": "string"}},
    "required": ["supported", "type"],
    "additionalProperties": False,
}
EMBEDDINGS = "/embeddings"
RERANK = "/rerank"
CHAT = "/chat/completions"

GOOD: dict[str, Body] = {
    EMBEDDINGS: {"model": "any/model", "input": ["a fee"]},
    RERANK: {"model": "any/model", "query": "annual fee", "documents": ["a fee"]},
    CHAT: {"model": "any/model", "messages": [{"role": "user", "content": "What is the fee?"}]},
}
FULL: dict[str, Body] = {
    EMBEDDINGS: {
        "model": "any/model",
        "input": [{"content": [TEXT_PART, IMAGE_PART]}, {"content": [IMAGE_PART]}],
        "dimensions": 256,
        "encoding_format": "base64",
        "input_type": "search_query",
        "user": "u",
        "provider": PROVIDER,
    },
    RERANK: {
        "model": "any/model",
        "query": "annual fee",
        "documents": ["a fee", "", {"text": "a fee"}, {"image": PICTURE}, {"text": "a fee", "image": PICTURE}],
        "top_n": 9,
        "provider": None,
    },
    CHAT: {
        "model": "any/model",
        "models": ["b", "c", "d"],
        "messages": [
            {"role": "system", "content": [{**TEXT_PART, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [TEXT_PART, {**IMAGE_PART, "image_url": {"url": PICTURE, "detail": "low"}}]},
            {"role": "assistant", "content": "Well.", "reasoning": None, "refusal": None},
            {"role": "user", "content": "And?", "name": "reader"},
        ],
        "stream": False,
        "stream_options": {"include_usage": True},
        "usage": {"include": True},
        "temperature": 0,
        "top_p": 1,
        "max_completion_tokens": 800,
        "max_tokens": None,
        "seed": -1,
        "stop": ["\n\n", "END"],
        "reasoning": {"effort": "low", "exclude": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a-b_1", "strict": True, "schema": SCHEMA}},
        "cache_control": {"type": "ephemeral"},
        "provider": {"sort": "throughput"},
        "session_id": "s" * 256,
        "user": "u",
        "metadata": {"k" * 64: "v" * 512},
        "plugins": [{"id": "file-parser", "enabled": True, "pdf": {"engine": "cloudflare-ai"}}],
    },
}


NULLS: dict[str, Body] = {
    EMBEDDINGS: {**GOOD[EMBEDDINGS], "provider": {**dict.fromkeys(PROVIDER), "max_price": {}}},
    RERANK: {**GOOD[RERANK], "provider": {"sort": {"by": None, "partition": None}}},
    CHAT: {
        "messages": [
            {"role": "user", "content": [{**TEXT_PART, "prompt_cache_breakpoint": None}]},
            {"role": "assistant", "content": "Well.", "reasoning": None, "refusal": None},
        ],
        **dict.fromkeys(("stream_options", "temperature", "top_p", "max_completion_tokens", "max_tokens", "seed")),
        **dict.fromkeys(("stop", "provider", "reasoning_effort")),
        "reasoning": {"effort": None, "summary": None},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": None, "schema": {}}},
    },
}


@pytest.fixture(scope="module")
def untouched() -> Iterator[OpenRouterServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=10, trust_env=False) as client:
        yield client


def events_of(response: httpx.Response) -> list[Any]:
    """The JSON of each event; the mark of the end and comments as they are."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


# ---------------------------------------------------------------- what is allowed and what is not


@pytest.mark.parametrize("bodies", [GOOD, FULL, NULLS], ids=["least", "most", "nulls"])
@pytest.mark.parametrize("path", GOOD)
def test_what_the_contract_allows_is_answered(
    untouched: OpenRouterServer, http: httpx.Client, path: str, bodies: dict[str, Body]
) -> None:
    """With the least, with every field, with null where it may be: a refusal below is for what was changed alone."""
    response = http.post(untouched.url + path, json=bodies[path])
    assert (response.status_code, response.json().get("error")) == (200, None)


BAD_PROVIDERS = [
    [],
    "inventor",
    {"orders": ["inventor"]},
    {"options": {}},
    {"order": "inventor"},
    {"only": [1]},
    {"ignore": [""]},
    {"allow_fallbacks": "true"},
    {"require_parameters": 1},
    {"data_collection": "never"},
    {"zdr": "yes"},
    {"enforce_distillable_text": 0},
    {"quantizations": ["fp7"]},
    {"quantizations": "fp8"},
    {"sort": "cheapest"},
    {"sort": {"by": "cheapest"}},
    {"sort": {"by": "price", "order": "up"}},
    {"sort": {"partition": "provider"}},
    {"max_price": None},
    {"max_price": "1"},
    {"max_price": {"prompt": 0.5}},
    {"max_price": {"prompt": "half"}},
    {"max_price": {"prompt": "-1"}},
    {"max_price": {"tokens": "1"}},
    {"preferred_min_throughput": "20"},
    {"preferred_min_throughput": {"p95": 20}},
    {"preferred_min_throughput": -1},
    {"preferred_max_latency": -1},
    {"preferred_max_latency": {"p99": -1}},
]

BAD_PICTURES = [
    "https://example.org/a.png",
    "http://127.0.0.1/a.png",
    "file:///etc/passwd",
    "data:image/svg+xml;base64,AAAA",
    "data:text/plain;base64,AAAA",
    "data:image/png,AAAA",
    "data:image/png;base64,",
    "data:image/png;base64,A",
    "data:image/png;base64,AA AA",
    None,
]

BAD: list[tuple[str, Body]] = [
    (EMBEDDINGS, {"model": None}),
    (EMBEDDINGS, {"model": ""}),
    (EMBEDDINGS, {"input": None}),
    (EMBEDDINGS, {"input": ""}),
    (EMBEDDINGS, {"input": []}),
    (EMBEDDINGS, {"input": [""]}),
    (EMBEDDINGS, {"input": ["a", ""]}),
    (EMBEDDINGS, {"input": ["a", None]}),
    (EMBEDDINGS, {"input": ["a", {"content": [TEXT_PART]}]}),
    (EMBEDDINGS, {"input": {"content": [TEXT_PART]}}),
    (EMBEDDINGS, {"input": [{"content": []}]}),
    (EMBEDDINGS, {"input": [{"content": "a fee"}]}),
    (EMBEDDINGS, {"input": [{"content": [TEXT_PART], "title": "t"}]}),
    (EMBEDDINGS, {"input": [{"content": [{"type": "text", "text": ""}]}]}),
    (EMBEDDINGS, {"input": [{"content": [{"type": "text"}]}]}),
    (EMBEDDINGS, {"input": [{"content": [{"text": "a fee"}]}]}),
    (EMBEDDINGS, {"input": [{"content": [{"type": "image", "image": PICTURE}]}]}),
    (EMBEDDINGS, {"input": [{"content": [{"type": "image_url", "image_url": PICTURE}]}]}),
    (EMBEDDINGS, {"input": [{"content": [{**IMAGE_PART, "text": "x"}]}]}),
    (EMBEDDINGS, {"dimensions": 0}),
    (EMBEDDINGS, {"dimensions": None}),
    (EMBEDDINGS, {"dimensions": 2.0}),
    (EMBEDDINGS, {"dimensions": "256"}),
    (EMBEDDINGS, {"dimensions": True}),
    (EMBEDDINGS, {"encoding_format": None}),
    (EMBEDDINGS, {"encoding_format": "int8"}),
    (EMBEDDINGS, {"input_type": None}),
    (EMBEDDINGS, {"input_type": 1}),
    (EMBEDDINGS, {"user": None}),
    (EMBEDDINGS, {"session_id": "s"}),
    (EMBEDDINGS, {"unknown": 1}),
    (RERANK, {"model": None}),
    (RERANK, {"query": None}),
    (RERANK, {"query": ""}),
    (RERANK, {"query": " "}),
    (RERANK, {"query": ["annual"]}),
    (RERANK, {"documents": None}),
    (RERANK, {"documents": []}),
    (RERANK, {"documents": "a fee"}),
    (RERANK, {"documents": ["a fee", 1]}),
    (RERANK, {"documents": [{}]}),
    (RERANK, {"documents": [{"text": None}]}),
    (RERANK, {"documents": [{"text": "a fee", "title": "t"}]}),
    (RERANK, {"documents": [{"image": {"url": PICTURE}}]}),
    (RERANK, {"top_n": 0}),
    (RERANK, {"top_n": None}),
    (RERANK, {"top_n": 1.5}),
    (RERANK, {"return_documents": True}),
    (RERANK, {"session_id": "s"}),
    (CHAT, {"model": None}),
    (CHAT, {"models": None}),
    (CHAT, {"models": []}),
    (CHAT, {"models": "b"}),
    (CHAT, {"models": ["b", "c", "d", "e"]}),
    (CHAT, {"messages": None}),
    (CHAT, {"messages": []}),
    (CHAT, {"messages": ["hi"]}),
    (CHAT, {"messages": [{"content": "hi"}]}),
    (CHAT, {"messages": [{"role": "user"}]}),
    (CHAT, {"messages": [{"role": "user", "content": ""}]}),
    (CHAT, {"messages": [{"role": "user", "content": None}]}),
    (CHAT, {"messages": [{"role": "user", "content": []}]}),
    (CHAT, {"messages": [{"role": "model", "content": "hi"}]}),
    (CHAT, {"messages": [{"role": ["user"], "content": "hi"}]}),
    (CHAT, {"messages": [{"role": "user", "content": "hi", "id": 1}]}),
    (CHAT, {"messages": [{"role": "user", "content": "hi", "reasoning": "hm"}]}),
    (CHAT, {"messages": [{"role": "system", "content": []}]}),
    (CHAT, {"messages": [{"role": "system", "content": [IMAGE_PART]}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{**IMAGE_PART, "cache_control": {"type": "ephemeral"}}]}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{**TEXT_PART, "cache_control": {"type": "forever"}}]}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{**TEXT_PART, "cache_control": {"ttl": "5m"}}]}]}),
    (
        CHAT,
        {
            "messages": [
                {"role": "user", "content": [{**TEXT_PART, "cache_control": {"type": "ephemeral", "ttl": "2h"}}]}
            ]
        },
    ),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{**IMAGE_PART, "image_url": {"url": PICTURE, "detail": "tiny"}}]}]},
    ),
    (CHAT, {"stream": None}),
    (CHAT, {"stream": "true"}),
    (CHAT, {"stream_options": {"usage": True}}),
    (CHAT, {"usage": None}),
    (CHAT, {"temperature": 2.1}),
    (CHAT, {"temperature": "0"}),
    (CHAT, {"temperature": True}),
    (CHAT, {"top_p": 1.1}),
    (CHAT, {"max_completion_tokens": 0}),
    (CHAT, {"max_completion_tokens": 10.0}),
    (CHAT, {"max_tokens": -1}),
    (CHAT, {"seed": 1.5}),
    (CHAT, {"stop": ["a", "b", "c", "d", "e"]}),
    (CHAT, {"stop": [1]}),
    (CHAT, {"reasoning": None}),
    (CHAT, {"reasoning": "low"}),
    (CHAT, {"reasoning": {"effort": "lots"}}),
    (CHAT, {"reasoning": {"effort": "low", "max_tokens": 100}}),
    (CHAT, {"reasoning": {"max_tokens": 0}}),
    (CHAT, {"reasoning": {"show": True}}),
    (CHAT, {"reasoning_effort": "lots"}),
    (CHAT, {"response_format": None}),
    (CHAT, {"response_format": "json"}),
    (CHAT, {"response_format": {"type": "json"}}),
    (CHAT, {"response_format": {"type": "json_schema"}}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": SCHEMA}}}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "a" * 65, "schema": SCHEMA}}}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "object"}}}),
    (CHAT, {"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": SCHEMA}}}),
    *(
        (
            CHAT,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": {"type": "array", "items": schema}},
                }
            },
        )
        for schema in (SCHEMA | {"additionalProperties": True}, SCHEMA | {"required": []}, {"type": "object"})
    ),
    (CHAT, {"cache_control": None}),
    (CHAT, {"session_id": None}),
    (CHAT, {"session_id": "s" * 257}),
    (CHAT, {"user": 1}),
    (CHAT, {"metadata": {"k": 1}}),
    (CHAT, {"metadata": {"k" * 65: "v"}}),
    (CHAT, {"metadata": {"k": "v" * 513}}),
    (CHAT, {"metadata": {str(number): "v" for number in range(17)}}),
    (CHAT, {"plugins": None}),
    (CHAT, {"plugins": [{"id": "magic"}]}),
    (CHAT, {"plugins": [{"id": "file-parser", "pdf": {"engine": "tesseract"}}]}),
    (CHAT, {"transforms": ["middle-out"]}),
    *((path, {"provider": provider}) for path in GOOD for provider in BAD_PROVIDERS),
    *((RERANK, {"documents": [{"image": uri}]}) for uri in BAD_PICTURES),
    *(
        (EMBEDDINGS, {"input": [{"content": [{"type": "image_url", "image_url": {"url": uri}}]}]})
        for uri in BAD_PICTURES
    ),
    *(
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}]}]})
        for uri in BAD_PICTURES
    ),
]


@pytest.mark.parametrize(("path", "change"), BAD)
def test_what_the_contract_forbids_is_refused(
    untouched: OpenRouterServer, http: httpx.Client, path: str, change: Body
) -> None:
    """One wrong thing in a body that is otherwise answered."""
    response = http.post(untouched.url + path, json={**GOOD[path], **change})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, 400)
    assert error["message"] and error["metadata"]["error_type"] in ("invalid_request", "invalid_prompt")


@pytest.mark.parametrize(("path", "missing"), [(path, name) for path, body in GOOD.items() for name in body])
def test_what_the_contract_requires_is_missed(
    untouched: OpenRouterServer, http: httpx.Client, path: str, missing: str
) -> None:
    """Every field of the least bodies but the chat's model, for which the account's own stands in."""
    body = {name: value for name, value in GOOD[path].items() if name != missing}
    response = http.post(untouched.url + path, json=body)
    assert response.status_code == (200 if (path, missing) == (CHAT, "model") else 400)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"text"', b'{"model": NaN}', b"\xff"])
@pytest.mark.parametrize("path", GOOD)
def test_a_body_must_be_a_json_object(untouched: OpenRouterServer, http: httpx.Client, path: str, data: bytes) -> None:
    """Whatever else it is."""
    response = http.post(untouched.url + path, content=data, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"x-session-id": "s" * 257}])
def test_headers_are_checked(untouched: OpenRouterServer, http: httpx.Client, headers: dict[str, str]) -> None:
    """The body's type and the session's length."""
    data = json.dumps(GOOD[RERANK]).encode()
    response = http.post(untouched.url + RERANK, content=data, headers={"Content-Type": "application/json", **headers})
    assert response.status_code == 400


@pytest.mark.parametrize("authorization", [None, KEY, "Bearer wrong-key", f"Basic {KEY}"])
@pytest.mark.parametrize("path", [*GOOD, "/key"])
def test_the_key_is_checked(untouched: OpenRouterServer, path: str, authorization: str | None) -> None:
    """Where the contract demands one."""
    headers = {"Authorization": authorization} if authorization else {}
    with httpx.Client(headers=headers, trust_env=False) as http:
        response = http.get(untouched.url + path) if path == "/key" else http.post(untouched.url + path, json={})
    assert (response.status_code, response.json()["error"]["code"]) == (401, 401)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/embeddings/"), ("POST", "/models"), ("GET", "/embeddings"), ("GET", "/models/"), ("GET", "/keys")],
)
def test_other_paths_are_not_found(untouched: OpenRouterServer, http: httpx.Client, method: str, path: str) -> None:
    """A slash at the end included."""
    body = {} if method == "POST" else None
    assert http.request(method, untouched.url + path, json=body).status_code == 404


def test_what_was_asked_is_kept(host: OpenRouterServer, http: httpx.Client) -> None:
    """Path, body and headers, also of what is refused."""
    headers = {"x-session-id": "s-1", "HTTP-Referer": "https://example.org", "X-OpenRouter-Title": "Footnote"}
    http.post(host.url + RERANK, json={"query": 1}, headers=headers)
    http.get(host.url + "/models?offset=1&limit=2")
    posted, got = host.requests
    assert (posted.method, posted.path, posted.body) == ("POST", "/api/v1/rerank", {"query": 1})
    assert {posted.headers[name.lower()] for name in headers} == set(headers.values())
    assert (got.method, got.path, got.query) == ("GET", "/api/v1/models", {"offset": "1", "limit": "2"})


# ---------------------------------------------------------------- embeddings and rerank


def embedded(host: OpenRouterServer, http: httpx.Client, **change: Any) -> list[Any]:
    """The vectors in the order of the inputs."""
    reply = http.post(host.url + EMBEDDINGS, json={**GOOD[EMBEDDINGS], **change}).json()
    return [row["embedding"] for row in sorted(reply["data"], key=lambda row: row["index"])]


def test_vectors_can_be_computed_by_hand(host: OpenRouterServer, http: httpx.Client) -> None:
    """Of texts, of a text with a picture and of a picture."""
    assert embedded(host, http, input="banana") == [[6, 3, 1]] == [vector_of("banana")]
    parts = [{"content": [TEXT_PART, IMAGE_PART]}, {"content": [IMAGE_PART]}]
    assert embedded(host, http, input=parts) == [[5, 1, 7], [0, 0, 7]]


def test_vectors_come_shuffled(host: OpenRouterServer, http: httpx.Client) -> None:
    """Every one of them, with its index."""
    reply = http.post(host.url + EMBEDDINGS, json={**GOOD[EMBEDDINGS], "input": ["x"] * 50}).json()
    indexes = [row["index"] for row in reply["data"]]
    assert indexes != list(range(50)) and sorted(indexes) == list(range(50))


def test_dimensions_cut_or_fill_vectors(host: OpenRouterServer, http: httpx.Client) -> None:
    """The length is the one asked for."""
    assert embedded(host, http, dimensions=2) == [[5, 1]]
    assert embedded(host, http, dimensions=5) == [[5, 1, 1, 0, 0]]


def test_base64_is_sent_unless_the_provider_ignores_it(host: OpenRouterServer, http: httpx.Client) -> None:
    """Little-endian float32."""
    assert embedded(host, http, encoding_format="base64", dimensions=1) == [base64.b64encode(b"\0\0\xa0\x40").decode()]
    host.float_vectors = True
    assert embedded(host, http, encoding_format="base64", dimensions=1) == [[5]]


def test_batches_are_limited(host: OpenRouterServer, http: httpx.Client) -> None:
    """As told."""
    host.max_inputs = host.max_documents = 2
    for path, name in ((EMBEDDINGS, "input"), (RERANK, "documents")):
        statuses = [
            http.post(host.url + path, json={**GOOD[path], name: ["x"] * count}).status_code for count in (2, 3)
        ]
        assert statuses == [200, 400]


def test_results_are_sorted_cut_and_echoed(host: OpenRouterServer, http: httpx.Client) -> None:
    """By the share of the question's words; a picture has the words that its bytes spell."""
    documents = ["none", {"image": data_uri(b"the annual fee")}, "a fee"]
    body = {**GOOD[RERANK], "documents": documents, "top_n": 2}
    reply = http.post(host.url + RERANK, json=body).json()
    assert reply["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": documents[1]},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "a fee"}},
    ]
    host.echoes_documents = False
    assert all("document" not in result for result in http.post(host.url + RERANK, json=body).json()["results"])


@pytest.mark.parametrize(("count", "units"), [(1, 1), (100, 1), (101, 2)])
def test_search_units_are_counted(host: OpenRouterServer, http: httpx.Client, count: int, units: int) -> None:
    """One for each hundred documents, at 0.002 US dollars."""
    usage = http.post(host.url + RERANK, json={**GOOD[RERANK], "documents": ["x"] * count}).json()["usage"]
    assert (usage["search_units"], usage["cost"]) == (units, units * 0.002)


# ---------------------------------------------------------------- chat


def chatted(host: OpenRouterServer, http: httpx.Client, **change: Any) -> httpx.Response:
    return http.post(host.url + CHAT, json={**GOOD[CHAT], **change})


def test_a_stream_has_its_parts_in_order(host: OpenRouterServer, http: httpx.Client) -> None:
    """A comment, thoughts, text, why it ended, the usage without a choice, the end."""
    host.reasoning_pieces = ["hm"]
    response = chatted(host, http, stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-generation-id"] == "gen-1"
    comment, *chunks, usage, done = events_of(response)
    assert (comment, done) == (": OPENROUTER PROCESSING", "[DONE]")
    deltas = [one["choices"][0]["delta"] for one in chunks]
    assert [delta["content"] for delta in deltas] == ["", "The fee is ", "12 euros [1].", ""]
    assert [delta.get("reasoning") for delta in deltas] == ["hm", None, None, None]
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None, None, None, "stop"]
    assert {(one["model"], one["provider"]) for one in (*chunks, usage)} == {("any/model", "Inventor")}
    assert usage["choices"] == [] and usage["usage"] == host.usage


def test_a_whole_answer_is_sent_where_no_stream_is_asked_for(host: OpenRouterServer, http: httpx.Client) -> None:
    """With the same text, thoughts and usage."""
    host.reasoning_pieces = ["h", "m"]
    response = chatted(host, http)
    reply = response.json()
    assert response.headers["x-generation-id"] == reply["id"]
    message = reply["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("The fee is 12 euros [1].", "hm")
    assert reply["usage"] == host.usage


@pytest.mark.parametrize(
    "change",
    [
        {"reasoning": {"effort": "none"}},
        {"reasoning": {"exclude": True}},
        {"reasoning": {"enabled": False}},
        {"reasoning_effort": "none"},
    ],
)
def test_thoughts_can_be_declined(host: OpenRouterServer, http: httpx.Client, change: Body) -> None:
    """In each of the ways there are."""
    host.reasoning_pieces = ["hm"]
    assert chatted(host, http, **change).json()["choices"][0]["message"]["reasoning"] is None


def test_a_structured_answer_is_the_one_prepared(host: OpenRouterServer, http: httpx.Client) -> None:
    """One for all, or one for each schema's name; plain text is not touched."""
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "split", "schema": {}}}}
    host.json_reply = '{"all": 1}'
    assert chatted(host, http, **asked).json()["choices"][0]["message"]["content"] == '{"all": 1}'
    host.json_reply = {"split": "[]", "check": "{}"}
    assert chatted(host, http, **asked).json()["choices"][0]["message"]["content"] == "[]"
    assert chatted(host, http).json()["choices"][0]["message"]["content"].startswith("The fee")
    host.json_reply = {"check": "{}"}
    assert chatted(host, http, **asked).status_code == 400


def test_the_first_available_model_answers(host: OpenRouterServer, http: httpx.Client) -> None:
    """And is named; without any, there is none."""
    host.unavailable = {"a", "b"}
    assert chatted(host, http, model="a", models=["b", "c"]).json()["model"] == "c"
    refused = chatted(host, http, model="a", models=["b"])
    assert (refused.status_code, refused.json()["error"]["metadata"]["error_type"]) == (404, "not_found")
    assert http.post(host.url + RERANK, json={**GOOD[RERANK], "model": "a"}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("~maker/chat-latest", "maker/chat-1"), ("~writer/latest", "writer/large-2026"), ("a/latest", "a/latest")],
)
def test_an_alias_answers_by_its_real_name(
    host: OpenRouterServer, http: httpx.Client, asked: str, answered: str
) -> None:
    """A listed alias by its target; a name without the tilde is none."""
    assert chatted(host, http, model=asked).json()["model"] == answered


# ---------------------------------------------------------------- models and key


def ids(reply: Any) -> list[str]:
    return [model["id"] for model in reply["data"]]


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", {"text"}),
        ("?output_modalities=rerank", {"rerank"}),
        ("?output_modalities=rerank,embeddings", {"rerank", "embeddings"}),
        ("?output_modalities=all", {"text", "rerank", "embeddings"}),
        ("?output_modalities=video", set()),
    ],
)
def test_models_are_listed_by_what_they_give(
    untouched: OpenRouterServer, http: httpx.Client, query: str, kinds: set[str]
) -> None:
    """Text where nothing is asked for."""
    reply = http.get(untouched.url + "/models" + query).json()
    assert {model["architecture"]["output_modalities"][0] for model in reply["data"]} == kinds
    assert (reply["total_count"], reply["links"]) == (len(reply["data"]), {"next": None})


def test_models_come_in_pages(untouched: OpenRouterServer, http: httpx.Client) -> None:
    """Each with where the next one is; together they are all."""
    found, following = [], "/api/v1/models?output_modalities=all&limit=3"
    while following:
        reply = http.get(untouched.url.removesuffix("/api/v1") + following).json()
        assert 0 < len(reply["data"]) <= 3 and reply["total_count"] == len(MODELS)
        found += ids(reply)
        following = reply["links"]["next"]
    assert found == [model["id"] for model in MODELS]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "offset=-1", "offset=", "page=2", "output_modality=all"]
)
def test_a_wrong_page_is_refused(untouched: OpenRouterServer, http: httpx.Client, query: str) -> None:
    """And so is a misspelt parameter."""
    assert http.get(f"{untouched.url}/models?{query}").status_code == 400


def test_embedding_models_have_their_own_list(untouched: OpenRouterServer, http: httpx.Client) -> None:
    """In pages as well."""
    reply = http.get(untouched.url + "/embeddings/models?limit=1").json()
    assert (ids(reply), reply["total_count"]) == (["maker/embed-1"], 2)
    assert reply["links"]["next"] == "/api/v1/embeddings/models?limit=1&offset=1"


def test_a_model_tells_its_providers(untouched: OpenRouterServer, http: httpx.Client) -> None:
    """With their prices as strings; an unknown model is not found."""
    reply = http.get(untouched.url + "/models/maker/rerank-1/endpoints").json()["data"]
    assert [endpoint["provider_name"] for endpoint in reply["endpoints"]] == ["Inventor", "Second"]
    assert reply["endpoints"][0]["pricing"]["request"] == "0.002"
    assert http.get(untouched.url + "/models/maker/none/endpoints").status_code == 404


def test_a_listed_model_does_only_what_the_list_says(untouched: OpenRouterServer, http: httpx.Client) -> None:
    """At its own endpoint, pictures only where it sees, and no longer texts than it takes."""

    def status(path: str, **change: Any) -> int:
        return http.post(untouched.url + path, json={**GOOD[path], **change}).status_code

    pictures = {
        EMBEDDINGS: {"input": [{"content": [IMAGE_PART]}]},
        RERANK: {"documents": ["a fee", {"image": PICTURE}]},
        CHAT: {"messages": [{"role": "user", "content": [IMAGE_PART]}]},
    }
    names = {EMBEDDINGS: "embed-1", RERANK: "rerank-1", CHAT: "chat-1"}
    for path in GOOD:
        reached = [status(path, model=f"maker/{name}") for name in names.values()]
        assert reached == [200 if other == path else 404 for other in names]
        assert status(path, model=f"maker/{names[path]}", **pictures[path]) == 404
        assert status(path, model=f"maker/seeing-{names[path]}", **pictures[path]) == 200
    assert [status(EMBEDDINGS, model="maker/embed-1", input="x" * length) for length in (2048, 2049)] == [200, 400]


def test_the_key_tells_what_is_left(host: OpenRouterServer, http: httpx.Client) -> None:
    """Without a limit as well."""
    assert http.get(host.url + "/key").json()["data"]["limit_remaining"] == 7.5
    host.key_info = {**host.key_info, "limit": None}
    assert http.get(host.url + "/key").json()["data"]["limit"] is None


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("status", ERROR_TYPES)
def test_every_status_has_the_body_of_the_contract(host: OpenRouterServer, http: httpx.Client, status: int) -> None:
    """The code equals the status."""
    host.always = FAULTS[str(status)]
    response = chatted(host, http)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert error["metadata"]["error_type"] == ERROR_TYPES[status]


def test_the_newer_shape_has_no_code(host: OpenRouterServer, http: httpx.Client) -> None:
    """The status and what is wrong stand elsewhere."""
    host.always = unavailable(503, "capacity_exhausted", "Busy", retryable=True, retry_after=3)
    error = chatted(host, http).json()["error"]
    assert "code" not in error and error["http_status"] == 503
    assert error["availability"] == {"code": "capacity_exhausted", "retryable": True, "retry_after": 3}


def test_a_limit_tells_how_long_to_wait(host: OpenRouterServer, http: httpx.Client) -> None:
    """In seconds, as a date, or not at all; only the platform's tells its figures."""
    host.replies.extend([limits(2), limits(3600, as_date=True), limits(platform=False)])
    seconds, date, nothing = (chatted(host, http).headers for _ in range(3))
    assert seconds["retry-after"] == "2" and seconds["x-ratelimit-remaining"] == "0"
    left = email.utils.parsedate_to_datetime(date["retry-after"]).timestamp() - time.time()
    assert math.isclose(left, 3600, abs_tol=60)
    assert not {"retry-after", "x-ratelimit-limit"} & nothing.keys()


def test_an_error_may_come_with_200(host: OpenRouterServer, http: httpx.Client) -> None:
    """Alone, or in a choice beside the text so far."""
    host.replies.extend([FAULTS["error within"], FAULTS["error in the choice"]])
    alone, beside = (chatted(host, http) for _ in range(2))
    assert (alone.status_code, alone.json()["error"]["code"]) == (200, 502)
    choice = beside.json()["choices"][0]
    assert (beside.status_code, choice["error"]["code"], choice["finish_reason"]) == (200, 502, "error")
    assert choice["message"]["content"] == "The fee"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("html with 200", "<html>"),
        ("truncated JSON", '{"object": "list", "data": [{"obj'),
        ("no object", "[]"),
        ("empty object", "{}"),
        ("empty body", ""),
    ],
)
def test_nonsense_may_come_with_200(host: OpenRouterServer, http: httpx.Client, name: str, start: str) -> None:
    """A page, half of an object, nothing."""
    host.always = FAULTS[name]
    response = chatted(host, http)
    assert response.status_code == 200
    assert response.text.startswith(start) and (len(response.text) == len(start) or name == "html with 200")


@pytest.mark.parametrize("name", ["reset", "broken off", "cut stream"])
def test_a_connection_may_break(host: OpenRouterServer, http: httpx.Client, name: str) -> None:
    """Before, amid a reply or amid a stream."""
    host.always = FAULTS[name]
    with pytest.raises(httpx.NetworkError if name == "reset" else httpx.RemoteProtocolError):
        chatted(host, http, stream=True)


@pytest.mark.parametrize("reply", [stalls, streams(event(chunk("The fee")), end="stall")])
def test_a_client_that_leaves_is_noticed(host: OpenRouterServer, http: httpx.Client, reply: Any) -> None:
    """With the moment at which its connection was closed."""
    host.always = reply
    before = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        http.post(host.url + CHAT, json=GOOD[CHAT], timeout=0.05)
    assert host.disconnected.wait(5)
    assert before < host.disconnected_at[0] <= time.monotonic()


def test_a_stream_may_end_in_an_error(host: OpenRouterServer, http: httpx.Client) -> None:
    """The last event carries it, and no end is marked."""
    host.always = streams(event(chunk("The fee")), event(error_chunk("server_error", provider_code="x")))
    last = events_of(chatted(host, http, stream=True))[-1]
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["code"] == "server_error"
    assert last["error"]["metadata"] == {"error_type": "provider_unavailable", "provider_code": "x"}


def test_replies_are_used_up_before_the_regular_ones(host: OpenRouterServer, http: httpx.Client) -> None:
    """One for each request; `always` stays, and may go on as usual."""
    host.replies.append(FAULTS["503"])
    host.always = lambda handler: (regular if handler.body["model"] == "any/model" else resets)(handler)
    assert [chatted(host, http).status_code for _ in range(3)] == [503, 200, 200]
