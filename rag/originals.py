"""The uploaded files themselves, one per content, named by their SHA-256."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rag.errors import FileTooLarge, FootnoteError
from rag.parsing.sniff import HEAD_BYTES

_PIECE_BYTES = 1024 * 1024
_TEMPORARY = ".upload-"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is on disk under a temporary name. `size` is in bytes, `head` its first HEAD_BYTES."""

    temporary: Path
    sha256: str
    size: int
    head: bytes


class Originals:
    """A folder of uploaded files, none larger than `max_bytes`."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes

    @contextmanager
    def receive(self, stream: BinaryIO) -> Iterator[Upload]:
        """Copy a stream to disk, durably, under a temporary name that is gone afterwards unless `keep` was called.

        Raises FileTooLarge as soon as the stream exceeds the limit, FootnoteError when it cannot be written.
        """
        with _translated():
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._folder)
        temporary = Path(name)
        try:
            with _translated(), os.fdopen(handle, "wb") as file:
                upload = self._copy(stream, file, temporary)
            yield upload
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, upload: Upload) -> None:
        """Give an upload its lasting name, durably; keeping the same bytes again changes nothing.

        Call it in the write transaction that adds the row, and `remove` in the one that takes the last row away:
        then neither can slip between the other's look and its deed.
        """
        with _translated():
            upload.temporary.replace(self.path(upload.sha256))
            self._sync_folder()

    def path(self, sha256: str) -> Path:
        """Where the file with this content is."""
        return self._folder / sha256

    def remove(self, sha256: str) -> None:
        """Delete a file; one that is not there is fine."""
        with _translated():
            self.path(sha256).unlink(missing_ok=True)

    def kept(self) -> frozenset[str]:
        """The SHA-256 of every file here."""
        return frozenset(path.name for path in self._folder.iterdir() if not path.name.startswith(_TEMPORARY))

    def remove_unfinished(self) -> None:
        """Delete what uploads left behind that a killed process was receiving. Only before uploads begin."""
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def _copy(self, stream: BinaryIO, file: BinaryIO, temporary: Path) -> Upload:
        digest = hashlib.sha256()
        size = 0
        head = b""
        while piece := stream.read(_PIECE_BYTES):
            size += len(piece)
            if size > self._max_bytes:
                raise FileTooLarge(
                    f"This file is larger than {self._max_bytes / 1024 / 1024:.0f} MB, the limit for uploads."
                )
            if len(head) < HEAD_BYTES:
                head += piece[: HEAD_BYTES - len(head)]
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return Upload(temporary, digest.hexdigest(), size, head)

    def _sync_folder(self) -> None:
        if os.name == "nt":
            return  # Windows has no handle on folders to sync
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FootnoteError(
            "The file could not be stored in the data folder: "
            f"{error.strerror or 'writing failed'}. Check its free space and rights."
        ) from error
