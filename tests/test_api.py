"""The HTTP API over fake services: every reply its docstring names."""

import json
import logging
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import anyio
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rag import api, errors, links, services
from rag.domain import (
    DOCX,
    PDF,
    Answer,
    Answered,
    AnswerEvent,
    Checking,
    Chunk,
    Chunking,
    Citation,
    Collection,
    Document,
    Failure,
    Hit,
    MediaType,
    Message,
    Page,
    ReasoningDelta,
    Refused,
    Reranked,
    Retrieved,
    Searching,
    Span,
    Step,
    TextDelta,
    Turn,
    Usage,
    Version,
)
from rag.errors import FileTooLarge, InvalidRequest, NotFound, NotReady, UnreadableDocument
from rag.library import Added
from rag.pictures import Picture
from rag.settings import Settings
from rag.stopping import Stop

TOKEN = "secret-token"
THEN = datetime(2026, 1, 1, tzinfo=UTC)
SENTENCE = "Travel is paid within 30 days."
CHUNK = Chunk(
    id="v1c1",
    document_id="d1",
    version_id="v1",
    ordinal=1,
    text=f"Every trip needs approval. {SENTENCE}",
    page_first=4,
    page_last=5,
    headings=("Policy", "Travel"),
    spans=(Span(0, 4, "iv", 100, 126), Span(27, 5, "v", 0, 30)),
)
HIT = Hit(CHUNK, "travel.pdf", 1, 0.5, 2, 0.25, 0.125, 0.75, 1, 0.9, 1)
CITATION = Citation(1, "travel.pdf", CHUNK, 27, 57, 0.9, "quoted")
ANSWER = Answer(
    text="Within 30 days [1].",
    query="When is travel paid?",
    refused=False,
    weak=True,
    extracts=False,
    citations=(CITATION,),
    hits=(HIT,),
    used=("v1c1",),
    dropped=(),
    embedding_model="fake",
    reranker="fake-reranker",
    bands=None,
    writer="fake-writer",
    usage=Usage(10, 5, 1, 0.5),
    steps=(Step("searching", 1, 0.125), Step("writing", 0, 0.5)),
    notices=("Take care.",),
)
EVENTS: tuple[AnswerEvent, ...] = (
    Searching("When is travel paid?"),
    Retrieved((HIT,), 0.125),
    Reranked((HIT,), "fake-reranker", 0.25),
    TextDelta("Within 30\n", ()),
    TextDelta("days [1].", (CITATION,)),
    Answered(ANSWER),
)


def a_version(document_id: str, media_type: MediaType = PDF) -> Version:
    number = document_id.removeprefix("d")
    return Version(
        f"v{number}", document_id, 1, "ab" * 32, media_type, 9, 7, 3, "working", "embedding", 1, 3, None, (), THEN
    )


@dataclass
class FakeLibrary:
    """Remembers names and bytes; "failed" in the bytes is a document that failed, "unreadable" one that is refused."""

    of_name: dict[str, Collection] = field(default_factory=dict)
    held: dict[str, Document] = field(default_factory=dict)
    received: list[tuple[str, bytes]] = field(default_factory=list)

    def collection_named(self, name: str) -> Collection | None:
        return self.of_name.get(name.casefold())

    def create_collection(self, name: str, embedding_model: str) -> Collection:
        if not re.fullmatch(r"[\w .-]{1,64}", name):
            raise InvalidRequest("A name has 1 to 64 letters.")
        made = Collection(f"c{len(self.of_name) + 1}", name, Chunking(), embedding_model, None, 1, None, THEN)
        self.of_name[name.casefold()] = made
        return made

    def collection(self, collection_id: str) -> Collection:
        return next(each for each in self.of_name.values() if each.id == collection_id)

    def add(self, collection_id: str, name: str, stream: BinaryIO) -> Added:
        content = stream.read()
        if b"unreadable" in content:
            raise UnreadableDocument("This is not a PDF or DOCX.")
        known = [kept for kept, (_, other) in zip(self.held.values(), self.received, strict=True) if other == content]
        if known:
            return Added(known[0], "retried" if b"failed" in content else "present")
        self.received.append((name, content))
        version = a_version(f"d{len(self.received)}")
        made = Document(version.document_id, collection_id, name, None, version)
        self.held[made.id] = made
        return Added(made, "new")

    def documents(self, collection_id: str) -> tuple[Document, ...]:
        return tuple(each for each in self.held.values() if each.collection_id == collection_id)

    def document(self, document_id: str) -> Document:
        if document_id not in self.held:
            raise NotFound("There is no such document.")
        return self.held[document_id]

    def remove(self, document_id: str) -> None:
        del self.held[self.document(document_id).id]

    def version(self, version_id: str) -> Version:
        return self.held["d" + version_id.removeprefix("v")].newest


