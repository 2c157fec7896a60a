"""Files are kept whole or not at all."""

import hashlib
from io import BytesIO
from pathlib import Path

import pytest

from rag.errors import FileTooLarge, FootnoteError
from rag.originals import Originals
from rag.parsing.sniff import HEAD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "originals"


@pytest.fixture
def originals(folder: Path) -> Originals:
    return Originals(folder, max_bytes=3_000_000)


class Breaking(BytesIO):
    """A stream whose connection breaks after its first piece."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise ConnectionResetError("gone")
        return super().read(size)


def test_a_kept_file_is_found_under_its_hash(originals: Originals, folder: Path) -> None:
    """The bytes, their hash, their size and their beginning are those of the stream."""
    content = bytes(range(256)) * 10_000
    with originals.receive(BytesIO(content)) as upload:
        originals.keep(upload)
    assert (upload.sha256, upload.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert upload.head == content[:HEAD_BYTES]
    assert originals.path(upload.sha256).read_bytes() == content
    assert list(folder.iterdir()) == [originals.path(upload.sha256)]


def test_what_is_not_kept_leaves_nothing(originals: Originals, folder: Path) -> None:
    """A refused upload leaves no file."""
    with originals.receive(BytesIO(b"refused")):
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_file_at_the_limit_is_accepted(folder: Path) -> None:
    """The limit itself is still allowed."""
    originals = Originals(folder, max_bytes=10)
    with originals.receive(BytesIO(b"0123456789")) as upload:
        assert upload.size == 10


def test_a_file_over_the_limit_is_refused(folder: Path) -> None:
    """One byte more is too large; nothing is left."""
    originals = Originals(folder, max_bytes=1024 * 1024)
    with (
        pytest.raises(FileTooLarge, match="larger than 1 MB"),
        originals.receive(BytesIO(bytes(1024 * 1024 + 1))),
    ):
        pass
    assert list(folder.iterdir()) == []


def test_a_huge_stream_is_not_read_to_its_end(folder: Path) -> None:
    """Reading ends with the piece that crosses the limit."""
    originals = Originals(folder, max_bytes=1)
    stream = BytesIO(bytes(10_000_000))
    with pytest.raises(FileTooLarge), originals.receive(stream):
        pass
    assert stream.tell() < 2_000_000


def test_a_broken_stream_leaves_nothing(originals: Originals, folder: Path) -> None:
    """An upload whose connection breaks is a sentence and leaves no file."""
    with pytest.raises(FootnoteError), originals.receive(Breaking(bytes(2_000_000))):
        pass
    assert list(folder.iterdir()) == []


def test_keeping_the_same_bytes_again_changes_nothing(originals: Originals) -> None:
    """The same content is one file."""
    for _ in range(2):
        with originals.receive(BytesIO(b"same")) as upload:
            originals.keep(upload)
    assert originals.kept() == {upload.sha256}


def test_removing_is_repeatable(originals: Originals) -> None:
    """A removed file is gone, and removing it again is fine."""
    with originals.receive(BytesIO(b"bytes")) as upload:
        originals.keep(upload)
    originals.remove(upload.sha256)
    originals.remove(upload.sha256)
    assert originals.kept() == frozenset()


def test_what_a_killed_upload_left_is_removed(originals: Originals, folder: Path) -> None:
    """Only unfinished files go."""
    with originals.receive(BytesIO(b"bytes")) as upload:
        originals.keep(upload)
    (folder / ".upload-abc").write_bytes(b"half")
    originals.remove_unfinished()
    assert list(folder.iterdir()) == [originals.path(upload.sha256)]


def test_a_folder_that_cannot_be_written_is_a_sentence(originals: Originals, folder: Path) -> None:
    """Our error, not the system's."""
    folder.rmdir()
    with pytest.raises(FootnoteError, match="could not be stored"), originals.receive(BytesIO(b"bytes")):
        pass
