"""What a parser knows once all pages are read."""

from dataclasses import dataclass

from rag.domain import Block


@dataclass(frozen=True, slots=True)
class Ending:
    """The blocks in reading order and warnings to show."""

    blocks: tuple[Block, ...]
    warnings: tuple[str, ...]
