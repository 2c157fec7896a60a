"""The three kinds of work that models do, their names for people, and where each is done."""

from collections.abc import Mapping

from rag import services
from rag.openrouter import client
from rag.settings import Stage

STAGES: tuple[Stage, ...] = ("chat", "embeddings", "rerank")
NAMES: Mapping[Stage, str] = {"chat": "Answers", "embeddings": "Embeddings", "rerank": "Reranking"}


def is_served(stage: Stage) -> bool:
    """Whether a models' server does it."""
    return bool(getattr(services.get().settings, stage) == "openrouter")


def is_openrouter(stage: Stage) -> bool:
    """Whether that server is OpenRouter itself."""
    return client.is_openrouter(services.get().choice.client(stage).host)


def where(stage: Stage) -> str:
    """ "openrouter.ai", "this machine", "off". Not yet Markdown."""
    if is_served(stage):
        return services.get().choice.client(stage).host
    return "off" if services.get().settings.rerank == "off" and stage == "rerank" else "this machine"
