"""Small stand-ins for models, with results that can be worked out by hand."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import numpy

from rag.account import Account, Books
from rag.domain import (
    Bands,
    Chunking,
    Collection,
    Finished,
    Hit,
    Image,
    ReasoningDelta,
    Spending,
    TermStatistics,
    TextDelta,
    Turn,
    Usage,
)
from rag.errors import BadReply, OverBudget, ProviderError
from rag.interfaces import Errand, Form, Input, Vectors
from rag.models import Models
from rag.retrieval import STATIC
from rag.usage import Entry
from rag.words import terms

DIMENSION = 64


class BagOfWords:
    """An embedder whose cosine is the share of common words. Remembers what it was asked; fails when told to.

    It reads the bytes of a picture as the words that the picture shows.
    """

    takes_images = False

    def __init__(self, model: str = "fake:bag", dimension: int = DIMENSION) -> None:
        self.model = model
        self.dimension = dimension
        self.asked: list[str] = []
        self.fails_after: int | None = None

    def embed(
        self,
        inputs: Sequence[Input],
        purpose: Literal["query", "document"],
        errand: Errand,
        received: Callable[[Sequence[int], Vectors], None] | None = None,
    ) -> Vectors:
        texts = [one if isinstance(one, str) else f"{one.text} {one.image.data.decode()}" for one in inputs]
        rows = numpy.zeros((len(texts), self.dimension), numpy.float32)
        for first in range(0, len(texts), 4):
            errand.stop.check()
            if self.fails_after is not None and len(self.asked) >= self.fails_after:
                raise ProviderError("The embedding server is down. Try again later.")
            indexes = range(first, min(first + 4, len(texts)))
            errand.bill(Spending(self.model, "", Usage(prompt_tokens=len(indexes), cost=0.0001), 0.0, 0, "done"))
            for index in indexes:
                for term in terms(texts[index]):
                    rows[index, hashlib.blake2b(term.encode(), digest_size=2).digest()[0] % self.dimension] += 1
                rows[index] /= max(float(numpy.linalg.norm(rows[index])), 1e-9)
            self.asked += [texts[index] for index in indexes]
            if received is not None:
                received(indexes, rows[first : first + 4])
        return rows


class Overlap:
    """A reranker whose score is the share of the question's words in the passage, or in its picture where it sees."""

    takes_images = False
    model = "fake/overlap"
    bands = Bands(not_found=0.1, confident=0.5, strong=0.8, fitted=True)

    def __init__(self) -> None:
        self.problem: ProviderError | None = None

    def rerank(
        self,
        question: str,
        hits: Sequence[Hit],
        statistics: TermStatistics,
        errand: Errand,
        images: Mapping[str, Image] = MappingProxyType({}),
    ) -> Sequence[float]:
        if self.problem is not None:
            raise self.problem
        errand.bill(Spending(self.model, "", Usage(search_units=1), 0.0, 0, "done"))
        wanted = set(terms(question))
        seen = {key: image.data.decode() for key, image in images.items()}
        texts = [f"{hit.chunk.text} {seen.get(hit.chunk.id, '')}" for hit in hits]
        return [len(wanted & set(terms(text))) / max(len(wanted), 1) for text in texts]


class Speaker:
    """A chat model that gives its replies in turn, and remembers what it was told. It fills forms from `filled`."""

    takes_images = False
    model = "fake/speaker"

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.filled: list[Mapping[str, Any]] = []
        self.thoughts = ""
        self.complete = True
        self.heard: list[Sequence[Turn]] = []

    def stream(self, turns: Sequence[Turn], errand: Errand) -> Iterator[TextDelta | ReasoningDelta | Finished]:
        self.heard.append(turns)
        if self.thoughts:
            yield ReasoningDelta(self.thoughts)
        for word in self.replies.pop(0).split(" "):
            errand.stop.check()
            yield TextDelta(f"{word} ")
        self._bill(errand)
        yield Finished(self.model, complete=self.complete)

    def fill(self, turns: Sequence[Turn], form: Form, errand: Errand) -> Mapping[str, Any]:
        self.heard.append(turns)
        self._bill(errand)
        if not self.filled:
            raise BadReply("The model answered with something other than was asked for.")
        return self.filled.pop(0)

    def _bill(self, errand: Errand) -> None:
        usage = Usage(prompt_tokens=7, completion_tokens=2, cost=0.001)
        errand.bill(Spending(self.model, "fake", usage, 0.0, 0, "done"))


class FirstSentences:
    """An extractor that takes the first sentence of each passage."""

    model = "fake extracts"

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        return [(index, 0, hit.chunk.text.index(".") + 1) for index, hit in enumerate(hits[:3])]


def quarters(texts: Sequence[str]) -> list[int]:
    """Tokens as characters / 4."""
    return [len(text) // 4 for text in texts]


class Notebook:
    """A ledger that only remembers; it refuses when told that the budget is spent."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_spent = False

    def record(self, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def check(self, budget: float | None) -> None:
        if self.is_spent:
            raise OverBudget("The budget of this month is spent.")


COLLECTION = Collection("c1", "Policies", Chunking(), "fake:bag", None, 1, None, datetime(2026, 1, 1, tzinfo=UTC))


def account(notebook: Notebook | None = None) -> Account:
    """An account of a question about a collection."""
    return Account(Books(notebook or Notebook(), lambda: None, lambda stage, model: None), COLLECTION, "m1", "s1")


def models(chat: object, **switches: bool) -> Models:
    """Models of which only the one that writes matters."""
    return Models(None, None, chat, FirstSentences(), STATIC, quarters, **switches)
