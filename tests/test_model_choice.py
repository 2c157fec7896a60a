"""Which models are in use, and how that changes while the server runs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from rag.domain import Image, Turn
from rag.errors import BadKey, InvalidRequest
from rag.interfaces import Errand, Illustrated
from rag.model_choice import ModelChoice
from rag.openrouter.routing import Routing
from rag.settings import Settings, load
from rag.stores import Stores, open_stores
from tests.openrouter_server import KEY, OpenRouterServer, fails, sends, serving


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = open_stores(tmp_path, 1000)
    yield opened
    opened.database.close()


def settings(host: OpenRouterServer, **more: object) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "openrouter_base_url": host.url,
            "openrouter_api_key": SecretStr(KEY),
            "embedding_model": "maker/embed-1",
            "rerank_model": "maker/rerank-1",
            "chat_model": "maker/chat-1",
            **more,
        },
    )


@pytest.fixture
def choice(host: OpenRouterServer, stores: Stores) -> Iterator[ModelChoice]:
    opened = ModelChoice(settings(host), stores.preferences, stores.catalogue)
    yield opened
    opened.close()


def said(choice: ModelChoice) -> str:
    chat = choice.models.chat
    assert chat is not None
    return "".join(getattr(event, "text", "") for event in chat.stream([Turn("user", "Hello")], Errand()))


def test_the_models_of_the_settings_are_in_use_at_first(choice: ModelChoice) -> None:
    """Nobody has chosen others."""
    names = choice.names
    assert (names.embeddings, names.rerank, names.chat) == (
        "openrouter:maker/embed-1",
        "maker/rerank-1",
        "maker/chat-1",
    )
    assert not names.local


def test_another_chat_model_is_asked_from_the_next_question_on(choice: ModelChoice, host: OpenRouterServer) -> None:
    """With its fallbacks, its routing and its limits."""
    choice.change(
        chat_model="maker/thinking-chat-1",
        fallback_models=("maker/chat-1",),
        chat_routing=Routing(data_collection="deny", max_prompt_price=1.5),
        temperature=None,
        longest_answer=500,
        reasoning="low",
    )
    said(choice)
    body = host.requests[-1].body
    assert (body["model"], body["models"]) == ("maker/thinking-chat-1", ["maker/chat-1"])
    assert body["provider"] == {"data_collection": "deny", "max_price": {"prompt": "1.5"}}
    assert (body["max_completion_tokens"], body["reasoning"]) == (500, {"effort": "low"})
    assert "temperature" not in body


def test_preferences_outlive_the_process(choice: ModelChoice, host: OpenRouterServer, stores: Stores) -> None:
    """They are in the data folder."""
    choice.change(rerank_model="maker/seeing-rerank-1", dimensions=2)
    again = ModelChoice(settings(host), stores.preferences, stores.catalogue)
    assert (again.names.rerank, again.names.embeddings) == ("maker/seeing-rerank-1", "openrouter:maker/embed-1@2")
    again.close()


def test_preferences_that_cannot_be_used_change_nothing(choice: ModelChoice) -> None:
    """The former ones stay in force."""
    with pytest.raises(InvalidRequest):
        choice.change(chat_model="two words")
    with pytest.raises(InvalidRequest):
        choice.change(chat_routing=Routing(only=("azure",), ignore=("azure",)))
    assert choice.names.chat == "maker/chat-1"


def test_an_embedder_that_is_replaced_finishes_what_it_began(choice: ModelChoice) -> None:
    """Whoever took it keeps it to the end."""
    former = choice.models.embedder
    assert former is not None
    choice.change(embedding_model="maker/seeing-embed-1")
    assert former.embed(["alpha", "beta"], "document", Errand()).shape == (2, 3)


# ------------------------------------------------------------------ keys


def test_a_typed_key_is_used_at_once_and_never_written(host: OpenRouterServer, stores: Stores, tmp_path: Path) -> None:
    """It turns local stages into the server's, and is gone with the process."""
    choice = ModelChoice(settings(host, openrouter_api_key=None), stores.preferences, stores.catalogue)
    assert (choice.names.local, choice.key_states()["chat"]) == (True, "none")
    choice.type_key(None, f" {KEY} ")
    assert (choice.names.local, choice.key_states()["chat"]) == (False, "typed")
    assert said(choice) == "The fee is 12 euros [1]."
    choice.type_key(None, "")
    assert choice.names.local
    choice.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in stored


def test_a_key_goes_to_the_server_it_is_for_alone(host: OpenRouterServer, stores: Stores) -> None:
    """A stage with an address of its own does not get OpenRouter's key."""
    with serving() as other:
        other.key = None
        choice = ModelChoice(settings(host, chat_base_url=other.url), stores.preferences, stores.catalogue)
        said(choice)
        assert "authorization" not in other.requests[-1].headers
        choice.close()


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\nb"])
def test_a_key_that_cannot_be_sent_is_refused(choice: ModelChoice, key: str) -> None:
    """Without being repeated."""
    with pytest.raises(InvalidRequest) as refused:
        choice.type_key("chat", key)
    assert key not in str(refused.value)
    assert choice.key_states()["chat"] == "environment"


