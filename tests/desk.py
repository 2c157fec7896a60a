"""A data folder with one collection and a pipeline over it: everything is real but the models."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from docx import Document as Word
from fakes import BagOfWords, FirstSentences, Overlap, Speaker, quarters

from rag import retrieval
from rag.account import Books
from rag.domain import Answer, Answered, AnswerEvent, Document, Progress, Turn
from rag.models import Models
from rag.parsing.reader import Reader
from rag.pictures import Pictures
from rag.pipeline import Pipeline
from rag.showing import Showing
from rag.stopping import Stop
from rag.stores import open_stores

HANDBOOK = {
    "Leave": "Employees accrue 25 days of annual leave. Unused leave lapses in May.",
    "Travel": "Receipts are required for every expense above 25 euros. Flights are booked in economy class.",
    "Security": "Laptops are encrypted. Lost badges are reported to reception within an hour.",
}


def word_file(sections: dict[str, str]) -> BytesIO:
    document = Word()
    for heading, text in sections.items():
        document.add_heading(heading, 1)
        document.add_paragraph(text)
    stream = BytesIO()
    document.save(stream)
    stream.seek(0)
    return stream


class Desk:
    """A data folder with one collection and a pipeline over it."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self.stores = open_stores(folder, 10_000_000)
        self.stores.index.open()
        self.library = self.stores.library
        self.reader = reader
        self.embedder: BagOfWords | None = BagOfWords()
        self.reranker: Overlap | None = Overlap()
        self.static: BagOfWords | None = None
        self.chat: Speaker | None = None
        self.pictures = Pictures()
        self.budget: float | None = None
        self.are_billed = True
        self.books = Books(self.stores.ledger, lambda: self.budget, lambda stage, model: None)
        self.shows_reasoning = self.checks_citations = self.splits_questions = False
        self.collection = self.library.create_collection("Policies", "fake:bag")

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.stores, self.reader, Showing(self.stores, self.pictures), lambda: self.models, self.books)

    @property
    def models(self) -> Models:
        return Models(
            self.embedder,
            self.reranker,
            self.chat,
            FirstSentences(),
            retrieval.STATIC,
            quarters,
            static=self.static,
            are_billed=self.are_billed,
            shows_reasoning=self.shows_reasoning,
            checks_citations=self.checks_citations,
            splits_questions=self.splits_questions,
        )

    def add(self, name: str, sections: dict[str, str]) -> Document:
        return self.library.add(self.collection.id, name, word_file(sections)).document

    def ingest(self) -> list[Progress]:
        reported: list[Progress] = []
        version = self.library.claim()
        assert version is not None
        self.pipeline.ingest(version, self.library.document_of(version), reported.append, Stop())
        return reported

    def events(self, question: str, history: Sequence[Turn] = ()) -> list[AnswerEvent]:
        return list(self.pipeline.answer(question, history, self.collection.id, Stop()))

    def answer(self, question: str, history: Sequence[Turn] = ()) -> Answer:
        last = self.events(question, history)[-1]
        assert isinstance(last, Answered)
        return last.answer

    def close(self) -> None:
        self.pictures.close()
        self.stores.index.close()
        self.stores.database.close()
