"""Every kind of damage is noticed before Chroma opens it, and nothing sound is called damaged."""

import os
import pickle
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from rag import preflight
from rag.chroma import ChromaIndex

INDEX = "c-0123456789abcdef-g1"
ROWS = 300


def fill(folder: Path) -> None:
    """An index whose files were last written before its last rows came and some went."""
    index = ChromaIndex(folder, synced_every=50)
    index.open()
    index.create(INDEX, "m", 8)
    rows = numpy.random.default_rng(1).standard_normal((ROWS + 20, 8)).astype(numpy.float32)
    for first in range(0, ROWS + 20, 40):
        ids = [f"chunk{number}" for number in range(first, min(first + 40, ROWS + 20))]
        index.upsert(INDEX, ids, rows[first : first + 40])
    index.delete(INDEX, [f"chunk{number}" for number in range(10)])
    index.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "chroma"
    fill(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "chroma"))


def segment(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.is_dir())


def problem(folder: Path) -> str | None:
    checked = preflight.check(folder)
    assert checked is not None
    (only,) = checked
    assert only.index == INDEX
    return only.problem


def test_a_sound_folder_has_no_problem(folder: Path) -> None:
    """Also with rows that only the write-ahead log has, and with deleted ones."""
    assert problem(folder) is None


def test_nothing_is_sound(tmp_path: Path) -> None:
    """A folder that does not exist yet, and one without any index."""
    assert preflight.check(tmp_path / "chroma") == ()
    index = ChromaIndex(tmp_path / "chroma")
    index.open()
    index.close()
    assert preflight.check(tmp_path / "chroma") == ()


def test_an_index_without_files_is_sound_while_the_log_has_its_rows(tmp_path: Path) -> None:
    """Chroma writes files only after so many rows."""
    index = ChromaIndex(tmp_path / "chroma")
    index.open()
    index.create(INDEX, "m", 2)
    index.upsert(INDEX, ["a"], numpy.ones((1, 2), numpy.float32))
    index.close()
    assert problem(tmp_path / "chroma") is None


def truncate(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def write(name: str, offset: int, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(content)

    return damage


def older_header(folder: Path) -> None:
    """The header of a former state: one element fewer."""
    with (folder / "header.bin").open("r+b") as file:
        file.seek(20)
        (elements,) = struct.unpack("<Q", file.read(8))
        file.seek(20)
        file.write(struct.pack("<Q", elements - 1))


def lost_page(folder: Path) -> None:
    """Four kilobytes that never reached the disk before the power went."""
    write("data_level0.bin", 8192, bytes(4096))(folder)


def long_links(folder: Path) -> None:
    """A sparse file of four gigabytes, as Chroma was seen to make."""
    os.truncate(folder / "link_lists.bin", 4 * 1024**3)


DAMAGES = {
    "links cut": truncate("link_lists.bin", 0.5),
    "links empty": truncate("link_lists.bin", 0),
    "links mixed up": write("link_lists.bin", 0, b"\x07\x00\x00\x00"),
    "links huge": long_links,
    "header cut": truncate("header.bin", 0.5),
    "header empty": truncate("header.bin", 0),
    "header of another time": older_header,
    "header garbage": write("header.bin", 0, b"\xff" * 84),
    "vectors cut": truncate("data_level0.bin", 0.9),
    "vectors with a lost page": lost_page,
    "vectors garbage": write("data_level0.bin", 0, b"\xff" * 4096),
    "lengths cut": truncate("length.bin", 0.5),
    "map cut": truncate("index_metadata.pickle", 0.7),
    "map empty": truncate("index_metadata.pickle", 0),
    "map gone": lambda folder: (folder / "index_metadata.pickle").unlink(),
    "everything gone": shutil.rmtree,
    "header gone": lambda folder: (folder / "header.bin").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_noticed(folder: Path, damage: Callable[[Path], object]) -> None:
    """Without opening Chroma, and without reading gigabytes."""
    damage(segment(folder))
    assert problem(folder) is not None


def test_a_file_is_never_run(folder: Path, tmp_path: Path) -> None:
    """A pickle can name code to run; it is refused instead."""

    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "harmed"),))

    (segment(folder) / "index_metadata.pickle").write_bytes(pickle.dumps(Harm()))
    assert problem(folder) is not None
    assert not (tmp_path / "harmed").exists()


def test_files_older_than_the_log_are_noticed(folder: Path, tmp_path: Path) -> None:
    """After a power cut the files may be those of a former sync, whose later rows the log has already forgotten."""
    old = shutil.copytree(segment(folder), tmp_path / "old")
    index = ChromaIndex(folder)
    index.open()
    rows = numpy.random.default_rng(2).standard_normal((200, 8)).astype(numpy.float32)
    index.upsert(INDEX, [f"later{number}" for number in range(200)], rows)
    index.close()
    assert problem(folder) is None
    target = segment(folder)
    shutil.rmtree(target)
    shutil.move(old, target)
    assert "missing" in (problem(folder) or "")


def test_a_wasteful_index_is_noticed(tmp_path: Path) -> None:
    """Deleted rows keep their place for ever, so an index that is mostly holes is built anew."""
    index = ChromaIndex(tmp_path / "chroma", synced_every=100)
    index.open()
    index.create(INDEX, "m", 2)
    row = numpy.ones((1, 2), numpy.float32)
    for first in range(0, 2200, 200):
        ids = [f"chunk{number}" for number in range(first, first + 200)]
        index.upsert(INDEX, ids, numpy.repeat(row, 200, axis=0))
        index.delete(INDEX, ids)
    index.close()
    assert "places are used" in (problem(tmp_path / "chroma") or "")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_a_damaged_database_is_told_apart(folder: Path, content: bytes) -> None:
    """Then nothing in the folder is of use."""
    (folder / preflight.DATABASE).write_bytes(content)
    assert preflight.check(folder) is None


def test_a_damaged_page_of_the_database_is_noticed(folder: Path) -> None:
    """Also in a table that the check itself does not need."""
    connection = sqlite3.connect(folder / preflight.DATABASE)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'embeddings_queue'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    write(preflight.DATABASE, (page - 1) * size, b"\xff" * size)(folder)
    assert preflight.check(folder) is None


def test_an_unfinished_transaction_is_rolled_back_first(folder: Path) -> None:
    """A check after a kill works on the database as SQLite repairs it."""
    connection = sqlite3.connect(folder / preflight.DATABASE, isolation_level=None)
    connection.execute("PRAGMA cache_spill = 1")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM embeddings")
    for name in (preflight.DATABASE, f"{preflight.DATABASE}-journal"):
        shutil.copy(folder / name, folder / f"{name}.copy")
    connection.close()
    for name in (preflight.DATABASE, f"{preflight.DATABASE}-journal"):
        (folder / f"{name}.copy").replace(folder / name)
    assert problem(folder) is None


def test_orphans_are_removed(folder: Path) -> None:
    """Only folders that look like a segment and belong to no index."""
    orphan = folder / "0b4a4be1-6f6e-4c2e-9a43-3f2f0b6f6d11"
    other = folder / "notes"
    orphan.mkdir()
    other.mkdir()
    kept = [path for path in folder.iterdir() if path != orphan]
    assert preflight.remove_orphans(folder) == 1
    assert sorted(folder.iterdir()) == sorted(kept)
    assert problem(folder) is None
