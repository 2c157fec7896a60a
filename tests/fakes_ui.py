"""An app's services in memory, for tests of pages: one made-up handbook, answers written on the spot."""

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from PIL import Image

from rag.database import Database
from rag.domain import (
    DOCX,
    PDF,
    Answer,
    Bands,
    Chunk,
    Chunking,
    Citation,
    Collection,
    Conversation,
    Document,
    Dropped,
    Hit,
    Message,
    ModelInfo,
    Page,
    Progress,
    Span,
    Step,
    Usage,
    Version,
)
from rag.domain import Image as Picture
from rag.errors import InvalidRequest, NotFound, UnreadableDocument
from rag.openrouter.models import KeyInfo, Provider
from rag.preferences import Preferences, validated
from rag.usage import Ledger

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
TEXT = (
    "Full-time employees accrue 25 days of paid annual leave per calendar year, in addition to public holidays. "
    "Up to five unused days may be carried over into the following year, provided they are taken before 31 March."
)
CARRIED = TEXT.index("Up to")
BANDS = Bands(not_found=0.10, confident=0.30, strong=0.60, fitted=True)


def chunk(document_id: str = "d1", version_id: str = "v1", number: int = 1, text: str = TEXT) -> Chunk:
    return Chunk(
        id=f"{version_id}x{number}",
        document_id=document_id,
        version_id=version_id,
        ordinal=number,
        text=text,
        page_first=number,
        page_last=number,
        headings=("Leave", "Annual leave"),
        spans=(Span(0, number, str(number), 0, len(text)),),
    )


def hit(number: int, relevance: float, before: int, text: str = TEXT) -> Hit:
    return Hit(
        chunk=chunk(number=number, text=text),
        document="Employee handbook.pdf",
        vector_rank=before,
        similarity=0.62,
        keyword_rank=2,
        bm25=0.41,
        document_match=0.25,
        fused=0.55,
        fused_rank=before,
        relevance=relevance,
        rank=number,
    )


def answer(text: str, **changes: Any) -> Answer:
    """An answer with two citations of the handbook and one passage that was read and not cited."""
    hits = (hit(1, 0.94, 3), hit(2, 0.44, 1, "Leave requests are made in the portal. The line manager decides."))
    citations = (
        Citation(1, "Employee handbook.pdf", hits[0].chunk, CARRIED, len(TEXT), 0.94, "quoted"),
        Citation(2, "Employee handbook.pdf", hits[0].chunk, 0, CARRIED - 1, 0.94, "weak", ("2027",)),
    )
    made = Answer(
        text=text,
        query="How many leave days can I carry over?",
        refused=False,
        weak=False,
        extracts=False,
        citations=citations,
        hits=hits,
        used=tuple(one.chunk.id for one in hits),
        dropped=(Dropped("v1x9", "threshold", "too far"),),
        embedding_model="local:wordllama-256",
        reranker="local reranker",
        bands=BANDS,
        writer="a model",
        usage=Usage(),
        steps=(Step("searching", 30, 0.021), Step("reranking", 30, 0.034), Step("writing", 0, 1.24)),
        notices=(),
    )
    return replace(made, **changes)


