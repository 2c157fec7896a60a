"""Small PDFs the tests make themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

WIDTH, HEIGHT = A4


def drawn(path: Path, *pages: Callable[[Canvas], None], rotation: int = 0) -> Path:
    """A PDF whose pages are drawn by the functions given."""
    canvas = Canvas(str(path), pagesize=A4, pageCompression=0, invariant=1)
    for draw in pages:
        canvas.setPageRotation(rotation)
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return path


def lines(
    canvas: Canvas, texts: Sequence[str], top: float = 760, left: float = 60, size: float = 10, font: str = "Helvetica"
) -> float:
    """Lines of type under one another, 1.2 sizes apart; the height where the next one would stand."""
    canvas.setFont(font, size)
    for text in texts:
        canvas.drawString(left, top, text)
        top -= 1.2 * size
    return top


def row(canvas: Canvas, cells: Sequence[str], top: float, lefts: Sequence[float], font: str = "Helvetica") -> None:
    """Cells of a table's row, each at its own place."""
    canvas.setFont(font, 10)
    for left, cell in zip(lefts, cells, strict=True):
        canvas.drawString(left, top, cell)


def raw(*objects: bytes, before: bytes = b"") -> bytes:
    """A PDF of these objects, the first being the catalogue, with junk `before` its header."""
    out = before + b"%PDF-1.7\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + trailer


def worded(text: str, before: bytes = b"") -> bytes:
    """A PDF of one page with one line of type."""
    stream = b"BT /F 12 Tf 50 700 Td (%s) Tj ET" % text.encode("ascii")
    return raw(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        before=before,
    )


def form_bomb() -> bytes:
    """2 KB that draw ten million letters: pdfium runs out of memory and aborts the process."""
    levels = 7
    stream = b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<<%s>>/Length %d>>stream\n%s\nendstream"
    calls = b"/X Do " * 10
    letters = b"BT /F 9 Tf (x) Tj ET"
    font = b"/Font<</F 5 0 R>>"
    forms = [stream % (b"/XObject<</X %d 0 R>>" % (7 + level), len(calls), calls) for level in range(levels)]
    return raw(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</X 6 0 R>>>>>>",
        b"<</Length 5>>stream\n/X Do\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *forms,
        stream % (font, len(letters), letters),
    )
