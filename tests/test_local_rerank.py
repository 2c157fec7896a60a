import math
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from rag.domain import Chunk, Hit, TermStatistics
from rag.errors import Stopped
from rag.interfaces import Errand
from rag.local.embeddings import StaticEmbedder
from rag.local.features import Analyst, PassageFeatures, measure_passage
from rag.local.question_type import asked_for, holds
from rag.local.rerank import LocalReranker

EVEN = TermStatistics(0, {})  # every word weighs ln 2

WORDS = {"holiday": [1, 0], "vacation": [0.8, 0.6], "valve": [0, 1], "other": [0, 0]}


@pytest.fixture
def embedder() -> StaticEmbedder:
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="other"))
    tokenizer.pre_tokenizer = Whitespace()
    return StaticEmbedder(numpy.array(list(WORDS.values()), numpy.float32), tokenizer)


def hit(text: str, bm25: float | None = 0.0, document: str = "", headings: tuple[str, ...] = ()) -> Hit:
    return Hit(Chunk("c", "d", "v", 0, text, None, None, headings, ()), document, bm25=bm25)


def scores(reranker: LocalReranker, question: str, hits: Sequence[Hit]) -> Sequence[float]:
    return reranker.rerank(question, hits, EVEN, Errand())


def features(
    embedder: StaticEmbedder | None, question: str, text: str, statistics: TermStatistics = EVEN
) -> PassageFeatures:
    analyst = Analyst(embedder, 10)
    return measure_passage(analyst.question(question, statistics), analyst.passages([hit(text)])[0], 0.0)


# ---------------------------------------------------------------- features


def test_coverage_is_of_two_adjacent_sentences() -> None:
    """Two neighbours cover what one of them does not; sentences apart do not help each other."""
    assert features(None, "red green", "Red it is. Green too.").coverage == pytest.approx(1)
    assert features(None, "red green", "Red it is. Nothing else. Green too.").coverage == pytest.approx(0.5)


def test_rare_words_weigh_more() -> None:
    """Of two words the one that few passages have counts more."""
    statistics = TermStatistics(100, {"rare": 1, "usual": 90})
    found = features(None, "rare usual", "rare", statistics).coverage
    rare, usual = math.log(1 + 99.5 / 1.5), math.log(1 + 10.5 / 90.5)
    assert found == pytest.approx(rare / (rare + usual))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("red green", 1), ("green red", 1), ("red big green", 1 / 2), ("red", 0), ("red x y green z red", 1 / 2)],
)
def test_proximity_is_one_over_the_distance(text: str, expected: float) -> None:
    """Words that follow one another in the question count by how close they come in the passage."""
    assert features(None, "red green", text).proximity == pytest.approx(expected)


def test_proximity_of_a_single_word_is_its_presence() -> None:
    """A question of one word has no pairs; it is there or not."""
    assert features(None, "red", "the red one").proximity == pytest.approx(1)


def test_similarities_are_cosines(embedder: StaticEmbedder) -> None:
    """A related word counts as much as its vector is near; the best sentence counts for the passage."""
    found = features(embedder, "holiday", "valve\nvacation")
    assert found.word_similarity == pytest.approx(0.8, abs=1e-3)
    assert found.sentence_similarity == pytest.approx(0.8)
    assert found.similarity == pytest.approx(0.8 / math.hypot(0.8, 1.6))


def test_document_and_headings_count(embedder: StaticEmbedder) -> None:
    """A passage is known by where it stands as well."""
    bare, placed = scores(
        LocalReranker(Analyst(None)), "holiday rules", [hit("25 a year"), hit("25 a year", headings=("Holiday rules",))]
    )
    assert placed > bare


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When does it end?", "date"),
        ("How many days are there?", "number"),
        ("Who signs?", "name"),
        ("Why is it late?", "reason"),
        ("What is it?", None),
    ],
)
def test_kind_asked_for(question: str, kind: str | None) -> None:
    """The question's own words tell what kind of thing would answer it."""
    assert asked_for(question) == kind


@pytest.mark.parametrize(
    ("kind", "yes", "no"),
    [
        ("date", "It ends in May 2024.", "It ends soon."),
        ("number", "There are twelve.", "There are some."),
        ("name", "it was signed by Jane Roe", "it was signed by Acme"),
        ("reason", "It is late because of snow.", "It is late."),
    ],
)
def test_kind_is_held(kind: str, yes: str, no: str) -> None:
    """A sentence holds a kind of thing or not; a name that the question has already is not news."""
    assert holds(kind, yes, {"acm"})
    assert not holds(kind, no, {"acm", "acme"})


# ---------------------------------------------------------------- reranking


