"""The words of every published chunk: SQLite FTS5 proposes, an exact bounded BM25 scores.

Each collection has its own full-text table, so that its words are weighed by its own documents. The table holds a
chunk's terms (`words.terms` of what `prompts.passage` makes of it, separated by spaces) under the chunk's serial.

Score: BM25 with k1 = 1.2, b = 0.75 and idf = ln(1 + (N - n + 0.5) / (n + 0.5)), summed over the question's terms and
divided by what it could be at most: the sum of their idf times (k1 + 1). A question's term that no chunk has counts in
the divisor with n = 0, so a passage that lacks half of a question cannot score high.
Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import sqlite

from rag import words
from rag.database import Database, batches, documents, identity_terms, keyword_terms, keyword_totals
from rag.domain import TermStatistics

_K1 = 1.2
_B = 0.75
_COMMON_SHARE = 0.1  # terms in more chunks than this cost most of the time and decide next to nothing
_FEWEST_TERMS = 2
_MOST_TERMS = 64
_PRUNED_FROM_CHUNKS = 200
_PROPOSED = 2  # FTS5 ranks without the pruned terms, so it is asked for more than is wanted
_PROPOSED_AT_LEAST = 100

# Terms are separated by spaces alone: every category of characters but separators is part of a term.
_TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'"


class Keywords:
    """A KeywordIndex over the published chunks.

    What changes it takes the connection of the transaction that changes what is published.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------------ questions

    def search(self, collection_id: str, question: str, limit: int) -> Sequence[tuple[str, float]]:
        """At most `limit` chunk ids with their bounded score (0 to 1), best first."""
        terms = words.terms(question)
        with self._database.read() as connection:
            weights = _weigh(connection, collection_id, terms)
            wanted = _selective(weights.statistics)
            if not wanted:
                return []
            proposed = connection.execute(
                text(
                    f"SELECT chunk.id, k.terms FROM {_table(collection_id)} k JOIN chunk ON chunk.serial = k.rowid "  # noqa: S608
                    "WHERE k.terms MATCH :expression ORDER BY k.rank LIMIT :most"
                ),
                {"expression": _expression(wanted), "most": max(limit * _PROPOSED, _PROPOSED_AT_LEAST)},
            ).all()
        scored = [(str(row.id), weights.score(row.terms)) for row in proposed]
        scored.sort(key=lambda pair: -pair[1])
        return scored[:limit]

    def scores(self, collection_id: str, question: str, chunk_ids: Sequence[str]) -> Sequence[float]:
        """The same score for given chunks, in the order given; 0 for a chunk that is not published."""
        terms = words.terms(question)
        found: dict[str, float] = {}
        with self._database.read() as connection:
            weights = _weigh(connection, collection_id, terms)
            if weights.statistics.chunks:
                statement = text(
                    f"SELECT chunk.id, k.terms FROM chunk JOIN {_table(collection_id)} k ON k.rowid = chunk.serial "  # noqa: S608
                    "WHERE chunk.id IN :ids"
                ).bindparams(bindparam("ids", expanding=True))
                for batch in batches(chunk_ids):
                    rows = connection.execute(statement, {"ids": batch})
                    found.update((row.id, weights.score(row.terms)) for row in rows)
        return [found.get(chunk_id, 0.0) for chunk_id in chunk_ids]

    def statistics(self, collection_id: str, question: str) -> TermStatistics:
        """How many chunks are published, and in how many of them each stem of the question occurs."""
        terms = words.terms(question)
        with self._database.read() as connection:
            return _weigh(connection, collection_id, terms).statistics

    def document_matches(self, collection_id: str, question: str) -> Mapping[str, float]:
        """How much of the question each published document's name and first page hold (0 to 1), by version id.

        Words count as much as they tell the collection's documents apart; versions without any are left out.
        """
        asked = list(dict.fromkeys(words.terms(question)))[:_MOST_TERMS]
        holders: dict[str, list[str]] = {}
        with self._database.read() as connection:
            total = connection.execute(
                select(func.count()).where(
                    documents.c.collection_id == collection_id,
                    documents.c.removed.is_(False),
                    documents.c.current_id.is_not(None),
                )
            ).scalar_one()
            rows = connection.execute(
                select(identity_terms.c.term, identity_terms.c.version_id).where(
                    identity_terms.c.collection_id == collection_id, identity_terms.c.term.in_(asked)
                )
            )
            for row in rows:
                holders.setdefault(row.term, []).append(row.version_id)
        statistics = TermStatistics(total, {term: len(version_ids) for term, version_ids in holders.items()})
        weights = {term: statistics.idf(term) for term in asked}
        whole = sum(weights.values())
        matches: dict[str, float] = {}
        for term, version_ids in holders.items():
            for version_id in version_ids:
                matches[version_id] = matches.get(version_id, 0.0) + weights[term] / whole
        return matches

    # ------------------------------------------------------------------ changes

    def create(self, connection: Connection, collection_id: str) -> None:
        """Begin a collection."""
        connection.execute(
            text(f'CREATE VIRTUAL TABLE {_table(collection_id)} USING fts5(terms, tokenize="{_TOKENIZER}")')
        )
        connection.execute(
            insert(keyword_totals).values(collection_id=collection_id, chunks=0, terms=0, analyzer=words.ANALYZER)
        )

    def drop(self, connection: Connection, collection_id: str) -> None:
        """Forget a collection."""
        connection.execute(text(f"DROP TABLE {_table(collection_id)}"))
        connection.execute(delete(keyword_terms).where(keyword_terms.c.collection_id == collection_id))
        connection.execute(delete(keyword_totals).where(keyword_totals.c.collection_id == collection_id))
        connection.execute(delete(identity_terms).where(identity_terms.c.collection_id == collection_id))

    def add(self, connection: Connection, collection_id: str, rows: Mapping[int, Sequence[str]]) -> None:
        """Make chunks findable: their terms by the chunk's serial."""
        if not rows:
            return
        connection.execute(
            text(f"INSERT INTO {_table(collection_id)} (rowid, terms) VALUES (:serial, :terms)"),  # noqa: S608
            [{"serial": serial, "terms": " ".join(terms)} for serial, terms in rows.items()],
        )
        _count(connection, collection_id, rows.values(), 1)

    def identify(self, connection: Connection, collection_id: str, version_id: str, terms: Sequence[str]) -> None:
        """Make a document recognisable by the terms of its name and first page."""
        rows = [
            {"collection_id": collection_id, "term": term, "version_id": version_id} for term in dict.fromkeys(terms)
        ]
        if rows:
            connection.execute(insert(identity_terms), rows)

    def discard(self, connection: Connection, collection_id: str, version_id: str) -> None:
        """Make a version's chunks unfindable; repeating it changes nothing."""
        connection.execute(delete(identity_terms).where(identity_terms.c.version_id == version_id))
        of_version = "SELECT serial FROM chunk WHERE version_id = :version"
        table = _table(collection_id)
        rows = connection.execute(
            text(f"SELECT terms FROM {table} WHERE rowid IN ({of_version})"),  # noqa: S608
            {"version": version_id},
        ).all()
        if not rows:
            return
        connection.execute(text(f"DELETE FROM {table} WHERE rowid IN ({of_version})"), {"version": version_id})  # noqa: S608
        _count(connection, collection_id, [row.terms.split() for row in rows], -1)

    def is_current(self, collection_id: str) -> bool:
        """Whether the stored terms are those that the present analyzer makes."""
        with self._database.read() as connection:
            analyzer = connection.execute(
                select(keyword_totals.c.analyzer).where(keyword_totals.c.collection_id == collection_id)
            ).scalar_one_or_none()
        return analyzer == words.ANALYZER

    def chunk_ids(self, collection_id: str) -> frozenset[str]:
        """Every chunk that can be found."""
        with self._database.read() as connection:
            rows = connection.execute(
                text(f"SELECT chunk.id FROM {_table(collection_id)} k JOIN chunk ON chunk.serial = k.rowid")  # noqa: S608
            )
            return frozenset(row.id for row in rows)


