"""What a question finds: both indexes, their fused order, and the reranker's."""

from collections.abc import Generator, Mapping, Sequence
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
from rag.interfaces import KeywordIndex, Reranker, VectorIndex, Vectors
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

    def __init__(self, stores: Stores) -> None:
        self._passages = stores.passages
        self._figures = stores.figures
        self._vectors = stores.vectors
        self._keywords: KeywordIndex = stores.keywords
        self._index: VectorIndex = stores.index

    def run(
        self, queries: Sequence[str], account: Account, models: Models, stop: Stop
    ) -> Generator[AnswerEvent, None, Searched]:
        """Search the account's collection; yield `Searching`, `Retrieved`, `Reranked`; return the result.

        The first query is the whole question; any others are its parts, and a passage counts by the one it fits best.
        A reranker that fails costs its order, not the answer: the account's notices say so.
        Raises ProviderError (embedding), WrongEmbeddingModel, Stopped.
        """
        yield Searching(queries[0])
        found = self._candidates(queries, account, models, stop)
        candidates = retrieval.merged(list(found.values()), _CANDIDATES)
        yield Retrieved(candidates, account.step("searching", len(candidates)))
        statistics = self._keywords.statistics(account.collection.id, queries[0])
        reranker = models.reranker
        scores = None
        if reranker is not None and candidates:
            try:
                scores = self._scores(reranker, found, candidates, statistics, account, stop)
            except ProviderError as error:
                account.notices.append(f"Reranking failed, so passages stand in the order they were found. {error}")
                reranker = None
        hits = retrieval.ranked(candidates, scores)
        name, bands = (reranker.model, reranker.bands) if reranker else (None, None)
        yield Reranked(hits, name, account.step("reranking", len(hits)) if models.reranker else 0.0)
        return Searched(queries[0], hits, statistics, account.collection.embedding_model, name, bands)

    def _scores(
        self,
        reranker: Reranker,
        found: Mapping[str, Sequence[Hit]],
        candidates: Sequence[Hit],
        statistics: TermStatistics,
        account: Account,
        stop: Stop,
    ) -> list[float]:
        """The best relevance of each candidate to any query that found it, in the order of the candidates."""
        pictures = [hit.chunk for hit in candidates if hit.chunk.figure is not None]
        images = self._figures.of_chunks(pictures) if pictures and reranker.takes_images else {}
        errand = account.errand("reranking", stop)
        # The whole question judges every candidate; a part of it, those that it found.
        whole, *parts = found
        relevance = reranker.rerank(whole, candidates, statistics, errand, images)
        best = {hit.chunk.id: score for hit, score in zip(candidates, relevance, strict=True)}
        for part in parts:
            of_part = {hit.chunk.id for hit in found[part]}
            judged = [hit for hit in candidates if hit.chunk.id in of_part]
            if judged:
                counts = self._keywords.statistics(account.collection.id, part)
                for hit, score in zip(judged, reranker.rerank(part, judged, counts, errand, images), strict=True):
                    best[hit.chunk.id] = max(score, best[hit.chunk.id])
        return [best[hit.chunk.id] for hit in candidates]

    def _candidates(
        self, queries: Sequence[str], account: Account, models: Models, stop: Stop
    ) -> dict[str, tuple[Hit, ...]]:
        """The best candidates of both indexes by their fused score, for each query."""
        vectors = self._query_vectors(queries, account, models, stop)
        return {
            query: self._of_query(query, vector, account.collection, models, stop)
            for query, vector in zip(queries, vectors, strict=True)
        }

    def _of_query(
        self, query: str, vector: Vectors | None, collection: Collection, models: Models, stop: Stop
    ) -> tuple[Hit, ...]:
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
        return retrieval.fuse(hits, models.fusion_of(collection.embedding_model), _CANDIDATES)

    def _query_vectors(
        self, queries: Sequence[str], account: Account, models: Models, stop: Stop
    ) -> Sequence[Vectors | None]:
        """The queries' vectors; None where this collection can only be searched by its words."""
        collection = account.collection
        if collection.reindexing_to is not None:
            account.notices.append("This collection is being re-indexed; until then only its words are searched.")
            return [None] * len(queries)
        if collection.dimension is None:
            return [None] * len(queries)
        embedder = models.embedder_of(collection.embedding_model)
        if embedder is None:
            raise WrongEmbeddingModel(wrong_model(collection, models.embedding))
        vectors = embedder.embed(queries, "query", account.errand("searching", stop))
        return [vector if vector.any() else None for vector in vectors]

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
