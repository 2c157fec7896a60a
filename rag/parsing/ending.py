"""What a parser knows once all pages are read."""

from dataclasses import dataclass

from rag.domain import Block


@dataclass(frozen=True, slots=True)
class Ending:
    """The blocks in reading order, the title among the file's properties ("" without one) and warnings to show."""

    blocks: tuple[Block, ...]
    title: str
    warnings: tuple[str, ...]
