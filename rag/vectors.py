"""Every embedding ever paid for, by model and text. A cache, and the source the vector index is rebuilt from."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects import sqlite

from rag.database import Database, batches, chunks, embedding_models, embeddings
from rag.errors import WrongEmbeddingModel
from rag.interfaces import Vectors


def text_hash(text: str, figure: str = "") -> bytes:
    """The 16 bytes by which the embedding of a text is found, or that of the picture of this key with its text."""
    content = f"{figure}\0{text}" if figure else text
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


class EmbeddingTable:
    """Embeddings of one model all have the dimension of its first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, model: str, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """The vectors, shape (dimension,), of those texts that have one."""
        wanted = list(dict.fromkeys(hashes))
        found: dict[bytes, Vectors] = {}
        with self._database.read() as connection:
            for batch in batches(wanted):
                rows = connection.execute(
                    select(embeddings.c.text_hash, embeddings.c.vector)
                    .join(embedding_models)
                    .where(embedding_models.c.name == model, embeddings.c.text_hash.in_(batch))
                )
                found.update((row.text_hash, _vector(row.vector)) for row in rows)
        return found

    def of_chunks(self, model: str, chunk_ids: Sequence[str]) -> Mapping[str, Vectors]:
        """The vectors, shape (dimension,), of those chunks that have one."""
        found: dict[str, Vectors] = {}
        with self._database.read() as connection:
            for batch in batches(chunk_ids):
                rows = connection.execute(
                    select(chunks.c.id, embeddings.c.vector)
                    .join(embeddings, embeddings.c.text_hash == chunks.c.text_hash)
                    .join(embedding_models)
                    .where(embedding_models.c.name == model, chunks.c.id.in_(batch))
                )
                found.update((row.id, _vector(row.vector)) for row in rows)
        return found

    def forget_other_dimensions(self, model: str, dimension: int) -> None:
        """Forget a model's vectors if they do not have this dimension; they can never be compared with new ones."""
        with self._database.write() as connection:
            known = connection.execute(select(embedding_models).where(embedding_models.c.name == model)).one_or_none()
            if known is not None and known.dimension != dimension:
                connection.execute(delete(embeddings).where(embeddings.c.model_id == known.id))
                connection.execute(delete(embedding_models).where(embedding_models.c.id == known.id))

    def put(self, model: str, hashes: Sequence[bytes], rows: Vectors) -> None:
        """Keep one row per hash; a text that has one already keeps it.

        Raises WrongEmbeddingModel when the rows are longer or shorter than the model's former ones.
        """
        if not hashes:
            return
        little_endian = rows.astype("<f4", copy=False)
        with self._database.write() as connection:
            model_id = _model_id(connection, model, rows.shape[1])
            connection.execute(
                sqlite.insert(embeddings).on_conflict_do_nothing(),
                [
                    {"text_hash": key, "model_id": model_id, "vector": row.tobytes()}
                    for key, row in zip(hashes, little_endian, strict=True)
                ],
            )


def _vector(stored: bytes) -> Vectors:
    return numpy.frombuffer(stored, dtype="<f4")


def _model_id(connection: Connection, model: str, dimension: int) -> int:
    known = connection.execute(select(embedding_models).where(embedding_models.c.name == model)).one_or_none()
    if known is None:
        model_id: int = connection.execute(
            insert(embedding_models).values(name=model, dimension=dimension).returning(embedding_models.c.id)
        ).scalar_one()
        return model_id
    if known.dimension != dimension:
        raise WrongEmbeddingModel(
            f"The embedding model {model} answered with {dimension} dimensions, but it had {known.dimension} before. "
            "Configure the former model again, or give this one another name and re-index."
        )
    return int(known.id)
