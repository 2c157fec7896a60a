"""START READING HERE: how a file becomes searchable, and how a question becomes a cited answer.

`Pipeline.ingest` is read → split → embed → index → publish. `Pipeline.answer` is standalone query → search (retrieve,
rerank) → threshold → write → cite. Both know interfaces and stores, never a particular model.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy

from rag import prompts, retrieval, writing
from rag.account import Account
from rag.chunking import split
from rag.domain import (
    Answer,
    Answered,
    AnswerEvent,
    Chunk,
    Collection,
    Document,
    Finished,
    Hit,
    Progress,
    Refused,
    Stage,
    TextDelta,
    Turn,
    Version,
)
from rag.errors import ProviderError, UnreadableDocument, WrongEmbeddingModel
from rag.interfaces import Embedder, Vectors
from rag.models import Models
from rag.parsing.reader import Reader
from rag.retrieval import Selection
from rag.search import Search, Searched, wrong_model
from rag.stopping import Stop
from rag.stores import Stores
from rag.vectors import text_hash

logger = logging.getLogger(__name__)

REFUSAL = "This is not in your documents."
_PASSAGES_WRITTEN_FROM = 8
_CHARACTERS_WRITTEN_FROM = 14_000
_CLOSEST = 3
_LONGEST_QUERY = 1_000
_EMBEDDED_AT_ONCE = 2_048
_INDEXED_AT_ONCE = 200

Report = Callable[[Progress], None]


class Pipeline:
    """The two functions everything else serves, over the stores of one data folder and the configured models."""

    def __init__(self, stores: Stores, reader: Reader, models: Models) -> None:
        self._stores = stores
        self._reader = reader
        self._models = models
        self._search = Search(stores, models)

    @property
    def embedding_model(self) -> str:
        """The name of the configured embedding model; "" when there are keywords only."""
        return self._models.embedding

    # ------------------------------------------------------------------ documents

    def ingest(self, version: Version, document: Document, report: Report, stop: Stop) -> None:
        """Make one version of a document searchable; repeating it after an interruption is safe and pays nothing twice.

        Raises UnreadableDocument, ProviderError, WrongEmbeddingModel, Stopped; then nothing of it can be found.
        """
        collection = self._with_configured_model(document.collection_id)
        original = self._stores.originals.path(version.sha256)
        parsed = self._reader.read(
            original, version.media_type, lambda done, total: report(Progress("reading", done, total)), stop
        )
        self._stores.library.set_pages(version.id, len(parsed.pages) if parsed.paged else None, parsed.warnings)

        report(Progress("splitting", 0, len(parsed.pages)))
        chunks = split(parsed, document.id, version.id, collection.chunking, self._models.count_tokens)
        if not chunks:
            raise UnreadableDocument("There is no text in this file that could be searched.")
        texts = [prompts.passage(document.name, chunk.headings, chunk.text) for chunk in chunks]
        hashes = [text_hash(text) for text in texts]
        self._stores.passages.save(version.id, parsed, chunks, hashes)

        embedder = self._models.embedder
        if embedder is not None:
            self._embed(embedder, texts, hashes, _counting(report, "embedding", len(chunks)), stop)
            indexed = _counting(report, "indexing", len(chunks))
            dimension = self._fill(collection.index, collection.embedding_model, chunks, hashes, indexed, stop)
            self._stores.library.set_dimension(collection.id, dimension)
        stop.check()
        self._stores.library.publish(version.id)

    def reindex(self, collection_id: str, report: Report, stop: Stop) -> None:
        """Move a collection to the configured embedding model; until the last step its words alone answer questions."""
        collection = self._stores.library.collection(collection_id)
        generation = collection.generation + 1
        model, embedder = self._models.embedding, self._models.embedder
        self._stores.index.drop(collection.index_of(generation))
        if embedder is not None and model == collection.embedding_model:
            # A model may make other vectors under the same name now; those it made before are of no use then.
            probe = embedder.embed([collection.name], "document", stop)
            self._stores.vectors.forget_other_dimensions(model, probe.shape[1])
        rows = self._stores.passages.published(collection_id)
        dimension = None
        if embedder is not None and rows:
            chunks = [chunk for chunk, _ in rows]
            texts = [prompts.passage(name, chunk.headings, chunk.text) for chunk, name in rows]
            hashes = [text_hash(text) for text in texts]
            self._stores.passages.set_hashes([chunk.id for chunk in chunks], hashes)
            self._embed(embedder, texts, hashes, _counting(report, "embedding", len(rows)), stop)
            dimension = self._fill(
                collection.index_of(generation), model, chunks, hashes, _counting(report, "indexing", len(rows)), stop
            )
        stop.check()
        self._stores.library.finish_reindexing(collection_id, model, dimension, generation)
        self._stores.index.drop(collection.index)

    def _with_configured_model(self, collection_id: str) -> Collection:
        """The collection, which takes the configured embedding model on as long as it has no vectors."""
        collection = self._stores.library.collection(collection_id)
        model = self._models.embedding
        if collection.embedding_model == model:
            return collection
        if collection.dimension is not None or self._stores.passages.published(collection_id):
            raise WrongEmbeddingModel(wrong_model(collection, model))
        self._stores.library.finish_reindexing(collection_id, model, None, collection.generation)
        return self._stores.library.collection(collection_id)

    def _embed(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        hashes: Sequence[bytes],
        count: Callable[[int], None],
        stop: Stop,
    ) -> None:
        """Put the vectors of all texts into the embedding table; those already there are not asked for again.

        Every batch is kept as it arrives, so that what was paid for survives a later failure.
        """
        model = embedder.model
        for first in range(0, len(texts), _EMBEDDED_AT_ONCE):
            stop.check()
            batch = hashes[first : first + _EMBEDDED_AT_ONCE]
            wanted = dict(zip(batch, texts[first : first + _EMBEDDED_AT_ONCE], strict=True))
            known = self._stores.vectors.get(model, list(wanted))
            missing = [key for key in wanted if key not in known]
            count(len(batch) - len(missing))

            def keep(indexes: Sequence[int], rows: Vectors, missing: Sequence[bytes] = missing) -> None:
                self._stores.vectors.put(model, [missing[index] for index in indexes], rows)
                count(len(indexes))

            if missing:
                embedder.embed([wanted[key] for key in missing], "document", stop, keep)

    def _fill(
        self,
        index: str,
        model: str,
        chunks: Sequence[Chunk],
        hashes: Sequence[bytes],
        count: Callable[[int], None],
        stop: Stop,
    ) -> int:
        """Write vectors from the embedding table into an index; returns their dimension (0 without any)."""
        dimension = 0
        for first in range(0, len(chunks), _INDEXED_AT_ONCE):
            stop.check()
            keys = hashes[first : first + _INDEXED_AT_ONCE]
            found = self._stores.vectors.get(model, keys)
            rows: Vectors = numpy.stack([found[key] for key in keys])
            if dimension == 0:
                dimension = rows.shape[1]
                self._stores.index.create(index, model, dimension)
            self._stores.index.upsert(index, [chunk.id for chunk in chunks[first : first + _INDEXED_AT_ONCE]], rows)
            count(len(keys))
        return dimension

    # ------------------------------------------------------------------ questions

    def search(self, collection_id: str, question: str, stop: Stop) -> Searched:
        """What a question finds, reranked, without an answer. Raises ProviderError, WrongEmbeddingModel, Stopped."""
        events = self._search.run(question, collection_id, Account(), stop)
        while True:
            try:
                next(events)
            except StopIteration as end:
                found: Searched = end.value
                return found

    def answer(self, question: str, history: Sequence[Turn], collection_id: str, stop: Stop) -> Iterator[AnswerEvent]:
        """Search, then answer from what was found, or refuse; the last event is `Answered`.

        Raises ProviderError, WrongEmbeddingModel, NotFound or Stopped before any text. After the first text a failure
        or a stop ends in an incomplete `Answered` that keeps the text and its evidence.
        """
        account = Account()
        query = self._standalone(question, history, account, stop)
        searched = yield from self._search.run(query, collection_id, account, stop)
        chosen = retrieval.select(
            searched.hits, searched.bands, _PASSAGES_WRITTEN_FROM, _CHARACTERS_WRITTEN_FROM, _characters
        )
        written = writing.Written(absent=not chosen.used)
        if chosen.used:
            yield from self._written(question, history, searched, chosen, written, account, stop)
            account.step("writing", len(chosen.used))
        if written.absent:
            yield Refused(searched.hits[:_CLOSEST])
        yield Answered(_answer(searched, chosen, written, account, extracts=self._models.chat is None))

    def _written(
        self,
        question: str,
        history: Sequence[Turn],
        searched: Searched,
        chosen: Selection,
        written: writing.Written,
        account: Account,
        stop: Stop,
    ) -> Iterator[TextDelta]:
        chat = self._models.chat
        if chat is None:
            return writing.extract(self._models.extractor, searched.query, chosen.used, searched.statistics, written)
        return writing.write(chat, question, history, chosen.used, written, account, stop)

    def _standalone(self, question: str, history: Sequence[Turn], account: Account, stop: Stop) -> str:
        """The question as it can be searched: a follow-up says again what it points back to."""
        by_rule = retrieval.standalone(question, history)
        chat = self._models.chat
        if chat is None or not history:
            return by_rule
        rewritten = ""
        try:
            for event in chat.stream(prompts.standalone(question, history), stop):
                if isinstance(event, Finished):
                    account.spend(event.usage)
                elif len(rewritten) <= _LONGEST_QUERY:
                    rewritten += event.text
        except ProviderError as error:
            logger.warning("A follow-up question was completed by rule: %s", type(error).__name__)
            rewritten = ""
        account.step("rewriting", 0)
        rewritten = " ".join(rewritten.split())
        return rewritten if 0 < len(rewritten) <= _LONGEST_QUERY else by_rule


def _characters(hit: Hit) -> int:
    return len(hit.chunk.text)


def _counting(report: Report, stage: Stage, total: int) -> Callable[[int], None]:
    """A counter that reports a stage's progress each time some more of its units are done."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(Progress(stage, done, total))

    report(Progress(stage, 0, total))
    return count


def _answer(
    searched: Searched, chosen: Selection, written: writing.Written, account: Account, extracts: bool
) -> Answer:
    return Answer(
        text=REFUSAL if written.absent else written.text,
        query=searched.query,
        refused=written.absent,
        weak=not written.absent and retrieval.is_weak(chosen.used, searched.bands),
        extracts=extracts,
        citations=() if written.absent else tuple(written.citations),
        hits=searched.hits,
        used=tuple(hit.chunk.id for hit in chosen.used),
        dropped=chosen.dropped,
        embedding_model=searched.embedding_model,
        reranker=searched.reranker,
        bands=searched.bands,
        writer=written.model,
        usage=account.usage,
        steps=tuple(account.steps),
        notices=tuple(account.notices),
        incomplete=written.incomplete,
    )
