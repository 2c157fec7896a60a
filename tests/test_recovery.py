"""Whatever a kill or a power cut leaves, the next start makes good, and pays for no embedding twice."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy
import pytest
from sqlalchemy import delete, func, select, update

from benchmarks import kills
from rag import preflight, recovery
from rag.database import embeddings, keyword_totals
from rag.domain import Collection, Document
from rag.stores import Stores


class Library:
    """A data folder of made-up documents that can be closed, hurt, and recovered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[tuple[int, int]] = []
        self.stores = kills.open_stores(folder)
        self.recover()
        self.stores.library.create_collection("Team", kills.MODEL)

    @property
    def collection(self) -> Collection:
        return self.stores.library.collections()[0]

    @property
    def chroma(self) -> Path:
        return self.folder / "chroma"

    def upload(self, name: str, edition: int = 1) -> Document:
        content = BytesIO(kills.content_of(name, edition))
        return self.stores.library.add(self.collection.id, name, content).document

    def publish(self, name: str, edition: int = 1) -> Document:
        document = self.upload(name, edition)
        kills.ingest_queued(self.stores)
        return self.stores.library.document(document.id)

    def close(self) -> None:
        self.stores.index.close()
        self.stores.database.close()

    def recover(self) -> Stores:
        """What a new process does at its start."""
        self.stores = kills.open_stores(self.folder)
        self.written = []
        recovery.recover(self.stores, lambda done, total: self.written.append((done, total)))
        return self.stores

    def ids(self) -> frozenset[str]:
        return self.stores.index.ids(self.collection.index)

    def segments(self) -> list[Path]:
        return [path for path in self.chroma.iterdir() if path.is_dir()]

    def broken(self) -> list[str]:
        return kills.broken_promises(self.stores, {}, {})

    def embedding_count(self) -> int:
        with self.stores.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(embeddings)).scalar_one())


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = Library(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def filled(library: Library) -> Library:
    for number in range(4):
        library.publish(f"{number}.pdf")
    return library


def test_a_sound_library_is_left_alone(filled: Library) -> None:
    """Nothing is written, nothing is reported."""
    before = filled.ids()
    filled.close()
    filled.recover()
    assert filled.written == []
    assert filled.collection.generation == 1
    assert filled.ids() == before
    assert filled.broken() == []


def cut_links(segment: Path) -> None:
    path = segment / "link_lists.bin"
    os.truncate(path, path.stat().st_size // 2)


def spoil_header(segment: Path) -> None:
    (segment / "header.bin").write_bytes(b"\xff" * 100)


def cut_vectors(segment: Path) -> None:
    os.truncate(segment / "data_level0.bin", 1000)


@pytest.mark.parametrize("tear", [cut_links, spoil_header, cut_vectors, shutil.rmtree])
def test_a_torn_index_is_built_anew_from_the_embedding_table(filled: Library, tear: Callable[[Path], object]) -> None:
    """Into the next generation, with progress, without an embedding, and without the torn files."""
    before, paid = filled.ids(), filled.embedding_count()
    filled.close()
    (segment,) = filled.segments()
    tear(segment)
    filled.recover()
    assert filled.ids() == before
    assert filled.written[-1] == (len(before), len(before))
    assert filled.embedding_count() == paid
    assert filled.collection.generation == 2
    assert filled.stores.index.indexes() == {filled.collection.index}
    assert segment not in filled.segments()
    assert filled.broken() == []
    filled.publish("after.pdf")
    assert filled.broken() == []


def spoil_database(chroma: Path) -> None:
    (chroma / preflight.DATABASE).write_bytes(b"garbage" * 1000)


def make_unknown(chroma: Path) -> None:
    """A sound database that Chroma refuses to open, as one from a newer Chroma would be."""
    connection = sqlite3.connect(chroma / preflight.DATABASE)
    with connection:
        connection.execute("UPDATE migrations SET hash = 'unknown'")
    connection.close()


@pytest.mark.parametrize("hurt", [shutil.rmtree, spoil_database, make_unknown])
def test_a_lost_vector_store_is_built_anew(filled: Library, hurt: Callable[[Path], object]) -> None:
    """All of Chroma's files may go: they are derived."""
    before = filled.ids()
    filled.close()
    hurt(filled.chroma)
    filled.recover()
    assert filled.ids() == before
    assert filled.broken() == []


def test_only_the_torn_index_is_built_anew(filled: Library) -> None:
    """Another collection keeps its index as it is."""
    other = filled.stores.library.create_collection("Zebras", kills.MODEL)
    filled.stores.library.add(other.id, "z.pdf", BytesIO(kills.content_of("z.pdf", 1)))
    kills.ingest_queued(filled.stores)
    filled.close()
    checked = preflight.check(filled.chroma)
    assert checked
    (torn,) = [segment for segment in checked if segment.index != other.index]
    cut_links(torn.folder)
    stores = filled.recover()
    assert [one.generation for one in stores.library.collections()] == [2, 1]
    assert filled.broken() == []


def test_rows_are_compared_with_the_catalogue(filled: Library) -> None:
    """What should not be there goes, what should be comes back from the embedding table."""
    before = filled.ids()
    lost = sorted(before)[:7]
    filled.stores.index.delete(filled.collection.index, lost)
    filled.stores.index.upsert(filled.collection.index, ["stray"], kills.vector_of("stray").reshape(1, -1))
    filled.close()
    filled.recover()
    assert filled.ids() == before
    assert filled.written == [(7, 7)]
    assert filled.collection.generation == 1
    assert filled.broken() == []


def test_what_was_being_indexed_is_queued_and_not_doubled(filled: Library) -> None:
    """A process that died between the vectors and the publication leaves no trace in what is found."""
    filled.upload("half.pdf")
    version = filled.stores.library.claim()
    assert version is not None
    parsed, chunks = kills.split(kills.content_of("half.pdf", 1), version)
    filled.stores.passages.save(version.id, parsed, chunks, [kills.text_hash(chunk.text) for chunk in chunks])
    rows = numpy.stack([kills.vector_of(chunk.text) for chunk in chunks])
    filled.stores.index.upsert(filled.collection.index, [chunk.id for chunk in chunks], rows)
    before = filled.ids() - {chunk.id for chunk in chunks}
    filled.close()
    filled.recover()
    assert filled.ids() == before
    assert filled.stores.library.version(version.id).status == "queued"
    kills.ingest_queued(filled.stores)
    assert filled.ids() == before | {chunk.id for chunk in chunks}
    assert filled.broken() == []


def test_a_removal_is_finished(filled: Library) -> None:
    """What was removed and not yet erased is erased."""
    document = filled.stores.library.documents(filled.collection.id)[0]
    filled.stores.library.remove(document.id)
    filled.close()
    filled.recover()
    assert not filled.stores.originals.path(document.newest.sha256).exists()
    assert filled.broken() == []


def test_a_removed_collection_is_erased(filled: Library) -> None:
    """With its index and its files, although it is torn."""
    filled.stores.library.remove_collection(filled.collection.id)
    filled.close()
    cut_links(filled.segments()[0])
    stores = filled.recover()
    assert stores.index.indexes() == frozenset()
    assert filled.segments() == []
    assert stores.originals.kept() == frozenset()


def test_a_vector_that_is_lost_everywhere_is_made_again(filled: Library) -> None:
    """Its document is queued and not found meanwhile; the others answer."""
    first, *others = filled.stores.library.documents(filled.collection.id)
    assert first.current
    chunk = filled.stores.passages.of_version(first.current.id)[3]
    with filled.stores.database.write() as connection:
        connection.execute(delete(embeddings).where(embeddings.c.text_hash == kills.text_hash(chunk.text)))
    filled.close()
    shutil.rmtree(filled.chroma)
    stores = filled.recover()
    assert stores.library.document(first.id).newest.status == "queued"
    assert stores.library.document(first.id).current is None
    assert all(stores.library.document(other.id).current for other in others)
    assert filled.broken() == []
    kills.ingest_queued(stores)
    assert stores.library.document(first.id).current
    assert filled.broken() == []


def test_a_rebuild_that_was_killed_begins_anew(filled: Library) -> None:
    """What an earlier start had written of the next generation is not trusted."""
    before = filled.ids()
    unfinished = filled.collection.index_of(2)
    filled.stores.index.create(unfinished, "of another time", 3)
    filled.close()
    cut_links(filled.segments()[0])
    filled.recover()
    assert filled.ids() == before
    assert filled.collection.index == unfinished
    assert filled.broken() == []


def test_an_interrupted_reindexing_leaves_the_old_index_answering(filled: Library) -> None:
    """The unfinished index goes; that it is to be made stays on record."""
    before = filled.ids()
    filled.stores.library.begin_reindexing(filled.collection.id, "better")
    filled.stores.index.create(filled.collection.index_of(2), "better", 3)
    filled.close()
    filled.recover()
    assert filled.ids() == before
    assert filled.stores.index.indexes() == {filled.collection.index}
    assert filled.collection.reindexing_to == "better"
    assert filled.collection.embedding_model == kills.MODEL


def test_a_collection_that_lost_all_documents_can_be_filled_again(filled: Library) -> None:
    """An empty index is built anew as well."""
    for document in filled.stores.library.documents(filled.collection.id):
        filled.stores.library.remove(document.id)
    filled.close()
    shutil.rmtree(filled.chroma)
    filled.recover()
    filled.publish("new.pdf")
    assert filled.broken() == []


def test_nothing_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    """A process killed with -9 at random moments while it fills, replaces and erases, and started again each time."""
    trials = kills.Trials(tmp_path / "data", seed=5)
    reports = [trials.run(0.8) for _ in range(6)]
    reports.append(trials.check())
    assert [report["broken"] for report in reports] == [[]] * 7
    assert reports[-1]["chunks"] > 0


def test_keywords_of_a_former_analyzer_are_made_anew(filled: Library) -> None:
    """Stored terms that a question's would no longer match are replaced by present ones."""
    keywords, collection_id = filled.stores.keywords, filled.collection.id
    before = keywords.chunk_ids(collection_id)
    with filled.stores.database.write() as connection:
        connection.execute(update(keyword_totals).values(analyzer=0))
        keywords.drop(connection, collection_id)
        keywords.create(connection, collection_id)
        connection.execute(update(keyword_totals).values(analyzer=0))
    assert keywords.chunk_ids(collection_id) == frozenset() != before
    filled.close()
    stores = filled.recover()
    assert stores.keywords.is_current(collection_id)
    assert stores.keywords.chunk_ids(collection_id) == before
