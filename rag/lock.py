"""One process owns the data folder: a second one would tear the vector index. The only home of filelock."""

from pathlib import Path

from filelock import FileLock, Timeout

from rag.errors import InvalidRequest, LibraryLocked

_held: dict[Path, FileLock] = {}


def take(folder: Path) -> None:
    """Make this process the owner of the data folder until it ends, however it ends; taking it again changes nothing.

    Creates the folder, readable by nobody else, where there is none. Raises LibraryLocked at once when another process
    owns it, InvalidRequest where the folder cannot be written.
    """
    folder = folder.resolve()
    if folder in _held:
        return
    # Without the system's own lock there is no safe substitute: a lock that is only a file outlives a killed process.
    lock = FileLock(folder / "lock", fallback_to_soft=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LibraryLocked(
            f"Another Footnote process uses the data folder {folder}. "
            "Stop that one first, or set FOOTNOTE_DATA_DIR to another folder."
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"The data folder {folder} cannot be used: {error.strerror or error}. "
            "Set FOOTNOTE_DATA_DIR to a folder that can be written."
        ) from error
    _held[folder] = lock
