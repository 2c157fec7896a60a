"""Makes the sample documents from `content/*.md`: `python samples/make.py [folder]`.

The sources are a small part of Markdown: headings, paragraphs, "- " and "1. " lists, tables, "> " notes, **bold**,
and three marks of our own: `[body]` (arabic page numbers begin here), `!figure name caption`, and "key: value" lines
at the top, up to `---`. The number of dashes under a table's header gives the relative width of its columns.
Every run makes the same bytes: nothing depends on today, and the PDFs are not compressed (the output of zlib differs
between its builds; a DOCX has to be compressed, so only its entries are the same everywhere).
"""

import io
import itertools
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import docx
from docx.document import Document as Docx
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor
from docx.table import _Cell
from docx.text.paragraph import Paragraph as DocxParagraph
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.legends import Legend
from reportlab.graphics.shapes import Drawing, Line, Polygon, Rect, String
from reportlab.lib.colors import HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    KeepTogether,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.tableofcontents import TableOfContents

CONTENT = Path(__file__).parent / "content"
WRITTEN = datetime(2026, 4, 28, 9, 0)  # the date inside every file, so that each run makes the same bytes

# ---------------------------------------------------------------- reading the sources

Kind = Literal["heading", "paragraph", "caption", "bullets", "steps", "note", "table", "figure", "body"]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a source: `text` for most, `items` for lists, `rows` (header first) with `widths` for tables."""

    kind: Kind
    text: str = ""
    level: int = 0
    items: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    widths: tuple[int, ...] = ()
    right: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One document to make: the "key: value" lines and the blocks."""

    about: dict[str, str]
    blocks: tuple[Block, ...]


def read(path: Path) -> Source:
    """The source at `path`."""
    head, body = path.read_text(encoding="utf-8").split("\n---\n", 1)
    about = dict(line.split(": ", 1) for line in head.splitlines())
    return Source(about, tuple(block(text) for text in re.split(r"\n{2,}", body.strip())))


MARKS: tuple[tuple[str, Kind, int], ...] = (
    ("# ", "heading", 1),
    ("## ", "heading", 2),
    ("[body]", "body", 0),
    ("!figure ", "figure", 0),
    ("> ", "note", 0),
)


def block(text: str) -> Block:
    lines = text.splitlines()
    if text.startswith("|"):
        header, rule, *rows = (tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines)
        widths = tuple(cell.count("-") for cell in rule)
        return Block("table", rows=(header, *rows), widths=widths, right=tuple(cell.endswith(":") for cell in rule))
    if text.startswith("- "):
        return Block("bullets", items=tuple(line.removeprefix("- ") for line in lines))
    if text.startswith("1. "):
        return Block("steps", items=tuple(line.split(". ", 1)[1] for line in lines))
    for mark, kind, level in MARKS:
        if text.startswith(mark):
            return Block(kind, text.removeprefix(mark), level)
    return Block("caption" if text.startswith("Table ") else "paragraph", text)


# ---------------------------------------------------------------- PDF

