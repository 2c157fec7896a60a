"""An embedding is paid for once."""

from pathlib import Path

import numpy
import pytest
from shelf import Shelf, vectors_of

from rag.database import Database
from rag.errors import WrongEmbeddingModel
from rag.vectors import EmbeddingTable, text_hash


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    return EmbeddingTable(Database(tmp_path / "catalogue.db"))


def test_vectors_come_back_exactly(table: EmbeddingTable) -> None:
    """Bit for bit, by model and text."""
    rows = numpy.random.default_rng(1).standard_normal((2, 5)).astype(numpy.float32)
    keys = [text_hash("one"), text_hash("two")]
    table.put("m", keys, rows)
    found = table.get("m", keys)
    assert numpy.array_equal(found[keys[0]], rows[0])
    assert numpy.array_equal(found[keys[1]], rows[1])
    assert found[keys[0]].dtype == numpy.float32


def test_models_do_not_share_vectors(table: EmbeddingTable) -> None:
    """The same text has another vector, of another length, under another model."""
    key = text_hash("text")
    table.put("small", [key], numpy.ones((1, 2), numpy.float32))
    table.put("large", [key], numpy.ones((1, 3), numpy.float32))
    assert table.get("small", [key])[key].shape == (2,)
    assert table.get("large", [key])[key].shape == (3,)
    assert table.get("other", [key]) == {}


def test_the_first_vector_stays(table: EmbeddingTable) -> None:
    """Putting a text again changes nothing, so that a rebuilt index is the same index."""
    key = text_hash("text")
    table.put("m", [key], numpy.array([[1, 0]], numpy.float32))
    table.put("m", [key], numpy.array([[0, 1]], numpy.float32))
    assert table.get("m", [key])[key].tolist() == [1, 0]


def test_another_dimension_is_refused(table: EmbeddingTable) -> None:
    """A model that changed under its name is noticed, and nothing of it is kept."""
    table.put("m", [text_hash("one")], numpy.ones((1, 2), numpy.float32))
    with pytest.raises(WrongEmbeddingModel, match="3 dimensions, but it had 2"):
        table.put("m", [text_hash("two")], numpy.ones((1, 3), numpy.float32))
    assert table.get("m", [text_hash("two")]) == {}


def test_thousands_at_once(table: EmbeddingTable) -> None:
    """More than one statement can bind, with repeats."""
    keys = [text_hash(str(number)) for number in range(2500)]
    table.put("m", keys, numpy.arange(2500, dtype=numpy.float32).reshape(-1, 1))
    found = table.get("m", keys + keys)
    assert [found[key].item() for key in keys] == list(range(2500))


def test_nothing_is_fine(table: EmbeddingTable) -> None:
    """No texts, no vectors, no error."""
    table.put("m", [], numpy.zeros((0, 0), numpy.float32))
    assert table.get("m", []) == {}


def test_vectors_by_chunk(tmp_path: Path) -> None:
    """Chunks find their vectors without their texts."""
    shelf = Shelf(tmp_path)
    version = shelf.publish("a.pdf", "apple", "banana").newest
    found = shelf.vectors.of_chunks("counting", [f"{version.id}x1", "unknown"])
    assert found.keys() == {f"{version.id}x1"}
    assert numpy.array_equal(found[f"{version.id}x1"], vectors_of(["banana"])[0])


def test_texts_have_short_distinct_hashes() -> None:
    """16 bytes, the same for the same text."""
    assert text_hash("a") == text_hash("a") != text_hash("b")
    assert len(text_hash("漢字")) == 16
