"""What a reply thinks and what it says, told apart where both come as one text. Pure.

Many compatible servers leave a model's thoughts in its content, between tags: `<think>…</think>` before the answer.
Some prompt templates write the opening tag themselves; the reply then has the closing one only.
"""

from collections.abc import Callable

from rag.domain import ReasoningDelta, TextDelta

Piece = TextDelta | ReasoningDelta

_OPENING = "<think>"
_CLOSING = "</think>"
_LONGEST_LEAD = 200  # white space before the opening tag


class Thinking:
    """Reads one reply's content, cut anywhere: thoughts as `ReasoningDelta`, all else as `TextDelta`.

    With `opened` the reply is expected to begin amid thoughts. `opened` is then what the next reply of the same
    model should be expected to do: True once a closing tag came without an opening one.
    """

    def __init__(self, opened: bool = False) -> None:
        self.opened = opened
        self._state: Callable[[], list[Piece]] = self._beginning
        self._held = ""  # what may be part of a tag
        self._seen = False  # whether thoughts have come to their end
        self._unclosed: list[str] = []  # thoughts that are the answer after all, should no closing tag follow

    def feed(self, text: str) -> list[Piece]:
        """What can be told of the reply now that `text` has come."""
        self._held += text
        pieces: list[Piece] = []
        state = None
        while state != self._state:
            state = self._state
            pieces += state()
        return [piece for piece in pieces if piece.text]

    def finish(self, complete: bool) -> list[Piece]:
        """The rest; `complete` when the reply was not cut off.

        A complete reply that was expected to begin amid thoughts, but never ended them, has said all of it.
        """
        rest, self._held = self._held, ""
        pieces: list[Piece] = [ReasoningDelta(rest) if self._state == self._thinking else TextDelta(rest)]
        if self._state == self._thinking and self.opened and complete:
            self.opened = False
            pieces = [TextDelta("".join(self._unclosed) + rest)]
        return [piece for piece in pieces if piece.text]

    def _beginning(self) -> list[Piece]:
        """Nothing yet, or thoughts have just ended: a tag may come, after white space."""
        if self._seen:
            self._held = self._held.lstrip()
        text = self._held.lstrip()
        if text.startswith(_OPENING):
            self._held = text.removeprefix(_OPENING)
            self.opened = False
            self._state = self._thinking
        elif not _OPENING.startswith(text) or len(self._held) > _LONGEST_LEAD:
            self._state = self._thinking if self.opened and not self._seen else self._saying
        return []

    def _thinking(self) -> list[Piece]:
        thoughts = self._before_closing()
        if self.opened:
            self._unclosed.append(thoughts)
        return [ReasoningDelta(thoughts)]

    def _saying(self) -> list[Piece]:
        if self._seen:
            text, self._held = self._held, ""
            return [TextDelta(text)]
        text = self._before_closing()
        if not self._seen:
            return [TextDelta(text)]
        # Only the prompt can have opened what is closed here. What was passed on cannot be taken back, but the next
        # reply can be read rightly.
        self.opened = True
        return [TextDelta(f"{text}\n\n")]

    def _before_closing(self) -> str:
        """Take what stands before the closing tag, or before what may become one."""
        text, tag, rest = self._held.partition(_CLOSING)
        if tag:
            self._held, self._seen, self._state = rest, True, self._beginning
            return text
        held = next((size for size in range(len(_CLOSING) - 1, 0, -1) if text.endswith(_CLOSING[:size])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def said(content: str) -> str:
    """A whole reply without its thoughts."""
    if content.lstrip().startswith(("{", "`")):
        return content  # a tag is part of the JSON that was asked for
    thinking = Thinking(opened=_CLOSING in content)
    pieces = [*thinking.feed(content), *thinking.finish(complete=True)]
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