@dataclass
class FakePipeline:
    """Answers with prepared events; an exception among them is raised when its turn comes."""

    events: Sequence[AnswerEvent | Exception] = EVENTS
    asked: list[tuple[str, tuple[Turn, ...], str]] = field(default_factory=list)
    before: Callable[[Stop], None] = lambda _stop: None

    def search(self, collection_id: str, question: str, stop: Stop) -> Any:
        self.asked.append((question, (), collection_id))
        self.before(stop)
        hits = tuple(replace(HIT, rank=rank) for rank in range(1, 31))
        return SimpleNamespace(hits=hits, reranker="fake-reranker", bands=None)

    def answer(self, question: str, history: Sequence[Turn], collection_id: str, stop: Stop) -> Iterator[AnswerEvent]:
        self.asked.append((question, tuple(history), collection_id))
        self.before(stop)
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event


class FakePictures:
    """Draws the spans as text."""

    def page(self, path: Path, page: Page, spans: Sequence[tuple[int, int]], width: int) -> Picture:
        return Picture(f"{path.name} {page.number} {list(spans)}".encode(), "image/png", True)


@dataclass
class Fake:
    """Services made of the fakes above."""

    settings: Settings
    shelves: FakeLibrary = field(default_factory=FakeLibrary)
    pipeline: FakePipeline = field(default_factory=FakePipeline)
    pictures: FakePictures = field(default_factory=FakePictures)
    state_name: str = "ready"
    woken: int = 0
    models: Any = field(default_factory=lambda: SimpleNamespace(embeddings="fake"))
    answer: Answer | None = ANSWER
    live_citations: tuple[Citation, ...] | None = None

    @property
    def library(self) -> FakeLibrary:
        if self.state_name != "ready":
            raise NotReady("Footnote is starting.")
        return self.shelves

    @property
    def indexer(self) -> Any:
        return self

    def wake(self) -> None:
        self.woken += 1

    def state(self) -> Any:
        return SimpleNamespace(name=self.state_name, done=0, total=0, problem=None)

    @property
    def conversations(self) -> Any:
        return self

    def message(self, message_id: str) -> Message:
        if message_id != "m1":
            raise NotFound("There is no such message.")
        return Message("m1", "conversation", "assistant", "text", "complete", self.answer, None, THEN)

    @property
    def chat(self) -> Any:
        return self

    def live(self, message_id: str) -> Any:
        cited = self.live_citations
        return None if cited is None else SimpleNamespace(snapshot=lambda: SimpleNamespace(citations=cited))

    @property
    def passages(self) -> Any:
        return SimpleNamespace(page=lambda _version, number: Page(number, "v", "x" * 200, ()))

    @property
    def originals(self) -> Any:
        return SimpleNamespace(path=lambda sha256: Path(sha256[:4]))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    settings = Settings(_env_file=None, data_dir=tmp_path, api_token=SecretStr(TOKEN), max_upload_mb=1)
    made = Fake(settings)
    services.use(made)
    yield made
    services.use(None)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=api.routes()), headers={"Authorization": f"Bearer {TOKEN}"}) as opened:
        yield opened


@pytest.fixture
def handbook(fake: Fake) -> Fake:
    """The fake with a collection "Handbook" that holds one document, d1."""
    collection = fake.library.create_collection("Handbook", "fake")
    version = a_version("d1")
    fake.library.held["d1"] = Document("d1", collection.id, "travel.pdf", version, version)
    return fake


def upload(client: TestClient, content: bytes = b"%PDF-1.7", name: str = "a.pdf", collection: str = "Handbook") -> Any:
    return client.post(f"/api/v1/collections/{collection}/documents", files={"file": (name, content)})