INK, ACCENT, TINT, RULE, WARM = (HexColor(f"#{value}") for value in ("1d2b30", "17505a", "e8f0f0", "b9cacc", "c8793a"))
MARGIN, WIDTH = 27 * mm, A4[0] - 54 * mm
TEXT = ParagraphStyle("text", fontName="Times-Roman", fontSize=10.8, leading=15.4, textColor=INK, spaceAfter=7)
STYLES = {
    "text": TEXT,
    "list": ParagraphStyle("list", TEXT, leftIndent=15, bulletIndent=3, spaceAfter=4),
    "note": ParagraphStyle(
        "note", TEXT, backColor=TINT, borderPadding=(6, 9, 7, 9),
        leftIndent=9, rightIndent=9, spaceBefore=9, spaceAfter=14,
    ),
    "caption": ParagraphStyle(
        "caption", TEXT, fontName="Helvetica", fontSize=8.6, leading=12, spaceBefore=5, spaceAfter=4, keepWithNext=1
    ),
    "long caption": ParagraphStyle(
        "long caption", TEXT, fontName="Helvetica", fontSize=8.6, leading=12, spaceBefore=5, spaceAfter=4
    ),
    "under": ParagraphStyle("under", TEXT, fontName="Helvetica", fontSize=8.6, leading=12, spaceAfter=12),
    "cell": ParagraphStyle("cell", TEXT, fontName="Helvetica", fontSize=8.8, leading=11.8, spaceAfter=0),
    "title": ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=30, leading=36, textColor=ACCENT),
    "subtitle": ParagraphStyle("subtitle", fontName="Helvetica", fontSize=13, leading=19, textColor=INK),
    "contents": ParagraphStyle(
        "contents", fontName="Helvetica-Bold", fontSize=20, leading=26, textColor=ACCENT, spaceAfter=16
    ),
    1: ParagraphStyle(
        "chapter", fontName="Helvetica-Bold", fontSize=19, leading=24, textColor=ACCENT,
        spaceBefore=16, spaceAfter=10, keepWithNext=1,
    ),
    2: ParagraphStyle(
        "section", fontName="Helvetica-Bold", fontSize=12, leading=16, textColor=ACCENT,
        spaceBefore=11, spaceAfter=4, keepWithNext=1,
    ),
}  # fmt: skip
CELL_RIGHT = ParagraphStyle("cell right", STYLES["cell"], alignment=TA_RIGHT)
ENTRIES = [
    ParagraphStyle("entry 1", fontName="Helvetica-Bold", fontSize=9.6, leading=13, textColor=INK, spaceBefore=5),
    ParagraphStyle("entry 2", fontName="Helvetica", fontSize=9.2, leading=12.4, textColor=INK, leftIndent=12),
]


def roman(number: int) -> str:
    return ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")[number - 1]