@dataclass(frozen=True, slots=True)
class _Weights:
    """What each term of one question is worth in one collection."""

    statistics: TermStatistics
    idf: Mapping[str, float]  # times the term's occurrences in the question, in the order of the question
    average_length: float  # terms per chunk

    def score(self, stored: str) -> float:
        """The bounded score of a chunk with these terms, 0 to 1."""
        terms = stored.split()
        counts = Counter(term for term in terms if term in self.idf)
        norm = _K1 * (1 - _B + _B * len(terms) / self.average_length) if terms else 1.0
        gained = sum(self.idf[term] * count * (_K1 + 1) / (count + norm) for term, count in counts.items())
        most = sum(self.idf.values()) * (_K1 + 1)
        return gained / most if most else 0.0


def _weigh(connection: Connection, collection_id: str, terms: Sequence[str]) -> _Weights:
    repeats = Counter(terms)
    total = connection.execute(
        select(keyword_totals).where(keyword_totals.c.collection_id == collection_id)
    ).one_or_none()
    chunk_count, term_count = (total.chunks, total.terms) if total else (0, 0)
    frequencies = dict.fromkeys(repeats, 0)
    for batch in batches(list(repeats)):
        rows = connection.execute(
            select(keyword_terms.c.term, keyword_terms.c.chunks).where(
                keyword_terms.c.collection_id == collection_id, keyword_terms.c.term.in_(batch)
            )
        )
        frequencies.update((row.term, row.chunks) for row in rows)
    statistics = TermStatistics(chunk_count, frequencies)
    idf = {term: count * statistics.idf(term) for term, count in repeats.items()}
    average_length = term_count / chunk_count if term_count else 1.0
    return _Weights(statistics, idf, average_length)


