"""The background worker: what is queued becomes ready or fails with its reason, and nothing is lost in between."""

import time
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from desk import HANDBOOK, Desk
from fakes import BagOfWords

from rag.domain import Failure, Version
from rag.errors import NotFound
from rag.indexing import Indexer
from rag.interfaces import Errand


@pytest.fixture
def indexer(desk: Desk) -> Iterator[Indexer]:
    opened = Indexer(desk.pipeline, desk.stores)
    opened.start()
    yield opened
    opened.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.01)


def newest(desk: Desk, document_id: str) -> Version:
    return desk.library.document(document_id).newest


def test_queued_files_become_ready(desk: Desk, indexer: Indexer) -> None:
    """Several at once, each with all its passages."""
    documents = [desk.add(f"handbook {number}.docx", HANDBOOK | {"Copy": f"Number {number}."}) for number in range(4)]
    indexer.wake()
    until(lambda: all(newest(desk, one.id).status == "ready" for one in documents))
    assert {newest(desk, one.id).chunks for one in documents} == {4}


def test_a_broken_file_fails_with_its_reason(desk: Desk, indexer: Indexer) -> None:
    """The others go on."""
    broken = desk.library.add(desk.collection.id, "broken.pdf", BytesIO(b"%PDF-1.7 and then nothing")).document
    fine = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: newest(desk, fine.id).status == "ready" and newest(desk, broken.id).status == "failed")
    assert newest(desk, broken.id).problem
    assert newest(desk, broken.id).chunks == 0


def test_an_unexpected_failure_is_logged_under_an_incident(
    desk: Desk, indexer: Indexer, caplog: pytest.LogCaptureFixture
) -> None:
    """The person gets the incident's id, not the traceback."""
    assert desk.embedder is not None

    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret")

    desk.embedder.embed = broken  # type: ignore[method-assign, assignment]
    document = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: newest(desk, document.id).status == "failed")
    problem = newest(desk, document.id).problem
    assert problem is not None and "secret" not in problem
    assert problem.split()[-1].rstrip(".") in caplog.text


def test_closing_puts_unfinished_work_back_into_the_queue(desk: Desk) -> None:
    """The next process takes it up."""
    assert desk.embedder is not None
    embedder = desk.embedder
    waiting = [False]

    def slow(inputs: object, purpose: object, errand: Errand, received: object = None) -> None:
        waiting[0] = True
        while True:
            errand.stop.check()
            time.sleep(0.01)

    embedder.embed = slow  # type: ignore[method-assign, assignment]
    indexer = Indexer(desk.pipeline, desk.stores)
    indexer.start()
    document = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: waiting[0])
    indexer.close()
    assert newest(desk, document.id).status == "queued"


def test_a_removed_document_is_erased(desk: Desk, indexer: Indexer) -> None:
    """Rows, vectors and the file."""
    document = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: newest(desk, document.id).status == "ready")
    version = newest(desk, document.id)
    original = desk.stores.originals.path(version.sha256)
    assert original.exists() and len(desk.stores.index.ids(desk.collection.index)) == 3
    desk.library.remove(document.id)
    with pytest.raises(NotFound):
        desk.library.document(document.id)
    indexer.wake()
    until(lambda: not original.exists())
    assert len(desk.stores.index.ids(desk.collection.index)) == 0


def test_re_indexing_moves_a_collection_to_the_configured_model(desk: Desk, indexer: Indexer) -> None:
    """In the background, and the former vectors go."""
    document = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: newest(desk, document.id).status == "ready")
    indexer.close()
    desk.embedder = BagOfWords("fake:other")
    other = Indexer(desk.pipeline, desk.stores)
    other.start()
    other.reindex(desk.collection.id)
    until(lambda: desk.library.collection(desk.collection.id).embedding_model == "fake:other")
    until(lambda: desk.stores.index.indexes() == {desk.library.collection(desk.collection.id).index})
    other.close()


def test_a_failed_re_indexing_says_why_and_can_be_tried_again(desk: Desk, indexer: Indexer) -> None:
    """What was embedded is kept."""
    document = desk.add("handbook.docx", HANDBOOK)
    indexer.wake()
    until(lambda: newest(desk, document.id).status == "ready")
    indexer.close()
    desk.embedder = BagOfWords("fake:other")
    desk.embedder.fails_after = 0
    other = Indexer(desk.pipeline, desk.stores)
    other.start()
    other.reindex(desk.collection.id)
    until(lambda: other.problem(desk.collection.id) is not None)
    assert other.problem(desk.collection.id) == "The embedding server is down. Try again later."
    desk.embedder.fails_after = None
    other.reindex(desk.collection.id)
    until(lambda: desk.library.collection(desk.collection.id).embedding_model == "fake:other")
    other.close()


def test_a_spent_budget_keeps_documents_waiting(desk: Desk) -> None:
    """They go on when it is raised; nobody has to ask for each."""
    desk.budget = 0.00005
    first = desk.add("handbook.docx", HANDBOOK)
    second = desk.add("travel.docx", {"Visa": "The visa application costs 80 euros."})
    indexer = Indexer(desk.pipeline, desk.stores)
    indexer.start()
    try:
        until(lambda: not desk.pipeline.may_spend())
        until(lambda: {newest(desk, one.id).status for one in (first, second)} <= {"ready", "queued"})
        assert newest(desk, second.id).status == "queued"
        desk.budget = None
        indexer.wake()
        until(lambda: newest(desk, second.id).status == "ready")
    finally:
        indexer.close()


def test_what_stands_behind_a_failed_document_is_kept(desk: Desk) -> None:
    """For the details under its sentence; a retry forgets it."""
    failure = Failure(402, "Azure", "gen-1", "Insufficient credits.", "credit")
    document = desk.add("handbook.docx", HANDBOOK)
    version = desk.library.claim()
    assert version is not None
    desk.library.failed(version.id, "No credit left.", failure)
    assert newest(desk, document.id).failure == failure
    desk.library.retry(document.id)
    assert newest(desk, document.id).failure is None