class Pdf(BaseDocTemplate):
    """A PDF with an outline, page labels, and running headers and footers."""

    def __init__(self, target: io.BytesIO, about: dict[str, str], roman_front: bool) -> None:
        super().__init__(
            target, pagesize=A4, pageCompression=0, invariant=1, lang="en-GB",
            title=about["title"], author=about["company"], subject=about["subtitle"], creator=about["author"],
        )  # fmt: skip
        self.about = about
        self.roman_front = roman_front
        self.body_start = 1
        frame = Frame(MARGIN, 25 * mm, WIDTH, A4[1] - 54 * mm, 0, 0, 0, 0)
        page = PageTemplate("page", [frame], onPageEnd=self._page)
        cover = PageTemplate("cover", [frame], onPage=self._cover)
        self.addPageTemplates([page] if about.get("cover") == "no" else [cover, page])

    def beforeDocument(self) -> None:  # noqa: N802 (reportlab's name)
        """Forget what the run before this one counted (the contents need several runs)."""
        self.headings = 0

    def label(self, page: int) -> str:
        """What is printed at the foot of the page that is number `page` from 1."""
        if page < self.body_start:
            return roman(page)
        return str(page - self.body_start + 1)

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802 (reportlab's name)
        """Note where the body starts; put headings into the outline and the contents."""
        if isinstance(flowable, BodyStart):
            self.body_start = self.page
        level = getattr(flowable, "heading_level", 0)
        if level:
            text = flowable.getPlainText()
            self.headings += 1
            key = f"heading-{self.headings}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(text, key, level - 1, closed=level > 1)
            self.notify("TOCEntry", (level - 1, text, self.page, key))

    def _cover(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        canvas.setFillColor(ACCENT)
        canvas.rect(0, A4[1] - 62 * mm, A4[0], 62 * mm, stroke=0, fill=1)
        canvas.setFillColor(white)
        canvas.setFont("Helvetica-Bold", 13)
        canvas.drawString(MARGIN, A4[1] - 38 * mm, self.about["company"])
        canvas.setFont("Helvetica", 10)
        canvas.drawString(MARGIN, A4[1] - 44 * mm, "Heat recovery ventilation")
        canvas.setFillColor(WARM)
        canvas.rect(0, A4[1] - 64 * mm, A4[0], 2 * mm, stroke=0, fill=1)

    def _page(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.setFillColor(INK)
        canvas.setStrokeColor(RULE)
        canvas.drawString(MARGIN, A4[1] - 17 * mm, self.about["company"])
        canvas.drawRightString(A4[0] - MARGIN, A4[1] - 17 * mm, self.about["title"])
        canvas.line(MARGIN, A4[1] - 19 * mm, A4[0] - MARGIN, A4[1] - 19 * mm)
        canvas.drawRightString(A4[0] - MARGIN, 14 * mm, self.label(self.page))
        canvas.drawString(MARGIN, 14 * mm, self.about["subtitle"])

    def afterPage(self) -> None:  # noqa: N802 (reportlab's name)
        """Name the pages: roman numerals up to the body where a document marks one."""
        if self.page in (1, self.body_start):
            style = "ROMAN_LOWER" if self.roman_front and self.page == 1 else "ARABIC"
            self.canv.addPageLabel(self.page - 1, style, 1)


class BodyStart(Flowable):
    """Nothing to see: arabic page numbers begin on its page."""

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        """It takes no space."""
        return 0, 0

    def draw(self) -> None:
        """Nothing."""


def rich(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br/>")
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escaped)


def pdf(source: Source) -> bytes:
    """The document as PDF."""
    target = io.BytesIO()
    document = Pdf(target, source.about, Block("body") in source.blocks)
    document.multiBuild([*opening(source.about, document), *flowables(source.blocks)])
    return target.getvalue()


def opening(about: dict[str, str], document: Pdf) -> Iterator[Flowable]:
    titles = [Paragraph(rich(about["title"]), STYLES["title"]), Spacer(1, 4 * mm)]
    titles += [Paragraph(rich(about["subtitle"]), STYLES["subtitle"])]
    if about.get("cover") == "no":
        yield from titles
        yield Spacer(1, 5 * mm)
        yield Paragraph(rich(about["summary"]), STYLES["note"])
        return
    yield NextPageTemplate("page")
    yield Spacer(1, 78 * mm)
    yield from titles
    yield Spacer(1, 70 * mm)
    yield Paragraph(rich(about["summary"]), STYLES["text"])
    yield PageBreak()
    yield Paragraph("Contents", STYLES["contents"])
    yield TableOfContents(levelStyles=ENTRIES, dotsMinLevel=1, formatter=document.label)
    yield PageBreak()


def flowables(blocks: Sequence[Block]) -> Iterator[Flowable]:
    for number, item in enumerate(blocks):
        match item.kind:
            case "heading":
                if item.level == 1:
                    yield CondPageBreak(75 * mm)
                paragraph = Paragraph(rich(item.text), STYLES[item.level])
                paragraph.heading_level = item.level
                yield paragraph
            case "body":
                yield PageBreak()
                yield BodyStart()
            case "bullets":
                yield from (Paragraph(rich(text), STYLES["list"], bulletText="•") for text in item.items)
                yield Spacer(1, 4)
            case "steps":
                for step, text in enumerate(item.items, start=1):
                    yield Paragraph(rich(text), STYLES["list"], bulletText=f"{step}.")
                yield Spacer(1, 4)
            case "caption" if len(blocks[number + 1].rows) > 12:  # a long table may be split over pages
                yield CondPageBreak(60 * mm)
                yield Paragraph(rich(item.text), STYLES["long caption"])
            case "table":
                yield grid(item)
                yield Spacer(1, 12)
            case "figure":
                name, caption = item.text.split(" ", 1)
                yield KeepTogether([FIGURES[name](), Paragraph(rich(caption), STYLES["under"])])
            case _:
                yield Paragraph(rich(item.text), STYLES.get(item.kind, STYLES["text"]))


def grid(item: Block) -> Table:
    def cell(text: str, column: int, row: int) -> Paragraph:
        return Paragraph(
            rich(f"**{text}**" if text and row == 0 else text), CELL_RIGHT if item.right[column] else STYLES["cell"]
        )

    rows = [[cell(text, column, row) for column, text in enumerate(cells)] for row, cells in enumerate(item.rows)]
    table = Table(rows, [WIDTH * width / sum(item.widths) for width in item.widths], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), TINT),
                ("LINEABOVE", (0, 0), (-1, 0), 0.9, ACCENT),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
                ("LINEBELOW", (0, -1), (-1, -1), 0.9, ACCENT),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 5),
                ("RIGHTPADDING", (0, 0), (-1, -1), 5),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
            ]
        )
    )
    return table


