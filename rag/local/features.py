"""How well a passage, and each sentence in it, answers a question: what is measured, before anything weighs it.

Words weigh as much as they are rare in the collection: idf = ln(1 + (N - n + 0.5) / (n + 0.5)). Shares of the
question's words are shares of its idf, so that every measure lies between 0 and 1 (cosines between -1 and 1).
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from rag import prompts
from rag.domain import Hit, TermStatistics
from rag.interfaces import Errand, Vectors
from rag.local.embeddings import StaticEmbedder, unit
from rag.local.question_type import Kind, asked_for, holds
from rag.words import sentences, words

_MOST_QUESTION_WORDS = 100  # of a longer question the beginning is compared, which bounds time and memory
_NEAR = 2  # words apart: two words of a question found this close stand together


@dataclass(frozen=True, slots=True)
class Question:
    """A question, analysed. `stems` are its content words in order, `idf` their weights, `total` the sum of these.

    `pairs` are different words that follow one another. `vector` is None without an embedder, `word_vectors` has one
    row per stem.
    """

    stems: tuple[str, ...]
    idf: dict[str, float]
    total: float
    pairs: tuple[tuple[str, str], ...]
    kind: Kind | None
    vector: Vectors | None
    word_vectors: Vectors | None


@dataclass(frozen=True, slots=True)
class Meaning:
    """The vectors of a passage: of its whole, of each sentence, and of each different word.

    Word vectors are float16, since they are the bulk of what is remembered. `word_rows` names the words of all
    sentences, one after another, by their row in `word_vectors`.
    """

    vector: Vectors
    sentence_vectors: Vectors
    word_vectors: NDArray[numpy.float16]
    word_rows: NDArray[numpy.intp]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage, analysed for any question: its sentences (`spans`) and the content words of each (`stems`).

    `text` is what `prompts.passage` makes of the chunk: the chunk's own text is the end of it.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    stems: tuple[tuple[str, ...], ...]
    meaning: Meaning | None


class PassageFeatures(NamedTuple):
    """What speaks for a passage."""

    keywords: float  # the keyword index's score, 0 to 1
    similarity: float  # cosine of question and passage
    sentence_similarity: float  # cosine of question and the nearest sentence
    coverage: float  # share of the question's words in two adjacent sentences, at best
    proximity: float  # how close words that follow one another in the question stand, 1 when adjacent
    word_similarity: float  # the best sentence's mean over the question's words of the nearest word's cosine
    answer_kind: float  # the kind of thing asked for is in the best sentence (1/2) and anywhere (1/2)


class SentenceFeatures(NamedTuple):
    """What speaks for a sentence of a passage."""

    coverage: float  # share of the question's words in the sentence and the one before it
    similarity: float  # cosine of question and sentence
    word_similarity: float  # mean over the question's words of the nearest word's cosine
    context_word_similarity: float  # the better one of the sentence's and the one before it
    answer_kind: float  # 1 when it holds the kind of thing asked for
    pairs: float  # share of words that follow one another in the question which stand together
    asks: float  # 1 when it is a question itself
    repeats: float  # 1 when all its words are the question's: a heading or a table's label, which tells nothing


REMEMBERED_PASSAGES = 300


class Analyst:
    """Analyses questions and passages, and remembers the last `remembered` passages. Safe to use from any thread.

    The reranker and the extractor share one, since the extractor's passages have just been reranked.
    """

    def __init__(self, embedder: StaticEmbedder | None, remembered: int = REMEMBERED_PASSAGES) -> None:
        self._embedder = embedder
        self._remembered = remembered
        self._passages: OrderedDict[str, Passage] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def has_vectors(self) -> bool:
        """Whether there is an embedder; without one only words are compared."""
        return self._embedder is not None

    def question(self, text: str, statistics: TermStatistics) -> Question:
        """The question with its words weighed by the collection."""
        found = words(text)[:_MOST_QUESTION_WORDS]
        stems = tuple(word.stem for word in found)
        idf = {stem: statistics.idf(stem) for stem in stems}
        embedder = self._embedder
        return Question(
            stems=stems,
            idf=idf,
            total=sum(idf.values()),
            pairs=tuple(pair for pair in pairwise(stems) if pair[0] != pair[1]),
            kind=asked_for(text),
            vector=embedder.embed([text], "query", Errand())[0] if embedder else None,
            word_vectors=embedder.word_vectors([word.surface for word in found]) if embedder else None,
        )

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """The passages of the hits in the order given; those not remembered are analysed together."""
        texts = [prompts.passage(hit.document, hit.chunk.headings, hit.chunk.text) for hit in hits]
        with self._lock:
            known = {text: self._passages[text] for text in texts if text in self._passages}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, self._analyse(new), strict=True))
        with self._lock:
            for text in texts:
                self._passages[text] = known[text]
                self._passages.move_to_end(text)
            while len(self._passages) > self._remembered:
                self._passages.popitem(last=False)
        return [known[text] for text in texts]

    def _analyse(self, texts: Sequence[str]) -> list[Passage]:
        spans = [tuple(sentences(text)) for text in texts]
        found = [[words(text[start:end]) for start, end in of_text] for text, of_text in zip(texts, spans, strict=True)]
        stems = [tuple(tuple(word.stem for word in sentence) for sentence in of_text) for of_text in found]
        if self._embedder is None:
            return [Passage(*parts, meaning=None) for parts in zip(texts, spans, stems, strict=True)]
        surfaces = [[word.surface for sentence in of_text for word in sentence] for of_text in found]
        meanings = _meanings(self._embedder, texts, spans, surfaces)
        return [Passage(*parts) for parts in zip(texts, spans, stems, meanings, strict=True)]


def _meanings(
    embedder: StaticEmbedder,
    texts: Sequence[str],
    spans: Sequence[Sequence[tuple[int, int]]],
    surfaces: Sequence[Sequence[str]],
) -> list[Meaning]:
    """All vectors of some passages, made in two calls: the tokenizer is fastest with many texts at a time."""
    flat = [text[start:end] for text, of_text in zip(texts, spans, strict=True) for start, end in of_text]
    sums = embedder.sums(flat)
    row_of = {surface: row for row, surface in enumerate(dict.fromkeys(chain.from_iterable(surfaces)))}
    word_vectors = embedder.word_vectors(list(row_of)).astype(numpy.float16)
    meanings, first = [], 0
    for of_text, written in zip(spans, surfaces, strict=True):
        of_sentences = sums[first : first + len(of_text)]
        rows, word_rows = numpy.unique([row_of[surface] for surface in written], return_inverse=True)
        meanings.append(
            Meaning(
                vector=unit(of_sentences.sum(axis=0)),
                sentence_vectors=unit(of_sentences),
                word_vectors=word_vectors[rows.astype(numpy.intp)],
                word_rows=word_rows,
            )
        )
        first += len(of_text)
    return meanings


def weigh(weights: Sequence[float], features: Sequence[float]) -> float:
    """The weighted sum of features."""
    return sum(weight * feature for weight, feature in zip(weights, features, strict=True))


# ---------------------------------------------------------------- measuring


def measure_passage(question: Question, passage: Passage, keywords: float) -> PassageFeatures:
    """What speaks for the passage; `keywords` is its score in the keyword index."""
    coverages = [_coverage(question, stems) for stems in passage.stems]
    similarities = sentence_similarities(question, passage)
    pairs = [_coverage(question, (*first, *second)) for first, second in pairwise(passage.stems)]
    everything = tuple(chain.from_iterable(passage.stems))
    return PassageFeatures(
        keywords=keywords,
        similarity=_similarity(question, passage),
        sentence_similarity=float(similarities.max(initial=0)),
        coverage=max(pairs or coverages, default=0.0),
        proximity=_proximity(question, everything),
        word_similarity=float(word_similarities(question, passage).max(initial=0)),
        answer_kind=_answer_kind(question, passage, coverages + similarities),
    )


def measure_sentences(question: Question, passage: Passage) -> list[SentenceFeatures]:
    """What speaks for each sentence of the passage, in order."""
    similarities = sentence_similarities(question, passage)
    near = word_similarities(question, passage)
    found = []
    for index, (start, end) in enumerate(passage.spans):
        sentence, stems = passage.text[start:end], passage.stems[index]
        before = index - 1 if index else index
        found.append(
            SentenceFeatures(
                coverage=_coverage(question, (*passage.stems[before], *stems)),
                similarity=float(similarities[index]),
                word_similarity=float(near[index]),
                context_word_similarity=float(max(near[index], near[before])),
                answer_kind=float(question.kind is not None and holds(question.kind, sentence, question.idf.keys())),
                pairs=_pairs_together(question, stems),
                asks=float(sentence.rstrip("\"'”’)").endswith(("?", "？"))),
                repeats=float(question.idf.keys() >= set(stems)),
            )
        )
    return found


def _similarity(question: Question, passage: Passage) -> float:
    if question.vector is None or passage.meaning is None:
        return 0.0
    return float(question.vector @ passage.meaning.vector)


def sentence_similarities(question: Question, passage: Passage) -> NDArray[numpy.float32]:
    """The cosine of the question and each sentence; zeros without an embedder."""
    if question.vector is None or passage.meaning is None:
        return numpy.zeros(len(passage.spans), numpy.float32)
    return passage.meaning.sentence_vectors @ question.vector


def word_similarities(question: Question, passage: Passage) -> NDArray[numpy.float32]:
    """For each sentence the mean, over the question's words by weight, of the nearest word's cosine.

    Khattab & Zaharia, ColBERT, 2020 (MaxSim), here on static vectors; zeros without an embedder or words.
    """
    similarities = numpy.zeros(len(passage.spans), numpy.float32)
    if question.word_vectors is None or passage.meaning is None or not question.stems:
        return similarities
    weights = numpy.array([question.idf[stem] for stem in question.stems], numpy.float32)
    lengths = numpy.array([len(stems) for stems in passage.stems])
    having = numpy.flatnonzero(lengths)
    if having.size:
        starts = (numpy.cumsum(lengths) - lengths)[having]
        cosines = question.word_vectors @ passage.meaning.word_vectors.astype(numpy.float32).T
        nearest = numpy.maximum.reduceat(cosines[:, passage.meaning.word_rows], starts, axis=1)
        similarities[having] = weights @ nearest / weights.sum()
    return similarities


def _coverage(question: Question, stems: Iterable[str]) -> float:
    """The share of the question's words, by weight, that are among the stems."""
    return (
        sum(question.idf[stem] for stem in question.idf.keys() & set(stems)) / question.total if question.idf else 0.0
    )


