"""The pipeline over real files, a real catalogue and a real vector index; only the models are fakes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from desk import HANDBOOK, Desk
from fakes import BagOfWords, Speaker

from rag.domain import (
    Answered,
    Figure,
    Image,
    Page,
    Parsed,
    Progress,
    Refused,
    Reranked,
    Retrieved,
    Searching,
    TextDelta,
    Turn,
)
from rag.errors import (
    BadReply,
    FootnoteError,
    NotFound,
    OverBudget,
    ProviderError,
    Stopped,
    UnreadableDocument,
    WrongEmbeddingModel,
)
from rag.parsing.reader import Reader
from rag.pipeline import REFUSAL
from rag.prompts import NOT_IN_DOCUMENTS
from rag.stopping import Stop

BEFORE, AFTER = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
PICTURE = Image("image/png", b"a bridge over the river, 40 meters long")


@pytest.fixture
def handbook(desk: Desk) -> Desk:
    desk.add("handbook.docx", HANDBOOK)
    desk.ingest()
    return desk


# ------------------------------------------------------------------ documents


def test_a_file_goes_through_every_stage_and_becomes_ready(desk: Desk) -> None:
    """Each stage reports its last unit."""
    document = desk.add("handbook.docx", HANDBOOK)
    reported = desk.ingest()
    assert list(dict.fromkeys(one.stage for one in reported)) == ["reading", "splitting", "embedding", "indexing"]
    assert {(one.done, one.total) for one in reported if one.stage == "indexing"} == {(0, 3), (3, 3)}
    newest = desk.library.document(document.id).newest
    assert (newest.status, newest.chunks, newest.pages) == ("ready", 3, None)


def test_models_see_the_document_and_the_section_of_a_passage(handbook: Desk) -> None:
    """The name and the heading trail are embedded with the text."""
    assert handbook.embedder is not None
    assert any(text.startswith("handbook > Leave\n") for text in handbook.embedder.asked)


def test_nothing_is_embedded_twice(handbook: Desk) -> None:
    """The same text in another version costs nothing; only the new section is asked for."""
    assert handbook.embedder is not None
    handbook.embedder.asked.clear()
    handbook.add("handbook.docx", HANDBOOK | {"Parking": "Spaces are given out by lot every quarter."})
    handbook.ingest()
    assert len(handbook.embedder.asked) == 1


def test_a_failed_embedding_keeps_what_was_paid_for(desk: Desk) -> None:
    """The next try asks only for the rest, and until then nothing is found."""
    assert desk.embedder is not None
    sections = {f"Section {number}": f"Rule {number} says something of its own." for number in range(10)}
    document = desk.add("rules.docx", sections)
    desk.embedder.fails_after = 8
    with pytest.raises(ProviderError):
        desk.ingest()
    desk.library.failed(document.newest.id, "The embedding server is down.")
    assert desk.answer("Which rule says something?").hits == ()
    desk.embedder.fails_after = None
    desk.embedder.asked.clear()
    desk.library.retry(document.id)
    desk.ingest()
    assert len([text for text in desk.embedder.asked if "Rule" in text]) == 2


def test_a_document_removed_while_it_is_indexed_is_never_published(desk: Desk) -> None:
    """Its end is a clean error."""
    document = desk.add("handbook.docx", HANDBOOK)
    version = desk.library.claim()
    assert version is not None
    desk.library.remove(document.id)
    with pytest.raises(NotFound):
        desk.pipeline.ingest(version, document, lambda _: None, Stop())


def test_a_stopped_ingestion_publishes_nothing(desk: Desk) -> None:
    """A closing server leaves the document to the next one."""
    stop = Stop()
    document = desk.add("handbook.docx", HANDBOOK)
    version = desk.library.claim()
    assert version is not None

    def stop_at_splitting(progress: Progress) -> None:
        if progress.stage == "splitting":
            stop.set()

    with pytest.raises(Stopped):
        desk.pipeline.ingest(version, document, stop_at_splitting, stop)
    assert desk.answer("How many days of annual leave?").refused


# ------------------------------------------------------------------ questions


def test_an_answer_reports_its_steps_in_order(handbook: Desk) -> None:
    """Searching, retrieved, reranked, text, answered."""
    kinds = [type(event) for event in handbook.events("How many days of annual leave?")]
    assert kinds[:3] == [Searching, Retrieved, Reranked]
    assert set(kinds[3:-1]) == {TextDelta}
    assert kinds[-1] is Answered


def test_the_best_passage_comes_first_with_all_its_scores(handbook: Desk) -> None:
    """Vector, keyword, fused and rerank scores stand side by side."""
    best = handbook.answer("How many days of annual leave?").hits[0]
    assert best.chunk.headings == ("Leave",)
    assert (best.rank, best.fused_rank) == (1, 1)
    assert best.relevance is not None and best.relevance > 0.5
    assert None not in (best.similarity, best.bm25, best.fused)


def test_a_written_answer_cites_the_sentence(handbook: Desk) -> None:
    """From the model's source number to the very words of the file."""
    handbook.chat = Speaker("You get 25 days of annual leave [1].")
    answer = handbook.answer("How many days of annual leave?")
    assert answer.text.strip() == "You get 25 days of annual leave [1]."
    (citation,) = answer.citations
    assert citation.chunk.text[citation.start : citation.end] == "Employees accrue 25 days of annual leave."
    assert (citation.support, citation.document) == ("supported", "handbook.docx")
    assert answer.usage.cost == pytest.approx(0.0011)  # the question's embedding and the answer


