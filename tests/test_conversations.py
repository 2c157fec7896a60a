"""What was said stays, with its evidence, and survives a process that died while writing."""

from pathlib import Path

import pytest

from rag.conversations import Conversations
from rag.domain import Answer, Bands, Chunk, Citation, Conversation, Dropped, Hit, Span, Step, Usage
from rag.errors import NotFound
from rag.stores import Stores, open_stores


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return open_stores(tmp_path, 1000)


@pytest.fixture
def conversations(stores: Stores) -> Conversations:
    return stores.conversations


@pytest.fixture
def conversation(stores: Stores) -> Conversation:
    return stores.conversations.create(stores.library.create_collection("Policies", "").id)


def an_answer() -> Answer:
    chunk = Chunk("v1x0", "d1", "v1", 0, "Leave is 25 days.", 3, 3, ("Leave",), (Span(0, 3, "iii", 10, 27),))
    hit = Hit(chunk, "Handbuch “Ä”.pdf", 1, 0.71, None, 0.4, 0.25, 0.52, 1, 0.93, 1)
    return Answer(
        text="25 days [1].",
        query="leave?",
        refused=False,
        weak=True,
        extracts=False,
        citations=(Citation(1, hit.document, chunk, 0, 17, 0.93, "supported", ("May",)),),
        hits=(hit,),
        used=(chunk.id,),
        dropped=(Dropped("v1x4", "threshold", "relevance below 0.1"),),
        embedding_model="local:x",
        reranker="local",
        bands=Bands(0.1, 0.3, 0.6, fitted=True),
        writer="writer/one",
        usage=Usage(10, 5, 1, 0.0012),
        steps=(Step("searching", 30, 0.01),),
        notices=("Careful.",),
    )


def test_an_answer_comes_back_with_all_its_evidence(conversations: Conversations, conversation: Conversation) -> None:
    """Stored and read, it is equal to the last digit."""
    message = conversations.begin(conversation.id, "leave?")
    conversations.save(message.id, "25 days [1].", "complete", an_answer())
    assert conversations.message(message.id).answer == an_answer()


def test_a_question_and_its_answer_are_added_together(conversations: Conversations, conversation: Conversation) -> None:
    """In order, the answer as being written."""
    conversations.begin(conversation.id, "first?")
    conversations.begin(conversation.id, "second?")
    found = [(one.role, one.text, one.state) for one in conversations.messages(conversation.id)]
    assert found == [
        ("user", "first?", "complete"),
        ("assistant", "", "writing"),
        ("user", "second?", "complete"),
        ("assistant", "", "writing"),
    ]


def test_the_first_question_becomes_the_title(conversations: Conversations, conversation: Conversation) -> None:
    """On one line, shortened, and never replaced by a later question."""
    conversations.begin(conversation.id, "How many\ndays " + "of leave " * 20)
    conversations.begin(conversation.id, "second?")
    title = conversations.get(conversation.id).title
    assert title.startswith("How many days of leave") and title.endswith("…") and len(title) <= 80


def test_the_conversation_used_last_comes_first(conversations: Conversations, conversation: Conversation) -> None:
    """Asking moves a conversation to the top."""
    assert conversation.collection_id is not None
    other = conversations.create(conversation.collection_id)
    conversations.begin(other.id, "new?")
    conversations.begin(conversation.id, "newer?")
    assert [one.id for one in conversations.recent()] == [conversation.id, other.id]


def test_unfinished_answers_are_marked_after_a_restart(
    conversations: Conversations, conversation: Conversation, tmp_path: Path
) -> None:
    """A killed server's answer keeps the text it had stored."""
    message = conversations.begin(conversation.id, "leave?")
    conversations.save(message.id, "25 da", "writing")
    reopened = open_stores(tmp_path, 1000).conversations
    reopened.interrupt_unfinished()
    found = reopened.message(message.id)
    assert (found.text, found.state) == ("25 da", "interrupted")


def test_a_deleted_conversation_takes_its_messages_along(
    conversations: Conversations, conversation: Conversation
) -> None:
    """Nothing of it can be read or written any more."""
    message = conversations.begin(conversation.id, "leave?")
    conversations.delete(conversation.id)
    for attempt in (
        lambda: conversations.get(conversation.id),
        lambda: conversations.message(message.id),
        lambda: conversations.save(message.id, "x", "complete"),
        lambda: conversations.begin(conversation.id, "again?"),
    ):
        with pytest.raises(NotFound):
            attempt()
