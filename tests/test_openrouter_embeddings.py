"""rag.openrouter.embeddings: over real sockets, against the strict server."""

import base64
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import pytest
from pydantic import SecretStr

from rag.domain import Image, Spending, Usage
from rag.errors import BadReply, InputRejected, OutOfCredit, ProviderError, Stopped
from rag.interfaces import Errand, Illustrated, Vectors
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.routing import Routing
from rag.stopping import Stop
from tests.openrouter_faults import limits
from tests.openrouter_server import KEY, Handler, OpenRouterServer, fails, regular, sends, stalls, vector_of

Build = Callable[..., OpenRouterEmbedder]


@pytest.fixture
def build(host: OpenRouterServer) -> Iterator[Build]:
    """Embedders of the server, whose connections are closed at the end."""
    clients: list[Client] = []

    def built(model: str = "maker/model-1", **options: Any) -> OpenRouterEmbedder:
        clients.append(Client(host.url, SecretStr(KEY), backoff=0.0001))
        return OpenRouterEmbedder(clients[-1], model, **options)

    yield built
    for client in clients:
        client.close()


@pytest.fixture
def embedder(build: Build) -> OpenRouterEmbedder:
    return build()


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
    vectors = embedder.embed(texts, "document", Errand())
    assert vectors.dtype == numpy.float32
    numpy.testing.assert_allclose(vectors, expected(texts), rtol=1e-6)


def test_the_model_is_named_with_its_kind_of_server(embedder: OpenRouterEmbedder) -> None:
    """Vectors of a local model of the same name are other vectors."""
    assert embedder.model == "openrouter:maker/model-1"


