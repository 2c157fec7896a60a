"""Answers without a chat model: the sentences of the best passages that answer the question best, word for word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rag.domain import Hit, TermStatistics
from rag.local.features import Analyst, SentenceFeatures, measure_sentences, weigh
from rag.local.rerank import WITH_VECTORS, WORDS_ONLY, log_odds

_PASSAGES = 5  # best first; sentences of later ones rarely answer
_SENTENCES = 3
_FAR_BELOW = 3.5  # further down about one sentence in ten holds the answer


@dataclass(frozen=True, slots=True)
class _Fit:
    """Numbers fitted together: a sentence scores its weighted features and `passage` times its passage's log-odds."""

    passage: float
    weights: SentenceFeatures


_WITH_VECTORS = _Fit(
    passage=1.08,
    weights=SentenceFeatures(
        coverage=3.40,
        similarity=1.06,
        word_similarity=5.21,
        context_word_similarity=1.30,
        answer_kind=1.36,
        pairs=1.07,
        asks=-2.38,
        repeats=-2.0,
    ),
)

# Fitted to the scores that the other gives, so that "far below" means the same.
_WORDS_ONLY = _Fit(
    passage=1.98,
    weights=SentenceFeatures(
        coverage=5.84,
        similarity=0.0,
        word_similarity=0.0,
        context_word_similarity=0.0,
        answer_kind=1.53,
        pairs=4.33,
        asks=-1.89,
        repeats=-2.0,
    ),
)


class _Candidate(NamedTuple):
    """A sentence that may be shown: its score, where it is (hit, start, end in `chunk.text`) and what it says."""

    score: float
    hit: int
    start: int
    end: int
    stems: tuple[str, ...]


class LocalExtractor:
    """An Extractor on the local features; without an embedder it compares words alone."""

    def __init__(self, analyst: Analyst) -> None:
        self._analyst = analyst
        self._passage_fit = WITH_VECTORS if analyst.has_vectors else WORDS_ONLY
        self._fit = _WITH_VECTORS if analyst.has_vectors else _WORDS_ONLY

    @property
    def model(self) -> str:
        """The name shown as the writer of the answer."""
        return "local extracts"

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        """Up to three different sentences, best first: (index of the hit, start, end) in that hit's `chunk.text`.

        A sentence that scores far below the best one is left out: one sentence answers better than one and padding.
        """
        different: dict[tuple[str, ...], _Candidate] = {}
        for candidate in self._candidates(question, hits, statistics):
            different.setdefault(candidate.stems, candidate)
        best = list(different.values())[:_SENTENCES]
        return [
            (candidate.hit, candidate.start, candidate.end)
            for candidate in best
            if candidate.score >= best[0].score - _FAR_BELOW
        ]

    def _candidates(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> list[_Candidate]:
        """Every sentence of the first passages, best first."""
        asked = self._analyst.question(question, statistics)
        near = hits[:_PASSAGES]
        found: list[_Candidate] = []
        passages = self._analyst.passages(near)
        odds = log_odds(self._passage_fit, asked, passages, near)
        for index, (hit, passage) in enumerate(zip(near, passages, strict=True)):
            promise = self._fit.passage * odds[index]
            before = len(passage.text) - len(hit.chunk.text)  # what says where the chunk stands
            found += [
                _Candidate(promise + weigh(self._fit.weights, features), index, start - before, end - before, stems)
                for features, (start, end), stems in zip(
                    measure_sentences(asked, passage), passage.spans, passage.stems, strict=True
                )
                if start >= before and stems
            ]
        return sorted(found, key=lambda candidate: -candidate.score)
