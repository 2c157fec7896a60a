"""Is the Chroma folder sound? Checked without Chroma, because opening a torn index can end the process.

Chroma 1.5.9 keeps ids and its write-ahead log in `chroma.sqlite3`, which survives kills, and the graph of each index in
a folder named by its segment, whose files are written in place and never synced: a kill or a power cut can tear them.
The files are hnswlib's: `header.bin`, `data_level0.bin` (one fixed-size record per element), `length.bin` (four bytes
per element), `link_lists.bin` (per element its size in bytes, then the links of its upper levels), and Chroma's
`index_metadata.pickle` (which id is which element).
"""

import pickle
import shutil
import sqlite3
import struct
import uuid
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

DATABASE = "chroma.sqlite3"

_HEADER = struct.Struct("<iQQQQQQiIQQQ")
_HEADER_VERSION = 1
_NUMBER = struct.Struct("<I")
_ROWS_AT_ONCE = 4096
_WASTE = 4  # deleted elements keep their place for ever; above this ratio a rebuild is worth it
_WASTE_FROM = 500


@dataclass(frozen=True, slots=True)
class Segment:
    """The files of one index; `problem` says why they must not be opened, None when they are sound."""

    index: str
    folder: Path
    problem: str | None


class _Torn(Exception):
    """The files of a segment contradict each other."""


def check(folder: Path) -> tuple[Segment, ...] | None:
    """All segments of a Chroma folder; None when its database itself cannot be read.

    Reads all their files once, and about 4 µs per row.
    """
    if not (folder / DATABASE).exists():
        return ()
    try:
        return tuple(
            Segment(index, folder / segment, _problem(folder / segment, synced))
            for segment, index, synced in _segments(folder)
        )
    except sqlite3.DatabaseError:
        return None


def remove_orphans(folder: Path) -> int:
    """Delete the files of indexes that Chroma no longer knows; how many there were."""
    # Listed before the database is asked: an index made in between is then never taken for an orphan.
    folders = [path for path in folder.iterdir() if path.is_dir() and _is_segment_name(path.name)]
    with closing(_connect(folder)) as connection:
        known = {row[0] for row in connection.execute("SELECT id FROM segments")}
    orphans = [path for path in folders if path.name not in known]
    for path in orphans:
        shutil.rmtree(path, ignore_errors=True)  # Windows keeps open files; the next start removes them
    return len(orphans)


