"""rag.openrouter.chat: over real sockets, against the strict server."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Finished, TextDelta, Turn, Usage
from rag.errors import BadReply, FootnoteError, ModelUnavailable, ProviderDown, ProviderError, RateLimited, Stopped
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.stopping import Stop
from tests.openrouter_server import (
    DONE,
    KEY,
    OpenRouterServer,
    Reply,
    chunk,
    event,
    fails,
    resets,
    sends,
    serving,
    stalls,
    streams,
    usage_chunk,
)

TURNS = [Turn("system", "Answer from the sources."), Turn("user", "What is the fee?")]
COMMENT = b": OPENROUTER PROCESSING\n\n"
STOP = event(chunk("", "stop"))


@pytest.fixture
def host() -> Iterator[OpenRouterServer]:
    with serving() as server:
        yield server


@pytest.fixture
def chat(host: OpenRouterServer) -> Iterator[OpenRouterChat]:
    client = Client(host.url, SecretStr(KEY), backoff=0.0001, read_timeout=5.0)
    yield OpenRouterChat(client, "~writer/latest")
    client.close()


class Heard:
    """Everything a stream gave, and the error that ended it."""

    def __init__(self, chat: OpenRouterChat, stop: Stop | None = None) -> None:
        self.texts: list[str] = []
        self.finished: Finished | None = None
        self.error: FootnoteError | None = None
        try:
            for piece in chat.stream(TURNS, stop or Stop()):
                assert self.finished is None
                if isinstance(piece, TextDelta):
                    self.texts.append(piece.text)
                else:
                    self.finished = piece
        except FootnoteError as error:
            self.error = error

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def complete(self) -> bool:
        assert self.finished is not None
        return self.finished.complete


# ---------------------------------------------------------------- a regular answer


def test_an_answer_comes_in_pieces_and_finishes(chat: OpenRouterChat) -> None:
    """With the model that answered, and what it took."""
    heard = Heard(chat)
    assert heard.texts == ["The fee is ", "12 euros [1]."]
    usage = Usage(prompt_tokens=120, completion_tokens=9, cost=0.00031)
    assert heard.finished == Finished(model="writer/large-2026", usage=usage, complete=True)


def test_only_what_every_server_knows_is_sent(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Model, messages, streaming and a low temperature."""
    Heard(chat)
    assert host.requests[0].path == "/api/v1/chat/completions"
    assert host.requests[0].body == {
        "model": "~writer/latest",
        "messages": [
            {"role": "system", "content": "Answer from the sources."},
            {"role": "user", "content": "What is the fee?"},
        ],
        "stream": True,
        "temperature": 0.2,
    }


def test_text_is_passed_on_as_it_comes(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The first piece is there while the server is still silent about the rest."""
    host.always = streams(event(chunk("first")), end="stall")
    stop = Stop()
    pieces = chat.stream(TURNS, stop)
    assert next(pieces).text == "first"  # type: ignore[union-attr]
    stop.set()
    with pytest.raises(Stopped):
        next(pieces)


def test_reasoning_is_not_the_answer(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Neither `reasoning` nor `reasoning_details`, whatever the content beside it."""
    thinking = chunk("", reasoning="Let me think", reasoning_details=[{"type": "reasoning.text", "text": "hm"}])
    silent = chunk(None, reasoning="more")
    host.always = streams(event(thinking), event(silent), event(chunk("Twelve.")), STOP, DONE)
    assert Heard(chat).texts == ["Twelve."]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_odd_pieces_and_line_ends_change_nothing(
    host: OpenRouterServer, chat: OpenRouterChat, line_end: bytes, size: int
) -> None:
    """A letter cut in two and a U+2028 inside the JSON included."""
    data = COMMENT + event(chunk("é\u2028ü €"), line_end) + event(chunk("!", "stop"), line_end) + DONE
    host.always = streams(*(data[start : start + size] for start in range(0, len(data), size)))
    heard = Heard(chat)
    assert heard.text == "é\u2028ü €!"
    assert heard.complete


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "cost": None}},
        {**chunk(""), "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "cost": "0.1"}},
    ],
)
def test_usage_comes_in_several_shapes(host: OpenRouterServer, chat: OpenRouterChat, odd: dict[str, Any]) -> None:
    """Without choices, with an empty one, without an id; the cost may be unknown."""
    host.always = streams(event(chunk("Hi.", "stop")), event(odd), DONE)
    heard = Heard(chat)
    assert heard.finished is not None
    assert heard.finished.usage == Usage(prompt_tokens=3, completion_tokens=4)


def test_content_may_be_parts_or_nothing(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Text parts count, anything else does not."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": None}, "x"]
    odd = {"choices": [{"delta": None}, 1]}
    events = [chunk(None), chunk(parts), odd, {"choices": [None]}, {"choices": "?"}, chunk("b", "stop")]  # type: ignore[arg-type]
    host.always = streams(*map(event, events), DONE)
    assert Heard(chat).texts == ["a", "b"]


