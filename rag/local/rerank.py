"""A reranker without a neural network: a few measured features of each passage, weighed by fitted numbers.

The weights are a conditional logit (softmax within a question, none negative), so that they say what tells passages of
one question apart, and not what tells questions apart; its scale and offset were fitted afterwards (Platt, 1999), so
that the score says how often such a passage holds the answer. Fitted on questions about encyclopaedia articles.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rag.domain import Bands, Hit, Image, TermStatistics
from rag.interfaces import Errand
from rag.local.features import Analyst, Passage, PassageFeatures, Question, measure_passage, weigh


@dataclass(frozen=True, slots=True)
class Fit:
    """Numbers fitted together: log-odds are `offset` plus the weighted features.

    `first_offset` and `first_weight` put the first stage's score (`keyword_weight` of the keyword score, the rest of
    the cosine) on the same scale. `document_weight` is taken off for a document that the question matches less than
    the one it matches best: nothing is added, so that the name of a document alone makes no passage relevant.
    """

    offset: float
    weights: PassageFeatures
    first_offset: float
    first_weight: float
    keyword_weight: float
    document_weight: float
    bands: Bands


WITH_VECTORS = Fit(
    offset=-5.97,
    weights=PassageFeatures(
        keywords=1.78,
        similarity=1.36,
        sentence_similarity=2.04,
        coverage=1.24,
        proximity=1.57,
        word_similarity=2.39,
        answer_kind=0.19,
    ),
    first_offset=-6.09,
    first_weight=11.5,
    keyword_weight=0.6,
    document_weight=1.5,
    bands=Bands(not_found=0.10, confident=0.30, strong=0.60, fitted=True),
)

# Fitted to the log-odds that the other gives, so that scores mean about the same; words alone tell worse what is off
# the topic, so more is refused.
WORDS_ONLY = Fit(
    offset=-4.05,
    weights=PassageFeatures(
        keywords=3.91,
        similarity=0.0,
        sentence_similarity=0.0,
        coverage=1.96,
        proximity=2.01,
        word_similarity=0.0,
        answer_kind=0.16,
    ),
    first_offset=-4.18,
    first_weight=8.78,
    keyword_weight=1.0,
    document_weight=1.5,
    bands=Bands(not_found=0.15, confident=0.30, strong=0.60, fitted=True),
)

# A question that says much is served best by the first stage: features of single sentences pull a passage up for
# repeating a part of it. From so many content words on the features count less, until only the first stage counts.
_SHORT_QUESTION = 6
_LONG_QUESTION = 16


class LocalReranker:
    """A Reranker on static word vectors and words; on words alone, under another name, where there is no embedder."""

    def __init__(self, analyst: Analyst) -> None:
        self._analyst = analyst
        self._fit = WITH_VECTORS if analyst.has_vectors else WORDS_ONLY

    @property
    def model(self) -> str:
        """The name shown beside its scores."""
        return "local reranker" if self._fit is WITH_VECTORS else "local reranker, words only"

    @property
    def bands(self) -> Bands:
        """Cut points of the score, fitted."""
        return self._fit.bands

    @property
    def takes_images(self) -> bool:
        """It knows words only."""
        return False

    def rerank(
        self,
        question: str,
        hits: Sequence[Hit],
        statistics: TermStatistics,
        errand: Errand,
        images: Mapping[str, Image] = MappingProxyType({}),
    ) -> Sequence[float]:
        """The relevance of each hit, between 0 and 1, in the order given. Raises Stopped."""
        errand.stop.check()
        asked = self._analyst.question(question, statistics)
        passages = self._analyst.passages(hits)
        errand.stop.check()
        odds = log_odds(self._fit, asked, passages, hits)
        return [1 / (1 + math.exp(-each)) for each in odds]


def log_odds(fit: Fit, question: Question, passages: Sequence[Passage], hits: Sequence[Hit]) -> list[float]:
    """How likely the passage of each hit holds the answer, as ln(p / (1 - p))."""
    closest = max((hit.document_match or 0.0 for hit in hits), default=0.0)
    return [
        _passage_log_odds(fit, question, passage, hit.bm25 or 0.0)
        - fit.document_weight * (closest - (hit.document_match or 0.0))
        for passage, hit in zip(passages, hits, strict=True)
    ]


def _passage_log_odds(fit: Fit, question: Question, passage: Passage, bm25: float) -> float:
    features = measure_passage(question, passage, bm25)
    first = fit.keyword_weight * features.keywords + (1 - fit.keyword_weight) * features.similarity
    length = (len(question.stems) - _SHORT_QUESTION) / (_LONG_QUESTION - _SHORT_QUESTION)
    trust = min(max(length, 0.0), 1.0)
    return (1 - trust) * (fit.offset + weigh(fit.weights, features)) + trust * (
        fit.first_offset + fit.first_weight * first
    )
