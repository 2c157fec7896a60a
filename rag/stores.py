"""Everything one data folder holds, opened."""

from dataclasses import dataclass

from rag.chroma import ChromaIndex
from rag.conversations import Conversations
from rag.database import Database
from rag.keywords import Keywords
from rag.library import Library
from rag.originals import Originals
from rag.passages import Passages
from rag.vectors import EmbeddingTable


@dataclass(frozen=True, slots=True)
class Stores:
    """The catalogue's parts (SQLite), the originals on disk, and the vector index derived from them."""

    database: Database
    library: Library
    originals: Originals
    passages: Passages
    vectors: EmbeddingTable
    keywords: Keywords
    conversations: Conversations
    index: ChromaIndex

    def close(self) -> None:
        """Let go of every file."""
        self.index.close()
        self.database.close()
