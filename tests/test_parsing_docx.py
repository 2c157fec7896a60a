"""Word files are read whole, in document order, whatever wraps their text."""

import zipfile
from pathlib import Path

import docx
import pytest
from docx.document import Document
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from rag.domain import Block, Page
from rag.errors import UnreadableDocument
from rag.parsing.docx import read

W = nsdecls("w")


def saved(document: Document, tmp_path: Path) -> Path:
    path = tmp_path / "a.docx"
    document.save(str(path))
    return path


def blocks(path: Path) -> list[Block]:
    return list(read(path, lambda total: None, lambda page: None).blocks)


def append(document: Document, xml: str) -> None:
    body = document.element.body
    body.insert(len(body) - 1, parse_xml(xml))


def replaced(path: Path, old: bytes, new: bytes, parts: str = "") -> Path:
    """The same file with bytes of its XML parts replaced."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data.replace(old, new) if parts in name else data)
    return path


def test_headings_lists_and_paragraphs_keep_their_order(tmp_path: Path) -> None:
    """Styles give kinds and trails; list items have their markers."""
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Leave", 1)
    document.add_paragraph("Everyone has 25 days.")
    document.add_paragraph("Ask early.", style="List Bullet")
    document.add_paragraph("Fill in the form.", style="List Number")
    document.add_paragraph("Send it.", style="List Number")
    document.add_heading("Sickness", 2)
    document.add_paragraph("Call before ten.")
    document.add_heading("Travel", 1)
    found = [(block.kind, block.text, block.headings) for block in blocks(saved(document, tmp_path))]
    leave = ("Handbook", "Leave")
    assert found == [
        ("heading", "Handbook", ()),
        ("heading", "Leave", ("Handbook",)),
        ("paragraph", "Everyone has 25 days.", leave),
        ("list", "• Ask early.", leave),
        ("list", "1. Fill in the form.", leave),
        ("list", "2. Send it.", leave),
        ("heading", "Sickness", leave),
        ("paragraph", "Call before ten.", (*leave, "Sickness")),
        ("heading", "Travel", ("Handbook",)),
    ]


def test_the_document_is_one_page_without_label_or_positions(tmp_path: Path) -> None:
    """Blocks are exactly their place in its text, parted by blank lines."""
    document = docx.Document()
    document.add_paragraph("One.")
    document.add_paragraph("  Two\u00a0words \ufb01t.  ")
    pages: list[Page] = []
    ending = read(saved(document, tmp_path), lambda total: None, pages.append)
    assert pages == [Page(1, "", "One.\n\nTwo words fit.", None)]
    assert [(block.start, block.end, block.page) for block in ending.blocks] == [(0, 4, 1), (6, 20, 1)]


def test_a_table_keeps_rows_and_its_header(tmp_path: Path) -> None:
    """Row by row, cells set apart, and where the header row ends."""
    document = docx.Document()
    table = document.add_table(0, 2)
    for cells in (("Model", "Weight"), ("A1", "2 kg"), ("B2", "3 kg")):
        for cell, text in zip(table.add_row().cells, cells, strict=True):
            cell.text = text
    (block,) = blocks(saved(document, tmp_path))
    assert block.kind == "table"
    assert block.text == "Model | Weight\nA1 | 2 kg\nB2 | 3 kg"
    assert block.header_end == len("Model | Weight")


def test_a_table_that_only_arranges_text_is_read_as_paragraphs(tmp_path: Path) -> None:
    """One column is no table."""
    document = docx.Document()
    document.add_table(1, 1).cell(0, 0).text = "A framed remark."
    assert [(block.kind, block.text) for block in blocks(saved(document, tmp_path))] == [
        ("paragraph", "A framed remark.")
    ]


@pytest.mark.parametrize(
    "wrapped",
    [
        f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>here</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        f"<w:p {W}><w:sdt><w:sdtContent><w:r><w:t>here</w:t></w:r></w:sdtContent></w:sdt></w:p>",
        f"<w:p {W}><w:ins w:id='1' w:author='a'><w:r><w:t>here</w:t></w:r></w:ins></w:p>",
        f"<w:p {W}><w:smartTag><w:r><w:t>here</w:t></w:r></w:smartTag></w:p>",
        f"<w:p {W}><w:hyperlink><w:r><w:t>here</w:t></w:r></w:hyperlink></w:p>",
        f"<w:p {W}><w:fldSimple w:instr='PAGE'><w:r><w:t>here</w:t></w:r></w:fldSimple></w:p>",
        f"<w:p {W}><w:r><w:txbxContent><w:p><w:r><w:t>here</w:t></w:r></w:p></w:txbxContent></w:r></w:p>",
        f"<w:tbl {W}><w:tr><w:tc><w:p><w:r><w:t>here</w:t></w:r></w:p></w:tc></w:tr></w:tbl>",
    ],
)
def test_text_is_found_in_whatever_wraps_it(tmp_path: Path, wrapped: str) -> None:
    """Content controls, tracked insertions, smart tags, links, fields and text boxes."""
    document = docx.Document()
    append(document, wrapped)
    assert [block.text for block in blocks(saved(document, tmp_path))] == ["here"]


def test_deleted_text_and_second_copies_are_left_out(tmp_path: Path) -> None:
    """Tracked deletions and the fallback of alternate content are not what the document says."""
    document = docx.Document()
    fallback = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    run = "<w:r><w:t>{}</w:t></w:r>"
    append(
        document,
        f"<w:p {W} xmlns:mc='{fallback}'>{run.format('kept')}"
        f"<w:del w:id='1' w:author='a'>{run.format('deleted')}</w:del>"
        f"<mc:AlternateContent><mc:Choice>{run.format(' once')}</mc:Choice>"
        f"<mc:Fallback>{run.format(' twice')}</mc:Fallback></mc:AlternateContent></w:p>",
    )
    assert [block.text for block in blocks(saved(document, tmp_path))] == ["kept once"]


def test_strict_files_are_read(tmp_path: Path) -> None:
    """The other namespace of the same format."""
    document = docx.Document()
    document.add_heading("Strict", 1)
    document.add_paragraph("It reads.")
    path = replaced(
        saved(document, tmp_path),
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        b"http://purl.oclc.org/ooxml/wordprocessingml/main",
    )
    assert [(block.kind, block.text) for block in blocks(path)] == [("heading", "Strict"), ("paragraph", "It reads.")]


def test_footnotes_come_at_the_end_and_belong_to_no_section(tmp_path: Path) -> None:
    """Their separators are not text."""
    document = docx.Document()
    document.add_heading("Terms", 1)
    document.add_paragraph("Pay soon.")
    path = saved(document, tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "word/footnotes.xml",
            f"<w:footnotes {W}><w:footnote w:type='separator' w:id='0'><w:p><w:r><w:t>--</w:t></w:r></w:p></w:footnote>"
            "<w:footnote w:id='2'><w:p><w:r><w:t>Within ten days.</w:t></w:r></w:p></w:footnote></w:footnotes>",
        )
    last = blocks(path)[-1]
    assert (last.text, last.headings) == ("Within ten days.", ())


def test_a_document_without_text_says_so(tmp_path: Path) -> None:
    """Nothing to index is a failure with a reason."""
    with pytest.raises(UnreadableDocument, match="no text"):
        blocks(saved(docx.Document(), tmp_path))


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    """The declared size is checked before anything is unpacked."""
    path = saved(docx.Document(), tmp_path)
    replaced(path, b"<w:body>", b"<w:body>" + b" " * (20 * 1024**2), "document.xml")
    with pytest.raises(UnreadableDocument, match="unpacks to far more"):
        blocks(path)


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    """No billion laughs, no file of the server's in the text."""
    document = docx.Document()
    document.add_paragraph("MARK")
    path = saved(document, tmp_path)
    replaced(
        path, b"<w:document", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><w:document', "word/document"
    )
    replaced(path, b"MARK", b"safe&e;", "word/document")
    assert [block.text for block in blocks(path)] == ["safe"]


@pytest.mark.parametrize("keep", [10, 300, 5000])
def test_a_truncated_file_is_damaged(tmp_path: Path, keep: int) -> None:
    """However early it breaks off, the reason is a sentence."""
    document = docx.Document()
    document.add_paragraph("text " * 1000)
    path = saved(document, tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableDocument, match="damaged"):
        blocks(path)
