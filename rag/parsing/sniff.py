"""What a file is, by its content first and its name second."""

import io
import zipfile
from pathlib import PurePath

from rag.domain import DOCX, PDF, MediaType
from rag.errors import UnreadableDocument

HEAD_BYTES = 64 * 1024
"""How much of a file's beginning `media_type` wants to see."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PDF_WINDOW = 1024  # readers accept a PDF header anywhere in the first kilobyte
_OFFICE_PARTS = {b"xl/workbook": "an Excel workbook", b"ppt/presentation": "a PowerPoint presentation"}


def media_type(head: bytes, name: str) -> MediaType:
    """The media type of a file that begins with `head` and is called `name`.

    Raises UnreadableDocument for an empty file, an old or encrypted Office file and anything else not read here.
    """
    if not head.strip(b"\0 \t\r\n"):
        raise UnreadableDocument("This file is empty.")
    if b"%PDF-" in head[:_PDF_WINDOW]:
        return PDF
    suffix = PurePath(name).suffix.lower()
    if head.startswith(_OLE):
        raise UnreadableDocument(_ole_problem(head, suffix))
    if head.startswith(b"PK"):
        return _zip_type(head, suffix)
    if suffix == ".pdf":
        return PDF  # some readers repair files whose header is damaged; let the parsers judge
    if suffix == ".docx":
        raise UnreadableDocument("This is not a Word document, although its name says so: it may be damaged.")
    raise UnreadableDocument("Only PDF and Word (.docx) files can be read.")


def _ole_problem(head: bytes, suffix: str) -> str:
    old = "WordDocument".encode("utf-16-le") in head
    if "EncryptedPackage".encode("utf-16-le") in head or (suffix == ".docx" and not old):
        return "This Office file is encrypted. Remove its password and upload it again."
    return "This is an old Word or Office file. Save it as .docx or PDF and upload that."


def _zip_type(head: bytes, suffix: str) -> MediaType:
    if b"word/" in head or suffix == ".docx":
        return DOCX
    for part, description in _OFFICE_PARTS.items():
        if part in head:
            raise UnreadableDocument(f"This is {description}. Only PDF and Word (.docx) files can be read.")
    if suffix in {".xlsx", ".pptx", ".odt", ".zip"}:
        raise UnreadableDocument("Only PDF and Word (.docx) files can be read.")
    if zipfile.is_zipfile(io.BytesIO(head)):
        raise UnreadableDocument("This is a zip archive. Only PDF and Word (.docx) files can be read.")
    return DOCX
