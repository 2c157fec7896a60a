"""The pictures that go with passages to a model that sees: figures themselves, and the pages that text stands on."""

import logging
from collections.abc import Sequence

from rag.domain import PDF, Collection, Hit, Image
from rag.errors import FootnoteError
from rag.models import Models
from rag.pictures import Pictures
from rag.stores import Stores

logger = logging.getLogger(__name__)

_MOST = 4  # pictures with one question: each costs about as much as a thousand tokens
_WIDTH = 1_000  # pixels of a page


class Showing:
    """Shows models what readers see."""

    def __init__(self, stores: Stores, pictures: Pictures) -> None:
        self._stores = stores
        self._pictures = pictures

    def images(self, collection: Collection, hits: Sequence[Hit], models: Models) -> dict[int, Image]:
        """Pictures by the position of their hit: figures first, then pages, at most four in all.

        None where the collection's pictures are off, or the writer does not see. What cannot be drawn is left out.
        """
        if not collection.figures or models.chat is None or not models.chat.takes_images:
            return {}
        found: dict[int, Image] = {}
        keys: set[str] = set()
        by_figure = sorted(range(len(hits)), key=lambda index: hits[index].chunk.figure is None)
        for index in by_figure:
            if len(found) == _MOST:
                break
            image = self._image(hits[index])
            if image is not None and image.key not in keys:
                keys.add(image.key)
                found[index] = image
        return dict(sorted(found.items()))

    def _image(self, hit: Hit) -> Image | None:
        chunk = hit.chunk
        try:
            if chunk.figure is not None:
                return self._stores.figures.image(chunk)
            version = self._stores.library.version(chunk.version_id)
            if version.media_type != PDF or chunk.page_first is None:
                return None
            page = self._stores.passages.page(version.id, chunk.page_first)
            picture = self._pictures.page(self._stores.originals.path(version.sha256), page, (), _WIDTH)
        except FootnoteError as error:
            logger.info("A picture of chunk %s was left out: %s", chunk.id, type(error).__name__)
            return None
        return Image("image/png" if picture.media_type == "image/png" else "image/jpeg", picture.image)
