"""Collections, documents and their versions: what there is, what waits to be indexed, and what questions see."""

import re
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, Protocol

from sqlalchemy import Connection, case, delete, exists, func, insert, or_, select, update

from rag import prompts, words
from rag.database import (
    Database,
    Record,
    batches,
    chunks,
    collections,
    conversations,
    documents,
    embeddings,
    new_id,
    now,
    pages,
    versions,
)
from rag.domain import Chunking, Collection, Document, Failure, MediaType, Progress, Version
from rag.errors import InvalidRequest, NotFound
from rag.keywords import Keywords
from rag.originals import Originals
from rag.parsing import sniff

_LONGEST_COLLECTION_NAME = 64
_LONGEST_DOCUMENT_NAME = 200
_LONGEST_EXTENSION = 16
_IDENTITY_CHARACTERS = 1500

Outcome = Literal["new", "present", "retried"]


class ErasableIndex(Protocol):
    """What erasing needs of a vector index."""

    def delete(self, index: str, ids: Sequence[str]) -> None:
        """Remove rows; neither they nor the index need exist."""
        ...

    def drop(self, index: str) -> None:
        """Remove a whole index; it need not exist."""
        ...


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an upload: "present" when these bytes were here already, "retried" when they had failed."""

    document: Document
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Activity:
    """What is on its way in all collections: how many versions wait and are worked on, and their documents."""

    waiting: int
    working: int
    documents: tuple[Document, ...]


class Library:
    """The catalogue of collections and documents. Every method is one transaction, safe from any thread."""

    def __init__(self, database: Database, originals: Originals, keywords: Keywords) -> None:
        self._database = database
        self._originals = originals
        self._keywords = keywords

    # ------------------------------------------------------------------ collections

    def collections(self) -> tuple[Collection, ...]:
        """All collections by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(collections).where(collections.c.removed.is_(False)).order_by(collections.c.folded)
            )
            return tuple(_collection(row) for row in rows)

    def collection(self, collection_id: str) -> Collection:
        """One collection. Raises NotFound."""
        with self._database.read() as connection:
            return _collection(_collection_row(connection, collection_id))

    def collection_named(self, name: str) -> Collection | None:
        """The collection of that name without regard to case, if there is one."""
        with self._database.read() as connection:
            row = _named(connection, name)
            return None if row is None else _collection(row)

    def create_collection(self, name: str, embedding_model: str) -> Collection:
        """A new, empty collection. Raises InvalidRequest when the name is malformed or taken."""
        name = _collection_name(name)
        chunking = Chunking()
        collection = Collection(
            id=new_id(),
            name=name,
            chunking=chunking,
            embedding_model=embedding_model,
            dimension=None,
            generation=1,
            reindexing_to=None,
            created_at=now(),
        )
        with self._database.write() as connection:
            _check_free(connection, name, "")
            connection.execute(
                insert(collections).values(
                    id=collection.id,
                    name=name,
                    folded=folded(name),
                    chunk_size=chunking.size,
                    chunk_overlap=chunking.overlap,
                    embedding_model=embedding_model,
                    generation=collection.generation,
                    created_at=collection.created_at,
                )
            )
            self._keywords.create(connection, collection.id)
        return collection

    def rename_collection(self, collection_id: str, name: str) -> Collection:
        """Give a collection another name. Raises NotFound, InvalidRequest."""
        name = _collection_name(name)
        with self._database.write() as connection:
            _collection_row(connection, collection_id)
            _check_free(connection, name, collection_id)
            connection.execute(
                update(collections).where(collections.c.id == collection_id).values(name=name, folded=folded(name))
            )
            return _collection(_collection_row(connection, collection_id))

    def set_figures(self, collection_id: str, on: bool) -> None:
        """Have pictures of documents indexed from now on, or not any more, and queue all documents to be read again.

        Vectors are kept by content, so only what is new is paid for. Raises NotFound.
        """
        with self._database.write() as connection:
            _collection_row(connection, collection_id)
            connection.execute(update(collections).where(collections.c.id == collection_id).values(figures=on))
            for document in _documents(connection, documents.c.collection_id == collection_id):
                newest = document.newest
                if newest.status in {"ready", "failed", "working"}:
                    _add_version(connection, document.id, newest.sha256, newest.media_type, newest.size)

    def remove_collection(self, collection_id: str) -> None:
        """Take a collection away with all its documents: invisible at once, erased later. Raises NotFound."""
        with self._database.write() as connection:
            _collection_row(connection, collection_id)
            self._keywords.drop(connection, collection_id)
            of_collection = select(documents.c.id).where(documents.c.collection_id == collection_id)
            connection.execute(
                update(versions).where(versions.c.document_id.in_(of_collection)).values(status="deleting")
            )
            connection.execute(update(documents).where(documents.c.collection_id == collection_id).values(removed=True))
            connection.execute(
                update(conversations).where(conversations.c.collection_id == collection_id).values(collection_id=None)
            )
            connection.execute(update(collections).where(collections.c.id == collection_id).values(removed=True))

    # ------------------------------------------------------------------ documents

    def documents(self, collection_id: str) -> tuple[Document, ...]:
        """A collection's documents, the newest upload first."""
        with self._database.read() as connection:
            return _documents(connection, documents.c.collection_id == collection_id)

    def document(self, document_id: str) -> Document:
        """One document. Raises NotFound."""
        with self._database.read() as connection:
            return _document(connection, document_id)

    def document_of(self, version: Version) -> Document:
        """The document a version belongs to. Raises NotFound."""
        return self.document(version.document_id)

    def version(self, version_id: str) -> Version:
        """One version, also one that was replaced. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                select(versions).where(versions.c.id == version_id, versions.c.status != "deleting")
            ).one_or_none()
        if row is None:
            raise NotFound("This document is no longer here.")
        return _version(row)

    def add(self, collection_id: str, name: str, stream: BinaryIO) -> Added:
        """Take a file in; when this returns it is on disk and queued, whatever happens next.

        Bytes that the collection has already are left alone, or tried again if they had failed. Other bytes under a
        name that is there become a new version, built beside the old one. Raises NotFound, FileTooLarge and
        UnreadableDocument; then nothing is kept.
        """
        name = clean_name(name)
        self.collection(collection_id)
        with self._originals.receive(stream) as upload:
            media_type = sniff.media_type(upload.head, name)
            with self._database.write() as connection:
                _collection_row(connection, collection_id)
                same = _same_bytes(connection, collection_id, upload.sha256)
                if same is not None and same.status not in {"failed", "cancelled"}:
                    return Added(_document(connection, same.document_id), "present")
                self._originals.keep(upload)
                if same is not None:
                    _queue_again(connection, same.id)
                    return Added(_document(connection, same.document_id), "retried")
                document_id = _named_document(connection, collection_id, name)
                _add_version(connection, document_id, upload.sha256, media_type, upload.size)
                return Added(_document(connection, document_id), "new")

    def retry(self, document_id: str) -> None:
        """Queue a document again whose newest version failed. Raises NotFound."""
        with self._database.write() as connection:
            newest = _document(connection, document_id).newest
            if newest.status in {"failed", "cancelled"}:
                _queue_again(connection, newest.id)

    def remove(self, document_id: str) -> None:
        """Take a document away: invisible at once, erased later. Raises NotFound."""
        with self._database.write() as connection:
            document = _document(connection, document_id)
            if document.current is not None:
                self._keywords.discard(connection, document.collection_id, document.current.id)
            connection.execute(update(versions).where(versions.c.document_id == document_id).values(status="deleting"))
            connection.execute(update(documents).where(documents.c.id == document_id).values(removed=True))

    def activity(self) -> Activity:
        """What is on its way in all collections."""
        with self._database.read() as connection:
            counts: dict[str, int] = {
                row.status: row.number
                for row in connection.execute(
                    select(versions.c.status, func.count().label("number"))
                    .where(versions.c.status.in_(("queued", "working")))
                    .group_by(versions.c.status)
                )
            }
            on_their_way = select(versions.c.document_id).where(versions.c.status.in_(("queued", "working")))
            return Activity(
                waiting=counts.get("queued", 0),
                working=counts.get("working", 0),
                documents=_documents(connection, documents.c.id.in_(on_their_way)),
            )

    # ------------------------------------------------------------------ indexing

    def claim(self) -> Version | None:
        """The version that has waited longest, now being worked on by the caller; None when none waits.

        The caller ends with `publish`, `failed` or `requeue`; until then nothing of the version is erased.
        """
        with self._database.write() as connection:
            version_id = connection.execute(
                select(versions.c.id).where(versions.c.status == "queued").order_by(versions.c.serial).limit(1)
            ).scalar_one_or_none()
            if version_id is None:
                return None
            connection.execute(
                update(versions).where(versions.c.id == version_id).values(status="working", claimed=True)
            )
            return _version(connection.execute(select(versions).where(versions.c.id == version_id)).one())

    def progress(self, version_id: str, progress: Progress) -> None:
        """Record how far a version has come."""
        with self._database.write() as connection:
            connection.execute(
                update(versions)
                .where(versions.c.id == version_id)
                .values(stage=progress.stage, done=progress.done, total=progress.total)
            )

    def set_pages(self, version_id: str, page_count: int | None, warnings: Sequence[str]) -> None:
        """Record what reading a version found; `page_count` is None where the format has no pages."""
        with self._database.write() as connection:
            connection.execute(
                update(versions).where(versions.c.id == version_id).values(pages=page_count, warnings=list(warnings))
            )

    def failed(self, version_id: str, problem: str, failure: Failure | None = None) -> None:
        """Give a claimed version up, for the reason to show; what answered before goes on answering."""
        behind = None if failure is None else asdict(failure)
        with self._database.write() as connection:
            _release(connection, version_id, status="failed", problem=problem, failure=behind)

    def requeue(self, version_id: str) -> None:
        """Put a claimed version back into the queue, at its old place."""
        with self._database.write() as connection:
            _release(connection, version_id, status="queued", stage="waiting", done=0, total=0)

    def requeue_interrupted(self, except_for: Container[str] = ()) -> int:
        """Put back what is claimed but not worked on, all but the versions in `except_for`; how many."""
        with self._database.read() as connection:
            claimed = connection.execute(select(versions.c.id).where(versions.c.claimed)).scalars().all()
        dropped = [version_id for version_id in claimed if version_id not in except_for]
        if not dropped:
            return 0
        with self._database.write() as connection:
            for version_id in dropped:
                _release(connection, version_id, status="queued", stage="waiting", done=0, total=0)
        return len(dropped)

    def publish(self, version_id: str) -> None:
        """Make a claimed version the one that answers, in one step.

        Raises NotFound when the document was removed meanwhile.
        """
        terms = self._terms(version_id)  # outside the transaction: uploads must not wait for it
        identity = self._identity(version_id)
        with self._database.write() as connection:
            version = connection.execute(
                select(versions).where(versions.c.id == version_id, versions.c.status == "working")
            ).one_or_none()
            if version is None:
                raise NotFound("This document was removed while it was being indexed.")
            document = _document(connection, version.document_id)
            former = document.current
            if former is not None and former.number > version.number:
                _release(connection, version_id, status="replaced")
                return
            if former is not None:
                self._keywords.discard(connection, document.collection_id, former.id)
                connection.execute(update(versions).where(versions.c.id == former.id).values(status="replaced"))
            self._keywords.add(connection, document.collection_id, terms)
            self._keywords.identify(connection, document.collection_id, version_id, identity)
            _release(connection, version_id, status="ready", problem=None)
            connection.execute(update(documents).where(documents.c.id == document.id).values(current_id=version_id))

    def rebuild_keywords(self, collection_id: str) -> None:
        """Make a collection's keyword index anew from its published chunks, in one step."""
        published = [each.current.id for each in self.documents(collection_id) if each.current is not None]
        with self._database.write() as connection:
            self._keywords.drop(connection, collection_id)
            self._keywords.create(connection, collection_id)
            for version_id in published:
                self._keywords.add(connection, collection_id, self._terms(version_id))
                self._keywords.identify(connection, collection_id, version_id, self._identity(version_id))

    def unpublish(self, version_id: str) -> None:
        """Queue the version that answers to be indexed anew, because a part of its index is lost for good."""
        with self._database.write() as connection:
            row = connection.execute(
                select(documents.c.id, documents.c.collection_id).where(documents.c.current_id == version_id)
            ).one()
            self._keywords.discard(connection, row.collection_id, version_id)
            connection.execute(update(documents).where(documents.c.id == row.id).values(current_id=None))
            _queue_again(connection, version_id)

    def _terms(self, version_id: str) -> dict[int, Sequence[str]]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(chunks.c.serial, chunks.c.headings, chunks.c.text, documents.c.name)
                .join(versions, versions.c.id == chunks.c.version_id)
                .join(documents, documents.c.id == versions.c.document_id)
                .where(chunks.c.version_id == version_id)
                .order_by(chunks.c.ordinal)
            ).all()
        return {row.serial: words.terms(prompts.passage(row.name, row.headings, row.text)) for row in rows}

    def _identity(self, version_id: str) -> list[str]:
        """The words by which people name a document: those of its name, and of the beginning of its first page."""
        with self._database.read() as connection:
            row = connection.execute(
                select(documents.c.name, func.substr(pages.c.text, 1, _IDENTITY_CHARACTERS).label("beginning"))
                .join(versions, versions.c.document_id == documents.c.id)
                .outerjoin(pages, (pages.c.version_id == versions.c.id) & (pages.c.number == 1))
                .where(versions.c.id == version_id)
            ).one_or_none()
        return [] if row is None else words.terms(f"{prompts.title(row.name)}\n{row.beginning or ''}")

    # ------------------------------------------------------------------ vectors

    def adopt_model(self, collection_id: str, version_id: str, model: str) -> Collection:
        """The collection as a version of it begins to be indexed, from then on with this embedding model if it is free.

        It is not while it has vectors, or anything that answers, or another version is being indexed with its model.
        Raises NotFound.
        """
        of_collection = versions.join(documents, documents.c.id == versions.c.document_id)
        others = (
            select(versions.c.id)
            .select_from(of_collection)
            .where(
                documents.c.collection_id == collection_id,
                versions.c.id != version_id,
                versions.c.status.in_(("working", "ready")),
            )
        )
        with self._database.write() as connection:
            collection = _collection(_collection_row(connection, collection_id))
            is_free = collection.dimension is None and connection.execute(others.limit(1)).first() is None
            if collection.embedding_model == model or not is_free:
                return collection
            connection.execute(
                update(collections).where(collections.c.id == collection_id).values(embedding_model=model)
            )
            return _collection(_collection_row(connection, collection_id))

    def set_dimension(self, collection_id: str, dimension: int) -> None:
        """Record the dimension of a collection's first vectors; 0 (there were none) and a later one change nothing."""
        if dimension == 0:
            return
        with self._database.write() as connection:
            connection.execute(
                update(collections)
                .where(collections.c.id == collection_id, collections.c.dimension.is_(None))
                .values(dimension=dimension)
            )

    def begin_reindexing(self, collection_id: str, model: str) -> None:
        """Record that a collection moves to another embedding model; the former one stays until it is finished."""
        with self._database.write() as connection:
            _collection_row(connection, collection_id)
            connection.execute(update(collections).where(collections.c.id == collection_id).values(reindexing_to=model))

    def finish_reindexing(self, collection_id: str, model: str, dimension: int | None, generation: int) -> None:
        """Let the vectors of `generation`, made by `model`, answer from now on. Raises NotFound."""
        with self._database.write() as connection:
            _collection_row(connection, collection_id)
            connection.execute(
                update(collections)
                .where(collections.c.id == collection_id)
                .values(embedding_model=model, dimension=dimension, generation=generation, reindexing_to=None)
            )

    def set_generation(self, collection_id: str, generation: int) -> None:
        """Let a rebuilt index of the same model answer from now on."""
        with self._database.write() as connection:
            connection.execute(
                update(collections).where(collections.c.id == collection_id).values(generation=generation)
            )

    # ------------------------------------------------------------------ erasing

    def erase(self, index: ErasableIndex) -> int:
        """Erase what was removed or replaced, from the vector index first; how many versions and collections.

        What somebody is working on is left for the next time. Being killed in between is made good by repeating it.
        """
        with self._database.read() as connection:
            removed = connection.execute(
                select(versions.c.id, collections.c.id.label("collection_id"), collections.c.removed.label("whole"))
                .join(documents, documents.c.id == versions.c.document_id)
                .join(collections, collections.c.id == documents.c.collection_id)
                .where(
                    versions.c.claimed.is_(False),
                    or_(
                        versions.c.status == "deleting",
                        (versions.c.status == "replaced") & exists().where(chunks.c.version_id == versions.c.id),
                    ),
                )
            ).all()
        for row in removed:
            if not row.whole:
                self._erase_vectors(index, row.collection_id, row.id)
            self._erase_version(row.id)
        return len(removed) + self._erase_collections(index)

    def _erase_vectors(self, index: ErasableIndex, collection_id: str, version_id: str) -> None:
        with self._database.read() as connection:
            collection = _collection(
                connection.execute(select(collections).where(collections.c.id == collection_id)).one()
            )
            ids = connection.execute(select(chunks.c.id).where(chunks.c.version_id == version_id)).scalars().all()
        # While a collection is being re-indexed its next index has them too.
        for generation in (collection.generation, collection.generation + 1):
            index.delete(collection.index_of(generation), ids)

    def _erase_version(self, version_id: str) -> None:
        """Erase a version's chunks and unshared embeddings, and all of it if its document was removed."""
        with self._database.write() as connection:
            version = connection.execute(select(versions).where(versions.c.id == version_id)).one()
            hashes = (
                connection.execute(select(chunks.c.text_hash).where(chunks.c.version_id == version_id).distinct())
                .scalars()
                .all()
            )
            connection.execute(delete(chunks).where(chunks.c.version_id == version_id))
            for batch in batches(hashes):
                connection.execute(delete(embeddings).where(embeddings.c.text_hash.in_(batch), ~_is_used()))
            if version.status == "replaced":
                return  # its pages and its file stay: former answers show them
            connection.execute(delete(pages).where(pages.c.version_id == version_id))
            connection.execute(delete(versions).where(versions.c.id == version_id))
            connection.execute(
                delete(documents).where(
                    documents.c.id == version.document_id,
                    ~exists().where(versions.c.document_id == version.document_id),
                )
            )
            if not _is_kept(connection, version.sha256):
                self._originals.remove(version.sha256)

    def _erase_collections(self, index: ErasableIndex) -> int:
        empty = ~exists().where(documents.c.collection_id == collections.c.id)
        with self._database.read() as connection:
            rows = connection.execute(select(collections).where(collections.c.removed, empty)).all()
        for collection in map(_collection, rows):
            for generation in range(1, collection.generation + 2):
                index.drop(collection.index_of(generation))
            with self._database.write() as connection:
                connection.execute(delete(collections).where(collections.c.id == collection.id))
        return len(rows)

    def erase_unreferenced(self) -> None:
        """Erase files and embeddings that nothing refers to, left by a killed process. Only before uploads begin.

        Embeddings are left alone while something is still to be indexed: it may be what they were made for.
        """
        self._originals.remove_unfinished()
        with self._database.write() as connection:
            for sha256 in self._originals.kept():
                if not _is_kept(connection, sha256):
                    self._originals.remove(sha256)
            unfinished = connection.execute(
                select(exists().where(versions.c.status.in_(("queued", "working", "failed"))))
            ).scalar_one()
            if not unfinished:
                connection.execute(delete(embeddings).where(~_is_used()))


