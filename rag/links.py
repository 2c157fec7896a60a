"""Signed links to page pictures: whoever holds one may see that page, and nothing else. The only home of itsdangerous.

A link holds a message's id and a citation's number, never text. The key is made in the data folder at first use.
"""

import functools
import os
import secrets
import threading
from pathlib import Path

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from rag.errors import NotFound

SECONDS = 24 * 3600
"""How long a link can be used at least; ages are counted in whole hours, so it may be one more."""

_SAME_LINK_SECONDS = 3600
_making_key = threading.Lock()


class _HourlySigner(TimestampSigner):
    """Signs with the hour, so that a page drawn again has the same links and browsers keep the pictures."""

    def get_timestamp(self) -> int:
        return super().get_timestamp() // _SAME_LINK_SECONDS * _SAME_LINK_SECONDS


def sign(folder: Path, message_id: str, number: int) -> str:
    """The token of citation `number` of a message, signed with the data folder's key."""
    token = _serializer(folder).dumps([message_id, number])
    return token if isinstance(token, str) else token.decode()


def verify(folder: Path, token: str) -> tuple[str, int]:
    """The message id and citation number that a token was made for. Raises NotFound when it is wrong or has expired."""
    try:
        message_id, number = _serializer(folder).loads(token, max_age=SECONDS)
    except BadData as error:
        raise NotFound("This link is wrong or has expired.") from error
    return message_id, number


@functools.cache
def _serializer(folder: Path) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(_key(folder / "links.key"), salt="page pictures", signer=_HourlySigner)


def _key(path: Path) -> bytes:
    with _making_key:
        if not path.exists():
            made = path.with_suffix(".new")
            made.unlink(missing_ok=True)
            # Readable by nobody else from its first byte on, and never half-written under its name.
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_hex(32).encode())
            made.replace(path)
        return path.read_bytes()
