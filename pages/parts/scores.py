"""Scores with the names of the models that made them, and words for them only where cut points were fitted. Pure."""

from pages.parts.untrusted import literal
from rag.domain import Answer, Bands, Hit


def word(relevance: float | None, bands: Bands | None) -> str | None:
    """ "strong", "related" or "weak"; None when nobody has fitted cut points for this reranker."""
    if relevance is None or bands is None or not bands.fitted:
        return None
    if bands.strong is not None and relevance >= bands.strong:
        return "strong"
    if bands.confident is not None and relevance >= bands.confident:
        return "related"
    return "weak"


def relevance(value: float | None, answer: Answer) -> str:
    """Markdown: the reranker's score, its word and its model, or that there was no reranking."""
    if value is None or answer.reranker is None:
        return "not reranked"
    called = word(value, answer.bands)
    return f"relevance {value:.2f}{f' ({called})' if called else ''} by {literal(answer.reranker)}"


def rank(hit: Hit) -> str:
    """Markdown: the place before reranking and after it."""
    if hit.fused_rank is None or hit.rank is None:
        return ""
    return f"rank {hit.fused_rank} → {hit.rank}"


def hit_of(answer: Answer, chunk_id: str) -> Hit | None:
    """The candidate that a citation's passage was."""
    return next((hit for hit in answer.hits if hit.chunk.id == chunk_id), None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _place(value: int | None) -> str:
    return "–" if value is None else str(value)


def table(hit: Hit, answer: Answer) -> str:
    """Markdown table of every score of one passage."""
    called = word(hit.relevance, answer.bands)
    rows = (
        ("Vector similarity", _number(hit.similarity), _place(hit.vector_rank), answer.embedding_model or "no model"),
        ("Keyword", _number(hit.bm25), _place(hit.keyword_rank), "BM25"),
        ("Fused", _number(hit.fused), _place(hit.fused_rank), "vectors and keywords together"),
        (
            "Relevance",
            _number(hit.relevance) + (f" · {called}" if called else ""),
            _place(hit.rank),
            answer.reranker or "not reranked",
        ),
    )
    head = "| Score | Value | Rank | From |\n|---|---|---|---|\n"
    return head + "\n".join(f"| {name} | {value} | {place} | {literal(model)} |" for name, value, place, model in rows)