def test_the_model_is_given_passages_that_pass_the_threshold_only(handbook: Desk) -> None:
    """What is not relevant is not sent."""
    handbook.chat = Speaker("25 days [1].")
    handbook.answer("How many days of annual leave?")
    sources = handbook.chat.heard[0][-1].stable
    assert "25 days of annual leave" in sources
    assert "Lost badges" not in sources


def test_extracts_answer_when_there_is_no_chat_model(handbook: Desk) -> None:
    """Labelled as such, each with its citation."""
    answer = handbook.answer("How many days of annual leave?")
    assert answer.extracts
    assert answer.text.endswith("[1]")
    assert [one.number for one in answer.citations] == list(range(1, len(answer.citations) + 1))


def test_a_question_about_something_else_is_refused_without_the_model(handbook: Desk) -> None:
    """No passage passes, so nothing is sent; the closest passages are shown."""
    handbook.chat = Speaker()
    events = handbook.events("Who won the chess olympiad?")
    assert handbook.chat.heard == []
    refused = next(event for event in events if isinstance(event, Refused))
    assert len(refused.closest) == 3
    answer = handbook.answer("Who won the chess olympiad?")
    assert (answer.refused, answer.text, answer.citations) == (True, REFUSAL, ())
    assert {one.step for one in answer.dropped} == {"threshold"}


def test_a_model_that_finds_nothing_in_the_sources_refuses(handbook: Desk) -> None:
    """The agreed words become a refusal."""
    handbook.chat = Speaker(NOT_IN_DOCUMENTS)
    answer = handbook.answer("How many days of annual leave?")
    assert (answer.refused, answer.text) == (True, REFUSAL)


def test_a_failing_reranker_costs_the_order_not_the_answer(handbook: Desk) -> None:
    """The reader is told, and no score refuses."""
    assert handbook.reranker is not None
    handbook.reranker.problem = BadReply("The reranker answered nonsense.")
    answer = handbook.answer("How many days of annual leave?")
    assert (answer.reranker, answer.bands, answer.refused) == (None, None, False)
    assert answer.notices == (
        "Reranking failed, so passages stand in the order they were found. The reranker answered nonsense.",
    )
    assert answer.hits[0].relevance is None and answer.hits[0].rank == 1


def test_without_a_reranker_passages_stand_as_found(handbook: Desk) -> None:
    """Reranking can be off, without any notice."""
    handbook.reranker = None
    answer = handbook.answer("How many days of annual leave?")
    assert (answer.reranker, answer.notices) == (None, ())