# ---------------------------------------------------------------- names


def clean_name(name: str) -> str:
    """The name to show for an uploaded file: no folders, control or direction characters, at most 200 characters."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    name = "".join(
        " " if unicodedata.category(sign)[0] == "Z" or sign in "\t\r\n" else sign
        for sign in name
        if sign in "\t\r\n" or unicodedata.category(sign)[0] != "C"
    )
    name = " ".join(name.split())
    if not name.strip("."):
        return "document"
    if len(name) <= _LONGEST_DOCUMENT_NAME:
        return name
    extension = PurePath(name).suffix
    if len(extension) > _LONGEST_EXTENSION:
        extension = ""
    return name[: _LONGEST_DOCUMENT_NAME - len(extension)].rstrip() + extension


def folded(name: str) -> str:
    """What two names have in common that differ in nothing but case or the way they are encoded."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()


def _collection_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= _LONGEST_COLLECTION_NAME:
        raise InvalidRequest(f"A collection's name has 1 to {_LONGEST_COLLECTION_NAME} characters.")
    if not all(_is_letter_or_digit(sign) or sign in " ._-" for sign in name):
        raise InvalidRequest("A collection's name has only letters, digits, spaces and the signs . _ -")
    if not any(_is_letter_or_digit(sign) for sign in name):
        raise InvalidRequest("A collection's name has at least one letter or digit.")
    return name


