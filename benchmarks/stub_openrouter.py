"""A stand-in for OpenRouter with fixed latencies, so that benchmarks measure Footnote and not a service.

    python benchmarks/stub_openrouter.py --port 8099        (0 takes a free port; the address is printed)

Embeddings take 80 ms and 0.2 ms per input (1,536 dimensions), reranking 120 ms, a chat's first token 200 ms and each
token 20 ms. Its own computing counts towards these times. Embeddings find shared words, rerank scores are the share of
the question's words that a passage has, and the chat copies the best sentences of the numbered sources, so that the
whole of Footnote works on it. A model called "stub/busy" is refused in one of ten requests, with a second to wait; one
called "stub/silent" is never answered (a chat stops after its first token). `GET /stats` gives requests by endpoint,
inputs, how many texts were embedded and how many of them more than once, the moments at which a client left silence
(of the monotonic clock, which all processes of a machine share) and the stub's own CPU seconds.
"""

import argparse
import asyncio
import base64
import json
import math
import random
import re
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy

DIMENSIONS = 1536
EMBEDDING_SECONDS, EMBEDDING_SECONDS_PER_INPUT = 0.080, 0.0002
RERANK_SECONDS = 0.120
FIRST_TOKEN_SECONDS, TOKEN_SECONDS = 0.200, 0.020
LONGEST_QUOTE = 40  # words
BUSY, SILENT = "stub/busy", "stub/silent"
REFUSED_SHARE, RETRY_AFTER_SECONDS = 0.1, 1
NOT_IN_DOCUMENTS = "NOT IN THE DOCUMENTS"

WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    WORD.findall(
        "a an and any are as at be been but by can could did do does for from had has have how i if in into "
        "is it its may me more most must my no not of on or our per shall should so some such than that the "
        "their them then there these they this those to under up upon was we were what when where which while "
        "who whom whose why will with would you your about"
    )
)
SENTENCE = re.compile(r"[^\n]*?[.!?](?=\s+[A-Z\d\"“(])|[^\n]+")
SOURCE = re.compile(r"<source number=(\d+)[^>\n]*>\n(.*?)\n</source>", re.S)


# ---------------------------------------------------------------- words


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A word without its plural, "" for a word that says nothing."""
    if word in STOP_WORDS:
        return ""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def stems(text: str) -> list[str]:
    """The words that count, in order."""
    return [found for word in WORD.findall(text.lower()) if (found := stem(word))]


@lru_cache(maxsize=200_000)
def places(word: str) -> tuple[int, int, int, float]:
    """Three dimensions for a word, and its weight: long words are rarer."""
    first = zlib.crc32(word.encode())
    second = zlib.crc32(b"2" + word.encode())
    third = zlib.crc32(b"3" + word.encode())
    return first % DIMENSIONS, second % DIMENSIONS, third % DIMENSIONS, min(2.0, 0.4 + 0.2 * len(word))


def vector(text: str) -> numpy.ndarray[Any, Any]:
    """The embedding: a hashed bag of words of unit length, the same every time."""
    row = numpy.zeros(DIMENSIONS, dtype="<f4")
    for word, count in Counter(stems(text)).items():
        *dimensions, weight = places(word)
        row[dimensions] += weight * math.sqrt(count)
    length = float(numpy.linalg.norm(row))
    if not length:
        row[0] = length = 1.0
    return row / numpy.float32(length)


def overlaps(question: str, texts: Sequence[str]) -> list[float]:
    """How much of the question each text has, 0 to 1; words that few of the texts have weigh more."""
    asked = set(stems(question))
    held = [asked & set(stems(text)) for text in texts]
    weights = {word: math.log(1 + len(texts) / (0.5 + sum(word in words for words in held))) for word in asked}
    total = sum(weights.values())
    return [sum(weights[word] for word in words) / total if total else 0.0 for words in held]


# ---------------------------------------------------------------- the chat


def text_of(content: str | Sequence[dict[str, Any]]) -> str:
    """A message's text: all of it, or that of its parts."""
    return content if isinstance(content, str) else "\n\n".join(part.get("text", "") for part in content)


