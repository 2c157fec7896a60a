"""The seams: what the pipeline needs from models and indexes, and nothing more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy
from numpy.typing import NDArray

from rag.domain import Bands, Finished, Hit, TermStatistics, TextDelta, Turn, Usage
from rag.stopping import Stop

Vectors = NDArray[numpy.float32]
"""One unit-length row of float32 per text, shape (texts, dimension)."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def model(self) -> str:
        """The identity recorded with every vector: two embedders with the same name make the same vectors."""
        ...

    def embed(
        self,
        texts: Sequence[str],
        purpose: Literal["query", "document"],
        stop: Stop,
        received: Callable[[Sequence[int], Vectors], None] | None = None,
    ) -> Vectors:
        """One unit-length vector per text, in order; a text without any known word may be a zero row.

        `received(indexes, rows)` is called from this thread with each batch as soon as it is there, in any order, so
        that paid-for vectors can be kept even if a later batch fails. Raises ProviderError, Stopped.
        """
        ...


class Reranker(Protocol):
    """Scores candidates against a question. It returns scores in the order given: it cannot drop or relabel."""

    @property
    def model(self) -> str:
        """The name shown beside its scores."""
        ...

    @property
    def bands(self) -> Bands:
        """Cut points of its score."""
        ...

    def rerank(
        self, question: str, hits: Sequence[Hit], statistics: TermStatistics, stop: Stop
    ) -> tuple[Sequence[float], Usage]:
        """One relevance per hit, in the order given, as the model made it. Raises ProviderError, Stopped."""
        ...


class ChatModel(Protocol):
    """Writes text."""

    @property
    def model(self) -> str:
        """The configured name; `Finished.model` is the one that answered."""
        ...

    def stream(self, turns: Sequence[Turn], stop: Stop) -> Iterator[TextDelta | Finished]:
        """The reply in pieces, then exactly one `Finished`. Raises ProviderError before or amid the text, Stopped."""
        ...


class Extractor(Protocol):
    """Picks the sentences that answer a question, for when no chat model is configured."""

    @property
    def model(self) -> str:
        """The name shown as the writer of the answer."""
        ...

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        """Up to three sentences, best first: (index of the hit, start, end), offsets in that hit's `chunk.text`."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by cosine, in named indexes."""

    def upsert(self, index: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Add or replace rows; repeating it changes nothing."""
        ...

    def search(self, index: str, vector: Vectors, limit: int) -> Sequence[tuple[str, float]]:
        """At most `limit` ids with their cosine similarity, best first. `vector` has shape (dimension,)."""
        ...


class KeywordIndex(Protocol):
    """Words of a collection's published chunks."""

    def search(self, collection_id: str, question: str, limit: int) -> Sequence[tuple[str, float]]:
        """At most `limit` chunk ids, best first, with bm25 divided by the best any passage could reach (0 to 1)."""
        ...

    def scores(self, collection_id: str, question: str, chunk_ids: Sequence[str]) -> Sequence[float]:
        """The same bounded score for given chunks, in the order given."""
        ...

    def document_matches(self, collection_id: str, question: str) -> Mapping[str, float]:
        """The share of the question that each document's name and first page hold (0 to 1), by version id."""
        ...

    def statistics(self, collection_id: str, question: str) -> TermStatistics:
        """How many chunks there are, and in how many each stem of the question occurs."""
        ...
