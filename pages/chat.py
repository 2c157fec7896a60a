"""Ask a collection and read the answer with its footnotes."""

from dataclasses import replace

import streamlit as st

from pages.parts import citations, conversations, failures, messages, progress, usage, welcome
from pages.parts.untrusted import literal
from pages.parts.words import count
from rag import services
from rag.domain import Collection, Conversation, Document, Message
from rag.errors import InvalidRequest

_SHOWN = 20
_DOCUMENTS = "documents.py"


@failures.acting
def _ask(collection_id: str, question: str | None = None) -> None:
    asked = (question if question is not None else st.session_state["question"] or "").strip()
    built = services.get()
    try:
        conversation = conversations.current()
        if conversation is None:
            conversation = built.conversations.create(collection_id)
        built.chat.ask(conversation.id, asked)
        conversations.enter(conversation.id)
    except InvalidRequest:
        st.session_state["question"] = asked  # so that nothing typed is lost
        raise


def _choose_collection() -> None:
    st.session_state["collection_id"] = st.session_state["chosen_collection"]
    conversations.close()


def _head(chosen: Collection | None, conversation: Conversation | None) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        _picker(chosen)
        if conversation is not None:
            st.button(
                "Delete conversation",
                key="delete-conversation",
                icon=":material/delete:",
                type="tertiary",
                on_click=conversations.begin_deleting,
                args=(conversation,),
            )


def _picker(chosen: Collection | None) -> None:
    collections = {one.id: one.name for one in services.get().library.collections()}
    st.session_state["chosen_collection"] = chosen.id if chosen is not None else None
    with st.container(key="collection", width="content"):
        st.selectbox(
            "Collection",
            list(collections),
            index=0 if chosen is not None else None,
            format_func=lambda one: collections.get(one, ""),
            key="chosen_collection",
            on_change=_choose_collection,
            label_visibility="collapsed",
            placeholder="Choose a collection",
            width=280,
        )


def _messages(conversation: Conversation) -> tuple[Message, ...]:
    """The messages to draw: the last ones, or all when the reader asked for them."""
    everything = tuple(map(_settled, services.get().conversations.messages(conversation.id)))
    hidden = len(everything) - _SHOWN
    if hidden <= 0 or st.session_state.get("all_of") == conversation.id:
        return everything
    if st.button(f"Show {count(hidden, 'earlier message')}", type="tertiary", icon=":material/history:"):
        st.session_state["all_of"] = conversation.id
        st.rerun()
    return everything[-_SHOWN:]


def _settled(message: Message) -> Message:
    """The message as it is: one that nobody writes any more has ended, even if its end could not be stored."""
    built = services.get()
    if message.state != "writing" or built.chat.live(message.id) is not None:
        return message
    stored = built.conversations.message(message.id)  # it may have ended between the two looks
    return replace(stored, state="interrupted") if stored.state == "writing" else stored


def _draw(shown: tuple[Message, ...], *, can_regenerate: bool) -> messages.Writing | None:
    """Draw the messages; returns the place of the one that is still being written."""
    asked = ""
    for message in shown:
        if message.role == "user":
            asked = message.text
            messages.question(message)
        elif message.state != "writing":
            is_last = message is shown[-1]
            messages.answer(message, asked, is_last=is_last, can_regenerate=can_regenerate and is_last)
        elif message is shown[-1]:
            return messages.writing(message)
    return None


def _begin(collection: Collection, documents: tuple[Document, ...]) -> None:
    ready = sum(document.current is not None for document in documents)
    st.space("medium")
    st.header("What would you like to know?", anchor=False)
    st.caption(f"Answers come from {count(ready, 'document')} in “{literal(collection.name)}” and nothing else.")
    with st.container(gap="xxsmall"):
        for index, question in enumerate(welcome.suggestions(collection, documents)):
            st.button(
                literal(question),
                key=f"suggestion-{index}",
                icon=":material/subdirectory_arrow_right:",
                type="tertiary",
                on_click=_ask,
                args=(collection.id, question),
            )


def _input(collection: Collection, writing: messages.Writing | None) -> None:
    with st.bottom:
        # Four places that every run draws: what takes another's place would hold the other's content for a moment.
        with st.empty():
            failures.show_last()
        with st.empty():
            _budget()
        with st.container(key="stop", horizontal=True, horizontal_alignment="center"):
            if writing is not None:
                st.button(
                    "Stop",
                    key=f"stop-{writing.message.id}",
                    icon=":material/stop_circle:",
                    on_click=messages.stop,
                    args=(writing.message.id,),
                )
        with st.container(key="ask"):
            st.chat_input(
                "The answer is being written" if writing else "Ask about these documents",
                key="question",
                disabled=writing is not None,
                on_submit=_ask,
                args=(collection.id,),
            )


def _budget() -> None:
    """One quiet line when the month's budget is nearly spent."""
    if warning := usage.warning():
        st.caption(f":material/savings: {literal(warning)}")


def draw() -> None:
    built = services.get()
    conversation = conversations.current()
    conversations.sidebar(conversation)
    if conversation is None and not built.library.collections():
        welcome.first_minute(_DOCUMENTS)
        return
    collection = conversations.collection(conversation)
    # Three fixed places: what stood in a place before would otherwise stay on the page while an answer is written.
    head, dialogue, below = st.container(), st.container(), st.empty()
    with head:
        _head(collection, conversation)
        progress.line()
    with dialogue:
        shown = _messages(conversation) if conversation is not None else ()
        writing = _draw(shown, can_regenerate=collection is not None)
    if collection is None:
        below.info("The collection of this conversation was deleted. Its answers and quotes are kept.")
    else:
        documents = built.library.documents(collection.id)
        can_ask = welcome.is_searchable(documents) or writing is not None
        if can_ask:
            _input(collection, writing)
        if not (can_ask and shown):
            with below.container():
                if can_ask:
                    _begin(collection, documents)
                else:
                    welcome.nothing_to_search(collection, documents, _DOCUMENTS)
    citations.listen(shown)
    if conversation is not None and conversations.is_deleting(conversation):
        conversations.delete(conversation)
    elif writing is not None:
        messages.follow(writing)
        st.rerun()


draw()
