"""Where a passage or citation stands, in words. Pure."""

from rag.citations import lit
from rag.domain import Chunk, Citation


def _page(number: int, label: str) -> str:
    return f"page {number}" if label in ("", str(number)) else f"page {label} (PDF page {number})"


def page_of(citation: Citation) -> str:
    """ "page 4", "page iv (PDF page 4)", or nothing where the format has no pages."""
    spans = lit(citation)
    if citation.chunk.page_first is None or not spans:
        return ""
    return _page(spans[0].page, spans[0].label)


def page_of_chunk(chunk: Chunk) -> str:
    """The page a passage begins on."""
    if chunk.page_first is None:
        return ""
    return _page(chunk.page_first, chunk.spans[0].label if chunk.spans else "")


def section(chunk: Chunk) -> str:
    """The heading trail."""
    return " › ".join(chunk.headings)
