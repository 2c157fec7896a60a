"""rag.openrouter.limiter: alone, and in the hands of the client over real sockets."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from rag.errors import ProviderError, RateLimited, Stopped
from rag.interfaces import Errand
from rag.openrouter.client import Call, Client
from rag.openrouter.failures import Purpose
from rag.openrouter.limiter import Limiter
from rag.stopping import Stop
from tests.openrouter_faults import limits
from tests.openrouter_server import KEY, Handler, OpenRouterServer, fails, regular


def call(model: str = "maker/model-1", patience: float = 20.0, batch: bool = False) -> Call:
    body = {"model": model, "input": ["text"]}
    return Call("/embeddings", body, Purpose("embedding", model, "FOOTNOTE_EMBEDDING_MODEL"), patience, batch=batch)


@pytest.fixture
def client(host: OpenRouterServer) -> Iterator[Client]:
    client = Client(host.url, SecretStr(KEY), backoff=0.0001)
    yield client
    client.close()


def begun(*works: Callable[[], object]) -> list[threading.Thread]:
    """Each in a thread of its own."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


# ---------------------------------------------------------------- places


def test_there_are_as_many_places_as_allowed() -> None:
    """The one after them waits until one is given back."""
    limiter, entered = Limiter(2), threading.Event()

    def third() -> None:
        with limiter.place(Stop()):
            entered.set()

    with ExitStack() as places:
        places.enter_context(limiter.place(Stop()))
        with limiter.place(Stop()):
            (thread,) = begun(third)
            assert not entered.wait(0.05)
        assert entered.wait(10)
    thread.join()


def test_a_stop_ends_the_wait_for_a_place() -> None:
    """At once, and the place goes to others."""
    limiter, stop, stopped = Limiter(1), Stop(), threading.Event()

    def waiting() -> None:
        with pytest.raises(Stopped), limiter.place(stop):
            pass
        stopped.set()

    with limiter.place(Stop()):
        (thread,) = begun(waiting)
        stop.set()
        assert stopped.wait(10)
    thread.join()
    with limiter.place(Stop()):
        pass


def test_a_refusal_halves_the_places() -> None:
    """Eight, four, two, one and never none."""
    limiter = Limiter(8)
    seen = []
    for _ in range(5):
        with limiter.place(Stop()) as taken_at:
            limiter.refused(taken_at)
        seen.append(limiter.places)
    assert seen == [4, 2, 1, 1, 1]


def test_refusals_of_batches_sent_together_count_once() -> None:
    """Those that were under way when the places were halved say nothing new."""
    limiter = Limiter(8)
    with limiter.place(Stop()) as first, limiter.place(Stop()) as second:
        limiter.refused(first)
        limiter.refused(second)
    assert limiter.places == 4


def test_a_round_of_successes_adds_a_place() -> None:
    """One after four at four places, and never more than at first."""
    limiter = Limiter(8)
    with limiter.place(Stop()) as taken_at:
        limiter.refused(taken_at)
    for _ in range(4):
        limiter.accepted()
    assert limiter.places == 4  # 4 + 1/4 + 1/4.25 + ... is just short of five
    limiter.accepted()
    assert limiter.places == 5
    for _ in range(100):
        limiter.accepted()
    assert limiter.places == 8


# ---------------------------------------------------------------- pauses


def test_a_pause_is_for_one_model_or_for_all() -> None:
    """The longer one counts, and a shorter one does not end it."""
    limiter = Limiter()
    limiter.hold("a", 100.0)
    limiter.hold("a", 1.0)
    assert limiter.pause("a") > 99 and limiter.pause("b") == 0
    limiter.hold(None, 200.0)
    assert limiter.pause("a") > 199 and limiter.pause("b") > 199


def test_a_pause_ends() -> None:
    """By itself."""
    limiter = Limiter()
    limiter.hold("a", 0.001)
    threading.Event().wait(0.01)
    assert limiter.pause("a") == 0


def held(host: OpenRouterServer, client: Client, pause: float, *, platform: bool) -> None:
    """Have the server refuse one call to maker/model-1 and ask for a pause."""
    host.replies.append(limits(pause, platform=platform))
    with pytest.raises(RateLimited):
        client.post(call(patience=0.0), Errand(), dict)


