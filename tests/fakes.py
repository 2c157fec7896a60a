"""Small stand-ins for models, with results that can be worked out by hand."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy

from rag.domain import Bands, Finished, Hit, TermStatistics, TextDelta, Turn, Usage
from rag.errors import ProviderError
from rag.interfaces import Vectors
from rag.stopping import Stop
from rag.words import terms

DIMENSION = 64


class BagOfWords:
    """An embedder whose cosine is the share of common words. Remembers what it was asked; fails when told to."""

    def __init__(self, model: str = "fake:bag", dimension: int = DIMENSION) -> None:
        self.model = model
        self.dimension = dimension
        self.asked: list[str] = []
        self.fails_after: int | None = None

    def embed(
        self,
        texts: Sequence[str],
        purpose: Literal["query", "document"],
        stop: Stop,
        received: Callable[[Sequence[int], Vectors], None] | None = None,
    ) -> Vectors:
        rows = numpy.zeros((len(texts), self.dimension), numpy.float32)
        for first in range(0, len(texts), 4):
            stop.check()
            if self.fails_after is not None and len(self.asked) >= self.fails_after:
                raise ProviderError("The embedding server is down. Try again later.")
            indexes = range(first, min(first + 4, len(texts)))
            for index in indexes:
                for term in terms(texts[index]):
                    rows[index, hashlib.blake2b(term.encode(), digest_size=2).digest()[0] % self.dimension] += 1
                rows[index] /= max(float(numpy.linalg.norm(rows[index])), 1e-9)
            self.asked += [texts[index] for index in indexes]
            if received is not None:
                received(indexes, rows[first : first + 4])
        return rows


class Overlap:
    """A reranker whose score is the share of the question's words in the passage."""

    model = "fake/overlap"
    bands = Bands(not_found=0.1, confident=0.5, strong=0.8, fitted=True)

    def __init__(self) -> None:
        self.problem: ProviderError | None = None

    def rerank(
        self, question: str, hits: Sequence[Hit], statistics: TermStatistics, stop: Stop
    ) -> tuple[Sequence[float], Usage]:
        if self.problem is not None:
            raise self.problem
        wanted = set(terms(question))
        scores = [len(wanted & set(terms(hit.chunk.text))) / max(len(wanted), 1) for hit in hits]
        return scores, Usage(search_units=1)


class Speaker:
    """A chat model that gives its replies in turn, and remembers what it was told."""

    model = "fake/speaker"

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.heard: list[Sequence[Turn]] = []

    def stream(self, turns: Sequence[Turn], stop: Stop) -> Iterator[TextDelta | Finished]:
        self.heard.append(turns)
        for word in self.replies.pop(0).split(" "):
            stop.check()
            yield TextDelta(f"{word} ")
        yield Finished(self.model, Usage(prompt_tokens=7, completion_tokens=2, cost=0.001), complete=True)


class FirstSentences:
    """An extractor that takes the first sentence of each passage."""

    model = "fake extracts"

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        return [(index, 0, hit.chunk.text.index(".") + 1) for index, hit in enumerate(hits[:3])]


def quarters(texts: Sequence[str]) -> list[int]:
    """Tokens as characters / 4."""
    return [len(text) // 4 for text in texts]
