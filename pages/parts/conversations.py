"""The conversations in the sidebar, and which one and which collection the reader is in."""

import streamlit as st

from pages.parts import failures
from pages.parts.untrusted import literal, shortened
from rag import services
from rag.domain import Collection, Conversation
from rag.errors import NotFound

_RECENT = 30
_TITLE = 34


def current() -> Conversation | None:
    """The conversation of the address, or the one the reader was in before visiting another page."""
    wanted = st.query_params.get("c") or st.session_state.get("conversation_id")
    if not wanted:
        return None
    try:
        conversation = services.get().conversations.get(wanted)
    except NotFound:
        close()
        return None
    enter(conversation.id)
    return conversation


def enter(conversation_id: str) -> None:
    st.session_state["conversation_id"] = conversation_id
    st.query_params["c"] = conversation_id


def close() -> None:
    """Leave the conversation: the next question begins a new one."""
    st.session_state.pop("conversation_id", None)
    st.query_params.pop("c", None)


def collection(conversation: Conversation | None) -> Collection | None:
    """The collection being asked: the conversation's, else the one chosen last, else the first."""
    collections = services.get().library.collections()
    wanted = conversation.collection_id if conversation is not None else st.session_state.get("collection_id")
    found = next((one for one in collections if one.id == wanted), None)
    if found is None and conversation is None and collections:
        found = collections[0]
    if found is not None:
        st.session_state["collection_id"] = found.id
    return found


def sidebar(active: Conversation | None) -> None:
    recent = services.get().conversations.recent(_RECENT)
    if not recent:
        return
    with st.sidebar:
        st.button("New conversation", key="new-conversation", icon=":material/add:", width="stretch", on_click=close)
        with st.container(gap="xxsmall"):
            for conversation in recent:
                title = literal(shortened(conversation.title, _TITLE)) or "Untitled"
                is_active = active is not None and active.id == conversation.id
                st.button(
                    f"**{title}**" if is_active else title,
                    key=f"open-{conversation.id}",
                    type="tertiary",
                    wrap=False,
                    on_click=enter,
                    args=(conversation.id,),
                )


def begin_deleting(conversation: Conversation) -> None:
    st.session_state["deleting"] = conversation.id


def is_deleting(conversation: Conversation | None) -> bool:
    """Whether the person is being asked; nothing else may keep the page busy meanwhile, or the click is lost."""
    return conversation is not None and st.session_state.get("deleting") == conversation.id


def _keep() -> None:
    st.session_state.pop("deleting", None)


@st.dialog("Delete this conversation?", on_dismiss=_keep)
@failures.drawing
def delete(conversation: Conversation) -> None:
    st.markdown(f"“{literal(shortened(conversation.title, 200))}” with its questions and answers will be gone.")
    if st.button("Delete conversation", type="primary", key="confirm-delete"):
        built = services.get()
        for message in built.conversations.messages(conversation.id):
            built.chat.stop(message.id)
        built.conversations.delete(conversation.id)
        _keep()
        close()
        st.rerun()
