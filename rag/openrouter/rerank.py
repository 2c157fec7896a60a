"""Reranking: one relevance per candidate, in the order given."""

from collections.abc import Mapping, Sequence
from typing import Any

from rag import prompts
from rag.domain import Bands, Hit, TermStatistics, Usage
from rag.errors import BadReply
from rag.openrouter.client import QUESTION_PATIENCE, Call, Client
from rag.openrouter.failures import Purpose
from rag.openrouter.usage import finite, usage_in, whole
from rag.stopping import Stop


class OpenRouterReranker:
    """A rerank model behind OpenRouter or a compatible server (a `Reranker`)."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    @property
    def bands(self) -> Bands:
        """Not fitted on data for any model yet: only a cautious line below which nothing is answered."""
        return Bands(not_found=0.10, confident=None, strong=None, fitted=False)

    def rerank(
        self, question: str, hits: Sequence[Hit], statistics: TermStatistics, stop: Stop
    ) -> tuple[Sequence[float], Usage]:
        """One relevance per hit, in the order given, as the model made it. Raises ProviderError, Stopped."""
        if not hits:
            return (), Usage()
        documents = [prompts.passage(hit.document, hit.chunk.headings, hit.chunk.text) for hit in hits]
        call = Call(
            path="/rerank",
            body={"model": self._model, "query": question, "documents": documents},
            purpose=Purpose("rerank", self._model, "FOOTNOTE_RERANK_MODEL"),
            patience=QUESTION_PATIENCE,
        )
        return self._client.post(call, stop, lambda reply: (self._scores(reply, len(hits)), usage_in(reply) or Usage()))

    def _scores(self, reply: Mapping[str, Any], count: int) -> Sequence[float]:
        """The scores by the position of their document, which the echo of its text would not give safely."""
        results = reply.get("results")
        found: dict[int, float] = {}
        for result in results if isinstance(results, list) else []:
            entry = result if isinstance(result, dict) else {}
            index, score = whole(entry.get("index")), finite(entry.get("relevance_score"))
            if index is None or score is None:
                raise self._unusable("a result without a position or a score")
            if index in found:
                raise self._unusable("the same passage twice")
            found[index] = score
        if found.keys() != set(range(count)):
            raise self._unusable("other passages than it was sent")
        return [found[index] for index in range(count)]

    def _unusable(self, what: str) -> BadReply:
        return BadReply(
            f"The rerank model {self._model} at {self._client.host} returned {what}. Check FOOTNOTE_RERANK_MODEL.",
            status=200,
        )
