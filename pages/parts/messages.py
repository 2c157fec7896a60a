"""One message of a conversation: the question, or the answer with its state, sources and actions."""

import time
from dataclasses import dataclass, replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts import citations, cost, failures, source_list, untrusted
from pages.parts.untrusted import literal
from pages.parts.words import count, seconds
from rag import services
from rag.chat import Snapshot, can_resume
from rag.domain import Answer, Message, Step, StepName

_REDRAWN_EVERY = 0.1  # seconds
_STOPPED_WITHIN = 0.4
_SILENT_AFTER = 5
_LONG_QUESTION = 1500
_LONG_REASONING = 600
_REASONING_HEIGHT = 220
_REASONING_SEEN = 3000  # characters of the latest thoughts, while the model thinks
_REASONING_SHOWN = 20_000  # characters of all of them: each look at the page brings them anew
_REASONING = "How the model got there"
_DOING = {
    "rewriting": "Understanding the question",
    "searching": "Searching your documents",
    "reranking": "Reading the passages found",
    "thinking": "Thinking",
    "writing": "Writing",
    "checking": "Checking citations",
    "done": "Finishing",
}
_STOPPED_EARLY = ":material/stop_circle: Stopped before the answer began."
_STATES = {
    "stopped": ":material/stop_circle: Stopped. The answer is incomplete.",
    "interrupted": ":material/power_off: This was interrupted while it was being written. What had arrived is kept.",
}


def _step(step: Step) -> str:
    names = {
        "rewriting": "question rewritten",
        "searching": f"{count(step.count, 'passage')} found",
        "reranking": "reranked",
        "writing": "written",
        "checking": "citations checked",
    }
    return f"{names[step.name]} in {seconds(step.seconds)}"


def steps(done: tuple[Step, ...]) -> str:
    """One quiet line: "30 passages found in 0.02 s, reranked in 0.03 s". What was done twice is added up."""
    taken: dict[StepName, Step] = {}
    for step in done:
        former = taken.get(step.name)
        taken[step.name] = replace(step, seconds=step.seconds + former.seconds) if former else step
    return ", ".join(map(_step, taken.values()))


def question(message: Message) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        if len(message.text) > _LONG_QUESTION:
            with st.container(height=240, border=False):
                st.text(message.text)
        else:
            st.text(message.text)


def answer(message: Message, asked: str, *, is_last: bool, can_regenerate: bool) -> None:
    """A finished answer to the question `asked`."""
    with (
        st.chat_message("assistant", avatar=":material/format_quote:"),
        st.container(key=f"answer-{message.id}", gap="small"),
    ):
        found = message.answer
        if found is not None and found.reasoning:
            is_long = len(found.reasoning) > _LONG_REASONING
            _reasoning(message.id, is_long=is_long).caption(_thoughts(found.reasoning))
        if found is not None and found.refused:
            _refusal(message, found)
        elif message.text:
            _text(message)
        if message.state == "failed" or message.problem:  # a second try that failed leaves the first answer above
            failures.show(message.problem or "The answer could not be written.", message.failure)
        elif message.state in _STATES:
            is_early = message.state == "stopped" and not message.text
            st.caption(_STOPPED_EARLY if is_early else _STATES[message.state])
        if found is not None:
            _remarks(found, asked)
            if message.failure is not None and not message.problem:  # it broke the answer off: a notice says so
                failures.mend(" ".join(found.notices), message.failure)
                failures.details(message.failure)
            source_list.draw(message, expanded=is_last)
        _actions(message, can_regenerate)


def _reasoning(message_id: str, *, is_long: bool, follows: bool = False) -> DeltaGenerator:
    """Room for what a model thought aloud, folded: it is no part of the answer and nothing in it is checked."""
    with (
        st.expander(_REASONING, type="compact", icon=":material/psychology:", key=f"reasoning-{message_id}"),
        st.container(height=_REASONING_HEIGHT if is_long else "content", border=False, autoscroll=follows),
    ):
        return st.empty()


def _text(message: Message) -> None:
    found = message.answer
    if found is not None and found.extracts:
        st.caption("Extracts from your documents (no language model is configured)")
    if found is not None and found.weak:
        st.markdown(":orange-badge[Weak match] :small[:gray[The passages found may not answer this. Check them.]]")
    numbers = {citation.number for citation in found.citations} if found is not None else set()
    as_markdown = untrusted.extracts if found is not None and found.extracts else untrusted.answer
    st.markdown(as_markdown(message.text, message.id, numbers), anchors=False)


def _refusal(message: Message, found: Answer) -> None:
    st.markdown(":material/search_off: **Not in your documents**")
    st.caption(f"Searched for “{literal(found.query)}”. No passage answers it well enough to be used.")
    source_list.closest(message.id, found)


def _remarks(found: Answer, asked: str) -> None:
    if not found.refused and found.query.strip() != asked.strip():
        st.caption(f":material/search: Searched for “{literal(found.query)}”")
    for notice in found.notices:
        st.caption(f":material/info: {literal(notice)}")


