"""Pictures as bytes: hostile ones decoded, ours encoded small and without what their makers wrote into them.

Runs in the limited child process only.
"""

import io
import warnings

import PIL.Image
import PIL.ImageOps

from rag.domain import Image
from rag.parsing.budget import MAX_FIGURE_BYTES

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
_MOST_PIXELS = 50_000_000
_QUALITY = 80
_SMALLER = (1.0, 0.7, 0.5)  # shares of the longest edge, tried until the file is small enough
_THINNEST = 16  # pixels; models refuse what is thinner, and nobody can read it
_SHADES = 24  # of 255; what differs less from the page's ground is noise of a scanner
_LEAST_INK = 0.0005  # of the pixels; a lone page number has less
_GLANCE = 800  # pixels of the longest edge that are looked at for ink


def decoded(data: bytes, longest: int) -> PIL.Image.Image | None:
    """The first frame of a picture as readers see it, in RGB on white; None where it cannot or must not be decoded.

    It may be given smaller than it is, but no smaller than `longest` pixels at its longest edge.
    """
    try:
        # What Pillow warns of is wrong with the file, and the child has nobody to tell.
        with (
            warnings.catch_warnings(action="ignore"),
            PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as picture,
        ):
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", (longest, longest))  # JPEG only
            picture.load()
            return _on_white(PIL.ImageOps.exif_transpose(picture))
    except MemoryError:
        raise
    except Exception:  # Pillow raises anything at all on damaged pictures
        return None


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")  # 16 bits of grey
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def blank(picture: PIL.Image.Image) -> bool:
    """Whether there is nothing to see: one colour all over, but for specks."""
    small = picture.convert("L")
    small.thumbnail((_GLANCE, _GLANCE), PIL.Image.Resampling.BOX)
    shades = small.histogram()
    ground = shades.index(max(shades))
    same = sum(shades[max(0, ground - _SHADES) : ground + _SHADES + 1])
    return sum(shades) - same < _LEAST_INK * sum(shades)


def bounded(picture: PIL.Image.Image, longest: int) -> Image | None:
    """The picture (RGB) encoded, at most `longest` pixels at its longest edge.

    None where it stays too large a file, or becomes too thin to see.
    """
    for share in _SMALLER:
        edge = int(longest * share)
        smaller = picture.copy()
        smaller.thumbnail((edge, edge), PIL.Image.Resampling.LANCZOS)
        if min(smaller.size) < _THINNEST:
            return None
        data, media_type = smallest(smaller, _QUALITY)
        if len(data) <= MAX_FIGURE_BYTES:
            return Image("image/png" if media_type == "image/png" else "image/jpeg", data)
    return None


def smallest(picture: PIL.Image.Image, quality: int) -> tuple[bytes, str]:
    """PNG for type and drawings, JPEG of this quality where that is smaller; nothing but the pixels is kept."""
    picture.info.clear()  # Pillow would write comments and colour profiles again
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.quantize(256, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE).save(png, "PNG")
    picture.save(jpeg, "JPEG", quality=quality, optimize=True)
    if len(png.getvalue()) <= len(jpeg.getvalue()):
        return png.getvalue(), "image/png"
    return jpeg.getvalue(), "image/jpeg"
