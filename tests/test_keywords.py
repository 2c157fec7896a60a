"""Words find passages by a score that can be computed by hand."""

import itertools
import math
from pathlib import Path

import pytest
from shelf import Shelf

from rag.keywords import Keywords


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def idf(chunks: int, frequency: int) -> float:
    return math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5))


def test_the_score_is_bounded_bm25(shelf: Shelf) -> None:
    """BM25 over the best any passage could reach, with unknown words counted as missed."""
    # Each chunk's terms: "paper" (the document's name) and "leav" (its heading) beside its own.
    shelf.publish("paper.pdf", "fox fox dog", "dog")
    length, average = 5, 4
    norm = 1.2 * (1 - 0.75 + 0.75 * length / average)
    fox, dog, unknown = idf(2, 1), idf(2, 2), idf(2, 0)
    gained = fox * 2 * 2.2 / (2 + norm) + dog * 1 * 2.2 / (1 + norm)
    expected = gained / ((fox + dog + unknown) * 2.2)
    (chunk_id, score), _ = shelf.keywords.search(shelf.collection.id, "fox dog zebra", 10)
    assert chunk_id.endswith("x0")
    assert score == pytest.approx(expected)


def test_a_repeated_word_weighs_more(shelf: Shelf) -> None:
    """A word that the question repeats counts each time."""
    shelf.publish("paper.pdf", "fox", "dog")
    assert shelf.found("fox dog dog")[0] == "dog"
    assert shelf.found("fox fox dog")[0] == "fox"


def test_given_chunks_get_the_same_score(shelf: Shelf) -> None:
    """In the order asked for; 0 for one without any of the words or without publication."""
    document = shelf.publish("paper.pdf", "fox jumps", "dog sleeps", "fox")
    found = dict(shelf.keywords.search(shelf.collection.id, "fox", 10))
    ids = [f"{document.newest.id}x{ordinal}" for ordinal in (2, 1, 0)]
    scores = shelf.keywords.scores(shelf.collection.id, "fox", [*ids, "unknown"])
    assert list(scores) == [found[ids[0]], 0.0, found[ids[2]], 0.0]


def test_names_and_headings_are_found(shelf: Shelf) -> None:
    """Words of the file's name and of the heading above a passage find it."""
    shelf.publish("travel_policy.pdf", "economy class")
    assert shelf.found("travel") == ["economy class"]
    assert shelf.found("leave") == ["economy class"]


def test_statistics_count_published_chunks(shelf: Shelf) -> None:
    """Per stem of the question, unknown ones with 0; what is replaced or removed no longer counts."""
    shelf.publish("a.pdf", "foxes run", "dogs run")
    shelf.publish("b.pdf", "fox")
    statistics = shelf.keywords.statistics(shelf.collection.id, "fox dog zebra")
    assert (statistics.chunks, dict(statistics.frequencies)) == (3, {"fox": 2, "dog": 1, "zebra": 0})
    replaced = shelf.publish("a.pdf", "cat")
    statistics = shelf.keywords.statistics(shelf.collection.id, "fox dog cat")
    assert (statistics.chunks, dict(statistics.frequencies)) == (2, {"fox": 1, "dog": 0, "cat": 1})
    shelf.library.remove(replaced.id)
    statistics = shelf.keywords.statistics(shelf.collection.id, "fox cat")
    assert (statistics.chunks, dict(statistics.frequencies)) == (1, {"fox": 1, "cat": 0})


def test_collections_do_not_see_each_other(shelf: Shelf) -> None:
    """Neither each other's chunks nor each other's statistics."""
    shelf.publish("a.pdf", "fox")
    other = shelf.library.create_collection("Other", "")
    assert shelf.keywords.search(other.id, "fox", 10) == []
    assert shelf.keywords.statistics(other.id, "fox").chunks == 0


@pytest.mark.parametrize("collection", ["unknown", "x'; DROP TABLE chunk; --", 'a"b', "", "é"])
def test_an_unknown_collection_finds_nothing(shelf: Shelf, collection: str) -> None:
    """Whatever it is called."""
    assert shelf.keywords.search(collection, "fox", 10) == []
    assert shelf.keywords.scores(collection, "fox", ["a"]) == [0.0]