def reply_to(messages: Sequence[dict[str, Any]]) -> str:
    """An answer from the numbered sources, or the question rewritten, whichever the last message asks for."""
    request = text_of(messages[-1]["content"])
    if sources := SOURCE.findall(request):
        return answer(request.rpartition("Question:")[2], sources)
    dialogue, found, question = request.rpartition("Last question:")
    return standalone(question.strip(), dialogue) if found else NOT_IN_DOCUMENTS


def answer(question: str, sources: Sequence[tuple[str, str]]) -> str:
    """The sentence that shares most with the question, and a second one of another source if both are short."""
    sentences = [
        (number, sentence.strip())
        for number, text in sources
        for sentence in SENTENCE.findall(text)
        if len(sentence.split()) > 3
    ]
    ranked = sorted(
        zip(overlaps(question, [text for _, text in sentences]), sentences, strict=True), key=lambda pair: -pair[0]
    )
    if not ranked or not ranked[0][0]:
        return NOT_IN_DOCUMENTS
    best, (number, sentence) = ranked[0]
    quoted = [f"{shortened(sentence)} [{number}]"]
    second = next(((score, other) for score, other in ranked[1:] if other[0] != number), None)
    if len(sentence.split()) < 16 and second and second[0] > best / 2 and len(second[1][1].split()) < 16:
        quoted.append(f"{second[1][1]} [{second[1][0]}]")
    return " ".join(quoted)


def shortened(sentence: str) -> str:
    """At most the first forty words."""
    return " ".join(sentence.split()[:LONGEST_QUOTE])


def standalone(question: str, dialogue: str) -> str:
    """The question, with the words of the one before it where it points back."""
    before = re.findall(r"^user: (.*)$", dialogue, re.M)
    points_back = len(stems(question)) < 3 or re.search(r"\b(it|its|they|them|that|this|one|he|she)\b", question, re.I)
    if not before or not points_back:
        return question
    return f"{question.rstrip('?')} (about: {before[-1].rstrip('?')})?"


# ---------------------------------------------------------------- HTTP


class Stub:
    """The endpoints, and what they have been asked."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter({"embeddings": 0, "rerank": 0, "chat": 0})
        self.inputs = 0
        self.embedded: Counter[int] = Counter()  # by the hash of the text
        self.left_at: list[float] = []
        self.chance = random.Random(7)
        self.in_flight = 0
        self.most_in_flight = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after another."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                _, path, _ = head.split("\r\n", 1)[0].split(" ")
                length = re.search(r"^content-length: *(\d+)", head, re.I | re.M)
                body = await reader.readexactly(int(length[1])) if length else b"{}"
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await self.respond(path, json.loads(body), reader, writer)
                finally:
                    self.in_flight -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def silence(self, reader: asyncio.StreamReader) -> None:
        """Say nothing until the client leaves."""
        await reader.read(1)
        self.left_at.append(time.monotonic())
        raise ConnectionError

    async def respond(self, path: str, body: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One reply, when its time has come."""
        begun = time.perf_counter()
        endpoint = path.rpartition("/api/v1/")[2]
        if endpoint in ("embeddings", "rerank") and body["model"] == SILENT:
            self.requests[endpoint] += 1
            await self.silence(reader)
        elif endpoint == "embeddings":
            self.requests["embeddings"] += 1
            if body["model"] == BUSY and self.chance.random() < REFUSED_SHARE:
                refusal = json.dumps({"error": {"code": 429, "message": "Rate limit exceeded"}})
                send(writer, refusal, "429 Too Many Requests", f"Retry-After: {RETRY_AFTER_SECONDS}\r\n")
                return
            inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
            texts = [text_of(one if isinstance(one, str) else one["content"]) for one in inputs]
            self.inputs += len(texts)
            self.embedded.update(map(hash, texts))
            reply = embeddings(texts, body)
            await until(begun + EMBEDDING_SECONDS + EMBEDDING_SECONDS_PER_INPUT * len(texts))
            send(writer, reply)
        elif endpoint == "rerank":
            self.requests["rerank"] += 1
            reply = rerank(body)
            await until(begun + RERANK_SECONDS)
            send(writer, reply)
        elif endpoint == "chat/completions":
            self.requests["chat"] += 1
            await chat(body, writer, begun, lambda: self.silence(reader))
        elif path == "/stats":
            stats = {"requests": self.requests, "inputs": self.inputs, "most_in_flight": self.most_in_flight}
            stats |= {"embedded": len(self.embedded), "left_at": self.left_at, "cpu_seconds": time.process_time()}
            stats["embedded_again"] = sum(count > 1 for count in self.embedded.values())
            send(writer, json.dumps(stats))
        else:
            send(writer, json.dumps({"error": {"code": 404, "message": "Not Found"}}), "404 Not Found")


