"""The sources of an answer, like footnotes below it."""

import streamlit as st

from pages.parts import places, scores
from pages.parts.untrusted import chip, literal, shortened, snippet
from pages.parts.words import count
from rag.domain import Answer, Chunk, Citation, Hit, Message, Support, Verdict

_CLOSEST_SHOWN = 3
_LONGEST_PASSAGE = 220
_LONGEST_SECTION = 90
_DOUBTS: dict[Support, str] = {"weak": "supports it only in part", "none": "may not support it"}
_VERDICTS: dict[Verdict, str] = {
    "partly": "a model finds it supports the answer in part",
    "unsupported": "a model finds it does not support the answer",
}


def draw(message: Message, expanded: bool) -> None:
    """Every cited sentence with its place and scores; passages that were read but not cited are folded below."""
    answer = message.answer
    if answer is None or answer.refused or not (answer.citations or answer.used):
        return
    with st.container(key=f"sources-{message.id}", gap="xsmall"):
        if answer.citations:
            label = count(len(answer.citations), "source")
            with st.expander(label, expanded=expanded, type="compact", key=f"cited-{message.id}"):
                for citation in answer.citations:
                    _cited(message.id, citation, answer)
        cited = {citation.chunk.id for citation in answer.citations}
        others = [hit for hit in answer.hits if hit.chunk.id in set(answer.used) - cited]
        if others:
            label = f":gray[{count(len(others), 'more passage' if cited else 'passage')} read, not cited]"
            with st.expander(label, type="compact", key=f"read-{message.id}"):
                for hit in others:
                    _passage(hit, answer)


def closest(message_id: str, answer: Answer) -> None:
    """The passages that came closest to a question that was refused."""
    if not answer.hits:
        return
    with (
        st.container(key=f"sources-{message_id}"),
        st.expander(":gray[Closest passages]", type="compact", expanded=True, key=f"closest-{message_id}"),
    ):
        for hit in answer.hits[:_CLOSEST_SHOWN]:
            _passage(hit, answer)


def _where(document: str, *parts: str) -> str:
    place = " · ".join(part for part in parts if part)
    return f"**{literal(document)}**" + (f" :gray[{literal(place)}]" if place else "")


def _section(chunk: Chunk) -> str:
    return shortened(places.section(chunk), _LONGEST_SECTION)


def _scores(value: float | None, hit: Hit | None, answer: Answer) -> str:
    rank = scores.rank(hit) if hit is not None and answer.reranker is not None else ""
    return f":small[:gray[{' · '.join(part for part in (scores.relevance(value, answer), rank) if part)}]]"


def _cited(message_id: str, citation: Citation, answer: Answer) -> None:
    chunk = citation.chunk
    where = _where(citation.document, places.page_of(citation), _section(chunk))
    quote = _caption(chunk) if chunk.figure else snippet(chunk.text, citation.start, citation.end)
    score = _scores(citation.relevance, scores.hit_of(answer, chunk.id), answer)
    doubts = (_DOUBTS.get(citation.support), _VERDICTS.get(citation.verdict) if citation.verdict else None)
    if doubt := " · ".join(filter(None, doubts)):
        score += f" :small[:orange[· {doubt}]]"
    st.markdown(_lines(f"{chip(message_id, citation.number)} {where}", quote, score))


def _passage(hit: Hit, answer: Answer) -> None:
    """One passage that was found but is not cited."""
    where = _where(hit.document, places.page_of_chunk(hit.chunk), _section(hit.chunk))
    st.markdown(_lines(where, _caption(hit.chunk), _scores(hit.relevance, hit, answer)))


def _caption(chunk: Chunk) -> str:
    """The beginning of a passage; of a picture its caption, "" without."""
    return literal(shortened(chunk.text, _LONGEST_PASSAGE))


def _lines(where: str, quote: str, score: str) -> str:
    """Markdown: where it is, what it says, how it was scored; a picture may say nothing."""
    return "  \n".join(line for line in (where, f":small[{quote}]" if quote else "", score) if line)
