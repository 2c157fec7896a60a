"""Fusion, ranking and selection, with numbers that can be added by hand."""

import pytest

from rag.domain import Bands, Chunk, Hit, Turn
from rag.retrieval import CONTEXTUAL, STATIC, Fusion, fuse, is_weak, ranked, select, standalone

BANDS = Bands(not_found=0.1, confident=0.3, strong=0.6, fitted=True)


def hit(name: str, text: str = "", **scores: float) -> Hit:
    chunk = Chunk(name, "d", "v", 0, text or f"text of {name}", 1, 1, (), ())
    return Hit(chunk, "file.pdf", **scores)  # type: ignore[arg-type]


def names(hits: tuple[Hit, ...]) -> list[str]:
    return [one.chunk.id for one in hits]


def test_static_fusion_sums_scores_as_they_are() -> None:
    """0.6 of the keyword score and 0.4 of the similarity."""
    first, second = fuse([hit("a", similarity=0.5, bm25=0.1), hit("b", similarity=0.1, bm25=0.5)], STATIC, 10)
    assert (first.chunk.id, first.fused) == ("b", pytest.approx(0.34))
    assert (second.chunk.id, second.fused) == ("a", pytest.approx(0.26))
    assert [first.fused_rank, second.fused_rank] == [1, 2]


def test_contextual_fusion_stretches_crowded_similarities() -> None:
    """Cosines of 0.70 to 0.72 still tell candidates apart."""
    first, second = fuse([hit("a", similarity=0.72, bm25=0.0), hit("b", similarity=0.70, bm25=0.5)], CONTEXTUAL, 10)
    assert (first.chunk.id, first.fused) == ("a", pytest.approx(0.5))
    assert (second.chunk.id, second.fused) == ("b", pytest.approx(0.25))


def test_a_document_that_the_question_names_comes_first() -> None:
    """The document's own share is added, whatever its passages repeat."""
    found = fuse([hit("a", bm25=0.5), hit("b", bm25=0.3, document_match=0.9)], STATIC, 10)
    assert [(one.chunk.id, one.fused) for one in found] == [("b", pytest.approx(0.66)), ("a", pytest.approx(0.5))]


def test_equal_similarities_do_not_divide_by_zero() -> None:
    """One candidate, or several with the same cosine, get the full share."""
    (only,) = fuse([hit("a", similarity=0.4, bm25=0.2)], CONTEXTUAL, 10)
    assert only.fused == pytest.approx(0.6)


def test_without_vectors_the_keyword_score_alone_decides() -> None:
    """Keywords-only mode keeps the keyword score undiluted."""
    first, _ = fuse([hit("a", bm25=0.2), hit("b", bm25=0.8)], STATIC, 10)
    assert (first.chunk.id, first.fused) == ("b", pytest.approx(0.8))


def test_fusion_keeps_the_best_candidates_only() -> None:
    """`limit` cuts the tail."""
    hits = [hit(str(number), bm25=number / 10) for number in range(9)]
    assert names(fuse(hits, Fusion(1.0, stretch=False), 3)) == ["8", "7", "6"]


def test_ranking_by_relevance_keeps_the_fused_order_among_ties() -> None:
    """Reranker scores decide; equal ones fall back to the search's order, and nothing is overwritten."""
    found = fuse([hit("a", bm25=0.9), hit("b", bm25=0.5), hit("c", bm25=0.1)], STATIC, 10)
    order = ranked(found, [0.2, 0.7, 0.2])
    assert names(order) == ["b", "a", "c"]
    assert [(one.rank, one.fused_rank, one.relevance) for one in order] == [(1, 2, 0.7), (2, 1, 0.2), (3, 3, 0.2)]


def test_ranking_without_scores_is_the_fused_order() -> None:
    """Rerank off: ranks are set, relevance stays None."""
    order = ranked(fuse([hit("a", bm25=0.1), hit("b", bm25=0.5)], STATIC, 10), None)
    assert [(one.chunk.id, one.rank, one.relevance) for one in order] == [("b", 1, None), ("a", 2, None)]


def test_selection_drops_what_is_below_the_threshold_and_says_so() -> None:
    """The score shown is the score compared."""
    chosen = select([hit("a", relevance=0.5), hit("b", relevance=0.0999)], BANDS, 8, 1000, lambda _: 1)
    assert names(chosen.used) == ["a"]
    assert [(one.chunk_id, one.step) for one in chosen.dropped] == [("b", "threshold")]


def test_selection_keeps_everything_when_nothing_was_reranked() -> None:
    """Without a score there is nothing to refuse by."""
    assert names(select([hit("a"), hit("b")], None, 8, 1000, lambda _: 1).used) == ["a", "b"]


def test_selection_leaves_out_repeated_text() -> None:
    """Two copies of a file give one source."""
    chosen = select(
        [hit("a", "Same  text", relevance=0.9), hit("b", "Same text", relevance=0.9)], BANDS, 8, 99, lambda _: 1
    )
    assert names(chosen.used) == ["a"]
    assert chosen.dropped[0].reason == "repeats a passage already used"


def test_selection_respects_count_and_room() -> None:
    """At most `limit` passages and `budget` units, but always the best one."""
    hits = [hit(name, relevance=0.9) for name in "abcd"]
    assert names(select(hits, BANDS, 2, 100, lambda _: 1).used) == ["a", "b"]
    assert names(select(hits, BANDS, 8, 5, lambda _: 10).used) == ["a"]


@pytest.mark.parametrize(("relevance", "weak"), [(0.29, True), (0.3, False)])
def test_weak_is_below_confident(relevance: float, weak: bool) -> None:
    """Between not found and confident an answer is marked."""
    assert is_weak([hit("a", relevance=relevance)], BANDS) is weak


HISTORY = [Turn("user", "What is the travel allowance for Norway?"), Turn("assistant", "It is 80 euros [1].")]


@pytest.mark.parametrize("question", ["And for Sweden?", "Who approves it?", "Why?", "What about their meals in 2024?"])
def test_a_question_that_points_back_takes_the_one_before_along(question: str) -> None:
    """The search then has the words that the question leaves out."""
    assert standalone(question, HISTORY) == f"What is the travel allowance for Norway? {question}"


@pytest.mark.parametrize("history", [[], HISTORY])
def test_a_question_that_stands_alone_is_left_as_it_is(history: list[Turn]) -> None:
    """No words are added that the person did not ask about."""
    question = "How many vacation days do new employees receive annually?"
    assert standalone(question, history) == question
