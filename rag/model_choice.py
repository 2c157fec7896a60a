"""Which models are in use: chosen by the settings, by people's preferences and by typed keys; they may change any time.

Whoever answers a question or indexes a document takes `models` once, at its beginning, and keeps them to its end.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import SecretStr

from rag import retrieval
from rag.catalogue import Catalogue
from rag.domain import Bands, CallStage, ModelInfo, Price
from rag.errors import InvalidRequest
from rag.interfaces import ChatModel, Embedder, Errand, Reranker
from rag.local import embeddings as local_embeddings
from rag.local.answer import LocalExtractor
from rag.local.features import Analyst
from rag.local.rerank import LocalReranker
from rag.models import Models
from rag.openrouter import models as offers
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Attribution, Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.models import KeyInfo, Provider
from rag.openrouter.rerank import OpenRouterReranker
from rag.preferences import Preferences, PreferenceStore
from rag.settings import Settings, Stage
from rag.stopping import Stop

STAGES: tuple[Stage, ...] = ("embeddings", "rerank", "chat")

KeyState = Literal["environment", "typed", "none"]

_FORMER_CLIENTS = 4
_NO_STATIC_MODEL = (
    "The local embedding model has no build for this platform, so only words are searched. "
    "Set OPENROUTER_API_KEY to search by meaning as well."
)
_STAGE_OF: Mapping[CallStage, Stage] = {
    "indexing": "embeddings",
    "searching": "embeddings",
    "reranking": "rerank",
    "rewriting": "chat",
    "writing": "chat",
    "checking": "chat",
}
# Where a server does not say what its models see, their names do.
_SEES: Mapping[Stage, re.Pattern[str]] = {
    "embeddings": re.compile(r"-vl\b|multimodal|\bclip\b", re.I),
    "rerank": re.compile(r"-vl\b|multimodal", re.I),
    "chat": re.compile(r"-vl\b|vision|pixtral|llava|gpt-4o|gpt-5|gpt-mini-latest|claude|gemini", re.I),
}


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The models in use, as shown. `embeddings` is "" with keywords only, `chat` None where answers are extracts.

    `local` tells that nothing leaves this machine, the `…_images` which models take pictures.
    """

    embeddings: str
    rerank: str | None
    chat: str | None
    bands: Bands | None
    local: bool
    notices: tuple[str, ...]
    embedding_takes_images: bool = False
    rerank_takes_images: bool = False
    chat_takes_images: bool = False