def test_a_follow_up_is_rewritten_by_the_model(handbook: Desk) -> None:
    """What is searched is what the model made of it, and the reader can see it."""
    history = [Turn("user", "How many days of leave?"), Turn("assistant", "25 days [1].")]
    handbook.chat = Speaker("When does unused leave lapse?", "In May [1].")
    assert handbook.answer("When does it lapse?", history).query == "When does unused leave lapse?"


def test_a_follow_up_without_a_model_takes_the_question_before_along(handbook: Desk) -> None:
    """The rule of local mode."""
    history = [Turn("user", "How many days of leave?"), Turn("assistant", "25 days [1].")]
    assert handbook.answer("When does it lapse?", history).query == "How many days of leave? When does it lapse?"


def test_keywords_alone_still_answer(tmp_path: Path, reader: Reader) -> None:
    """A platform without the local embedding model."""
    desk = Desk(tmp_path, reader)
    desk.embedder = None
    desk.add("handbook.docx", HANDBOOK)
    desk.ingest()
    best = desk.answer("How many days of annual leave?").hits[0]
    assert (best.chunk.headings, best.similarity) == (("Leave",), None)
    desk.close()


def test_an_empty_collection_refuses(desk: Desk) -> None:
    """Nothing to search is nothing found."""
    assert desk.answer("How many days of annual leave?").refused


def test_a_replaced_file_answers_with_its_new_text_only(handbook: Desk) -> None:
    """The old version is gone from answers in the same step."""
    handbook.add("handbook.docx", {"Leave": "Employees accrue 30 days of annual leave."})
    handbook.ingest()
    texts = [hit.chunk.text for hit in handbook.answer("How many days of annual leave?").hits]
    assert any("30 days" in text for text in texts)
    assert not any("25 days" in text for text in texts)


# ------------------------------------------------------------------ another embedding model


def test_another_embedding_model_is_refused_until_re_indexing(handbook: Desk) -> None:
    """Vectors of two models are never compared."""
    handbook.embedder = BagOfWords("fake:other")
    with pytest.raises(WrongEmbeddingModel, match="fake:bag"):
        handbook.answer("How many days of annual leave?")
    handbook.library.begin_reindexing(handbook.collection.id, "fake:other")
    meanwhile = handbook.answer("How many days of annual leave?")
    assert meanwhile.hits[0].similarity is None and not meanwhile.refused
    handbook.pipeline.reindex(handbook.collection.id, lambda _: None, Stop())
    after = handbook.answer("How many days of annual leave?")
    assert (after.embedding_model, after.hits[0].similarity is not None) == ("fake:other", True)


def test_a_model_that_changes_its_dimension_can_be_re_indexed(handbook: Desk) -> None:
    """The same name, other vectors: a clear error first, and nothing of the old ones afterwards."""
    handbook.embedder = BagOfWords("fake:bag", dimension=32)
    with pytest.raises(WrongEmbeddingModel, match="64 dimensions"):
        handbook.answer("How many days of annual leave?")
    handbook.library.begin_reindexing(handbook.collection.id, "fake:bag")
    handbook.pipeline.reindex(handbook.collection.id, lambda _: None, Stop())
    assert handbook.library.collection(handbook.collection.id).dimension == 32
    best = handbook.answer("How many days of annual leave?").hits[0]
    assert (best.chunk.headings, best.similarity is not None) == (("Leave",), True)


def test_an_empty_collection_takes_the_configured_model_on(desk: Desk) -> None:
    """There is nothing to re-index."""
    desk.embedder = BagOfWords("fake:other")
    desk.add("handbook.docx", HANDBOOK)
    desk.ingest()
    assert desk.library.collection(desk.collection.id).embedding_model == "fake:other"


def test_a_collection_of_the_local_model_answers_beside_another(handbook: Desk) -> None:
    """A key that appears later breaks nothing: old vectors need no server."""
    handbook.static, handbook.embedder = handbook.embedder, BagOfWords("fake:other")
    assert handbook.answer("How many days of annual leave?").hits[0].similarity is not None
    handbook.add("travel.docx", {"Visa": "The visa application costs 80 euros."})
    handbook.ingest()
    assert handbook.answer("What does the visa cost?").hits[0].document == "travel.docx"


# ------------------------------------------------------------------ money


