"""Chat: a dialogue in, the reply's text in pieces."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rag.domain import Finished, TextDelta, Turn, Usage
from rag.openrouter.client import DONE, QUESTION_PATIENCE, Call, Client
from rag.openrouter.failures import Purpose
from rag.openrouter.usage import usage_in
from rag.stopping import Stop

_CUT_SHORT = frozenset({"length", "max_tokens", "content_filter", "error"})
_TEMPERATURE = 0.2  # close to the sources and nearly repeatable; at 0 small models tend to repeat themselves
_LONGEST_NAME = 200


class OpenRouterChat:
    """A chat model behind OpenRouter or a compatible server (a `ChatModel`)."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model

    @property
    def model(self) -> str:
        """The configured name; an alias such as `~openai/gpt-mini-latest` is answered by another."""
        return self._model

    def stream(self, turns: Sequence[Turn], stop: Stop) -> Iterator[TextDelta | Finished]:
        """The reply's text as it comes, without any reasoning, then one `Finished`.

        `Finished.complete` is False when the reply was cut off: by the length limit, a filter or a lost connection.
        Raises ProviderError (also amid the text), Stopped.
        """
        call = Call(
            path="/chat/completions",
            body={
                "model": self._model,
                "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
                "stream": True,
                "temperature": _TEMPERATURE,
            },
            purpose=Purpose("chat", self._model, "FOOTNOTE_CHAT_MODEL"),
            patience=QUESTION_PATIENCE,
        )
        model, usage, reason, done = self._model, Usage(), None, False
        half = ""
        for event in self._client.events(call, stop):
            if event is DONE:
                done = True
                break
            if isinstance(name := event.get("model"), str) and name.isprintable():
                model = name[:_LONGEST_NAME]
            usage = usage_in(event) or usage
            choice = _first_choice(event)
            text, half = _whole_characters(half + _text(choice))
            if text:
                yield TextDelta(text)
            reason = str(choice.get("finish_reason") or "") or reason
        yield Finished(model=model, usage=usage, complete=reason not in _CUT_SHORT if reason else done)


def _first_choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = event.get("choices")  # [] in the chunk that carries the usage
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def _text(choice: Mapping[str, Any]) -> str:
    """The answer's text in a choice. Reasoning stands in other fields of the delta and is not the answer."""
    delta = choice.get("delta") or choice.get("message")  # a whole message where the server does not stream
    content = delta.get("content") if isinstance(delta, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _whole_characters(text: str) -> tuple[str, str]:
    """The text with its surrogate pairs joined, and a first half at its end that waits for its second.

    Servers cut between the two halves of an emoji written as JSON escapes; a lone half can be neither stored nor sent.
    """
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    whole = text.removesuffix(half) if half else text
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), half
