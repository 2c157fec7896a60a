"""What becomes of a chat model's stream, and of the extracts that replace it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from fakes import account as new_account
from fakes import models

from rag.account import Account
from rag.domain import (
    Checking,
    Chunk,
    Finished,
    Hit,
    ReasoningDelta,
    Span,
    Spending,
    TermStatistics,
    TextDelta,
    Turn,
    Usage,
)
from rag.errors import BadReply, ProviderDown, Stopped
from rag.interfaces import Errand, Form
from rag.prompts import NOT_IN_DOCUMENTS, Brief
from rag.stopping import Stop
from rag.writing import CUT_OFF, Written, extract, resume, whole, write

TEXT = "Employees accrue 25 days of leave. Unused days lapse in May."
HIT = Hit(Chunk("c", "d", "v", 0, TEXT, 1, 1, (), (Span(0, 1, "1", 0, len(TEXT)),)), "handbook.pdf", relevance=0.8)
DONE = Finished("writer/one", complete=True)
BRIEF = Brief("How much leave?", (), (HIT,))


class Writer:
    """Says its pieces; an exception among them is raised. It fills a form with what it is given."""

    model = "writer/latest"
    takes_images = False

    def __init__(self, *pieces: str | Exception | Finished | ReasoningDelta) -> None:
        self.pieces = pieces
        self.filled: Mapping[str, Any] | Exception = {}
        self.turns: Sequence[Turn] = ()

    def fill(self, turns: Sequence[Turn], form: Form, errand: Errand) -> Mapping[str, Any]:
        self.turns = turns
        if isinstance(self.filled, Exception):
            raise self.filled
        return self.filled

    def stream(self, turns: Sequence[Turn], errand: Errand) -> Iterator[TextDelta | ReasoningDelta | Finished]:
        self.turns = turns
        errand.bill(Spending(self.model, "", Usage(prompt_tokens=10, completion_tokens=3), 0.1, 0, "done"))
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield TextDelta(piece) if isinstance(piece, str) else piece


def written_by(*pieces: str | Exception | Finished) -> tuple[Written, Account, list[TextDelta]]:
    written, account = Written(), new_account()
    deltas = list(write(models(Writer(*pieces)), BRIEF, written, account, Stop()))
    return written, account, deltas


def test_an_answer_is_streamed_with_its_citations() -> None:
    """The piece that shows a number brings the citation along."""
    written, account, deltas = written_by("25 days", " of leave [1", "].", DONE)
    assert "".join(delta.text for delta in deltas) == written.text == "25 days of leave [1]."
    assert [delta.citations[0].number for delta in deltas if delta.citations] == [1]
    assert (written.model, account.usage.prompt_tokens, written.incomplete) == ("writer/one", 10, False)


@pytest.mark.parametrize("reply", [NOT_IN_DOCUMENTS, NOT_IN_DOCUMENTS.lower() + ".", f'"{NOT_IN_DOCUMENTS}"'])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_agreed_refusal_is_never_shown_as_text(reply: str, size: int) -> None:
    """The model's own "not in the documents" becomes a refusal."""
    written, _, deltas = written_by(*[reply[at : at + size] for at in range(0, len(reply), size)], DONE)
    assert (written.absent, written.text, deltas) == (True, "", [])


def test_an_answer_that_begins_like_the_refusal_is_shown() -> None:
    """Held back words are not lost."""
    written, _, _ = written_by("Not", " in May", " [1].", DONE)
    assert (written.absent, written.text) == (False, "Not in May [1].")


@pytest.mark.parametrize("pieces", [("Отпуск ", "длится 25 дней", " [1]."), ("年假", "为25天", "[1]。")])
def test_every_script_is_streamed(pieces: tuple[str, ...]) -> None:
    """Only what may become the agreed refusal is held back, and citations come with the piece that shows them."""
    _, _, deltas = written_by(*pieces, DONE)
    assert "".join(delta.text for delta in deltas[:2]).startswith(pieces[0].strip())
    assert [len(delta.citations) for delta in deltas if "[1]" in delta.text] == [1]


def test_a_refusal_that_is_explained_is_still_a_refusal() -> None:
    """Models like to go on."""
    written, _, deltas = written_by(NOT_IN_DOCUMENTS, ". The sources only speak of leave [1].", DONE)
    assert (written.absent, deltas) == (True, [])


