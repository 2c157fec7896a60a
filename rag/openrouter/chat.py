"""Chat: a dialogue in, the reply's text in pieces, or an object of a given form."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from rag.domain import Effort, Failure, Finished, ReasoningDelta, TextDelta, Turn
from rag.errors import BadReply, InputRejected, ModelUnavailable, ProviderError
from rag.interfaces import Errand, Form
from rag.openrouter.client import DONE, QUESTION_PATIENCE, Call, Client
from rag.openrouter.deltas import Characters, finish_reason_in, reasoning_in, text_in
from rag.openrouter.failures import Purpose, identified
from rag.openrouter.messages import estimated_tokens, messages
from rag.openrouter.routing import ANY_PROVIDER, Routing, as_provider
from rag.openrouter.structured import described, object_in, response_format
from rag.openrouter.thinking import Thinking
from rag.openrouter.usage import label

# Besides the contract's reasons those of DeepSeek, vLLM and others for ending a reply before its end.
_CUT_SHORT = frozenset({"length", "max_tokens", "content_filter", "error", "abort", "insufficient_system_resource"})
_FORM_REFUSED = frozenset({400, 404, 422, 500, 503})
_LONGEST_REPLY = 1_000_000  # characters, thoughts included: a server that never ends must not fill the memory
_LONGEST_TOKEN = 8  # characters, on the average of a text: servers that do not know the limit are held to it here


class OpenRouterChat:
    """A chat model behind OpenRouter or a compatible server (a `ChatModel`).

    `fallbacks` are at most three models that stand in for the first, in order. `temperature` is the default close to
    the sources and nearly repeatable (at 0 small models tend to repeat themselves), or None for the model's own.
    `longest` bounds a reply in tokens, thinking included.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        fallbacks: tuple[str, ...] = (),
        routing: Routing = ANY_PROVIDER,
        temperature: float | None = 0.2,
        longest: int | None = None,
        reasoning: Effort | None = None,
        takes_images: bool = False,
    ) -> None:
        self._client = client
        self._model = model
        self._fallbacks = fallbacks
        self._routing = routing
        self._temperature = temperature
        self._longest = longest
        self._reasoning = reasoning
        self._takes_images = takes_images
        # What this model's replies have shown so far.
        self._begins_amid_thoughts = False
        self._holds_to_forms = True
        self._names_session = True

    @property
    def model(self) -> str:
        """The configured name; an alias such as `~openai/gpt-mini-latest` is answered by another."""
        return self._model

    @property
    def takes_images(self) -> bool:
        """Whether it can see pictures; those of turns are left out where it cannot."""
        return self._takes_images

    def stream(self, turns: Sequence[Turn], errand: Errand) -> Iterator[TextDelta | ReasoningDelta | Finished]:
        """The reply as it comes, what it thinks apart from what it says, then one `Finished`.

        `Finished.complete` is False when the reply was cut off: by a limit, a filter or a lost connection. Closing the
        iterator, or the errand's stop, closes the connection at once. Raises ProviderError (also amid the text),
        Stopped.
        """
        try:
            yield from self._streamed(turns, errand)
        except InputRejected as refusal:
            if not (self._names_session and "session_id" in refusal.failure.said):
                raise
            self._names_session = False  # the header says it, too
            yield from self._streamed(turns, errand)

    def _streamed(self, turns: Sequence[Turn], errand: Errand) -> Iterator[TextDelta | ReasoningDelta | Finished]:
        body = {"stream": True, "stream_options": {"include_usage": True}, **self._sampling(), **self._provider()}
        model, reason, done = self._model, "", False
        room = min(_LONGEST_REPLY, _LONGEST_TOKEN * (self._longest or _LONGEST_REPLY))
        thinking = Thinking(self._begins_amid_thoughts)
        text, reasoning = Characters(), Characters()
        with closing(self._client.events(self._call(turns, errand, body), errand)) as events:  # type: ignore[type-var]
            try:
                for event in events:
                    done = event is DONE
                    model = label(event.get("model")) or model
                    reason = finish_reason_in(event) or reason
                    thought = reasoning_in(event)[:room]
                    said = text_in(event)[: room - len(thought)]
                    room -= len(thought) + len(said)
                    if whole := reasoning.whole(thought):
                        yield ReasoningDelta(whole)
                    yield from thinking.feed(text.whole(said))
                    if not room:
                        reason = "length"
                        break
            except ProviderError:
                yield from thinking.finish(complete=False)  # what came before the failure is kept
                raise
        complete = reason not in _CUT_SHORT if reason else done
        yield from thinking.finish(complete)
        self._begins_amid_thoughts = thinking.opened
        yield Finished(model, complete)

    def fill(self, turns: Sequence[Turn], form: Form, errand: Errand) -> Mapping[str, Any]:
        """The reply as a JSON object; its members may be missing or ill-typed. Raises ProviderError, Stopped.

        A server that cannot hold a model to a form is asked in words, and from then on at once.
        """
        if self._holds_to_forms:
            try:
                return self._filled(turns, errand, self._held_to(form))
            except (InputRejected, ModelUnavailable) as error:
                if error.status not in _FORM_REFUSED:
                    raise
        filled = self._filled(described(turns, form), errand, {**self._sampling(), **self._provider()})
        self._holds_to_forms = False  # only now is it known that the form was what it refused
        return filled

    def _held_to(self, form: Form) -> dict[str, Any]:
        # Providers that do not list every parameter of the request are passed over, so it has no other: models that
        # think often list no temperature, and many list max_tokens but not max_completion_tokens.
        return {"response_format": response_format(form), **self._provider(require_parameters=True)}

    def _filled(self, turns: Sequence[Turn], errand: Errand, body: Mapping[str, Any]) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._client.post(self._call(turns, errand, body), errand, lambda reply: reply)
        # Read here and not there, where nonsense is asked for again: another try would cost as much as the first.
        filled = object_in(text_in(reply)[:_LONGEST_REPLY])
        if filled is None:
            error = BadReply(
                f"The chat model {self._model} at {self._client.host} did not answer in the form it was asked for: "
                "choose another in Settings → Models (FOOTNOTE_CHAT_MODEL).",
                failure=Failure(200, "", "", "", "models"),
            )
            raise identified(error, reply, {})
        return filled

    def _call(self, turns: Sequence[Turn], errand: Errand, body: Mapping[str, Any]) -> Call:
        basis: dict[str, Any] = {
            "model": self._model,
            "messages": messages(turns, self._model, self._takes_images),
        }
        if self._fallbacks:
            basis["models"] = list(self._fallbacks)
        if self._reasoning:
            basis["reasoning"] = {"effort": self._reasoning}
        if errand.session and self._names_session:
            basis["session_id"] = errand.session
        return Call(
            path="/chat/completions",
            body={**basis, **body},
            purpose=Purpose("chat", self._model, "FOOTNOTE_CHAT_MODEL"),
            patience=QUESTION_PATIENCE,
            prompt_tokens=estimated_tokens(turns, self._takes_images),
        )

    def _sampling(self) -> dict[str, Any]:
        wanted = {"temperature": self._temperature, "max_completion_tokens": self._longest}
        return {name: value for name, value in wanted.items() if value is not None}

    def _provider(self, **members: Any) -> dict[str, Any]:
        provider = as_provider(self._routing, **members)
        return {"provider": provider} if provider else {}