def _is_segment_name(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def _connect(folder: Path) -> sqlite3.Connection:
    # Not read-only: after a kill SQLite must first roll the unfinished transaction back.
    return sqlite3.connect(folder / DATABASE, timeout=30)


def _segments(folder: Path) -> list[tuple[str, str, frozenset[str]]]:
    """(segment, name of the index, ids whose vectors Chroma believes to be in the files) of each index."""
    with closing(_connect(folder)) as connection:
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        named = connection.execute(
            "SELECT s.id, c.name FROM segments s JOIN collections c ON c.id = s.collection WHERE s.scope = 'VECTOR'"
        ).fetchall()
        return [(segment, name, _synced(connection, segment)) for segment, name in named]


def _synced(connection: sqlite3.Connection, segment: str) -> frozenset[str]:
    rows = connection.execute(
        """
        SELECT e.embedding_id
        FROM segments v
        JOIN max_seq_id m ON m.segment_id = v.id
        JOIN segments d ON d.collection = v.collection AND d.scope = 'METADATA'
        JOIN embeddings e ON e.segment_id = d.id AND e.seq_id <= m.seq_id
        WHERE v.id = ?
        """,
        (segment,),
    )
    return frozenset(row[0] for row in rows)


def _problem(folder: Path, synced: Collection[str]) -> str | None:
    if not (folder / "index_metadata.pickle").exists():
        return f"{len(synced)} vectors are missing" if synced else None
    try:
        _check_files(folder, synced)
    except _Torn as error:
        return str(error)
    except Exception as error:  # a torn pickle can raise nearly anything
        return f"unreadable ({type(error).__name__})"
    return None


def _check_files(folder: Path, synced: Collection[str]) -> None:
    labels, added = _id_map(folder / "index_metadata.pickle")
    header = _read_header(folder / "header.bin")
    if header.elements != added:
        raise _Torn(f"the header counts {header.elements} elements, the id map {added}")
    if (folder / "length.bin").stat().st_size < header.elements * 4:
        raise _Torn("length.bin is too short")
    _check_ground_level(folder / "data_level0.bin", header, labels.values())
    _check_upper_levels(folder / "link_lists.bin", header)
    lost = sum(1 for row in synced if row not in labels)
    if lost:
        raise _Torn(f"{lost} of {len(synced)} vectors are missing")
    if header.elements > _WASTE * max(len(labels), _WASTE_FROM):
        raise _Torn(f"{header.elements} places are used for {len(labels)} vectors")


@dataclass(frozen=True, slots=True)
class _Header:
    elements: int
    size: int  # bytes per element on the ground level: number of links, links, vector, label
    label_offset: int
    top_level: int
    entry: int  # the element at which a search begins
    most_links: int  # per element of an upper level
    most_ground_links: int


def _read_header(path: Path) -> _Header:
    fields = _HEADER.unpack_from(path.read_bytes())
    version, _, capacity, elements, size, label_offset, _, top_level, entry, most, most_ground, _ = fields
    if version != _HEADER_VERSION:
        raise _Torn(f"version {version} is unknown")
    if elements > capacity or (elements and entry >= elements):
        raise _Torn("the header contradicts itself")
    return _Header(elements, size, label_offset, top_level, entry, most, most_ground)


class _DataOnly(pickle.Unpickler):
    """Reads dictionaries, texts and numbers; refuses everything that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} does not belong here")


def _id_map(path: Path) -> tuple[Mapping[str, int], int]:
    with path.open("rb") as file:
        read = _DataOnly(file).load()
    return read["id_to_label"], read["total_elements_added"]


def _check_ground_level(path: Path, header: _Header, labels: Collection[int]) -> None:
    if path.stat().st_size < header.elements * header.size:
        raise _Torn("data_level0.bin is too short")
    if not header.elements:
        return
    rows = numpy.memmap(path, dtype=numpy.uint8, mode="r", shape=(header.elements, header.size))
    found = _column(rows, header.label_offset, "<u8", 1)
    # A page that never reached the disk is zeros: its labels are then all 0.
    if len(numpy.unique(found)) != header.elements or not numpy.isin(list(labels), found).all():
        raise _Torn("data_level0.bin holds other vectors than the id map")
    for first in range(0, header.elements, _ROWS_AT_ONCE):
        some = rows[first : first + _ROWS_AT_ONCE]
        counts = _column(some, 0, "<u2", 1)
        links = _column(some, 4, "<u4", header.most_ground_links)
        used = numpy.arange(header.most_ground_links) < counts
        if counts.max() > header.most_ground_links or (used & (links >= header.elements)).any():
            raise _Torn("data_level0.bin has links that lead nowhere")


def _column(rows: NDArray[numpy.uint8], offset: int, kind: str, count: int) -> NDArray[Any]:
    size = numpy.dtype(kind).itemsize * count
    return numpy.ascontiguousarray(rows[:, offset : offset + size]).view(kind)


def _check_upper_levels(path: Path, header: _Header) -> None:
    level = 4 + 4 * header.most_links
    # Known to grow to gigabytes of nothing; never read more than it may be.
    if path.stat().st_size > header.elements * (4 + level * max(header.top_level, 1)):
        raise _Torn("link_lists.bin is too long")
    content = path.read_bytes()
    position = 0
    for _ in range(header.elements):
        (size,) = _NUMBER.unpack_from(content, position)
        position += 4
        if size % level or size > level * header.top_level or position + size > len(content):
            raise _Torn("link_lists.bin is cut or mixed up")
        for start in range(position, position + size, level):
            links = struct.unpack_from(f"<{header.most_links + 1}I", content, start)
            count = links[0] & 0xFFFF
            if count > header.most_links or any(link >= header.elements for link in links[1 : count + 1]):
                raise _Torn("link_lists.bin has links that lead nowhere")
        position += size
