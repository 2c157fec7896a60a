"""rag.openrouter.chat: over real sockets, against the strict server."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from rag.domain import Effort, Failure, Finished, Image, ReasoningDelta, Spending, TextDelta, Turn, Usage
from rag.errors import (
    BadReply,
    FootnoteError,
    InputRejected,
    ModelUnavailable,
    ProviderDown,
    ProviderError,
    RateLimited,
    Stopped,
)
from rag.interfaces import Errand, Form
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.openrouter.routing import Routing
from rag.stopping import Stop
from tests.openrouter_faults import FAULTS, error_chunk
from tests.openrouter_server import (
    COMMENT,
    DONE,
    KEY,
    MODEL,
    OpenRouterServer,
    Reply,
    chunk,
    completion,
    event,
    fails,
    regular,
    resets,
    sends,
    stalls,
    streams,
    thought,
    usage_chunk,
)

TURNS = [Turn("system", "Answer from the sources."), Turn("user", "What is the fee?")]
STOP = event(chunk("", "stop"))
PICTURE = Image("image/jpeg", b"\xff\xd8\xff")
FORM = Form(
    "verdict",
    {
        "type": "object",
        "properties": {"verdict": {"type": "string"}},
        "required": ["verdict"],
        "additionalProperties": False,
    },
)


@pytest.fixture
def client(host: OpenRouterServer) -> Iterator[Client]:
    client = Client(host.url, SecretStr(KEY), backoff=0.0001, read_timeout=5.0)
    yield client
    client.close()


@pytest.fixture
def chat(client: Client) -> OpenRouterChat:
    return OpenRouterChat(client, "~writer/latest")


class Heard:
    """Everything a stream gave, and the error that ended it."""

    def __init__(self, chat: OpenRouterChat, errand: Errand | None = None, turns: list[Turn] = TURNS) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.finished: Finished | None = None
        self.error: FootnoteError | None = None
        try:
            for piece in chat.stream(turns, errand or Errand()):
                assert self.finished is None
                match piece:
                    case TextDelta():
                        self.texts.append(piece.text)
                    case ReasoningDelta():
                        self.thoughts.append(piece.text)
                    case Finished():
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


def sent(host: OpenRouterServer) -> dict[str, Any]:
    """The body of the last request."""
    body: dict[str, Any] = host.requests[-1].body
    return body


# ---------------------------------------------------------------- what is asked


def test_the_least_that_is_sent(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Model, messages, streaming with usage, and a low temperature: what every server knows."""
    Heard(chat)
    assert host.requests[0].path == "/api/v1/chat/completions"
    assert sent(host) == {
        "model": "~writer/latest",
        "messages": [
            {"role": "system", "content": "Answer from the sources."},
            {"role": "user", "content": "What is the fee?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.2,
    }


def test_everything_that_can_be_sent(host: OpenRouterServer, client: Client) -> None:
    """Each setting under the name the contract has for it."""
    chat = OpenRouterChat(
        client,
        "maker/chat",
        fallbacks=("maker/second", "maker/third"),
        routing=Routing(only=("azure",), zdr=True),
        temperature=0.0,
        longest=500,
        reasoning="low",
    )
    assert Heard(chat, Errand(session="talk1")).complete
    rest = {name: value for name, value in sent(host).items() if name not in ("messages", "stream", "stream_options")}
    assert rest == {
        "model": "maker/chat",
        "models": ["maker/second", "maker/third"],
        "provider": {"only": ["azure"], "zdr": True},
        "temperature": 0.0,
        "max_completion_tokens": 500,
        "reasoning": {"effort": "low"},
        "session_id": "talk1",
    }


def test_the_temperature_can_be_the_models_own(host: OpenRouterServer, client: Client) -> None:
    """Some models refuse any."""
    Heard(OpenRouterChat(client, "m", temperature=None))
    assert "temperature" not in sent(host)


def test_a_server_that_ignores_the_limit_is_held_to_it(host: OpenRouterServer, client: Client) -> None:
    """Some know the limit by another name; the reply ends as cut off, not after a million characters."""
    host.text_pieces = ["x" * 100] * 100
    events = list(OpenRouterChat(client, "maker/chat-1", longest=16).stream([Turn("user", "Hello")], Errand()))
    assert sum(len(event.text) for event in events[:-1]) == 128
    assert events[-1].complete is False


@pytest.mark.parametrize("effort", ["none", "minimal", "high"])
def test_how_much_to_think_is_told(host: OpenRouterServer, client: Client, effort: Effort) -> None:
    """Not at all, too."""
    host.reasoning_pieces = ["Hm."]
    heard = Heard(OpenRouterChat(client, "m", reasoning=effort))
    assert sent(host)["reasoning"] == {"effort": effort}
    assert heard.thoughts == ([] if effort == "none" else ["Hm."])


def test_a_cache_is_told_where_the_repeated_text_ends(host: OpenRouterServer, client: Client) -> None:
    """By a mark the contract knows, for providers that want one."""
    heard = Heard(OpenRouterChat(client, "anthropic/claude"), turns=[Turn("user", "What?", stable="Sources")])
    assert heard.complete
    marked = {"type": "text", "text": "Sources", "cache_control": {"type": "ephemeral"}}
    assert sent(host)["messages"][0]["content"] == [marked, {"type": "text", "text": "What?"}]


@pytest.mark.parametrize("sees", [True, False])
def test_pictures_go_to_models_that_see(host: OpenRouterServer, client: Client, sees: bool) -> None:
    """In a form the contract knows; others get the text alone."""
    chat = OpenRouterChat(client, "m", takes_images=sees)
    assert chat.takes_images is sees
    assert Heard(chat, turns=[Turn("user", "What?", images=(PICTURE,))]).complete
    assert ("data:image/jpeg;base64,/9j/" in json.dumps(sent(host))) is sees


# ---------------------------------------------------------------- a regular answer


def test_an_answer_comes_in_pieces_and_finishes(chat: OpenRouterChat) -> None:
    """With the model that answered, not the alias that was asked."""
    heard = Heard(chat)
    assert heard.texts == ["The fee is ", "12 euros [1]."]
    assert heard.finished == Finished(model="writer/large-2026", complete=True)


def test_an_answer_is_billed_once(chat: OpenRouterChat) -> None:
    """As the server reports it."""
    bills: list[Spending] = []
    Heard(chat, Errand(bill=bills.append))
    assert [bill.outcome for bill in bills] == ["done"]
    assert (bills[0].usage.prompt_tokens, bills[0].usage.cost, bills[0].usage.estimated) == (120, 0.00031, False)


def test_an_unreported_prompt_is_billed_by_its_length(host: OpenRouterServer, client: Client) -> None:
    """Text and pictures."""
    bills: list[Spending] = []
    host.always = streams(event(chunk("Yes.", "stop")), DONE)
    turns = [Turn("user", "a" * 40, images=(PICTURE,))]
    Heard(OpenRouterChat(client, "m", takes_images=True), Errand(bill=bills.append), turns)
    assert bills[0].usage.prompt_tokens == 1010
    assert bills[0].usage.estimated


def test_a_fallback_may_answer(host: OpenRouterServer, client: Client) -> None:
    """The model that answered is named, and billed."""
    host.unavailable = {"maker/first"}
    bills: list[Spending] = []
    heard = Heard(OpenRouterChat(client, "maker/first", fallbacks=("maker/second",)), Errand(bill=bills.append))
    assert heard.finished == Finished(model="maker/second", complete=True)
    assert bills[0].model == "maker/second"


@pytest.mark.parametrize("name", [None, "", 7, "two\nlines"])
def test_a_model_without_a_name_is_the_one_asked_for(
    host: OpenRouterServer, chat: OpenRouterChat, name: object
) -> None:
    """What the server says is shown, so it must be fit to be."""
    host.always = streams(event({**chunk("Yes.", "stop"), "model": name}), DONE)
    assert Heard(chat).finished == Finished("~writer/latest", complete=True)


def test_text_is_passed_on_as_it_comes(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The first piece is there while the server is still silent about the rest."""
    host.always = streams(event(chunk("first")), end="stall")
    stop = Stop()
    pieces = chat.stream(TURNS, Errand(stop))
    assert next(pieces) == TextDelta("first")
    stop.set()
    with pytest.raises(Stopped):
        next(pieces)


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
    bills: list[Spending] = []
    assert Heard(chat, Errand(bill=bills.append)).complete
    assert bills[0].usage == Usage(prompt_tokens=3, completion_tokens=4)


def test_content_may_be_parts_or_nothing(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Text parts count, anything else does not."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": None}, "x"]
    odd = {"choices": [{"delta": None}, 1]}
    events = [chunk(None), chunk(parts), chunk(7), odd, {"choices": [None]}, {"choices": "?"}, chunk("b", "stop")]
    host.always = streams(*map(event, events), DONE)
    assert Heard(chat).texts == ["a", "b"]


@pytest.mark.parametrize(
    "declined",
    [
        chunk(None, refusal="I cannot help with that."),
        chunk([{"type": "refusal", "refusal": "I cannot help with that."}]),
    ],
)
def test_a_refusal_is_what_the_model_says(
    host: OpenRouterServer, chat: OpenRouterChat, declined: dict[str, Any]
) -> None:
    """In a field of its own or as a part."""
    host.always = streams(event(declined), STOP, DONE)
    assert Heard(chat).texts == ["I cannot help with that."]


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
    """The whole answer is one piece, its thoughts apart."""
    host.always = sends(completion("All at once.", reasoning="Hm."))
    heard = Heard(chat)
    assert (heard.thoughts, heard.texts) == (["Hm."], ["All at once."])
    assert heard.finished == Finished(MODEL, complete=True)


def test_a_stream_without_done_may_be_whole(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """A finish reason is enough."""
    host.always = streams(event(chunk("Yes.", "stop")))
    assert Heard(chat).complete


def test_a_stream_without_finish_reason_may_be_whole(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """`[DONE]` is enough."""
    host.always = streams(event(chunk("Yes.")), DONE)
    assert Heard(chat).complete


# ---------------------------------------------------------------- thoughts


def test_thoughts_are_not_the_answer(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """They come apart, as they are thought."""
    host.reasoning_pieces = ["Let me ", "think."]
    heard = Heard(chat)
    assert heard.thoughts == ["Let me ", "think."]
    assert heard.text == "The fee is 12 euros [1]."


@pytest.mark.parametrize(
    ("delta", "thoughts"),
    [
        (thought("Hm."), ["Hm."]),
        (chunk(None, reasoning="Hm."), ["Hm."]),
        (chunk(None, reasoning_content="Hm."), ["Hm."]),
        (chunk("", reasoning="Hm.", reasoning_content="Hm."), ["Hm."]),
        (chunk("", reasoning="", reasoning_content="Hm."), ["Hm."]),
        (chunk("", reasoning_details=[{"type": "reasoning.text", "text": "H"}, {"text": "m."}]), ["Hm."]),
        (chunk("", reasoning_details=[{"type": "reasoning.summary", "summary": "Hm."}]), ["Hm."]),
        (chunk("", reasoning_details=[{"type": "reasoning.encrypted", "data": "Z2c="}]), []),
        (chunk("", reasoning=["?"], reasoning_details="?"), []),
    ],
)
def test_thoughts_come_under_many_names(
    host: OpenRouterServer, chat: OpenRouterChat, delta: dict[str, Any], thoughts: list[str]
) -> None:
    """Said under several they count once; what is encrypted is nothing to read."""
    host.always = streams(event(delta), event(chunk("Twelve.")), STOP, DONE)
    heard = Heard(chat)
    assert heard.thoughts == thoughts
    assert heard.texts == ["Twelve."]


def test_thoughts_within_the_content_are_not_the_answer(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Servers that do not know the model's tags leave them where they are."""
    host.text_pieces = ["<thi", "nk>Hm.</th", "ink>\n\n", "Twelve."]
    heard = Heard(chat)
    assert (heard.thoughts, heard.texts) == (["Hm."], ["Twelve."])


def test_a_model_that_begins_amid_thoughts_is_known_from_then_on(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The first reply cannot be read rightly; the second is."""
    host.text_pieces = ["Hm.", "</think>\n\n", "Twelve."]
    assert Heard(chat).text == "Hm.\n\nTwelve."
    heard = Heard(chat)
    assert (heard.thoughts, heard.texts) == (["Hm."], ["Twelve."])


# ---------------------------------------------------------------- cut answers


@pytest.mark.parametrize("end", ["regular", "cut"])
def test_a_cut_stream_is_incomplete(host: OpenRouterServer, chat: OpenRouterChat, end: str) -> None:
    """Neither a finish reason nor `[DONE]`: the text is kept and marked."""
    host.always = streams(event(chunk("The fee is")), b'data: {"choices": [{"del', end=end)
    heard = Heard(chat)
    assert heard.text == "The fee is"
    assert not heard.complete
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "reason", ["length", "content_filter", "error", "max_tokens", "abort", "insufficient_system_resource"]
)
def test_an_answer_ended_by_a_limit_is_incomplete(host: OpenRouterServer, chat: OpenRouterChat, reason: str) -> None:
    """The contract's words for it, and those of compatible servers."""
    host.always = streams(event(chunk("The fee is", reason)), event(usage_chunk()), DONE)
    heard = Heard(chat)
    assert heard.text == "The fee is"
    assert not heard.complete


def test_a_whole_message_cut_by_a_limit_is_incomplete(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """A server that does not stream has limits too."""
    host.always = sends(completion("The fee is", "length"))
    assert not Heard(chat).complete


@pytest.mark.parametrize("field", ["content", "reasoning"])
def test_a_reply_that_never_ends_is_cut(host: OpenRouterServer, chat: OpenRouterChat, field: str) -> None:
    """Memory is bounded, thoughts included; the connection is closed, what came is kept and marked."""
    host.always = streams(*[event(chunk(**{"content": "", field: "x" * 300_000}))] * 4, end="stall")
    heard = Heard(chat)
    assert len("".join(heard.texts + heard.thoughts)) == 1_000_000
    assert not heard.complete
    assert host.disconnected.wait(5)


def test_a_whole_message_beyond_the_bound_is_cut(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """However it says it ended."""
    host.always = sends(completion("x" * 1_500_000))
    heard = Heard(chat)
    assert len(heard.text) == 1_000_000
    assert not heard.complete


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (event(error_chunk()), ProviderDown),
        (event(error_chunk("server_error", error_type="server")), ProviderDown),
        (event(error_chunk(429, error_type="rate_limit_exceeded")), RateLimited),
        (event(error_chunk(None, error_type="rate_limit_exceeded")), RateLimited),
        (b"data: no json\n\n", BadReply),
        (b"data: [1]\n\n", BadReply),
    ],
)
def test_an_error_amid_the_text_is_raised_after_it(
    host: OpenRouterServer, chat: OpenRouterChat, error: bytes, kind: type[ProviderError]
) -> None:
    """The caller keeps what came before, to the last character; nothing is asked again."""
    host.always = streams(event(chunk("The fee is <")), error)
    heard = Heard(chat)
    assert heard.text == "The fee is <"
    assert isinstance(heard.error, kind)
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
        FAULTS["error within"],
        FAULTS["error in the choice"],
        streams(COMMENT),
        streams(COMMENT, end="cut"),
        streams(COMMENT, event(error_chunk())),
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
    with pytest.raises(ModelUnavailable, match=r"chat model ~writer/latest .*FOOTNOTE_CHAT_MODEL"):
        list(chat.stream(TURNS, Errand()))


def test_an_endless_event_is_cut_short(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Memory is bounded whatever the server sends."""
    host.always = streams(event(chunk("a")), *([b"data: " + b"x" * 1_000_000] * 6))
    heard = Heard(chat)
    assert isinstance(heard.error, BadReply)
    assert heard.text == "a"


# ---------------------------------------------------------------- a form to fill in


def fill(chat: OpenRouterChat) -> Any:
    return chat.fill(TURNS, FORM, Errand(session="talk1"))


def test_a_form_is_filled_in(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The reply's object."""
    host.json_reply = '{"verdict": "supported"}'
    assert fill(chat) == {"verdict": "supported"}


def test_a_form_is_asked_for_with_nothing_a_model_may_lack(host: OpenRouterServer, client: Client) -> None:
    """Providers that do not list all parameters are passed over, so there is no temperature and no limit."""
    fill(OpenRouterChat(client, "m", routing=Routing(zdr=True, require_parameters=False), longest=500))
    assert sent(host) == {
        "model": "m",
        "messages": [{"role": turn.role, "content": turn.content} for turn in TURNS],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": FORM.schema},
        },
        "provider": {"zdr": True, "require_parameters": True},
        "session_id": "talk1",
    }


def test_how_much_to_think_about_a_form_is_told(host: OpenRouterServer, client: Client) -> None:
    """Where it is set."""
    fill(OpenRouterChat(client, "m", reasoning="none"))
    assert sent(host)["reasoning"] == {"effort": "none"}


def test_a_form_is_billed_once(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """As any other call."""
    bills: list[Spending] = []
    chat.fill(TURNS, FORM, Errand(bill=bills.append))
    assert [(bill.outcome, bill.model, bill.usage.prompt_tokens) for bill in bills] == [("done", MODEL, 120)]


REFUSALS = [
    fails(400, "'response_format' is not supported with this model"),
    fails(404, "No endpoints found that can handle the requested parameters."),
    fails(422, "json_schema: extra fields not permitted"),
    fails(503, "No provider meets the routing requirements."),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_server_without_forms_is_asked_in_words(host: OpenRouterServer, client: Client, refusal: Reply) -> None:
    """Once more, with the schema in the last turn, and as freely as for any answer."""
    chat = OpenRouterChat(client, "m", routing=Routing(zdr=True), longest=500)
    host.replies += [refusal, sends(completion('Sure: {"verdict": "partly"}'))]
    assert fill(chat) == {"verdict": "partly"}
    assert len(host.requests) == 2
    body = sent(host)
    assert "response_format" not in body
    assert body["provider"] == {"zdr": True}
    assert (body["temperature"], body["max_completion_tokens"]) == (0.2, 500)
    assert body["messages"][0]["content"] == TURNS[0].content
    assert body["messages"][1]["content"].startswith(TURNS[1].content)
    assert json.dumps(FORM.schema) in body["messages"][1]["content"]


def test_a_server_without_forms_is_remembered(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The next time it is asked in words at once."""
    answer = sends(completion('{"verdict": "partly"}'))
    host.replies += [REFUSALS[0], answer, answer]
    fill(chat)
    fill(chat)
    assert len(host.requests) == 3
    assert "response_format" not in sent(host)


def test_a_refusal_for_another_reason_is_not_held_against_the_form(
    host: OpenRouterServer, chat: OpenRouterChat
) -> None:
    """What is refused in words too is raised, and the next form is asked for as the first."""
    host.replies += [fails(400, "prompt is too long"), fails(400, "prompt is too long")]
    with pytest.raises(InputRejected):
        fill(chat)
    fill(chat)
    assert "response_format" in sent(host)


@pytest.mark.parametrize("fault", [fails(401), fails(402), fails(413), fails(403, metadata={"reasons": ["x"]})])
def test_other_failures_of_a_form_are_raised(host: OpenRouterServer, chat: OpenRouterChat, fault: Reply) -> None:
    """Words would not help."""
    host.always = fault
    with pytest.raises(ProviderError):
        fill(chat)
    assert len(host.requests) == 1


def test_a_form_is_found_in_what_is_around_it(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Thoughts and fences."""
    host.json_reply = '<think>Is it {"verdict": "none"}?</think>\n```json\n{"verdict": "supported"}\n```'
    assert fill(chat) == {"verdict": "supported"}


def test_a_form_may_come_in_parts(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """As any content."""
    whole = completion("")
    whole["choices"][0]["message"]["content"] = [
        {"type": "text", "text": '{"verdict": '},
        {"type": "text", "text": "1}"},
    ]
    host.always = sends(whole)
    assert fill(chat) == {"verdict": 1}


@pytest.mark.parametrize(
    "reply",
    [
        completion("It is supported."),
        completion('{"verdict": "supp', "length"),
        completion("", refusal="I cannot help with that."),
        completion('{"verdict": ' + "[" * 100_000),
        {"choices": []},
        {},
    ],
)
def test_a_reply_without_an_object_is_a_bad_one(
    host: OpenRouterServer, chat: OpenRouterChat, reply: dict[str, Any]
) -> None:
    """It is not asked again, which would cost as much as the first time."""
    host.always = sends(reply)
    with pytest.raises(BadReply, match=r"did not answer in the form .*FOOTNOTE_CHAT_MODEL"):
        fill(chat)
    assert len(host.requests) == 1


def test_a_bad_reply_says_who_made_it(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """What stands behind the sentence."""
    host.always = sends(completion("No."))
    with pytest.raises(BadReply) as caught:
        fill(chat)
    assert caught.value.failure == Failure(200, "Inventor", "gen-1", "", "models")


@pytest.mark.parametrize("fault", ["error within", "error in the choice", "502", "429", "reset", "html"])
def test_a_passing_fault_of_a_form_is_not_noticed(host: OpenRouterServer, chat: OpenRouterChat, fault: str) -> None:
    """Asked again, answered once."""
    host.replies.append(FAULTS[fault])
    assert fill(chat) == {}
    assert len(host.requests) == 2


def test_a_form_shows_pictures(host: OpenRouterServer, client: Client) -> None:
    """To a model that sees."""
    chat = OpenRouterChat(client, "m", takes_images=True)
    chat.fill([Turn("user", "Is it so?", images=(PICTURE,))], FORM, Errand())
    assert "data:image/jpeg;base64,/9j/" in json.dumps(sent(host))


# ---------------------------------------------------------------- stopping


def stopped_by(host: OpenRouterServer, stop: Stop) -> threading.Thread:
    """A thread that stops as soon as a request has arrived."""

    def run() -> None:
        host.wait_for_requests(1)
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_key_that_is_echoed_as_a_name_goes_nowhere(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Names of models and providers are kept in the ledger and shown."""
    echo = {**chunk("x", "stop"), "model": f"m-{KEY}", "provider": KEY}
    host.replies.append(streams(event(echo), DONE))
    bills: list[Spending] = []
    heard = Heard(chat, Errand(bill=bills.append))
    assert heard.finished is not None
    assert KEY not in repr((heard.finished, bills))


def test_a_server_that_refuses_the_session_is_asked_without(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """The header names it as well, and the server is not asked with it again."""
    host.replies.append(fails(400, "Unrecognized request argument supplied: session_id"))
    for _ in range(2):
        assert Heard(chat, Errand(session="s1")).complete
    assert ["session_id" in request.body for request in host.requests] == [True, False, False]
    assert {request.headers["x-session-id"] for request in host.requests} == {"s1"}


def test_usage_in_every_event_counts_once(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Some servers report what was used so far, again and again."""
    so_far = [{"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count} for count in (1, 2, 3)]
    host.replies.append(streams(*(event({**chunk("x"), "usage": usage}) for usage in so_far), STOP, DONE))
    bills: list[Spending] = []
    Heard(chat, Errand(bill=bills.append))
    assert [(bill.usage.prompt_tokens, bill.usage.completion_tokens) for bill in bills] == [(10, 3)]


def test_a_connection_is_used_again(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """A question does not wait for a handshake that the question before it made already."""
    ports = set()
    host.always = lambda handler: (ports.add(handler.client_address[1]), regular(handler))[1]
    for _ in range(3):
        assert Heard(chat).complete
    assert len(ports) == 1


def test_a_server_that_goes_on_after_the_end_is_left(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """What comes after the end is not waited for."""
    host.replies.append(streams(event(chunk("Done", "stop")), DONE, end="stall"))
    assert Heard(chat).text == "Done"
    assert host.disconnected.wait(10)


@pytest.mark.parametrize("reply", [stalls, streams(COMMENT, end="stall"), streams(event(chunk("a")), end="stall")])
def test_a_stop_closes_the_connection(host: OpenRouterServer, chat: OpenRouterChat, reply: Reply) -> None:
    """Silent before the reply, before the text or amid it; it is billed as stopped."""
    host.always = reply
    stop = Stop()
    bills: list[Spending] = []
    thread = stopped_by(host, stop)
    heard = Heard(chat, Errand(stop, bill=bills.append))
    thread.join()
    assert isinstance(heard.error, Stopped)
    assert host.disconnected.wait(5)
    assert len(host.requests) == 1
    assert [bill.outcome for bill in bills] == ["stopped"]


def test_a_stop_ends_a_form(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """And closes its connection."""
    host.always = stalls
    stop = Stop()
    thread = stopped_by(host, stop)
    with pytest.raises(Stopped):
        chat.fill(TURNS, FORM, Errand(stop))
    thread.join()
    assert host.disconnected.wait(5)


def test_a_reader_that_leaves_closes_the_connection(host: OpenRouterServer, chat: OpenRouterChat) -> None:
    """Closing the iterator ends the generation, and its cost."""
    host.always = streams(event(chunk("a")), end="stall")
    bills: list[Spending] = []
    pieces = chat.stream(TURNS, Errand(bill=bills.append))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert host.disconnected.wait(5)
    assert [bill.outcome for bill in bills] == ["stopped"]
