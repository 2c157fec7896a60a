"""A server killed with -9 and started again: nothing is lost, nothing is there twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openrouter_server
from desk import HANDBOOK, word_file
from openrouter_server import KEY, chunk, event, regular, streams
from test_app import ROOT, TOKEN, free_port, healthy, running, start

from rag import services
from rag.settings import Settings

SAMPLES = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix in {".pdf", ".docx"})
DOCUMENTS = "/api/v1/collections/Samples/documents"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def documents(client: httpx.Client) -> dict[str, dict[str, object]]:
    found = client.get(DOCUMENTS, headers=AUTHORIZED)
    return {one["document"]: one for one in found.json()["documents"]} if found.status_code == 200 else {}


def ready(client: httpx.Client) -> dict[str, dict[str, object]]:
    end = time.monotonic() + 60
    while not all(one["status"] == "ready" for one in documents(client).values()):
        assert time.monotonic() < end, documents(client)
        time.sleep(0.05)
    return documents(client)


def test_killed_while_indexing(tmp_path: Path) -> None:
    """Every uploaded file becomes ready after the restart, with as many passages as without the kill."""
    data = tmp_path / "data"
    port = free_port()
    settings = {"FOOTNOTE_API_TOKEN": TOKEN}
    killed = start(tmp_path, data, port, settings)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        end = time.monotonic() + 60
        while not healthy(client):
            assert time.monotonic() < end
            time.sleep(0.05)
        for path in SAMPLES:
            reply = client.post(DOCUMENTS, headers=AUTHORIZED, files={"file": (path.name, path.read_bytes())})
            assert reply.status_code == 202
        while not any(one["status"] == "working" for one in documents(client).values()):
            assert not all(one["status"] == "ready" for one in documents(client).values()), "too late to kill it"
        killed.kill()
        killed.communicate()
    port = free_port()
    with running(start(tmp_path, data, port, settings), port) as client:
        found = ready(client)
        assert sorted(found) == [path.name for path in SAMPLES]
        again = client.post(DOCUMENTS, headers=AUTHORIZED, files={"file": (SAMPLES[0].name, SAMPLES[0].read_bytes())})
        assert (again.status_code, again.json()["outcome"]) == (200, "present")
        hits = client.post(
            "/api/v1/collections/Samples/search",
            headers=AUTHORIZED,
            json={"query": "How many days of annual leave can be carried over?", "limit": 30},
        ).json()["hits"]
        texts = [(hit["document"], hit["text"]) for hit in hits]
        assert len(texts) == len(set(texts)) > 0
        chunks = {name: one["chunks"] for name, one in found.items()}
    port = free_port()
    with running(start(tmp_path, tmp_path / "undisturbed", port, settings), port) as client:
        for path in SAMPLES:
            client.post(DOCUMENTS, headers=AUTHORIZED, files={"file": (path.name, path.read_bytes())})
        assert chunks == {name: one["chunks"] for name, one in ready(client).items()}


def test_killed_while_answering(tmp_path: Path) -> None:
    """The question and the words written so far are there after the restart, marked as interrupted."""
    file = tmp_path / "policy.docx"
    file.write_bytes(word_file(HANDBOOK | {"Visa": "The visa application costs 80 euros."}).getvalue())
    with openrouter_server.serving() as server:
        silent = streams(event(chunk("The visa application costs ")), end="stall")
        server.always = lambda handler: (silent if handler.command == "POST" else regular)(handler)
        settings = {
            "FOOTNOTE_DATA_DIR": str(tmp_path / "data"),
            "FOOTNOTE_EMBEDDINGS": "local",
            "FOOTNOTE_RERANK": "local",
            "FOOTNOTE_CHAT": "openrouter",
            "OPENROUTER_BASE_URL": server.url,
            "OPENROUTER_API_KEY": KEY,
        }
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "answering.py"), str(file)],
            cwd=tmp_path,
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        message_id = process.stdout.readline().strip()
        process.kill()
        process.communicate()
    opened = services.open(Settings(_env_file=None, data_dir=tmp_path / "data"))
    try:
        opened.wait_until_ready(60)
        message = opened.conversations.message(message_id)
        assert (message.state, message.text) == ("interrupted", "The visa application costs")
        assert message.answer is not None and message.answer.hits, "the evidence is lost"
        question, _ = opened.conversations.messages(message.conversation_id)
        assert question.text == "What does the visa application cost?"
    finally:
        opened.close()
        services.use(None)
