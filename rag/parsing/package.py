"""The zip file that a Word document is: its parts, each read within limits, and what refers to what.

Runs in the limited child process only.
"""

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lxml import etree

from rag.errors import UnreadableDocument

TOO_LARGE = "This Word document unpacks to far more than a document needs; it is damaged or built to do harm."

_MOST_ENTRIES = 10_000
_LARGEST_FILE = 2 * 1024**3  # unpacked, all entries; not all of them are read
_LARGEST_PART = 64 * 1024**2  # unpacked, of an XML part that is read
_HIGHEST_RATIO = 150  # unpacked : packed, of parts above _RATIO_FROM; ordinary XML packs 10 to 50 times
_RATIO_FROM = 16 * 1024**2
_LARGEST_PICTURE = 32 * 1024**2  # unpacked

_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_STRICT = (
    (
        b"http://purl.oclc.org/ooxml/wordprocessingml/main",
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    ),
    (
        b"http://purl.oclc.org/ooxml/officeDocument/math",
        b"http://schemas.openxmlformats.org/officeDocument/2006/math",
    ),
    (
        b"http://purl.oclc.org/ooxml/officeDocument/relationships",
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    ),
)


class Package:
    """The parts of the zip file, each read with a limit (the sizes a zip declares may be lies)."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        entries = self._zip.infolist()
        if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > _LARGEST_FILE:
            raise UnreadableDocument(TOO_LARGE)
        self._entries = {entry.filename.lstrip("/").replace("\\", "/").casefold(): entry for entry in entries}
        if any(entry.flag_bits & 1 for entry in entries):
            raise UnreadableDocument("This Word document is encrypted. Remove its password and upload it again.")

    def __enter__(self) -> "Package":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def part(self, name: str) -> etree._Element | None:
        """The root element of an XML part; None where there is no such part or it is damaged beyond its neighbours."""
        entry = self._entries.get(name.casefold())
        if entry is None:
            return None
        if entry.file_size > _LARGEST_PART or (
            entry.file_size > _RATIO_FROM and entry.file_size > _HIGHEST_RATIO * max(entry.compress_size, 1)
        ):
            raise UnreadableDocument(TOO_LARGE)
        with self._zip.open(entry) as stream:
            data = stream.read(_LARGEST_PART + 1)
        if len(data) > _LARGEST_PART:
            raise UnreadableDocument(TOO_LARGE)
        if b"purl.oclc.org" in data:
            for strict, transitional in _STRICT:
                data = data.replace(strict, transitional)
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
        return etree.fromstring(data, parser)

    def optional(self, name: str) -> etree._Element | None:
        """The same for a part that only adds: without it the document can still be read."""
        try:
            return self.part(name)
        except (etree.XMLSyntaxError, zipfile.BadZipFile, OSError, EOFError, ValueError):
            return None

    def picture(self, name: str) -> bytes | None:
        """The bytes of a picture; None where there is no such part, it is damaged or too large."""
        entry = self._entries.get(name.casefold())
        if entry is None:
            return None
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(_LARGEST_PICTURE + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError):
            return None
        return data if len(data) <= _LARGEST_PICTURE else None

    def main(self) -> str:
        """The name of the part that holds the document."""
        relationships = self.optional("_rels/.rels")
        if relationships is not None:
            for relationship in relationships.iter(_RELATIONSHIP):
                target = relationship.get("Target", "").lstrip("/")
                if relationship.get("Type", "").endswith("/officeDocument") and target.casefold() in self._entries:
                    return target
        return "word/document.xml"

    def related(self, part: str) -> dict[str, str]:
        """Kind of relationship ("styles", "footnotes", …) → name of the part, for one part."""
        folder = PurePosixPath(part).parent
        found = {kind: str(folder / f"{kind}.xml") for kind in ("styles", "numbering", "footnotes", "endnotes")}
        found.update((kind, target) for _, kind, target in self._relationships(part))
        return found

    def pictures(self, part: str) -> dict[str, str]:
        """Id of a relationship → name of the part, for the pictures that one part refers to.

        What stands outside the file is left out: nothing is ever fetched.
        """
        return {identity: target for identity, kind, target in self._relationships(part) if kind == "image"}

    def _relationships(self, part: str) -> Iterator[tuple[str, str, str]]:
        """(id, kind, name of the part) of each relationship of a part to another part."""
        folder, name = posixpath.split(part)
        relationships = self.optional(posixpath.join(folder, "_rels", f"{name}.rels"))
        if relationships is None:
            return
        for relationship in relationships.iter(_RELATIONSHIP):
            if relationship.get("TargetMode", "Internal") != "Internal":
                continue
            kind = relationship.get("Type", "").rpartition("/")[2]
            target = posixpath.normpath(posixpath.join("/", folder, relationship.get("Target", "")))
            yield relationship.get("Id", ""), kind, target.lstrip("/")
