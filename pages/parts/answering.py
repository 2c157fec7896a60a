"""How answers are written: what the model is told besides the question and its sources."""

from collections.abc import Mapping

import streamlit as st

from pages.parts import failures, keys, stages
from rag import services

_EFFORTS: Mapping[str, str] = {
    "": "As the model likes",
    "none": "Not at all",
    "minimal": "Hardly",
    "low": "A little",
    "medium": "Some",
    "high": "Much",
}


@failures.acting
def _keep(name: str) -> None:
    value = st.session_state[f"answers-{name}"]
    choice = services.get().choice
    wanted = None if name == "reasoning" and not value else value
    choice.change(**{name: wanted})


def _key(name: str) -> str:
    """The key of a setting's widget, which shows what is in force."""
    value = getattr(services.get().preferences, name)
    key = f"answers-{name}"
    st.session_state[key] = value or "" if name == "reasoning" else value
    return key


def _switch(name: str, label: str, sentence: str) -> None:
    with st.container(gap="xxsmall"):
        st.toggle(label, key=_key(name), on_change=_keep, args=(name,))
        st.caption(sentence)


def _writing() -> None:
    st.subheader("Writing", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        st.number_input(
            "Temperature",
            min_value=0.0,
            max_value=2.0,
            value=None,
            step=0.1,
            format="%.1f",
            key=_key("temperature"),
            placeholder="as the model likes",
            on_change=_keep,
            args=("temperature",),
        )
        st.caption("Low keeps to the sources, high varies the wording. Empty it for models that do not take one.")
    with right:
        st.number_input(
            "Longest answer, in tokens",
            min_value=16,
            max_value=1_000_000,
            value=None,
            step=500,
            key=_key("longest_answer"),
            placeholder="as long as the model allows",
            on_change=_keep,
            args=("longest_answer",),
        )
        st.caption("About 750 words per 1,000 tokens; a model's thoughts count too. What is longer is cut off.")


def _thinking() -> None:
    st.subheader("Thinking", anchor=False)
    st.selectbox(
        "How much the model thinks first",
        list(_EFFORTS),
        format_func=_EFFORTS.__getitem__,
        key=_key("reasoning"),
        on_change=_keep,
        args=("reasoning",),
        width=280,
    )
    st.caption("Thinking helps with hard questions; it takes time and is paid like text. Some models never do.")
    _switch(
        "shows_reasoning",
        "Show what the model thought",
        "Folded above the answer. It is never part of the answer, and nothing in it is checked.",
    )


def _care() -> None:
    st.subheader("Care", anchor=False)
    _switch(
        "checks_citations",
        "Have each citation checked by a second call",
        "The model reads its answer again and judges whether every source carries its sentence. It costs one more "
        "call per answer with the same sources, which are mostly read from the provider's cache.",
    )
    _switch(
        "splits_questions",
        "Take long questions apart",
        "A question that asks several things is searched piece by piece. It costs one short call per question.",
    )


def draw() -> None:
    if not stages.is_served("chat"):
        keys.invitation()
        return
    st.caption("Changes act at once, for everybody on this server.")
    _writing()
    _thinking()
    _care()
