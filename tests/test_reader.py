"""A hostile file ends a child process and nothing else."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import docx
import pytest

from rag.domain import DOCX, PDF, Parsed
from rag.errors import Stopped, UnreadableDocument
from rag.parsing.budget import Budget
from rag.parsing.reader import Reader
from rag.stopping import Stop
from tests.children import children_of, gone
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
    document.add_paragraph("Pay soon.")
    path = tmp_path / "a.docx"
    document.save(str(path))
    parsed = reader.read(path, DOCX, unheard, Stop())
    assert not parsed.paged
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


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """Three pages, the rest of which must never be taken for another file's."""
    return drawn(
        tmp_path / "story.pdf", *[lambda canvas: lines(canvas, ["A secret of another file entirely. " * 2])] * 3
    )


def texts(parsed: Parsed) -> list[str]:
    return [page.text for page in parsed.pages]


def test_a_file_beyond_the_limits_leaves_nothing_to_the_next(
    reader: Reader, story: Path, letter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader gives up amid the file while the child, who knows no such limit, goes on telling its pages."""
    monkeypatch.setattr("rag.parsing.budget.MAX_CHARACTERS", 100)
    with pytest.raises(UnreadableDocument, match="more than 100 characters"):
        reader.read(story, PDF, unheard, Stop())
    assert texts(reader.read(letter, PDF, unheard, Stop())) == ["Pay within thirty days."]


@pytest.mark.parametrize("error", [UnreadableDocument, Stopped, RuntimeError])
def test_a_watcher_that_fails_leaves_nothing_to_the_next_file(
    reader: Reader, story: Path, letter: Path, error: type[Exception]
) -> None:
    """Whatever `progress` raises amid a file, the next file's text is its own."""

    def failing(done: int, total: int) -> None:
        if done == 1:
            raise error("Enough.")

    with pytest.raises(error, match="Enough"):
        reader.read(story, PDF, failing, Stop())
    assert texts(reader.read(letter, PDF, unheard, Stop())) == ["Pay within thirty days."]


def test_a_stop_amid_a_file_leaves_nothing_to_the_next(reader: Reader, story: Path, letter: Path) -> None:
    """The stop comes between two pages."""
    stop = Stop()
    with pytest.raises(Stopped):
        reader.read(story, PDF, lambda done, total: stop.set() if done == 1 else None, stop)
    assert texts(reader.read(letter, PDF, unheard, Stop())) == ["Pay within thirty days."]


def test_a_child_that_answered_is_asked_again(reader: Reader, story: Path, letter: Path, tmp_path: Path) -> None:
    """Also one that said no: starting a child for every file would take most of the time."""
    reader.read(letter, PDF, unheard, Stop())
    before = children_of(os.getpid())
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(UnreadableDocument, match="damaged"):
        reader.read(broken, PDF, unheard, Stop())
    reader.read(story, PDF, unheard, Stop())
    assert children_of(os.getpid()) == before


def test_whoever_waits_for_a_child_can_be_stopped(letter: Path) -> None:
    """A stop set before there is a free process raises at once."""
    reader = Reader(processes=1)
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        reader.read(letter, PDF, unheard, stop)
    reader.close()


def test_waiting_for_a_process_does_not_count_as_reading(letter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's time begins when it has a process to itself."""
    budgets: list[Budget] = []

    def counted() -> Budget:
        budgets.append(Budget())
        return budgets[-1]

    class Watched(Stop):
        """Tells when somebody waits and looks whether to stop."""

        looked = threading.Event()

        def check(self) -> None:
            self.looked.set()
            super().check()

    monkeypatch.setattr("rag.parsing.reader.Budget", counted)
    reader = Reader(processes=1)
    second = Watched()
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Parsed]] = []
        begun: list[int] = []

        def progress(done: int, total: int) -> None:
            if done == 0:
                waiting.append(pool.submit(reader.read, letter, PDF, unheard, second))
                assert second.looked.wait(30)
                begun.append(len(budgets))

        reader.read(letter, PDF, progress, Stop())
        assert waiting[0].result(30).pages
    assert begun == [1]
    assert len(budgets) == 2
    reader.close()


def test_a_silent_child_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit ends a child that neither answers nor dies, here one that waits for a pipe nobody writes to."""
    monkeypatch.setattr("rag.parsing.process.PATIENCE", 0.5)
    path = tmp_path / "silent.docx"
    os.mkfifo(path)
    reader = Reader(processes=1)
    with pytest.raises(UnreadableDocument, match="too long"):
        reader.read(path, DOCX, unheard, Stop())
    reader.close()


def test_closing_ends_the_children(letter: Path) -> None:
    """Nothing is left behind."""
    before = children_of(os.getpid())
    reader = Reader(processes=1)
    reader.read(letter, PDF, unheard, Stop())
    (child,) = children_of(os.getpid()) - before
    reader.close()
    assert gone(child)


def test_the_child_ends_when_the_server_is_killed(letter: Path) -> None:
    """Even kill -9 leaves no orphan: the closed pipe is enough."""
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from rag.domain import PDF; from rag.parsing.reader import Reader; "
            "from rag.stopping import Stop; reader = Reader(); "
            "reader.read(Path(sys.argv[1]), PDF, lambda done, total: None, Stop()); "
            "print('ready', flush=True); sys.stdin.read()",
            str(letter),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    (child,) = children_of(server.pid)
    server.kill()
    server.wait()
    assert gone(child)
    server.stdin.close()
    server.stdout.close()
