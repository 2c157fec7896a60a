"""What becomes of a chat model's stream, and of the extracts that replace it."""

from collections.abc import Iterator, Sequence

import pytest

from rag.account import Account
from rag.domain import Chunk, Finished, Hit, Span, TermStatistics, TextDelta, Turn, Usage
from rag.errors import BadReply, ProviderDown, Stopped
from rag.prompts import NOT_IN_DOCUMENTS
from rag.stopping import Stop
from rag.writing import CUT_OFF, Written, extract, write

TEXT = "Employees accrue 25 days of leave. Unused days lapse in May."
HIT = Hit(Chunk("c", "d", "v", 0, TEXT, 1, 1, (), (Span(0, 1, "1", 0, len(TEXT)),)), "handbook.pdf", relevance=0.8)
DONE = Finished("writer/one", Usage(prompt_tokens=10, completion_tokens=3), complete=True)


class Writer:
    """Says its pieces; an exception among them is raised."""

    model = "writer/latest"

    def __init__(self, *pieces: str | Exception | Finished) -> None:
        self.pieces = pieces
        self.turns: Sequence[Turn] = ()

    def stream(self, turns: Sequence[Turn], stop: Stop) -> Iterator[TextDelta | Finished]:
        self.turns = turns
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield TextDelta(piece) if isinstance(piece, str) else piece


def written_by(*pieces: str | Exception | Finished) -> tuple[Written, Account, list[TextDelta]]:
    written, account = Written(), Account()
    deltas = list(write(Writer(*pieces), "How much leave?", [], [HIT], written, account, Stop()))
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
    assert [one.number for one in written.citations] == [1]


def test_a_stop_after_text_keeps_the_text() -> None:
    """A stopped answer is not an error."""
    written, account, _ = written_by("25 days", Stopped("Stopped."))
    assert (written.text, written.incomplete, account.notices) == ("25 days", True, [])


def test_a_stream_that_was_cut_is_marked() -> None:
    """The server closed without an end."""
    written, account, _ = written_by("25 days", Finished("writer/one", Usage(), complete=False))
    assert (written.incomplete, account.notices) == (True, [CUT_OFF])


def test_made_up_references_are_removed_with_a_notice() -> None:
    """The reader learns that something was taken out."""
    written, account, _ = written_by("25 days [4].", DONE)
    assert written.text == "25 days."
    assert account.notices == ["1 reference(s) to sources that do not exist were removed."]


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
