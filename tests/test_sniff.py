"""What a file is, whatever it is called."""

import io
import zipfile

import pytest

from rag.domain import DOCX, PDF
from rag.errors import UnreadableDocument
from rag.parsing.sniff import media_type

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


@pytest.mark.parametrize("name", ["report.pdf", "report.docx", "report", "REPORT.TXT"])
def test_a_pdf_is_a_pdf_whatever_its_name(name: str) -> None:
    """The header decides, not the extension."""
    assert media_type(b"%PDF-1.7\n...", name) == PDF


def test_a_pdf_header_may_come_late() -> None:
    """Mail gateways put bytes before the header; readers accept it within the first kilobyte."""
    assert media_type(b"\r\n" * 100 + b"%PDF-1.4", "scan") == PDF


@pytest.mark.parametrize("name", ["letter.docx", "letter.pdf", "letter"])
def test_a_word_file_is_told_by_its_parts(name: str) -> None:
    """A zip with a word/ folder is a Word document."""
    assert media_type(zipped("[Content_Types].xml", "word/document.xml"), name) == DOCX


@pytest.mark.parametrize(
    ("head", "name", "reason"),
    [
        (b"", "a.pdf", "empty"),
        (bytes(4096), "a.pdf", "empty"),
        (OLE, "a.docx", "encrypted"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a", "encrypted"),
        (OLE + "WordDocument".encode("utf-16-le"), "a.doc", "old Word"),
        (OLE + "WordDocument".encode("utf-16-le"), "a.docx", "old Word"),
        (zipped("xl/workbook.xml"), "a.xlsx", "Excel"),
        (zipped("ppt/presentation.xml"), "a.pptx", "PowerPoint"),
        (zipped("photo.jpg"), "a.zip", "Only PDF and Word"),
        (b"<html>", "a.html", "Only PDF and Word"),
        (b"just text", "a.docx", "not a Word document"),
    ],
)
def test_what_cannot_be_read_is_named(head: bytes, name: str, reason: str) -> None:
    """Each refusal says what the file is."""
    with pytest.raises(UnreadableDocument, match=reason):
        media_type(head, name)
