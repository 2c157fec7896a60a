"""What a parser knows once all pages are read."""

from dataclasses import dataclass

from rag.domain import Block
from rag.errors import UnreadableDocument


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture of a Word file where it stands: `part` is its name in the zip, `headings` the trail above it.

    `description` is the author's alternative text, `above` and `below` are the captions next to it; each "" without.
    `cut` are the shares (0 to 1) of its width and height that the author cropped at left, top, right and bottom.
    """

    part: str
    cut: tuple[float, float, float, float]
    description: str
    above: str
    below: str
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """The blocks in reading order and warnings to show, but for that of `silent`, the pages without text.

    `pictures` are known of Word files only.
    """

    blocks: tuple[Block, ...]
    warnings: tuple[str, ...]
    silent: tuple[int, ...] = ()
    pictures: tuple[Placed, ...] = ()


class NoText(UnreadableDocument):
    """The file was read and has no text; it may still have pictures. `ending` is the rest of what is known."""

    def __init__(self, problem: str, ending: Ending) -> None:
        super().__init__(problem)
        self.ending = ending
