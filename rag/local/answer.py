"""Answers without a chat model: the sentences of the best passages that answer the question best, word for word."""

from collections.abc import Sequence

from rag.domain import Hit, TermStatistics
from rag.local.embeddings import StaticEmbedder
from rag.local.features import Analyst, SentenceFeatures, measure_passage, measure_sentences, weigh
from rag.local.rerank import logit
from rag.words import terms

_PASSAGES = 5  # best first; sentences of later ones rarely answer
_SENTENCES = 3
_REMEMBERED_PASSAGES = 50

_PASSAGE_WEIGHT = 1.08  # of the passage's log-odds, as far as they are below the best passage's
_WEIGHTS = SentenceFeatures(
    coverage=3.40,
    similarity=1.06,
    word_similarity=5.21,
    context_word_similarity=1.30,
    answer_kind=1.36,
    pairs=1.07,
    is_question=-2.38,
)


class LocalExtractor:
    """An Extractor on the local features; without an embedder it compares words alone."""

    def __init__(self, embedder: StaticEmbedder | None) -> None:
        self._analyst = Analyst(embedder, _REMEMBERED_PASSAGES)
        self._lexical = embedder is None

    @property
    def model(self) -> str:
        """The name shown as the writer of the answer."""
        return "local extracts"

    def extract(self, question: str, hits: Sequence[Hit], statistics: TermStatistics) -> Sequence[tuple[int, int, int]]:
        """Up to three different sentences, best first: (index of the hit, start, end) in that hit's `chunk.text`."""
        asked = self._analyst.question(question, statistics)
        passages = self._analyst.passages([hit.chunk.text for hit in hits[:_PASSAGES]])
        promise = [
            logit(measure_passage(asked, passage, hit.bm25 or 0.0), lexical=self._lexical)
            for hit, passage in zip(hits, passages, strict=False)
        ]
        candidates = [
            (_PASSAGE_WEIGHT * promise[index] + weigh(_WEIGHTS, features), index, span)
            for index, passage in enumerate(passages)
            for features, span in zip(measure_sentences(asked, passage), passage.spans, strict=True)
        ]
        chosen: list[tuple[int, int, int]] = []
        said: set[tuple[str, ...]] = set()
        for _, index, (start, end) in sorted(candidates, key=lambda candidate: -candidate[0]):
            content = tuple(terms(passages[index].text[start:end]))
            if content not in said and len(chosen) < _SENTENCES:
                said.add(content)
                chosen.append((index, start, end))
        return chosen
