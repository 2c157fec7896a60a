from collections.abc import Sequence

import pytest

from rag.domain import Chunk, Hit, TermStatistics
from rag.local import embeddings
from rag.local.answer import LocalExtractor
from rag.local.embeddings import StaticEmbedder
from rag.local.features import Analyst

STATISTICS = TermStatistics(100, {"holiday": 5, "day": 20, "employe": 10, "travel": 5})


@pytest.fixture(scope="module", params=["vectors", "words only"])
def extractor(request: pytest.FixtureRequest) -> LocalExtractor:
    embedder: StaticEmbedder | None = None
    if request.param == "vectors":
        embedder = embeddings.load()
        if embedder is None:
            pytest.skip("wordllama has no wheel for this platform")
    return LocalExtractor(Analyst(embedder))


def hit(text: str, bm25: float = 0.3, document: str = "handbook.pdf", headings: tuple[str, ...] = ()) -> Hit:
    return Hit(Chunk("c", "d", "v", 0, text, None, None, headings, ()), document, bm25=bm25)


def extracts(extractor: LocalExtractor, question: str, hits: Sequence[Hit]) -> list[str]:
    found = extractor.extract(question, hits, STATISTICS)
    return [hits[index].chunk.text[start:end] for index, start, end in found]


def test_answering_sentence_is_first(extractor: LocalExtractor) -> None:
    """The sentence that answers is first, exactly as it stands in the passage."""
    hits = [
        hit("Trains are preferred. The travel budget is 500 euros a year."),
        hit("Our handbook is for all. Employees have 25 days of holiday a year. Ask your manager."),
    ]
    found = extracts(extractor, "How many days of holiday do employees have?", hits)
    assert found[0] == "Employees have 25 days of holiday a year."


def test_sentences_far_below_the_best_are_left_out(extractor: LocalExtractor) -> None:
    """When one sentence answers, it is not padded with others."""
    hits = [hit("Employees have 25 days of holiday a year. Lunch is at noon. Doors close early.")]
    assert extracts(extractor, "How many days of holiday do employees have?", hits) == [
        "Employees have 25 days of holiday a year."
    ]


def test_overlapping_passages_say_a_sentence_once(extractor: LocalExtractor) -> None:
    """A sentence that two overlapping passages share is shown once; another that differs in a number is not folded."""
    shared = "Employees have 25 days of holiday a year."
    hits = [hit(f"Welcome. {shared}"), hit(f"{shared} Goodbye."), hit("Employees have 30 days of holiday a year.")]
    found = extracts(extractor, "How many days of holiday do employees have?", hits)
    assert sorted(found) == [shared, "Employees have 30 days of holiday a year."]


def test_earlier_passage_wins_a_tie(extractor: LocalExtractor) -> None:
    """Of sentences that answer alike, the one of the better passage is first."""
    hits = [hit(f"Employees have {n} days of holiday a year.") for n in (25, 26, 27)]
    found = extractor.extract("How many days of holiday do employees have?", hits, STATISTICS)
    assert found[0][0] == 0


def test_at_most_three(extractor: LocalExtractor) -> None:
    """However many sentences answer, three are shown, and only of the first five passages."""
    hits = [hit(f"Employees at site {n} have {n} days of holiday a year.") for n in range(20, 28)]
    found = extractor.extract("How many days of holiday do employees have?", hits, STATISTICS)
    assert len(found) == 3
    assert all(index < 5 for index, _, _ in found)


def test_heading_that_repeats_the_question_is_no_answer(extractor: LocalExtractor) -> None:
    """A heading has the question's words and tells nothing."""
    hits = [hit("Holiday of employees\n\nEach has 25 days of holiday, and a half after ten years.")]
    assert extracts(extractor, "How many days of holiday do employees have?", hits)[0].startswith("Each has 25 days")


def test_where_the_passage_stands_is_never_quoted(extractor: LocalExtractor) -> None:
    """The document's name and headings help to score and are not part of what is quoted."""
    hits = [hit("25 days.", document="Holiday of employees.pdf", headings=("Days of holiday",))]
    assert extracts(extractor, "How many days of holiday do employees have?", hits) == ["25 days."]


@pytest.mark.parametrize("question", ["", "???", "who is it"])
def test_odd_questions(extractor: LocalExtractor, question: str) -> None:
    """A question without content still gets sentences, since something was found for it."""
    assert extracts(extractor, question, [hit("Employees rest. \n— \n")]) == ["Employees rest."]


def test_nothing_found_has_no_extracts(extractor: LocalExtractor) -> None:
    """Without passages, or with passages that say nothing, there is nothing to quote."""
    assert extracts(extractor, "holiday", []) == []
    assert extracts(extractor, "holiday", [hit("— … —"), hit("")]) == []
