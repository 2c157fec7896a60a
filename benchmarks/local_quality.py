"""How well the local default finds, ranks, refuses and extracts, on question sets with known answers.

    python benchmarks/local_quality.py FOLDER [FOLDER ...] [--questions N] [--lexical]

Each folder holds corpus.jsonl {id, text}, queries.jsonl {id, text, answers, answerable} and qrels.tsv (query, passage,
grade). Candidates are the best 30 by 0.6 keyword score + 0.4 cosine over the whole corpus, as in the product; the
keyword score is computed in memory by the formula of rag/keywords.py. Questions of one folder asked of another's corpus
are the off-topic ones.
"""

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from rag import retrieval
from rag.domain import Chunk, Hit, TermStatistics
from rag.local import embeddings
from rag.local.answer import LocalExtractor
from rag.local.embeddings import StaticEmbedder
from rag.local.features import Analyst
from rag.local.rerank import LocalReranker
from rag.stopping import Stop
from rag.words import terms

K1, B = 1.2, 0.75
CANDIDATES = 30
OFF_TOPIC = 300


@dataclass(frozen=True)
class Question:
    text: str
    answers: tuple[str, ...]
    grades: Mapping[str, int]
    answerable: bool


@dataclass(frozen=True)
class QuestionSet:
    name: str
    passages: Mapping[str, str]
    questions: Sequence[Question]


def read(folder: Path, most: int) -> QuestionSet:
    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]

    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, passage, grade = line.split("\t")
        grades[query][passage] = int(grade)
    questions = [
        Question(row["text"], tuple(row["answers"]), grades[row["id"]], row.get("answerable", True))
        for row in rows("queries.jsonl")
    ]
    return QuestionSet(folder.name, {row["id"]: row["text"] for row in rows("corpus.jsonl")}, questions[:most])


class Corpus:
    """A corpus in memory, searched as the product searches."""

    def __init__(self, passages: Mapping[str, str], embedder: StaticEmbedder | None) -> None:
        self.ids = list(passages)
        self.texts = list(passages.values())
        self._embedder = embedder
        self._vectors = embedder.embed(self.texts, "document", Stop()) if embedder else None
        counts = [Counter(terms(text)) for text in self.texts]
        lengths = numpy.array([count.total() for count in counts])
        norms = K1 * (1 - B + B * lengths / lengths.mean())
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, count in enumerate(counts):
            for term, occurrences in count.items():
                postings[term].append((row, occurrences * (K1 + 1) / (occurrences + norms[row])))
        self._postings = {
            term: (numpy.array([row for row, _ in found]), numpy.array([value for _, value in found]))
            for term, found in postings.items()
        }
        self.statistics = TermStatistics(len(counts), {term: len(found) for term, found in postings.items()})

    def search(self, question: str) -> list[Hit]:
        keywords, most = numpy.zeros(len(self.texts)), 0.0
        for term in terms(question):
            rows, values = self._postings.get(term, (numpy.array([], int), numpy.array([])))
            idf = math.log(1 + (len(self.texts) - len(rows) + 0.5) / (len(rows) + 0.5))
            keywords[rows] += idf * values
            most += idf * (K1 + 1)
        keywords /= max(most, 1e-9)
        fused, cosines = keywords, keywords * 0
        if self._embedder is not None and self._vectors is not None:
            cosines = self._vectors @ self._embedder.embed([question], "query", Stop())[0]
            weight = retrieval.STATIC.keyword_weight
            fused = weight * keywords + (1 - weight) * cosines
        best = numpy.argsort(-fused, kind="stable")[:CANDIDATES]
        return [
            Hit(
                Chunk(self.ids[row], "", "", int(row), self.texts[row], None, None, (), ()),
                "",
                similarity=float(cosines[row]),
                bm25=float(keywords[row]),
                fused=float(fused[row]),
                fused_rank=rank,
            )
            for rank, row in enumerate(best, 1)
        ]


