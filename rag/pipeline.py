"""START READING HERE: how a file becomes searchable, and how a question becomes a cited answer.

`Pipeline.ingest` is read → split → embed → index → publish. `Pipeline.answer` is standalone query → search (retrieve,
rerank) → threshold → write → cite. Both know interfaces and stores, never a particular model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy

from rag import asking, prompts, retrieval, writing
from rag.account import Account, Books
from rag.chunking import pictured, split
from rag.domain import (
    Answer,
    Answered,
    AnswerEvent,
    Chunk,
    Document,
    Hit,
    Progress,
    Refused,
    Stage,
    Turn,
    Version,
)
from rag.errors import InvalidRequest, OverBudget, UnreadableDocument, WrongEmbeddingModel
from rag.interfaces import Embedder, Illustrated, Input, Vectors
from rag.models import Models
from rag.parsing.reader import Reader
from rag.prompts import Brief
from rag.retrieval import Selection
from rag.search import Search, Searched, wrong_model
from rag.showing import Showing
from rag.stopping import Stop
from rag.stores import Stores
from rag.vectors import text_hash
from rag.writing import Written

REFUSAL = "This is not in your documents."
_NO_PICTURES = "Its pictures were left out: the embedding model in use reads text only."
_PASSAGES_WRITTEN_FROM = 8
_CHARACTERS_WRITTEN_FROM = 14_000
_CLOSEST = 3
_EMBEDDED_AT_ONCE = 2_048
_PICTURES_AT_ONCE = 64
_INDEXED_AT_ONCE = 200

Report = Callable[[Progress], None]


def _forget(indexes: Sequence[int], rows: Vectors) -> None:
    """What is asked for only to look at it."""


class Pipeline:
    """The two functions everything else serves, over the stores of one data folder and the models in use.

    `models` gives those of the moment: a question or a document keeps what it began with.
    """

    def __init__(
        self, stores: Stores, reader: Reader, showing: Showing, models: Callable[[], Models], books: Books
    ) -> None:
        self._stores = stores
        self._reader = reader
        self._showing = showing
        self._models = models
        self._books = books
        self._search = Search(stores)

    @property
    def embedding_model(self) -> str:
        """The name of the embedding model in use; "" when there are keywords only."""
        return self._models().embedding

    def may_spend(self) -> bool:
        """Whether the month's budget leaves anything to index with, or indexing costs nothing."""
        models = self._models()
        try:
            if models.embedder is not models.static:
                self._books.ledger.check(self._books.budget())
        except OverBudget:
            return False
        return True

    # ------------------------------------------------------------------ documents

    def ingest(self, version: Version, document: Document, report: Report, stop: Stop) -> None:
        """Make one version of a document searchable; repeating it after an interruption is safe and pays nothing twice.

        Raises UnreadableDocument, ProviderError, OverBudget, WrongEmbeddingModel, Stopped; then nothing of it can be
        found.
        """
        models = self._models()
        collection = self._stores.library.adopt_model(document.collection_id, version.id, models.embedding)
        embedder = models.embedder_of(collection.embedding_model)
        if embedder is None and collection.embedding_model != models.embedding:
            raise WrongEmbeddingModel(wrong_model(collection, models.embedding))
        original = self._stores.originals.path(version.sha256)
        sees = embedder is not None and embedder.takes_images
        parsed = self._reader.read(
            original,
            version.media_type,
            lambda done, total: report(Progress("reading", done, total)),
            stop,
            figures=collection.figures and sees,
        )
        warnings = parsed.warnings if sees or not collection.figures else (*parsed.warnings, _NO_PICTURES)
        self._stores.library.set_pages(version.id, len(parsed.pages) if parsed.paged else None, warnings)

        report(Progress("splitting", 0, len(parsed.pages)))
        chunks = split(parsed, document.id, version.id, collection.chunking, models.count_tokens)
        chunks += pictured(parsed, document.id, version.id, len(chunks))
        if not chunks:
            raise UnreadableDocument("There is no text in this file that could be searched.")
        passages = [_passage(chunk, document.name) for chunk in chunks]
        self._stores.passages.save(version.id, parsed, chunks, [passage.key for passage in passages])
        self._stores.figures.save(version.id, [figure.image for figure in parsed.figures])

        if embedder is not None:
            account = Account(self._books, collection, version.id, version.id)
            self._embed(embedder, passages, _counting(report, "embedding", len(chunks)), account, stop)
            indexed = _counting(report, "indexing", len(chunks))
            dimension = self._fill(collection.index, collection.embedding_model, passages, indexed, stop)
            self._stores.library.set_dimension(collection.id, dimension)
        stop.check()
        self._stores.library.publish(version.id)

    def reindex(self, collection_id: str, report: Report, stop: Stop) -> None:
        """Move a collection to the embedding model in use; until the last step its words alone answer questions."""
        models = self._models()
        collection = self._stores.library.collection(collection_id)
        generation = collection.generation + 1
        model, embedder = models.embedding, models.embedder
        account = Account(self._books, collection, collection.id, collection.id)
        self._stores.index.drop(collection.index_of(generation))
        if embedder is not None and model == collection.embedding_model:
            # A model may make other vectors under the same name now; those it made before are of no use then.
            probe = self._paid([collection.name], embedder, account, stop)
            self._stores.vectors.forget_other_dimensions(model, probe.shape[1])
        passages = [_passage(chunk, name) for chunk, name in self._stores.passages.published(collection_id)]
        dimension = None
        if embedder is not None and passages:
            self._stores.passages.set_hashes(
                [passage.chunk.id for passage in passages], [passage.key for passage in passages]
            )
            self._embed(embedder, passages, _counting(report, "embedding", len(passages)), account, stop)
            indexed = _counting(report, "indexing", len(passages))
            dimension = self._fill(collection.index_of(generation), model, passages, indexed, stop)
        stop.check()
        self._stores.library.finish_reindexing(collection_id, model, dimension, generation)
        self._stores.index.drop(collection.index)

    def _embed(
        self,
        embedder: Embedder,
        passages: Sequence["_Passage"],
        count: Callable[[int], None],
        account: Account,
        stop: Stop,
    ) -> None:
        """Put the vectors of all passages into the embedding table; those already there are not asked for again.

        Every batch is kept as it arrives, so that what was paid for survives a later failure.
        """
        for batch in _embedded_at_once(passages):
            stop.check()
            wanted = {passage.key: passage for passage in batch}
            known = self._stores.vectors.get(embedder.model, list(wanted))
            missing = [key for key in wanted if key not in known]
            count(len(batch) - len(missing))

            def keep(indexes: Sequence[int], rows: Vectors, missing: Sequence[bytes] = missing) -> None:
                self._stores.vectors.put(embedder.model, [missing[index] for index in indexes], rows)
                count(len(indexes))

            if missing:
                self._paid(self._inputs(embedder, [wanted[key] for key in missing]), embedder, account, stop, keep)

    def _paid(
        self,
        inputs: Sequence[Input],
        embedder: Embedder,
        account: Account,
        stop: Stop,
        keep: Callable[[Sequence[int], Vectors], None] = _forget,
    ) -> Vectors:
        """The vectors, each batch entered in the ledger as it is kept; a spent budget ends it."""
        is_free = embedder is self._models().static

        def received(indexes: Sequence[int], rows: Vectors) -> None:
            keep(indexes, rows)
            account.settle()
            if not is_free:
                account.check_budget()

        if not is_free:
            account.check_budget()
        try:
            return embedder.embed(inputs, "document", account.errand("indexing", stop), received)
        finally:
            account.settle()

    def _inputs(self, embedder: Embedder, passages: Sequence["_Passage"]) -> list[Input]:
        """What the embedder gets: texts, and pictures with their text where it can take them."""
        pictures = [passage.chunk for passage in passages if passage.chunk.figure is not None]
        images = self._stores.figures.of_chunks(pictures) if embedder.takes_images else {}
        return [
            Illustrated(passage.text, images[passage.chunk.id]) if passage.chunk.id in images else passage.text
            for passage in passages
        ]

    def _fill(
        self,
        index: str,
        model: str,
        passages: Sequence["_Passage"],
        count: Callable[[int], None],
        stop: Stop,
    ) -> int:
        """Write vectors from the embedding table into an index; returns their dimension (0 without any)."""
        dimension = 0
        for first in range(0, len(passages), _INDEXED_AT_ONCE):
            stop.check()
            batch = passages[first : first + _INDEXED_AT_ONCE]
            found = self._stores.vectors.get(model, [passage.key for passage in batch])
            rows: Vectors = numpy.stack([found[passage.key] for passage in batch])
            if dimension == 0:
                dimension = rows.shape[1]
                self._stores.index.create(index, model, dimension)
            self._stores.index.upsert(index, [passage.chunk.id for passage in batch], rows)
            count(len(batch))
        return dimension

    # ------------------------------------------------------------------ questions

    def search(self, collection_id: str, question: str, stop: Stop) -> Searched:
        """What a question finds, reranked, without an answer.

        Raises ProviderError, OverBudget, WrongEmbeddingModel, Stopped.
        """
        models = self._models()
        account = Account(self._books, self._stores.library.collection(collection_id))
        _check_budget(account, models)
        events = self._search.run((question,), account, models, stop)
        try:
            while True:
                next(events)
        except StopIteration as end:
            found: Searched = end.value
            return found
        finally:
            account.settle()

    def answer(
        self,
        question: str,
        history: Sequence[Turn],
        collection_id: str,
        stop: Stop,
        *,
        about: str = "",
        session: str = "",
    ) -> Iterator[AnswerEvent]:
        """Search, then answer from what was found, or refuse; the last event is `Answered`.

        `about` is the id of the message that is paid for, `session` of the conversation. Raises ProviderError,
        OverBudget, WrongEmbeddingModel, NotFound or Stopped before any text. After the first text a failure or a stop
        ends in an incomplete `Answered` that keeps the text and its evidence.
        """
        models = self._models()
        account = Account(self._books, self._stores.library.collection(collection_id), about, session)
        _check_budget(account, models)
        try:
            queries = asking.queries(question, history, models, account, stop)
            searched = yield from self._search.run(queries, account, models, stop)
            chosen = retrieval.select(
                searched.hits, searched.bands, _PASSAGES_WRITTEN_FROM, _CHARACTERS_WRITTEN_FROM, _usable_by(models)
            )
            written = Written(absent=not chosen.used)
            if chosen.used:
                shown = self._showing.images(account.collection, chosen.used, models)
                brief = Brief(question, tuple(history), chosen.used, shown)
                yield from _written(brief, searched, written, models, account, stop)
            if written.absent:
                yield Refused(searched.hits[:_CLOSEST])
            answer = _answer(searched, chosen, written, account, extracts=models.chat is None)
            yield Answered(answer, written.failure)
        finally:
            account.settle()

    def resume(
        self,
        question: str,
        history: Sequence[Turn],
        former: Answer,
        collection_id: str,
        stop: Stop,
        *,
        about: str = "",
        session: str = "",
    ) -> Iterator[AnswerEvent]:
        """Go on with an answer that was cut off, from the same passages; like `answer` otherwise.

        Raises InvalidRequest when no model writes.
        """
        models = self._models()
        if models.chat is None:
            raise InvalidRequest("No model that writes is configured, so this answer cannot be continued.")
        account = Account(self._books, self._stores.library.collection(collection_id), about, session)
        _check_budget(account, models)
        account.usage, account.steps = former.usage, list(former.steps)
        try:
            used = retrieval.used(former)
            shown = self._showing.images(account.collection, used, models)
            written = Written(text=former.text, citations=list(former.citations), reasoning=former.reasoning)
            brief = Brief(question, tuple(history), used, shown)
            yield from writing.resume(models, brief, written, account, stop)
            yield Answered(
                replace(
                    former,
                    text=written.text,
                    citations=tuple(written.citations),
                    writer=written.model,
                    reasoning=written.reasoning,
                    usage=account.usage,
                    steps=tuple(account.steps),
                    notices=tuple(account.notices),
                    incomplete=written.incomplete,
                ),
                written.failure,
            )
        finally:
            account.settle()


