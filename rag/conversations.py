"""Conversations and their messages, each answer with its frozen evidence."""

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, delete, func, insert, select, update

from rag.database import Database, conversations, messages, new_id, now
from rag.domain import Answer, Conversation, Failure, Message, MessageState
from rag.errors import NotFound

_ANSWER = TypeAdapter(Answer)
_LONGEST_TITLE = 80


class Conversations:
    """Every dialogue of a data folder. They outlive the documents they cite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, collection_id: str) -> Conversation:
        """A new conversation about a collection; its first question becomes its title."""
        conversation = Conversation(new_id(), "", collection_id, now(), now())
        with self._database.write() as connection:
            connection.execute(
                insert(conversations).values(
                    id=conversation.id,
                    title=conversation.title,
                    collection_id=collection_id,
                    created_at=conversation.created_at,
                    updated_at=conversation.updated_at,
                )
            )
        return conversation

    def get(self, conversation_id: str) -> Conversation:
        """One conversation. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(conversations).where(conversations.c.id == conversation_id)).one_or_none()
        if row is None:
            raise NotFound("This conversation does not exist any more.")
        return _conversation(row)

    def recent(self, limit: int = 50) -> tuple[Conversation, ...]:
        """The conversations used last, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(conversations).order_by(conversations.c.updated_at.desc(), conversations.c.id).limit(limit)
            )
            return tuple(_conversation(row) for row in rows)

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation with all its messages; one that is gone already is fine."""
        with self._database.write() as connection:
            connection.execute(delete(conversations).where(conversations.c.id == conversation_id))

    def messages(self, conversation_id: str) -> tuple[Message, ...]:
        """All messages in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(messages).where(messages.c.conversation_id == conversation_id).order_by(messages.c.ordinal)
            )
            return tuple(_message(row) for row in rows)

    def message(self, message_id: str) -> Message:
        """One message. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(messages).where(messages.c.id == message_id)).one_or_none()
        if row is None:
            raise NotFound("This message does not exist any more.")
        return _message(row)

    def begin(self, conversation_id: str, question: str) -> Message:
        """Add a question and the answer to be written, in one step; returns the answer's message. Raises NotFound."""
        moment = now()
        with self._database.write() as connection:
            found = connection.execute(
                select(conversations.c.title).where(conversations.c.id == conversation_id)
            ).one_or_none()
            if found is None:
                raise NotFound("This conversation does not exist any more.")
            last = connection.execute(
                select(func.max(messages.c.ordinal)).where(messages.c.conversation_id == conversation_id)
            ).scalar_one()
            following = 0 if last is None else last + 1
            message_id = new_id()
            lines = ((new_id(), "user", question, "complete"), (message_id, "assistant", "", "writing"))
            rows = [
                {
                    "id": line_id,
                    "conversation_id": conversation_id,
                    "ordinal": following + offset,
                    "role": role,
                    "text": text,
                    "state": state,
                    "created_at": moment,
                }
                for offset, (line_id, role, text, state) in enumerate(lines)
            ]
            connection.execute(insert(messages), rows)
            connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id)
                .values(title=found.title or _title(question), updated_at=moment)
            )
        return Message(message_id, conversation_id, "assistant", "", "writing", None, None, moment)

    def save(
        self,
        message_id: str,
        text: str,
        state: MessageState,
        answer: Answer | None = None,
        problem: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Store an answer as it stands now. Raises NotFound when its conversation was deleted."""
        with self._database.write() as connection:
            saved = connection.execute(
                update(messages)
                .where(messages.c.id == message_id)
                .values(
                    text=text,
                    state=state,
                    answer=None if answer is None else _ANSWER.dump_python(answer, mode="json"),
                    problem=problem,
                    failure=None if failure is None else asdict(failure),
                )
            )
        if saved.rowcount == 0:
            raise NotFound("This message does not exist any more.")

    def set_state(self, message_id: str, state: MessageState) -> None:
        """Change how far a message is said to be; its text and evidence stay."""
        with self._database.write() as connection:
            connection.execute(update(messages).where(messages.c.id == message_id).values(state=state))

    def interrupt_unfinished(self) -> None:
        """Mark what an earlier process was writing when it ended; the text it had stored stays."""
        with self._database.write() as connection:
            connection.execute(update(messages).where(messages.c.state == "writing").values(state="interrupted"))


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TITLE else line[: _LONGEST_TITLE - 1].rstrip() + "…"


def _conversation(row: Row[Any]) -> Conversation:
    return Conversation(row.id, row.title, row.collection_id, row.created_at, row.updated_at)


def _message(row: Row[Any]) -> Message:
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        role=row.role,
        text=row.text,
        state=row.state,
        answer=None if row.answer is None else _ANSWER.validate_python(row.answer, strict=False),
        problem=row.problem,
        created_at=row.created_at,
        failure=None if row.failure is None else Failure(**row.failure),
    )
