"""PDF files: pdfium for text with positions, outline and page labels; pypdf as the second try at text.

Runs in the limited child process only: a hostile file makes pdfium abort or take gigabytes. Both libraries raise
anything at all on damaged files, therefore `except Exception` around each, and one sentence for the person.
"""

import ctypes
import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pypdf
import pypdf.errors
import pypdfium2
import pypdfium2.raw as pdfium

from rag.domain import Block, Page
from rag.errors import UnreadableDocument
from rag.parsing import clean, structure
from rag.parsing.budget import Budget
from rag.parsing.ending import Ending, NoText
from rag.parsing.layout import Draft, Line, Words, compose

PROTECTED = "This PDF needs a password. Remove the password and upload it again."
ENCRYPTED = "This PDF is encrypted in a way that cannot be opened here. Remove the encryption and upload it again."
DAMAGED = "This PDF is damaged and cannot be read. Printing it to a new PDF often helps."
NO_TEXT = (
    "This PDF has no text that can be read: its pages are pictures (a scan) or blank. "
    "Run text recognition (OCR) on it and upload it again, or turn on pictures for this collection."
)
NO_PAGES = "This PDF has no pages."

_VISUAL_LINE = re.compile(r"[^\r\n\ufffe]+\ufffe?")
_RULE = re.compile(r"[-_=*~.\s]{3,}")  # a line drawn with signs
_WORD = re.compile(r"\S+")
_BLANK = " \t\u00a0\u200b\u3000\x00\x02"
_CELL_GAP = 1.2  # in multiples of the type size; the space between words of justified text stays well below
_CELL_GAP_FIXED = 1.9  # in typewriter faces, whose single space is this much wider
_BOLD_NAME = re.compile(rb"bold|black|heavy|semibold|demi", re.IGNORECASE)
_FORCE_BOLD, _ITALIC, _FIXED_PITCH = 1 << 18, 1 << 6, 1 << 0  # font descriptor flags
_CURRENCY = frozenset(("$", "€", "£", "¥", "₹", "(", "US$"))
_ENDS_OF_SUMS = frozenset("0123456789)%—")
_CLOSING = frozenset(")%")
_MARKER = re.compile(r"(?:[•●○◦▪■□–—*-]|\(?[\da-zA-Z]{1,4}[.)]|\d{1,2}(?:\.\d{1,2})+\.?)$")
_OUTLINE_ENTRIES = 5_000
_PAGES_NAMED = 12  # page numbers spelled out in a warning


def read(path: Path, begin: Callable[[int], None], page: Callable[[Page], None]) -> Ending:
    """Read a PDF: `begin` is told the number of pages, `page` is given each page in order.

    Raises UnreadableDocument, NoText after the pages. A file that pdfium cannot open, or finds no text in, is given to
    pypdf: then `begin` may be called a second time, and the pages start anew.
    """
    budget = Budget()
    try:
        return _with_pdfium(path, begin, page, budget)
    except UnreadableDocument:
        raise
    except _SecondTry as second_try:
        problem = second_try.problem
    return _with_pypdf(path, begin, page, budget, problem)


class _SecondTry(Exception):
    """pdfium got nothing; `problem` is what to raise if pypdf gets nothing either."""

    def __init__(self, problem: UnreadableDocument) -> None:
        super().__init__()
        self.problem = problem


# ---------------------------------------------------------------- pdfium


