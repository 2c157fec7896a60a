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
    """Markdown table of every score of one passage, each with its maker."""
    called = word(hit.relevance, answer.bands)
    relevance_shown = _number(hit.relevance) + (f" ({called})" if called else "")
    rows = (
        ("Vector similarity", answer.embedding_model or "no model", _number(hit.similarity), hit.vector_rank),
        ("Keyword", "BM25", _number(hit.bm25), hit.keyword_rank),
        ("Document", "its name and first page", _number(hit.document_match), None),
        ("Fused", "all three together", _number(hit.fused), hit.fused_rank),
        ("Relevance", answer.reranker or "not reranked", relevance_shown, hit.rank),
    )
    return "| Score | Value | Rank |\n|---|---|---|\n" + "\n".join(
        f"| {name} :small[:gray[{literal(maker)}]] | {value} | {_place(rank)} |" for name, maker, value, rank in rows
    )
