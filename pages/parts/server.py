"""What this server was started with: when it answers, and what it keeps."""

from pathlib import Path

import streamlit as st

from pages.parts.untrusted import literal
from pages.parts.words import size
from rag import services


@st.cache_data(ttl=30, show_spinner=False)
def _folder_size(folder: str) -> int:
    total = 0
    for path in Path(folder).rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # removed in the meantime
    return total


def _thresholds() -> None:
    bands = services.get().models.bands
    st.subheader("When an answer is given", anchor=False)
    if bands is None or bands.not_found is None:
        st.markdown("Reranking is off: no score decides; the answer itself has to say when nothing was found.")
        return
    lines = [f"Below relevance {bands.not_found:.2f} the answer is “Not in your documents”."]
    if bands.confident is not None:
        lines.append(f"From there up to {bands.confident:.2f} it is marked as a weak match.")
    if not bands.fitted:
        lines.append("These limits are general, not fitted to this reranker.")
    st.markdown(" ".join(lines))


def _data() -> None:
    built = services.get()
    collections = built.library.collections()
    documents = [document for one in collections for document in built.library.documents(one.id)]
    passages = sum(document.current.chunks for document in documents if document.current is not None)
    st.subheader("Data", anchor=False)
    folder = built.settings.data_dir
    with st.container(horizontal=True):
        st.metric("Collections", len(collections))
        st.metric("Documents", f"{len(documents):,}")
        st.metric("Passages", f"{passages:,}")
        st.metric("On disk", size(_folder_size(str(folder))))
    st.caption(f"In the folder {literal(str(folder))}. Files of up to {built.settings.max_upload_mb:,} MB.")


def draw() -> None:
    _thresholds()
    _data()
