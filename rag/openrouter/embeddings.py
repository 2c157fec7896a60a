"""Embeddings: texts and pictures in, unit-length vectors out, in batches of which several are on their way at once."""

import base64
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from rag.domain import Failure
from rag.errors import BadReply, InputRejected
from rag.interfaces import Errand, Illustrated, Input, Vectors
from rag.openrouter import pictures
from rag.openrouter.client import INGEST_PATIENCE, QUESTION_PATIENCE, Call, Client
from rag.openrouter.failures import Purpose, TooLong
from rag.openrouter.input_types import input_type
from rag.openrouter.limiter import MOST_IN_FLIGHT
from rag.openrouter.routing import ANY_PROVIDER, Routing, as_provider
from rag.openrouter.usage import estimated_tokens, shortened, whole

_BATCH_INPUTS = 96
_BATCH_TOKENS = 16_000
_BATCH_PICTURES = 8
_BATCH_PICTURE_BYTES = 4 * 1024 * 1024
_TOO_MUCH = (400, 413, 422, 500)  # what servers answer to too many texts, too many tokens or too many bytes at once
_NO_BASE64 = (400, 422)
_SHORTEST_CUT = 200  # characters; a server that refuses so little as too long means something else

Received = Callable[[Sequence[int], Vectors], None]

logger = logging.getLogger(__name__)


def identity(model: str, dimensions: int | None) -> str:
    """The name recorded with vectors of a server's model, at this length (None: the model's own)."""
    return f"openrouter:{model}@{dimensions}" if dimensions else f"openrouter:{model}"


class OpenRouterEmbedder:
    """An embedding model behind OpenRouter or a compatible server (an `Embedder`). Threads may share it.

    `dimensions` asks for shorter vectors than the model's own, where it can make them. Texts that may be longer than
    `context` tokens are cut before they are sent.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        dimensions: int | None = None,
        routing: Routing = ANY_PROVIDER,
        context: int | None = None,
        takes_images: bool = False,
    ) -> None:
        self._client = client
        self._model = model
        self._dimensions = dimensions
        self._routing = routing
        self._context = context
        self._takes_images = takes_images
        self._purpose = Purpose("embedding", model, "FOOTNOTE_EMBEDDING_MODEL")
        self._base64: bool | None = None  # whether the server takes `encoding_format`; None while that is not known
        self._suspected = False  # whether a refusal was put down to it before

    @property
    def model(self) -> str:
        """The identity recorded with every vector: shorter vectors are other vectors."""
        return identity(self._model, self._dimensions)

    @property
    def takes_images(self) -> bool:
        """Whether it can embed pictures."""
        return self._takes_images

    def embed(
        self,
        inputs: Sequence[Input],
        purpose: Literal["query", "document"],
        errand: Errand,
        received: Received | None = None,
    ) -> Vectors:
        """One unit-length vector per input, in order; blank texts are not sent and get a zero row.

        Shape (inputs, dimension), with dimension 0 when every text is blank. When a batch fails, or `received` does,
        batches on their way are still handed to `received`, no further ones are sent, and the first failure is raised:
        ProviderError, Stopped, or what `received` raised.
        """
        inputs = list(self._fitting(inputs))
        rows: Vectors = numpy.zeros((len(inputs), 0), dtype=numpy.float32)
        waiting = deque(_batches(inputs))
        flying: dict[Future[Vectors], list[int]] = {}
        failure: Exception | None = None
        most, probing = _BATCH_INPUTS, False
        with ThreadPoolExecutor(MOST_IN_FLIGHT, thread_name_prefix="footnote-embed") as threads:
            while flying or (waiting and not failure):
                # Once a batch was refused for what it holds, one smaller batch finds out what the server takes.
                while waiting and not failure and len(flying) < (1 if probing else MOST_IN_FLIGHT):
                    batch = waiting.popleft()
                    if len(batch) > most:
                        waiting.appendleft(batch[most:])
                        batch = batch[:most]
                    flying[threads.submit(self._request, [inputs[index] for index in batch], purpose, errand)] = batch
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    batch = flying.pop(future)
                    try:
                        vectors = future.result()
                        if not rows.shape[1]:
                            rows = numpy.zeros((len(inputs), self._dimensions or vectors.shape[1]), numpy.float32)
                        self._check_length(vectors.shape[1], rows.shape[1])
                    except Exception as error:  # raised again once everything on its way has arrived
                        if len(batch) > 1 and isinstance(error, InputRejected) and error.status in _TOO_MUCH:
                            most, probing = min(most, len(batch) // 2), True
                            waiting.appendleft(batch)
                        elif isinstance(error, TooLong) and (half := _half(inputs[batch[0]])) is not None:
                            # How much the model reads was not known; the beginning of a text finds it better than none.
                            logger.warning("A text was cut to half: it was longer than the model takes")
                            inputs[batch[0]] = half
                            waiting.appendleft(batch)
                        else:
                            failure = failure or error
                        continue
                    probing = False
                    rows[batch] = vectors
                    try:
                        if received:
                            received(batch, vectors)
                    except Exception as error:  # what is paid for and on its way is still handed over
                        failure = failure or error
        if failure:
            raise failure
        return rows

    def _fitting(self, inputs: Sequence[Input]) -> Sequence[Input]:
        """The inputs, cut to the model's context."""
        if not self._takes_images and any(isinstance(one, Illustrated) for one in inputs):
            raise InputRejected(
                f"The embedding model {self._model} takes no pictures: choose one that does in Settings → Models.",
                failure=Failure(None, "", "", "", "models"),
            )
        if self._context is None:
            return inputs
        fitting = [_shortened(one, self._context) for one in inputs]
        if cut := sum(one is not other for one, other in zip(inputs, fitting, strict=True)):
            logger.warning("%d of %d texts were cut to the %d tokens of the model", cut, len(inputs), self._context)
        return fitting

    def _request(self, inputs: Sequence[Input], purpose: Literal["query", "document"], errand: Errand) -> Vectors:
        """The vectors of one batch: asked for in base64, which is a quarter of the size, unless the server refuses."""
        if self._base64 is False:
            return self._posted(inputs, purpose, errand, {})
        try:
            vectors = self._posted(inputs, purpose, errand, {"encoding_format": "base64"})
        except InputRejected as refusal:
            if not self._may_be_the_format(refusal):
                raise
            vectors = self._posted(inputs, purpose, errand, {})
            self._base64 = False
        else:
            self._base64 = True
        return vectors

    def _may_be_the_format(self, refusal: InputRejected) -> bool:
        """Whether the server may have refused the format: it says so, or none was put down to it yet."""
        if self._base64 or refusal.status not in _NO_BASE64:
            return False
        suspected, self._suspected = self._suspected, True
        return not suspected or "encoding" in refusal.failure.said or "base64" in refusal.failure.said

    def _posted(
        self, inputs: Sequence[Input], purpose: Literal["query", "document"], errand: Errand, form: Mapping[str, str]
    ) -> Vectors:
        body: dict[str, Any] = {"model": self._model, "input": [_as_sent(one) for one in inputs], **form}
        if self._dimensions:
            body["dimensions"] = self._dimensions
        if kind := input_type(self._model, purpose):
            body["input_type"] = kind
        if provider := as_provider(self._routing):
            body["provider"] = provider
        call = Call(
            path="/embeddings",
            body=body,
            purpose=self._purpose,
            patience=QUESTION_PATIENCE if purpose == "query" else INGEST_PATIENCE,
            prompt_tokens=sum(map(_tokens, inputs)),
            batch=purpose == "document",
        )
        return self._client.post(call, errand, lambda reply: self._vectors(reply, len(inputs)))

    def _vectors(self, reply: Mapping[str, Any], count: int) -> Vectors:
        """The reply's vectors in the order of the inputs: by `index` where it is given, else by position."""
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

    def _check_length(self, length: int, expected: int) -> None:
        if length != expected and self._dimensions:
            raise self._unusable(f"vectors of {length} numbers where {self._dimensions} were asked for")
        if length != expected:
            raise self._unusable("vectors of different lengths")

    def _unusable(self, what: str) -> BadReply:
        return BadReply(
            f"The embedding model {self._model} at {self._client.host} returned {what}: "
            "choose another in Settings → Models (FOOTNOTE_EMBEDDING_MODEL).",
            failure=Failure(200, "", "", "", "models"),
        )


