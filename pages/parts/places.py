"""Where a passage or citation stands, in words. Pure."""

from rag.citations import lit
from rag.domain import Chunk, Citation


def _page(number: int, label: str) -> str:
    return f"page {number}" if label in ("", str(number)) else f"page {label} (PDF page {number})"


def page_of(citation: Citation) -> str:
    """ "page 4", "page iv (PDF page 4)", "picture on page 4"; of a text without pages nothing."""
    if citation.chunk.figure is not None:
        return page_of_chunk(citation.chunk)
    spans = lit(citation)
    if citation.chunk.page_first is None or not spans:
        return ""
    return _page(spans[0].page, spans[0].label)


def page_of_chunk(chunk: Chunk) -> str:
    """The page a passage begins on, or a picture is on."""
    page = "" if chunk.page_first is None else _page(chunk.page_first, chunk.spans[0].label if chunk.spans else "")
    if chunk.figure is None:
        return page
    return f"picture on {page}" if page else "picture"


def section(chunk: Chunk) -> str:
    """The heading trail."""
    return " › ".join(chunk.headings)
