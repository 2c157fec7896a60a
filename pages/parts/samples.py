"""The sample documents: a small made-up company's papers, and questions to ask them."""

import json
from dataclasses import dataclass
from pathlib import Path

from rag import services
from rag.domain import Collection

NAME = "Sample documents"
_FOLDER = Path(__file__).parents[2] / "samples"


@dataclass(frozen=True, slots=True)
class Question:
    """A suggested question and the files that answer it; none where the documents are silent about it."""

    text: str
    files: frozenset[str]


def questions() -> tuple[Question, ...]:
    """In the order in which to suggest them."""
    entries = json.loads((_FOLDER / "questions.json").read_text(encoding="utf-8"))
    return tuple(
        Question(entry["question"], frozenset(place["document"] for place in entry["expected"])) for entry in entries
    )


def add() -> Collection:
    """The collection of the sample documents, made if need be; files already in it stay as they are."""
    built = services.get()
    collection = built.library.collection_named(NAME) or built.library.create_collection(NAME, built.models.embeddings)
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in (".pdf", ".docx"):
            with path.open("rb") as stream:
                built.library.add(collection.id, path.name, stream)
    built.indexer.wake()
    return collection
