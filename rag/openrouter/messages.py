"""A dialogue as the messages of a chat request. Pure.

What later calls repeat comes first, so that a provider's cache can serve it. Most providers find that out themselves;
some want the end of it marked (OpenRouter's guide "Prompt caching"). A mark makes writing to the cache cost a quarter
more, so only texts that are said to be repeated are marked. The system's rules need no mark of their own: a mark
covers all that stands before it, and alone they are shorter than what providers cache at all (512 to 4,096 tokens).
"""

import re
from collections.abc import Sequence
from typing import Any

from rag.domain import Image, Turn
from rag.openrouter import pictures, usage

_WANTS_MARKS = re.compile(r"~?anthropic/|~?qwen/.*(max|plus|flash)")  # of Qwen's, those that Alibaba itself serves
_MOST_MARKS = 4
_MARK = {"cache_control": {"type": "ephemeral"}}

Message = dict[str, Any]


def messages(turns: Sequence[Turn], model: str, takes_images: bool) -> list[Message]:
    """One message per turn: a plain text, or parts where there are pictures to be seen or a mark to be set."""
    marked: set[int] = set()
    if _WANTS_MARKS.match(model):
        marked = set([index for index, turn in enumerate(turns) if turn.stable][-_MOST_MARKS:])
    return [
        {"role": turn.role, "content": _content(turn, turn.images if takes_images else (), index in marked)}
        for index, turn in enumerate(turns)
    ]


def estimated_tokens(turns: Sequence[Turn], takes_images: bool) -> int:
    """About how many tokens these turns are, for servers that do not say."""
    texts = sum(usage.estimated_tokens(text) for turn in turns for text in (turn.stable, turn.content))
    images = sum(len(turn.images) for turn in turns) if takes_images else 0
    return round(texts) + images * pictures.TOKENS


def _content(turn: Turn, images: Sequence[Image], marked: bool) -> str | list[Message]:
    if not images and not marked:
        return "\n\n".join(text for text in (turn.stable, turn.content) if text)
    stable = {"type": "text", "text": turn.stable}
    parts = [stable | _MARK if marked else stable, *map(_picture, images), {"type": "text", "text": turn.content}]
    return [part for part in parts if part.get("text") != ""]  # an empty part is refused


def _picture(image: Image) -> Message:
    """A part that shows a picture."""
    return {"type": "image_url", "image_url": {"url": pictures.data_uri(image)}}
