"""Wiring: the one place that builds things. Pages and routes call `get()`; opening happens in the background."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rag import recovery, retrieval
from rag.chat import Chat
from rag.citations import lit
from rag.conversations import Conversations
from rag.domain import PDF, Bands, Citation
from rag.errors import FootnoteError, NotReady, Stopped, incident
from rag.indexing import Indexer
from rag.interfaces import ChatModel, Embedder, Reranker
from rag.library import Library
from rag.local import embeddings as local_embeddings
from rag.local.answer import LocalExtractor
from rag.local.features import Analyst
from rag.local.rerank import LocalReranker
from rag.models import Models
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.rerank import OpenRouterReranker
from rag.originals import Originals
from rag.parsing.reader import Reader
from rag.passages import Passages
from rag.pictures import Picture, Pictures
from rag.pipeline import Pipeline
from rag.settings import Settings
from rag.stopping import Stop
from rag.stores import Stores, open_stores

logger = logging.getLogger(__name__)

_PICTURE_WIDTH = 1200  # pixels: sharp on a dense screen; one size for drawer and card, so that a page is drawn once
_NO_STATIC_MODEL = (
    "The local embedding model has no build for this platform, so only words are searched. "
    "Set OPENROUTER_API_KEY to search by meaning as well."
)


@dataclass(frozen=True, slots=True)
class State:
    """Whether questions can be answered; `done` of `total` counts what is rebuilt, `problem` why it cannot open."""

    name: Literal["starting", "rebuilding", "ready"]
    done: int = 0
    total: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The models in use, as shown. `embeddings` is "" with keywords only, `chat` None where answers are extracts."""

    embeddings: str
    rerank: str | None
    chat: str | None
    bands: Bands | None
    local: bool
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Opened:
    stores: Stores
    reader: Reader
    pictures: Pictures
    pipeline: Pipeline
    indexer: Indexer
    chat: Chat


class Services:
    """Everything pages and routes use. Until `state().name` is "ready" all but settings and models raise NotReady."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = Client(str(settings.openrouter_base_url), settings.openrouter_api_key)
        self._models, notices = _models(settings, self._client)
        self.models = _names(self._models, settings, notices)
        self._closing = Stop()
        self._state = State("starting")
        self._opened: _Opened | None = None
        self._thread = threading.Thread(target=self._open, name="open-services", daemon=True)
        self._thread.start()

    def state(self) -> State:
        """How far opening has come."""
        return self._state

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until everything is opened. Raises NotReady when it is not by then, or cannot be."""
        self._thread.join(seconds)
        self._ready()

    @property
    def library(self) -> Library:
        """Collections, documents and the queue."""
        return self._ready().stores.library

    @property
    def originals(self) -> Originals:
        """The uploaded files."""
        return self._ready().stores.originals

    @property
    def passages(self) -> Passages:
        """Pages, blocks and chunks."""
        return self._ready().stores.passages

    @property
    def conversations(self) -> Conversations:
        """Dialogues with their evidence."""
        return self._ready().stores.conversations

    @property
    def pictures(self) -> Pictures:
        """Page pictures with sentences lit."""
        return self._ready().pictures

    @property
    def pipeline(self) -> Pipeline:
        """Search and answers without a conversation."""
        return self._ready().pipeline

    @property
    def indexer(self) -> Indexer:
        """The background work."""
        return self._ready().indexer

    @property
    def chat(self) -> Chat:
        """Answers in conversations."""
        return self._ready().chat

    def close(self) -> None:
        """Stop all work, put what is unfinished back into the queue, and let go of every file and connection."""
        self._closing.set()
        self._thread.join()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.chat.close()
            opened.indexer.close()
            opened.reader.close()
            opened.pictures.close()
            opened.stores.close()
        if isinstance(self._models.embedder, OpenRouterEmbedder):
            self._models.embedder.close()
        self._client.close()

    def _ready(self) -> _Opened:
        if self._opened is None:
            raise NotReady(self._state.problem or "Footnote is starting. Try again in a few seconds.")
        return self._opened

    def _rebuilding(self, done: int, total: int) -> None:
        self._closing.check()
        self._state = State("rebuilding", done, total)

    def _open(self) -> None:
        try:
            self._opened = self._build()
            self._state = State("ready")
        except Stopped:
            logger.info("Stopped while the data folder was being opened")
        except FootnoteError as error:
            logger.error("Footnote cannot open its data folder: %s", error)  # noqa: TRY400 - the sentence says it all
            self._state = State("starting", problem=str(error))
        except Exception as error:
            self._state = State("starting", problem=incident(logger, error, "Opening the data folder"))

    def _build(self) -> _Opened:
        stores = open_stores(self.settings.data_dir, self.settings.max_upload_bytes)
        try:
            recovery.recover(stores, self._rebuilding)
            stores.conversations.interrupt_unfinished()
        except BaseException:
            stores.close()
            raise
        reader = Reader()
        pipeline = Pipeline(stores, reader, self._models)
        indexer = Indexer(pipeline, stores)
        indexer.start()
        return _Opened(stores, reader, Pictures(), pipeline, indexer, Chat(pipeline, stores.conversations))


