"""The models that the stages of the pipeline use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag.interfaces import ChatModel, Embedder, Extractor, Reranker
from rag.retrieval import STATIC, Fusion


@dataclass(frozen=True, slots=True)
class Models:
    """One model per stage; None where the stage is off or not available on this platform.

    `fusion` fits the embedder, `count_tokens` measures chunks and needs no network. `static` is the local embedder,
    which is there beside any other: collections that were indexed with it need no server. `are_billed` is False where
    no stage calls a server. The three switches are people's preferences: keep the chat model's thoughts for the
    reader, have it judge citations, have it take questions apart.
    """

    embedder: Embedder | None
    reranker: Reranker | None
    chat: ChatModel | None
    extractor: Extractor
    fusion: Fusion
    count_tokens: Callable[[Sequence[str]], list[int]]
    static: Embedder | None = None
    are_billed: bool = True
    shows_reasoning: bool = False
    checks_citations: bool = False
    splits_questions: bool = False

    @property
    def embedding(self) -> str:
        """The name recorded with a collection's vectors; "" when there are keywords only."""
        return self.embedder.model if self.embedder else ""

    def embedder_of(self, model: str) -> Embedder | None:
        """The embedder that makes vectors of this name; None where none in use does."""
        return next((one for one in (self.embedder, self.static) if one is not None and one.model == model), None)

    def fusion_of(self, model: str) -> Fusion:
        """The weights that fit vectors of this name."""
        return STATIC if self.static is not None and self.static.model == model else self.fusion