def test_an_emoji_cut_in_two_is_joined(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """And half of one, which nothing could store, becomes the replacement character."""
    cut = [
        b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % text
        for text in (b"a\\ud83d", b"\\ude00b", b"\\ude00")
    ]
    host.always = streams(*cut, STOP, DONE)
    assert Heard(chat).texts == ["a", "\U0001f600b", "\ufffd"]


def test_any_other_finish_reason_is_a_whole_answer(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Compatible servers have their own words for it."""
    host.always = streams(event(chunk("Yes.", "eos_token")))
    assert Heard(chat).complete


def test_a_server_that_does_not_stream_is_understood(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The whole answer is one piece."""
    message = {"role": "assistant", "content": "All at once."}
    host.always = sends({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]})
    heard = Heard(chat)
    assert heard.texts == ["All at once."]
    assert heard.complete


def test_a_stream_without_done_may_be_whole(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """A finish reason is enough."""
    host.always = streams(event(chunk("Yes.", "stop")))
    assert Heard(chat).complete


def test_a_stream_without_finish_reason_may_be_whole(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """`[DONE]` is enough."""
    host.always = streams(event(chunk("Yes.")), DONE)
    assert Heard(chat).complete


# ---------------------------------------------------------------- cut answers


@pytest.mark.parametrize("end", ["regular", "cut"])
def test_a_cut_stream_is_incomplete(host: OpenRouterServer, chat: OpenRouterChat, end: str) -> None:
    """Neither a finish reason nor `[DONE]`: the text is kept and marked."""
    host.always = streams(event(chunk("The fee is")), b'data: {"choices": [{"del', end=end)
    heard = Heard(chat)
    assert heard.text == "The fee is"
    assert not heard.complete
    assert len(host.requests) == 1


@pytest.mark.parametrize("reason", ["length", "content_filter", "error"])
def test_an_answer_ended_by_a_limit_is_incomplete(host: OpenRouterServer, chat: OpenRouterChat, reason: str) -> None:
    """`[DONE]` or not."""
    host.always = streams(event(chunk("The fee is", reason)), event(usage_chunk()), DONE)
    heard = Heard(chat)
    assert heard.text == "The fee is"
    assert not heard.complete


def midstream(code: object = 502, **metadata: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    return event({**chunk(), "choices": choices, "error": {"code": code, "message": "lost", "metadata": metadata}})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (midstream(), ProviderDown),
        (midstream("server_error"), ProviderDown),
        (midstream(429), RateLimited),
        (midstream(None, error_type="rate_limit_exceeded"), RateLimited),
        (b"data: no json\n\n", BadReply),
        (b"data: [1]\n\n", BadReply),
    ],
)
def test_an_error_amid_the_text_is_raised_after_it(
    host: OpenRouterServer, chat: OpenRouterChat, error: bytes, kind: type[ProviderError]
) -> None:
    """The caller keeps what came before; nothing is asked again."""
    host.always = streams(event(chunk("The fee is ")), error)
    heard = Heard(chat)
    assert heard.text == "The fee is "
    assert type(heard.error) is kind
    assert heard.finished is None
    assert len(host.requests) == 1


def test_a_silence_amid_the_text_is_given_up(host: OpenRouterServer) -> None:
    """After the longest silence allowed, with a sentence; nothing is asked again."""
    client = Client(host.url, SecretStr(KEY), read_timeout=0.1)
    host.always = streams(event(chunk("The fee is ")), end="stall")
    heard = Heard(OpenRouterChat(client, "m"))
    client.close()
    assert heard.text == "The fee is "
    assert isinstance(heard.error, ProviderDown) and "silent" in str(heard.error)
    assert len(host.requests) == 1


# ---------------------------------------------------------------- failures before the text


@pytest.mark.parametrize(
    "fault",
    [
        fails(429),
        fails(503),
        resets,
        sends(b"<html>busy</html>", content_type="text/html"),
        sends({"error": {"code": 502, "message": "x"}}),
        sends({"choices": [{"error": {"code": 502, "message": "x"}, "finish_reason": "error"}]}),
        streams(COMMENT),
        streams(COMMENT, end="cut"),
        streams(COMMENT, midstream()),
    ],
)
def test_a_fault_before_the_first_event_is_not_noticed(
    host: OpenRouterServer, chat: OpenRouterChat, fault: Reply
) -> None:
    """Asked again, answered once."""
    host.replies.append(fault)
    assert Heard(chat).text == "The fee is 12 euros [1]."
    assert len(host.requests) == 2


@pytest.mark.parametrize("status", [400, 404])
def test_a_wrong_model_is_named(host: OpenRouterServer, chat: OpenRouterChat, status: int) -> None:
    """With the setting of this stage."""
    host.always = fails(status, "~writer/latest is not a valid model ID")
    with pytest.raises(ModelUnavailable, match=r"chat model ~writer/latest .* FOOTNOTE_CHAT_MODEL"):
        list(chat.stream(TURNS, Stop()))


def test_an_endless_event_is_cut_short(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Memory is bounded whatever the server sends."""
    host.always = streams(event(chunk("a")), *([b"data: " + b"x" * 1_000_000] * 6))
    heard = Heard(chat)
    assert isinstance(heard.error, BadReply)
    assert heard.text == "a"


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("reply", [stalls, streams(COMMENT, end="stall"), streams(event(chunk("a")), end="stall")])
def test_a_stop_closes_the_connection(host: OpenRouterServer, chat: OpenRouterChat, reply: Reply) -> None:
    """Silent before the reply, before the text or amid it."""
    host.always = reply
    stop = Stop()

    def run() -> None:
        host.wait_for_requests(1)
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    heard = Heard(chat, stop)
    thread.join()
    assert isinstance(heard.error, Stopped)
    assert host.disconnected.wait(5)
    assert len(host.requests) == 1


def test_a_reader_that_leaves_closes_the_connection(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Closing the iterator ends the generation, and its cost."""
    host.always = streams(event(chunk("a")), end="stall")
    pieces = chat.stream(TURNS, Stop())
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert host.disconnected.wait(5)