@dataclass
class FakeLibrary:
    """Documents that are ready as soon as they are added, unless `status` says otherwise."""

    status: str = "ready"
    all_collections: dict[str, Collection] = field(default_factory=dict)
    all_documents: dict[str, Document] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    def collections(self) -> tuple[Collection, ...]:
        return tuple(self.all_collections.values())

    def collection(self, collection_id: str) -> Collection:
        return self.all_collections[collection_id]

    def collection_named(self, name: str) -> Collection | None:
        return next((one for one in self.collections() if one.name.casefold() == name.casefold()), None)

    def create_collection(self, name: str, embedding_model: str) -> Collection:
        if not name.strip():
            raise InvalidRequest("Give the collection a name.")
        made = Collection(f"c{len(self.all_collections)}", name, Chunking(), embedding_model, 256, 1, None, NOW)
        self.all_collections[made.id] = made
        return made

    def rename_collection(self, collection_id: str, name: str) -> Collection:
        self.all_collections[collection_id] = replace(self.all_collections[collection_id], name=name)
        return self.all_collections[collection_id]

    def remove_collection(self, collection_id: str) -> None:
        del self.all_collections[collection_id]

    def documents(self, collection_id: str) -> tuple[Document, ...]:
        return tuple(one for one in self.all_documents.values() if one.collection_id == collection_id)[::-1]

    def add(self, collection_id: str, name: str, stream: BinaryIO) -> Any:
        content = stream.read()
        if not content:
            raise UnreadableDocument("The file is empty.")
        if content in self.contents.values():
            document_id = next(key for key, value in self.contents.items() if value == content)
            return SimpleNamespace(document=self.all_documents[document_id], outcome="present")
        number = len(self.contents) + 1
        media_type = DOCX if name.endswith(".docx") else PDF
        version = Version(
            id=f"v{number}",
            document_id=f"d{number}",
            number=1,
            sha256="0" * 64,
            media_type=media_type,
            size=len(content),
            pages=12 if media_type == PDF else None,
            chunks=48,
            status=self.status,
            stage="indexing" if self.status == "ready" else "reading",
            done=4,
            total=12,
            problem="The file is damaged." if self.status == "failed" else None,
            warnings=(),
            created_at=NOW,
        )
        current = version if self.status == "ready" else None
        document = Document(f"d{number}", collection_id, name, current, version)
        self.all_documents[document.id] = document
        self.contents[document.id] = content
        return SimpleNamespace(document=document, outcome="new")

    def finish(self) -> None:
        """Everything on its way becomes ready."""
        for key, document in self.all_documents.items():
            version = replace(document.newest, status="ready")
            self.all_documents[key] = replace(document, current=version, newest=version)

    def set_figures(self, collection_id: str, on: bool) -> None:
        self.all_collections[collection_id] = replace(self.all_collections[collection_id], figures=on)

    def remove(self, document_id: str) -> None:
        del self.all_documents[document_id]

    def retry(self, document_id: str) -> None:
        document = self.all_documents[document_id]
        self.all_documents[document_id] = replace(
            document, newest=replace(document.newest, status="queued", stage="waiting", problem=None)
        )

    def version(self, version_id: str) -> Version:
        for document in self.all_documents.values():
            if document.newest.id == version_id:
                return document.newest
        raise NotFound("This document was deleted.")

    def activity(self) -> Any:
        on_the_way = tuple(one for one in self.all_documents.values() if one.newest.status in ("queued", "working"))
        working = sum(one.newest.status == "working" for one in on_the_way)
        return SimpleNamespace(waiting=len(on_the_way) - working, working=working, documents=on_the_way)


@dataclass
class FakeConversations:
    """Conversations in a list."""

    kept: dict[str, Conversation] = field(default_factory=dict)
    said: list[Message] = field(default_factory=list)

    def create(self, collection_id: str | None) -> Conversation:
        made = Conversation(f"k{len(self.kept)}", "", collection_id, NOW, NOW)
        self.kept[made.id] = made
        return made

    def get(self, conversation_id: str) -> Conversation:
        if conversation_id not in self.kept:
            raise NotFound("There is no such conversation.")
        return self.kept[conversation_id]

    def recent(self, limit: int = 50) -> tuple[Conversation, ...]:
        return tuple(self.kept.values())[::-1][:limit]

    def messages(self, conversation_id: str) -> tuple[Message, ...]:
        return tuple(message for message in self.said if message.conversation_id == conversation_id)

    def message(self, message_id: str) -> Message:
        return next(message for message in self.said if message.id == message_id)

    def delete(self, conversation_id: str) -> None:
        del self.kept[conversation_id]

    def say(self, conversation_id: str, role: str, text: str, state: str = "complete", **rest: Any) -> Message:
        values = {"answer": None, "problem": None} | rest
        message = Message(
            f"m{len(self.said)}",
            conversation_id,
            role,
            text,
            state,
            created_at=NOW,
            **values,  # type: ignore[arg-type]
        )
        self.said.append(message)
        return message

    def change(self, message_id: str, **changes: Any) -> None:
        index = next(index for index, message in enumerate(self.said) if message.id == message_id)
        self.said[index] = replace(self.said[index], **changes)


