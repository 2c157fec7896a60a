"""An answer belongs to the server: viewers come and go, a stop is quick, and what was written is kept."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rag.chat import LONGEST_QUESTION, Chat, can_resume
from rag.domain import (
    Answer,
    Answered,
    AnswerEvent,
    Chunk,
    Failure,
    Hit,
    Message,
    ReasoningDelta,
    Searching,
    TextDelta,
    Turn,
    Usage,
)
from rag.errors import InvalidRequest, NotReady, ProviderDown, Stopped
from rag.stopping import Stop
from rag.stores import open_stores

Script = Callable[[Stop], Iterator[AnswerEvent]]


def answered(text: str, incomplete: bool = False) -> Answered:
    nothing: tuple[()] = ()
    return Answered(
        Answer(
            text,
            "q",
            False,
            False,
            False,
            nothing,
            nothing,
            nothing,
            nothing,
            "",
            None,
            None,
            None,
            Usage(),
            nothing,
            nothing,
            incomplete,
        )
    )


class Scripted:
    """A pipeline that follows a script and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: Script = lambda _: iter((Searching("q"), TextDelta("Hello"), answered("Hello")))
        self.asked: list[tuple[str, Sequence[Turn]]] = []
        self.resumed: list[tuple[str, str]] = []
        self.sessions: list[str] = []

    def answer(
        self, question: str, history: Sequence[Turn], collection_id: str, stop: Stop, *, about: str, session: str
    ) -> Iterator[AnswerEvent]:
        self.asked.append((question, history))
        self.sessions.append(session)
        return self.script(stop)

    def resume(
        self,
        question: str,
        history: Sequence[Turn],
        former: Answer,
        collection_id: str,
        stop: Stop,
        *,
        about: str,
        session: str,
    ) -> Iterator[AnswerEvent]:
        self.resumed.append((question, former.text))
        return self.script(stop)


class Talk:
    """One conversation, with the chat it takes place in."""

    def __init__(self, folder: Path) -> None:
        stores = open_stores(folder, 1000)
        self.conversations = stores.conversations
        self.pipeline = Scripted()
        self.chat = Chat(self.pipeline, self.conversations)  # type: ignore[arg-type]
        self.collection_id = stores.library.create_collection("Policies", "").id
        self.id = self.conversations.create(self.collection_id).id

    def ask(self, question: str) -> Message:
        return self.chat.ask(self.id, question)

    def finished(self, message: Message) -> Message:
        live = self.chat.live(message.id)
        while live is not None and not live.snapshot().done:
            live.wait(live.snapshot().revision, 5)
        return self.conversations.message(message.id)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    opened = Talk(tmp_path)
    yield opened
    opened.chat.close()


def silent(stop: Stop) -> Iterator[AnswerEvent]:
    """Says one word, then nothing until it is stopped."""
    yield TextDelta("Begun")
    stop.wait(30)
    yield answered("Begun", incomplete=True)


def test_an_answer_is_stored_when_it_is_complete(talk: Talk) -> None:
    """With the evidence the pipeline gave."""
    message = talk.finished(talk.ask("How much leave?"))
    assert (message.state, message.text) == ("complete", "Hello")
    assert message.answer is not None


