"""The vector index finds nearest neighbours, notices another model, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from rag.chroma import ChromaIndex
from rag.errors import FootnoteError, WrongEmbeddingModel
from rag.interfaces import Vectors

INDEX = "c-0123456789abcdef-g1"


def circle(count: int) -> Vectors:
    """Unit vectors around a quarter of a circle: row n is n / count of a right angle away from row 0."""
    angles = numpy.linspace(0, numpy.pi / 2, count, endpoint=False)
    return numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1).astype(numpy.float32)


def names(count: int) -> list[str]:
    return [f"chunk{number}" for number in range(count)]


def segments(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chroma"


@pytest.fixture
def index(folder: Path) -> Iterator[ChromaIndex]:
    opened = ChromaIndex(folder, synced_every=10)
    opened.open()
    yield opened
    opened.close()


def test_neighbours_come_by_cosine_best_first(index: ChromaIndex) -> None:
    """The similarity is the cosine: 1 for the row itself, 0 at a right angle."""
    index.create(INDEX, "m", 2)
    index.upsert(INDEX, ["same", "near", "across"], numpy.array([[1, 0], [0.8, 0.6], [0, 1]], numpy.float32))
    found = index.search(INDEX, numpy.array([1, 0], numpy.float32), 5)
    assert [chunk_id for chunk_id, _ in found] == ["same", "near", "across"]
    assert [similarity for _, similarity in found] == pytest.approx([1, 0.8, 0], abs=1e-6)
    assert len(index.search(INDEX, numpy.array([1, 0], numpy.float32), 2)) == 2


def test_a_zero_row_is_similar_to_nothing(index: ChromaIndex) -> None:
    """A passage without any known word neither fails nor comes near."""
    index.create(INDEX, "m", 2)
    index.upsert(INDEX, ["zero"], numpy.zeros((1, 2), numpy.float32))
    assert index.search(INDEX, numpy.array([1, 0], numpy.float32), 5) == [("zero", pytest.approx(0))]


def test_upserting_again_changes_nothing(index: ChromaIndex) -> None:
    """An interrupted document can be written once more."""
    index.create(INDEX, "m", 2)
    for _ in range(2):
        index.upsert(INDEX, names(30), circle(30))
    assert index.ids(INDEX) == set(names(30))
    assert [chunk_id for chunk_id, _ in index.search(INDEX, circle(30)[7], 1)] == ["chunk7"]


def test_a_large_write_is_split(index: ChromaIndex) -> None:
    """More rows than one batch all arrive."""
    index.create(INDEX, "m", 2)
    index.upsert(INDEX, names(501), circle(501))
    assert len(index.ids(INDEX)) == 501


def test_deleted_rows_are_not_found(index: ChromaIndex) -> None:
    """Deleting what is not there, or from an index that is not there, is fine."""
    index.create(INDEX, "m", 2)
    index.upsert(INDEX, names(5), circle(5))
    index.delete(INDEX, ["chunk0", "unknown"])
    index.delete("c-unknown-g1", ["chunk0"])
    assert index.ids(INDEX) == set(names(5)) - {"chunk0"}
    assert index.search(INDEX, circle(5)[0], 1)[0][0] == "chunk1"


def test_an_empty_index_finds_nothing(index: ChromaIndex) -> None:
    """A new index, and one whose rows were all deleted, can be searched."""
    index.create(INDEX, "m", 2)
    assert index.search(INDEX, circle(1)[0], 5) == []
    index.upsert(INDEX, names(20), circle(20))
    index.delete(INDEX, names(20))
    assert index.search(INDEX, circle(1)[0], 5) == []


def test_what_was_written_is_there_when_it_is_opened_again(folder: Path) -> None:
    """Rows, model and dimension survive."""
    first = ChromaIndex(folder)
    first.open()
    first.create(INDEX, "m", 2)
    first.upsert(INDEX, names(15), circle(15))
    first.close()
    second = ChromaIndex(folder)
    second.open()
    second.create(INDEX, "m", 2)
    assert second.ids(INDEX) == set(names(15))
    assert second.search(INDEX, circle(15)[3], 1)[0][0] == "chunk3"
    second.close()


@pytest.mark.parametrize(("model", "dimension"), [("other", 2), ("m", 3)])
def test_an_index_of_another_model_is_refused(index: ChromaIndex, model: str, dimension: int) -> None:
    """By the model's name and by the dimension, with both in the sentence."""
    index.create(INDEX, "m", 2)
    with pytest.raises(WrongEmbeddingModel, match=rf"m \(2 dimensions\), not with {model} \({dimension}"):
        index.create(INDEX, model, dimension)


def test_vectors_of_another_dimension_are_refused(index: ChromaIndex) -> None:
    """Written or searched."""
    index.create(INDEX, "m", 2)
    with pytest.raises(WrongEmbeddingModel):
        index.upsert(INDEX, ["a"], numpy.ones((1, 3), numpy.float32))
    with pytest.raises(WrongEmbeddingModel):
        index.search(INDEX, numpy.ones(3, numpy.float32), 1)


def test_a_dropped_index_leaves_no_file(index: ChromaIndex, folder: Path) -> None:
    """Its vectors leave the disk; another index keeps its own; it can be made again."""
    for one in (INDEX, "c-other-g1"):
        index.create(one, "m", 2)
        index.upsert(one, names(40), circle(40))
    assert len(segments(folder)) == 2
    index.drop(INDEX)
    index.drop(INDEX)
    assert len(segments(folder)) == 1
    assert index.indexes() == {"c-other-g1"}
    assert index.search(INDEX, circle(40)[0], 1) == []
    assert index.search("c-other-g1", circle(40)[5], 1)[0][0] == "chunk5"
    index.create(INDEX, "another", 3)
    assert index.ids(INDEX) == frozenset()


def test_a_missing_index_is_a_sentence(index: ChromaIndex) -> None:
    """Writing to it fails with our error."""
    with pytest.raises(FootnoteError, match="missing"):
        index.upsert(INDEX, ["a"], circle(1))
    with pytest.raises(FootnoteError, match="missing"):
        index.ids(INDEX)


def test_chroma_errors_are_ours(index: ChromaIndex) -> None:
    """What Chroma refuses or panics about is a sentence."""
    index.create(INDEX, "m", 2)
    with pytest.raises(FootnoteError, match="vector index failed"):
        index.upsert(INDEX, ["twice", "twice"], circle(2))
    with pytest.raises(FootnoteError, match="vector index failed"):
        index.create("no!", "m", 2)


def test_a_closed_index_is_a_sentence(folder: Path) -> None:
    """Before it is opened and after it is closed."""
    index = ChromaIndex(folder)
    with pytest.raises(FootnoteError, match="not open yet"):
        index.indexes()
    index.open()
    index.close()
    with pytest.raises(FootnoteError, match="not open yet"):
        index.search(INDEX, circle(1)[0], 1)


def test_settings_of_the_server_are_not_chromas(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` in the working folder, which is ours, does not keep Chroma from opening."""
    (tmp_path / ".env").write_text("OPENROUTER_API_KEY=secret\nIS_PERSISTENT=nonsense\n")
    monkeypatch.chdir(tmp_path)
    index = ChromaIndex(folder)
    index.open()
    assert index.indexes() == frozenset()
    index.close()