def problem(response: Any, status: int, code: str) -> str:
    """Check that this is the error reply of that status and code; its sentence."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message"]
    assert body["error"]["code"] == code
    assert body["error"]["message"].endswith((".", "”."))
    return str(body["error"]["message"])


def events(response: Any) -> list[tuple[str, Any]]:
    found = re.findall(r"event: (.*)\ndata: (.*)\n\n", response.text)
    return [(name, json.loads(data)) for name, data in found]


# ---------------------------------------------------------------- who may


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xe9"],
)
def test_a_request_without_the_token_is_refused(fake: Fake, client: TestClient, header: str) -> None:
    """Everything but the exact bearer token is a 401 that says how to do it."""
    response = client.get("/api/v1/documents/d1", headers={"Authorization": header.encode("latin-1")})
    assert "Authorization" in problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_scheme_is_case_insensitive(handbook: Fake, client: TestClient) -> None:
    """The word Bearer may be written in any case."""
    assert client.get("/api/v1/documents/d1", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_without_a_token_in_the_settings_there_is_no_api(handbook: Fake, client: TestClient) -> None:
    """An API that is off answers 404, whatever is sent."""
    handbook.settings = Settings(_env_file=None, data_dir=handbook.settings.data_dir)
    assert "FOOTNOTE_API_TOKEN" in problem(client.get("/api/v1/documents/d1"), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/v1", "/api/v2/documents", "/api/v1/documents/d1/", "/api/v1/x"]
)
def test_unknown_addresses_answer_json(fake: Fake, client: TestClient, path: str) -> None:
    """Nothing under /api is ever the page."""
    problem(client.get(path), 404, "not_found")


def test_wrong_methods_answer_json(fake: Fake, client: TestClient) -> None:
    """A method an address does not know is a JSON 405."""
    problem(client.put("/api/v1/documents/d1"), 405, "method_not_allowed")


def test_replies_are_not_cached(handbook: Fake, client: TestClient) -> None:
    """No proxy keeps what the API says."""
    assert client.get("/api/v1/documents/d1").headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- health


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [("ready", 200, "ok"), ("starting", 503, "starting"), ("rebuilding", 503, "rebuilding")],
)
def test_health_is_ok_only_when_questions_can_be_answered(
    fake: Fake, client: TestClient, state: str, status: int, said: str
) -> None:
    """Health tells starting and rebuilding from ready, without a token."""
    fake.state_name = state
    response = client.get("/health", headers={"Authorization": ""})
    assert (response.status_code, response.json()) == (status, {"status": said})


# ---------------------------------------------------------------- documents


def test_a_new_file_is_accepted(fake: Fake, client: TestClient) -> None:
    """An upload makes the collection, wakes the indexer, and says where to look."""
    response = upload(client)
    assert response.status_code == 202
    assert response.json() == {
        "id": "d1",
        "document_id": "d1",
        "document": "a.pdf",
        "collection": "Handbook",
        "status": "working",
        "stage": "embedding",
        "done": 1,
        "total": 3,
        "pages": 7,
        "chunks": 3,
        "problem": None,
        "warnings": [],
        "outcome": "new",
    }
    assert response.headers["location"] == "/api/v1/documents/d1"
    assert fake.woken == 1
    assert fake.library.received == [("a.pdf", b"%PDF-1.7")]


def test_the_same_file_again_is_already_here(fake: Fake, client: TestClient) -> None:
    """The same bytes are a 200 with the same document."""
    upload(client)
    again = upload(client)
    assert (again.status_code, again.json()["outcome"], again.json()["id"]) == (200, "present", "d1")


def test_a_failed_file_is_tried_again(fake: Fake, client: TestClient) -> None:
    """Uploading what had failed is a 202."""
    upload(client, b"failed")
    again = upload(client, b"failed")
    assert (again.status_code, again.json()["outcome"]) == (202, "retried")


def test_collection_names_have_no_case(fake: Fake, client: TestClient) -> None:
    """Another spelling is the same collection, under its first name."""
    upload(client, b"one")
    assert upload(client, b"two", collection="HANDBOOK").json()["collection"] == "Handbook"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "a" * 300 + ".pdf",
        "\u202efdp.exe",
        "<b>x</b>.pdf",
        "[x](http://y).pdf",
        "ä ö.pdf",
        "日本.pdf",
        'q"uote.pdf',
    ],
)
def test_a_hostile_name_reaches_the_library_as_sent(fake: Fake, client: TestClient, name: str) -> None:
    """Names are the library's to clean; no name breaks the form or the reply."""
    response = upload(client, name=name)
    assert response.status_code == 202
    assert response.json()["document"].replace("%22", '"') == name


def test_a_file_that_cannot_be_read_is_refused(fake: Fake, client: TestClient) -> None:
    """What is not a PDF or DOCX is a 415 with the reason."""
    assert problem(upload(client, b"unreadable"), 415, "unreadable_document") == "This is not a PDF or DOCX."


def test_a_refused_file_leaves_no_collection_behind(fake: Fake, client: TestClient) -> None:
    """A collection made for a file that is then refused is gone again."""
    problem(upload(client, b"text", "notes.txt"), 415, "unreadable_document")
    assert fake.library.of_name == {}


def test_an_empty_file_is_refused(fake: Fake, client: TestClient) -> None:
    """A file without bytes is a 400."""
    assert problem(upload(client, b""), 400, "invalid_request") == "The file is empty."