def test_every_viewer_sees_the_same_text(talk: Talk) -> None:
    """Two tabs follow one answer."""
    talk.pipeline.script = silent
    live = talk.chat.live(talk.ask("How much leave?").id)
    assert live is not None
    seen: list[str] = []

    def watch() -> None:
        revision = 0
        while not (snapshot := live.wait(revision, 5)).text:
            revision = snapshot.revision
        seen.append(snapshot.text)

    viewers = [threading.Thread(target=watch) for _ in range(2)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join(10)
    assert seen == ["Begun", "Begun"]


def test_stopping_keeps_the_text(talk: Talk) -> None:
    """Also when the model is silent."""
    talk.pipeline.script = silent
    message = talk.ask("How much leave?")
    live = talk.chat.live(message.id)
    assert live is not None
    while not live.snapshot().text:
        live.wait(live.snapshot().revision, 5)
    talk.chat.stop(message.id)
    stored = talk.finished(message)
    assert (stored.state, stored.text) == ("stopped", "Begun")


def test_stopping_before_any_text_is_no_failure(talk: Talk) -> None:
    """The message says that it was stopped, and nothing else."""

    def waiting(stop: Stop) -> Iterator[AnswerEvent]:
        yield Searching("q")
        stop.wait(30)
        raise Stopped("Stopped.")

    talk.pipeline.script = waiting
    message = talk.ask("How much leave?")
    talk.chat.stop(message.id)
    stored = talk.finished(message)
    assert (stored.state, stored.text, stored.problem) == ("stopped", "", None)


def test_closing_the_server_marks_the_answer_as_interrupted(talk: Talk) -> None:
    """Nobody stopped it, so nobody is told that they did."""
    talk.pipeline.script = silent
    message = talk.ask("How much leave?")
    live = talk.chat.live(message.id)
    assert live is not None
    live.wait(0, 5)
    talk.chat.close()
    assert talk.conversations.message(message.id).state == "interrupted"


def test_a_failure_is_shown_as_its_sentence(talk: Talk) -> None:
    """What the person can do about it."""

    def down(_: Stop) -> Iterator[AnswerEvent]:
        raise ProviderDown("The server cannot be reached. Try again later.")
        yield

    talk.pipeline.script = down
    stored = talk.finished(talk.ask("How much leave?"))
    assert (stored.state, stored.problem) == ("failed", "The server cannot be reached. Try again later.")


def test_an_unexpected_failure_shows_an_incident_not_its_text(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the details under the same id."""

    def broken(_: Stop) -> Iterator[AnswerEvent]:
        raise KeyError("secret passage")
        yield

    talk.pipeline.script = broken
    stored = talk.finished(talk.ask("How much leave?"))
    assert stored.problem is not None and "secret" not in stored.problem
    incident = stored.problem.split()[-1].rstrip(".")
    assert incident in caplog.text


@pytest.mark.parametrize("question", ["", "   \n", "x" * (LONGEST_QUESTION + 1)])
def test_questions_that_cannot_be_asked_change_nothing(talk: Talk, question: str) -> None:
    """Empty or far too long."""
    with pytest.raises(InvalidRequest):
        talk.ask(question)
    assert talk.conversations.messages(talk.id) == ()


def test_one_answer_at_a_time_in_a_conversation(talk: Talk) -> None:
    """The second question has to wait."""
    talk.pipeline.script = silent
    message = talk.ask("How much leave?")
    with pytest.raises(InvalidRequest):
        talk.ask("And sick leave?")
    talk.chat.stop(message.id)
    talk.finished(message)
    assert len(talk.conversations.messages(talk.id)) == 2


def test_a_follow_up_brings_what_was_said(talk: Talk) -> None:
    """Questions and answers, without those that never got an answer."""
    talk.finished(talk.ask("How much leave?"))
    talk.finished(talk.ask("And in Norway?"))
    assert talk.pipeline.asked[1] == (
        "And in Norway?",
        [Turn("user", "How much leave?"), Turn("assistant", "Hello")],
    )


def test_the_last_answer_can_be_written_anew(talk: Talk) -> None:
    """Under the same id, without itself as history."""
    message = talk.finished(talk.ask("How much leave?"))
    talk.pipeline.script = lambda _: iter((TextDelta("Better"), answered("Better")))
    again = talk.finished(talk.chat.regenerate(message.id))
    assert (again.id, again.text) == (message.id, "Better")
    assert talk.pipeline.asked[1] == ("How much leave?", [])


def test_an_answer_stays_when_the_new_one_never_begins(talk: Talk) -> None:
    """With its evidence, and why there is no other."""
    message = talk.finished(talk.ask("How much leave?"))

    def down(_: Stop) -> Iterator[AnswerEvent]:
        raise ProviderDown("The server cannot be reached. Try again later.")
        yield

    talk.pipeline.script = down
    again = talk.finished(talk.chat.regenerate(message.id))
    assert (again.text, again.state, again.answer) == ("Hello", "complete", message.answer)
    assert again.problem == "The server cannot be reached. Try again later."


def cut(text: str) -> Answered:
    """The end of an answer that was cut off amid its text, written from one passage."""
    chunk = Chunk("c0", "d", "v", 0, "Employees accrue 25 days.", 1, 1, (), ())
    answer = replace(answered(text).answer, hits=(Hit(chunk, "handbook.pdf"),), used=("c0",), incomplete=True)
    return Answered(answer)


def test_an_answer_that_was_cut_off_can_go_on(talk: Talk) -> None:
    """In place, beginning with the text it had."""
    talk.pipeline.script = lambda _: iter((TextDelta("You get 25 da"), cut("You get 25 da")))
    message = talk.finished(talk.ask("How much leave?"))
    assert can_resume(message)
    talk.pipeline.script = silent
    talk.chat.resume(message.id)
    live = talk.chat.live(message.id)
    assert live is not None and live.snapshot().text.startswith("You get 25 ")
    talk.chat.stop(message.id)
    talk.finished(message)
    assert talk.pipeline.resumed == [("How much leave?", "You get 25 da")]


def test_an_answer_that_cannot_go_on_stays_as_it_was(talk: Talk) -> None:
    """And says why."""
    talk.pipeline.script = lambda _: iter((TextDelta("You get 25 da"), cut("You get 25 da")))
    message = talk.finished(talk.ask("How much leave?"))

    def down(_: Stop) -> Iterator[AnswerEvent]:
        raise ProviderDown("The server is down.", failure=Failure(503, "Azure", "gen-1", "no capacity", "wait"))
        yield

    talk.pipeline.script = down
    again = talk.finished(talk.chat.resume(message.id))
    assert (again.text, again.answer, again.problem) == (message.text, message.answer, "The server is down.")
    assert again.failure == Failure(503, "Azure", "gen-1", "no capacity", "wait")


def test_what_broke_an_answer_off_stands_behind_it(talk: Talk) -> None:
    """The text is kept, and so are the server's own words."""
    failure = Failure(502, "Azure", "gen-2", "upstream", "wait")
    talk.pipeline.script = lambda _: iter((TextDelta("You get"), replace(cut("You get"), failure=failure)))
    message = talk.finished(talk.ask("How much leave?"))
    assert (message.text, message.problem, message.failure) == ("You get", None, failure)


def test_a_complete_answer_does_not_go_on(talk: Talk) -> None:
    """There is nothing missing."""
    message = talk.finished(talk.ask("How much leave?"))
    with pytest.raises(InvalidRequest):
        talk.chat.resume(message.id)


def test_what_a_model_thinks_is_a_sign_of_life(talk: Talk) -> None:
    """Viewers see that it thinks, and its thoughts where they are kept."""

    def thinking(stop: Stop) -> Iterator[AnswerEvent]:
        yield ReasoningDelta("The handbook")
        yield ReasoningDelta(" says so.")
        stop.wait(30)
        yield answered("")

    talk.pipeline.script = thinking
    message = talk.ask("How much leave?")
    live = talk.chat.live(message.id)
    assert live is not None
    while len(live.snapshot().reasoning) < len("The handbook says so."):
        live.wait(live.snapshot().revision, 5)
    snapshot = live.snapshot()
    assert (snapshot.stage, snapshot.reasoning, snapshot.text) == ("thinking", "The handbook says so.", "")
    assert snapshot.changed >= snapshot.started
    talk.chat.stop(message.id)


def test_nothing_is_asked_of_a_server_that_is_closing(talk: Talk) -> None:
    """Its answer could not be stored."""
    talk.chat.close()
    with pytest.raises(NotReady):
        talk.ask("How much leave?")
    assert talk.conversations.messages(talk.id) == ()


def test_an_earlier_answer_cannot_be_written_anew(talk: Talk) -> None:
    """What follows was said about it."""
    first = talk.finished(talk.ask("How much leave?"))
    talk.finished(talk.ask("And in Norway?"))
    with pytest.raises(InvalidRequest):
        talk.chat.regenerate(first.id)


def test_a_conversation_deleted_while_it_is_answered_ends_quietly(talk: Talk) -> None:
    """Its answer has nowhere to go."""
    talk.pipeline.script = silent
    message = talk.ask("How much leave?")
    live = talk.chat.live(message.id)
    assert live is not None
    talk.conversations.delete(talk.id)
    talk.chat.stop(message.id)
    while not live.snapshot().done:
        live.wait(live.snapshot().revision, 5)
    assert talk.chat.live(message.id) is None
