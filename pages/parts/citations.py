"""Citation chips: a card while the pointer or focus is on one, the source's drawer on click or Enter."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts import failures, places, source_drawer
from pages.parts.untrusted import shortened
from rag import api
from rag.domain import Answer, Citation, Message

_SCRIPT = (Path(__file__).parent / "citations.js").read_text(encoding="utf-8")
_LONGEST_QUOTE = 400


def _component() -> Any:
    # Registered at each run: the runtime that holds it may be another one than when this module was imported.
    return st.components.v2.component("footnote_citations", js=_SCRIPT)


def _place(citation: Citation) -> str:
    return " · ".join(part for part in (places.page_of(citation), places.section(citation.chunk)) if part)


def _quote(citation: Citation) -> str:
    """The cited sentence, of a picture its caption."""
    chunk = citation.chunk
    return chunk.text if chunk.figure else chunk.text[citation.start : citation.end]


def _card(message_id: str, citation: Citation) -> dict[str, str]:
    chunk = citation.chunk
    is_shown = chunk.page_first is not None or chunk.figure is not None
    return {
        "document": citation.document,
        "place": _place(citation),
        "kind": "figure" if chunk.figure else "page",
        "quote": shortened(_quote(citation), _LONGEST_QUOTE),
        "picture": api.picture_link(message_id, citation.number) if is_shown else "",
    }


def _cards(message_id: str, citations: Iterable[Citation]) -> dict[str, dict[str, str]]:
    return {str(citation.number): _card(message_id, citation) for citation in citations}


def _copied(answer: Answer) -> str:
    """An answer as plain text with its sources below."""
    sources = map(_copied_source, answer.citations)
    return "\n".join((answer.text.strip(), "", *sources)).strip()


def _copied_source(citation: Citation) -> str:
    where = ", ".join(part for part in (citation.document, _place(citation)) if part)
    quote = " ".join(_quote(citation).split())
    return f"[{citation.number}] {where}" + (f": “{quote}”" if quote else "")


def _data(messages: Iterable[Message]) -> Mapping[str, Any]:
    return {
        message.id: {"sources": _cards(message.id, message.answer.citations), "copy": _copied(message.answer)}
        for message in messages
        if message.answer is not None
    }


@st.fragment
@failures.drawing
def listen(messages: tuple[Message, ...]) -> None:
    """Mount the page's one listener, after the messages, because even invisible it takes the room of a gap."""
    result = _component()(
        key="citations",
        data={"listens": True, "messages": _data(messages), "last": messages[-1].id if messages else None},
        on_open_change=lambda: None,
    )
    if result.open:
        source_drawer.choose(result.open["message"], result.open["number"])
    source_drawer.draw(messages)


def cards_while_writing(message_id: str, citations: tuple[Citation, ...]) -> None:
    """Bring the cards of an answer that is still being written."""
    _component()(
        key=f"citations-{message_id}-{len(citations)}",
        data={"listens": False, "messages": {message_id: {"sources": _cards(message_id, citations), "copy": ""}}},
    )
