"""The script Streamlit runs for every page: what surrounds them all."""

from pathlib import Path

import streamlit as st

from pages.parts import failures
from rag import services

_PICTURES = Path(__file__).parent / "parts"
_LOOKED_AT_EVERY = 0.5
_TAB = "tab"

_STARTING = {
    "starting": "Footnote is starting",
    "rebuilding": "Footnote is repairing its index",
}


@failures.drawing
def _not_ready() -> None:
    state = services.get().state()
    if state.name == "ready":
        st.rerun()
    st.subheader(_STARTING[state.name], anchor=False)
    if state.problem is not None:
        failures.show(state.problem)
        return
    if state.total > 0:
        st.progress(min(state.done / state.total, 1.0), text=f":small[{state.done:,} of {state.total:,}]")
    st.caption("Your documents and conversations are safe. This page goes on by itself.")


def _choose_settings_tab() -> None:
    """A link to a part of the settings opens it once; then the address forgets it, and the reader may turn away."""
    wanted = st.query_params.get(_TAB)
    if wanted is None:
        return
    del st.query_params[_TAB]
    if wanted in failures.SETTINGS_TABS:
        st.session_state["settings_tab"] = wanted


def draw() -> None:
    st.set_page_config(page_title="Footnote", page_icon=str(_PICTURES / "icon.png"), layout="centered")
    st.logo(str(_PICTURES / "wordmark.png"), size="large")
    page = st.navigation(
        [
            st.Page("chat.py", title="Chat", icon=":material/forum:", default=True),
            st.Page("documents.py", title="Documents", icon=":material/folder:", url_path="documents"),
            st.Page("settings.py", title="Settings", icon=":material/tune:", url_path="settings"),
        ],
        position="top",
    )
    _choose_settings_tab()
    with failures.shown():
        if services.get().state().name != "ready":
            st.fragment(_not_ready, run_every=_LOOKED_AT_EVERY)()
            return
        callback_problem = st.container()
        page.run()
        with callback_problem:
            failures.show_last()


draw()
