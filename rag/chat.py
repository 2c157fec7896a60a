"""One turn of a conversation. The server owns it: it goes on without viewers, and stops when somebody says so."""

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag import writing
from rag.conversations import Conversations
from rag.domain import (
    Answer,
    Answered,
    AnswerEvent,
    Checking,
    Citation,
    Failure,
    Message,
    MessageState,
    ReasoningDelta,
    Refused,
    Reranked,
    Retrieved,
    Searching,
    Step,
    TextDelta,
    Turn,
    Usage,
)
from rag.errors import FootnoteError, InvalidRequest, NotFound, NotReady, ProviderError, Stopped, incident
from rag.pipeline import Pipeline
from rag.stopping import Stop

logger = logging.getLogger(__name__)

LONGEST_QUESTION = 20_000
_SAVED_EVERY = 1.0
_AT_ONCE = 64

LiveStage = Literal["rewriting", "searching", "reranking", "writing", "thinking", "checking", "done"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An answer as it stands while it is being made. `revision` grows with every change.

    `started` and `changed`, the last sign of life, are monotonic times. `reasoning` is what the model thinks aloud,
    where it is kept.
    """

    revision: int
    stage: LiveStage
    steps: tuple[Step, ...]
    text: str
    citations: tuple[Citation, ...]
    reasoning: str
    started: float
    changed: float
    done: bool


class LiveAnswer:
    """An answer being made, for any number of viewers in any thread; one that goes on begins with its former text."""

    def __init__(self, former: Answer | None = None) -> None:
        self.stop = Stop()
        self.answer: Answer | None = None
        self.failure: Failure | None = None
        self._former = former
        self._query = ""
        self._ranked: Reranked | None = None
        self._changed = threading.Condition()
        now = time.monotonic()
        self._snapshot = Snapshot(0, "rewriting", (), "", (), "", now, now, done=False)
        if former is not None:
            text, citations = writing.whole(former.text, former.citations)
            self._snapshot = replace(
                self._snapshot, stage="writing", text=text, citations=tuple(citations), reasoning=former.reasoning
            )
        self._beginning = self._snapshot.text

    def snapshot(self) -> Snapshot:
        """The present state."""
        return self._snapshot

    def wait(self, seen: int, timeout: float) -> Snapshot:
        """The present state once its revision differs from `seen`, it is done, or `timeout` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._snapshot.revision != seen or self._snapshot.done, timeout)
            return self._snapshot

    def take(self, event: AnswerEvent) -> None:
        """Move on by one event of the pipeline."""
        now = self._snapshot
        match event:
            case Searching(query):
                self._query = query
                self._become(replace(now, stage="searching"))
            case Retrieved(hits, seconds):
                step = Step("searching", len(hits), seconds)
                self._become(replace(now, stage="reranking", steps=(*now.steps, step)))
            case Reranked(hits, model, seconds):
                self._ranked = event
                steps = now.steps if model is None else (*now.steps, Step("reranking", len(hits), seconds))
                self._become(replace(now, stage="writing", steps=steps))
            case TextDelta(text, citations):
                cited = (*now.citations, *citations)
                self._become(replace(now, stage="writing", text=now.text + text, citations=cited))
            case ReasoningDelta(text):
                self._become(replace(now, stage="thinking", reasoning=now.reasoning + text))
            case Checking():
                self._become(replace(now, stage="checking"))
            case Refused():
                pass
            case Answered(answer, failure):
                self.answer, self.failure = answer, failure

    def so_far(self) -> Answer:
        """What is known of the answer by now, to be kept in case the rest never comes."""
        now = self._snapshot
        if self._former is not None:
            return replace(self._former, text=now.text, citations=now.citations, reasoning=now.reasoning)
        return Answer(
            text=now.text,
            query=self._query,
            refused=False,
            weak=False,
            extracts=False,
            citations=now.citations,
            hits=self._ranked.hits if self._ranked else (),
            used=(),
            dropped=(),
            embedding_model="",
            reranker=self._ranked.model if self._ranked else None,
            bands=None,
            writer=None,
            usage=Usage(),
            steps=now.steps,
            notices=(),
            incomplete=True,
            reasoning=now.reasoning,
        )

    @property
    def has_more(self) -> bool:
        """Whether there is any text that was not there at the beginning."""
        return len(self._snapshot.text) > len(self._beginning)

    def finish(self) -> None:
        """Let every viewer go."""
        self._become(replace(self._snapshot, stage="done", done=True))

    def _become(self, snapshot: Snapshot) -> None:
        with self._changed:
            revision = self._snapshot.revision + 1
            self._snapshot = replace(snapshot, revision=revision, changed=time.monotonic())
            self._changed.notify_all()


