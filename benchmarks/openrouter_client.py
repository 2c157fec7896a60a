"""What the client for OpenRouter adds to the server's own time, what it loses to a busy server, and how fast it stops.

    PYTHONPATH=. python benchmarks/openrouter_client.py

Against the stub with its fixed latencies. The ideal for embeddings is eight requests in flight without a gap. The busy
server refuses one of ten requests with a second to wait, in which nothing is sent, so each refusal takes one. A stop is
timed from the moment it is asked for until the silent server sees its connection closed.
"""

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence

from measuring import Stub, percentile, table
from pydantic import SecretStr
from stub_openrouter import (
    BUSY,
    EMBEDDING_SECONDS,
    EMBEDDING_SECONDS_PER_INPUT,
    FIRST_TOKEN_SECONDS,
    RERANK_SECONDS,
    SILENT,
)

from rag.domain import Chunk, Hit, Spending, TermStatistics, Turn
from rag.errors import Stopped
from rag.interfaces import Errand, Vectors
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.rerank import OpenRouterReranker

TEXTS = [f"Passage {number} " + "on fees, terms and notice periods of the agreement. " * 24 for number in range(6000)]
MORE_TEXTS = [f"Passage {number} " + "on fees, terms and notice periods. " * 12 for number in range(12_000)]
IN_FLIGHT = 8
STOPS = 20
CHUNK = Chunk("c", "d", "v", 0, TEXTS[0], 1, 1, ("Fees",), ())
HITS = [Hit(chunk=CHUNK, document="agreement.pdf")] * 30
SOURCE = f'<source number=1 document="agreement">\n{TEXTS[0]}\n</source>\n\nQuestion: notice periods'


def main() -> None:
    with Stub() as stub:
        client = Client(f"{stub.base}/api/v1", SecretStr("stub-key"))
        embedder = OpenRouterEmbedder(client, "stub/embed")
        embedder.embed(TEXTS[:800], "document", Errand())
        print(throughput(stub, embedder))
        print(overhead(client, embedder))
        print(busy(stub, client))
        print(stops(stub, client))
        client.close()


def throughput(stub: Stub, embedder: OpenRouterEmbedder) -> str:
    """Wall clock and CPU of embedding all texts, beside the ideal."""
    before = stub.stats()["requests"]["embeddings"]
    begun, used = time.perf_counter(), time.process_time()
    embedder.embed(TEXTS, "document", Errand())
    wall, used = time.perf_counter() - begun, time.process_time() - used
    requests = stub.stats()["requests"]["embeddings"] - before
    per_request = EMBEDDING_SECONDS + EMBEDDING_SECONDS_PER_INPUT * len(TEXTS) / requests
    ideal = math.ceil(requests / IN_FLIGHT) * per_request
    row = {"texts": len(TEXTS), "requests": requests, "wall_s": wall, "ideal_s": ideal, "ratio": wall / ideal}
    row["cpu_s_per_1000"] = used / len(TEXTS) * 1000
    return table([row], list(row))


def overhead(client: Client, embedder: OpenRouterEmbedder) -> str:
    """Milliseconds that each call of a question takes beyond the stub's own latency."""
    reranker, chat = OpenRouterReranker(client, "stub/rerank"), OpenRouterChat(client, "stub/chat")

    def timed(call: Callable[[], object], latency: float) -> list[float]:
        times = []
        for _ in range(30):
            begun = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - begun - latency))
        return times

    def timed_first_token() -> list[float]:
        times = []
        for _ in range(30):
            pieces = chat.stream([Turn("user", SOURCE)], Errand())
            begun = time.perf_counter()
            next(pieces)
            times.append(1000 * (time.perf_counter() - begun - FIRST_TOKEN_SECONDS))
            for _ in pieces:
                pass  # read to the end, so that the connection can be used again
        return times

    question = EMBEDDING_SECONDS + EMBEDDING_SECONDS_PER_INPUT
    calls = {
        "embed the question": timed(lambda: embedder.embed(["notice periods"], "query", Errand()), question),
        "rerank 30": timed(lambda: reranker.rerank("notice", HITS, TermStatistics(0, {}), Errand()), RERANK_SECONDS),
        "first token": timed_first_token(),
    }
    calls["all three"] = [sum(times) for times in zip(*calls.values(), strict=True)]
    rows = [
        {"call": name, "p50_ms": statistics.median(times), "p95_ms": percentile(times, 0.95)}
        for name, times in calls.items()
    ]
    return table(rows, ["call", "p50_ms", "p95_ms"])


def busy(stub: Stub, client: Client) -> str:
    """What becomes of texts when one of ten requests is refused."""
    before = stub.stats()
    arrived: list[int] = []
    bills: list[Spending] = []

    def received(indexes: Sequence[int], _: Vectors) -> None:
        arrived.extend(indexes)

    begun = time.perf_counter()
    OpenRouterEmbedder(client, BUSY).embed(MORE_TEXTS, "document", Errand(bill=bills.append), received)
    wall = time.perf_counter() - begun
    after = stub.stats()
    row = {
        "texts": len(MORE_TEXTS),
        "requests": after["requests"]["embeddings"] - before["requests"]["embeddings"],
        "refused": sum(bill.retries for bill in bills),
        "wall_s": wall,
        "lost": len(MORE_TEXTS) - len(set(arrived)),
        "handed_over_twice": len(arrived) - len(set(arrived)),
        "embedded_twice": after["embedded_again"] - before["embedded_again"],
    }
    return table([row], list(row))


def stops(stub: Stub, client: Client) -> str:
    """Seconds from Stop to the end of the connection, and to the end of the call, amid a server's silence."""
    embedder, reranker = OpenRouterEmbedder(client, SILENT), OpenRouterReranker(client, SILENT)
    chat = OpenRouterChat(client, SILENT)
    calls: dict[str, Callable[[Errand], object]] = {
        "embeddings": lambda errand: embedder.embed(["notice periods"], "query", errand),
        "rerank": lambda errand: reranker.rerank("notice", HITS, TermStatistics(0, {}), errand),
        "chat": lambda errand: list(chat.stream([Turn("user", SOURCE)], errand)),
    }
    rows = []
    for name, call in calls.items():
        closed, ended = [], []
        for _ in range(STOPS):
            asked_at, ended_at = stopped(call)
            ended.append(ended_at - asked_at)
            while len(left_at := stub.stats()["left_at"]) <= len(closed) + STOPS * len(rows):
                time.sleep(0.005)
            closed.append(left_at[-1] - asked_at)
        rows.append({"call": name, "stops": STOPS, "closed_max_s": max(closed), "ended_max_s": max(ended)})
    return table(rows, list(rows[0]))


def stopped(call: Callable[[Errand], object]) -> tuple[float, float]:
    """The moments at which a call was asked to stop, amid the server's silence, and at which it ended."""
    errand, ended_at = Errand(), []

    def run() -> None:
        try:
            call(errand)
        except Stopped:
            ended_at.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(FIRST_TOKEN_SECONDS + 0.1)
    asked_at = time.monotonic()
    errand.stop.set()
    thread.join()
    return asked_at, ended_at[0]


if __name__ == "__main__":
    main()
