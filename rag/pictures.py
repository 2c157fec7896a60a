"""Pictures of PDF pages with the cited sentence lit, drawn in a limited child process and kept for a while."""

import base64
import binascii
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rag.domain import Page
from rag.errors import UnreadableDocument
from rag.parsing.process import Children
from rag.stopping import Stop

_KEPT_BYTES = 24 * 1024**2


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture; `marked` tells whether the passage could be lit on it."""

    image: bytes
    media_type: str
    marked: bool


_Key = tuple[str, int, tuple[tuple[int, int], ...], int]


class Pictures:
    """Draws pages; the pictures drawn last are kept in memory, at most `kept_bytes` of them."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._children = Children(1)
        self._kept: OrderedDict[_Key, Picture] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._stop = Stop()

    def page(self, path: Path, page: Page, spans: Sequence[tuple[int, int]], width: int) -> Picture:
        """The page, `width` pixels wide, with the passages `spans` (offsets in `page.text`) lit.

        `path` must never hold another file later (originals are named by their content). `marked` is False where
        nothing could be lit, as on pages read without positions. Raises UnreadableDocument.
        """
        key = (str(path), page.number, tuple(spans), width)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = self._draw(path, page, spans, width)
        self._keep(key, picture)
        return picture

    def close(self) -> None:
        """End the child process."""
        self._stop.set()
        self._children.close()

    def _draw(self, path: Path, page: Page, spans: Sequence[tuple[int, int]], width: int) -> Picture:
        request = {
            "task": "picture",
            "path": str(path.resolve()),
            "number": page.number,
            "runs": page.runs and [(run.start, run.source, run.length) for run in page.runs],
            "spans": list(spans),
            "width": width,
        }
        with self._children.child(self._stop) as child:
            for message in child.ask(request, self._stop):
                try:
                    image = base64.b64decode(message["image"], validate=True)
                except (KeyError, TypeError, binascii.Error) as error:
                    raise UnreadableDocument("This page cannot be drawn.") from error
                media_type = "image/png" if message["media_type"] == "image/png" else "image/jpeg"
                return Picture(image, media_type, bool(message["marked"]))
        raise UnreadableDocument("This page cannot be drawn.")

    def _keep(self, key: _Key, picture: Picture) -> None:
        with self._lock:
            if key in self._kept or len(picture.image) > self._kept_bytes:
                return
            self._kept[key] = picture
            self._bytes += len(picture.image)
            while self._bytes > self._kept_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.image)