def _selective(statistics: TermStatistics) -> list[str]:
    """The terms worth looking up, rarest first: not the common ones, and not too many."""
    rarest = sorted((count, term) for term, count in statistics.frequencies.items() if count)
    kept = [term for _, term in rarest]
    if statistics.chunks >= _PRUNED_FROM_CHUNKS:
        common = statistics.chunks * _COMMON_SHARE
        kept = [term for place, (count, term) in enumerate(rarest) if count <= common or place < _FEWEST_TERMS]
    return kept[:_MOST_TERMS]


def _expression(terms: Iterable[str]) -> str:
    """An FTS5 query for chunks with any of the terms, each quoted so that it cannot be read as an operator."""
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)


def _table(collection_id: str) -> str:
    """The name of a collection's full-text table. It becomes part of a statement, so only an id of ours will do."""
    if not (collection_id.isascii() and collection_id.isalnum()):
        raise ValueError("A collection id has letters and digits only.")
    return f"keyword_{collection_id}"


def _count(connection: Connection, collection_id: str, rows: Iterable[Sequence[str]], sign: int) -> None:
    """Add chunks' terms to the collection's statistics, or take them away (`sign` = -1)."""
    frequencies: Counter[str] = Counter()
    chunk_count = term_count = 0
    for terms in rows:
        frequencies.update(set(terms))
        chunk_count += 1
        term_count += len(terms)
    statement = sqlite.insert(keyword_terms)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["collection_id", "term"],
            set_={"chunks": keyword_terms.c.chunks + statement.excluded.chunks},
        ),
        [{"collection_id": collection_id, "term": term, "chunks": sign * count} for term, count in frequencies.items()],
    )
    if sign < 0:
        connection.execute(
            delete(keyword_terms).where(keyword_terms.c.collection_id == collection_id, keyword_terms.c.chunks <= 0)
        )
    connection.execute(
        update(keyword_totals)
        .where(keyword_totals.c.collection_id == collection_id)
        .values(chunks=keyword_totals.c.chunks + sign * chunk_count, terms=keyword_totals.c.terms + sign * term_count)
    )
