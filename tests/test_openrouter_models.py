"""rag.openrouter.models: lists are read leniently, page by page, from any server."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import ModelInfo, Price
from rag.errors import BadKey, BadReply, ModelUnavailable, ProviderError
from rag.interfaces import Errand
from rag.openrouter import models
from rag.openrouter.client import Client
from rag.openrouter.models import KeyInfo, Provider
from tests.openrouter_catalogue import MODELS
from tests.openrouter_server import KEY, OpenRouterServer

CHAT = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini-2025-08-07",
    "name": "GPT-5 Mini",
    "context_length": 400_000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {"prompt": "0.00000025", "completion": "0.000002", "input_cache_read": "0.000000025", "request": "0"},
    "supported_parameters": ["temperature", "reasoning"],
}


@dataclass
class FakeClient:
    """Answers each path and query with what was laid down for it, else as a server that does not know the path."""

    replies: Mapping[str, Any]
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    host: str = "models.example"

    def get(self, path: str, query: Mapping[str, str], purpose: Any, errand: Errand, read: Callable[[Any], Any]) -> Any:
        self.asked.append((path, query))
        reply = self.replies.get(path + "?" + "&".join(f"{k}={v}" for k, v in query.items()), self.replies.get(path))
        if reply is None:
            raise ModelUnavailable("not here", status=404)
        if isinstance(reply, ProviderError):
            raise reply
        return read(reply)


def offered(kind: Any, replies: Mapping[str, Any]) -> tuple[ModelInfo, ...]:
    return models.offered(FakeClient(replies), kind, Errand())  # type: ignore[arg-type]


def only(kind: Any, **row: Any) -> ModelInfo:
    """What is read from a list of this one row."""
    (model,) = offered(kind, {"/models": {"data": [row]}})
    return model


# ---------------------------------------------------------------- one model


def test_a_full_row_is_read() -> None:
    """Prices are text per token; a model that takes pictures says so."""
    assert only("chat", **CHAT) == ModelInfo(
        id="openai/gpt-5-mini",
        name="GPT-5 Mini",
        kind="chat",
        context=400_000,
        price=Price(prompt=0.25e-6, completion=2e-6, cached=0.025e-6, request=0.0),
        takes_images=True,
        parameters=("temperature", "reasoning"),
    )


def test_a_row_of_a_compatible_server_is_no_more_than_a_name() -> None:
    """vLLM, llama.cpp, Ollama and LM Studio list little else; everything else is unknown."""
    assert only("rerank", id="qwen3:8b", object="model") == ModelInfo(
        "qwen3:8b", "qwen3:8b", "rerank", None, Price(), None, ()
    )


def test_compatible_servers_tell_the_context_in_their_own_way() -> None:
    """vLLM and llama.cpp."""
    assert only("chat", id="a", max_model_len=4096).context == 4096
    assert only("chat", id="a", meta={"n_ctx": 512}).context == 512


@pytest.mark.parametrize("nonsense", [None, "", [], {}, 7.5, -7, True, "x", [None], {"prompt": None}])
def test_nonsense_in_any_member_is_unknown(nonsense: Any) -> None:
    """No member but the name can spoil a row."""
    row = dict.fromkeys((*CHAT, "top_provider", "alias_target", "max_model_len"), nonsense) | {"id": "a/b"}
    model = only("chat", **row)
    assert (model.id, model.context, model.price, model.takes_images) == ("a/b", None, Price(), None)


@pytest.mark.parametrize("name", [None, "", 3, "two words", "line\nend", "x" * 201])
def test_a_row_without_a_usable_name_is_left_out(name: Any) -> None:
    """What could not be asked for is not offered."""
    assert [model.id for model in offered("chat", {"/models": {"data": [{"id": name}, None, CHAT]}})] == [CHAT["id"]]


@pytest.mark.parametrize("price", ["-1", "-0.000001", "nan", "inf", "1e999", "free", None, True, [0.1]])
def test_a_price_that_is_none_is_unknown(price: Any) -> None:
    """Routers have a price of -1: it varies."""
    assert only("chat", id="a/router", pricing={"prompt": price}).price.prompt is None


@pytest.mark.parametrize(("price", "read"), [("0", 0.0), (0, 0.0), (0.000001, 1e-6), ("0.000001", 1e-6)])
def test_a_price_may_be_a_number_or_text_and_nothing(price: Any, read: float) -> None:
    """Free is a price."""
    assert only("chat", id="a/b", pricing={"prompt": price}).price.prompt == read


def test_the_price_of_a_reranker_is_per_search() -> None:
    """It stands in `request`."""
    assert only("rerank", id="a/b", pricing={"prompt": "0", "request": "0.002"}).price == Price(
        prompt=0.0, request=0.002
    )


def test_the_price_of_a_search_may_stand_in_the_place_of_a_token() -> None:
    """Two dollars for a thousand searches is no price of a token; two for a million tokens is one."""
    assert only("rerank", id="a/b", pricing={"prompt": "0.002"}).price == Price(request=0.002)
    assert only("rerank", id="a/b", pricing={"prompt": "0.000002"}).price == Price(prompt=2e-6)
    assert only("chat", id="a/b", pricing={"prompt": "0.002"}).price == Price(prompt=0.002)


def test_the_context_is_told_in_three_ways() -> None:
    """By the model, by its best provider, by vLLM."""
    assert only("chat", id="a/b", context_length=8192, top_provider={"context_length": 4096}).context == 8192
    assert only("chat", id="a/b", context_length=None, top_provider={"context_length": 4096}).context == 4096
    assert only("chat", id="a/b", max_model_len=2048).context == 2048


def test_pictures_are_read_from_the_older_member_too() -> None:
    """Some rows have only "text+image->text"."""
    assert only("chat", id="a/b", architecture={"modality": "text+image->text"}).takes_images
    assert not only("chat", id="a/b", architecture={"modality": "text->text+image"}).takes_images


def test_names_are_one_line_without_marks_that_mislead() -> None:
    """A mark that turns the direction of text could make one name look like another."""
    assert only("chat", id="a/b", name="Good\u202eevil\n\x00 one").name == "Good evil one"


def test_an_alias_names_what_it_stands_for() -> None:
    """A "~…-latest" row says which model answers now."""
    alias = only("chat", id="~openai/gpt-mini-latest", alias_target={"slug": "openai/gpt-5-mini", "name": "GPT-5 Mini"})
    assert alias.alias_of == "openai/gpt-5-mini"


# ---------------------------------------------------------------- lists


def test_each_kind_has_its_own_list() -> None:
    """Embedding models have a path, the others a filter."""
    client = FakeClient({"/embeddings/models": {"data": [{"id": "a/b"}]}, "/models": {"data": []}})
    for kind in ("embeddings", "rerank", "chat"):
        models.offered(client, kind, Errand())  # type: ignore[arg-type]
    assert client.asked == [
        ("/embeddings/models", {}),
        ("/models", {"output_modalities": "rerank"}),
        ("/models", {"output_modalities": "text"}),
    ]


def test_models_for_something_else_are_left_out_where_the_server_tells() -> None:
    """A server may ignore the filter."""
    rows = [
        {"id": "a/writer", "architecture": {"output_modalities": ["text"]}},
        {"id": "a/ranker", "architecture": {"output_modalities": ["rerank"]}},
        {"id": "a/unknown"},
    ]
    assert [model.id for model in offered("rerank", {"/models": {"data": rows}})] == ["a/ranker", "a/unknown"]


@pytest.mark.parametrize("answer", [None, BadReply("Unexpected endpoint", status=200), {"data": []}, {"oops": 1}])
def test_a_server_without_a_list_of_embedding_models_offers_them_all(answer: Any) -> None:
    """404, an error in a 200, or nothing: the general list is used."""
    replies = {"/embeddings/models": answer, "/models": {"data": [{"id": "nomic"}]}}
    assert [model.id for model in offered("embeddings", replies)] == ["nomic"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_any_list_is_no_error(status: int) -> None:
    """There is nothing to choose from, and names can still be typed."""
    assert offered("chat", {"/models": ModelUnavailable("no", status=status)}) == ()


@pytest.mark.parametrize("error", [BadKey("no", status=401), BadReply("HTML", status=200)])
def test_other_failures_are_failures(error: ProviderError) -> None:
    """A refused key or a proxy's page must be told."""
    with pytest.raises(type(error)):
        offered("chat", {"/models": error})


