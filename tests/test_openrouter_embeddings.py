"""rag.openrouter.embeddings: over real sockets, against the strict server."""

import base64
import json
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import pytest
from pydantic import SecretStr

from rag.errors import BadReply, InputRejected, OutOfCredit, ProviderError, Stopped
from rag.interfaces import Vectors
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.stopping import Stop
from tests.openrouter_server import KEY, Handler, OpenRouterServer, fails, sends, serving, stalls, vector_of


@pytest.fixture
def host() -> Iterator[OpenRouterServer]:
    with serving() as server:
        yield server


@pytest.fixture
def embedder(host: OpenRouterServer) -> Iterator[OpenRouterEmbedder]:
    client = Client(host.url, SecretStr(KEY), backoff=0.0001)
    embedder = OpenRouterEmbedder(client, "maker/model-1")
    yield embedder
    embedder.close()
    client.close()


class Kept:
    """What `received` was told."""

    def __init__(self) -> None:
        self.rows: dict[int, list[float]] = {}
        self.threads: set[int] = set()

    def __call__(self, indexes: Sequence[int], rows: Vectors) -> None:
        self.threads.add(threading.get_ident())
        for index, row in zip(indexes, rows.tolist(), strict=True):
            assert index not in self.rows
            self.rows[index] = row


def expected(texts: Sequence[str]) -> Vectors:
    rows = numpy.array([vector_of(text) for text in texts], dtype=numpy.float32)
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def texts_of(count: int) -> list[str]:
    """Texts of distinct lengths and counts of "a", so that no two vectors are alike."""
    return ["a" * (index % 7) + "b" * index + "c" for index in range(count)]


def sizes(host: OpenRouterServer) -> list[int]:
    return sorted(len(request.body["input"]) for request in host.requests)


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("float_vectors", [False, True])
def test_vectors_are_in_the_order_of_the_texts(
    host: OpenRouterServer, embedder: OpenRouterEmbedder, float_vectors: bool
) -> None:
    """However the server shuffles them, in base64 or as numbers; unit length, float32."""
    host.float_vectors = float_vectors
    texts = texts_of(300)
    vectors = embedder.embed(texts, "document", Stop())
    assert vectors.dtype == numpy.float32
    numpy.testing.assert_allclose(vectors, expected(texts), rtol=1e-6)


def test_the_model_is_named_with_its_kind_of_server(embedder: OpenRouterEmbedder) -> None:
    """Vectors of a local model of the same name are other vectors."""
    assert embedder.model == "openrouter:maker/model-1"