def test_every_call_is_entered_in_the_ledger(handbook: Desk) -> None:
    """With its stage, its collection, and the message it was for."""
    handbook.chat = Speaker("25 days [1].")
    list(handbook.pipeline.answer("How many days of annual leave?", (), handbook.collection.id, Stop(), about="m1"))
    entries = [entry for entry in handbook.stores.ledger.entries(BEFORE, AFTER) if entry.about == "m1"]
    assert {entry.stage for entry in entries} == {"searching", "reranking", "writing"}
    assert {entry.collection for entry in entries} == {"Policies"}
    indexed = [entry for entry in handbook.stores.ledger.entries(BEFORE, AFTER) if entry.stage == "indexing"]
    assert sum(entry.spending.usage.prompt_tokens for entry in indexed) == 3


def test_a_stopped_answer_is_paid_for(handbook: Desk) -> None:
    """What was spent is entered, however the answer ends."""
    handbook.chat = Speaker("25 days of annual leave [1].")
    stop = Stop()
    events = handbook.pipeline.answer("How many days of annual leave?", (), handbook.collection.id, stop, about="m1")
    for event in events:
        if isinstance(event, Reranked):
            stop.set()
            with pytest.raises(Stopped):
                list(events)
    entries = [entry.stage for entry in handbook.stores.ledger.entries(BEFORE, AFTER) if entry.about == "m1"]
    assert set(entries) == {"searching", "reranking"}


def test_a_spent_budget_stops_questions_and_indexing(handbook: Desk) -> None:
    """Nothing more is sent anywhere until somebody raises it."""
    handbook.chat = Speaker()
    handbook.budget = 0.0001
    assert handbook.embedder is not None
    handbook.embedder.asked.clear()
    with pytest.raises(OverBudget):
        handbook.answer("How many days of annual leave?")
    handbook.add("travel.docx", {"Visa": "The visa application costs 80 euros."})
    with pytest.raises(OverBudget):
        handbook.ingest()
    assert (handbook.embedder.asked, handbook.chat.heard) == ([], [])


def test_a_budget_ends_an_upload_between_batches(desk: Desk) -> None:
    """What is paid for by then is kept and entered."""
    assert desk.embedder is not None
    sections = {f"Section {number}": f"Rule {number} says something of its own." for number in range(12)}
    desk.add("rules.docx", sections)
    desk.budget = 0.0001
    with pytest.raises(OverBudget):
        desk.ingest()
    assert len(desk.embedder.asked) == 4
    assert len(list(desk.stores.ledger.entries(BEFORE, AFTER))) == 1


def test_looking_whether_a_model_has_changed_is_paid_for(handbook: Desk) -> None:
    """Re-indexing with the same model asks for one vector first."""
    before = len(list(handbook.stores.ledger.entries(BEFORE, AFTER)))
    handbook.pipeline.reindex(handbook.collection.id, lambda _: None, Stop())
    assert len(list(handbook.stores.ledger.entries(BEFORE, AFTER))) == before + 1


