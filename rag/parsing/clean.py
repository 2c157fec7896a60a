"""Text made safe and searchable at the edge, with every character's origin kept.

What changes: white space becomes one plain space; ligatures, presentation forms, full-width letters and mathematical
alphabets become plain letters (NFKC); letters and their combining marks are composed (NFC); symbol-font bullets become
"•". What goes: control and direction characters, soft hyphens, zero-width characters, lone surrogates, noncharacters
and private-use characters, which no reader could see.
What stays: ², ½, ™, №, … and the like, because there NFKC changes the meaning
("m²" would read "m2", "1½" would read "11⁄2").
"""

import re
import unicodedata

_SPACE = r"\s\x1c-\x1f\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_DROPPED = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff0-\ufffc\ufffe\uffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
)
_COMPATIBLE = "\u2f00-\u2fd5\uf900-\ufaff\ufb00-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\uff01-\uffee\U0001d400-\U0001d7ff"
_UNCLEAN = re.compile(
    rf"[{_SPACE}]{{2,}}|[\t\n\v\f\r\x1c-\x1f\x85\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
    rf"|[{_DROPPED}]+"
    r"|[^\W\d_][\u0300-\u036f]+"
    rf"|[{_COMPATIBLE}\ue000-\uf8ff]"
)
_SPACES = re.compile(rf"[{_SPACE}]+")
_SYMBOL_BULLETS = frozenset("\uf06c\uf06e\uf076\uf0a7\uf0a8\uf0b7\uf0d8\uf0fc")
_LONGEST_EXPANSION = 4  # a few Arabic signs stand for whole phrases; those stay one sign


def pieces(text: str) -> list[tuple[str, int]]:
    """The clean text in pieces `(piece, origin)`: a piece's n-th character stands for `text[origin + n]`.

    Where one character became several ("ﬁ"), each of them is a piece of its own with the same origin.
    """
    found: list[tuple[str, int]] = []
    position = 0
    for match in _UNCLEAN.finditer(text):
        if match.start() > position:
            found.append((text[position : match.start()], position))
        found.extend((character, match.start()) for character in _replacement(match.group()))
        position = match.end()
    if position < len(text):
        found.append((text[position:], position))
    return found


def clean(text: str) -> str:
    """The clean text alone, without white space at its ends."""
    return _SPACES.sub(" ", "".join(piece for piece, _ in pieces(text))).strip()


def _replacement(unclean: str) -> str:
    if _SPACES.fullmatch(unclean):
        return " "
    if unclean in _SYMBOL_BULLETS:
        return "•"
    if len(unclean) > 1 and unicodedata.combining(unclean[1]):
        return unicodedata.normalize("NFC", unclean)
    if re.fullmatch(rf"[{_COMPATIBLE}]", unclean):
        plain = unicodedata.normalize("NFKC", unclean)
        return plain if len(plain) <= _LONGEST_EXPANSION else unclean
    return ""
