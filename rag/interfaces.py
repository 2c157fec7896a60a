"""The seams: what the pipeline needs from models and indexes, and nothing more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy
from numpy.typing import NDArray

from rag.domain import (
    Bands,
    Finished,
    Hit,
    Image,
    ReasoningDelta,
    Spending,
    TermStatistics,
    TextDelta,
    Turn,
)
from rag.stopping import Stop

Vectors = NDArray[numpy.float32]
"""One unit-length row of float32 per text, shape (texts, dimension)."""


@dataclass(frozen=True, slots=True)
class Illustrated:
    """A picture to be embedded together with its text ("" without)."""

    text: str
    image: Image


Input = str | Illustrated


def _free(spending: Spending) -> None:
    """Nobody keeps the accounts."""


@dataclass(frozen=True, slots=True)
class Errand:
    """On whose behalf models are called: what stops it, the session it belongs to, and who is told what it took.

    `session` groups the calls of one conversation or document ("" for none), so that a provider can keep its cache
    warm. `bill` is called once per call to a server, also for those that fail or are stopped, from any thread.
    """

    stop: Stop = field(default_factory=Stop)
    session: str = ""
    bill: Callable[[Spending], None] = _free


class Embedder(Protocol):
    """Turns texts, and pictures where it can, into vectors."""

    @property
    def model(self) -> str:
        """The identity recorded with every vector: two embedders with the same name make the same vectors."""
        ...

    @property
    def takes_images(self) -> bool:
        """Whether it can embed pictures."""
        ...

    def embed(
        self,
        inputs: Sequence[Input],
        purpose: Literal["query", "document"],
        errand: Errand,
        received: Callable[[Sequence[int], Vectors], None] | None = None,
    ) -> Vectors:
        """One unit-length vector per input, in order; a text without any known word may be a zero row.

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

    @property
    def takes_images(self) -> bool:
        """Whether it can judge pictures."""
        ...

    def rerank(
        self,
        question: str,
        hits: Sequence[Hit],
        statistics: TermStatistics,
        errand: Errand,
        images: Mapping[str, Image] = MappingProxyType({}),
    ) -> Sequence[float]:
        """One relevance per hit, in the order given, as the model made it. Raises ProviderError, Stopped.

        `images` are the pictures of those hits that are pictures, by chunk id.
        """
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """The shape of a structured reply: a name ([A-Za-z0-9_-], at most 64) and a JSON schema of an object."""

    name: str
    schema: Mapping[str, Any]


class ChatModel(Protocol):
    """Writes text."""

    @property
    def model(self) -> str:
        """The configured name; `Finished.model` is the one that answered."""
        ...

    @property
    def takes_images(self) -> bool:
        """Whether it can see pictures."""
        ...

    def stream(self, turns: Sequence[Turn], errand: Errand) -> Iterator[TextDelta | ReasoningDelta | Finished]:
        """The reply in pieces, then exactly one `Finished`. Raises ProviderError before or amid the text, Stopped."""
        ...

    def fill(self, turns: Sequence[Turn], form: Form, errand: Errand) -> Mapping[str, Any]:
        """The reply as an object of that form. Its members may still be missing or ill-typed: check each.

        Raises BadReply where the reply is no JSON object, other ProviderErrors, Stopped.
        """
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
