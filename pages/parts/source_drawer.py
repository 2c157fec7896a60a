"""The drawer that opens a citation: its page with the sentence lit, or its passage in its headings, and its scores."""

import streamlit as st

from pages.parts import failures, places, scores
from pages.parts.untrusted import literal, marked, plain
from rag import services
from rag.citations import lit
from rag.domain import Citation, Message, Support, Verdict
from rag.errors import FootnoteError, NotFound
from rag.pictures import Picture

_WIDTH = 680

_SUPPORT: dict[Support, str] = {
    "quoted": ":material/check: The answer quotes this sentence.",
    "supported": ":material/check: The answer follows from this sentence.",
    "weak": ":material/help: This sentence supports the answer only in part.",
    "none": ":material/help: No sentence of this passage clearly supports the answer.",
    "picture": ":material/image: The answer points to this picture. Its content cannot be compared word by word.",
}
_VERDICTS: dict[Verdict, str] = {
    "supported": "supported",
    "partly": "supports it in part",
    "unsupported": "does not support it",
}


def choose(message_id: str, number: int) -> None:
    """The source to show from now on, until the drawer is closed."""
    st.session_state["source"] = (message_id, number)


def close() -> None:
    st.session_state.pop("source", None)


def draw(messages: tuple[Message, ...]) -> None:
    """The drawer, if a source of these messages is chosen; it stays open whatever else is drawn anew meanwhile."""
    message_id, _ = st.session_state.get("source", ("", 0))
    message = next((message for message in messages if message.id == message_id), None)
    if message is None:
        close()
    else:
        _drawer(message)


@st.dialog("Source", width=_WIDTH, position="right", on_dismiss=close)
@failures.drawing
def _drawer(message: Message) -> None:
    answer = message.answer
    if answer is None:
        return
    numbers = [citation.number for citation in answer.citations]
    _, chosen = st.session_state.get("source", ("", 0))
    citation = next((one for one in answer.citations if one.number == chosen), None)
    if citation is None:
        st.text("This citation has no source.")
        return
    with st.container(key="source-drawer"):
        _heading(citation)
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            with st.container(width="content", gap="xxsmall"):
                _support(citation)
                _verdict(citation)
            _neighbours(message.id, citation, numbers)
        if citation.chunk.figure is not None:
            _figure(citation)
        elif not _page_picture(citation):
            _passage(citation)
        hit = scores.hit_of(answer, citation.chunk.id)
        if hit is not None:
            st.markdown(scores.table(hit, answer))


def _heading(citation: Citation) -> None:
    with st.container(gap="xxsmall"):
        st.markdown(f":blue-badge[{citation.number}] **{literal(citation.document)}**")
        if page := places.page_of(citation):  # without pages, the headings stand above the passage
            st.caption(literal(" · ".join(part for part in (page, places.section(citation.chunk)) if part)))


def _neighbours(message_id: str, citation: Citation, numbers: list[int]) -> None:
    """Turn to the source before or after."""
    if len(numbers) < 2:
        return
    index = numbers.index(citation.number)
    with st.container(horizontal=True, width="content", gap="small"):
        st.button(
            "Previous",
            key="source-previous",
            icon=":material/chevron_left:",
            type="tertiary",
            disabled=index == 0,
            on_click=choose,
            args=(message_id, numbers[max(index - 1, 0)]),
        )
        st.button(
            "Next",
            key="source-next",
            icon=":material/chevron_right:",
            icon_position="right",
            type="tertiary",
            disabled=index == len(numbers) - 1,
            on_click=choose,
            args=(message_id, numbers[min(index + 1, len(numbers) - 1)]),
        )


def _figure(citation: Citation) -> None:
    """The cited picture in its own size, above what the document says about it."""
    picture = _picture(citation, "picture")
    with st.container(border=True, gap="small"):
        if picture is not None:
            st.image(picture.image, alt=f"The cited {places.page_of(citation)}")
        if citation.chunk.text:
            st.text(plain(citation.chunk.text))
        elif picture is None:
            st.caption("The document has no caption for it.")


def _page_picture(citation: Citation) -> bool:
    """Draw the page with the cited sentence lit; False when there is no picture that shows it."""
    picture = _picture(citation, "page")
    if picture is None:
        return False
    if not picture.marked:
        st.info("The place of the sentence on this page is not known, so the passage is shown as text as well.")
        _passage(citation)
    with st.container(border=True):
        st.image(
            picture.image,
            width="stretch",
            alt=f"Page {lit(citation)[0].page}{', with the cited sentence lit' if picture.marked else ''}",
        )
    return True


def _picture(citation: Citation, kind: str) -> Picture | None:
    """The picture that shows a citation; None where there is none, with the reason if it should be there."""
    try:
        return services.cited_page(services.get(), citation)
    except NotFound:
        kept = "caption" if citation.chunk.figure else "cited passage"
        st.info(f"This document was deleted. Its {kind} cannot be shown any more; the {kept} is kept.")
    except FootnoteError as error:
        st.info(f"The {kind} cannot be shown: {literal(str(error))}")
    return None


def _passage(citation: Citation) -> None:
    """The passage under its headings, the sentence lit; its own heading is its first line."""
    chunk = citation.chunk
    above = chunk.headings[:-1] if chunk.headings and chunk.text.startswith(chunk.headings[-1]) else chunk.headings
    with st.container(border=True, gap="small"):
        if above:
            st.caption(literal(" › ".join(above)))
        st.markdown(marked(chunk.text, citation.start, citation.end))


def _support(citation: Citation) -> None:
    text = _SUPPORT[citation.support]
    if citation.missing and citation.support != "quoted":
        text += f" It does not say: {literal(', '.join(citation.missing))}."
    st.caption(text)


def _verdict(citation: Citation) -> None:
    """What a model said when it was asked whether the citation holds."""
    if citation.verdict is None:
        return
    icon = "check" if citation.verdict == "supported" else "help"
    reason = f" {literal(citation.verdict_reason)}" if citation.verdict_reason else ""
    st.caption(f":material/{icon}: A model checked this citation: {_VERDICTS[citation.verdict]}.{reason}")
