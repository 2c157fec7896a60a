"""Where a Word file's XML shows a picture of the file: DrawingML (`a:blip`) and the older VML (`v:imagedata`).

Runs in the limited child process only. Elements are told by their local names, so that Strict files need no second
set. Charts and shapes drawn by Word itself hold no picture and are not found.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from lxml import etree

from rag.parsing import clean

_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_SHOWS = {"blip": f"{_R}embed", "imagedata": f"{_R}id"}  # never r:link, which points out of the file
_FILE_NAME = (".bmp", ".emf", ".gif", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp", ".wmf")
_WHOLE = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture shown: its relationship, its alternative text ("" without), and the shares (0 to 1) of its width and
    height cut off at the left, top, right and bottom."""

    relationship: str
    description: str
    cut: tuple[float, float, float, float]


def drawings(element: etree._Element, skipped: Set[str], description: str = "") -> Iterator[Drawing]:
    """The pictures in an element, in document order, without those in elements named in `skipped` (tags)."""
    for child in element:
        if not isinstance(child.tag, str) or child.tag in skipped:
            continue
        name = _local(child)
        relationship = child.get(_SHOWS[name]) if name in _SHOWS else None
        if relationship:
            yield Drawing(relationship, description, _cut(child.getparent()))
        yield from drawings(child, skipped, _description(child) or description)


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _description(element: etree._Element) -> str:
    """The alternative text that an element gives for what is in it; names of files are none."""
    match _local(element):
        case "inline" | "anchor":
            found = [child.get("descr") for child in element if _local(child) == "docPr"]
        case "pic" | "wsp":
            found = [inner.get("descr") for inner in element.iter("{*}cNvPr")]
        case "shape":
            found = [element.get("alt")]
        case _:
            return ""
    text = clean.clean(next(filter(None, found), ""))
    return "" if text.casefold().endswith(_FILE_NAME) else text


def _cut(fill: etree._Element | None) -> tuple[float, float, float, float]:
    """What the author cropped away, which readers do not see either."""
    frame = next((child for child in fill if _local(child) == "srcRect"), None) if fill is not None else None
    if frame is None:
        return _WHOLE
    left, top, right, bottom = (_share(frame.get(side, "0")) for side in "ltrb")
    return (left, top, right, bottom) if left + right < 1 and top + bottom < 1 else _WHOLE


def _share(text: str) -> float:
    """A share written as thousandths of a percent, or in Strict files as "12.5%"; 0 where it is neither."""
    try:
        share = float(text.rstrip("%")) / 100 if text.endswith("%") else int(text) / 100_000
    except ValueError:
        return 0.0
    return min(max(share, 0.0), 1.0)
