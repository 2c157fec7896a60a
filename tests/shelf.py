"""A library over a folder, whose documents are indexed without parsers: passages are given as plain texts."""

from io import BytesIO
from pathlib import Path

import numpy

from rag.database import Database
from rag.domain import Block, Chunk, Collection, Document, Page, Parsed, Run, Span, Version
from rag.interfaces import Vectors
from rag.keywords import Keywords
from rag.library import Added, Library
from rag.originals import Originals
from rag.passages import Passages
from rag.vectors import EmbeddingTable, text_hash

MODEL = "counting"
MEGABYTE = 1024 * 1024


def pdf(content: str) -> bytes:
    """Bytes that are taken for a PDF."""
    return b"%PDF-1.7\n" + content.encode()


def vectors_of(texts: list[str]) -> Vectors:
    """A unit vector per text that depends on its first letter alone."""
    rows = numpy.zeros((len(texts), 26), numpy.float32)
    for row, text in zip(rows, texts, strict=True):
        row[ord(text[0].lower()) - ord("a")] = 1.0
    return rows


def split(version: Version, texts: list[str]) -> tuple[Parsed, list[Chunk]]:
    """One page that holds the texts as paragraphs, each of which is a chunk."""
    blocks, chunks, start = [], [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        blocks.append(Block("paragraph", text, 1, start, end, ("Rules", "Leave")))
        span = Span(0, 1, "i", start, end)
        identity = f"{version.id}x{ordinal}"
        chunks.append(Chunk(identity, version.document_id, version.id, ordinal, text, 1, 1, ("Leave",), (span,)))
        start = end + 2
    page = Page(1, "i", "\n\n".join(texts), (Run(0, 3, start),))
    return Parsed((page,), tuple(blocks), True, ()), chunks


class Index:
    """A vector index that remembers which ids it has, by index."""

    def __init__(self) -> None:
        self.rows: dict[str, set[str]] = {}

    def delete(self, index: str, ids: list[str]) -> None:
        self.rows.get(index, set()).difference_update(ids)

    def drop(self, index: str) -> None:
        self.rows.pop(index, None)


class Shelf:
    """The stores of one folder, and what an indexer would do with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(folder / "catalogue.db")
        self.originals = Originals(folder / "originals", MEGABYTE)
        self.keywords = Keywords(self.database)
        self.library = Library(self.database, self.originals, self.keywords)
        self.passages = Passages(self.database)
        self.vectors = EmbeddingTable(self.database)
        self.index = Index()
        self.collection: Collection = self.library.create_collection("Policies", MODEL)

    def upload(self, name: str, content: str = "content") -> Added:
        return self.library.add(self.collection.id, name, BytesIO(pdf(content)))

    def claim(self) -> Version:
        version = self.library.claim()
        assert version is not None
        return version

    def save(self, version: Version, texts: list[str]) -> None:
        parsed, chunks = split(version, texts)
        hashes = [text_hash(text) for text in texts]
        self.passages.save(version.id, parsed, chunks, hashes)
        self.vectors.put(MODEL, hashes, vectors_of(texts))
        index = self.library.collection(self.collection.id).index
        self.index.rows.setdefault(index, set()).update(chunk.id for chunk in chunks)

    def publish(self, name: str, *texts: str) -> Document:
        """Upload a file of these passages and index it."""
        self.upload(name, "|".join(texts))
        version = self.claim()
        self.save(version, list(texts))
        self.library.publish(version.id)
        return self.library.document(version.document_id)

    def documents(self) -> tuple[Document, ...]:
        return self.library.documents(self.collection.id)

    def found(self, question: str) -> list[str]:
        """The texts that a question's words find, best first."""
        ids = [chunk_id for chunk_id, _ in self.keywords.search(self.collection.id, question, 10)]
        return [chunk.text for chunk, _ in self.passages.chunks(ids).values()]