def test_vectors_without_an_index_count_by_position(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """The contract does not promise an index."""
    host.always = sends({"data": [{"embedding": [3.0, 4.0]}, {"embedding": [0.0, 2.0]}]})
    numpy.testing.assert_allclose(embedder.embed(["a", "b"], "query", Errand()), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)


def test_blank_texts_are_not_sent(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """They get a zero row, and `received` does not hear of them."""
    kept = Kept()
    vectors = embedder.embed(["", "aa", " \n\t"], "document", Errand(), kept)
    assert host.requests[0].body["input"] == ["aa"]
    assert not vectors[0].any() and not vectors[2].any() and vectors[1].any()
    assert kept.rows.keys() == {1}


def test_only_blank_texts_ask_nothing(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """No request, no rows of any length."""
    assert embedder.embed(["", " "], "document", Errand()).shape == (2, 0)
    assert embedder.embed([], "document", Errand()).shape == (0, 0)
    assert not host.requests


def test_batches_arrive_in_the_callers_thread(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Each row once, with the index of its text."""
    texts, kept = texts_of(300), Kept()
    vectors = embedder.embed(texts, "document", Errand(), kept)
    assert kept.threads == {threading.get_ident()}
    assert [kept.rows[index] for index in range(300)] == vectors.tolist()


# ---------------------------------------------------------------- what is sent


def test_a_batch_holds_at_most_96_texts(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """And no field that a strict server would refuse."""
    embedder.embed(["short"] * 200, "document", Errand())
    assert sizes(host) == [8, 96, 96]
    assert host.requests[0].body.keys() == {"model", "input", "encoding_format"}


def test_a_batch_holds_at_most_16_000_tokens(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Estimated at four bytes each: ten texts of 1,501 tokens do not fit twice."""
    embedder.embed(["x" * 6000] * 12, "document", Errand())
    assert sizes(host) == [2, 10]


def test_a_text_beyond_a_batch_goes_alone(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """It is for the server to refuse."""
    embedder.embed(["x" * 100_000, "y"], "document", Errand())
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
    embedder.embed(["x"] * 96 * 16, "document", Errand())
    assert most == 8


def test_a_question_does_not_wait_behind_an_upload(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """While all eight requests of an upload are under way, a question is answered."""
    host.replies.extend([stalls] * 8)
    stop = Stop()

    def upload() -> None:
        with pytest.raises(Stopped):
            embedder.embed(["x"] * 96 * 8, "document", Errand(stop))

    thread = threading.Thread(target=upload)
    thread.start()
    host.wait_for_requests(8)
    assert embedder.embed(["question"], "query", Errand()).shape == (1, 3)
    stop.set()
    thread.join()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved(host: OpenRouterServer, embedder: OpenRouterEmbedder, status: int) -> None:
    """Until the server takes it; no vector is lost. (The first refusal is first put down to the format.)"""
    texts = texts_of(40)

    def reply(handler: Handler) -> None:
        inputs = handler.body["input"]
        if len(inputs) > 10:
            fails(status, "too many inputs")(handler)
        else:
            sends({"data": [{"embedding": vector_of(text)} for text in inputs]})(handler)

    host.always = reply
    kept = Kept()
    numpy.testing.assert_allclose(embedder.embed(texts, "document", Errand(), kept), expected(texts), rtol=1e-6)
    assert len(kept.rows) == 40
    assert sizes(host) == [10, 10, 10, 10, 20, 40] if status == 413 else [10, 10, 10, 10, 20, 40, 40]


def test_the_size_that_was_accepted_is_kept(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Of what was under way when the first was refused, one batch finds out how much the server takes."""
    host.max_inputs = 10
    embedder.embed(texts_of(2000), "document", Errand())
    refused = [size for size in sizes(host) if size > 10]
    assert len(refused) <= 8 + 8 + 4  # at first, once more without the format, then about 48, 24 and 12
    assert sum(size for size in sizes(host) if size <= 10) == 2000


def test_a_text_that_is_too_long_is_found_by_its_beginning(
    host: OpenRouterServer, embedder: OpenRouterEmbedder
) -> None:
    """Where nobody tells how much a model reads, what it refuses is cut until it fits; its neighbours stay whole."""

    def short_of_breath(handler: Handler) -> None:
        if max(map(len, handler.body["input"])) > 600:
            message = "input (3002 tokens) is too large to process. increase the physical batch size"
            fails(500, message)(handler)
        else:
            regular(handler)

    host.always = short_of_breath
    texts = ["a short one", "long " * 400, "another"]
    rows = embedder.embed(texts, "document", Errand())
    numpy.testing.assert_allclose(rows, expected([texts[0], texts[1][:500], texts[2]]), atol=1e-6)


def test_a_request_that_is_always_refused_is_not_halved_for_ever(
    host: OpenRouterServer, embedder: OpenRouterEmbedder
) -> None:
    """One batch goes down to a single text, the others are left; what the server said is in the details."""
    host.always = fails(400, "dimensions are not supported")
    with pytest.raises(InputRejected) as caught:
        embedder.embed(["x"] * 96 * 40, "document", Errand())
    assert caught.value.failure.said == "dimensions are not supported"
    assert len(host.requests) <= 8 + 8 + 6  # all that were sent at first, once more without the format, and 48 to 1


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
        embedder.embed(texts, "document", Errand(), kept)
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
        embedder.embed(["x"] * 96 * 4, "document", Errand(stop), received)
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
        embedder.embed(["a", "b"], "document", Errand(), kept)
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
        embedder.embed(["x"] * 100, "document", Errand())


def test_a_refused_key_sends_one_request_for_a_batch(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Neither retried nor halved."""
    host.always = fails(401)
    with pytest.raises(ProviderError):
        embedder.embed(["a", "b"], "document", Errand())
    assert len(host.requests) == 1


@pytest.mark.parametrize("words", ["unknown field: encoding_format", "base64 is not supported", "Bad Request"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_without_base64_is_asked_for_numbers(
    host: OpenRouterServer, embedder: OpenRouterEmbedder, status: int, words: str
) -> None:
    """From then on at once, and with whole batches; whether it names the reason or not."""

    def reply(handler: Handler) -> None:
        (fails(status, words) if "encoding_format" in handler.body else regular)(handler)

    host.always = reply
    texts = texts_of(300)
    numpy.testing.assert_allclose(embedder.embed(texts[:2], "query", Errand()), expected(texts[:2]), rtol=1e-6)
    numpy.testing.assert_allclose(embedder.embed(texts, "document", Errand()), expected(texts), rtol=1e-6)
    assert ["encoding_format" in request.body for request in host.requests].count(True) == 1
    assert sizes(host) == [2, 2, 12, 96, 96, 96]


def test_a_server_that_took_base64_is_not_suspected(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """A later refusal has another reason."""
    embedder.embed(["a"], "query", Errand())
    host.always = fails(400, "Bad Request")
    with pytest.raises(InputRejected):
        embedder.embed(["a"], "query", Errand())
    assert len(host.requests) == 2


def test_a_failing_receiver_loses_no_other_vectors(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """Batches on their way are still handed over, no further ones are sent, then its error is raised."""
    all_sent = threading.Barrier(8, timeout=10)
    host.always = lambda handler: (all_sent.wait(), regular(handler))[1]
    kept: list[int] = []

    def received(indexes: Sequence[int], rows: Vectors) -> None:
        kept.extend(indexes)
        if len(kept) == 96:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        embedder.embed(["x"] * 96 * 20, "document", Errand(), received)
    assert len(kept) == len(set(kept)) == 96 * len(host.requests) == 96 * 8


# ---------------------------------------------------------------- options


def test_shorter_vectors_are_asked_for_and_are_other_vectors(host: OpenRouterServer, build: Build) -> None:
    """The length is part of the identity."""
    embedder = build(dimensions=2)
    assert embedder.embed(["aa"], "document", Errand()).shape == (1, 2)
    assert host.requests[0].body["dimensions"] == 2
    assert embedder.model == "openrouter:maker/model-1@2"


def test_vectors_of_another_length_than_asked_for_are_refused(host: OpenRouterServer, build: Build) -> None:
    """A server may ignore what it was asked; asking again would cost as much and change nothing."""
    host.always = sends({"data": [{"embedding": [1.0, 2.0, 3.0]}]})
    kept = Kept()
    with pytest.raises(BadReply, match="vectors of 3 numbers where 2 were asked for"):
        build(dimensions=2).embed(["a"], "document", Errand(), kept)
    assert len(host.requests) == 1 and not kept.rows


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("cohere/embed-v4.0", "search_query", "search_document"),
        ("voyage/voyage-3.5", "query", "document"),
        ("voyageai/voyage-3-large", "query", "document"),
        ("nvidia/llama-nemotron-embed-vl-1b-v2:free", "query", "passage"),
        ("nvidia/nv-embedqa-e5-v5", "query", "passage"),
        ("openai/text-embedding-3-small", None, None),
        ("maker/model-1", None, None),
    ],
)
def test_models_that_tell_questions_from_passages_are_told(
    host: OpenRouterServer, model: str, query: str | None, document: str | None, build: Build
) -> None:
    """In their own words; other models might refuse the field."""
    embedder = build(model)
    host.always = sends({"data": [{"embedding": [1.0]}]})
    embedder.embed(["x"], "query", Errand())
    embedder.embed(["x"], "document", Errand())
    assert [request.body.get("input_type") for request in host.requests] == [query, document]


def test_preferences_and_the_session_go_along(host: OpenRouterServer, build: Build) -> None:
    """The provider object only where something is preferred."""
    build().embed(["x"], "query", Errand(session="document-1"))
    build(routing=Routing(only=("azure",), zdr=True)).embed(["x"], "query", Errand())
    assert "provider" not in host.requests[0].body
    assert host.requests[0].headers["x-session-id"] == "document-1"
    assert host.requests[1].body["provider"] == {"only": ["azure"], "zdr": True}


def test_texts_beyond_the_context_are_cut(
    host: OpenRouterServer, caplog: pytest.LogCaptureFixture, build: Build
) -> None:
    """To three bytes for each of its tokens, between characters; the log counts them and holds no text."""
    embedder = build(context=10)
    with caplog.at_level("WARNING"):
        embedder.embed(["short", "secret " * 10, "ä" * 40, "x" * 30], "document", Errand())
    assert host.requests[0].body["input"] == ["short", ("secret " * 10)[:30], "ä" * 15, "x" * 30]
    assert "2 of 4 texts" in caplog.text and "secret" not in caplog.text


# ---------------------------------------------------------------- pictures


def illustrated(text: str, size: int = 3) -> Illustrated:
    return Illustrated(text, Image("image/png", b"\x89PNG"[:size] + bytes(max(0, size - 4))))


def test_a_picture_goes_with_its_text(host: OpenRouterServer, build: Build) -> None:
    """As parts, the picture within the request; vectors are in the order of the inputs."""
    embedder = build(takes_images=True)
    vectors = embedder.embed([illustrated("aa"), "plain", illustrated("  ")], "document", Errand())
    rows = numpy.array([vector_of("aa", [b"123"]), vector_of("plain"), vector_of("", [b"123"])], dtype=numpy.float32)
    numpy.testing.assert_allclose(vectors, rows / numpy.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    bodies = [request.body["input"] for request in host.requests]
    assert sorted(bodies, key=len) == [
        ["plain"],
        [{"content": [{"type": "text", "text": "aa"}, picture]}, {"content": [picture]}],
    ]


def test_batches_of_pictures_are_small(host: OpenRouterServer, build: Build) -> None:
    """Eight at most, and four megabytes; one that is larger goes alone."""
    embedder = build(takes_images=True)
    megabyte = 1024 * 1024
    embedder.embed([illustrated("x")] * 20, "document", Errand())
    assert sizes(host) == [4, 8, 8]
    host.requests.clear()
    embedder.embed([illustrated("x", size * megabyte) for size in (2, 2, 1, 5, 1)], "document", Errand())
    assert sizes(host) == [1, 1, 1, 2]


def test_a_model_without_eyes_is_shown_no_pictures(
    host: OpenRouterServer, embedder: OpenRouterEmbedder, build: Build
) -> None:
    """Nothing is sent."""
    assert not embedder.takes_images and build(takes_images=True).takes_images
    with pytest.raises(InputRejected, match="takes no pictures"):
        embedder.embed([illustrated("x")], "document", Errand())
    assert not host.requests


# ---------------------------------------------------------------- bills and busy servers


def test_every_batch_is_billed(host: OpenRouterServer, embedder: OpenRouterEmbedder) -> None:
    """As the server reports it; the sum is that of the texts."""
    bills: list[Spending] = []
    embedder.embed(["x"] * 200, "document", Errand(bill=bills.append))
    assert sum((bill.usage for bill in bills), Usage()) == Usage(200, cost=pytest.approx(0.2))
    assert [bill.outcome for bill in bills] == ["done"] * 3


def test_what_a_silent_server_took_is_estimated(host: OpenRouterServer, build: Build) -> None:
    """A quarter of the bytes of a text and a thousand tokens for a picture."""
    bills: list[Spending] = []
    host.always = lambda handler: sends({"data": [{"embedding": [1.0]} for _ in handler.body["input"]]})(handler)
    embedder = build(takes_images=True)
    embedder.embed(["x" * 39, illustrated("x" * 8)], "document", Errand(bill=bills.append))
    assert sorted(bill.usage.prompt_tokens for bill in bills) == [10, 1002]
    assert all(bill.usage.estimated for bill in bills)


def test_refusals_of_a_busy_server_lose_nothing_and_repeat_nothing(
    host: OpenRouterServer, embedder: OpenRouterEmbedder
) -> None:
    """Every tenth request is refused for a moment; each of thousands of texts is embedded exactly once."""
    lock, count, embedded = threading.Lock(), 0, list[str]()

    def reply(handler: Handler) -> None:
        nonlocal count
        with lock:
            count += 1
            refused = count % 10 == 3
            if not refused:
                embedded.extend(handler.body["input"])
        (limits(0.02) if refused else regular)(handler)

    host.always = reply
    texts = [f"{number} {'a' * (number % 9)}" for number in range(6000)]
    kept = Kept()
    embedder.embed(texts, "document", Errand(), kept)
    assert count > 63
    assert sorted(embedded) == sorted(texts)
    numpy.testing.assert_allclose([kept.rows[index] for index in range(6000)], expected(texts), rtol=1e-6)


def test_after_a_refusal_nothing_is_sent_before_the_pause_ends(
    host: OpenRouterServer, embedder: OpenRouterEmbedder
) -> None:
    """Seven more were under way; what follows them begins after the time that the server asked for."""
    lock, arrivals, refused = threading.Lock(), list[float](), threading.Event()

    def reply(handler: Handler) -> None:
        with lock:
            arrivals.append(time.monotonic())
            number = len(arrivals)
        if number == 8:
            limits(0.4)(handler)
            refused.set()
            return
        if number < 8:
            refused.wait(10)
            threading.Event().wait(0.1)  # for the client to read the refusal before these make room for others
        regular(handler)

    host.always = reply
    embedder.embed(["x"] * 96 * 16, "document", Errand())
    assert len(arrivals) == 17
    assert min(arrivals[8:]) - arrivals[7] >= 0.4


@pytest.mark.parametrize("fault", [stalls, limits(100.0), fails(503, headers={"Retry-After": "100"})])
def test_a_stop_ends_every_kind_of_waiting(host: OpenRouterServer, embedder: OpenRouterEmbedder, fault: Any) -> None:
    """Silence, a pause that was asked for, and the queue behind it."""
    host.always = fault
    stop = Stop()

    def run() -> None:
        host.wait_for_requests(1)
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    with pytest.raises(Stopped):
        embedder.embed(["x"] * 96 * 20, "document", Errand(stop))
    thread.join()
    assert len(host.requests) <= 8
