"""rag.preferences: what people set is kept, checked, and never stands in the way of starting."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from rag.database import Database, preferences
from rag.errors import InvalidRequest
from rag.openrouter.routing import Routing
from rag.preferences import Preferences, PreferenceStore, validated

SET = Preferences(
    embedding_model="openai/text-embedding-3-large",
    dimensions=1024,
    rerank_model="cohere/rerank-v3.5",
    chat_model="~openai/gpt-mini-latest",
    fallback_models=("a/b", "c/d:free", "e"),
    temperature=None,
    longest_answer=None,
    reasoning="low",
    shows_reasoning=True,
    checks_citations=True,
    splits_questions=True,
    embedding_routing=Routing(only=("azure",)),
    rerank_routing=Routing(zdr=True),
    chat_routing=Routing(order=("deepinfra/fp8", "azure"), sort="price", max_prompt_price=1.5, data_collection="deny"),
    monthly_budget=20.0,
    warns_at=0.5,
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "catalogue.db")


def test_nothing_set_is_as_the_server_was_started(database: Database) -> None:
    """The defaults, and no model of its own."""
    assert PreferenceStore(database).load() == Preferences()


def test_everything_set_comes_back(database: Database) -> None:
    """Every member, in the type it had."""
    PreferenceStore(database).save(SET)
    assert PreferenceStore(database).load() == SET


def test_the_last_that_was_saved_counts(database: Database) -> None:
    """There is one set of preferences for the whole server."""
    store = PreferenceStore(database)
    store.save(SET)
    store.save(Preferences())
    assert store.load() == Preferences()


@pytest.mark.parametrize(
    "stored", [{"temperature": 9}, {"reasoning": "wild"}, [], "x", {"chat_routing": {"order": [1]}}]
)
def test_what_cannot_be_used_any_more_counts_as_not_set(database: Database, stored: Any) -> None:
    """A bad row never keeps the server from starting."""
    store = PreferenceStore(database)
    store.save(SET)
    with database.write() as connection:
        connection.execute(update(preferences).values(value=stored))
    assert store.load() == Preferences()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"chat_model": ""}, "one word"),
    ({"chat_model": "two words"}, "one word"),
    ({"rerank_model": "line\nend"}, "one word"),
    ({"embedding_model": "x" * 201}, "one word"),
    ({"fallback_models": ("a", "b c")}, "one word"),
    ({"fallback_models": ("a", "b", "c", "d")}, "At most 3"),
    ({"dimensions": 0}, "vectors"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"longest_answer": 15}, "longest answer"),
    ({"monthly_budget": 0.0}, "budget"),
    ({"monthly_budget": float("inf")}, "budget"),
    ({"warns_at": 0.0}, "warning"),
    ({"chat_routing": Routing(only=("Azure",))}, "short name"),
    ({"rerank_routing": Routing(order=("azure",), ignore=("azure",))}, "both wanted and ignored"),
    ({"embedding_routing": Routing(max_prompt_price=-1.0)}, "highest price"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_what_cannot_be_sent_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    """Before anything is saved."""
    with pytest.raises(InvalidRequest, match=said):
        validated(replace(SET, **change))


def test_a_refused_change_leaves_what_was_saved(database: Database) -> None:
    """Nothing is half saved."""
    store = PreferenceStore(database)
    store.save(SET)
    with pytest.raises(InvalidRequest):
        store.save(replace(SET, dimensions=0))
    assert store.load() == SET
