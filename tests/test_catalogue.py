"""rag.catalogue: lists of models outlive the network and the process."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from rag.catalogue import FRESH, Catalogue
from rag.database import Database, catalogues, now
from rag.domain import ModelInfo, Price

SERVER = "models.example"
WRITER = ModelInfo("a/writer", "Writer", "chat", 8192, Price(prompt=1e-6, completion=2e-6), True, ("temperature",))
ALIAS = ModelInfo("~a/writer-latest", "Writer, latest", "chat", 8192, Price(), True, (), alias_of="a/writer-2")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "catalogue.db")


def age(database: Database, by: timedelta) -> Catalogue:
    """The catalogue as it will be after that time."""
    with database.write() as connection:
        connection.execute(update(catalogues).values(fetched_at=now() - by))
    return Catalogue(database)


def test_nothing_is_known_before_it_was_fetched(database: Database) -> None:
    """An empty list, and nobody pretends that it is new."""
    catalogue = Catalogue(database)
    assert catalogue.models(SERVER, "chat") == ()
    assert catalogue.fetched_at(SERVER, "chat") is None
    assert catalogue.is_stale(SERVER, "chat")


def test_a_list_outlives_the_process(database: Database) -> None:
    """Every figure comes back as it was."""
    before = now()
    Catalogue(database).keep(SERVER, "chat", (WRITER, ALIAS))
    again = Catalogue(database)
    assert again.models(SERVER, "chat") == (WRITER, ALIAS)
    fetched_at = again.fetched_at(SERVER, "chat")
    assert fetched_at is not None
    assert before <= fetched_at <= now()
    assert not again.is_stale(SERVER, "chat")


def test_a_new_list_takes_the_place_of_the_old(database: Database) -> None:
    """At once, and for good."""
    catalogue = Catalogue(database)
    catalogue.keep(SERVER, "chat", (WRITER,))
    catalogue.keep(SERVER, "chat", (ALIAS,))
    assert catalogue.models(SERVER, "chat") == Catalogue(database).models(SERVER, "chat") == (ALIAS,)


def test_servers_and_kinds_are_kept_apart(database: Database) -> None:
    """A model of one is not offered by another."""
    catalogue = Catalogue(database)
    catalogue.keep(SERVER, "chat", (WRITER,))
    assert catalogue.models(SERVER, "rerank") == ()
    assert catalogue.models("other.example", "chat") == ()


def test_an_empty_list_is_an_answer(database: Database) -> None:
    """A server without a list is not asked again all day."""
    catalogue = Catalogue(database)
    catalogue.keep(SERVER, "chat", ())
    assert not catalogue.is_stale(SERVER, "chat")


@pytest.mark.parametrize(("by", "stale"), [(FRESH - timedelta(minutes=1), False), (FRESH, True)])
def test_a_list_is_stale_after_a_day(database: Database, by: timedelta, stale: bool) -> None:
    """It is still readable then."""
    Catalogue(database).keep(SERVER, "chat", (WRITER,))
    older = age(database, by)
    assert older.is_stale(SERVER, "chat") is stale
    assert older.models(SERVER, "chat") == (WRITER,)


def test_models_are_found_by_name_and_by_what_an_alias_stands_for(database: Database) -> None:
    """A reply names the model that answered, which may be listed under its alias alone."""
    catalogue = Catalogue(database)
    catalogue.keep(SERVER, "chat", (WRITER, ALIAS))
    assert catalogue.find(SERVER, "chat", "a/writer") == WRITER
    assert catalogue.find(SERVER, "chat", "~a/writer-latest") == ALIAS
    assert catalogue.find(SERVER, "chat", "a/writer-2") == ALIAS
    assert catalogue.find(SERVER, "chat", "a/nobody") is None


def test_the_model_itself_is_found_before_its_alias(database: Database) -> None:
    """Where both are listed, the model's own price counts."""
    target = ModelInfo("a/writer-2", "Writer 2", "chat", None, Price(prompt=3e-6), False, ())
    catalogue = Catalogue(database)
    catalogue.keep(SERVER, "chat", (target, ALIAS))
    assert catalogue.find(SERVER, "chat", "a/writer-2") == target


def test_what_cannot_be_read_counts_as_never_fetched(database: Database) -> None:
    """A list of another version of the program is fetched anew."""
    Catalogue(database).keep(SERVER, "chat", (WRITER,))
    with database.write() as connection:
        connection.execute(update(catalogues).values(models=[{"id": "a/writer", "shape": "other"}]))
    again = Catalogue(database)
    assert again.models(SERVER, "chat") == ()
    assert again.is_stale(SERVER, "chat")