def ranked(reranker: LocalReranker, corpus: Corpus, question: str, hits: Sequence[Hit]) -> list[Hit]:
    scores, _ = reranker.rerank(question, hits, corpus.statistics, Stop())
    scored = [replace(hit, relevance=score) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: -(hit.relevance or 0))


def measures(question: Question, hits: Sequence[Hit]) -> tuple[float, float, float]:
    """nDCG@10, MRR@10 and recall@20 of one ranking."""
    grades = [question.grades.get(hit.chunk.id, 0) for hit in hits]
    ideal = sorted(question.grades.values(), reverse=True)
    first = next((rank for rank, grade in enumerate(grades[:10], 1) if grade > 0), None)
    relevant = sum(grade > 0 for grade in ideal)
    return (
        gain(grades[:10]) / gain(ideal[:10]),
        1 / first if first else 0.0,
        sum(grade > 0 for grade in grades[:20]) / relevant,
    )


def gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def shares(scores: Sequence[float], bands: Sequence[float]) -> str:
    return " ".join(f"<{band:.2f}: {sum(score < band for score in scores) / len(scores):.3f}" for band in bands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--questions", type=int, default=1_000_000, help="the first N questions of each folder")
    parser.add_argument("--lexical", action="store_true", help="without the embedding model")
    options = parser.parse_args()

    embedder = None if options.lexical else embeddings.load()
    analyst = Analyst(embedder)
    reranker, extractor = LocalReranker(analyst), LocalExtractor(analyst)
    bands = [band for band in (reranker.bands.not_found, reranker.bands.confident, reranker.bands.strong) if band]
    sets = [read(folder, options.questions) for folder in options.folders]
    print(f"scores by {reranker.model}")
    for asked in sets:
        corpus = Corpus(asked.passages, embedder)
        before, after, seconds = [], [], []
        best: dict[bool, list[float]] = {True: [], False: []}
        extracts = []
        for question in asked.questions:
            hits = corpus.search(question.text)
            started = time.process_time()
            order = ranked(reranker, corpus, question.text, hits)
            picked = extractor.extract(question.text, order, corpus.statistics)
            seconds.append(time.process_time() - started)
            best[question.answerable].append(order[0].relevance or 0.0)
            if not question.answerable:
                continue
            if any(question.grades.values()):
                before.append(measures(question, hits))
                after.append(measures(question, order))
            if question.answers:
                quotes = [order[index].chunk.text[start:end] for index, start, end in picked]
                found = [any(answer in quote for answer in question.answers) for quote in quotes]
                extracts.append([any(found[:1]), any(found[:2]), any(found[:3]), len(quotes)])
        print(f"\n{asked.name}: {len(asked.passages)} passages, {len(asked.questions)} questions")
        for name, rows in (("first stage", before), ("reranked", after)):
            gain_at_10, first_at_10, recall_at_20 = numpy.mean(rows, axis=0)
            print(f"  {name:12} nDCG@10 {gain_at_10:.3f}  MRR@10 {first_at_10:.3f}  recall@20 {recall_at_20:.3f}")
        if extracts:
            one, two, three, shown = numpy.mean(extracts, axis=0)
            print(f"  answer in the best 1, 2, 3 extracts: {one:.3f} {two:.3f} {three:.3f}, extracts shown {shown:.2f}")
        print(f"  best score, answerable:   {shares(best[True], bands)}")
        if best[False]:
            print(f"  best score, unanswerable: {shares(best[False], bands)}")
        strangers = [q.text for other in sets if other is not asked for q in other.questions[:OFF_TOPIC]]
        if strangers:
            scores = [ranked(reranker, corpus, text, corpus.search(text))[0].relevance or 0.0 for text in strangers]
            print(f"  best score, off-topic:    {shares(scores, bands)}")
        print(f"  rerank and extract: {1000 * numpy.median(seconds):.1f} ms of CPU at the median")


if __name__ == "__main__":
    main()