_services: Services | None = None


def open(settings: Settings) -> Services:
    """Begin to open everything the settings name; returns at once. The caller closes what it gets."""
    opened = Services(settings)
    use(opened)
    return opened


def use(services: Services | None) -> None:
    """Make these the services of this process; tests give fakes."""
    global _services  # noqa: PLW0603 - the one variable that pages, which Streamlit runs as scripts, can reach
    _services = services


def get() -> Services:
    """The services of this process. Raises NotReady before `open`."""
    if _services is None:
        raise NotReady("Footnote is starting. Try again in a few seconds.")
    return _services


def cited_page(opened: Services, citation: Citation) -> Picture | None:
    """The page a cited sentence begins on, the sentence lit; None where the format has no pages.

    Raises NotFound when the document was removed, UnreadableDocument when its page cannot be drawn.
    """
    version = opened.library.version(citation.chunk.version_id)
    spans = lit(citation)
    if version.media_type != PDF or not spans:
        return None
    page = opened.passages.page(version.id, spans[0].page)
    places = [(span.start, span.end) for span in spans]
    return opened.pictures.page(opened.originals.path(version.sha256), page, places, _PICTURE_WIDTH)


def _models(settings: Settings, client: Client) -> tuple[Models, tuple[str, ...]]:
    """The model of each stage, and what the person should know about them."""
    static = local_embeddings.load()
    analyst = Analyst(static)
    embedder: Embedder | None = static
    reranker: Reranker | None = LocalReranker(analyst)
    chat: ChatModel | None = None
    notices = []
    if settings.embeddings == "openrouter":
        embedder = OpenRouterEmbedder(client, settings.embedding_model)
    elif static is None:
        notices.append(_NO_STATIC_MODEL)
    if settings.rerank == "openrouter":
        reranker = OpenRouterReranker(client, settings.rerank_model)
    elif settings.rerank == "off":
        reranker = None
    if settings.chat == "openrouter":
        chat = OpenRouterChat(client, settings.chat_model)
    models = Models(
        embedder=embedder,
        reranker=reranker,
        chat=chat,
        extractor=LocalExtractor(analyst),
        fusion=retrieval.STATIC if settings.embeddings == "local" else retrieval.CONTEXTUAL,
        count_tokens=static.count_tokens if static else _quarters,
    )
    return models, tuple(notices)


def _quarters(texts: Sequence[str]) -> list[int]:
    """Tokens as characters / 4, where there is no tokenizer."""
    return [(len(text) + 3) // 4 for text in texts]


def _names(models: Models, settings: Settings, notices: tuple[str, ...]) -> ModelNames:
    return ModelNames(
        embeddings=models.embedding,
        rerank=models.reranker.model if models.reranker else None,
        chat=models.chat.model if models.chat else None,
        bands=models.reranker.bands if models.reranker else None,
        local="openrouter" not in {settings.embeddings, settings.rerank, settings.chat},
        notices=notices,
    )