def _check_budget(account: Account, models: Models) -> None:
    """Raise OverBudget when the month's is spent; what costs nothing goes on."""
    if models.are_billed:
        account.check_budget()


def _written(
    brief: Brief, searched: Searched, written: Written, models: Models, account: Account, stop: Stop
) -> Iterator[AnswerEvent]:
    if models.chat is None:
        yield from writing.extract(models.extractor, searched.query, brief.hits, searched.statistics, written)
        account.step("writing", len(brief.hits))
    else:
        yield from writing.write(models, brief, written, account, stop)


@dataclass(frozen=True, slots=True)
class _Passage:
    """A chunk as it is embedded, with its heading trail before it, and the key by which its embedding is found."""

    chunk: Chunk
    text: str
    key: bytes


def _passage(chunk: Chunk, document: str) -> _Passage:
    text = prompts.passage(document, chunk.headings, chunk.text)
    return _Passage(chunk, text, text_hash(text, chunk.figure or ""))


def _embedded_at_once(passages: Sequence[_Passage]) -> Iterator[Sequence[_Passage]]:
    """The passages in portions that fit into memory: thousands of texts, or a few pictures."""
    texts = [passage for passage in passages if passage.chunk.figure is None]
    pictures = [passage for passage in passages if passage.chunk.figure is not None]
    for first in range(0, len(texts), _EMBEDDED_AT_ONCE):
        yield texts[first : first + _EMBEDDED_AT_ONCE]
    for first in range(0, len(pictures), _PICTURES_AT_ONCE):
        yield pictures[first : first + _PICTURES_AT_ONCE]


def _usable_by(models: Models) -> Callable[[Hit], int | None]:
    """How many characters a passage takes of the writer's room; None for a picture that the writer could not see."""
    sees = models.chat is not None and models.chat.takes_images

    def size(hit: Hit) -> int | None:
        if hit.chunk.figure is not None and not sees and not hit.chunk.text:
            return None
        return len(hit.chunk.text)

    return size


def _counting(report: Report, stage: Stage, total: int) -> Callable[[int], None]:
    """A counter that reports a stage's progress each time some more of its units are done."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(Progress(stage, done, total))

    report(Progress(stage, 0, total))
    return count


def _answer(searched: Searched, chosen: Selection, written: Written, account: Account, extracts: bool) -> Answer:
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
        reasoning=written.reasoning,
    )
