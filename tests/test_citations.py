"""Numbers in an answer lead to sentences, however the text is cut while it streams."""

import pytest

from rag.citations import Citer, claims, evidence, locate
from rag.domain import Chunk, Hit, Span

LEAVE = (
    "Full-time employees accrue 25 days of leave. Up to five unused days may be carried over. They lapse on 31 March."
)
TRAVEL = "Receipts are needed above 25 euros. Upload them within 30 days."


def source(name: str, text: str) -> Hit:
    return Hit(Chunk(name, "d", "v", 0, text, 1, 1, (), (Span(0, 1, "1", 0, len(text)),)), "policy.pdf", relevance=0.9)


SOURCES = [source("leave", LEAVE), source("travel", TRAVEL)]


def cited(text: str, size: int = 10_000) -> Citer:
    citer = Citer(SOURCES)
    shown = "".join(citer.feed(text[start : start + size]) for start in range(0, len(text), size)) + citer.finish()
    assert shown == citer.text
    return citer


def quotes(citer: Citer) -> list[str]:
    return [one.chunk.text[one.start : one.end] for one in citer.citations]


ANSWER = (
    "Employees accrue 25 days of leave [1]. Unused days, up to five, may be carried over [1]. "
    "Keep receipts above 25 euros [2]."
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_each_claim_gets_the_sentence_it_stands_on(size: int) -> None:
    """Two claims from one source are two citations; the cutting of the stream changes nothing."""
    citer = cited(ANSWER, size)
    assert citer.text == ANSWER.replace("over [1]", "over [2]").replace("euros [2]", "euros [3]")
    assert quotes(citer) == [
        "Full-time employees accrue 25 days of leave.",
        "Up to five unused days may be carried over.",
        "Receipts are needed above 25 euros.",
    ]


def test_numbers_follow_first_appearance() -> None:
    """The reader's first citation is [1], whatever the source's number in the prompt was."""
    citer = cited("Keep receipts above 25 euros [2].")
    assert citer.text == "Keep receipts above 25 euros [1]."
    assert citer.citations[0].chunk.id == "travel"


def test_the_same_sentence_keeps_its_number() -> None:
    """Citing a sentence twice makes one citation."""
    citer = cited("Employees accrue 25 days [1]. So 25 days of leave accrue to employees [1].")
    assert [one.number for one in citer.citations] == [1]


def test_unknown_sources_are_removed_and_counted() -> None:
    """A made-up reference never reaches the reader."""
    citer = cited("Employees accrue 25 days of leave [7][1].")
    assert citer.text == "Employees accrue 25 days of leave [1]."
    assert citer.unknown == 1
    assert cited("Leave is long [9].", 1).text == "Leave is long."


@pytest.mark.parametrize("marker", ["[1, 2]", "[1][2]", "[1;2]", "【1】【2】"])
def test_common_ways_to_cite_two_sources_are_understood(marker: str) -> None:
    """Models do not always follow the agreed form."""
    assert cited(f"Leave and receipts {marker}.").text == "Leave and receipts [1][2]."


@pytest.mark.parametrize(
    "text", ["a [note] b", "array[i] = 3", "[", "see [1", "x [12345] y", "[]", "two  [ \n\n end  "]
)
def test_other_brackets_stay(text: str) -> None:
    """Only references are touched, and nothing held back is lost at the end."""
    assert cited(text, 1).text == text


def test_a_citation_behind_the_full_stop_belongs_to_the_sentence_before() -> None:
    """Some models cite after the stop."""
    assert quotes(cited("Up to five unused days may be carried over. [1]")) == [
        "Up to five unused days may be carried over."
    ]


def test_a_citation_in_front_is_checked_with_the_whole_sentence() -> None:
    """Support is decided when the sentence is complete."""
    citer = cited("According to [1], full-time employees accrue 25 days of leave.")
    assert citer.citations[0].support in {"supported", "quoted"}


def test_a_wrong_number_is_not_supported_and_is_named() -> None:
    """The claim's 28 is in no sentence of the source."""
    found = evidence("Full-time employees accrue 28 days of leave.", LEAVE)
    assert found.support == "weak"
    assert found.missing == ("28",)


def test_words_of_the_source_are_quoted() -> None:
    """Verbatim after case and punctuation."""
    assert evidence("up to five unused days may be carried over", LEAVE).support == "quoted"


@pytest.mark.parametrize(
    ("claim", "passage"),
    [
        ("The monthly fee is EUR 10", "The monthly fee is EUR 100 from May on."),
        ("5 days of unused leave may be carried over", "Of these, 25 days of unused leave may be carried over."),
        ("The limit for loads is 1", "The limit for loads is 1.5 tonnes."),
    ],
)
def test_part_of_a_number_is_no_quotation(claim: str, passage: str) -> None:
    """A wrong amount never passes as the source's own words."""
    found = evidence(claim, passage)
    assert found.support == "weak"
    assert found.missing


def test_an_unrelated_claim_has_no_support() -> None:
    """Nothing in common, nothing supported."""
    assert evidence("Bananas ripen quickly", LEAVE).support == "none"


def test_claims_are_the_sentences_that_cite_a_number() -> None:
    """Without their markers."""
    assert claims("Days lapse [1]. Others [2] do not. [1]") == {
        1: ["Days lapse.", "Others do not."],
        2: ["Others do not."],
    }


def test_locating_a_range_cuts_the_spans_it_touches() -> None:
    """A sentence across two pages lies in two places."""
    spans = (Span(0, 3, "iii", 100, 110), Span(11, 4, "iv", 0, 20))
    assert locate(spans, 5, 16) == (Span(5, 3, "iii", 105, 110), Span(11, 4, "iv", 0, 5))
