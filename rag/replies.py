"""What the API says about our nouns, as JSON. Pure. The tables in `api` document every field."""

from dataclasses import asdict
from typing import Any

from rag import citations
from rag.domain import (
    Answer,
    Answered,
    AnswerEvent,
    Checking,
    Citation,
    Collection,
    Document,
    Failure,
    Hit,
    ReasoningDelta,
    Refused,
    Reranked,
    Retrieved,
    Searching,
    TextDelta,
)

Reply = dict[str, Any]


def document(document: Document, collection: Collection) -> Reply:
    """A document and how far its newest version has come."""
    version = document.newest
    return {
        "id": document.id,
        "document_id": document.id,
        "document": document.name,
        "collection": collection.name,
        "status": version.status,
        "stage": version.stage,
        "done": version.done,
        "total": version.total,
        "pages": version.pages,
        "chunks": version.chunks,
        "problem": version.problem,
        "warnings": list(version.warnings),
    }


def hit(hit: Hit) -> Reply:
    """A passage with every score and rank it has; null where a step did not score it."""
    chunk = hit.chunk
    return {
        "text": chunk.text,
        "document": hit.document,
        "document_id": chunk.document_id,
        "page_first": chunk.page_first,
        "page_last": chunk.page_last,
        "page_label": chunk.spans[0].label if chunk.spans and chunk.page_first is not None else None,
        "headings": list(chunk.headings),
        "similarity": hit.similarity,
        "vector_rank": hit.vector_rank,
        "keyword_score": hit.bm25,
        "keyword_rank": hit.keyword_rank,
        "document_match": hit.document_match,
        "fused": hit.fused,
        "relevance": hit.relevance,
        "rank": hit.rank,
        "is_picture": chunk.figure is not None,
    }


def citation(citation: Citation) -> Reply:
    """A citation with the page its sentence begins on."""
    chunk = citation.chunk
    places = citations.locate(chunk.spans, citation.start, citation.end) if chunk.page_first is not None else ()
    return {
        "number": citation.number,
        "document": citation.document,
        "document_id": chunk.document_id,
        "page": places[0].page if places else chunk.page_first,
        "page_label": places[0].label if places else None,
        "quote": chunk.text[citation.start : citation.end],
        "relevance": citation.relevance,
        "support": citation.support,
        "verdict": citation.verdict,
        "verdict_reason": citation.verdict_reason or None,
    }


def failure(failure: Failure) -> Reply:
    """What stands behind the sentence of a failed call to a models' server."""
    return {
        "status": failure.status,
        "provider": failure.provider or None,
        "request_id": failure.request_id or None,
        "said": failure.said or None,
    }


def answer(answer: Answer) -> Reply:
    """An answer with its evidence."""
    return {
        "answer": answer.text,
        "refused": answer.refused,
        "weak": answer.weak,
        "citations": [citation(each) for each in answer.citations],
        "hits": [hit(each) for each in answer.hits],
        "usage": asdict(answer.usage),
        "timings": {step.name: step.seconds for step in answer.steps},
        "notices": list(answer.notices),
        "model": answer.writer,
        "reranker": answer.reranker,
        "incomplete": answer.incomplete,
        "reasoning": answer.reasoning or None,
    }


def event(event: AnswerEvent) -> tuple[str, Reply]:  # noqa: PLR0911 - one line per kind of event
    """The name and the data of an event on the way to an answer."""
    match event:
        case Searching(query):
            return "searching", {"query": query}
        case Retrieved(hits, seconds):
            return "retrieved", {"count": len(hits), "seconds": seconds}
        case Reranked(hits, model, seconds):
            return "reranked", {"count": len(hits), "reranker": model, "seconds": seconds}
        case TextDelta(text, cited):
            return "text", {"text": text, "citations": [citation(each) for each in cited]}
        case ReasoningDelta(text):
            return "reasoning", {"text": text}
        case Checking():
            return "checking", {}
        case Refused(closest):
            return "refused", {"closest": [hit(each) for each in closest]}
        case Answered(final, _):
            return "answer", answer(final)
