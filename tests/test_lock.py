"""One process per data folder."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rag import lock
from rag.errors import InvalidRequest

TAKING = "import sys, pathlib; from rag import lock; lock.take(pathlib.Path(sys.argv[1])); print('taken', flush=True); "
ROOT = Path(__file__).parent.parent


def other_process(folder: Path, then: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKING + then, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Who comes second is told which folder it is about and what to do."""
    lock.take(tmp_path)
    _, said = other_process(tmp_path).communicate(timeout=30)
    assert f"LibraryLocked: Another Footnote process uses the data folder {tmp_path.resolve()}." in said
    assert "FOOTNOTE_DATA_DIR" in said


def test_taking_it_again_changes_nothing(tmp_path: Path) -> None:
    """The owner may take the folder as often as it likes, also by another spelling."""
    lock.take(tmp_path)
    lock.take(tmp_path / ".." / tmp_path.name)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """The lock ends with the process, however it ended."""
    owner = other_process(tmp_path, "sys.stdin.read()")
    assert owner.stdout
    assert owner.stdout.readline() == "taken\n"
    owner.kill()
    owner.communicate(timeout=30)
    lock.take(tmp_path)


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """A data folder that did not exist cannot be read by other accounts."""
    lock.take(tmp_path / "a" / "data")
    assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """Where a file is in the way, the setting to change is named."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidRequest, match=r"cannot be used: .*FOOTNOTE_DATA_DIR"):
        lock.take(tmp_path / "file" / "data")
