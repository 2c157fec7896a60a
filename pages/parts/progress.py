"""How far indexing has come: the words for one document, and a slim line for every page."""

import streamlit as st

from pages.parts import failures
from pages.parts.untrusted import literal, shortened
from pages.parts.words import count
from rag import services
from rag.domain import Stage, Version

EVERY = 0.7
"""Seconds between looks at the progress, while there is any."""

_UNITS: dict[Stage, tuple[str, str]] = {
    "waiting": ("Waiting", ""),
    "reading": ("Reading", "page"),
    "splitting": ("Splitting", ""),
    "embedding": ("Embedding", "passage"),
    "indexing": ("Indexing", "passage"),
}
_STAGES = tuple(_UNITS)


def words(version: Version) -> str:
    """ "Reading 12 of 80 pages"."""
    name, unit = _UNITS[version.stage]
    if version.status == "queued":
        return "Waiting"
    if not unit or version.total <= 0:
        return name
    return f"{name} {version.done:,} of {count(version.total, unit)}"


def fraction(version: Version) -> float:
    """The share of all stages done (0 to 1), each stage taken as equally long."""
    if version.status == "queued":
        return 0.0
    within = version.done / version.total if version.total > 0 else 0.0
    return min(1.0, max(0.0, (_STAGES.index(version.stage) - 1 + min(within, 1.0)) / (len(_STAGES) - 1)))


@failures.drawing
def _line() -> None:
    activity = services.get().library.activity()
    left = activity.waiting + activity.working
    if left == 0:
        st.rerun()
    text = f"Indexing {count(left, 'document')}"
    value = 0.0
    working = [document for document in activity.documents if document.newest.status == "working"]
    if working:
        text += f" · {literal(shortened(working[0].name, 48))} · {words(working[0].newest)}"
        value = fraction(working[0].newest)
    st.progress(value, text=f":small[{text}]")


def line(besides: str | None = None) -> None:
    """One line while documents are being indexed, in other collections than `besides`; nothing otherwise."""
    on_the_way = services.get().library.activity().documents
    if any(document.collection_id != besides for document in on_the_way):
        st.fragment(_line, run_every=EVERY)()
