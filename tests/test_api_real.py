"""The HTTP API over the real services, in local mode: from an upload to a cited sentence and its page."""

import io
from collections.abc import Iterator
from typing import Any

import docx
import pytest
from PIL import Image
from pydantic import SecretStr
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rag import api, services
from rag.settings import Settings
from tests.waiting import until

PATIENCE = 60.0
SENTENCE = "Travel expenses are paid within 30 days of the claim."


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path_factory.mktemp("data"),
        api_token=SecretStr("token"),
        max_upload_mb=1,
        embeddings_setting="local",
        rerank_setting="local",
        chat_setting="local",
    )
    opened = services.open(settings)
    try:
        with TestClient(Starlette(routes=api.routes()), headers={"Authorization": "Bearer token"}) as connected:
            until(lambda: connected.get("/health").status_code == 200, PATIENCE)
            yield connected
    finally:
        opened.close()


@pytest.fixture(scope="module")
def pdf() -> bytes:
    """Two pages; the sentence is on the second."""
    file = io.BytesIO()
    canvas = Canvas(file, A4)
    for lines in (["Holidays", "Everybody has 25 days of holidays a year."], ["Expenses", SENTENCE]):
        for row, line in enumerate(lines):
            canvas.drawString(72, 760 - 30 * row, line)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def upload(client: TestClient, content: bytes, name: str, collection: str) -> Any:
    return client.post(f"/api/v1/collections/{collection}/documents", files={"file": (name, content)})


def finished(client: TestClient, document_id: str) -> Any:
    """The document once it is ready or has failed."""
    return until(
        lambda: (
            (document := client.get(f"/api/v1/documents/{document_id}").json())["status"] in {"ready", "failed"}
            and document
        ),
        PATIENCE,
    )


@pytest.fixture(scope="module")
def handbook(client: TestClient, pdf: bytes) -> Any:
    response = upload(client, pdf, "handbook.pdf", "Handbook")
    assert response.status_code == 202
    return finished(client, response.json()["id"])


def test_a_pdf_becomes_ready(handbook: Any) -> None:
    """The status ends with what was read."""
    assert (handbook["status"], handbook["pages"], handbook["problem"]) == ("ready", 2, None)
    assert handbook["chunks"] > 0


def test_the_same_pdf_is_already_there(client: TestClient, handbook: Any, pdf: bytes) -> None:
    """The same bytes under another name are the same document."""
    again = upload(client, pdf, "copy.pdf", "handbook")
    assert (again.status_code, again.json()["id"]) == (200, handbook["id"])


def test_search_finds_the_sentence(client: TestClient, handbook: Any) -> None:
    """The best hit is the passage that says it, with its page and scores."""
    found = client.post("/api/v1/collections/handbook/search", json={"query": "When are travel expenses paid?"}).json()
    best = found["hits"][0]
    assert SENTENCE in best["text"]
    assert (best["document"], best["page_last"], best["rank"]) == ("handbook.pdf", 2, 1)
    assert best["relevance"] is not None
    assert found["reranker"]


def test_an_answer_cites_the_sentence_and_its_page(client: TestClient, handbook: Any) -> None:
    """The quote is the sentence of the file, on the page it stands on."""
    said = client.post("/api/v1/collections/handbook/ask", json={"question": "When are travel expenses paid?"}).json()
    assert said["refused"] is False
    cited = said["citations"][0]
    assert (cited["document_id"], cited["page"], cited["quote"]) == (handbook["id"], 2, SENTENCE)


def test_a_question_the_documents_do_not_answer_is_refused(client: TestClient, handbook: Any) -> None:
    """Rather nothing than a guess."""
    said = client.post("/api/v1/collections/handbook/ask", json={"question": "Who won the 1966 football cup?"}).json()
    assert (said["refused"], said["citations"]) == (True, [])


