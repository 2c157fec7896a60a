"""rag.openrouter.rerank: over real sockets, against the strict server."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Bands, Chunk, Hit, Image, Spending, TermStatistics, Usage
from rag.errors import BadReply, InputRejected, ModelUnavailable, ProviderError, Stopped
from rag.interfaces import Errand
from rag.openrouter.client import Client
from rag.openrouter.rerank import OpenRouterReranker
from rag.openrouter.routing import Routing
from rag.stopping import Stop
from tests.openrouter_server import KEY, Handler, OpenRouterServer, Reply, fails, regular, sends

STATISTICS = TermStatistics(chunks=0, frequencies={})


Build = Callable[..., OpenRouterReranker]


@pytest.fixture
def build(host: OpenRouterServer) -> Iterator[Build]:
    """Rerankers of the server, whose connections are closed at the end."""
    clients: list[Client] = []

    def built(model: str = "maker/rerank-1", **options: Any) -> OpenRouterReranker:
        clients.append(Client(host.url, SecretStr(KEY), backoff=0.0001))
        return OpenRouterReranker(clients[-1], model, **options)

    yield built
    for client in clients:
        client.close()


@pytest.fixture
def reranker(build: Build) -> OpenRouterReranker:
    return build()


def hit(text: str, key: str = "c") -> Hit:
    chunk = Chunk(key, "d", "v", 0, text, 1, 1, ("Fees",), ())
    return Hit(chunk=chunk, document="price_list.pdf")


HITS = [hit("nothing here"), hit("the annual fee is high"), hit("a fee")]


class Bills(list[Spending]):
    """What was billed."""

    def errand(self) -> Errand:
        return Errand(bill=self.append)

    def usage(self) -> Usage:
        return sum((bill.usage for bill in self), Usage())


def test_scores_are_in_the_order_given(reranker: OpenRouterReranker) -> None:
    """The server sorts its results by relevance; they are put back by position."""
    assert reranker.rerank("annual fee", HITS, STATISTICS, Errand()) == [0.0, 1.0, 0.5]


def test_search_units_and_cost_are_billed(reranker: OpenRouterReranker) -> None:
    """As the server reports them."""
    bills = Bills()
    reranker.rerank("annual fee", HITS, STATISTICS, bills.errand())
    assert bills.usage() == Usage(40, search_units=1, cost=0.002)


def test_what_is_not_reported_is_estimated(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """A quarter of the bytes of the passage and of the question."""
    host.always = sends({"results": [{"index": 0, "relevance_score": 1.0}]})
    bills = Bills()
    reranker.rerank("x" * 8, [hit("y" * 40)], STATISTICS, bills.errand())
    assert bills.usage() == Usage(len("price list > Fees\n" + "y" * 40) // 4 + 2, estimated=True)


def test_a_passage_is_sent_with_where_it_stands(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Title, headings, text, and how many scores are wanted; no field that a strict server would refuse."""
    reranker.rerank("annual fee", HITS[:2], STATISTICS, Errand())
    assert host.requests[0].body == {
        "model": "maker/rerank-1",
        "query": "annual fee",
        "documents": ["price list > Fees\nnothing here", "price list > Fees\nthe annual fee is high"],
        "top_n": 2,
    }


def test_preferences_and_the_session_go_along(host: OpenRouterServer, build: Build) -> None:
    """The provider object as it was set."""
    build(routing=Routing(sort="price")).rerank("q", HITS, STATISTICS, Errand(session="talk-1"))
    assert host.requests[0].body["provider"] == {"sort": "price"}
    assert host.requests[0].headers["x-session-id"] == "talk-1"


