"""A reranker without a neural network: a few measured features of each passage, weighed by fitted numbers.

The weights are a conditional logit (softmax within a question, none negative), so that they learn what tells passages
of one question apart, and not what tells questions apart; its scale and offset were fitted afterwards (Platt) so that
the score says how often such a passage holds the answer. Fitted on questions over encyclopaedia articles.
"""

import math
from collections.abc import Sequence

from rag.domain import Bands, Hit, TermStatistics, Usage
from rag.local.embeddings import StaticEmbedder
from rag.local.features import Analyst, PassageFeatures, measure_passage, weigh
from rag.stopping import Stop

REMEMBERED_PASSAGES = 300

_OFFSET = -5.97
_WEIGHTS = PassageFeatures(
    keywords=1.78,
    similarity=1.36,
    sentence_similarity=2.04,
    coverage=0.0,
    pair_coverage=1.24,
    proximity=1.57,
    word_similarity=2.39,
    answer_kind=0.19,
)
_LEXICAL_OFFSET = -4.61
_LEXICAL_WEIGHTS = PassageFeatures(
    keywords=2.99,
    similarity=0.0,
    sentence_similarity=0.0,
    coverage=0.89,
    pair_coverage=1.52,
    proximity=2.0,
    word_similarity=0.0,
    answer_kind=0.34,
)


class LocalReranker:
    """A Reranker on static word vectors and words; on words alone, under another name, where there is no embedder."""

    def __init__(self, embedder: StaticEmbedder | None) -> None:
        self._analyst = Analyst(embedder, REMEMBERED_PASSAGES)
        self._lexical = embedder is None

    @property
    def model(self) -> str:
        """The name shown beside its scores."""
        return "local lexical" if self._lexical else "local"

    @property
    def bands(self) -> Bands:
        """Cut points of the score, fitted."""
        return Bands(not_found=0.10, confident=0.30, strong=0.60, fitted=True)

    def rerank(
        self, question: str, hits: Sequence[Hit], statistics: TermStatistics, stop: Stop
    ) -> tuple[Sequence[float], Usage]:
        """The relevance of each hit, between 0 and 1, in the order given. Raises Stopped."""
        stop.check()
        asked = self._analyst.question(question, statistics)
        passages = self._analyst.passages([hit.chunk.text for hit in hits])
        stop.check()
        scores = []
        for hit, passage in zip(hits, passages, strict=True):
            features = measure_passage(asked, passage, hit.bm25 or 0.0)
            scores.append(1 / (1 + math.exp(-logit(features, lexical=self._lexical))))
        return scores, Usage()


def logit(features: PassageFeatures, *, lexical: bool) -> float:
    """The log-odds that a passage with these features holds the answer; `lexical` where there are no vectors."""
    if lexical:
        return _LEXICAL_OFFSET + weigh(_LEXICAL_WEIGHTS, features)
    return _OFFSET + weigh(_WEIGHTS, features)
