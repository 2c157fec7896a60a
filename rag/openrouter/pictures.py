"""Pictures as they travel inside a request: nothing is fetched, they are part of its text."""

import base64

from rag.domain import Image

TOKENS = 1_000
"""About what a picture counts for: models cut it into one to six tiles of about 260 tokens."""


def data_uri(image: Image) -> str:
    """The picture as a `data:` address (RFC 2397)."""
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