def test_a_wrong_collection_name_is_refused(fake: Fake, client: TestClient) -> None:
    """What the library does not take as a name is a 400."""
    problem(upload(client, collection="a*b"), 400, "invalid_request")


@pytest.mark.parametrize(
    "sent",
    [
        {"files": {"other": ("a.pdf", b"x")}},
        {"data": {"file": "text, not a file"}},
        {"content": b"%PDF-1.7", "headers": {"Content-Type": "application/pdf"}},
        {"content": b"nonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"nonsense", "headers": {"Content-Type": "multipart/form-data"}},
        {"files": [("file", ("a.pdf", b"x")), ("file", ("b.pdf", b"y"))]},
        {},
    ],
    ids=["other field", "no file", "no form", "broken form", "no boundary", "two files", "nothing"],
)
def test_a_request_without_one_file_is_refused(fake: Fake, client: TestClient, sent: dict[str, Any]) -> None:
    """Anything but one file named “file” is a 400, and nothing is kept."""
    problem(client.post("/api/v1/collections/Handbook/documents", **sent), 400, "invalid_request")
    assert fake.library.received == []


def test_a_file_over_the_limit_is_refused(fake: Fake, client: TestClient) -> None:
    """One byte over the limit is a 413; the limit itself is taken."""
    limit = fake.settings.max_upload_bytes
    assert "1 MB" in problem(upload(client, b"x" * (limit + 1)), 413, "too_large")
    assert upload(client, b"x" * limit).status_code == 202


def test_a_declared_length_over_the_limit_is_refused_unread(fake: Fake, client: TestClient) -> None:
    """A request that announces too much is not received at all."""

    def never() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    response = client.post(
        "/api/v1/collections/Handbook/documents",
        content=never(),
        headers={"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(10**9)},
    )
    problem(response, 413, "too_large")


def test_an_endless_upload_is_cut_off(fake: Fake, client: TestClient) -> None:
    """A request that does not say its length is stopped at the limit while it is received."""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
        while sent < 50 * 1024 * 1024:
            sent += 65536
            yield b"x" * 65536

    response = client.post(
        "/api/v1/collections/Handbook/documents",
        content=body(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    problem(response, 413, "too_large")
    assert fake.library.received == []


def test_the_librarys_own_limit_is_a_413(handbook: Fake, client: TestClient) -> None:
    """A limit noticed only while the file is kept is the same reply."""

    def full(*_: object) -> Added:
        raise FileTooLarge("The file is larger than the limit.")

    handbook.library.add = full  # type: ignore[method-assign]
    problem(upload(client), 413, "too_large")


def test_documents_are_listed(handbook: Fake, client: TestClient) -> None:
    """The list holds the same objects as the single replies."""
    listed = client.get("/api/v1/collections/handbook/documents").json()
    assert listed == {"documents": [client.get("/api/v1/documents/d1").json()]}


def test_a_failed_document_says_why(handbook: Fake, client: TestClient) -> None:
    """Problem and warnings are sentences."""
    version = replace(a_version("d1"), status="failed", problem="It is encrypted.", warnings=("Two pages are scans.",))
    handbook.library.held["d1"] = replace(handbook.library.held["d1"], newest=version)
    said = client.get("/api/v1/documents/d1").json()
    assert (said["status"], said["problem"], said["warnings"]) == (
        "failed",
        "It is encrypted.",
        ["Two pages are scans."],
    )


@pytest.mark.parametrize("path", ["/api/v1/collections/none/documents", "/api/v1/documents/none"])
def test_what_is_not_there_is_not_found(handbook: Fake, client: TestClient, path: str) -> None:
    """Unknown collections and documents are 404."""
    problem(client.get(path), 404, "not_found")


def test_a_document_is_removed_once(handbook: Fake, client: TestClient) -> None:
    """Removing is a 204 that wakes the indexer; a second time there is nothing to remove."""
    response = client.delete("/api/v1/documents/d1")
    assert (response.status_code, response.content, handbook.woken) == (204, b"", 1)
    problem(client.delete("/api/v1/documents/d1"), 404, "not_found")


# ---------------------------------------------------------------- search


def test_search_returns_hits_with_every_score(handbook: Fake, client: TestClient) -> None:
    """A hit has its text, place, and each score and rank under its own name."""
    found = client.post("/api/v1/collections/handbook/search", json={"query": "travel", "limit": 1}).json()
    assert found == {
        "hits": [
            {
                "text": CHUNK.text,
                "document": "travel.pdf",
                "document_id": "d1",
                "page_first": 4,
                "page_last": 5,
                "page_label": "iv",
                "headings": ["Policy", "Travel"],
                "similarity": 0.5,
                "vector_rank": 1,
                "keyword_score": 0.25,
                "document_match": 0.125,
                "keyword_rank": 2,
                "fused": 0.75,
                "relevance": 0.9,
                "rank": 1,
                "is_picture": False,
            }
        ],
        "reranker": "fake-reranker",
    }
    assert handbook.pipeline.asked == [("travel", (), "c1")]


def test_search_returns_ten_hits_unless_told_otherwise(handbook: Fake, client: TestClient) -> None:
    """The default limit is ten, best first."""
    hits = client.post("/api/v1/collections/Handbook/search", json={"query": "travel"}).json()["hits"]
    assert [hit["rank"] for hit in hits] == list(range(1, 11))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"query": 1}',
        b'{"query": " "}',
        b'{"query": "x", "limit": 0}',
        b'{"query": "x", "limit": 51}',
        b'{"query": "x", "limit": true}',
        b'{"query": "x", "limit": 1.5}',
        b'{"query": "x", "limit": "5"}',
    ],
)
def test_a_search_that_cannot_be_understood_is_refused(handbook: Fake, client: TestClient, body: bytes) -> None:
    """Broken JSON, missing fields and wrong types are a 400 with a sentence."""
    problem(client.post("/api/v1/collections/Handbook/search", content=body), 400, "invalid_request")


def test_a_request_of_more_than_a_megabyte_is_refused(handbook: Fake, client: TestClient) -> None:
    """A JSON body is read up to 1 MB."""
    body = json.dumps({"query": "x", "padding": "y" * 1024 * 1024})
    problem(client.post("/api/v1/collections/Handbook/search", content=body), 413, "too_large")


# ---------------------------------------------------------------- ask


def ask(client: TestClient, body: object, stream: bool = False) -> Any:
    headers = {"Accept": "text/event-stream"} if stream else {}
    return client.post("/api/v1/collections/Handbook/ask", json=body, headers=headers)


def test_an_answer_comes_with_its_evidence(handbook: Fake, client: TestClient) -> None:
    """A citation gives the sentence and the page it begins on, as counted and as printed."""
    response = ask(client, {"question": "When is travel paid?"})
    said = response.json()
    assert response.status_code == 200
    assert len(said.pop("hits")) == 1
    assert said == {
        "answer": "Within 30 days [1].",
        "refused": False,
        "weak": True,
        "citations": [
            {
                "number": 1,
                "document": "travel.pdf",
                "document_id": "d1",
                "page": 5,
                "page_label": "v",
                "quote": SENTENCE,
                "relevance": 0.9,
                "support": "quoted",
                "verdict": None,
                "verdict_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "search_units": 1,
            "cost": 0.5,
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "reasoning_tokens": 0,
            "estimated": False,
        },
        "timings": {"searching": 0.125, "writing": 0.5},
        "notices": ["Take care."],
        "model": "fake-writer",
        "reranker": "fake-reranker",
        "incomplete": False,
        "reasoning": None,
    }


def test_a_format_without_pages_has_null_pages(handbook: Fake, client: TestClient) -> None:
    """Page and label are null where there are no pages."""
    flowing = replace(CHUNK, page_first=None, page_last=None)
    answer = replace(ANSWER, citations=(replace(CITATION, chunk=flowing),), hits=(replace(HIT, chunk=flowing),))
    handbook.pipeline.events = (Answered(answer),)
    said = ask(client, {"question": "When?"}).json()
    assert (said["citations"][0]["page"], said["citations"][0]["page_label"]) == (None, None)
    assert (said["hits"][0]["page_first"], said["hits"][0]["page_label"]) == (None, None)


def test_the_history_goes_with_the_question(handbook: Fake, client: TestClient) -> None:
    """Earlier turns reach the pipeline in order."""
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    ask(client, {"question": "When?", "history": history})
    assert handbook.pipeline.asked == [("When?", (Turn("user", "Hello"), Turn("assistant", "Hello!")), "c1")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": ""},
        {"question": "x" * 20_001},
        {"question": ["x"]},
        {"question": "x", "history": {}},
        {"question": "x", "history": ["x"]},
        {"question": "x", "history": [{"role": "user"}]},
        {"question": "x", "history": [{"role": "system", "content": "x"}]},
        {"question": "x", "history": [{"role": "user", "content": None}]},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_cannot_be_understood_is_refused(
    handbook: Fake, client: TestClient, body: object, stream: bool
) -> None:
    """Missing fields, wrong types and too much text are a 400 in both formats; nothing is asked."""
    problem(ask(client, body, stream), 400, "invalid_request")
    assert handbook.pipeline.asked == []


def test_the_longest_question_is_answered(handbook: Fake, client: TestClient) -> None:
    """Twenty thousand characters are not too many."""
    assert ask(client, {"question": "x" * 20_000}).status_code == 200


def test_half_characters_do_not_reach_the_pipeline(handbook: Fake, client: TestClient) -> None:
    """A lone surrogate, which no file can hold, is replaced."""
    content = b'{"question": "a\\ud800b"}'
    assert client.post("/api/v1/collections/Handbook/ask", content=content).status_code == 200
    assert handbook.pipeline.asked[0][0] == "a?b"


def test_half_characters_in_an_answer_do_not_break_the_reply(handbook: Fake, client: TestClient) -> None:
    """What a model wrote can always be sent."""
    handbook.pipeline.events = (Answered(replace(ANSWER, text="a\ud800b")),)
    assert ask(client, {"question": "x"}).json()["answer"] == "a?b"


def test_the_events_of_an_answer_end_with_the_whole_of_it(handbook: Fake, client: TestClient) -> None:
    """The stream names each step, gives the text in pieces, and ends with the object of the plain reply."""
    response = ask(client, {"question": "When?"}, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    said = events(response)
    assert [name for name, _ in said] == ["searching", "retrieved", "reranked", "text", "text", "answer"]
    assert said[0][1] == {"query": "When is travel paid?"}
    assert said[1][1] == {"count": 1, "seconds": 0.125}
    assert said[2][1] == {"count": 1, "reranker": "fake-reranker", "seconds": 0.25}
    assert said[3][1] == {"text": "Within 30\n", "citations": []}
    assert [each["number"] for each in said[4][1]["citations"]] == [1]
    assert said[5][1] == ask(client, {"question": "When?"}).json()


def test_a_refusal_names_the_closest_passages(handbook: Fake, client: TestClient) -> None:
    """Refusing is an event before the answer that says refused."""
    refused = replace(ANSWER, refused=True, citations=(), writer=None)
    handbook.pipeline.events = (Searching("x"), Refused((HIT,)), Answered(refused))
    said = events(ask(client, {"question": "x"}, stream=True))
    assert [name for name, _ in said] == ["searching", "refused", "answer"]
    assert said[1][1]["closest"][0]["document"] == "travel.pdf"
    assert said[2][1]["refused"] is True


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.WrongEmbeddingModel("Re-index it."), 409, "wrong_embedding_model"),
        (errors.OverBudget("The budget is spent."), 402, "over_budget"),
        (errors.BadKey("The key is wrong."), 502, "bad_key"),
        (errors.OutOfCredit("No credit."), 502, "out_of_credit"),
        (errors.ModelUnavailable("No such model."), 502, "model_unavailable"),
        (errors.InputRejected("Too long."), 502, "input_rejected"),
        (errors.ProviderDown("Down."), 502, "provider_down"),
        (errors.BadReply("Odd."), 502, "bad_reply"),
        (errors.RateLimited("Wait."), 503, "rate_limited"),
        (errors.Stopped("Stopped."), 503, "stopped"),
        (NotReady("Starting."), 503, "not_ready"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_failure_has_its_status_and_sentence(
    handbook: Fake, client: TestClient, error: Exception, status: int, code: str, stream: bool
) -> None:
    """What goes wrong before the first event is an error reply in both formats."""
    handbook.pipeline.events = (error,)
    assert problem(ask(client, {"question": "x"}, stream), status, code) == str(error)


def test_what_stands_behind_a_failure_is_said_apart(handbook: Fake, client: TestClient) -> None:
    """The server's own words are no part of the sentence."""
    failure = Failure(503, "Azure", "gen-1", "no capacity", "wait")
    handbook.pipeline.events = (errors.ProviderDown("Try again later.", failure=failure),)
    error = ask(client, {"question": "x"}).json()["error"]
    assert error["message"] == "Try again later."
    assert error["details"] == {"status": 503, "provider": "Azure", "request_id": "gen-1", "said": "no capacity"}


def test_thoughts_and_checks_are_events(handbook: Fake, client: TestClient) -> None:
    """In the order in which they happen."""
    handbook.pipeline.events = (ReasoningDelta(""), ReasoningDelta("Well."), Checking(), Answered(ANSWER))
    said = events(ask(client, {"question": "x"}, stream=True))
    assert said[:2] == [("reasoning", {"text": "Well."}), ("checking", {})]


def test_a_rate_limit_says_how_long_to_wait(handbook: Fake, client: TestClient) -> None:
    """Retry-After passes the provider's word on, rounded up."""
    handbook.pipeline.events = (errors.RateLimited("Wait.", retry_after=2.5),)
    assert ask(client, {"question": "x"}).headers["retry-after"] == "3"


def test_a_failure_in_the_middle_is_an_event(handbook: Fake, client: TestClient) -> None:
    """After the first event a failure ends the stream as an error event."""
    handbook.pipeline.events = (Searching("x"), errors.ProviderDown("Down."))
    said = events(ask(client, {"question": "x"}, stream=True))
    assert said[-1] == ("error", {"error": {"code": "provider_down", "message": "Down."}})


@pytest.mark.parametrize("stream", [False, True])
def test_an_unexpected_error_shows_and_logs_nothing_it_says(
    handbook: Fake, client: TestClient, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """A bug is a 500 with an id that is in the log; the exception's text, which may quote a document, is in neither."""
    handbook.pipeline.events = (RuntimeError("the secret paragraph"),)
    with caplog.at_level(logging.ERROR):
        message = problem(ask(client, {"question": "x"}, stream), 500, "internal")
    reference = re.search(r"[0-9a-f]{8}", message)
    assert reference
    assert reference.group() in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret paragraph" not in message + caplog.text


@pytest.mark.parametrize("path", ["search", "ask"])
def test_questions_wait_until_the_index_is_ready(handbook: Fake, client: TestClient, path: str) -> None:
    """While the server starts, questions are a 503 that says when to come back."""
    handbook.state_name = "rebuilding"
    response = client.post(f"/api/v1/collections/Handbook/{path}", json={"query": "x", "question": "x"})
    problem(response, 503, "not_ready")
    assert response.headers["retry-after"] == "5"


def test_uploads_wait_until_the_catalogue_is_open(handbook: Fake, client: TestClient) -> None:
    """While the server starts, nothing is taken that could be lost."""
    handbook.state_name = "starting"
    problem(upload(client), 503, "not_ready")


def test_before_anything_is_open_everything_is_not_ready(fake: Fake, client: TestClient) -> None:
    """The first requests may come before the services."""
    services.use(None)
    problem(client.get("/api/v1/documents/d1"), 503, "not_ready")
    assert client.get("/health").json() == {"status": "starting"}


@pytest.mark.parametrize("path", ["search", "ask"])
def test_questions_to_an_unknown_collection_are_not_found(handbook: Fake, client: TestClient, path: str) -> None:
    """There is nothing to ask where nothing was uploaded."""
    response = client.post(f"/api/v1/collections/None/{path}", json={"query": "x", "question": "x"})
    problem(response, 404, "not_found")


class Connection:
    """A client at the ASGI level that sends one request, and goes away when told."""

    def __init__(self, path: str, accept: bytes) -> None:
        self._path = path
        self._accept = accept
        self.gone = threading.Event()
        self.sent: list[Any] = []

    async def run(self) -> None:
        body = b'{"question": "x", "query": "x"}'
        requests = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            for request in requests:
                return request
            while not self.gone.is_set():
                await anyio.sleep(0.005)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"accept", self._accept)]
        scope = {
            "type": "http",
            "method": "POST",
            "path": self._path,
            "root_path": "",
            "headers": headers,
            "query_string": b"",
        }
        with anyio.fail_after(20):
            await Starlette(routes=api.routes())(scope, receive, send)


@pytest.mark.parametrize("accept", [b"application/json", b"text/event-stream"])
@pytest.mark.parametrize("path", ["search", "ask"])
def test_a_client_that_goes_away_stops_the_work(handbook: Fake, path: str, accept: bytes) -> None:
    """Nothing is written for nobody: the stop reaches a pipeline that is waiting for a silent model."""
    connection = Connection(f"/api/v1/collections/Handbook/{path}", accept)
    stopped = threading.Event()

    def silent(stop: Stop) -> None:
        connection.gone.set()
        if stop.wait(20):
            stopped.set()
        stop.check()

    handbook.pipeline.before = silent
    anyio.run(connection.run)
    assert stopped.is_set()


def test_a_quiet_stream_is_kept_alive(handbook: Fake, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens, comments go out; they are not events."""
    monkeypatch.setattr(api, "_KEEP_ALIVE_SECONDS", 0.01)
    handbook.pipeline.before = lambda stop: stop.wait(0.1) and None
    response = ask(client, {"question": "x"}, stream=True)
    assert response.text.startswith(": ")
    assert [name for name, _ in events(response)][-1] == "answer"


# ---------------------------------------------------------------- page pictures


def test_a_link_shows_the_page_its_sentence_stands_on(handbook: Fake, client: TestClient) -> None:
    """The link is its own permission, and the reader's browser alone keeps the picture."""
    response = client.get(api.picture_link("m1", 1), headers={"Authorization": ""})
    assert (response.status_code, response.content) == (200, b"abab 5 [(0, 30)]")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "private, no-cache"


def test_a_picture_is_drawn_once_for_a_browser(handbook: Fake, client: TestClient) -> None:
    """A browser that has the picture is told to keep it, until an answer written anew cites something else there."""
    link = api.picture_link("m1", 1)
    tag = client.get(link).headers["etag"]
    assert client.get(link, headers={"If-None-Match": tag}).status_code == 304
    handbook.answer = replace(ANSWER, citations=(replace(CITATION, start=0, end=26),))
    assert client.get(link, headers={"If-None-Match": tag}).content == b"abab 4 [(100, 126)]"


def test_an_answer_that_is_being_written_has_pictures(handbook: Fake, client: TestClient) -> None:
    """Citations can be looked at as soon as they are shown."""
    handbook.answer = None
    handbook.live_citations = (CITATION,)
    assert client.get(api.picture_link("m1", 1)).status_code == 200


def test_a_link_stays_the_same_for_a_while(handbook: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page drawn again within the hour has the same links, so that browsers keep the pictures."""
    now = 1_800_000_000 // 3600 * 3600
    monkeypatch.setattr("time.time", lambda: now + 1)
    first = api.picture_link("m1", 1)
    monkeypatch.setattr("time.time", lambda: now + 3599)
    assert api.picture_link("m1", 1) == first


def test_a_link_expires(handbook: Fake, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day and the hour it was made in, a link shows nothing."""
    now = 1_800_000_000
    monkeypatch.setattr("time.time", lambda: now)
    link = api.picture_link("m1", 1)
    monkeypatch.setattr("time.time", lambda: now + links.SECONDS)
    assert client.get(link).status_code == 200
    monkeypatch.setattr("time.time", lambda: now + links.SECONDS + 3601)
    problem(client.get(link), 404, "not_found")


@pytest.mark.parametrize("token", ["x", "a.b.c", "%00"])
def test_a_wrong_link_shows_nothing(handbook: Fake, client: TestClient, token: str) -> None:
    """Only what was signed with this folder's key is a link."""
    problem(client.get(f"/pictures/{token}"), 404, "not_found")


def test_a_link_cannot_be_changed(handbook: Fake, client: TestClient) -> None:
    """The signature covers the message and the number."""
    name, _, signature = api.picture_link("m1", 1).partition(".")
    other, _, _ = api.picture_link("m1", 2).partition(".")
    assert client.get(f"{name}.{signature}").status_code == 200
    problem(client.get(f"{other}.{signature}"), 404, "not_found")


@pytest.mark.parametrize(("message", "number"), [("m1", 2), ("m2", 1)])
def test_a_citation_that_is_gone_has_no_picture(handbook: Fake, client: TestClient, message: str, number: int) -> None:
    """A deleted conversation or a number the answer no longer has is a 404."""
    problem(client.get(api.picture_link(message, number)), 404, "not_found")


def test_an_answer_without_evidence_has_no_picture(handbook: Fake, client: TestClient) -> None:
    """A message that failed cites nothing."""
    handbook.answer = None
    problem(client.get(api.picture_link("m1", 1)), 404, "not_found")


def test_a_format_without_pages_has_no_picture(handbook: Fake, client: TestClient) -> None:
    """A DOCX is shown as text, not as a page."""
    handbook.library.held["d1"] = replace(handbook.library.held["d1"], newest=a_version("d1", DOCX))
    problem(client.get(api.picture_link("m1", 1)), 404, "not_found")


def test_a_page_that_cannot_be_drawn_has_no_picture(handbook: Fake, client: TestClient) -> None:
    """A renderer that gives up is a 404, like every other page there is not."""

    def broken(*_: object) -> Picture:
        raise UnreadableDocument("This page cannot be drawn.")

    handbook.pictures.page = broken  # type: ignore[method-assign]
    problem(client.get(api.picture_link("m1", 1)), 404, "not_found")


def test_the_key_is_the_owners_alone(handbook: Fake) -> None:
    """The signing key is made at first use, and no other account can read it."""
    api.picture_link("m1", 1)
    key = handbook.settings.data_dir / "links.key"
    assert len(key.read_bytes()) == 64
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_links_outlive_the_server(handbook: Fake, client: TestClient) -> None:
    """The key is read again, not made again, after a restart."""
    link = api.picture_link("m1", 1)
    links._serializer.cache_clear()
    assert client.get(link).status_code == 200
