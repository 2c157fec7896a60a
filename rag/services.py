"""Wiring: the one place that builds things. Pages and routes call `get()`; opening happens in the background."""

import logging
import threading
from dataclasses import dataclass
from typing import Literal

from rag import recovery
from rag.account import Books
from rag.catalogue import Catalogue
from rag.chat import Chat
from rag.citations import lit
from rag.conversations import Conversations
from rag.domain import PDF, Citation, Collection
from rag.errors import FootnoteError, NotReady, Stopped, incident
from rag.figures import Figures
from rag.indexing import Indexer
from rag.library import Library
from rag.model_choice import STAGES, ModelChoice, ModelNames
from rag.openrouter.embeddings import identity
from rag.openrouter.pictures import TOKENS as TOKENS_OF_PICTURE
from rag.originals import Originals
from rag.parsing.reader import Reader
from rag.passages import Passages
from rag.pictures import Picture, Pictures
from rag.pipeline import Pipeline
from rag.preferences import Preferences
from rag.settings import Settings
from rag.showing import Showing
from rag.stopping import Stop
from rag.stores import Stores, open_stores
from rag.usage import Ledger

logger = logging.getLogger(__name__)

_PICTURE_WIDTH = 1200  # pixels: sharp on a dense screen; one size for drawer and card, so that a page is drawn once
_REFRESHED_EVERY = 3600.0
_CHARACTERS_PER_TOKEN = 4
_TOKENS_ABOVE = 12  # the document's name and the headings above a passage


@dataclass(frozen=True, slots=True)
class State:
    """Whether questions can be answered; `done` of `total` counts what is rebuilt, `problem` why it cannot open."""

    name: Literal["starting", "rebuilding", "ready"]
    done: int = 0
    total: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Reindexing:
    """What a change of the embedding model would take: the collections, their passages, how many of those have
    vectors of the new model already, the tokens of the others, and their cost in US dollars (None: not known)."""

    collections: tuple[Collection, ...]
    passages: int
    known: int
    tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class _Opened:
    stores: Stores
    reader: Reader
    pictures: Pictures
    choice: ModelChoice
    refreshing: threading.Thread
    pipeline: Pipeline
    indexer: Indexer
    chat: Chat


class Services:
    """Everything pages and routes use. Until `state().name` is "ready" all but the settings raise NotReady."""

    def __init__(self, settings: Settings) -> None:
        self._started_with = settings
        self._closing = Stop()
        self._state = State("starting")
        self._opened: _Opened | None = None
        self._thread = threading.Thread(target=self._open, name="open-services", daemon=True)
        self._thread.start()

    @property
    def settings(self) -> Settings:
        """What the server was started with, with the keys typed since."""
        return self._opened.choice.settings if self._opened else self._started_with

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
    def choice(self) -> ModelChoice:
        """Which models are in use, and the means to change that."""
        return self._ready().choice

    @property
    def models(self) -> ModelNames:
        """The models in use, as shown."""
        return self._ready().choice.names

    @property
    def preferences(self) -> Preferences:
        """What people set for the whole server."""
        return self._ready().choice.preferences

    @property
    def catalogue(self) -> Catalogue:
        """The models on offer when their servers were last asked."""
        return self._ready().stores.catalogue

    @property
    def ledger(self) -> Ledger:
        """What calls to models took."""
        return self._ready().stores.ledger

    @property
    def figures(self) -> Figures:
        """The pictures taken out of documents."""
        return self._ready().stores.figures

    def reindexing(self, model: str, dimensions: int | None) -> Reindexing:
        """What it would take to move every collection to a server's embedding model, at this length of vectors."""
        opened = self._ready()
        stores = opened.stores
        wanted = identity(model, dimensions)
        moving = [one for one in stores.library.collections() if one.embedding_model != wanted]
        info = opened.choice.info("embeddings", model)
        sees = info is not None and info.takes_images
        passages = known = tokens = 0
        for collection in moving:
            extent = stores.passages.extent(collection.id, wanted)
            missing = (extent.passages - extent.known) / max(extent.passages, 1)
            passages += extent.passages
            known += extent.known
            text = extent.characters / _CHARACTERS_PER_TOKEN + _TOKENS_ABOVE * extent.passages
            tokens += round(missing * (text + (TOKENS_OF_PICTURE * extent.pictures if sees else 0)))
        price = info.price.prompt if info else None
        return Reindexing(tuple(moving), passages, known, tokens, None if price is None else price * tokens)

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
            opened.refreshing.join(timeout=5)
            opened.chat.close()
            opened.indexer.close()
            opened.reader.close()
            opened.pictures.close()
            opened.choice.close()
            opened.stores.close()

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
            choice = ModelChoice(self._started_with, stores.preferences, stores.catalogue)
        except BaseException:
            stores.close()
            raise
        reader, pictures = Reader(), Pictures()
        books = Books(stores.ledger, lambda: choice.preferences.monthly_budget, choice.price_of)
        pipeline = Pipeline(stores, reader, Showing(stores, pictures), lambda: choice.models, books)
        indexer = Indexer(pipeline, stores)
        indexer.start()
        refreshing = threading.Thread(target=_refresh, args=(choice, self._closing), name="refresh-models", daemon=True)
        refreshing.start()
        chat = Chat(pipeline, stores.conversations)
        return _Opened(stores, reader, pictures, choice, refreshing, pipeline, indexer, chat)


def _refresh(choice: ModelChoice, closing: Stop) -> None:
    """Fetch the lists of models that are a day old, for prices and limits; every name works without them."""
    while not closing.is_set:
        for stage in STAGES:
            try:
                if choice.is_stale(stage):
                    choice.refresh(stage, closing)
            except FootnoteError as error:
                logger.info("The list of %s models could not be fetched: %s", stage, type(error).__name__)
            except Exception as error:
                incident(logger, error, f"Fetching the list of {stage} models")
        closing.wait(_REFRESHED_EVERY)


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
    """The page a cited sentence begins on, the sentence lit, or the cited picture; None where there is neither.

    Raises NotFound when the document was removed, UnreadableDocument when its page cannot be drawn.
    """
    version = opened.library.version(citation.chunk.version_id)
    if citation.chunk.figure is not None:
        image = opened.figures.image(citation.chunk)
        return Picture(image.data, image.media_type, marked=True)
    spans = lit(citation)
    if version.media_type != PDF or not spans:
        return None
    page = opened.passages.page(version.id, spans[0].page)
    places = [(span.start, span.end) for span in spans]
    return opened.pictures.page(opened.originals.path(version.sha256), page, places, _PICTURE_WIDTH)