def revenue() -> Drawing:
    """Two bars for each customer group."""
    drawing = Drawing(WIDTH, 150)
    chart = VerticalBarChart()
    chart.x, chart.y, chart.width, chart.height = 28, 24, WIDTH - 40, 100
    chart.data = [(3.55, 2.38, 2.05, 1.14), (4.10, 2.46, 1.97, 1.31)]
    chart.categoryAxis.categoryNames = ["Schools", "Clinics", "Offices", "Parts and maintenance"]
    chart.valueAxis.valueMin, chart.valueAxis.valueMax, chart.valueAxis.valueStep = 0, 5, 1
    chart.valueAxis.visibleGrid = 1
    chart.valueAxis.gridStrokeColor = RULE
    chart.valueAxis.strokeColor = chart.categoryAxis.strokeColor = RULE
    chart.groupSpacing, chart.barSpacing = 26, 2
    chart.barLabelFormat = "%.2f"
    chart.barLabels.nudge = 7
    for labels in (chart.barLabels, chart.valueAxis.labels, chart.categoryAxis.labels):
        labels.fontName, labels.fontSize, labels.fillColor = "Helvetica", 8, INK
    for bars, colour in zip((chart.bars[0], chart.bars[1]), (RULE, ACCENT), strict=True):
        bars.fillColor, bars.strokeColor = colour, None
    legend = Legend()
    legend.x, legend.y, legend.alignment, legend.columnMaximum, legend.deltax = 28, 146, "right", 1, 60
    legend.colorNamePairs = [(RULE, "Q1 2025"), (ACCENT, "Q1 2026")]
    legend.fontName, legend.fontSize, legend.dx, legend.dy, legend.strokeColor = "Helvetica", 8, 8, 8, None
    drawing.add(chart)
    drawing.add(legend)
    return drawing


def airflow() -> Drawing:
    """The two air paths through the casing, crossing in the core."""
    drawing = Drawing(WIDTH, 160)
    left, right, middle = 78, WIDTH - 78, WIDTH / 2
    drawing.add(Rect(left, 14, right - left, 136, fillColor=white, strokeColor=INK, strokeWidth=1.2))

    def path(points: list[tuple[float, float]], colour: HexColor) -> None:
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            drawing.add(Line(x1, y1, x2, y2, strokeColor=colour, strokeWidth=2.2))
        x, y = points[-1]
        step = 7 if points[-1][0] > points[-2][0] else -7
        drawing.add(
            Polygon([x + step, y, x - step / 3, y + 4, x - step / 3, y - 4], fillColor=colour, strokeColor=None)
        )

    def box(x: float, y: float, width: float, text: str) -> None:
        drawing.add(Rect(x - width / 2, y - 11, width, 22, fillColor=TINT, strokeColor=ACCENT, strokeWidth=0.7))
        drawing.add(String(x, y - 3, text, fontName="Helvetica", fontSize=7.5, fillColor=INK, textAnchor="middle"))

    low, high = 44, 120
    path([(left - 18, low), (middle - 34, low), (middle + 34, high), (right + 10, high)], ACCENT)
    path([(right + 18, low), (middle + 34, low), (middle - 34, high), (left - 10, high)], WARM)
    core = [middle, 42, middle + 42, 82, middle, 122, middle - 42, 82]
    drawing.add(Polygon(core, fillColor=TINT, strokeColor=ACCENT, strokeWidth=0.9, fillOpacity=0.85))
    drawing.add(
        String(middle, 79, "Core", fontName="Helvetica-Bold", fontSize=9, fillColor=ACCENT, textAnchor="middle")
    )
    box(left + 34, low, 52, "Supply filter")
    box(left + 92, low, 46, "Preheater")
    box(right - 36, low, 56, "Extract filter")
    box(left + 62, high, 56, "Extract fan")
    box(right - 100, high, 52, "Supply fan")
    box(right - 38, high, 46, "Reheater")
    for x, y, anchor, text in (
        (left - 22, low - 3, "end", "Outdoor air"),
        (left - 22, high - 3, "end", "Exhaust air"),
        (right + 22, low - 3, "start", "Extract air"),
        (right + 22, high - 3, "start", "Supply air"),
    ):
        drawing.add(String(x, y, text, fontName="Helvetica", fontSize=8.2, fillColor=INK, textAnchor=anchor))
    return drawing


FIGURES: dict[str, Callable[[], Drawing]] = {"revenue": revenue, "airflow": airflow}

# ---------------------------------------------------------------- DOCX


