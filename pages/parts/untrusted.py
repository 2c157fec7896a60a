"""The one way by which text of documents, models, files and people reaches Markdown. Pure.

Streamlit's Markdown loads images from anywhere, draws diagrams that can fetch, turns addresses into links and deletes
text that looks like one of its directives (`10:30[2]` shows as `10:30`). So text is either shown with `st.text`, which
interprets nothing, or passes through here: `literal` and `marked` show every character as it is, `answer` keeps what
helps reading (bold, lists, tables, code) and turns known citations into chips.
"""

import re
from collections.abc import Collection

_WORD_JOINER = "\u2060"  # takes no room, and keeps two characters from being read as one sign
_NO_BREAK_SPACE = "\u00a0"  # a citation does not begin a line

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
# Streamlit draws "->" as an arrow, "--" as a dash and so on, and ":smile:" as a picture, even when escaped.
_PRETTIFIED = re.compile(r"(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S)")
_PICTOGRAM = re.compile(r"(?<=:)(?=[\w+/-]+:)")
# Addresses become links after escapes were read, so that escaping does not stop them.
_ADDRESS = re.compile(r"(?i)(https?|ftp|mailto|xmpp|www)(?=[:.])|(?<=[\w.+-])(@)(?=[\w-]+\.)")

_IMAGE = re.compile(r"!(?=\[)")
_LINK = re.compile(r"\](?=[(\[:])")
# Only a plain language name may follow a code fence; everything else could spell "mermaid", which draws and fetches.
_FENCE_INFO = re.compile(r"(?im)^([^a-z\n]*?(?:`{3,}|~{3,}))[ \t]*(?=mermaid|[^\n]*[^a-z0-9+#\s])")
_CODE = re.compile(
    r"(?ms)(^[ \t>*+\-\d.)]*(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)|`[^`\n]+`)"
)
_CITED_PARAGRAPH = re.compile(r"(?s)(?P<text>.*?)\s*\[(?P<number>\d{1,3})\]")
_IN_PROSE = re.compile(r"\\[!-/:-@\[-`{-~]|(?P<space> ?)\[(?P<number>\d{1,3})\]|[\\\[\]<$:~&`]")


def _unlinked(text: str) -> str:
    return _ADDRESS.sub(lambda found: found.group() + _WORD_JOINER, text)


def _escaped(text: str) -> str:
    printable = _UNPRINTABLE.sub("", re.sub(r"\s+", " ", text))
    apart = _PRETTIFIED.sub(lambda found: _WORD_JOINER.join(found.group()), _PICTOGRAM.sub(_WORD_JOINER, printable))
    return _PUNCTUATION.sub(r"\\\1", _unlinked(apart))


def literal(text: str) -> str:
    """One line of Markdown that shows `text` as it is: for labels, names, captions and messages."""
    return _escaped(text).strip()


def plain(text: str) -> str:
    """`text` for `st.text`, without characters that could hide or reorder what is shown. Not Markdown."""
    return _UNPRINTABLE.sub("", text)


def shortened(text: str, length: int) -> str:
    """`text` on one line in at most `length` characters, cut between words where possible. Not yet Markdown."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut) + "…"


def marked(text: str, start: int, end: int) -> str:
    """Markdown that shows `text` as it is, line by line, with `text[start:end]` lit."""
    # Spaces at the edges of a directive are lost, so they stay outside.
    start = end - len(text[start:end].lstrip())
    end = start + len(text[start:end].rstrip())
    lines = []
    position = 0
    for line in text.split("\n"):
        first = min(max(start - position, 0), len(line))
        last = min(max(end - position, first), len(line))
        inside = _escaped(line[first:last])
        lit = f":yellow-background[{inside}]" if inside.strip() else inside
        lines.append((_escaped(line[:first]) + lit + _escaped(line[last:])).strip())
        position += len(line) + 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(f"{line}  " if line else "" for line in lines)).strip()


def snippet(text: str, start: int, end: int, around: int = 90, longest: int = 420) -> str:
    """One line of Markdown: `text[start:end]`, lit, with at most `around` characters of its line on either side."""
    end = min(end, start + longest)
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    first = max(line_start, start - around)
    if first > line_start:
        first = text.find(" ", first, start) + 1 or start
    last = min(line_end, end + around)
    if last < line_end:
        last = max(text.rfind(" ", end, last), end)
    before = "… " if first > line_start else ""
    after = " …" if last < line_end else ""
    return before + marked(text[first:last].replace("\n", " "), start - first, end - first) + after


def answer(text: str, message_id: str, numbers: Collection[int]) -> str:
    """Markdown of an answer: citations in `numbers` become chips, nothing in it can load or link to anything.

    What could load or link is broken up everywhere, in code too, so that safety does not depend on finding code the
    way the browser does; that is needed only to leave code unescaped.
    """
    text = _UNPRINTABLE.sub("", text.replace("\r\n", "\n"))
    text = _IMAGE.sub("!" + _WORD_JOINER, text)
    text = _LINK.sub("]" + _WORD_JOINER, text)
    text = _FENCE_INFO.sub(r"\1text ", text)
    text = _PICTOGRAM.sub(_WORD_JOINER, _unlinked(text))

    def shown(found: re.Match[str]) -> str:
        number = found["number"]
        if number and int(number) in numbers:
            return (_NO_BREAK_SPACE if found["space"] else "") + chip(message_id, int(number))
        sign = found.group()
        return sign if sign.startswith("\\") and len(sign) == 2 else re.sub(r"([\\\[\]<$:~&`])", r"\\\1", sign)

    pieces = []
    position = 0
    for code in _CODE.finditer(text):
        pieces += [_IN_PROSE.sub(shown, text[position : code.start()]), code.group()]
        position = code.end()
    pieces.append(_IN_PROSE.sub(shown, text[position:]))
    return "".join(pieces)


def extracts(text: str, message_id: str, numbers: Collection[int]) -> str:
    """Markdown of sentences of documents, shown as they are: one paragraph each, its citation a chip at the end."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        found = _CITED_PARAGRAPH.fullmatch(paragraph.strip())
        if found is not None and int(found["number"]) in numbers:
            paragraphs.append(f"{literal(found['text'])}{_NO_BREAK_SPACE}{chip(message_id, int(found['number']))}")
        else:
            paragraphs.append(literal(paragraph))
    return "\n\n".join(paragraphs)


def chip(message_id: str, number: int) -> str:
    """Markdown of a citation: a small badge that opens its source."""
    return f"[:blue-badge[{number}]](#cite-{message_id}-{number})"
