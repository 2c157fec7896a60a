"""What an answer took, as one quiet line under it. Pure."""

from pages.parts.untrusted import literal
from rag.domain import Usage
from rag.usage import dollars


def line(usage: Usage) -> str:
    """Markdown: "1,840 + 21 tokens (1,200 from cache) · 1 search · $0.0031"; "" where no server was called.

    The tokens are those sent and those written. A cost that was worked out says "about"; one that is not known is
    said to be unknown rather than left out.
    """
    parts = []
    if usage.prompt_tokens or usage.completion_tokens:
        written = f" + {usage.completion_tokens:,}" if usage.completion_tokens else ""
        cached = f" ({usage.cached_tokens:,} from cache)" if usage.cached_tokens else ""
        parts.append(f"{usage.prompt_tokens:,}{written} tokens{cached}")
    if usage.search_units:
        parts.append("1 search" if usage.search_units == 1 else f"{usage.search_units:,} searches")
    if usage.cost is not None:
        parts.append(f"{'about ' if usage.estimated else ''}{literal(dollars(usage.cost))}")
    elif parts:
        parts.append("cost not reported")
    return " · ".join(parts)