@pytest.mark.parametrize("pieces", [(), ("",), ("  ",)])
def test_an_answer_without_text_is_a_failure(pieces: tuple[str, ...]) -> None:
    """Nothing is not an answer."""
    with pytest.raises(BadReply, match="ended its answer before it began"):
        written_by(*pieces, DONE)


def test_a_failure_before_any_text_is_raised() -> None:
    """There is nothing to keep."""
    with pytest.raises(ProviderDown):
        written_by(ProviderDown("The server is down."))


def test_a_failure_after_text_keeps_the_text_and_says_why() -> None:
    """What was written stays, marked as incomplete."""
    written, account, _ = written_by("25 days [1]", ProviderDown("The server is down."))
    assert (written.text, written.incomplete) == ("25 days [1]", True)
    assert account.notices == [f"{CUT_OFF} The server is down."]
    assert written.failure is not None
    assert [one.number for one in written.citations] == [1]


def test_a_stop_after_text_keeps_the_text() -> None:
    """A stopped answer is not an error."""
    written, account, _ = written_by("25 days", Stopped("Stopped."))
    assert (written.text, written.incomplete, account.notices) == ("25 days", True, [])


def test_a_stream_that_was_cut_is_marked() -> None:
    """The server closed without an end."""
    written, account, _ = written_by("25 days", Finished("writer/one", complete=False))
    assert (written.incomplete, account.notices) == (True, [CUT_OFF])


def test_made_up_references_are_removed_with_a_notice() -> None:
    """The reader learns that something was taken out."""
    written, account, _ = written_by("25 days [4].", DONE)
    assert written.text == "25 days."
    assert account.notices == ["1 reference(s) to sources that do not exist were removed."]


def test_thoughts_are_told_apart_and_kept_only_when_asked_for() -> None:
    """Reasoning is never part of the text; without the preference not even its words are passed on."""
    for shows in (True, False):
        written = Written()
        writer = Writer(ReasoningDelta("The handbook says so."), "25 days [1].", DONE)
        events = list(write(models(writer, shows_reasoning=shows), BRIEF, written, new_account(), Stop()))
        assert written.text == "25 days [1]."
        assert written.reasoning == ("The handbook says so." if shows else "")
        assert events[0] == ReasoningDelta(written.reasoning)


# ---------------------------------------------------------------- going on


def resumed(before: str, *pieces: str | Exception | Finished, cited: bool = False) -> tuple[Written, Writer]:
    written = Written(text=before)
    if cited:
        first, _, _ = written_by(before, DONE)
        written = Written(text=before, citations=first.citations)
    writer = Writer(*pieces)
    list(resume(models(writer), BRIEF, written, new_account(), Stop()))
    return written, writer


def test_a_continued_answer_joins_without_a_seam() -> None:
    """A half word goes, and what the model repeats is not shown twice."""
    assert resumed("You get 25 da", "days of leave.", DONE)[0].text == "You get 25 days of leave."
    assert resumed("You get 25 days ", " of leave.", DONE)[0].text == "You get 25 days of leave."
    assert resumed("You get 25 days of ", "You get 25 days of leave.", DONE)[0].text == "You get 25 days of leave."
    long = "and this sentence is so long that nothing of it is held back any more. Not even this."
    assert resumed("You get 25 days ", long, DONE)[0].text == f"You get 25 days {long}"


def test_a_continuation_that_begins_again_is_not_stored_twice() -> None:
    """The model repeats the whole answer, however long, and goes on."""
    before = "You get 25 days of leave, and nobody may take them away from you before the end of the year. "
    assert resumed(before, *re.findall(r"\S+ ?", before), "They lapse in May.", DONE)[0].text == (
        f"{before}They lapse in May."
    )
    assert resumed(before, before, DONE)[0].text == before


@pytest.mark.parametrize("pieces", [(), (" ",), (NOT_IN_DOCUMENTS,)])
def test_an_answer_that_only_lacked_its_end_stays_whole(pieces: tuple[str, ...]) -> None:
    """Nothing new is no reason to lose the last word and its citation."""
    before = "25 days of leave [1]"
    written, _ = resumed(before, *pieces, DONE, cited=True)
    assert (written.text, [one.number for one in written.citations], written.incomplete) == (before, [1], False)


