"""How much of one file is read before we say that it is too much."""

import time
from dataclasses import dataclass, field

from rag.errors import UnreadableDocument

MAX_PAGES = 10_000
MAX_CHARACTERS = 30_000_000
MAX_SECONDS = 300.0
"""Processor and wall seconds that one file may take."""

MAX_FIGURES = 500
MAX_FIGURE_BYTES = 1024**2
MAX_FIGURES_BYTES = 64 * 1024**2
"""Of all pictures taken out of one file, encoded."""
MAX_FIGURE_SECONDS = 120.0
"""Of MAX_SECONDS, what taking pictures out of a file may take; what is not out by then is left in it."""

TOO_SLOW = "Reading this file takes too long; it may be damaged. Printing it to a new PDF often helps."
TOO_HEAVY = (
    "Reading this file needs too much memory or makes the reader fail; it is damaged or unusually built. "
    "Printing it to a new PDF often helps."
)


@dataclass(slots=True)
class Budget:
    """Counts pages, characters and seconds of one file; every method raises UnreadableDocument when it is too much."""

    characters: int = 0
    _started: float = field(default_factory=time.monotonic)

    def pages(self, count: int) -> None:
        """The file says it has this many pages."""
        if count > MAX_PAGES:
            raise UnreadableDocument(
                f"This file has {count:,} pages; at most {MAX_PAGES:,} can be read. Split it into smaller files."
            )

    def read(self, characters: int) -> None:
        """This much more text was read."""
        self.characters += characters
        if self.characters > MAX_CHARACTERS:
            raise UnreadableDocument(
                f"This file has more than {MAX_CHARACTERS:,} characters of text. Split it into smaller files."
            )
        if time.monotonic() - self._started > MAX_SECONDS:
            raise UnreadableDocument(TOO_SLOW)
