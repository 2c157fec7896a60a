"""What a question finds: both indexes, their fused order, and the reranker's."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from rag import retrieval
from rag.account import Account
from rag.domain import (
    AnswerEvent,
    Bands,
    Collection,
    Hit,
    Reranked,
    Retrieved,
    Searching,
    TermStatistics,
)
from rag.errors import ProviderError, WrongEmbeddingModel
from rag.interfaces import KeywordIndex, VectorIndex, Vectors
from rag.models import Models
from rag.stopping import Stop
from rag.stores import Stores

_FOUND_BY_EACH = 50
_CANDIDATES = 30


@dataclass(frozen=True, slots=True)
class Searched:
    """All candidates in final order, and what put them there; `reranker` and `bands` are None when not reranked."""

    query: str
    hits: tuple[Hit, ...]
    statistics: TermStatistics
    embedding_model: str
    reranker: str | None
    bands: Bands | None


class Search:
    """Retrieve by vectors and keywords, fuse, rerank."""

    def __init__(self, stores: Stores, models: Models) -> None:
        self._library = stores.library
        self._passages = stores.passages
        self._vectors = stores.vectors
        self._keywords: KeywordIndex = stores.keywords
        self._index: VectorIndex = stores.index
        self._models = models

    def run(
        self, query: str, collection_id: str, account: Account, stop: Stop
    ) -> Generator[AnswerEvent, None, Searched]:
        """Yield `Searching`, `Retrieved`, `Reranked`; return the result.

        A reranker that fails costs its order, not the answer: the account's notices say so.
        Raises ProviderError (embedding), WrongEmbeddingModel, NotFound, Stopped.
        """
        collection = self._library.collection(collection_id)
        yield Searching(query)
        candidates = self._candidates(query, collection, account, stop)
        yield Retrieved(candidates, account.step("searching", len(candidates)))
        statistics = self._keywords.statistics(collection.id, query)
        reranker = self._models.reranker
        scores = None
        if reranker is not None and candidates:
            try:
                scores, usage = reranker.rerank(query, candidates, statistics, stop)
                account.spend(usage)
            except ProviderError as error:
                account.notices.append(f"Reranking failed, so passages stand in the order they were found. {error}")
                reranker = None
        hits = retrieval.ranked(candidates, scores)
        name, bands = (reranker.model, reranker.bands) if reranker else (None, None)
        yield Reranked(hits, name, account.step("reranking", len(hits)) if self._models.reranker else 0.0)
        return Searched(query, hits, statistics, collection.embedding_model, name, bands)

    def _candidates(self, query: str, collection: Collection, account: Account, stop: Stop) -> tuple[Hit, ...]:
        """The best candidates of both indexes by their fused score."""
        vector = self._vector(query, collection, account, stop)
        near = dict(self._index.search(collection.index, vector, _FOUND_BY_EACH)) if vector is not None else {}
        stop.check()
        matching = dict(self._keywords.search(collection.id, query, _FOUND_BY_EACH))
        near_ranks = {chunk_id: rank for rank, chunk_id in enumerate(near, 1)}
        matching_ranks = {chunk_id: rank for rank, chunk_id in enumerate(matching, 1)}
        # Each index also scores what only the other one found, so that no sum lacks a part.
        only_matching = [key for key in matching if key not in near]
        similarities = near | self._similarities(vector, collection.embedding_model, only_matching)
        only_near = [key for key in near if key not in matching]
        bm25 = matching | dict(zip(only_near, self._keywords.scores(collection.id, query, only_near), strict=True))
        matches = self._keywords.document_matches(collection.id, query)
        published = self._passages.chunks(list(bm25))
        hits = [
            Hit(
                chunk=chunk,
                document=document,
                vector_rank=near_ranks.get(chunk_id),
                similarity=similarities.get(chunk_id),
                keyword_rank=matching_ranks.get(chunk_id),
                bm25=bm25[chunk_id],
                document_match=matches.get(chunk.version_id, 0.0),
            )
            for chunk_id, (chunk, document) in published.items()
        ]
        return retrieval.fuse(hits, self._models.fusion, _CANDIDATES)

    def _vector(self, query: str, collection: Collection, account: Account, stop: Stop) -> Vectors | None:
        """The question's vector; None where this collection can only be searched by its words."""
        if collection.reindexing_to is not None:
            account.notices.append("This collection is being re-indexed; until then only its words are searched.")
            return None
        if collection.dimension is None:
            return None
        embedder = self._models.embedder
        if embedder is None or embedder.model != collection.embedding_model:
            raise WrongEmbeddingModel(wrong_model(collection, self._models.embedding))
        vector: Vectors = embedder.embed([query], "query", stop)[0]
        return vector if vector.any() else None

    def _similarities(self, vector: Vectors | None, model: str, chunk_ids: Sequence[str]) -> dict[str, float]:
        if vector is None:
            return {}
        return {key: float(row @ vector) for key, row in self._vectors.of_chunks(model, chunk_ids).items()}


def wrong_model(collection: Collection, configured: str) -> str:
    """The sentence for a collection whose vectors were made by another model than the configured one."""
    return (
        f"The collection “{collection.name}” was indexed with {collection.embedding_model or 'keywords only'}, but "
        f"{configured or 'keywords only'} is configured now. Re-index it on the Documents page, or configure "
        "the former model again."
    )
