"""Everything together, over a real socket: from an upload to a billed answer, with a models' server that is strict."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from desk import HANDBOOK, word_file
from PIL import Image, ImageDraw
from pydantic import SecretStr
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rag import services
from rag.domain import Message
from rag.services import Services
from rag.settings import Settings
from tests.openrouter_server import KEY, OpenRouterServer, fails
from tests.waiting import until

PATIENCE = 30.0
QUESTION = "How many days of annual leave do employees accrue?"


@pytest.fixture
def opened(host: OpenRouterServer, tmp_path: Path) -> Iterator[Services]:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        openrouter_base_url=host.url,
        openrouter_api_key=SecretStr(KEY),
        embedding_model="maker/seeing-embed-1",
        rerank_model="maker/seeing-rerank-1",
        chat_model="maker/seeing-chat-1",
    )
    running = services.open(settings)
    running.wait_until_ready(PATIENCE)
    until(lambda: not any(running.choice.is_stale(stage) for stage in ("embeddings", "rerank", "chat")), PATIENCE)
    yield running
    running.close()
    services.use(None)


def ready(opened: Services, collection_id: str) -> None:
    until(lambda: not opened.library.activity().documents, PATIENCE)
    assert [one.newest.problem for one in opened.library.documents(collection_id)] == [None]


def upload(opened: Services, name: str, file: io.BytesIO) -> str:
    collection = opened.library.create_collection("Policies", opened.models.embeddings)
    opened.library.add(collection.id, name, file)
    opened.indexer.wake()
    ready(opened, collection.id)
    return collection.id


def finished(opened: Services, message: Message) -> Message:
    live = opened.chat.live(message.id)
    while live is not None and not live.snapshot().done:
        live.wait(live.snapshot().revision, PATIENCE)
    return opened.conversations.message(message.id)


def ask(opened: Services, collection_id: str, question: str = QUESTION) -> Message:
    conversation = opened.conversations.create(collection_id)
    return finished(opened, opened.chat.ask(conversation.id, question))


def test_every_call_of_an_answer_is_priced(opened: Services, host: OpenRouterServer) -> None:
    """As reported where it is, by the list where not; the session groups what belongs together."""
    collection_id = upload(opened, "handbook.docx", word_file(HANDBOOK))
    message = ask(opened, collection_id)
    assert message.answer is not None and message.answer.text.startswith("The fee is")
    usage = message.answer.usage
    assert (usage.prompt_tokens >= 120, usage.search_units, usage.cost is not None) == (True, 1, True)
    century = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    entries = list(opened.ledger.entries(*century))
    assert {entry.stage for entry in entries} == {"indexing", "searching", "reranking", "writing"}
    assert sum(entry.spending.usage.cost or 0.0 for entry in entries if entry.about == message.id) == usage.cost
    sessions = {request.headers.get("x-session-id") for request in host.requests if request.path.endswith("/rerank")}
    assert sessions == {message.conversation_id}


def test_changing_the_embedding_model_is_announced_and_carried_out(opened: Services, host: OpenRouterServer) -> None:
    """What it takes is known before; the former vectors are not asked for again on the way back."""
    collection_id = upload(opened, "handbook.docx", word_file(HANDBOOK))
    plan = opened.reindexing("maker/embed-1", None)
    assert (plan.passages, plan.known, plan.tokens > 0, plan.cost is not None) == (3, 0, True, True)
    opened.choice.change(embedding_model="maker/embed-1")
    opened.indexer.reindex(collection_id)
    until(lambda: opened.library.collection(collection_id).embedding_model == "openrouter:maker/embed-1", PATIENCE)
    assert ask(opened, collection_id).state == "complete"
    assert opened.reindexing("maker/seeing-embed-1", None).known == 3


def test_a_failed_answer_says_what_to_do_and_keeps_the_details(opened: Services, host: OpenRouterServer) -> None:
    """One sentence, and what stands behind it apart."""
    collection_id = upload(opened, "handbook.docx", word_file(HANDBOOK))
    host.always = fails(402, "Insufficient credits.")
    message = ask(opened, collection_id)
    assert (message.state, message.text) == ("failed", "")
    assert message.problem is not None and "redit" in message.problem
    assert message.failure is not None
    assert (message.failure.status, message.failure.remedy, message.failure.said) == (
        402,
        "credit",
        "Insufficient credits.",
    )


def test_a_spent_budget_stops_the_next_question(opened: Services, host: OpenRouterServer) -> None:
    """Before anything is sent."""
    collection_id = upload(opened, "handbook.docx", word_file(HANDBOOK))
    ask(opened, collection_id)
    opened.choice.change(monthly_budget=0.0001)
    asked = len(host.requests)
    message = ask(opened, collection_id)
    assert message.problem is not None and "budget" in message.problem
    assert len(host.requests) == asked


def scan(words: str) -> io.BytesIO:
    """A PDF of one page that is a picture."""
    picture = Image.new("RGB", (900, 600), "white")
    ImageDraw.Draw(picture).text((60, 60), words, fill="black", font_size=40)
    file = io.BytesIO()
    canvas = Canvas(file, A4)
    canvas.drawImage(ImageReader(picture), 30, 300, 500, 333)
    canvas.save()
    file.seek(0)
    return file


def test_a_scanned_page_is_found_judged_and_shown_as_a_picture(opened: Services, host: OpenRouterServer) -> None:
    """Its picture goes to the embedder, the reranker and the writer, as data and never as an address."""
    collection = opened.library.create_collection("Scans", opened.models.embeddings)
    opened.library.set_figures(collection.id, True)
    opened.library.add(collection.id, "scan.pdf", scan("The visa costs 80 euros"))
    opened.indexer.wake()
    ready(opened, collection.id)
    message = ask(opened, collection.id, "What does the scan say?")
    sent = {request.path.rpartition("/")[2]: request.body for request in host.requests if request.body}
    embedded = next(
        request.body["input"][0]["content"]
        for request in host.requests
        if request.path.endswith("/embeddings") and isinstance(request.body["input"][0], dict)
    )
    assert embedded[-1]["image_url"]["url"].startswith("data:image/")
    assert sent["rerank"]["documents"][0]["image"].startswith("data:image/")
    answer = message.answer
    assert answer is not None and answer.hits[0].chunk.figure is not None and not answer.refused
    parts = sent["completions"]["messages"][-1]["content"]
    assert [part["type"] for part in parts].count("image_url") == 1
    picture = services.cited_page(opened, answer.citations[0])
    assert picture is not None and picture.image[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