def test_vectors_without_an_index_count_by_position(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """The contract does not promise an index."""
    host.always = sends({"data": [{"embedding": [3.0, 4.0]}, {"embedding": [0.0, 2.0]}]})
    numpy.testing.assert_allclose(embedder.embed(["a", "b"], "query", Stop()), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)


def test_blank_texts_are_not_sent(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """They get a zero row, and `received` does not hear of them."""
    kept = Kept()
    vectors = embedder.embed(["", "aa", " \n\t"], "document", Stop(), kept)
    assert host.requests[0].body["input"] == ["aa"]
    assert not vectors[0].any() and not vectors[2].any() and vectors[1].any()
    assert kept.rows.keys() == {1}


def test_only_blank_texts_ask_nothing(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """No request, no rows of any length."""
    assert embedder.embed(["", " "], "document", Stop()).shape == (2, 0)
    assert embedder.embed([], "document", Stop()).shape == (0, 0)
    assert not host.requests


def test_batches_arrive_in_the_callers_thread(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Each row once, with the index of its text."""
    texts, kept = texts_of(300), Kept()
    vectors = embedder.embed(texts, "document", Stop(), kept)
    assert kept.threads == {threading.get_ident()}
    assert [kept.rows[index] for index in range(300)] == vectors.tolist()


# ---------------------------------------------------------------- what is sent


def test_a_batch_holds_at_most_96_texts(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """And no field that a strict server would refuse."""
    embedder.embed(["short"] * 200, "document", Stop())
    assert sizes(host) == [8, 96, 96]
    assert host.requests[0].body.keys() == {"model", "input", "encoding_format"}


def test_a_batch_holds_at_most_16_000_tokens(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Estimated at four bytes each: ten texts of 1,501 tokens do not fit twice."""
    embedder.embed(["x" * 6000] * 12, "document", Stop())
    assert sizes(host) == [2, 10]


def test_a_text_beyond_a_batch_goes_alone(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """It is for the server to refuse."""
    embedder.embed(["x" * 100_000, "y"], "document", Stop())
    assert sizes(host) == [1, 1]


def test_eight_requests_are_in_flight(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """No reply is needed before the eighth request, and the ninth waits for one."""
    together = threading.Barrier(8, timeout=10)
    most, now, lock = 0, 0, threading.Lock()

    def reply(handler: Handler) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        vectors = [{"embedding": [1.0]} for _ in handler.body["input"]]
        sends({"data": vectors})(handler)

    host.always = reply
    embedder.embed(["x"] * 96 * 16, "document", Stop())
    assert most == 8


def test_a_question_does_not_wait_behind_an_upload(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """While all eight requests of an upload are under way, a question is answered."""
    host.replies.extend([stalls] * 8)
    stop = Stop()

    def upload() -> None:
        with pytest.raises(Stopped):
            embedder.embed(["x"] * 96 * 8, "document", stop)

    thread = threading.Thread(target=upload)
    thread.start()
    host.wait_for_requests(8)
    assert embedder.embed(["question"], "query", Stop()).shape == (1, 3)
    stop.set()
    thread.join()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved(host: OpenRouterServer, embedder: OpenRouterEmbedder, status: int) -> None:
    """Until the server takes it; no vector is lost."""
    texts = texts_of(40)

    def reply(handler: Handler) -> None:
        inputs = handler.body["input"]
        if len(inputs) > 10:
            fails(status, "too many inputs")(handler)
        else:
            sends({"data": [{"embedding": vector_of(text)} for text in inputs]})(handler)

    host.always = reply
    kept = Kept()
    numpy.testing.assert_allclose(embedder.embed(texts, "document", Stop(), kept), expected(texts), rtol=1e-6)
    assert len(kept.rows) == 40
    assert sizes(host) == [10, 10, 10, 10, 20, 20, 40]


def test_the_size_that_was_accepted_is_kept(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Only the requests that were under way when the first was refused are refused as well."""
    host.max_inputs = 10
    embedder.embed(texts_of(2000), "document", Stop())
    assert sum(size > 10 for size in sizes(host)) <= 8 + 16 + 32 + 64
    assert sum(size for size in sizes(host) if size <= 10) == 2000


def test_a_single_refused_text_is_said(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Halving ends there."""
    host.always = fails(400, "input is longer than 8192 tokens")
    with pytest.raises(InputRejected, match="longer than 8192 tokens"):
        embedder.embed(["a", "b", "c", "d"], "document", Stop())


def test_what_was_under_way_is_kept_when_a_batch_fails(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Paid-for vectors reach `received`, no further batch is sent, then the failure is raised."""
    refused = threading.Event()

    def reply(handler: Handler) -> None:
        inputs = handler.body["input"]
        if inputs[0] == "poor":
            host.wait_for_requests(8)
            fails(402)(handler)
            refused.set()
        else:
            refused.wait(10)
            sends({"data": [{"embedding": vector_of(text)} for text in inputs]})(handler)

    host.always = reply
    kept = Kept()
    texts = ["rich"] * 96 + ["poor"] * 96 + ["rich"] * 96 * 38
    with pytest.raises(OutOfCredit):
        embedder.embed(texts, "document", Stop(), kept)
    assert set(range(96)) | set(range(192, 96 * 8)) <= kept.rows.keys()
    assert not kept.rows.keys() & set(range(96, 192))
    assert len(kept.rows) == 96 * (len(host.requests) - 1)
    assert len(host.requests) < 40


def test_a_stop_ends_it_and_keeps_what_arrived(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """All requests under way are cut."""
    host.replies.append(sends({"data": [{"embedding": [1.0]} for _ in range(96)]}))
    host.always = stalls
    stop, kept = Stop(), Kept()

    def received(indexes: Sequence[int], rows: Vectors) -> None:
        kept(indexes, rows)
        stop.set()

    with pytest.raises(Stopped):
        embedder.embed(["x"] * 96 * 4, "document", stop, received)
    assert len(kept.rows) == 96


def packed(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


GOOD = {"index": 0, "embedding": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ([], "0 vectors for 2 texts"),
        (None, "0 vectors for 2 texts"),
        ("rows", "0 vectors for 2 texts"),
        ([GOOD], "1 vectors for 2 texts"),
        ([GOOD, None], "1 vectors for 2 texts"),
        ([GOOD, GOOD], "cannot be told apart"),
        ([GOOD, {"index": 2, "embedding": [1.0, 2.0]}], "cannot be told apart"),
        ([GOOD, {"embedding": [1.0, 2.0]}], "cannot be told apart"),
        ([GOOD, {"index": "1", "embedding": [1.0, 2.0]}], "cannot be told apart"),
        ([GOOD, {"index": True, "embedding": [1.0, 2.0]}], "cannot be told apart"),
        ([GOOD, {"index": 1, "embedding": [1.0]}], "different lengths"),
        ([GOOD, {"index": 1, "embedding": []}], "different lengths"),
        ([GOOD, {"index": 1, "embedding": [0.0, 0.0]}], "zeros"),
        ([GOOD, {"index": 1, "embedding": [1.0, float("nan")]}], "no numbers"),
        ([GOOD, {"index": 1, "embedding": packed(1.0, float("inf"))}], "no numbers"),
        ([GOOD, {"index": 1, "embedding": [1e300, 1e300]}], "no numbers"),
        ([GOOD, {"index": 1, "embedding": ["1", "2"]}], "cannot be read"),
        ([GOOD, {"index": 1, "embedding": [[1.0], [2.0]]}], "cannot be read"),
        ([GOOD, {"index": 1, "embedding": [10**400, 1]}], "cannot be read"),
        ([GOOD, {"index": 1, "embedding": None}], "cannot be read"),
        ([GOOD, {"index": 1, "embedding": "AAAA"}], "cannot be read"),
        ([GOOD, {"index": 1, "embedding": "no base64!"}], "cannot be read"),
        ([GOOD, {"index": 1}], "cannot be read"),
        ([{"index": 0, "embedding": []}, {"index": 1, "embedding": []}], "zeros"),
    ],
)
def test_vectors_of_a_wrong_shape_are_refused(
    host: OpenRouterServer, embedder: OpenRouterEmbedder, data: Any, what: str
) -> None:
    """With a sentence that names the model and its setting; nothing of it is kept."""
    host.always = sends(json.dumps({"data": data}).encode())
    kept = Kept()
    with pytest.raises(BadReply) as caught:
        embedder.embed(["a", "b"], "document", Stop(), kept)
    assert what in str(caught.value)
    assert "maker/model-1" in str(caught.value) and "FOOTNOTE_EMBEDDING_MODEL" in str(caught.value)
    assert not kept.rows


def test_batches_of_different_dimensions_are_refused(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """A router may not change the model between two batches."""

    def reply(handler: Handler) -> None:
        inputs = handler.body["input"]
        sends({"data": [{"embedding": [1.0] * (2 if len(inputs) == 96 else 3)} for _ in inputs]})(handler)

    host.always = reply
    with pytest.raises(BadReply, match="different lengths"):
        embedder.embed(["x"] * 100, "document", Stop())


def test_a_refused_key_sends_one_request_for_a_batch(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Neither retried nor halved."""
    host.always = fails(401)
    with pytest.raises(ProviderError):
        embedder.embed(["a", "b"], "document", Stop())
    assert len(host.requests) == 1