def test_all_pages_are_read() -> None:
    """Only the query of the next address is used: the path stays, and the key goes to no other host."""
    client = FakeClient(
        {
            "/models?output_modalities=text": {
                "data": [{"id": "a/1"}, {"id": "a/2"}],
                "links": {"next": "https://evil.example/steal?offset=2&limit=2"},
            },
            "/models?output_modalities=text&offset=2&limit=2": {
                "data": [{"id": "a/2"}, {"id": "a/3"}],
                "links": {"next": None},
            },
        }
    )
    found = models.offered(client, "chat", Errand())  # type: ignore[arg-type]
    assert [model.id for model in found] == ["a/1", "a/2", "a/3"]
    assert [path for path, _ in client.asked] == ["/models", "/models"]


@pytest.mark.parametrize("following", ["/models", "//[", 7, ""])
def test_pages_that_lead_nowhere_end(following: Any) -> None:
    """A next page that is the same, or no address."""
    assert len(offered("chat", {"/models": {"data": [CHAT], "links": {"next": following}}})) == 1


def test_pages_without_end_are_left() -> None:
    """Twenty are enough."""

    class Endless(FakeClient):
        def get(self, path: str, query: Any, purpose: Any, errand: Errand, read: Callable[[Any], Any]) -> Any:
            self.asked.append((path, query))
            number = len(self.asked)
            return read({"data": [{"id": f"a/{number}"}], "links": {"next": f"?offset={number}"}})

    client = Endless({})
    assert len(models.offered(client, "chat", Errand())) == 20  # type: ignore[arg-type]