def word(source: Source) -> bytes:
    """The document as DOCX."""
    about = source.about
    document = docx.Document()
    dress(document)
    properties = document.core_properties
    properties.title, properties.subject = about["title"], about["subtitle"]
    properties.author = properties.last_modified_by = about["company"]
    properties.created = properties.modified = WRITTEN
    properties.comments, properties.language, properties.revision = "", "en-GB", 1
    section = document.sections[0]
    section.header.paragraphs[0].text = f"{about['company']} · {about['title']}"
    page_number(section.footer.paragraphs[0])
    document.add_paragraph(about["title"], "Title")
    document.add_paragraph(about["subtitle"], "Subtitle")
    document.add_paragraph(about["summary"])
    for item in source.blocks:
        match item.kind:
            case "heading":
                document.add_heading(item.text, item.level)
            case "bullets":
                for text in item.items:
                    bold_runs(document.add_paragraph(style="List Bullet"), text)
            case "table":
                word_table(document, item)
            case _:
                bold_runs(document.add_paragraph(), item.text)
    target = io.BytesIO()
    document.save(target)
    return dated_zip(target.getvalue())


def dress(document: Docx) -> None:
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.7)
    section.top_margin = section.bottom_margin = Cm(2.5)
    for name, size, before, after in (
        ("Normal", 10.5, 0, 6),
        ("Title", 26, 0, 2),
        ("Subtitle", 13, 0, 12),
        ("Heading 1", 17, 20, 6),
        ("Heading 2", 12.5, 12, 3),
        ("List Bullet", 10.5, 0, 3),
        ("Header", 8.5, 0, 0),
        ("Footer", 8.5, 0, 0),
    ):
        style = document.styles[name]
        fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
        for attribute in list(fonts.attrib):  # the template's theme fonts would win over a name
            del fonts.attrib[attribute]
        style.font.name, style.font.size, style.font.italic = "Calibri", Pt(size), False
        style.paragraph_format.space_before, style.paragraph_format.space_after = Pt(before), Pt(after)
        coloured = name.startswith(("Title", "Heading"))
        style.font.color.rgb = RGBColor.from_string("17505A" if coloured else "1D2B30")
    document.styles["Normal"].paragraph_format.line_spacing = 1.2
    borders = document.styles["Title"].element.pPr.find(qn("w:pBdr"))
    document.styles["Title"].element.pPr.remove(borders)


def bold_runs(paragraph: DocxParagraph, text: str) -> None:
    for number, part in enumerate(text.split("**")):
        if part:
            paragraph.add_run(part).bold = number % 2 == 1 or None


def word_table(document: Docx, item: Block) -> None:
    table = document.add_table(rows=0, cols=len(item.widths), style="Table Grid")
    table.autofit = False
    for number, cells in enumerate(item.rows):
        row = table.add_row()
        for cell, text, width in zip(row.cells, cells, item.widths, strict=True):
            cell.width = Cm(15.6 * width / sum(item.widths))
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_after = Pt(1)
            paragraph.add_run(text).bold = number == 0 or None
            if number == 0:
                shade(cell)
        properties = row._tr.get_or_add_trPr()
        properties.append(OxmlElement("w:cantSplit"))
        if number == 0:
            properties.append(OxmlElement("w:tblHeader"))  # repeats it at the top of each page
    document.add_paragraph().paragraph_format.space_after = Pt(2)


def shade(cell: _Cell) -> None:
    shading = OxmlElement("w:shd")
    for name, value in (("val", "clear"), ("color", "auto"), ("fill", "E8F0F0")):
        shading.set(qn(f"w:{name}"), value)
    cell._tc.get_or_add_tcPr().append(shading)


def page_number(paragraph: DocxParagraph) -> None:
    paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), "PAGE")
    paragraph._p.append(field)


def dated_zip(data: bytes) -> bytes:
    """The same archive with one fixed date in every entry."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            dated = zipfile.ZipInfo(entry.filename, WRITTEN.timetuple()[:6])
            dated.create_system = 0  # otherwise it names the operating system
            new.writestr(dated, old.read(entry), zipfile.ZIP_DEFLATED)
    return target.getvalue()


# ---------------------------------------------------------------- all of them


def make(folder: Path) -> list[Path]:
    """Write every sample into `folder`; returns the files."""
    made = []
    for path in sorted(CONTENT.glob("*.md")):
        source = read(path)
        target = folder / source.about["file"]
        target.write_bytes(pdf(source) if target.suffix == ".pdf" else word(source))
        made.append(target)
    return made


if __name__ == "__main__":
    for file in make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(f"{file.stat().st_size:>9,}  {file}")