def test_a_refusal_holds_back_other_calls_to_the_model(host: OpenRouterServer, client: Client) -> None:
    """From any thread, until the pause that the server asked for has ended."""
    held(host, client, 0.3, platform=False)
    refused_at = time.monotonic()
    arrived: list[float] = []

    def ask() -> None:
        client.post(call(), Errand(), dict)
        arrived.append(time.monotonic())

    for thread in begun(ask, ask, ask):
        thread.join()
    assert len(arrived) == 3 and min(arrived) - refused_at > 0.25


def test_a_providers_refusal_leaves_other_models_alone(host: OpenRouterServer, client: Client) -> None:
    """Somebody else runs them."""
    held(host, client, 100.0, platform=False)
    client.post(call("maker/model-2"), Errand(), dict)
    assert len(host.requests) == 2


def test_a_refusal_of_the_account_holds_back_all_models(host: OpenRouterServer, client: Client) -> None:
    """The limit is the account's own: the figures in the headers tell."""
    held(host, client, 100.0, platform=True)
    with pytest.raises(RateLimited):
        client.post(call("maker/model-2", patience=0.0), Errand(), dict)
    assert len(host.requests) == 1


def test_who_cannot_wait_so_long_is_told_at_once(host: OpenRouterServer, client: Client) -> None:
    """How long it will be, and nothing is sent."""
    held(host, client, 100.0, platform=False)
    with pytest.raises(RateLimited, match=r"try again in (99|100|2) ") as caught:
        client.post(call(patience=10.0), Errand(), dict)
    assert caught.value.retry_after is not None and 90 < caught.value.retry_after <= 100
    assert len(host.requests) == 1


def test_a_stop_ends_a_pause(host: OpenRouterServer, client: Client) -> None:
    """Nobody waits in vain."""
    held(host, client, 100.0, platform=False)
    stop = Stop()
    (thread,) = begun(lambda: (threading.Event().wait(0.05), stop.set()))
    with pytest.raises(Stopped):
        client.post(call(patience=1000.0), Errand(stop), dict)
    thread.join()
    assert len(host.requests) == 1


# ---------------------------------------------------------------- batches and questions


def test_batches_are_bounded_and_questions_are_not(host: OpenRouterServer, client: Client) -> None:
    """While eight batches are under way a ninth waits, and a question is answered."""
    release = threading.Event()

    def slow(handler: Handler) -> None:
        release.wait(10)
        regular(handler)

    host.replies.extend([slow] * 8)
    threads = begun(*[lambda: client.post(call(batch=True), Errand(), dict)] * 9)
    host.wait_for_requests(8)
    client.post(call("maker/question"), Errand(), dict)
    assert [request.body["model"] for request in host.requests].count("maker/model-1") == 8
    release.set()
    for thread in threads:
        thread.join()
    assert len(host.requests) == 10


@pytest.mark.parametrize(("code", "places"), [(429, 4), (503, 4), (529, 4), (500, 8), (502, 8)])
def test_only_a_busy_server_is_asked_less(host: OpenRouterServer, client: Client, code: int, places: int) -> None:
    """Other failures say nothing about how many requests it can take."""
    host.replies.append(fails(code))
    with pytest.raises(ProviderError):
        client.post(call(patience=0.0, batch=True), Errand(), dict)
    assert client.limiter.places == places


def test_a_batch_that_waited_for_its_place_has_all_its_patience(host: OpenRouterServer) -> None:
    """It begins with the first attempt."""
    client = Client(host.url, SecretStr(KEY), backoff=0.0001)
    client.limiter = Limiter(1)
    release = threading.Event()

    def slow(handler: Handler) -> None:
        release.wait(10)
        regular(handler)

    host.replies.extend([slow, fails(503)])
    (first,) = begun(lambda: client.post(call(batch=True), Errand(), dict))
    host.wait_for_requests(1)
    (second,) = begun(lambda: client.post(call(patience=0.2, batch=True), Errand(), dict))
    threading.Event().wait(0.3)
    release.set()
    first.join()
    second.join()
    client.close()
    assert len(host.requests) == 3