def test_what_is_left_of_a_cut_word() -> None:
    """Only what ends with a space, a reference or a sentence's end is certain to be whole."""
    texts = ("a bc", "a bc ", "a\nbc", "abc", "", "It is so.", "It is 3.", "so [1]", "so [1].", "so [1")
    kept = ["a ", "a bc ", "a\n", "", "", "It is so.", "It is ", "so [1]", "so [1].", "so "]
    assert [whole(text, ())[0] for text in texts] == kept


def test_citations_go_on_counting() -> None:
    """The model sees its own source numbers again, the reader numbers that go on."""
    before = "You get 25 days of leave [1]. And"
    written, writer = resumed(before, "Unused days lapse in May [1].", DONE, cited=True)
    assert written.text == "You get 25 days of leave [1]. Unused days lapse in May [2]."
    assert [(one.number, TEXT[one.start : one.end][:6]) for one in written.citations] == [(1, "Employ"), (2, "Unused")]
    assert writer.turns[-2] == Turn("assistant", "You get 25 days of leave [1]. ")


def test_a_citation_that_was_cut_off_is_forgotten() -> None:
    """Its number was in the word that went."""
    cited, _, _ = written_by("25 days of leave [1]", DONE)
    assert whole("25 days of leave [1", cited.citations) == ("25 days of leave ", [])


def test_nothing_more_is_a_failure_that_is_raised() -> None:
    """Whoever asked learns why; the former text is the caller's."""
    with pytest.raises(ProviderDown):
        resumed("You get ", ProviderDown("The server is down."))


# ---------------------------------------------------------------- checking


def checked(filled: Mapping[str, Any] | Exception) -> tuple[Written, Account, list[object]]:
    written, account = Written(), new_account()
    writer = Writer("25 days of leave [1].", DONE)
    writer.filled = filled
    events = list(write(models(writer, checks_citations=True), BRIEF, written, account, Stop()))
    return written, account, events


def test_a_model_judges_each_citation() -> None:
    """Its verdict and its reason stand beside the citation."""
    entry = {"number": 1, "verdict": "partly", "reason": "It  says\nmore."}
    written, account, events = checked({"citations": [entry]})
    assert [(one.verdict, one.verdict_reason) for one in written.citations] == [("partly", "It says more.")]
    assert Checking() in events
    assert [step.name for step in account.steps] == ["writing", "checking"]


@pytest.mark.parametrize(
    "filled",
    [
        {},
        {"citations": "yes"},
        {"citations": [{"number": "1", "verdict": "supported"}, {"number": 1, "verdict": "sure"}, None]},
        BadReply("It said something else."),
        ProviderDown("The server is down."),
    ],
)
def test_a_check_that_fails_costs_only_the_verdicts(filled: Mapping[str, Any] | Exception) -> None:
    """The answer stands, and the reader learns that it was not checked."""
    written, account, _ = checked(filled)
    assert (written.text, written.citations[0].verdict, written.incomplete) == ("25 days of leave [1].", None, False)
    assert account.notices[0].startswith("The citations could not be checked by a model.")


def test_an_answer_that_was_cut_off_is_not_checked() -> None:
    """It can go on first."""
    written = Written()
    writer = Writer("25 days of leave [1].", Finished("writer/one", complete=False))
    events = list(write(models(writer, checks_citations=True), BRIEF, written, new_account(), Stop()))
    assert Checking() not in events


class Picks:
    """Picks fixed sentences."""

    model = "picks"

    def __init__(self, *picks: tuple[int, int, int]) -> None:
        self.picks = picks

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        return self.picks


def test_extracts_are_sentences_with_their_own_citation() -> None:
    """Each extract opens exactly itself."""
    written = Written()
    list(extract(Picks((0, 35, 60), (0, 0, 34)), "leave?", [HIT], TermStatistics(1, {}), written))
    assert written.text == "Unused days lapse in May. [1]\n\nEmployees accrue 25 days of leave. [2]"
    assert [TEXT[one.start : one.end] for one in written.citations] == [
        "Unused days lapse in May.",
        "Employees accrue 25 days of leave.",
    ]


def test_no_extract_is_a_refusal() -> None:
    """Rather nothing than a guess."""
    written = Written()
    assert list(extract(Picks(), "leave?", [HIT], TermStatistics(1, {}), written)) == []
    assert written.absent