async def until(moment: float) -> None:
    """Sleep until this moment of the performance counter."""
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))


def send(writer: asyncio.StreamWriter, reply: str, status: str = "200 OK", headers: str = "") -> None:
    """A whole JSON reply; `headers` are lines with their ends."""
    data = reply.encode()
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


def embeddings(texts: Sequence[str], body: Any) -> str:
    """The reply to an embedding request, last text first."""
    as_text = body.get("encoding_format") == "base64"
    items = []
    for index in reversed(range(len(texts))):
        row = vector(texts[index])
        packed = f'"{base64.b64encode(row.tobytes()).decode()}"' if as_text else json.dumps(row.tolist())
        items.append(f'{{"object": "embedding", "index": {index}, "embedding": {packed}}}')
    tokens = sum(map(len, texts)) // 4
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens, "cost": tokens * 2e-8})
    return f'{{"object": "list", "model": {json.dumps(body["model"])}, "data": [{", ".join(items)}], "usage": {usage}}}'


def rerank(body: Any) -> str:
    """The reply to a rerank request, best first."""
    texts = [document if isinstance(document, str) else document.get("text", "") for document in body["documents"]]
    results = [
        {"index": index, "relevance_score": score, "document": {"text": texts[index]}}
        for index, score in enumerate(overlaps(body["query"], texts))
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    usage = {"search_units": 1, "total_tokens": sum(map(len, texts)) // 4, "cost": 0.002}
    return json.dumps({"model": body["model"], "results": results[: body.get("top_n")], "usage": usage})


async def chat(body: Any, writer: asyncio.StreamWriter, begun: float, silence: Callable[[], Awaitable[None]]) -> None:
    """The reply to a chat request: streamed at the pace of a model, or whole after the same time."""
    text = reply_to(body["messages"])
    pieces = re.findall(r"\s*\S+", text)
    last = begun + FIRST_TOKEN_SECONDS + TOKEN_SECONDS * (len(pieces) - 1)
    tokens = sum(len(text_of(message["content"])) for message in body["messages"]) // 4
    usage = {"prompt_tokens": tokens, "completion_tokens": len(pieces), "total_tokens": tokens + len(pieces)}
    usage["cost"] = tokens * 2.5e-7 + len(pieces) * 2e-6
    frame = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        await until(last)
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        send(writer, json.dumps(frame | {"object": "chat.completion", "choices": choices, "usage": usage}))
        return
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(chunked(b": OPENROUTER PROCESSING\n\n"))
    await writer.drain()
    for number, piece in enumerate(pieces):
        await until(begun + FIRST_TOKEN_SECONDS + TOKEN_SECONDS * number)
        choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
        writer.write(event(frame | {"choices": [choice]}))
        await writer.drain()
        if body["model"] == SILENT:
            await silence()
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    writer.write(event(frame | {"choices": [choice]}) + event(frame | {"choices": [], "usage": usage}))
    writer.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def event(payload: dict[str, Any]) -> bytes:
    """One server-sent event as a chunk."""
    return chunked(b"data: " + json.dumps(payload).encode() + b"\n\n")


def chunked(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(Stub().connection, "127.0.0.1", port, limit=64 * 1024 * 1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