def test_a_list_has_an_end() -> None:
    """No more than 5,000 models are kept."""
    assert len(offered("chat", {"/models": {"data": [{"id": f"a/{number}"} for number in range(5_001)]}})) == 5_000


# ---------------------------------------------------------------- providers


def providers(model_id: str, replies: Mapping[str, Any]) -> tuple[Provider, ...]:
    return models.providers(FakeClient(replies), model_id, Errand())  # type: ignore[arg-type]


def test_providers_have_a_name_a_slug_a_price_and_a_context() -> None:
    """The slug is what routing names them by."""
    rows = [
        {"provider_name": "Azure", "tag": "azure", "context_length": 8192, "pricing": {"prompt": "0.000001"}},
        {"provider_name": "DeepInfra", "tag": "deepinfra/fp8", "pricing": None},
        {"tag": "nameless"},
    ]
    found = providers("openai/gpt-4", {"/models/openai/gpt-4/endpoints": {"data": {"endpoints": rows}}})
    assert found == (
        Provider("Azure", "azure", Price(prompt=1e-6), 8192),
        Provider("DeepInfra", "deepinfra/fp8", Price(), None),
    )


@pytest.mark.parametrize("model_id", ["qwen3", "a/b/c", "../key", "a/..", "/b", "a/"])
def test_names_without_an_author_have_no_providers(model_id: str) -> None:
    """Nothing is asked that would lead elsewhere on the server."""
    client = FakeClient({})
    assert models.providers(client, model_id, Errand()) == ()  # type: ignore[arg-type]
    assert client.asked == []