def _with_pdfium(path: Path, begin: Callable[[int], None], page: Callable[[Page], None], budget: Budget) -> Ending:
    try:
        document = pypdfium2.PdfDocument(path)
        count = len(document)
    except pypdfium2.PdfiumError as error:
        encrypted = error.err_code == pdfium.FPDF_ERR_SECURITY
        raise _SecondTry(UnreadableDocument(ENCRYPTED if encrypted else DAMAGED)) from error
    except Exception as error:
        raise _SecondTry(UnreadableDocument(DAMAGED)) from error
    with document:
        budget.pages(count)
        if count == 0:
            raise _SecondTry(UnreadableDocument(NO_PAGES))
        begin(count)
        words = Words()
        pages: list[Page] = []
        drafts: list[list[Draft]] = []
        empty: list[int] = []
        broken: list[int] = []
        for number in range(1, count + 1):
            lines: list[Line] = []
            width = 0.0
            try:
                lines, width = _lines(document, number - 1, budget)
                if not lines:
                    empty.append(number)
            except UnreadableDocument:
                raise
            except Exception:  # pdfium's Python side fails in many ways on damaged pages
                broken.append(number)
            words.add(" ".join(line.text for line in lines))
            composed, row = compose(lines, width, words, number, _label(document, number))
            pages.append(composed)
            drafts.append(row)
            page(composed)
        if not any(drafts):
            raise _SecondTry(_no_text(count, empty, broken))
        warnings = _broken(broken, count)
        return _ending(structure.blocks(pages, drafts, _outline(document)), warnings, empty)


def _lines(document: pypdfium2.PdfDocument, index: int, budget: Budget) -> tuple[list[Line], float]:
    """The lines of a page in the order of its content, and the page's width."""
    page = document[index]
    try:
        textpage = page.get_textpage()
        try:
            text = characters(textpage)
            budget.read(len(text))
            probe = _Probe(textpage)
            lines = [line for start, end in _visual_lines(text) if (line := probe.line(text, start, end))]
        finally:
            textpage.close()
        return lines, page.get_width()
    finally:
        page.close()


def characters(textpage: pypdfium2.PdfTextPage) -> str:
    """The page's text with exactly one character per pdfium character, so that offsets are pdfium's indexes."""
    count = textpage.count_chars()
    text: str = textpage.get_text_range(0, count) if count > 0 else ""
    if len(text) != count or (not text.isascii() and max(text) > "\uffff"):
        # pdfium leaves characters without a code out of the text, and may count an astral one as two.
        codes = (pdfium.FPDFText_GetUnicode(textpage.raw, index) for index in range(count))
        text = "".join(chr(code) if code <= 0x10FFFF else "\0" for code in codes)
    return text


def _visual_lines(text: str) -> Iterator[tuple[int, int]]:
    for match in _VISUAL_LINE.finditer(text):
        start, end = match.span()
        while start < end and text[start] in _BLANK:
            start += 1
        while end > start and text[end - 1] in _BLANK:
            end -= 1
        piece = text[start:end]
        if piece and (piece.isascii() or clean.clean(piece)) and not _RULE.fullmatch(piece):
            yield start, end