def test_a_citations_picture_is_the_page_with_something_lit(client: TestClient, handbook: Any) -> None:
    """The page of a black and white document has colour where the sentence stands."""
    opened = services.get()
    collection = opened.library.collection_named("handbook")
    assert collection
    conversation = opened.conversations.create(collection.id)
    message = opened.chat.ask(conversation.id, "When are travel expenses paid?")
    until(lambda: opened.chat.live(message.id) is None, PATIENCE)
    response = client.get(api.picture_link(message.id, 1))
    assert response.status_code == 200
    picture = Image.open(io.BytesIO(response.content)).convert("RGB")
    colours = picture.getcolors(picture.width * picture.height)
    assert colours
    assert any(max(colour) - min(colour) > 50 for _, colour in colours if isinstance(colour, tuple))


def test_a_word_document_has_no_pages(client: TestClient) -> None:
    """Pages are null from the status to the citation."""
    file = io.BytesIO()
    made = docx.Document()
    made.add_paragraph("The office dog is called Waldo and comes on Fridays.")
    made.save(file)
    document = finished(client, upload(client, file.getvalue(), "dog.docx", "Notes").json()["id"])
    assert (document["status"], document["pages"]) == ("ready", None)
    said = client.post("/api/v1/collections/notes/ask", json={"question": "What is the office dog called?"}).json()
    assert [(cited["page"], cited["page_label"]) for cited in said["citations"]] == [(None, None)]


@pytest.mark.parametrize(
    ("content", "name", "status"),
    [
        (b"", "empty.pdf", 400),
        (b"plain text", "notes.txt", 415),
        (b"PK\x03\x04 not a word document", "wrong.xlsx", 415),
        (b"%PDF-1.7" + b"\0" * 1024 * 1024, "large.pdf", 413),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_at_once(
    client: TestClient, handbook: Any, content: bytes, name: str, status: int
) -> None:
    """What can be seen in a file's first bytes or its size is said in the reply to the upload."""
    assert upload(client, content, name, "Handbook").status_code == status


def test_a_damaged_pdf_fails_with_a_reason_and_can_be_tried_again(client: TestClient, handbook: Any) -> None:
    """What only reading shows is the document's problem; uploading it again tries again."""
    damaged = upload(client, b"%PDF-1.7 and nothing else", "damaged.pdf", "Handbook")
    assert damaged.status_code == 202
    document = finished(client, damaged.json()["id"])
    assert document["status"] == "failed"
    assert document["problem"].endswith(".")
    again = upload(client, b"%PDF-1.7 and nothing else", "damaged.pdf", "Handbook")
    assert (again.status_code, again.json()["outcome"], again.json()["id"]) == (202, "retried", document["id"])
    finished(client, document["id"])


@pytest.mark.parametrize("name", ["../../etc/passwd.pdf", "a" * 300 + ".pdf", "\u202efdp.pdf", "<b>*x*</b>.pdf"])
def test_a_hostile_name_is_only_a_name(client: TestClient, handbook: Any, pdf: bytes, name: str) -> None:
    """No folders, no direction marks, at most 200 characters, and the extension is kept."""
    response = upload(client, pdf + name.encode(), name, "Names")
    assert response.status_code == 202
    shown = response.json()["document"]
    assert shown.endswith(".pdf")
    assert len(shown) <= 200
    assert not {"/", "\u202e"} & set(shown)
    client.delete(f"/api/v1/documents/{response.json()['id']}")


def test_a_removed_document_is_gone_at_once(client: TestClient) -> None:
    """After the 204 it is in no list and in no answer."""
    file = io.BytesIO()
    canvas = Canvas(file, A4)
    canvas.drawString(72, 700, "The secret door is behind the third shelf.")
    canvas.save()
    document = finished(client, upload(client, file.getvalue(), "door.pdf", "Doors").json()["id"])
    assert client.delete(f"/api/v1/documents/{document['id']}").status_code == 204
    assert client.get("/api/v1/collections/doors/documents").json() == {"documents": []}
    assert client.get(f"/api/v1/documents/{document['id']}").status_code == 404
    found = client.post("/api/v1/collections/doors/search", json={"query": "Where is the secret door?"}).json()
    assert found["hits"] == []