class FakeLive:
    """An answer that grows word by word, one look at a time; it waits while `held`. It begins with `before`."""

    def __init__(self, finished: Answer, held: bool, before: str = "") -> None:
        self._finished = finished
        self._before = before
        self._words = finished.text.split(" ")
        self._started = time.monotonic()
        self._looks = 0
        self._held = held
        self.stopped = threading.Event()

    def wait(self, seen: int, timeout: float) -> Any:
        if self._held and self._looks > 3:
            self.stopped.wait(timeout)
        else:
            self._looks += 1
        return SimpleNamespace(
            revision=self._looks,
            stage="searching" if self._looks < 2 else "writing",
            steps=self._finished.steps[:2] if self._looks > 1 else (),
            text=self._before + " ".join(self._words[: self._looks * 3]),
            citations=self._finished.citations if self._looks > 2 else (),
            reasoning=self._finished.reasoning[: self._looks * 20],
            started=self._started,
            changed=time.monotonic(),
            done=self.stopped.is_set() or (not self._held and self._looks * 3 >= len(self._words)),
        )


@dataclass
class FakeChat:
    """Answers every question with `next_answer`."""

    conversations: FakeConversations
    next_answer: Answer = field(
        default_factory=lambda: answer("You can carry over **five days** [1], out of 25 days a year [2].")
    )
    held: bool = False
    running: dict[str, FakeLive] = field(default_factory=dict)

    def ask(self, conversation_id: str, question: str) -> Message:
        if not question:
            raise InvalidRequest("Write a question first.")
        if len(question) > 20_000:
            raise InvalidRequest("The question is too long. Shorten it.")
        conversation = self.conversations.get(conversation_id)
        self.conversations.kept[conversation_id] = replace(conversation, title=conversation.title or question)
        self.conversations.say(conversation_id, "user", question)
        message = self.conversations.say(conversation_id, "assistant", "", "writing")
        self.running[message.id] = FakeLive(self.next_answer, self.held)
        return message

    def regenerate(self, message_id: str) -> Message:
        self.conversations.change(message_id, text="", state="writing", answer=None)
        self.running[message_id] = FakeLive(self.next_answer, held=False)
        return self.conversations.message(message_id)

    def resume(self, message_id: str) -> Message:
        former = self.conversations.message(message_id)
        self.conversations.change(message_id, state="writing", problem=None, failure=None)
        self.running[message_id] = FakeLive(self.next_answer, held=False, before=former.text)
        return self.conversations.message(message_id)

    def live(self, message_id: str) -> Any:
        running = self.running.get(message_id)
        if running is None:
            return None
        chat = self

        class Live:
            """Stores the answer once it is done, as the real one does before its last snapshot."""

            def wait(self, seen: int, timeout: float) -> Any:
                snapshot = running.wait(seen, timeout)
                if snapshot.done:
                    stopped = running.stopped.is_set()
                    chat.conversations.change(
                        message_id,
                        text=snapshot.text,
                        state="stopped" if stopped else "complete",
                        answer=chat.next_answer,
                    )
                    chat.running.pop(message_id, None)
                return snapshot

        return Live()

    def stop(self, message_id: str) -> None:
        if message_id in self.running:
            self.running[message_id].stopped.set()


def _picture(*_: Any) -> Any:
    content = BytesIO()
    Image.new("RGB", (640, 900), "white").save(content, "PNG")
    return SimpleNamespace(image=content.getvalue(), media_type="image/png", marked=True)


def _figure(_: Chunk) -> Picture:
    content = BytesIO()
    Image.new("RGB", (300, 200), "teal").save(content, "PNG")
    return Picture("image/png", content.getvalue())