class _Probe:
    """Asks pdfium where the characters of one page stand. Buffers are made once: these calls are most of the work."""

    def __init__(self, textpage: pypdfium2.PdfTextPage) -> None:
        self._handle = textpage.raw
        self._box = tuple(ctypes.c_double() for _ in range(4))
        self._box_pointers = tuple(ctypes.byref(number) for number in self._box)
        self._origin = (ctypes.c_double(), ctypes.c_double())
        self._origin_pointers = tuple(ctypes.byref(number) for number in self._origin)
        self._matrix = pdfium.FS_MATRIX()
        self._matrix_pointer = ctypes.byref(self._matrix)
        self._name = ctypes.create_string_buffer(128)
        self._flags = ctypes.c_int()
        self._flags_pointer = ctypes.byref(self._flags)

    def line(self, text: str, start: int, end: int) -> Line | None:
        """The line of characters `start` to `end`; None when it lies in no definite place."""
        handle = self._handle
        pdfium.FPDFText_GetMatrix(handle, start, self._matrix_pointer)
        matrix = self._matrix
        size = pdfium.FPDFText_GetFontSize(handle, start) * math.hypot(matrix.c, matrix.d)
        if not 0.1 < size < 10_000:
            size = 1.0
        angle = round(math.degrees(math.atan2(matrix.b, matrix.a))) % 360
        pdfium.FPDFText_GetCharOrigin(handle, start, *self._origin_pointers)
        x, y = self._origin[0].value, self._origin[1].value
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        left, level = x * cosine + y * sine, y * cosine - x * sine
        last = end - 1 if text[end - 1] != "\ufffe" or end - start == 1 else end - 2
        right = max(self._right(last, cosine, sine), left)
        if not all(map(math.isfinite, (left, level, right))):
            return None
        styles = [self._style(index) for index in (start, (start + last) // 2, last)]
        bold, italic = (all(style) for style in zip(*styles, strict=True))
        piece = text[start:end]
        gaps: tuple[int, ...] = ()
        # Looking for gaps costs most, so only where the line is wider than its words make it; sums are worth a try.
        wide = 0.45 if piece[-1] in _ENDS_OF_SUMS else 0.6
        if angle == 0 and right - left > wide * size * len(piece):
            gaps = self._gaps(piece, start, size)
        return Line(piece, start, left, right, level, size, bold, italic, angle, gaps)

    def _right(self, index: int, cosine: float, sine: float) -> float:
        pdfium.FPDFText_GetCharBox(self._handle, index, *self._box_pointers)
        left, right, bottom, top = (number.value for number in self._box)
        return max(x * cosine + y * sine for x in (left, right) for y in (bottom, top))

    def _style(self, index: int) -> tuple[bool, bool]:
        """Whether a character is bold, and whether it is italic."""
        length = pdfium.FPDFText_GetFontInfo(self._handle, index, self._name, 128, self._flags_pointer)
        flags = self._flags.value
        bold = bool(flags & _FORCE_BOLD or (0 < length <= 128 and _BOLD_NAME.search(self._name.value)))
        return bold, bool(flags & _ITALIC)

    def _gaps(self, piece: str, start: int, size: float) -> tuple[int, ...]:
        """Where the next cell begins: words far from the word before, but not the figure after a currency sign."""
        found: list[int] = []
        far = size * (_CELL_GAP_FIXED if self._flags.value & _FIXED_PITCH else _CELL_GAP)
        end = math.inf
        before = ""
        left, right = self._box[0], self._box[1]
        for match in _WORD.finditer(piece):
            pdfium.FPDFText_GetCharBox(self._handle, start + match.start(), *self._box_pointers)
            # Sums may stand closer together: "$ (12,758) $ 165,450".
            enough = far / 2 if found and match.group() in _CURRENCY else far
            if left.value - end > enough and _begins_cell(match.group(), before, bool(found)):
                found.append(match.start())
            if match.end() - match.start() > 1:
                pdfium.FPDFText_GetCharBox(self._handle, start + match.end() - 1, *self._box_pointers)
            end = right.value
            before = match.group()
        return tuple(found)


def _begins_cell(word: str, before: str, further: bool) -> bool:
    """Whether a word far from the word before begins a cell: not the figure after a currency sign, nor what a list's
    marker stands before (unless the line has cells already), nor a bracket that closes."""
    if word[0] in _CLOSING or before in _CURRENCY:
        return False
    return further or not _MARKER.match(before)


def _label(document: pypdfium2.PdfDocument, number: int) -> str:
    try:
        return clean.clean(document.get_page_label(number - 1)) or str(number)
    except Exception:  # a damaged label is no reason to lose the page
        return str(number)


def _outline(document: pypdfium2.PdfDocument) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    try:
        for entry in islice(document.get_toc(), _OUTLINE_ENTRIES):
            destination = entry.get_dest()
            index = destination.get_index() if destination else None
            title = structure.comparable(clean.clean(entry.get_title()))
            if index is not None and title:
                found.setdefault((index + 1, title), entry.level + 1)
    except Exception:  # a damaged outline is no reason to lose the file
        return {}
    return found


def _ending(blocks: tuple[Block, ...], warnings: tuple[str, ...], empty: list[int]) -> Ending:
    """What was read; a file of nothing but page numbers and stray marks has no text."""
    ending = Ending(blocks, warnings, tuple(empty))
    if not blocks:
        raise NoText(NO_TEXT, ending)
    return ending


def _no_text(count: int, empty: list[int], broken: list[int]) -> NoText:
    return NoText(DAMAGED if broken else NO_TEXT, Ending((), _broken(broken, count), tuple(empty)))


def silent(numbers: Sequence[int], count: int, pictures: bool) -> tuple[str, ...]:
    """The warning that names the pages, of `count`, that have no text; with `pictures`, also none to search."""
    if not numbers:
        return ()
    if pictures:
        return (f"{_pages(numbers)} of {count} without text or picture: nothing there can be found or cited.",)
    return (
        f"{_pages(numbers)} of {count} without text (pictures or blank): nothing there can be found or cited "
        "unless pictures are turned on for this collection.",
    )


def _broken(numbers: Sequence[int], count: int) -> tuple[str, ...]:
    return (f"{_pages(numbers)} of {count} could not be read: damaged.",) if numbers else ()


def _pages(numbers: Sequence[int]) -> str:
    named = ", ".join(str(number) for number in numbers[:_PAGES_NAMED])
    more = f" and {len(numbers) - _PAGES_NAMED} more" if len(numbers) > _PAGES_NAMED else ""
    return f"{'Page' if len(numbers) == 1 else 'Pages'} {named}{more}"


# ---------------------------------------------------------------- pypdf


def _with_pypdf(
    path: Path, begin: Callable[[int], None], page: Callable[[Page], None], budget: Budget, problem: UnreadableDocument
) -> Ending:
    # Real quarterly reports hold arrays beyond pypdf's default limit of 100,000 elements.
    limits = pypdf.apply_configuration(
        array_maximum_element_count=2_000_000,
        dictionary_maximum_element_count=1_000_000,
        stream_parsing_work_maximum_count=10_000_000,
    )
    with limits:
        try:
            reader = pypdf.PdfReader(path)
            if reader.is_encrypted:
                reader.decrypt("")  # many files are encrypted against changes only; a wrong guess shows just below
            count = len(reader.pages)
        except pypdf.errors.FileNotDecryptedError as error:
            raise UnreadableDocument(PROTECTED) from error
        except Exception as error:
            raise problem from error
        budget.pages(count)
        if count == 0:
            raise UnreadableDocument(NO_PAGES)
        pages: list[Page] = []
        drafts: list[list[Draft]] = []
        empty: list[int] = []
        broken: list[int] = []
        for number in range(1, count + 1):
            try:
                text = reader.pages[number - 1].extract_text()
            except Exception:  # pypdf raises anything at all on damaged pages
                text = ""
                broken.append(number)
            budget.read(len(text))
            composed, row = _without_positions(text, number)
            if not row and number not in broken:
                empty.append(number)
            pages.append(composed)
            drafts.append(row)
        if not any(drafts):
            raise _no_text(count, empty, broken)
        begin(count)
        for each in pages:
            page(each)
        notice = "Read without positions: cited sentences are shown as text, not lit on the page."
        return _ending(structure.blocks(pages, drafts, {}), (notice, *_broken(broken, count)), empty)


def _without_positions(text: str, number: int) -> tuple[Page, list[Draft]]:
    """A page of plain lines: blank lines part its paragraphs."""
    paragraphs = [clean.clean(paragraph) for paragraph in re.split(r"\n\s*\n", text)]
    parts: list[str] = []
    drafts: list[Draft] = []
    length = 0
    for paragraph in filter(None, paragraphs):
        if parts:
            parts.append("\n\n")
            length += 2
        drafts.append(Draft("paragraph", length, length + len(paragraph), -float(len(drafts)), 0.0, False, 1))
        parts.append(paragraph)
        length += len(paragraph)
    return Page(number, str(number), "".join(parts), None), drafts