@pytest.mark.parametrize(
    "question",
    [
        '"',
        'fox"',
        "NOT fox",
        "fox AND",
        "NEAR(fox dog)",
        "terms:fox",
        "fox*",
        "^fox",
        "-fox",
        "fox) OR (x",
        "{a b}: fox",
    ],
)
def test_questions_are_never_read_as_a_query_language(shelf: Shelf, question: str) -> None:
    """Operators of the full-text engine are words or nothing; no question fails."""
    shelf.publish("paper.pdf", "fox", "dog")
    assert shelf.found(question)[:1] == (["fox"] if "fox" in question else [])


@pytest.mark.parametrize("text", ["ABC-1234", "7.5%", "v1.2.3", "漢字仮名", "naïve", "C++", "10-Q", "ไทย"])
def test_words_with_signs_and_of_other_scripts_are_found(shelf: Shelf, text: str) -> None:
    """A term is stored and found as the analyzer made it."""
    shelf.publish("paper.pdf", f"about {text} here", "something else")
    assert shelf.found(text)[:1] == [f"about {text} here"]


def test_a_question_without_words_finds_nothing(shelf: Shelf) -> None:
    """Nor does it fail."""
    shelf.publish("paper.pdf", "fox")
    assert shelf.found("") == shelf.found("the of and") == shelf.found("?!") == []


def test_at_most_as_many_as_asked_for_best_first(shelf: Shelf) -> None:
    """The limit holds, and scores fall."""
    shelf.publish("paper.pdf", *("fox " + "filler " * number for number in range(30)))
    found = shelf.keywords.search(shelf.collection.id, "fox", 7)
    scores = [score for _, score in found]
    assert len(found) == 7
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_common_words_do_not_hide_rare_ones_in_a_large_collection(shelf: Shelf) -> None:
    """Words that most chunks have are not looked up, yet they count in the score."""
    texts = [f"common filler{number}" for number in range(300)]
    texts[150] = "common needle"
    shelf.publish("paper.pdf", *texts)
    found = shelf.keywords.search(shelf.collection.id, "common needle", 500)
    best = found[0]
    assert best[0].endswith("x150")
    # Two terms are kept however common they are, so all chunks are found.
    assert len(found) == 300
    more = shelf.keywords.search(shelf.collection.id, "common needle filler7", 500)
    assert len(more) == 2
    assert best[1] == shelf.keywords.scores(shelf.collection.id, "common needle", [best[0]])[0]


def test_a_question_of_20_000_characters(shelf: Shelf) -> None:
    """Its rarest words are looked up, wherever they stand in it."""
    names = ["".join(letters) + "zzq" for letters in itertools.product("bcdfghklmn", repeat=3)]
    shelf.publish("paper.pdf", *names[:100], *names[:100], "needle")
    question = " ".join(names * 3)[:20_000] + " needle"
    ids = [chunk_id for chunk_id, _ in shelf.keywords.search(shelf.collection.id, question, 500)]
    assert any(chunk_id.endswith("x200") for chunk_id in ids)


def test_ids_alone_name_tables(shelf: Shelf) -> None:
    """A name that could carry SQL never becomes part of a statement."""
    keywords = Keywords(shelf.database)
    with shelf.database.write() as connection, pytest.raises(ValueError, match="letters and digits"):
        keywords.create(connection, "a; DROP TABLE chunk")


def test_a_document_is_known_by_its_name_and_first_page(shelf: Shelf) -> None:
    """A word that one of two documents has counts more than one that both have; unknown words count as missed."""
    acme = shelf.publish("acme 2023.pdf", "report").newest.id
    other = shelf.publish("globex 2023.pdf", "news").newest.id
    matches = shelf.keywords.document_matches(shelf.collection.id, "acme profit 2023")
    whole = idf(2, 1) + idf(2, 0) + idf(2, 2)
    assert matches[acme] == pytest.approx((idf(2, 1) + idf(2, 2)) / whole)
    assert matches[other] == pytest.approx(idf(2, 2) / whole)


def test_replaced_and_removed_documents_match_nothing(shelf: Shelf) -> None:
    """Only what answers questions is compared."""
    first = shelf.publish("acme.pdf", "report").newest.id
    second = shelf.publish("acme.pdf", "news")
    assert set(shelf.keywords.document_matches(shelf.collection.id, "acme")) == {second.newest.id} != {first}
    shelf.library.remove(second.id)
    assert shelf.keywords.document_matches(shelf.collection.id, "acme") == {}
