"""Takes pictures out of Word files. Runs in the limited child process only.

Only parts of the file itself are read. Windows metafiles (EMF, WMF), SVG and what Word draws itself (charts, shapes)
cannot be decoded here; the first three are counted in a warning.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rag.domain import Figure
from rag.parsing import encode
from rag.parsing.ending import Placed
from rag.parsing.figures import LEAST_EDGE, LONGEST_EDGE, Gathering
from rag.parsing.package import Package


def read(path: Path, pictures: Sequence[Placed], figure: Callable[[Figure], None]) -> tuple[str, ...]:
    """Give `figure` the pictures of a Word file that are worth searching, in document order; the warnings.

    Raises UnreadableDocument.
    """
    gathering = Gathering(figure)
    captions_above = _captions_above(pictures)
    undecoded: set[str] = set()
    looked_at: set[tuple[str, tuple[float, ...]]] = set()
    with Package(path) as package:
        for placed in pictures:
            if (placed.part, placed.cut) in looked_at:
                continue
            looked_at.add((placed.part, placed.cut))
            if gathering.full:
                gathering.leave_out()
                continue
            data = package.picture(placed.part)
            picture = encode.decoded(data, LONGEST_EDGE) if data else None
            if picture is None:
                undecoded.add(placed.part)
                continue
            left, top, right, bottom = placed.cut
            picture = picture.crop(
                (
                    round(left * picture.width),
                    round(top * picture.height),
                    round((1 - right) * picture.width),
                    round((1 - bottom) * picture.height),
                )
            )
            if min(picture.size) < LEAST_EDGE or encode.blank(picture):
                continue
            image = encode.bounded(picture, LONGEST_EDGE)
            if image is None:
                gathering.leave_out()
            else:
                gathering.add(Figure(1, "", False, image, _caption(placed, captions_above), placed.headings))
    return (*gathering.warnings(), *_undecoded(len(undecoded)))


def _captions_above(pictures: Sequence[Placed]) -> bool:
    """Whether this document's captions stand above their pictures, told by the pictures that have one side only."""
    above = sum(bool(placed.above and not placed.below) for placed in pictures)
    below = sum(bool(placed.below and not placed.above) for placed in pictures)
    return above > below


def _caption(placed: Placed, above: bool) -> str:
    beside = (placed.above or placed.below) if above else (placed.below or placed.above)
    return " – ".join(filter(None, (beside, placed.description if placed.description not in beside else "")))


def _undecoded(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    pictures = "1 picture is" if count == 1 else f"{count} pictures are"
    return (f"{pictures} damaged, too large or of a kind that cannot be searched (EMF, WMF, SVG).",)