def _is_letter_or_digit(sign: str) -> bool:
    # Many scripts write vowels as marks on letters.
    return unicodedata.category(sign)[0] in "LM" or sign.isdecimal()


# ---------------------------------------------------------------- rows


def _collection(row: Record) -> Collection:
    return Collection(
        id=row.id,
        name=row.name,
        chunking=Chunking(row.chunk_size, row.chunk_overlap),
        embedding_model=row.embedding_model,
        dimension=row.dimension,
        generation=row.generation,
        reindexing_to=row.reindexing_to,
        created_at=row.created_at,
        figures=row.figures,
    )


def _version(row: Record) -> Version:
    return Version(
        id=row.id,
        document_id=row.document_id,
        number=row.number,
        sha256=row.sha256,
        media_type=row.media_type,
        size=row.size,
        pages=row.pages,
        chunks=row.chunks,
        status=row.status,
        stage=row.stage,
        done=row.done,
        total=row.total,
        problem=row.problem,
        warnings=tuple(row.warnings),
        created_at=row.created_at,
        failure=None if row.failure is None else Failure(**row.failure),
    )


def _collection_row(connection: Connection, collection_id: str) -> Record:
    row = connection.execute(
        select(collections).where(collections.c.id == collection_id, collections.c.removed.is_(False))
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such collection.")
    return row


def _named(connection: Connection, name: str) -> Record | None:
    return connection.execute(
        select(collections).where(collections.c.folded == folded(name), collections.c.removed.is_(False))
    ).one_or_none()


def _check_free(connection: Connection, name: str, collection_id: str) -> None:
    taken = _named(connection, name)
    if taken is not None and taken.id != collection_id:
        raise InvalidRequest(f"There is a collection called “{taken.name}” already.")


def _documents(connection: Connection, condition: Any) -> tuple[Document, ...]:
    rows = connection.execute(select(documents).where(condition, documents.c.removed.is_(False))).all()
    shown = [version_id for row in rows for version_id in {row.current_id, row.newest_id} if version_id is not None]
    found: dict[str, Version] = {}
    order: dict[str, int] = {}
    for batch in batches(shown):
        for row in connection.execute(select(versions).where(versions.c.id.in_(batch))):
            found[row.id] = _version(row)
            order[row.id] = row.serial
    rows = sorted(rows, key=lambda row: -order[row.newest_id])
    return tuple(
        Document(
            id=row.id,
            collection_id=row.collection_id,
            name=row.name,
            current=found[row.current_id] if row.current_id else None,
            newest=found[row.newest_id],
        )
        for row in rows
    )


def _document(connection: Connection, document_id: str) -> Document:
    found = _documents(connection, documents.c.id == document_id)
    if not found:
        raise NotFound("There is no such document.")
    return found[0]


def _same_bytes(connection: Connection, collection_id: str, sha256: str) -> Record | None:
    """The version with this content that answers or is newest, rather one that did not fail."""
    return connection.execute(
        select(versions.c.id, versions.c.document_id, versions.c.status)
        .join(documents, documents.c.id == versions.c.document_id)
        .where(
            documents.c.collection_id == collection_id,
            documents.c.removed.is_(False),
            versions.c.sha256 == sha256,
            or_(versions.c.id == documents.c.current_id, versions.c.id == documents.c.newest_id),
        )
        .order_by(case((versions.c.status.in_(("failed", "cancelled")), 1), else_=0), versions.c.serial)
        .limit(1)
    ).one_or_none()


def _named_document(connection: Connection, collection_id: str, name: str) -> str:
    """The id of the document of that name, which begins to exist if it does not."""
    known: str | None = connection.execute(
        select(documents.c.id).where(
            documents.c.collection_id == collection_id, documents.c.name == name, documents.c.removed.is_(False)
        )
    ).scalar_one_or_none()
    if known is not None:
        return known
    document_id = new_id()
    connection.execute(insert(documents).values(id=document_id, collection_id=collection_id, name=name))
    return document_id


def _add_version(connection: Connection, document_id: str, sha256: str, media_type: MediaType, size: int) -> None:
    """Queue a new version, which becomes the document's newest; former ones that still wait need not be made."""
    connection.execute(
        update(versions)
        .where(versions.c.document_id == document_id, versions.c.status == "queued")
        .values(status="cancelled")
    )
    last = connection.execute(
        select(func.max(versions.c.number)).where(versions.c.document_id == document_id)
    ).scalar_one()
    version_id = new_id()
    connection.execute(
        insert(versions).values(
            id=version_id,
            document_id=document_id,
            number=(last or 0) + 1,
            sha256=sha256,
            media_type=media_type,
            size=size,
            chunks=0,
            status="queued",
            stage="waiting",
            done=0,
            total=0,
            warnings=[],
            created_at=now(),
        )
    )
    connection.execute(update(documents).where(documents.c.id == document_id).values(newest_id=version_id))


def _queue_again(connection: Connection, version_id: str) -> None:
    connection.execute(
        update(versions)
        .where(versions.c.id == version_id)
        .values(status="queued", stage="waiting", done=0, total=0, problem=None, failure=None, warnings=[])
    )


def _release(connection: Connection, version_id: str, **values: Any) -> None:
    """End the work on a version; its status changes only if it was not removed meanwhile."""
    connection.execute(update(versions).where(versions.c.id == version_id).values(claimed=False))
    connection.execute(
        update(versions).where(versions.c.id == version_id, versions.c.status == "working").values(**values)
    )


def _is_used() -> Any:
    return exists().where(chunks.c.text_hash == embeddings.c.text_hash)


def _is_kept(connection: Connection, sha256: str) -> bool:
    return bool(connection.execute(select(exists().where(versions.c.sha256 == sha256))).scalar_one())