def _actions(message: Message, can_regenerate: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if message.answer is not None and not message.answer.refused and message.text:
            st.button("Copy", key=f"copy-{message.id}", icon=":material/content_copy:", type="tertiary")
        again = st.empty()  # a place even when there is no button: see chat.draw
        if message.answer is not None:
            took = (steps(message.answer.steps), cost.line(message.answer.usage))
            st.caption(" · ".join(part for part in took if part))
    if can_regenerate:
        with again.container(horizontal=True, width="content", gap="small"):
            _once_more(message)


def _once_more(message: Message) -> None:
    """Go on with an answer that was cut off, or write it anew."""
    chat = services.get().chat
    if (
        can_resume(message)
        and services.get().models.chat is not None
        and st.button("Continue", key=f"continue-{message.id}", icon=":material/resume:")
    ):
        chat.resume(message.id)
        st.rerun()
    if st.button("Regenerate", key=f"again-{message.id}", icon=":material/refresh:", type="tertiary"):
        chat.regenerate(message.id)
        st.rerun()


@dataclass(frozen=True, slots=True)
class Writing:
    """Where an answer that is being written appears."""

    message: Message
    reasoning: DeltaGenerator
    text: DeltaGenerator
    stage: DeltaGenerator
    cards: DeltaGenerator


def writing(message: Message) -> Writing:
    """Make room for an answer that is being written."""
    with (
        # What stood here in the run before would stay until this run ends; an empty place removes it at once.
        st.empty().container(),
        st.chat_message("assistant", avatar=":material/format_quote:"),
        st.container(key=f"answer-{message.id}", gap="small"),
    ):
        return Writing(message, st.empty(), st.empty(), st.empty(), st.empty())


def follow(place: Writing) -> None:
    """Show an answer while it is written, from wherever it has come; returns when it is finished or nobody writes it.

    The answer belongs to the server: leaving this loop, by a click elsewhere or a closed tab, does not end it.
    """
    built = services.get()
    message_id = place.message.id
    as_markdown = untrusted.answer if built.models.chat else untrusted.extracts
    live = built.chat.live(message_id)
    seen, brought, said, thought = -1, 0, "", ""
    thoughts: DeltaGenerator | None = None
    while live is not None:
        snapshot = live.wait(seen, _REDRAWN_EVERY)
        is_new = snapshot.revision != seen
        if is_new:
            seen = snapshot.revision
            numbers = {citation.number for citation in snapshot.citations}
            if snapshot.reasoning != thought:
                if thoughts is None:
                    with place.reasoning.container():
                        thoughts = _reasoning(message_id, is_long=True, follows=True)
                thought = snapshot.reasoning
                thoughts.caption(_latest(thought))
            if snapshot.text:
                place.text.markdown(as_markdown(snapshot.text, message_id, numbers), anchors=False)
            if len(numbers) > brought:
                brought = len(numbers)
                with place.cards:
                    citations.cards_while_writing(message_id, snapshot.citations)
        if snapshot.done:
            break
        now = doing(snapshot, time.monotonic())
        if now != said:
            place.stage.markdown(now)
            said = now
        st.session_state.get("problem")  # lets a click interrupt this loop even while the model is silent
        if is_new:
            time.sleep(_REDRAWN_EVERY)


def stop(message_id: str) -> None:
    """Stop an answer, and wait the moment it takes, so that the page is drawn only once."""
    chat = services.get().chat
    live = chat.live(message_id)
    chat.stop(message_id)
    until = time.monotonic() + _STOPPED_WITHIN
    while live is not None and not (snapshot := live.snapshot()).done and time.monotonic() < until:
        live.wait(snapshot.revision, _REDRAWN_EVERY)


def _thoughts(reasoning: str) -> str:
    """Markdown: what the model thought, from its beginning."""
    left = len(reasoning) - _REASONING_SHOWN
    rest = f"\n… {count(left, 'more character')}" if left > 0 else ""
    return untrusted.marked(reasoning[:_REASONING_SHOWN] + rest, 0, 0)


def _latest(reasoning: str) -> str:
    """Markdown: the end of what the model thinks; the rest can be read when the answer is there."""
    text = reasoning if len(reasoning) <= _REASONING_SEEN else f"…{reasoning[-_REASONING_SEEN:]}"
    return untrusted.marked(text, 0, 0)


def doing(snapshot: Snapshot, now: float) -> str:
    """Markdown: the steps that are done, and the one that is not, with the seconds since the question; or, when nothing
    has come for a while, since the last sign of life."""
    elapsed, silent = int(now - snapshot.started), int(now - snapshot.changed)
    what = f"{_DOING[snapshot.stage]}{f' · {elapsed} s' if elapsed else ''}"
    if silent >= _SILENT_AFTER:
        what = f"Still waiting for the answer ({silent} s)"
    done = f":gray[{steps(snapshot.steps)},] " if snapshot.steps else ""
    return f":small[{done}:shimmer[{what}]]"