class ModelChoice:
    """The models of the moment, their servers and what is known about them. Any thread may use it."""

    def __init__(self, settings: Settings, stored: PreferenceStore, catalogue: Catalogue) -> None:
        self._settings = settings
        self._stored = stored
        self._catalogue = catalogue
        self._static = local_embeddings.load()
        self._analyst = Analyst(self._static)
        self._lock = threading.Lock()
        self._typed: dict[str, SecretStr] = {}
        self._clients: dict[tuple[str, str], Client] = {}
        self._preferences = stored.load()
        self._models = self._built()

    @property
    def settings(self) -> Settings:
        """What the server was started with, with the keys typed since."""
        return self._settings.model_copy(update=self._typed)

    @property
    def preferences(self) -> Preferences:
        """The preferences in force."""
        return self._preferences

    @property
    def models(self) -> Models:
        """The models in use now."""
        return self._models

    @property
    def names(self) -> ModelNames:
        """The models in use now, as shown."""
        models, settings = self._models, self.settings
        has_static = settings.embeddings != "local" or self._static is not None
        return ModelNames(
            embeddings=models.embedding,
            rerank=models.reranker.model if models.reranker else None,
            chat=models.chat.model if models.chat else None,
            bands=models.reranker.bands if models.reranker else None,
            local=_is_local(settings),
            notices=() if has_static else (_NO_STATIC_MODEL,),
            embedding_takes_images=models.embedder is not None and models.embedder.takes_images,
            rerank_takes_images=models.reranker is not None and models.reranker.takes_images,
            chat_takes_images=models.chat is not None and models.chat.takes_images,
        )

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    # ------------------------------------------------------------------ changing

    def change(self, **members: Any) -> None:
        """Change some of the preferences, and use them from the next question on. Raises InvalidRequest."""
        with self._lock:  # two people may change two things at once
            wanted = replace(self._preferences, **members)
            self._stored.save(wanted)
            self._preferences = wanted
            self._rebuild()

    def type_key(self, stage: Stage | None, key: str) -> None:
        """Use a key for a stage, or for all of OpenRouter's (None), until the server restarts; "" forgets it.

        Raises InvalidRequest.
        """
        key = key.strip()
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise InvalidRequest("A key is one word of plain letters, digits and signs.")
        name = f"{stage}_api_key" if stage else "openrouter_api_key"
        with self._lock:
            if key:
                self._typed[name] = SecretStr(key)
            else:
                self._typed.pop(name, None)
            self._rebuild()

    def _rebuild(self) -> None:
        self._models = self._built()
        # Somebody may still be asking the former servers; those replaced long ago are closed, and their keys forgotten.
        named = {self._client_name(stage) for stage in STAGES}
        for name in [name for name in self._clients if name not in named][:-_FORMER_CLIENTS]:
            self._clients.pop(name).close()

    # ------------------------------------------------------------------ servers

    def client(self, stage: Stage) -> Client:
        """The server of a stage."""
        with self._lock:
            return self._client(stage)

    def key_states(self) -> dict[Stage, KeyState]:
        """Where the key of each stage comes from."""
        states: dict[Stage, KeyState] = {}
        for stage in STAGES:
            now, started = self.settings.server(stage)[1], self._settings.server(stage)[1]
            states[stage] = "none" if now is None else "environment" if now == started else "typed"
        return states

    def key_info(self, stage: Stage) -> KeyInfo:
        """What the server says about the key of a stage. Asks it; raises ProviderError."""
        return offers.key(self.client(stage), Errand())

    def offered(self, stage: Stage) -> tuple[ModelInfo, ...]:
        """The models the stage's server offered when it was last asked; () when it never was."""
        return self._catalogue.models(self._server(stage), stage)

    def providers(self, stage: Stage, model: str) -> tuple[Provider, ...]:
        """Who runs a model. Asks the server; raises ProviderError."""
        return offers.providers(self.client(stage), model, Errand())

    def is_stale(self, stage: Stage) -> bool:
        """Whether the list of a stage's models should be fetched: it is used, and a day old."""
        used = getattr(self.settings, stage) == "openrouter"
        return used and self._catalogue.is_stale(self._server(stage), stage)

    def refresh(self, stage: Stage, stop: Stop | None = None) -> None:
        """Fetch the list of a stage's models. Raises ProviderError, Stopped."""
        found = offers.offered(self.client(stage), stage, Errand(stop or Stop()))
        self._catalogue.keep(self._server(stage), stage, found)
        with self._lock:
            self._rebuild()  # what a model takes and how much may be known better now

    def info(self, stage: Stage, model: str) -> ModelInfo | None:
        """What is known about a model."""
        return self._catalogue.find(self._server(stage), stage, model)

    def price_of(self, stage: CallStage, model: str) -> Price | None:
        """What a model costs by the list, or the asked one where replies name it otherwise; None if unknown."""
        server = _STAGE_OF[stage]
        info = self.info(server, model) or self.info(server, self.model_of(server))
        return info.price if info else None

    def _server(self, stage: Stage) -> str:
        return self.settings.server(stage)[0]

    def _client(self, stage: Stage) -> Client:
        name = self._client_name(stage)
        if name not in self._clients:
            settings = self._settings
            address, key = self.settings.server(stage)
            attribution = Attribution(str(settings.site_url) if settings.site_url else None, settings.site_name)
            address_setting, key_setting = settings.server_settings(stage)
            self._clients[name] = Client(
                address, key, attribution=attribution, address_setting=address_setting, key_setting=key_setting
            )
        return self._clients[name]

    def _client_name(self, stage: Stage) -> tuple[str, str]:
        address, key = self.settings.server(stage)
        return address, key.get_secret_value() if key else ""

    # ------------------------------------------------------------------ building

    def model_of(self, stage: Stage) -> str:
        """The name of the model that a stage's server is asked for."""
        wanted = self._preferences
        match stage:
            case "embeddings":
                return wanted.embedding_model or self._settings.embedding_model
            case "rerank":
                return wanted.rerank_model or self._settings.rerank_model
            case "chat":
                return wanted.chat_model or self._settings.chat_model

    def _built(self) -> Models:
        settings, wanted = self.settings, self._preferences
        embedder: Embedder | None = self._static
        reranker: Reranker | None = LocalReranker(self._analyst)
        chat: ChatModel | None = None
        if settings.embeddings == "openrouter":
            embedder = self._embedder(wanted)
        if settings.rerank == "openrouter":
            name = self.model_of("rerank")
            reranker = OpenRouterReranker(
                self._client("rerank"),
                name,
                routing=wanted.rerank_routing,
                context=self._context("rerank", name),
                takes_images=self._takes_images("rerank", name),
            )
        elif settings.rerank == "off":
            reranker = None
        if settings.chat == "openrouter":
            name = self.model_of("chat")
            chat = OpenRouterChat(
                self._client("chat"),
                name,
                fallbacks=wanted.fallback_models,
                routing=wanted.chat_routing,
                temperature=wanted.temperature,
                longest=wanted.longest_answer,
                reasoning=wanted.reasoning,
                takes_images=self._takes_images("chat", name),
            )
        return Models(
            embedder=embedder,
            reranker=reranker,
            chat=chat,
            extractor=LocalExtractor(self._analyst),
            fusion=retrieval.STATIC if settings.embeddings == "local" else retrieval.CONTEXTUAL,
            count_tokens=self._static.count_tokens if self._static else _quarters,
            static=self._static,
            are_billed=not _is_local(settings),
            shows_reasoning=wanted.shows_reasoning,
            checks_citations=wanted.checks_citations,
            splits_questions=wanted.splits_questions,
        )

    def _embedder(self, wanted: Preferences) -> OpenRouterEmbedder:
        name = self.model_of("embeddings")
        return OpenRouterEmbedder(
            self._client("embeddings"),
            name,
            dimensions=wanted.dimensions,
            routing=wanted.embedding_routing,
            context=self._context("embeddings", name),
            takes_images=self._takes_images("embeddings", name),
        )

    def _context(self, stage: Stage, model: str) -> int | None:
        info = self.info(stage, model)
        return info.context if info else None

    def _takes_images(self, stage: Stage, model: str) -> bool:
        info = self.info(stage, model)
        told = info.takes_images if info else None
        return bool(_SEES[stage].search(model)) if told is None else told


def _is_local(settings: Settings) -> bool:
    """Whether nothing leaves this machine."""
    return "openrouter" not in {settings.embeddings, settings.rerank, settings.chat}


def _quarters(texts: Sequence[str]) -> list[int]:
    """Tokens as characters / 4, where there is no tokenizer."""
    return [(len(text) + 3) // 4 for text in texts]