class FakeChoice:
    """The local models, and a server that tells of `models_on_offer` and `known_key` without being asked."""

    def __init__(self, settings: Any, names: Any) -> None:
        self.settings = settings
        self.names = names
        self.preferences = Preferences()
        self.typed: dict[str | None, str] = {}
        self.environment: set[str] = set()
        self.models_on_offer: tuple[ModelInfo, ...] = ()
        self.providers_of_models: tuple[Provider, ...] = ()
        self.known_key = KeyInfo("", None, None, None, None, None, None)
        self.refreshed: list[str] = []
        self.failure: Exception | None = None

    @property
    def models(self) -> Any:
        """Vectors are made by the model in use; those of the local one can be made beside any other."""
        known = (self.names.embeddings, "local:wordllama-256")
        return SimpleNamespace(embedder_of=lambda model: object() if model in known else None)

    def change(self, **members: object) -> None:
        self.preferences = validated(replace(self.preferences, **members))

    def type_key(self, stage: str | None, key: str) -> None:
        if key:
            self.typed[stage] = key
        else:
            self.typed.pop(stage, None)

    def key_states(self) -> dict[str, str]:
        def state(stage: str) -> str:
            if stage in self.typed or None in self.typed:
                return "typed"
            return "environment" if stage in self.environment else "none"

        return {stage: state(stage) for stage in ("embeddings", "rerank", "chat")}

    def key_info(self, stage: str) -> KeyInfo:
        self._fail()
        return self.known_key

    def client(self, stage: str) -> Any:
        return SimpleNamespace(host="openrouter.ai")

    def offered(self, stage: str) -> tuple[ModelInfo, ...]:
        return tuple(model for model in self.models_on_offer if model.kind == stage)

    def providers(self, stage: str, model: str) -> tuple[Provider, ...]:
        self._fail()
        return self.providers_of_models

    def is_stale(self, stage: str) -> bool:
        return not self.offered(stage)

    def refresh(self, stage: str) -> None:
        self._fail()
        self.refreshed.append(stage)

    def info(self, stage: str, model: str) -> ModelInfo | None:
        return next((one for one in self.offered(stage) if model in (one.id, one.alias_of)), None)

    def model_of(self, stage: str) -> str:
        name = {"embeddings": "embedding_model", "rerank": "rerank_model", "chat": "chat_model"}[stage]
        return getattr(self.preferences, name) or getattr(self.settings, name)

    def price_of(self, stage: str, model: str) -> Any:
        return None

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeServices:
    """What the pages see of `rag.services`."""

    def __init__(self, folder: Path) -> None:
        self.settings = SimpleNamespace(
            data_dir=folder,
            max_upload_mb=200,
            embeddings="local",
            rerank="local",
            chat="local",
            openrouter_api_key=None,
            openrouter_base_url=SimpleNamespace(host="openrouter.ai"),
            embedding_model="openai/text-embedding-3-small",
            rerank_model="cohere/rerank-v3.5",
            chat_model="~openai/gpt-mini-latest",
            site_url=None,
            site_name="Footnote",
            api_token=None,
            server=lambda _stage: ("https://openrouter.ai/api/v1", self.settings.openrouter_api_key),
        )
        self.models = SimpleNamespace(
            embeddings="local:wordllama-256",
            rerank="local reranker",
            chat=None,
            local=True,
            notices=(),
            bands=BANDS,
            embedding_takes_images=False,
            rerank_takes_images=False,
            chat_takes_images=False,
        )
        self.choice = FakeChoice(self.settings, self.models)
        self.ledger = Ledger(Database(folder / "ledger.sqlite"))
        self.catalogue = SimpleNamespace(fetched_at=lambda server, kind: None)
        self.figures = SimpleNamespace(image=_figure, counts=lambda version_ids: {})
        self.library = FakeLibrary()
        self.conversations = FakeConversations()
        self.chat = FakeChat(self.conversations)
        self.woken = 0
        self.reindexed: list[str] = []
        self.reindexing_progress: Progress | None = None
        self.reindexing_problem: str | None = None
        self.indexer = SimpleNamespace(
            wake=self._wake,
            reindex=self.reindexed.append,
            reindexing=lambda _: self.reindexing_progress,
            problem=lambda _: self.reindexing_problem,
        )
        self.passages = SimpleNamespace(page=lambda version_id, number: Page(number, str(number), TEXT, ()))
        self.originals = SimpleNamespace(path=lambda sha256: folder / sha256)
        self.pictures = SimpleNamespace(page=_picture)
        self.current_state = SimpleNamespace(name="ready", done=0, total=0, problem=None)

    def _wake(self) -> None:
        self.woken += 1

    @property
    def preferences(self) -> Preferences:
        return self.choice.preferences

    def reindexing(self, model: str, dimensions: int | None) -> Any:
        collections = self.library.collections()
        return SimpleNamespace(collections=collections, passages=0, known=0, tokens=0, cost=None)

    def state(self) -> Any:
        return self.current_state
