"""Embeddings: texts in, unit-length vectors out, in batches of which several are on their way at once."""

import base64
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from rag.errors import BadReply, FootnoteError, InputRejected
from rag.interfaces import Vectors
from rag.openrouter.client import INGEST_PATIENCE, QUESTION_PATIENCE, Call, Client
from rag.openrouter.failures import Purpose
from rag.openrouter.usage import whole
from rag.stopping import Stop

_BATCH_TEXTS = 96
_BATCH_TOKENS = 16_000
_BYTES_PER_TOKEN = 4  # of UTF-8: right for English, and close for scripts of two or three bytes a character
_IN_FLIGHT = 8
_TOO_MUCH = (400, 413, 422)  # what servers answer to too many texts, too many tokens or too many bytes at once

Received = Callable[[Sequence[int], Vectors], None]


class OpenRouterEmbedder:
    """An embedding model behind OpenRouter or a compatible server (an `Embedder`). Threads may share it."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        # Two pools, so that a question never queues behind an upload.
        self._pools = {
            purpose: ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix=f"footnote-embed-{purpose}")
            for purpose in ("query", "document")
        }

    @property
    def model(self) -> str:
        """The identity recorded with every vector."""
        return f"openrouter:{self._model}"

    def close(self) -> None:
        """End the threads; what is on its way is awaited."""
        for pool in self._pools.values():
            pool.shutdown()

    def embed(
        self,
        texts: Sequence[str],
        purpose: Literal["query", "document"],
        stop: Stop,
        received: Received | None = None,
    ) -> Vectors:
        """One unit-length vector per text, in order; blank texts are not sent and get a zero row.

        Shape (texts, dimension), with dimension 0 when every text is blank. When a batch fails, those on their way
        are still handed to `received`, no further ones are sent, and the first failure is raised: ProviderError,
        Stopped.
        """
        patience = QUESTION_PATIENCE if purpose == "query" else INGEST_PATIENCE
        rows: Vectors = numpy.zeros((len(texts), 0), dtype=numpy.float32)
        waiting = deque(_batches(texts))
        flying: dict[Future[Vectors], list[int]] = {}
        failure: FootnoteError | None = None
        most = _BATCH_TEXTS
        while flying or (waiting and not failure):
            while waiting and not failure and len(flying) < _IN_FLIGHT:
                batch = waiting.popleft()
                if len(batch) > most:
                    waiting.appendleft(batch[most:])
                    batch = batch[:most]
                batch_texts = [texts[index] for index in batch]
                flying[self._pools[purpose].submit(self._request, batch_texts, patience, stop)] = batch
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                batch = flying.pop(future)
                try:
                    vectors = future.result()
                    if not rows.shape[1]:
                        rows = numpy.zeros((len(texts), vectors.shape[1]), dtype=numpy.float32)
                    if vectors.shape[1] != rows.shape[1]:
                        raise self._unusable("vectors of different lengths")
                except FootnoteError as error:
                    if len(batch) > 1 and isinstance(error, InputRejected) and error.status in _TOO_MUCH:
                        most = min(most, len(batch) // 2)
                        waiting.appendleft(batch)
                    else:
                        failure = failure or error
                    continue
                rows[batch] = vectors
                if received:
                    received(batch, vectors)
        if failure:
            raise failure
        return rows

    def _request(self, texts: Sequence[str], patience: float, stop: Stop) -> Vectors:
        call = Call(
            path="/embeddings",
            body={"model": self._model, "input": texts, "encoding_format": "base64"},
            purpose=Purpose("embedding", self._model, "FOOTNOTE_EMBEDDING_MODEL"),
            patience=patience,
        )
        return self._client.post(call, stop, lambda reply: self._vectors(reply, len(texts)))

    def _vectors(self, reply: Mapping[str, Any], count: int) -> Vectors:
        """The reply's vectors in the order of the texts: by `index` where it is given, else by position."""
        data = reply.get("data")
        items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        if len(items) != count:
            raise self._unusable(f"{len(items)} vectors for {count} texts")
        indexes = [item.get("index") for item in items]
        if indexes.count(None) == count:
            indexes = list(range(count))
        order = [index for index in map(whole, indexes) if index is not None]
        if sorted(order) != list(range(count)):
            raise self._unusable("vectors that cannot be told apart")
        vectors = [self._vector(item.get("embedding")) for item in items]
        if len({vector.size for vector in vectors}) > 1:
            raise self._unusable("vectors of different lengths")
        matrix = numpy.empty((count, vectors[0].size), dtype=numpy.float64)
        matrix[order] = vectors
        with numpy.errstate(over="ignore", invalid="ignore"):
            lengths = numpy.linalg.norm(matrix, axis=1, keepdims=True)
        if not (numpy.isfinite(lengths).all() and lengths.all()):
            raise self._unusable("vectors of zeros or of values that are no numbers")
        unit: Vectors = (matrix / lengths).astype(numpy.float32)
        return unit

    def _vector(self, embedding: object) -> NDArray[Any]:
        """One vector: little-endian float32 in base64, or a list of numbers from providers that ignore the format."""
        try:
            if isinstance(embedding, str):
                return numpy.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
            if isinstance(embedding, list) and set(map(type, embedding)) <= {int, float}:
                return numpy.array(embedding, dtype=numpy.float64)
        except (ValueError, OverflowError) as error:
            raise self._unusable("a vector that cannot be read") from error
        raise self._unusable("a vector that cannot be read")

    def _unusable(self, what: str) -> BadReply:
        return BadReply(
            f"The embedding model {self._model} at {self._client.host} returned {what}. "
            "Check FOOTNOTE_EMBEDDING_MODEL.",
            status=200,
        )


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Indexes of the texts that are not blank, in order, in batches that every known provider accepts."""
    batch: list[int] = []
    tokens = 0
    for index, text in enumerate(texts):
        if not text.strip():
            continue
        size = len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN + 1
        if batch and (len(batch) == _BATCH_TEXTS or tokens + size > _BATCH_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += size
    if batch:
        yield batch
