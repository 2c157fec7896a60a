"""Reranking: one relevance per candidate, in the order given."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rag import prompts
from rag.domain import Bands, Failure, Hit, Image, TermStatistics
from rag.errors import BadReply, InputRejected
from rag.interfaces import Errand
from rag.openrouter import pictures
from rag.openrouter.client import QUESTION_PATIENCE, Call, Client
from rag.openrouter.failures import Purpose
from rag.openrouter.routing import ANY_PROVIDER, Routing, as_provider
from rag.openrouter.usage import estimated_tokens, finite, most_tokens, shortened, whole

_MOST_DOCUMENTS = 100  # also what one search unit covers
_REFUSALS = (400, 413, 422)
_TOO_MUCH = re.compile(
    r"too (?:many|large|long|big)|at most|max|limit|exceed|more than|fewer|documents|length|tokens", re.I
)

Document = str | Mapping[str, str]


class OpenRouterReranker:
    """A rerank model behind OpenRouter or a compatible server (a `Reranker`). Threads may share it.

    Passages that may be longer than `context` tokens together with the question are cut before they are sent.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        routing: Routing = ANY_PROVIDER,
        context: int | None = None,
        takes_images: bool = False,
    ) -> None:
        self._client = client
        self._model = model
        self._routing = routing
        self._context = context
        self._takes_images = takes_images
        self._purpose = Purpose("rerank", model, "FOOTNOTE_RERANK_MODEL")

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    @property
    def takes_images(self) -> bool:
        """Whether it can judge pictures."""
        return self._takes_images

    @property
    def bands(self) -> Bands:
        """Not fitted on data for any model yet: only a cautious line below which nothing is answered."""
        return Bands(not_found=0.10, confident=None, strong=None, fitted=False)

    def rerank(
        self,
        question: str,
        hits: Sequence[Hit],
        statistics: TermStatistics,
        errand: Errand,
        images: Mapping[str, Image] = MappingProxyType({}),
    ) -> Sequence[float]:
        """One relevance per hit, in the order given, as the model made it. Raises ProviderError, Stopped.

        More hits than a request takes are sent in several.
        """
        documents = [self._document(hit, question, images.get(hit.chunk.id)) for hit in hits]
        parts = (documents[first : first + _MOST_DOCUMENTS] for first in range(0, len(documents), _MOST_DOCUMENTS))
        return [score for part in parts for score in self._scored(question, part, errand)]

    def _document(self, hit: Hit, question: str, image: Image | None) -> Document:
        """A passage with where it stands, and its picture where there is one that the model can see."""
        text = prompts.passage(hit.document, hit.chunk.headings, hit.chunk.text)
        seen = image if self._takes_images else None
        if self._context is not None:
            taken = most_tokens(question) + (pictures.TOKENS if seen else 0)
            text = shortened(text, max(self._context - taken, self._context // 4))
        return text if seen is None else {"text": text, "image": pictures.data_uri(seen)}

    def _scored(self, question: str, documents: Sequence[Document], errand: Errand) -> Sequence[float]:
        """The scores of documents that may go in one request; in halves where that is too much for the server."""
        try:
            return self._request(question, documents, errand)
        except InputRejected as refusal:
            if len(documents) == 1 or not _means_too_much(refusal):
                raise
        half = len(documents) // 2
        return [
            *self._scored(question, documents[:half], errand),
            *self._scored(question, documents[half:], errand),
        ]

    def _request(self, question: str, documents: Sequence[Document], errand: Errand) -> Sequence[float]:
        body: dict[str, Any] = {
            "model": self._model,
            "query": question,
            "documents": documents,
            "top_n": len(documents),  # some servers give only the best few unless they are told
        }
        if provider := as_provider(self._routing):
            body["provider"] = provider
        call = Call(
            path="/rerank",
            body=body,
            purpose=self._purpose,
            patience=QUESTION_PATIENCE,
            prompt_tokens=sum(map(_tokens, documents)) + int(estimated_tokens(question)),
        )
        return self._client.post(call, errand, lambda reply: self._scores(reply, len(documents)))

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
            f"The rerank model {self._model} at {self._client.host} returned {what}: "
            "choose another in Settings → Models (FOOTNOTE_RERANK_MODEL).",
            failure=Failure(200, "", "", "", "models"),
        )


def _means_too_much(refusal: InputRejected) -> bool:
    """Whether fewer documents may be accepted: the server says so, or does not say why it refused."""
    said = refusal.failure.said
    return refusal.status in _REFUSALS and (refusal.status == 413 or not said or bool(_TOO_MUCH.search(said)))


def _tokens(document: Document) -> int:
    if isinstance(document, str):
        return int(estimated_tokens(document))
    return int(estimated_tokens(document["text"])) + pictures.TOKENS
