"""The parent's side of a file's pictures: nothing the child says about them is believed unchecked."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from rag.domain import Figure, Image, Page
from rag.errors import UnreadableDocument
from rag.parsing.budget import MAX_FIGURE_BYTES, MAX_FIGURES, MAX_FIGURES_BYTES

_BEGINNINGS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
_LONGEST_TEXT = 1_000  # characters of a caption or heading
_MOST_HEADINGS = 20


class Pictures:
    """The pictures of one file, as they come."""

    def __init__(self) -> None:
        self.found: list[Figure] = []
        self._bytes = 0

    def add(self, message: dict[str, Any], pages: Sequence[Page]) -> None:
        """Take a picture of one of these pages. Raises UnreadableDocument when it is not what it must be."""
        figure = _figure(message, pages)
        self._bytes += len(figure.image.data)
        if len(self.found) >= MAX_FIGURES or self._bytes > MAX_FIGURES_BYTES:
            raise UnreadableDocument("This file has too many pictures.")
        self.found.append(figure)


def _figure(message: dict[str, Any], pages: Sequence[Page]) -> Figure:
    try:
        media_type, data = message["media_type"], base64.b64decode(message["image"], validate=True)
        caption, headings, whole_page = message["caption"], message["headings"], message["whole_page"]
        label = next(page.label for page in pages if page.number == message["page"])
        sound = (
            data.startswith(_BEGINNINGS[media_type])
            and len(data) <= MAX_FIGURE_BYTES
            and isinstance(whole_page, bool)
            and isinstance(headings, list)
            and len(headings) <= _MOST_HEADINGS
            and all(isinstance(text, str) and len(text) <= _LONGEST_TEXT for text in (caption, *headings))
        )
    except (KeyError, TypeError, ValueError, StopIteration, binascii.Error):
        sound = False
    if not sound:
        raise UnreadableDocument("A picture of this file could not be read.")
    return Figure(message["page"], label, whole_page, Image(media_type, data), caption, tuple(headings))
