"""Everything one data folder holds, opened."""

from dataclasses import dataclass
from pathlib import Path

from rag.catalogue import Catalogue
from rag.chroma import ChromaIndex
from rag.conversations import Conversations
from rag.database import Database
from rag.figures import Figures
from rag.keywords import Keywords
from rag.library import Library
from rag.originals import Originals
from rag.passages import Passages
from rag.preferences import PreferenceStore
from rag.usage import Ledger
from rag.vectors import EmbeddingTable


def open_stores(folder: Path, max_bytes: int) -> "Stores":
    """The stores of a data folder, made if there is none; the vector index is opened later, by `recovery`.

    No file larger than `max_bytes` is taken in.
    """
    database = Database(folder / "footnote.db")
    originals = Originals(folder / "originals", max_bytes)
    keywords = Keywords(database)
    return Stores(
        database=database,
        library=Library(database, originals, keywords),
        originals=originals,
        passages=Passages(database),
        figures=Figures(database),
        vectors=EmbeddingTable(database),
        keywords=keywords,
        conversations=Conversations(database),
        preferences=PreferenceStore(database),
        catalogue=Catalogue(database),
        ledger=Ledger(database),
        index=ChromaIndex(folder / "chroma"),
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """The catalogue's parts (SQLite), the originals on disk, and the vector index derived from them."""

    database: Database
    library: Library
    originals: Originals
    passages: Passages
    figures: Figures
    vectors: EmbeddingTable
    keywords: Keywords
    conversations: Conversations
    preferences: PreferenceStore
    catalogue: Catalogue
    ledger: Ledger
    index: ChromaIndex

    def close(self) -> None:
        """Let go of every file."""
        self.index.close()
        self.database.close()
