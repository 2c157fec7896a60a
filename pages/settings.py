"""What can be set while the server runs, what it was started with, and what it has spent. No key is ever shown."""

from collections.abc import Callable, Mapping

import streamlit as st

from pages.parts import answering, failures, keys, model_choice, progress, routing_form, server, usage
from rag import services

_PARTS: Mapping[str, Callable[[], None]] = {
    "Models": model_choice.draw,
    "Keys": keys.draw,
    "Answers": answering.draw,
    "Routing": routing_form.draw,
    "Usage": usage.draw,
    "Server": server.draw,
}
_NEED_A_SERVER = {"Answers", "Routing"}


def draw() -> None:
    st.title("Settings", anchor=False)
    progress.line()
    is_local = services.get().models.local
    parts = [part for part in failures.SETTINGS_TABS if not (is_local and part in _NEED_A_SERVER)]
    if st.session_state.get("settings_tab") not in parts:
        st.session_state["settings_tab"] = parts[0]
    part = st.segmented_control(
        "Part of the settings", parts, key="settings_tab", required=True, label_visibility="collapsed"
    )
    _PARTS[part]()


draw()
