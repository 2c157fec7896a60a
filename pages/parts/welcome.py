"""What there is to see before there is anything to ask."""

import streamlit as st

from pages.parts import failures, progress, samples
from pages.parts.untrusted import literal
from rag import services
from rag.domain import Collection, Document

_ANSWERED = 5


@failures.acting
def _try_samples() -> None:
    st.session_state["collection_id"] = samples.add().id


def first_minute(documents_page: str) -> None:
    """Nothing has been uploaded yet: what this is, and the two ways on."""
    st.space("large")
    st.title("Ask your documents", anchor=False)
    st.markdown(
        "Footnote answers questions from your PDF and Word files. Every statement carries a footnote that opens "
        "the very sentence it stands on. What is not in your documents is not answered."
    )
    st.space("small")
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Try the sample documents",
            key="try-samples",
            type="primary",
            icon=":material/auto_stories:",
            on_click=_try_samples,
        )
        if st.button("Upload your own", key="upload-own", icon=":material/upload_file:"):
            st.switch_page(documents_page)
    st.space("small")
    if services.get().models.local:
        st.caption(
            "It runs on this machine, without a key: answers are then sentences picked from your documents. "
            "To have a language model write them, add a key in Settings → Keys, or start with `OPENROUTER_API_KEY=…` "
            "in the environment."
        )


def is_searchable(documents: tuple[Document, ...]) -> bool:
    """Whether at least one document can be asked."""
    return any(document.current is not None for document in documents)


def nothing_to_search(collection: Collection, documents: tuple[Document, ...], documents_page: str) -> None:
    """A collection that is empty, still being indexed, or failed altogether."""
    if any(document.newest.status in ("queued", "working") for document in documents):
        st.subheader("Getting your documents ready", anchor=False)
        st.fragment(_waiting, run_every=progress.EVERY)(collection)
        return
    if documents:
        st.subheader("No document could be indexed", anchor=False)
        st.caption(f"The reasons are on the Documents page of “{literal(collection.name)}”.")
    else:
        st.subheader("Nothing to ask yet", anchor=False)
        st.caption(f"“{literal(collection.name)}” has no documents.")
    if st.button("Go to Documents", icon=":material/folder:", type="primary"):
        st.switch_page(documents_page)


@failures.drawing
def _waiting(collection: Collection) -> None:
    documents = services.get().library.documents(collection.id)
    on_the_way = [document for document in documents if document.newest.status in ("queued", "working")]
    if is_searchable(documents) or not on_the_way:
        st.rerun()
    st.caption("You can ask as soon as the first one is ready. You may leave this page.")


def suggestions(collection: Collection, documents: tuple[Document, ...]) -> list[str]:
    """Questions to suggest: those of the samples whose files are ready, and one that they do not answer."""
    if collection.name != samples.NAME:
        return []
    ready = {document.name for document in documents if document.current is not None}
    known = samples.questions()
    answered = [question.text for question in known if question.files and question.files <= ready]
    silent = [question.text for question in known if not question.files]
    return answered[:_ANSWERED] + silent[:1]