def _shortened(one: Input, context: int) -> Input:
    if isinstance(one, str):
        return shortened(one, context)
    text = shortened(one.text, max(0, context - pictures.TOKENS))
    return one if text is one.text else Illustrated(text, one.image)


def _half(one: Input) -> Input | None:
    """The first half of an input's text; None when there is not much left of it."""
    text = one if isinstance(one, str) else one.text
    if len(text) < _SHORTEST_CUT:
        return None
    half = text[: len(text) // 2]
    return half if isinstance(one, str) else Illustrated(half, one.image)


def _tokens(one: Input) -> int:
    if isinstance(one, str):
        return int(estimated_tokens(one)) + 1
    return int(estimated_tokens(one.text)) + pictures.TOKENS


def _as_sent(one: Input) -> str | dict[str, Any]:
    if isinstance(one, str):
        return one
    picture = {"type": "image_url", "image_url": {"url": pictures.data_uri(one.image)}}
    text = [{"type": "text", "text": one.text}] if one.text.strip() else []
    return {"content": [*text, picture]}


def _batches(inputs: Sequence[Input]) -> Iterator[list[int]]:
    """Indexes of the inputs that are not blank, in batches that providers accept; pictures by themselves."""
    texts, illustrated = _Batch(_BATCH_INPUTS, _BATCH_TOKENS), _Batch(_BATCH_PICTURES, _BATCH_PICTURE_BYTES)
    for index, one in enumerate(inputs):
        if isinstance(one, Illustrated):
            full = illustrated.add(index, len(one.image.data))
        else:
            full = texts.add(index, _tokens(one)) if one.strip() else None
        if full:
            yield full
    yield from filter(None, (texts.indexes, illustrated.indexes))


class _Batch:
    """A batch that fills up: at most so many inputs, of so many tokens or bytes (a single one may be larger)."""

    def __init__(self, most: int, most_size: int) -> None:
        self._most = most
        self._most_size = most_size
        self._size = 0
        self.indexes: list[int] = []

    def add(self, index: int, size: int) -> list[int] | None:
        """Take an input in; gives the batch before it when that is full, and then begins the next."""
        full = None
        if self.indexes and (len(self.indexes) == self._most or self._size + size > self._most_size):
            full, self.indexes, self._size = self.indexes, [], 0
        self.indexes.append(index)
        self._size += size
        return full
