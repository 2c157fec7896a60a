"""What was read from a file comes back exactly, and only published chunks reach questions."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shelf import Shelf, split

from rag.domain import Page, Parsed
from rag.errors import NotFound
from rag.vectors import text_hash


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_pages_blocks_and_chunks_come_back_as_they_were_saved(shelf: Shelf) -> None:
    """Saving loses nothing."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    parsed, chunks = split(version, ["Ä “quoted” line\nand 漢字 \U0001f600", "Second"])
    shelf.passages.save(version.id, parsed, chunks, [b"1" * 16, b"2" * 16])
    assert shelf.passages.page(version.id, 1) == parsed.pages[0]
    assert shelf.passages.blocks(version.id, 1) == parsed.blocks
    assert shelf.passages.of_version(version.id) == tuple(chunks)
    assert shelf.library.version(version.id).chunks == 2


def test_a_page_without_positions_and_blocks(shelf: Shelf) -> None:
    """A page may have no runs and no blocks."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    page = Page(1, "1", "", None)
    shelf.passages.save(version.id, Parsed((page,), (), True, ()), [], [])
    assert shelf.passages.page(version.id, 1) == page
    assert shelf.passages.blocks(version.id, 1) == ()


def test_saving_again_replaces(shelf: Shelf) -> None:
    """A second try leaves nothing of the first."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.save(version, ["One", "Two", "Three"])
    shelf.save(version, ["Four"])
    assert [chunk.text for chunk in shelf.passages.of_version(version.id)] == ["Four"]


def test_chunks_are_given_in_the_order_asked_for(shelf: Shelf) -> None:
    """With the document's name, and without those that do not exist."""
    document = shelf.publish("a.pdf", "One", "Two")
    assert document.current
    first, second = shelf.passages.of_version(document.current.id)
    found = shelf.passages.chunks([second.id, "unknown", first.id])
    assert list(found.items()) == [(second.id, (second, "a.pdf")), (first.id, (first, "a.pdf"))]


def test_more_chunks_than_one_statement_can_bind(shelf: Shelf) -> None:
    """A thousand chunks are found at once."""
    shelf.publish("a.pdf", *(f"Text {number}" for number in range(1001)))
    ids = list(shelf.passages.published_ids(shelf.collection.id))
    assert len(shelf.passages.chunks(ids)) == 1001


def test_what_is_not_published_is_not_seen(shelf: Shelf) -> None:
    """A half-made version is invisible to questions."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.save(version, ["One"])
    assert shelf.passages.chunks([f"{version.id}x0"]) == {}
    assert shelf.passages.published(shelf.collection.id) == ()


def test_a_replaced_version_is_not_seen_but_its_pages_are(shelf: Shelf) -> None:
    """Questions see the new version alone; former answers can still show the old page."""
    old = shelf.publish("a.pdf", "Old").newest
    new = shelf.publish("a.pdf", "New").newest
    shelf.library.erase(shelf.index)
    assert shelf.passages.chunks([f"{old.id}x0", f"{new.id}x0"]).keys() == {f"{new.id}x0"}
    assert shelf.passages.page(old.id, 1).text == "Old"
    assert shelf.originals.path(old.sha256).exists()


def test_a_removed_document_is_not_seen(shelf: Shelf) -> None:
    """At once: its chunks, its pages and its listing are gone before anything is erased."""
    version = shelf.publish("a.pdf", "One").newest
    shelf.library.remove(version.document_id)
    assert shelf.passages.chunks([f"{version.id}x0"]) == {}
    assert shelf.passages.published_ids(shelf.collection.id) == {}
    with pytest.raises(NotFound):
        shelf.passages.page(version.id, 1)


def test_nothing_is_saved_for_a_removed_document(shelf: Shelf) -> None:
    """Saving fails with a sentence when the document was removed while it was read."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.library.remove(version.document_id)
    with pytest.raises(NotFound, match="removed"):
        shelf.save(version, ["One"])
    assert shelf.passages.of_version(version.id) == ()


def test_a_page_that_is_not_there(shelf: Shelf) -> None:
    """Asking for it is an error that can be shown."""
    version = shelf.publish("a.pdf", "One").newest
    with pytest.raises(NotFound):
        shelf.passages.page(version.id, 2)
    with pytest.raises(NotFound):
        shelf.passages.blocks("unknown", 1)


def test_hashes_can_be_recorded_anew(shelf: Shelf) -> None:
    """Vectors are then found under the new hash."""
    version = shelf.publish("a.pdf", "One").newest
    shelf.passages.set_hashes([f"{version.id}x0"], [text_hash("other")])
    assert shelf.vectors.of_chunks("counting", [f"{version.id}x0"]) == {}


def steps(shelf: Shelf, work: Callable[[], object]) -> int:
    """How many hundreds of SQLite's machine instructions some work takes."""
    counted = []
    with shelf.database.read() as connection:
        sqlite = connection.connection.driver_connection
        assert sqlite is not None
        sqlite.set_progress_handler(lambda: counted.append(1), 100)
    work()
    sqlite.set_progress_handler(None, 0)
    return len(counted)


@pytest.mark.parametrize(
    "ask",
    [
        lambda shelf, ids: shelf.passages.chunks(ids),
        lambda shelf, ids: shelf.vectors.of_chunks("counting", ids),
        lambda shelf, ids: shelf.keywords.scores(shelf.collection.id, "one", ids),
    ],
)
def test_a_question_reads_only_what_it_asks_for(shelf: Shelf, ask: Callable[[Shelf, list[str]], object]) -> None:
    """The work for a hundred chunks does not grow with the collection."""
    version = shelf.publish("a.pdf", *("one " + "word " * number for number in range(100))).newest
    ids = [f"{version.id}x{number}" for number in range(100)]
    alone = steps(shelf, lambda: ask(shelf, ids))
    shelf.publish("b.pdf", *("two " + "word " * (number % 50) for number in range(2000)))
    assert 0 < steps(shelf, lambda: ask(shelf, ids)) <= alone * 1.5
