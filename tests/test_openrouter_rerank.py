"""rag.openrouter.rerank: over real sockets, against the strict server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Bands, Chunk, Hit, TermStatistics, Usage
from rag.errors import BadReply, ModelUnavailable, Stopped
from rag.openrouter.client import Client
from rag.openrouter.rerank import OpenRouterReranker
from rag.stopping import Stop
from tests.openrouter_server import KEY, OpenRouterServer, fails, sends, serving

STATISTICS = TermStatistics(chunks=0, frequencies={})


@pytest.fixture
def host() -> Iterator[OpenRouterServer]:
    with serving() as server:
        yield server


@pytest.fixture
def reranker(host: OpenRouterServer) -> Iterator[OpenRouterReranker]:
    client = Client(host.url, SecretStr(KEY), backoff=0.0001)
    yield OpenRouterReranker(client, "maker/rerank-1")
    client.close()


def hit(text: str) -> Hit:
    chunk = Chunk("c", "d", "v", 0, text, 1, 1, ("Fees",), ())
    return Hit(chunk=chunk, document="price_list.pdf")


HITS = [hit("nothing here"), hit("the annual fee is high"), hit("a fee")]


def test_scores_are_in_the_order_given(reranker: OpenRouterReranker) -> None:
    """The server sorts its results by relevance; they are put back by position. Cost and search units are read."""
    scores, usage = reranker.rerank("annual fee", HITS, STATISTICS, Stop())
    assert scores == [0.0, 1.0, 0.5]
    assert usage == Usage(search_units=1, cost=0.002)


def test_a_passage_is_sent_with_where_it_stands(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Title, headings, text; and no field that a strict server would refuse."""
    reranker.rerank("annual fee", HITS[:1], STATISTICS, Stop())
    assert host.requests[0].body == {
        "model": "maker/rerank-1",
        "query": "annual fee",
        "documents": ["price list > Fees\nnothing here"],
    }


def test_without_candidates_nothing_is_asked(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """An empty list of documents would be refused."""
    scores, usage = reranker.rerank("annual fee", [], STATISTICS, Stop())
    assert (list(scores), usage) == ([], Usage())
    assert not host.requests


def test_scores_pass_as_they_came(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """Negative, above one, whole numbers; without document echo and without usage."""
    results = [{"index": 2, "relevance_score": 7}, {"index": 0, "relevance_score": -3.5}]
    results.append({"index": 1, "relevance_score": 0.25})
    host.always = sends({"model": "m", "results": results})
    scores, usage = reranker.rerank("q", HITS, STATISTICS, Stop())
    assert scores == [-3.5, 0.25, 7.0]
    assert usage == Usage()


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"search_units": 2, "cost": None}, Usage(search_units=2)),
        ({"search_units": "2", "cost": "free"}, Usage()),
        ({"search_units": -1, "cost": float("nan")}, Usage()),
        ({"search_units": True, "cost": True}, Usage()),
        ("free", Usage()),
    ],
)
def test_usage_is_read_leniently(host: OpenRouterServer, reranker: OpenRouterReranker, usage: Any, read: Usage) -> None:
    """What it says about its cost must not cost the answer."""
    host.always = sends({"results": [{"index": 0, "relevance_score": 1.0}], "usage": usage})
    assert reranker.rerank("q", HITS[:1], STATISTICS, Stop())[1] == read


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
        reranker.rerank("q", HITS[:2], STATISTICS, Stop())
    assert what in str(caught.value)
    assert "maker/rerank-1" in str(caught.value) and "FOOTNOTE_RERANK_MODEL" in str(caught.value)


def test_a_wrong_model_is_named(host: OpenRouterServer, reranker: OpenRouterReranker) -> None:
    """With the setting of this stage."""
    host.always = fails(404, "No such model")
    with pytest.raises(ModelUnavailable, match=r"rerank model maker/rerank-1 .* FOOTNOTE_RERANK_MODEL"):
        reranker.rerank("q", HITS, STATISTICS, Stop())


def test_a_stop_is_honoured(reranker: OpenRouterReranker) -> None:
    """Nothing is asked after it."""
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        reranker.rerank("q", HITS, STATISTICS, stop)


def test_its_bands_are_not_fitted(reranker: OpenRouterReranker) -> None:
    """Only the raw number may be shown, and only a cautious line refuses."""
    assert reranker.bands == Bands(not_found=0.10, confident=None, strong=None, fitted=False)
    assert reranker.model == "maker/rerank-1"