def test_an_address_of_its_own_switches_a_stage_on(host: OpenRouterServer, stores: Stores) -> None:
    """A compatible server needs no key."""
    host.key = None
    choice = ModelChoice(
        settings(host, openrouter_api_key=None, chat_base_url=host.url), stores.preferences, stores.catalogue
    )
    assert (choice.settings.chat, choice.settings.embeddings) == ("openrouter", "local")
    assert said(choice) == "The fee is 12 euros [1]."
    choice.close()


# ------------------------------------------------------------------ what is known about models


def test_lists_are_fetched_and_kept(choice: ModelChoice) -> None:
    """Prices and limits are known from then on, without a network."""
    assert choice.offered("chat") == ()
    assert choice.is_stale("chat")
    choice.refresh("chat")
    assert not choice.is_stale("chat")
    assert "maker/chat-1" in {one.id for one in choice.offered("chat")}
    price = choice.price_of("writing", "maker/chat-1")
    assert price is not None and price.prompt == 0.0000005


def test_a_model_that_replies_under_another_name_costs_what_the_asked_one_does(choice: ModelChoice) -> None:
    """Lists name families, replies dated models."""
    choice.refresh("chat")
    assert choice.price_of("writing", "maker/chat-1-2026-01-15") == choice.price_of("writing", "maker/chat-1")


def test_what_a_model_sees_is_known_from_the_list(choice: ModelChoice) -> None:
    """A refreshed list changes what is sent at once."""
    choice.change(embedding_model="maker/seeing-embed-1")
    assert not choice.names.embedding_takes_images
    choice.refresh("embeddings")
    assert choice.names.embedding_takes_images
    embedder = choice.models.embedder
    assert embedder is not None
    image = Image("image/png", b"\x89PNG\r\n\x1a\n")
    assert embedder.embed([Illustrated("a bridge", image)], "document", Errand()).shape == (1, 3)


def test_models_that_see_are_known_by_name_without_a_list(host: OpenRouterServer, stores: Stores) -> None:
    """The two of OpenRouter's documents work offline from the first start."""
    choice = ModelChoice(
        settings(
            host,
            embedding_model="nvidia/llama-nemotron-embed-vl-1b-v2",
            rerank_model="nvidia/llama-nemotron-rerank-vl-1b-v2",
        ),
        stores.preferences,
        stores.catalogue,
    )
    assert (choice.names.embedding_takes_images, choice.names.rerank_takes_images) == (True, True)
    choice.close()


def test_a_list_that_says_nothing_leaves_the_name_to_tell(host: OpenRouterServer, stores: Stores) -> None:
    """Compatible servers list bare names."""
    host.always = sends({"data": [{"id": "nvidia/llama-nemotron-embed-vl-1b-v2"}]})
    name = "nvidia/llama-nemotron-embed-vl-1b-v2"
    choice = ModelChoice(settings(host, embedding_model=name), stores.preferences, stores.catalogue)
    choice.refresh("embeddings")
    assert choice.info("embeddings", name) is not None
    assert choice.names.embedding_takes_images
    choice.close()


@pytest.mark.parametrize(
    "address", ["https://user:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"]
)
def test_an_address_with_a_secret_in_it_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are shown and kept; the sentence does not repeat it."""
    monkeypatch.setenv("FOOTNOTE_CHAT_BASE_URL", address)
    with pytest.raises(InvalidRequest, match="FOOTNOTE_CHAT_BASE_URL") as refused:
        load()
    assert "secret" not in str(refused.value)


def test_a_key_that_was_replaced_long_ago_is_forgotten(choice: ModelChoice) -> None:
    """Not even the memory keeps every key that was ever typed."""
    former = choice.client("chat")
    for number in range(8):
        choice.type_key(None, f"key-{number}")
        choice.client("chat")
    assert former not in choice._clients.values()
    assert len(choice._clients) <= 6


def test_a_failure_names_the_settings_of_its_own_server(host: OpenRouterServer, stores: Stores) -> None:
    """Not those of another one."""
    host.always = fails(401, "No such key.")
    choice = ModelChoice(
        settings(host, chat_base_url=host.url, chat_api_key=SecretStr("wrong")),
        stores.preferences,
        stores.catalogue,
    )
    with pytest.raises(BadKey, match="FOOTNOTE_CHAT_API_KEY"):
        said(choice)
    with pytest.raises(BadKey, match="OPENROUTER_API_KEY"):
        choice.refresh("embeddings")
    choice.close()


def test_two_people_may_change_two_things(choice: ModelChoice) -> None:
    """Neither change undoes the other."""
    with ThreadPoolExecutor(2) as people:
        list(people.map(lambda members: choice.change(**members), ({"monthly_budget": 5.0}, {"temperature": 1.0})))
    assert (choice.preferences.monthly_budget, choice.preferences.temperature) == (5.0, 1.0)