def _answer_kind(question: Question, passage: Passage, promise: NDArray[numpy.float32]) -> float:
    """Half for the kind of thing asked for in the most promising sentence, half for it anywhere."""
    if question.kind is None or not passage.spans:
        return 0.0
    held = [holds(question.kind, passage.text[start:end], question.idf.keys()) for start, end in passage.spans]
    return 0.5 * held[int(promise.argmax())] + 0.5 * any(held)


def _positions(question: Question, stems: Sequence[str]) -> dict[str, list[int]]:
    """Where the question's words stand among the stems, in ascending order."""
    positions: dict[str, list[int]] = {}
    for position, stem in enumerate(stems):
        if stem in question.idf:
            positions.setdefault(stem, []).append(position)
    return positions


def _proximity(question: Question, stems: Sequence[str]) -> float:
    """How close the words of each pair come: 1 / distance, by weight; a question without pairs is covered or not."""
    if not question.pairs:
        return _coverage(question, stems)
    positions = _positions(question, stems)
    weights = [question.idf[first] + question.idf[second] for first, second in question.pairs]
    nearness = (1 / _distance(positions.get(a, []), positions.get(b, [])) for a, b in question.pairs)
    return weigh(weights, list(nearness)) / sum(weights)


def _pairs_together(question: Question, stems: Sequence[str]) -> float:
    """The share of pairs whose second word follows the first within `_NEAR` words."""
    if not question.pairs:
        return 0.0
    positions = _positions(question, stems)
    together = sum(
        any(
            second - distance in positions.get(a, ())
            for second in positions.get(b, ())
            for distance in range(1, _NEAR + 1)
        )
        for a, b in question.pairs
    )
    return together / len(question.pairs)


def _distance(first: Sequence[int], second: Sequence[int]) -> float:
    """The smallest distance between a number of one ascending list and one of the other; infinite when one is empty."""
    best, i, j = math.inf, 0, 0
    while i < len(first) and j < len(second):
        best = min(best, abs(first[i] - second[j]))
        if first[i] < second[j]:
            i += 1
        else:
            j += 1
    return best
