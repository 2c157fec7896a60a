"""A hostile file ends a child process and nothing else."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docx
import pytest

from rag.domain import DOCX, PDF
from rag.errors import Stopped, UnreadableDocument
from rag.parsing.process import Child
from rag.parsing.reader import Reader
from rag.stopping import Stop
from tests.pdfs import drawn, form_bomb, lines, worded

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    opened = Reader(processes=1)
    yield opened
    opened.close()


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.pdf"
    path.write_bytes(worded("Pay within thirty days."))
    return path


def unheard(done: int, total: int) -> None:
    """Progress that nobody watches."""


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting a while for it (a zombie that nobody waits for has ended too)."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_pdf_comes_back_with_its_map(reader: Reader, letter: Path) -> None:
    """Pages, runs and blocks survive the way between the processes."""
    parsed = reader.read(letter, PDF, unheard, Stop())
    (page,) = parsed.pages
    assert page.text == "Pay within thirty days."
    assert page.runs
    assert (page.runs[0].start, page.runs[0].length) == (0, len(page.text))
    assert [block.text for block in parsed.blocks] == [page.text]
    assert parsed.paged


def test_a_word_file_has_no_pages(reader: Reader, tmp_path: Path) -> None:
    """It is one page without label."""
    document = docx.Document()
    document.core_properties.title = "Lease"
    document.add_paragraph("Pay soon.")
    path = tmp_path / "a.docx"
    document.save(str(path))
    parsed = reader.read(path, DOCX, unheard, Stop())
    assert not parsed.paged
    assert parsed.title == "Lease"
    assert [(page.number, page.label, page.text) for page in parsed.pages] == [(1, "", "Pay soon.")]


def test_progress_counts_every_page(reader: Reader, tmp_path: Path) -> None:
    """From none to all."""
    path = drawn(tmp_path / "a.pdf", *[lambda canvas: lines(canvas, ["Some words here."])] * 3)
    seen: list[tuple[int, int]] = []
    reader.read(path, PDF, lambda done, total: seen.append((done, total)), Stop())
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_unreadable_file_gives_its_reason_and_the_child_stays(reader: Reader, tmp_path: Path, letter: Path) -> None:
    """The parser's own sentence comes through."""
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(UnreadableDocument, match="damaged"):
        reader.read(path, PDF, unheard, Stop())
    assert reader.read(letter, PDF, unheard, Stop()).pages


def test_a_file_that_kills_the_parser_is_that_files_failure(reader: Reader, tmp_path: Path, letter: Path) -> None:
    """pdfium aborts the child when memory runs out; the next file is read by a fresh one."""
    if sys.platform == "win32":
        pytest.skip("no memory limits on this platform")
    path = tmp_path / "bomb.pdf"
    path.write_bytes(form_bomb())
    with pytest.raises(UnreadableDocument, match="too much memory"):
        reader.read(path, PDF, unheard, Stop())
    assert reader.read(letter, PDF, unheard, Stop()).pages


def test_stop_ends_reading_at_once(reader: Reader, tmp_path: Path, letter: Path) -> None:
    """Also amid a page that takes long; the reader serves the next file."""
    path = tmp_path / "slow.pdf"
    path.write_bytes(form_bomb())
    stop = Stop()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        reader.read(path, PDF, unheard, stop)
    timer.join()
    assert reader.read(letter, PDF, unheard, Stop()).pages


def test_whoever_waits_for_a_child_can_be_stopped(letter: Path) -> None:
    """A stop set before there is a free process raises at once."""
    reader = Reader(processes=1)
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        reader.read(letter, PDF, unheard, stop)
    reader.close()


def test_a_silent_child_is_given_up(letter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit ends a child that neither answers nor dies."""
    monkeypatch.setattr("rag.parsing.process.PATIENCE", 0.2)
    child = Child()
    try:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(UnreadableDocument, match="too long"):
            list(child.ask({"task": "read", "path": str(letter), "media_type": PDF}, Stop()))
    finally:
        child.close()


def test_closing_ends_the_children(letter: Path) -> None:
    """Nothing is left behind."""
    child = Child()
    list(child.ask({"task": "read", "path": str(letter), "media_type": PDF}, Stop()))
    child.close()
    assert gone(child.pid)


def test_the_child_ends_when_the_server_is_killed(letter: Path) -> None:
    """Even kill -9 leaves no orphan: the closed pipe is enough."""
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from rag.parsing.process import Child; from rag.stopping import Stop; child = Child(); "
            "list(child.ask({'task': 'read', 'path': sys.argv[1], 'media_type': 'application/pdf'}, Stop())); "
            "print(child.pid, flush=True); sys.stdin.read()",
            str(letter),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin
    assert server.stdout
    pid = int(server.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    server.kill()
    server.wait()
    assert gone(pid)
    server.stdin.close()
    server.stdout.close()