def test_signs_in_a_name_are_kept_within_its_segment() -> None:
    """A name may hold what an address would read as something else."""
    client = FakeClient({})
    assert models.providers(client, "~a/b:free?x#y", Errand()) == ()  # type: ignore[arg-type]
    assert client.asked == [("/models/~a/b:free%3Fx%23y/endpoints", {})]


# ---------------------------------------------------------------- keys


def key(data: Any) -> KeyInfo:
    return models.key(FakeClient({"/key": {"data": data}}), Errand())  # type: ignore[arg-type]


def test_a_key_tells_what_is_left() -> None:
    """Amounts are US dollars."""
    data = {
        "label": "Team",
        "limit": 100,
        "limit_remaining": 74.5,
        "limit_reset": "monthly",
        "usage": 25.5,
        "usage_monthly": 5,
        "is_free_tier": False,
        "surprise": {},
    }
    assert key(data) == KeyInfo("Team", 100.0, 74.5, "monthly", 25.5, 5.0, False)


def test_a_key_without_a_limit_has_none() -> None:
    """Null and missing are the same."""
    assert key({"label": "Team", "limit": None}) == KeyInfo("Team", None, None, None, None, None, None)


@pytest.mark.parametrize("label", ["sk-or-v1-au7...890", "abc...xyz", "abc…xyz", "****890", None, 7])
def test_a_label_made_of_the_key_is_not_kept(label: Any) -> None:
    """A key that nobody named is labelled with its own characters."""
    assert key({"label": label}).label == ""


@pytest.mark.parametrize("replies", [{}, {"/key": {"data": None}}, {"/key": {"ok": True}}])
def test_a_server_that_says_nothing_about_keys_is_told_apart(replies: Mapping[str, Any]) -> None:
    """The person learns how to find out whether the key works."""
    with pytest.raises(BadReply, match=r"models\.example does not tell about keys"):
        models.key(FakeClient(replies), Errand())  # type: ignore[arg-type]


def test_a_refused_key_is_refused() -> None:
    """The client's sentence reaches the person."""
    with pytest.raises(BadKey):
        models.key(FakeClient({"/key": BadKey("refused", status=401)}), Errand())  # type: ignore[arg-type]


# ---------------------------------------------------------------- over sockets, against the strict server


@pytest.fixture
def client(host: OpenRouterServer) -> Iterator[Client]:
    made = Client(host.url, SecretStr(KEY), backoff=0.0001)
    yield made
    made.close()


def test_a_server_that_keeps_the_contract_is_understood(client: Client) -> None:
    """Every kind has its models, and nothing that was asked is refused."""
    listed = {kind: models.offered(client, kind, Errand()) for kind in ("embeddings", "rerank", "chat")}
    assert sum(map(len, listed.values())) == len(MODELS)
    assert {model.id for model in listed["rerank"]} == {"maker/rerank-1", "maker/seeing-rerank-1"}
    (ranker,) = (model for model in listed["rerank"] if model.id == "maker/rerank-1")
    assert (ranker.price.request, ranker.context, ranker.takes_images) == (0.002, 4_096, False)
    (alias,) = (model for model in listed["chat"] if model.alias_of)
    assert (alias.id, alias.alias_of) == ("~maker/chat-latest", "maker/chat-1")


def test_providers_of_a_server_that_keeps_the_contract(client: Client) -> None:
    """With their prices, under the names that routing takes."""
    assert [one.slug for one in models.providers(client, "maker/chat-1", Errand())] == ["inventor/fp8", "second"]
    assert models.providers(client, "maker/unknown", Errand()) == ()


def test_the_key_of_a_server_that_keeps_the_contract(client: Client, host: OpenRouterServer) -> None:
    """Its label is made of the key, and so is not kept; a wrong key is refused."""
    info = models.key(client, Errand())
    assert (info.label, info.limit, info.limit_remaining, info.usage_monthly) == ("", 10.0, 7.5, 2.5)
    host.key = "another"
    with pytest.raises(BadKey):
        models.key(client, Errand())
