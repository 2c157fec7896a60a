"""What was read from the files: pages, blocks and chunks. Only published chunks reach questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, func, insert, select, update

from rag.database import Database, Record, batches, chunks, documents, embedding_models, embeddings, pages, versions
from rag.domain import Block, Chunk, Page, Parsed, Run, Span
from rag.errors import NotFound


@dataclass(frozen=True, slots=True)
class Extent:
    """How many passages, their characters, how many are pictures, and how many a certain model has embedded."""

    passages: int
    characters: int
    pictures: int
    known: int


class Passages:
    """Pages, blocks and chunks of every version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, version_id: str, parsed: Parsed, split: Sequence[Chunk], hashes: Sequence[bytes]) -> None:
        """Keep what a version holds, in place of what an earlier try kept; nobody sees it before it is published.

        `hashes` are the `text_hash` of what is embedded, one per chunk. Raises NotFound when the document was removed
        meanwhile.
        """
        with self._database.write() as connection:
            working = connection.execute(
                update(versions)
                .where(versions.c.id == version_id, versions.c.status == "working")
                .values(chunks=len(split))
            )
            if working.rowcount == 0:
                raise NotFound("This document was removed while it was being indexed.")
            connection.execute(delete(pages).where(pages.c.version_id == version_id))
            connection.execute(delete(chunks).where(chunks.c.version_id == version_id))
            if parsed.pages:
                connection.execute(insert(pages), _page_rows(version_id, parsed))
            if split:
                connection.execute(
                    insert(chunks), [_chunk_row(chunk, key) for chunk, key in zip(split, hashes, strict=True)]
                )

    def chunks(self, ids: Sequence[str]) -> dict[str, tuple[Chunk, str]]:
        """Those of the chunks that are published, each with its document's name, in the order asked for."""
        found: dict[str, tuple[Chunk, str]] = {}
        with self._database.read() as connection:
            for batch in batches(ids):
                rows = connection.execute(_published().where(chunks.c.id.in_(batch)))
                found.update((row.id, (_chunk(row), row.name)) for row in rows)
        return {key: found[key] for key in ids if key in found}

    def published(self, collection_id: str) -> tuple[tuple[Chunk, str], ...]:
        """All published chunks of a collection, each with its document's name."""
        with self._database.read() as connection:
            rows = connection.execute(
                _published().where(documents.c.collection_id == collection_id).order_by(chunks.c.serial)
            )
            return tuple((_chunk(row), row.name) for row in rows)

    def published_ids(self, collection_id: str) -> dict[str, str]:
        """The ids of all published chunks of a collection, each with that of its version."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(chunks.c.id, chunks.c.version_id)
                .select_from(_joined())
                .where(is_published(), documents.c.collection_id == collection_id)
                .order_by(chunks.c.serial)
            )
            return {row.id: row.version_id for row in rows}

    def extent(self, collection_id: str, embedding_model: str) -> Extent:
        """How much a collection's published chunks hold, and how much of it this model has embedded already."""
        is_of_model = embedding_models.c.name == embedding_model
        embedded = select(embeddings.c.text_hash).join(embedding_models).where(is_of_model)
        with self._database.read() as connection:
            row = connection.execute(
                select(
                    func.count().label("passages"),
                    func.coalesce(func.sum(func.length(chunks.c.text)), 0).label("characters"),
                    func.count(chunks.c.figure).label("pictures"),
                    func.count().filter(chunks.c.text_hash.in_(embedded)).label("known"),
                )
                .select_from(_joined())
                .where(is_published(), documents.c.collection_id == collection_id)
            ).one()
        return Extent(row.passages, row.characters, row.pictures, row.known)

    def set_hashes(self, ids: Sequence[str], hashes: Sequence[bytes]) -> None:
        """Record under which hashes the chunks' embeddings are found from now on."""
        if not ids:
            return
        with self._database.write() as connection:
            connection.execute(
                update(chunks).where(chunks.c.id == bindparam("chunk")).values(text_hash=bindparam("key")),
                [{"chunk": chunk, "key": key} for chunk, key in zip(ids, hashes, strict=True)],
            )

    def of_version(self, version_id: str) -> tuple[Chunk, ...]:
        """A version's chunks in order, published or not."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(chunks, versions.c.document_id)
                .join(versions)
                .where(chunks.c.version_id == version_id)
                .order_by(chunks.c.ordinal)
            )
            return tuple(_chunk(row) for row in rows)

    def page(self, version_id: str, number: int) -> Page:
        """One page of a version, kept as long as its document. Raises NotFound."""
        row = self._page_row(version_id, number)
        runs = None if row.runs is None else tuple(Run(*run) for run in row.runs)
        return Page(number=row.number, label=row.label, text=row.text, runs=runs)

    def blocks(self, version_id: str, number: int) -> tuple[Block, ...]:
        """The blocks of one page in order. Raises NotFound."""
        row = self._page_row(version_id, number)
        return tuple(
            Block(kind, row.text[start:end], number, start, end, tuple(headings), level, header_end)
            for kind, start, end, headings, level, header_end in row.blocks
        )

    def _page_row(self, version_id: str, number: int) -> Record:
        with self._database.read() as connection:
            row = connection.execute(
                select(pages)
                .join(versions)
                .where(pages.c.version_id == version_id, pages.c.number == number, versions.c.status != "deleting")
            ).one_or_none()
        if row is None:
            raise NotFound("This page is no longer here: its document was removed.")
        return row


def is_published() -> ColumnElement[bool]:
    """The condition under which questions see a version's chunks."""
    return and_(versions.c.status == "ready", documents.c.current_id == versions.c.id)


def _joined() -> Any:
    return chunks.join(versions, versions.c.id == chunks.c.version_id).join(
        documents, documents.c.id == versions.c.document_id
    )


def _published() -> Select[Any]:
    return select(chunks, versions.c.document_id, documents.c.name).select_from(_joined()).where(is_published())


def _page_rows(version_id: str, parsed: Parsed) -> list[dict[str, Any]]:
    blocks: dict[int, list[Any]] = {}
    for block in parsed.blocks:
        blocks.setdefault(block.page, []).append(
            [block.kind, block.start, block.end, block.headings, block.level, block.header_end]
        )
    return [
        {
            "version_id": version_id,
            "number": page.number,
            "label": page.label,
            "text": page.text,
            "runs": None if page.runs is None else [[run.start, run.source, run.length] for run in page.runs],
            "blocks": blocks.get(page.number, []),
        }
        for page in parsed.pages
    ]


def _chunk_row(chunk: Chunk, key: bytes) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "version_id": chunk.version_id,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "page_first": chunk.page_first,
        "page_last": chunk.page_last,
        "headings": chunk.headings,
        "spans": [[span.offset, span.page, span.label, span.start, span.end] for span in chunk.spans],
        "text_hash": key,
        "figure": chunk.figure,
    }


def _chunk(row: Record) -> Chunk:
    return Chunk(
        id=row.id,
        document_id=row.document_id,
        version_id=row.version_id,
        ordinal=row.ordinal,
        text=row.text,
        page_first=row.page_first,
        page_last=row.page_last,
        headings=tuple(row.headings),
        spans=tuple(Span(*span) for span in row.spans),
        figure=row.figure,
    )