class Chat:
    """Questions of all conversations; each answer is made in a thread of its own."""

    def __init__(self, pipeline: Pipeline, conversations: Conversations) -> None:
        self._pipeline = pipeline
        self._conversations = conversations
        self._lock = threading.Lock()
        self._live: dict[str, LiveAnswer] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closing = False

    def ask(self, conversation_id: str, question: str) -> Message:
        """Store a question and begin its answer; returns the answer's message, in the state "writing".

        Raises InvalidRequest: empty, too long, an answer is already being written, or too many are.
        """
        question = question.strip()
        if not question:
            raise InvalidRequest("Write a question first.")
        if len(question) > LONGEST_QUESTION:
            raise InvalidRequest(
                f"The question has {len(question):,} characters; at most {LONGEST_QUESTION:,} are possible. Shorten it."
            )
        with self._lock:
            before = self._conversations.messages(conversation_id)
            self._check_free(before)
            return self._begin(self._conversations.begin(conversation_id, question), question, before)

    def regenerate(self, message_id: str) -> Message:
        """Write the last answer of a conversation anew, under the same id.

        The former one is replaced once the new one has text; if it never gets any, the former one stays.
        Raises InvalidRequest, NotFound.
        """
        with self._lock:
            message = self._conversations.message(message_id)
            messages = self._conversations.messages(message.conversation_id)
            self._check_free(messages)
            if len(messages) < 2 or messages[-1].id != message_id or messages[-2].role != "user":
                raise InvalidRequest("Only the last answer of a conversation can be written anew.")
            self._conversations.set_state(message_id, "writing")
            return self._begin(message, messages[-2].text, messages[:-2])

    def resume(self, message_id: str) -> Message:
        """Go on with the last answer of a conversation, which was cut off or stopped, under the same id.

        If nothing more comes, it stays as it was. Raises InvalidRequest, NotFound.
        """
        with self._lock:
            message = self._conversations.message(message_id)
            messages = self._conversations.messages(message.conversation_id)
            self._check_free(messages)
            if len(messages) < 2 or messages[-1].id != message_id:
                raise InvalidRequest("Only the last answer of a conversation can be continued.")
            if not can_resume(message):
                raise InvalidRequest("This answer cannot be continued. Write it anew instead.")
            self._conversations.set_state(message_id, "writing")
            return self._begin(message, messages[-2].text, messages[:-2], former=message.answer)

    def live(self, message_id: str) -> LiveAnswer | None:
        """The answer while it is being made; None once it is finished and stored."""
        with self._lock:  # a message that was just begun is not yet known by its answer
            return self._live.get(message_id)

    def stop(self, message_id: str) -> None:
        """Stop an answer; its text so far is kept."""
        live = self._live.get(message_id)
        if live is not None:
            live.stop.set()

    def close(self) -> None:
        """Stop all answers and wait until their texts are stored."""
        with self._lock:
            self._closing = True
            threads = tuple(self._threads.values())
        for live in tuple(self._live.values()):
            live.stop.set()
        for thread in threads:
            thread.join(timeout=5)

    def _check_free(self, messages: Sequence[Message]) -> None:
        if self._closing:
            raise NotReady("Footnote is being stopped. Try again when it is running.")
        if any(message.id in self._live for message in messages):
            raise InvalidRequest("An answer is still being written. Stop it or wait for its end.")
        if len(self._live) >= _AT_ONCE:
            raise InvalidRequest("Too many questions are being answered at the moment. Try again in a few seconds.")

    def _begin(
        self, message: Message, question: str, before: Sequence[Message], former: Answer | None = None
    ) -> Message:
        """Make the answer in a thread of its own; it goes on with `former` where that is given."""
        collection_id = self._conversations.get(message.conversation_id).collection_id
        live = LiveAnswer(former)
        thread = threading.Thread(
            target=self._run,
            args=(live, message, question, _history(before), collection_id, former),
            name=f"answer-{message.id}",
            daemon=True,
        )
        self._live[message.id] = live
        self._threads[message.id] = thread
        thread.start()
        return message

    def _events(
        self,
        message: Message,
        question: str,
        history: Sequence[Turn],
        collection_id: str | None,
        former: Answer | None,
        stop: Stop,
    ) -> Iterator[AnswerEvent]:
        existing, session = _existing(collection_id), message.conversation_id
        if former is None:
            return self._pipeline.answer(question, history, existing, stop, about=message.id, session=session)
        return self._pipeline.resume(question, history, former, existing, stop, about=message.id, session=session)

    def _run(
        self,
        live: LiveAnswer,
        before: Message,
        question: str,
        history: Sequence[Turn],
        collection_id: str | None,
        former: Answer | None,
    ) -> None:
        """Make the answer of a message; `before` is how it stood, empty unless it is written anew or goes on."""
        problem: str | None = None
        failure: Failure | None = None
        state: MessageState = "complete"
        try:
            self._follow(live, before.id, self._events(before, question, history, collection_id, former, live.stop))
            failure = live.failure
            if live.answer is not None and live.answer.incomplete:
                state = "stopped" if live.stop.is_set else "complete"  # its notices say what cut it off
        except Stopped:
            state = "stopped"
        except FootnoteError as error:
            state, problem = "failed", str(error)
            failure = error.failure if isinstance(error, ProviderError) else None
        except Exception as error:
            state, problem = "failed", incident(logger, error, "Answering")
        if state == "stopped" and self._closing:
            state = "interrupted"
        answer = live.answer or (live.so_far() if live.has_more else None)
        text = answer.text if answer is not None else ""
        try:
            if text or not before.text:
                self._conversations.save(before.id, text, state, answer, problem, failure)
            else:
                # What was there stays, with why there is no more.
                self._conversations.save(before.id, before.text, before.state, before.answer, problem, failure)
        except NotFound:
            logger.info("The conversation of message %s was deleted while it was being answered", before.id)
        except FootnoteError as error:
            logger.error("The answer of message %s could not be stored: %s", before.id, error)  # noqa: TRY400
        finally:
            self._live.pop(before.id, None)
            self._threads.pop(before.id, None)
            live.finish()

    def _follow(self, live: LiveAnswer, message_id: str, events: Iterator[AnswerEvent]) -> None:
        """Pass events on to viewers, and keep the text on disk from its first words on, about once a second."""
        saved = -math.inf
        for event in events:
            live.take(event)
            if isinstance(event, TextDelta) and time.monotonic() - saved > _SAVED_EVERY:
                self._conversations.save(message_id, live.snapshot().text, "writing", live.so_far())
                saved = time.monotonic()


def can_resume(message: Message) -> bool:
    """Whether an answer was cut off, was written by a model, and still has the passages it was written from."""
    answer = message.answer
    return (
        answer is not None
        and answer.incomplete
        and not answer.extracts
        and bool(answer.text and answer.used)
        and message.state != "writing"
    )


def _existing(collection_id: str | None) -> str:
    if collection_id is None:
        raise NotFound("The collection of this conversation was deleted. Start a new conversation.")
    return collection_id


def _history(messages: Sequence[Message]) -> list[Turn]:
    """What was said before, without questions that never got an answer."""
    return [
        Turn(turn.role, turn.text)
        for question, answer in zip(messages[::2], messages[1::2], strict=False)
        if answer.text
        for turn in (question, answer)
    ]
