"""A process that indexes a file and then answers a question about it for ever, to be killed by a test."""

import sys
import time
from pathlib import Path

from rag import services
from rag.settings import load

if __name__ == "__main__":
    opened = services.open(load())
    opened.wait_until_ready(60)
    collection = opened.library.create_collection("Policies", opened.models.embeddings)
    with Path(sys.argv[1]).open("rb") as stream:
        opened.library.add(collection.id, "policy.docx", stream)
    opened.indexer.wake()
    while opened.library.activity().documents:
        time.sleep(0.02)
    conversation = opened.conversations.create(collection.id)
    message = opened.chat.ask(conversation.id, "What does the visa application cost?")
    live = opened.chat.live(message.id)
    assert live is not None
    while not live.snapshot().text:
        live.wait(live.snapshot().revision, 10)
    while not opened.conversations.message(message.id).text:
        time.sleep(0.02)
    print(message.id, flush=True)
    time.sleep(600)
