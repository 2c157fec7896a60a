"""Nearest neighbours in Chroma. The only home of chromadb.

One Chroma collection per index, holding ids and vectors and nothing else: text and metadata in it would cost 7.6 times
the disk and most of the speed, and everything is in the catalogue. Chroma is derived: `recovery` rebuilds it.

Exactly one process may have the folder open, and it must have passed `preflight`: a torn index can end the process.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rag import preflight
from rag.errors import FootnoteError, WrongEmbeddingModel
from rag.interfaces import Vectors

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

logger = logging.getLogger(__name__)

_BATCH = 200
_DELETED_AT_ONCE = 1000
_OPEN_FILES = 16_384
_SCHEMA = 1

# With Chroma's defaults (16, 100, 100) 7 to 14 % of the true 50 nearest are missed.
_HNSW: "CreateHNSWConfiguration" = {"space": "cosine", "max_neighbors": 32, "ef_construction": 200, "ef_search": 200}


class ChromaIndex:
    """A VectorIndex in a folder; new indexes write their files after every `synced_every` changes.

    Raises FootnoteError when Chroma fails.
    """

    def __init__(self, folder: Path, synced_every: int = 1000) -> None:
        self.folder = folder
        self._hnsw: CreateHNSWConfiguration = {**_HNSW, "sync_threshold": synced_every}
        self._client: Client | None = None
        self._known: dict[str, Collection] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        """Load Chroma, which takes half a second, and open the folder."""
        # Imported here so that the first page need not wait for it.
        import chromadb  # noqa: PLC0415
        from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415
        from chromadb.config import Settings  # noqa: PLC0415

        _raise_open_file_limit()
        # Without `_env_file` Chroma would read the server's .env as its own settings.
        settings = Settings(_env_file=None, anonymized_telemetry=False)
        with _translated():
            try:
                self._client = cast("Client", chromadb.PersistentClient(self.folder, settings=settings))
            except BaseException:
                # Chroma would hand the half-opened folder out again at the next try.
                SharedSystemClient.clear_system_cache()
                raise

    def close(self) -> None:
        """Let go of the folder."""
        client, self._client = self._client, None
        self._known.clear()
        if client is not None:
            with _translated():
                client.close()

    def indexes(self) -> frozenset[str]:
        """The names of all indexes."""
        with _translated():
            return frozenset(collection.name for collection in self._opened().list_collections())

    def create(self, index: str, model: str, dimension: int) -> None:
        """Make an index for the vectors of one model, or check that the one there is for the same.

        Raises WrongEmbeddingModel when it is not.
        """
        with self._lock, _translated():
            collection = self._find(index)
            if collection is None:
                self._known[index] = self._opened().create_collection(
                    index,
                    embedding_function=None,
                    configuration={"hnsw": self._hnsw},
                    metadata={"embedding_model": model, "dimension": dimension, "schema": _SCHEMA},
                )
                return
            recorded = collection.metadata
        if (recorded["embedding_model"], recorded["dimension"]) != (model, dimension):
            raise WrongEmbeddingModel(
                f"This collection is indexed with {recorded['embedding_model']} ({recorded['dimension']} dimensions), "
                f"not with {model} ({dimension} dimensions). Re-index it, or configure the former model again."
            )

    def upsert(self, index: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Add or replace rows. Raises WrongEmbeddingModel when they are longer or shorter than the index's."""
        collection = self._existing(index)
        _check_dimension(collection, vectors.shape[1])
        with _translated():
            for first in range(0, len(ids), _BATCH):
                collection.upsert(ids=list(ids[first : first + _BATCH]), embeddings=vectors[first : first + _BATCH])

    def delete(self, index: str, ids: Sequence[str]) -> None:
        """Remove rows; neither they nor the index need exist."""
        with self._lock, _translated():
            collection = self._find(index)
        if collection is None:
            return
        with _translated():
            for first in range(0, len(ids), _DELETED_AT_ONCE):
                collection.delete(ids=list(ids[first : first + _DELETED_AT_ONCE]))

    def drop(self, index: str) -> None:
        """Remove a whole index with its files; it need not exist."""
        with self._lock, _translated():
            if self._find(index) is not None:
                self._opened().delete_collection(index)
                self._known.pop(index, None)
        # Chroma leaves the vectors of a deleted collection on disk for ever.
        preflight.remove_orphans(self.folder)

    def ids(self, index: str) -> frozenset[str]:
        """The ids of all rows."""
        collection = self._existing(index)
        with _translated():
            return frozenset(collection.get(include=[])["ids"])

    def search(self, index: str, vector: Vectors, limit: int) -> Sequence[tuple[str, float]]:
        """At most `limit` ids with their cosine similarity, best first; none where the index was dropped meanwhile.

        Raises WrongEmbeddingModel when the vector is longer or shorter than the index's.
        """
        with self._lock, _translated():
            collection = self._find(index)
        if collection is None:
            return []
        _check_dimension(collection, vector.shape[0])
        with _translated():
            found = collection.query(query_embeddings=vector.reshape(1, -1), n_results=limit, include=["distances"])
        distances = found["distances"] or [[]]
        return [(chunk_id, 1.0 - distance) for chunk_id, distance in zip(found["ids"][0], distances[0], strict=True)]

    def _opened(self) -> "Client":
        if self._client is None:
            raise FootnoteError("The vector index is not open yet. Try again in a moment.")
        return self._client

    def _find(self, index: str) -> "Collection | None":
        from chromadb.errors import NotFoundError  # noqa: PLC0415

        if index not in self._known:
            try:
                # Without None Chroma would attach a model of its own, and download it.
                self._known[index] = self._opened().get_collection(index, embedding_function=None)
            except NotFoundError:
                return None
        return self._known[index]

    def _existing(self, index: str) -> "Collection":
        with self._lock, _translated():
            collection = self._find(index)
        if collection is None:
            raise FootnoteError("The vector index of this collection is missing. Restart Footnote to rebuild it.")
        return collection


def _check_dimension(collection: "Collection", dimension: int) -> None:
    recorded = collection.metadata["dimension"]
    if recorded != dimension:
        raise WrongEmbeddingModel(
            f"This collection is indexed with {collection.metadata['embedding_model']} ({recorded} dimensions), but "
            f"the configured model makes {dimension} dimensions. Re-index it, or configure the former model again."
        )


def _raise_open_file_limit() -> None:
    """Chroma keeps a fifth of the soft limit of open files in memory as indexes; evicted ones lose vectors."""
    try:
        import resource  # noqa: PLC0415
    except ImportError:
        logger.warning(
            "The limit of open files cannot be raised here: above about 100 collections vectors may be lost."
        )
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FootnoteError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in Chroma's Rust part is no Exception
        raise FootnoteError(
            "The vector index failed. Restart Footnote: it checks the index at start and rebuilds it where needed."
        ) from error
