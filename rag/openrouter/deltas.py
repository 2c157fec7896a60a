"""What one event of a streamed chat reply adds to it, or the whole reply of a server that does not stream. Pure."""

from collections.abc import Mapping
from typing import Any


def finish_reason_in(event: Mapping[str, Any]) -> str:
    """Why the reply ended, "" while it goes on."""
    return str(_choice(event).get("finish_reason") or "")


def text_in(event: Mapping[str, Any]) -> str:
    """What is said: the content and, where the model declines, its refusal."""
    delta = _delta(event)
    content, refusal = delta.get("content"), delta.get("refusal")
    text = content if isinstance(content, str) else _joined(content, "text", "refusal")
    return text + (refusal if isinstance(refusal, str) else "")


def reasoning_in(event: Mapping[str, Any]) -> str:
    """What is thought. Servers name it differently, and often say the same under several names."""
    delta = _delta(event)
    texts = (delta.get("reasoning"), delta.get("reasoning_content"))
    plain = next((text for text in texts if isinstance(text, str) and text), "")
    return plain or _joined(delta.get("reasoning_details"), "text", "summary")


class Characters:
    """Joins surrogate pairs: servers cut between the two halves of an emoji written as JSON escapes."""

    def __init__(self) -> None:
        self._half = ""

    def whole(self, text: str) -> str:
        """The text with its pairs joined. A first half at its end waits for its second.

        A half alone, which can be neither stored nor sent, becomes the replacement character.
        """
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text[: len(text) - len(self._half)]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = event.get("choices")  # [] in the event that carries the usage
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def _delta(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choice = _choice(event)
    delta = choice.get("delta") or choice.get("message")  # a whole message where the server does not stream
    return delta if isinstance(delta, dict) else {}


def _joined(parts: object, *members: str) -> str:
    """The texts in a list of parts, each under one of these members."""
    known = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    texts = [part.get(member) for part in known for member in members]
    return "".join(text for text in texts if isinstance(text, str))