def test_a_ledger_that_cannot_be_written_costs_no_answer(
    handbook: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says so."""

    def full(entries: object) -> None:
        raise FootnoteError("The disk is full.")

    monkeypatch.setattr(handbook.stores.ledger, "record", full)
    assert not handbook.answer("How many days of annual leave?").refused
    assert "could not be entered" in caplog.text


def test_a_spent_budget_leaves_local_work_alone(handbook: Desk) -> None:
    """It costs nothing."""
    handbook.static, handbook.are_billed = handbook.embedder, False
    handbook.budget = 0.0001
    assert not handbook.answer("How many days of annual leave?").refused
    handbook.add("travel.docx", {"Visa": "The visa application costs 80 euros."})
    handbook.ingest()


# ------------------------------------------------------------------ questions within questions


def test_the_questions_within_a_question_are_searched_too(handbook: Desk) -> None:
    """A passage counts by the part that it fits best."""
    question = "How many days of annual leave are there, and who hears of lost badges?"
    handbook.splits_questions = True
    handbook.chat = Speaker("25 days [1]. Reception [2].")
    handbook.chat.filled = [
        {"question": "ignored", "parts": ["How many days of annual leave?", "Lost badges are reported to whom?"]}
    ]
    answer = handbook.answer(question)
    assert answer.query == question
    best = {hit.chunk.headings: hit.relevance or 0.0 for hit in answer.hits}
    assert best["Leave",] > 0.5
    assert best["Security",] > 0.5


@pytest.mark.parametrize("filled", [{}, {"parts": "none"}, {"parts": [1, None, "", "alone"]}, {"question": 3}])
def test_a_question_that_cannot_be_taken_apart_is_searched_whole(handbook: Desk, filled: dict[str, object]) -> None:
    """Nonsense from the model costs nothing but the call."""
    handbook.splits_questions = True
    handbook.chat = Speaker("25 days [1].")
    handbook.chat.filled = [filled]
    assert handbook.answer("How many days of annual leave?").query == "How many days of annual leave?"


# ------------------------------------------------------------------ going on


def test_an_answer_that_was_cut_off_goes_on_from_the_same_passages(handbook: Desk) -> None:
    """The text grows in place, and is complete then."""
    handbook.chat = Speaker("You get 25 days")
    handbook.chat.complete = False
    cut = handbook.answer("How many days of annual leave?")
    assert cut.incomplete
    handbook.chat = Speaker("of annual leave [1].")
    events = list(handbook.pipeline.resume("How many days of annual leave?", (), cut, handbook.collection.id, Stop()))
    whole = events[-1].answer
    assert (whole.text.strip(), whole.incomplete) == ("You get 25 days of annual leave [1].", False)
    assert (whole.hits, whole.used) == (cut.hits, cut.used)
    assert whole.usage.prompt_tokens > cut.usage.prompt_tokens


# ------------------------------------------------------------------ pictures


class Album:
    """A reader of one page without text, which is a picture of these words."""

    def read(self, path: Path, media_type: str, progress: object, stop: Stop, *, figures: bool = False) -> Parsed:
        page = Page(1, "1", "", None)
        picture = Figure(1, "1", True, PICTURE, "", ())
        return Parsed((page,), (), True, (), (picture,) if figures else ())


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, Album())
    desk.library.set_figures(desk.collection.id, True)
    assert desk.embedder is not None and desk.reranker is not None
    desk.embedder.takes_images = desk.reranker.takes_images = True
    yield desk
    desk.close()


def test_a_page_without_text_is_found_as_a_picture(album: Desk) -> None:
    """By what it shows, and the model that writes sees it."""
    album.add("scan.docx", {"A": "b"})
    album.ingest()
    album.chat = Speaker("The bridge is 40 meters long [1].")
    album.chat.takes_images = True
    answer = album.answer("How long is the bridge over the river?")
    best = answer.hits[0]
    assert (best.chunk.figure, best.chunk.text, best.chunk.page_first) == (PICTURE.key, "", 1)
    assert album.chat.heard[0][-1].images == (PICTURE,)
    assert [one.support for one in answer.citations] == ["picture"]
    assert album.stores.figures.image(best.chunk) == PICTURE


def test_a_picture_nobody_can_see_is_no_source(album: Desk) -> None:
    """A model that reads text only is not given a source without text."""
    album.add("scan.docx", {"A": "b"})
    album.ingest()
    album.chat = Speaker()
    answer = album.answer("How long is the bridge over the river?")
    assert answer.refused
    assert [one.reason for one in answer.dropped] == ["a picture, which the writer cannot see"]


def test_pictures_are_off_unless_the_collection_wants_them(album: Desk) -> None:
    """Off by default, and off again; a file of nothing but pictures has no text then."""
    album.library.set_figures(album.collection.id, False)
    album.add("scan.docx", {"A": "b"})
    with pytest.raises(UnreadableDocument):
        album.ingest()


def test_the_same_picture_is_embedded_once(album: Desk) -> None:
    """Pictures are kept by content, as texts are."""
    assert album.embedder is not None
    album.add("scan.docx", {"A": "b"})
    album.ingest()
    album.embedder.asked.clear()
    album.library.set_figures(album.collection.id, True)
    album.ingest()
    assert album.embedder.asked == []