@pytest.mark.parametrize("with_vectors", [True, False])
def test_answering_passage_is_first(embedder: StaticEmbedder, with_vectors: bool) -> None:
    """The passage that has the question's words together beats the ones that have them apart or not at all."""
    reranker = LocalReranker(Analyst(embedder if with_vectors else None))
    texts = ["valve", "holiday pay is due", "pay the valve and so on and on, then a holiday"]
    found = scores(reranker, "holiday pay", [hit(text, bm25=0.4) for text in texts])
    assert sorted(found, reverse=True) == [found[1], found[2], found[0]]
    assert all(0 < score < 1 for score in found)


def test_scores_come_in_the_order_given(embedder: StaticEmbedder) -> None:
    """Turning the hits around turns the scores around."""
    hits = [hit("holiday"), hit("valve"), hit("holiday")]
    found = scores(LocalReranker(Analyst(embedder)), "holiday", hits)
    assert scores(LocalReranker(Analyst(embedder)), "holiday", hits[::-1]) == pytest.approx(found[::-1])
    assert found[0] == found[2]


def test_long_question_keeps_the_first_stage(embedder: StaticEmbedder) -> None:
    """A question of many words is ranked as the first stage ranked it, whatever single sentences repeat of it."""
    question = " ".join(f"word{chr(97 + n)}" for n in range(20))
    repeats, first = hit(question, bm25=0.2), hit("valve", bm25=0.5)
    low, high = scores(LocalReranker(Analyst(embedder)), question, [repeats, first])
    assert low < high
    short_low, short_high = scores(LocalReranker(Analyst(embedder)), "worda wordb", [hit("worda wordb", 0.2), first])
    assert short_low > short_high


def test_without_an_embedder_it_has_another_name(embedder: StaticEmbedder) -> None:
    """Scores of two makings are told apart by name."""
    assert LocalReranker(Analyst(embedder)).model != LocalReranker(Analyst(None)).model


@pytest.mark.parametrize("question", ["", "???", "who is it", "x" * 20_000, "holiday " * 2500])
@pytest.mark.parametrize("text", ["", "  ", "…", "holiday " * 500])
def test_odd_input_has_a_score(embedder: StaticEmbedder, question: str, text: str) -> None:
    """Nothing in a question or passage breaks the score, not even when there is nothing in it."""
    for reranker in (LocalReranker(Analyst(embedder)), LocalReranker(Analyst(None))):
        (score,) = scores(reranker, question, [hit(text, None)])
        assert 0 < score < 1


def test_unrelated_passage_is_not_found(embedder: StaticEmbedder) -> None:
    """A passage that shares nothing with the question is below the cut point for refusing."""
    for reranker in (LocalReranker(Analyst(embedder)), LocalReranker(Analyst(None))):
        assert scores(reranker, "holiday pay", [hit("The valve is open.")])[0] < reranker.bands.not_found


def test_no_hits_have_no_scores(embedder: StaticEmbedder) -> None:
    """Nothing to rank is not an error."""
    assert scores(LocalReranker(Analyst(embedder)), "holiday", []) == []


def test_stop_is_heard(embedder: StaticEmbedder) -> None:
    """A stopped question is not reranked."""
    errand = Errand()
    errand.stop.set()
    with pytest.raises(Stopped):
        LocalReranker(Analyst(embedder)).rerank("holiday", [hit("holiday")], EVEN, errand)


def test_memory_of_passages_is_bounded(embedder: StaticEmbedder) -> None:
    """Only the passages used last are remembered, and those are not analysed again."""
    analyst = Analyst(embedder, 2)
    first, second, third = (hit(text) for text in ("holiday", "valve", "vacation"))
    (kept,) = analyst.passages([first])
    analyst.passages([second])
    assert analyst.passages([first])[0] is kept
    analyst.passages([third, second])
    assert analyst.passages([first])[0] is not kept


def test_more_hits_than_are_remembered(embedder: StaticEmbedder) -> None:
    """A question with more hits than passages are remembered gets all of them."""
    assert [len(passage.text) for passage in Analyst(embedder, 2).passages([hit("a" * n) for n in range(5)])] == [
        1, 2, 3, 4, 5
    ]  # fmt: skip


def test_passages_of_documents_that_the_question_does_not_name_lose(embedder: StaticEmbedder) -> None:
    """The best matching document's passages keep their score, others lose by how much less their document matches."""
    text = "A holiday is paid."
    named, other = replace(hit(text), document_match=0.6), replace(hit(text), document_match=0.1)
    alone, lost = scores(LocalReranker(Analyst(embedder)), "holiday", [named, other])
    assert alone == scores(LocalReranker(Analyst(embedder)), "holiday", [hit(text)])[0]
    assert math.log(alone / (1 - alone)) - math.log(lost / (1 - lost)) == pytest.approx(1.5 * 0.5)
