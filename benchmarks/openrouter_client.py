"""What the client for OpenRouter adds to the server's own time: embedding throughput, CPU, and a question's calls.

    PYTHONPATH=. python benchmarks/openrouter_client.py

Against the stub with its fixed latencies. The ideal for embeddings is eight requests in flight without a gap.
"""

import math
import statistics
import time
from collections.abc import Callable

from measuring import Stub, percentile, table
from pydantic import SecretStr
from stub_openrouter import (
    EMBEDDING_SECONDS,
    EMBEDDING_SECONDS_PER_INPUT,
    FIRST_TOKEN_SECONDS,
    RERANK_SECONDS,
)

from rag.domain import Chunk, Hit, TermStatistics, Turn
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.rerank import OpenRouterReranker
from rag.stopping import Stop

TEXTS = [f"Passage {number} " + "on fees, terms and notice periods of the agreement. " * 24 for number in range(6000)]
IN_FLIGHT = 8


def main() -> None:
    with Stub() as stub:
        client = Client(f"{stub.base}/api/v1", SecretStr("stub-key"))
        embedder = OpenRouterEmbedder(client, "stub/embed")
        embedder.embed(TEXTS[:800], "document", Stop())
        print(throughput(stub, embedder))
        print(overhead(client, embedder))
        embedder.close()
        client.close()


def throughput(stub: Stub, embedder: OpenRouterEmbedder) -> str:
    """Wall clock and CPU of embedding all texts, beside the ideal."""
    before = stub.stats()["requests"]["embeddings"]
    begun, used = time.perf_counter(), time.process_time()
    embedder.embed(TEXTS, "document", Stop())
    wall, used = time.perf_counter() - begun, time.process_time() - used
    requests = stub.stats()["requests"]["embeddings"] - before
    per_request = EMBEDDING_SECONDS + EMBEDDING_SECONDS_PER_INPUT * len(TEXTS) / requests
    ideal = math.ceil(requests / IN_FLIGHT) * per_request
    row = {"texts": len(TEXTS), "requests": requests, "wall_s": wall, "ideal_s": ideal, "ratio": wall / ideal}
    row["cpu_s_per_1000"] = used / len(TEXTS) * 1000
    return table([row], list(row))


def overhead(client: Client, embedder: OpenRouterEmbedder) -> str:
    """Milliseconds that each call of a question takes beyond the stub's own latency."""
    chunk = Chunk("c", "d", "v", 0, TEXTS[0], 1, 1, ("Fees",), ())
    hits = [Hit(chunk=chunk, document="agreement.pdf")] * 30
    reranker, chat = OpenRouterReranker(client, "stub/rerank"), OpenRouterChat(client, "stub/chat")
    source = f'<source number=1 document="agreement">\n{TEXTS[0]}\n</source>\n\nQuestion: notice periods'

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
            pieces = chat.stream([Turn("user", source)], Stop())
            begun = time.perf_counter()
            next(pieces)
            times.append(1000 * (time.perf_counter() - begun - FIRST_TOKEN_SECONDS))
            for _ in pieces:
                pass  # read to the end, so that the connection can be used again
        return times

    question = EMBEDDING_SECONDS + EMBEDDING_SECONDS_PER_INPUT
    calls = {
        "embed the question": timed(lambda: embedder.embed(["notice periods"], "query", Stop()), question),
        "rerank 30": timed(lambda: reranker.rerank("notice", hits, TermStatistics(0, {}), Stop()), RERANK_SECONDS),
        "first token": timed_first_token(),
    }
    rows = [
        {"call": name, "p50_ms": statistics.median(times), "p95_ms": percentile(times, 0.95)}
        for name, times in calls.items()
    ]
    return table(rows, ["call", "p50_ms", "p95_ms"])


if __name__ == "__main__":
    main()
