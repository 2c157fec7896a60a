"""The models that the stages of the pipeline use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag.interfaces import ChatModel, Embedder, Extractor, Reranker
from rag.retrieval import Fusion


@dataclass(frozen=True, slots=True)
class Models:
    """One model per stage; None where the stage is off or not available on this platform.

    `fusion` fits the embedder, `count_tokens` measures chunks and needs no network. The three switches are people's
    preferences: keep the chat model's thoughts for the reader, have it judge citations, have it take questions apart.
    """

    embedder: Embedder | None
    reranker: Reranker | None
    chat: ChatModel | None
    extractor: Extractor
    fusion: Fusion
    count_tokens: Callable[[Sequence[str]], list[int]]
    shows_reasoning: bool = False
    checks_citations: bool = False
    splits_questions: bool = False

    @property
    def embedding(self) -> str:
        """The name recorded with a collection's vectors; "" when there are keywords only."""
        return self.embedder.model if self.embedder else ""