def test_without_candidates_nothing_is_asked(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """An empty list of documents would be refused."""
    bills = Bills()
    assert list(reranker.rerank("annual fee", [], STATISTICS, bills.errand())) == []
    assert not host.requests and not bills


def test_scores_pass_as_they_came(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Negative, above one, whole numbers; without document echo."""
    results = [{"index": 2, "relevance_score": 7}, {"index": 0, "relevance_score": -3.5}]
    results.append({"index": 1, "relevance_score": 0.25})
    host.always = sends({"model": "m", "results": results})
    assert reranker.rerank("q", HITS, STATISTICS, Errand()) == [-3.5, 0.25, 7.0]


def test_a_server_may_keep_the_documents_to_itself(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Positions are enough."""
    host.echoes_documents = False
    assert reranker.rerank("annual fee", HITS, STATISTICS, Errand()) == [0.0, 1.0, 0.5]


# ---------------------------------------------------------------- pictures and lengths

PICTURE = Image("image/png", b"fee")


def test_a_picture_is_shown_to_a_model_that_sees(host: OpenRouterServer, build: Build) -> None:
    """With the passage's text; passages without a picture stay plain."""
    hits = [hit("figure", "seen"), hit("annual")]
    scores = build("nvidia/llama-nemotron-rerank-vl-1b-v2", takes_images=True).rerank(
        "annual fee", hits, STATISTICS, Errand(), {"seen": PICTURE}
    )
    assert scores == [0.5, 0.5]
    assert host.requests[0].body["documents"] == [
        {"text": "price list > Fees\nfigure", "image": "data:image/png;base64,ZmVl"},
        "price list > Fees\nannual",
    ]


def test_a_model_that_does_not_see_gets_the_text(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """A picture would be refused."""
    reranker.rerank("annual fee", [hit("figure", "seen")], STATISTICS, Errand(), {"seen": PICTURE})
    assert host.requests[0].body["documents"] == ["price list > Fees\nfigure"]
    assert not reranker.takes_images


def test_passages_are_cut_to_what_the_question_leaves(host: OpenRouterServer, build: Build) -> None:
    """Three bytes for each token of the model, less those of the question, but a quarter of them at least."""
    build(context=100).rerank("q" * 30, [hit("x" * 1000)], STATISTICS, Errand())
    build(context=100).rerank("q" * 3000, [hit("x" * 1000)], STATISTICS, Errand())
    assert [len(request.body["documents"][0]) for request in host.requests] == [3 * 90, 3 * 25]


# ---------------------------------------------------------------- more than a request takes


def fees(count: int) -> list[Hit]:
    """Every seventh is about a fee, every fifth is annual."""
    return [hit(f"{'fee' if n % 7 == 0 else '-'} {'annual' if n % 5 == 0 else '-'}") for n in range(count)]


EXPECTED = [((n % 7 == 0) + (n % 5 == 0)) / 2 for n in range(250)]


def sizes(host: OpenRouterServer) -> list[int]:
    return [len(request.body["documents"]) for request in host.requests]


def test_more_than_a_hundred_candidates_go_in_several_requests(
    host: OpenRouterServer, reranker: OpenRouterReranker
) -> None:
    """The scores are in the order given, and all of it is billed."""
    bills = Bills()
    assert reranker.rerank("annual fee", fees(250), STATISTICS, bills.errand()) == EXPECTED
    assert sizes(host) == [100, 100, 50]
    assert bills.usage().search_units == 3


@pytest.mark.parametrize(
    "refusal",
    [
        fails(400, "at most 30 documents"),
        fails(400),
        fails(413, "Payload Too Large"),
        fails(422, "too many documents"),
        fails(400, "?", metadata={"error_type": "token_limit_exceeded", "raw": "maximum of 4096 tokens"}),
    ],
)
def test_what_is_too_much_is_sent_in_halves(
    host: OpenRouterServer, reranker: OpenRouterReranker, refusal: Reply
) -> None:
    """Until the server takes it; the scores are in the order given."""

    def reply(handler: Handler) -> None:
        (refusal if len(handler.body["documents"]) > 30 else regular)(handler)

    host.always = reply
    assert reranker.rerank("annual fee", fees(50), STATISTICS, Errand()) == EXPECTED[:50]
    assert sizes(host) == [50, 25, 25]


@pytest.mark.parametrize("refusal", [fails(400, "query must not be empty"), fails(401), fails(402)])
def test_what_is_refused_for_another_reason_is_not_sent_again(
    host: OpenRouterServer, reranker: OpenRouterReranker, refusal: Reply
) -> None:
    """Fewer documents would be refused as well."""
    host.always = refusal
    with pytest.raises(ProviderError):
        reranker.rerank("annual fee", fees(50), STATISTICS, Errand())
    assert len(host.requests) == 1


def test_halving_ends_at_a_single_passage(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Then the refusal is told."""
    host.always = fails(413)
    with pytest.raises(InputRejected):
        reranker.rerank("annual fee", fees(8), STATISTICS, Errand())
    assert sizes(host) == [8, 4, 2, 1]


# ---------------------------------------------------------------- failures

ONE = {"index": 0, "relevance_score": 0.5}


@pytest.mark.parametrize(
    ("results", "what"),
    [
        (None, "other passages"),
        ([], "other passages"),
        ([ONE], "other passages"),
        ([ONE, {"index": 2, "relevance_score": 0.1}], "other passages"),
        ([ONE, {"index": 1, "relevance_score": 0.1}, {"index": 2, "relevance_score": 0.1}], "other passages"),
        ([ONE, {"index": -1, "relevance_score": 0.1}], "other passages"),
        ([ONE, ONE], "same passage twice"),
        ([ONE, {"index": 1, "relevance_score": float("nan")}], "without a position or a score"),
        ([ONE, {"index": 1, "relevance_score": float("inf")}], "without a position or a score"),
        ([ONE, {"index": 1, "relevance_score": 10**400}], "without a position or a score"),
        ([ONE, {"index": 1, "relevance_score": "0.1"}], "without a position or a score"),
        ([ONE, {"index": 1, "relevance_score": True}], "without a position or a score"),
        ([ONE, {"index": True, "relevance_score": 0.1}], "without a position or a score"),
        ([ONE, {"index": 1}], "without a position or a score"),
        ([ONE, {"relevance_score": 0.1}], "without a position or a score"),
        ([ONE, None], "without a position or a score"),
    ],
)
def test_results_of_a_wrong_shape_are_refused(
    host: OpenRouterServer, reranker: OpenRouterReranker, results: Any, what: str
) -> None:
    """A score is never given to a passage it was not made for."""
    host.always = sends(json.dumps({"results": results}).encode())
    with pytest.raises(BadReply) as caught:
        reranker.rerank("q", HITS[:2], STATISTICS, Errand())
    assert what in str(caught.value)
    assert "maker/rerank-1" in str(caught.value) and "FOOTNOTE_RERANK_MODEL" in str(caught.value)


def test_a_wrong_model_is_named(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """With the setting of this stage."""
    host.always = fails(404, "No such model")
    with pytest.raises(ModelUnavailable, match=r"rerank model maker/rerank-1 .*FOOTNOTE_RERANK_MODEL"):
        reranker.rerank("q", HITS, STATISTICS, Errand())


def test_a_stop_is_honoured(reranker: OpenRouterReranker) -> None:
    """Nothing is asked after it."""
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        reranker.rerank("q", HITS, STATISTICS, Errand(stop))


def test_its_bands_are_not_fitted(reranker: OpenRouterReranker) -> None:
    """Only the raw number may be shown, and only a cautious line refuses."""
    assert reranker.bands == Bands(not_found=0.10, confident=None, strong=None, fitted=False)
    assert reranker.model == "maker/rerank-1"
