"""The sample documents: made by their script, long enough, and holding the answers to their questions."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import docx
import pypdf
import pypdfium2
import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
FILES = sorted((*SAMPLES.glob("*.pdf"), *SAMPLES.glob("*.docx")))
QUESTIONS = json.loads((SAMPLES / "questions.json").read_text(encoding="utf-8"))
EXPECTED = [(question["question"], place) for question in QUESTIONS for place in question["expected"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples made anew."""
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, SAMPLES / "make.py", folder], check=True, capture_output=True, timeout=120)
    return folder


def pdf_pages(path: Path) -> list[str]:
    document = pypdfium2.PdfDocument(path)
    try:
        return [" ".join(page.get_textpage().get_text_range().split()) for page in document]
    finally:
        document.close()


def docx_sections(path: Path) -> list[tuple[str, str]]:
    """Each heading with the text below it, tables included."""
    sections = [("", "")]
    for item in docx.Document(str(path)).iter_inner_content():
        if isinstance(item, docx.table.Table):
            text = " ".join(cell.text for row in item.rows for cell in row.cells)
        elif item.style is not None and item.style.name.startswith("Heading"):
            sections.append((item.text, ""))
            continue
        else:
            text = item.text
        heading, before = sections[-1]
        sections[-1] = heading, f"{before} {text}"
    return sections


def test_five_files_are_offered() -> None:
    """The samples are three PDFs and two Word files, small enough to ship."""
    assert [path.suffix for path in FILES].count(".pdf") == 3
    assert [path.suffix for path in FILES].count(".docx") == 2
    assert sum(path.stat().st_size for path in FILES) < 1_500_000


def test_the_script_makes_exactly_the_files_that_are_there(made: Path) -> None:
    """No file is missing from the script's output, and none is left over."""
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in FILES)


@pytest.mark.parametrize("name", [path.name for path in FILES if path.suffix == ".pdf"])
def test_pdfs_are_what_the_script_makes(made: Path, name: str) -> None:
    """A PDF made anew has the same bytes."""
    assert (made / name).read_bytes() == (SAMPLES / name).read_bytes()


@pytest.mark.parametrize("name", [path.name for path in FILES if path.suffix == ".docx"])
def test_word_files_are_what_the_script_makes(made: Path, name: str) -> None:
    """A Word file made anew has the same entries in the same order (their compression may differ between platforms)."""

    def entries(path: Path) -> list[tuple[str, tuple[int, ...], bytes]]:
        with zipfile.ZipFile(path) as archive:
            return [(entry.filename, entry.date_time, archive.read(entry)) for entry in archive.infolist()]

    assert entries(made / name) == entries(SAMPLES / name)


def test_the_samples_have_more_than_forty_pages() -> None:
    """PDF pages, and 400 words of a Word file to a page, come to at least 40."""
    pages = 0.0
    for path in FILES:
        if path.suffix == ".pdf":
            pages += len(pdf_pages(path))
        else:
            pages += sum(len(text.split()) for _, text in docx_sections(path)) / 400
    assert pages >= 40


def test_the_handbook_has_roman_front_pages_and_an_outline() -> None:
    """The handbook shows what page labels and bookmarks are for."""
    with (SAMPLES / "Employee handbook.pdf").open("rb") as stream:
        reader = pypdf.PdfReader(stream)
        labels = reader.page_labels
        titles = [entry.title for entry in reader.outline if not isinstance(entry, list)]
    assert labels[:6] == ["i", "ii", "iii", "iv", "1", "2"]
    assert titles[:4] == ["Welcome", "How to use this handbook", "1 The company", "2 Joining us"]


@pytest.mark.parametrize(("question", "place"), EXPECTED, ids=[place["heading"] for _, place in EXPECTED])
def test_the_answer_to_each_question_stands_where_it_is_said_to(question: str, place: dict[str, object]) -> None:
    """The expected sentence is on its page, below its heading."""
    path = SAMPLES / str(place["document"])
    sentence, heading = str(place["sentence"]), str(place["heading"])
    if path.suffix == ".docx":
        assert place["page"] is None
        assert [found for found, text in docx_sections(path) if sentence in text] == [heading], question
        return
    number = int(str(place["page"]))
    with path.open("rb") as stream:
        assert pypdf.PdfReader(stream).page_labels[number - 1] == place["page_label"]
    page = pdf_pages(path)[number - 1]
    assert 0 <= page.index(heading) < page.index(sentence), question


def test_one_question_has_no_answer() -> None:
    """Exactly one suggested question is there to be refused, and the word it hangs on is in no file."""
    assert [question["question"] for question in QUESTIONS if not question["answerable"]] == [
        "Does the company pay for dental treatment?"
    ]
    assert all(bool(question["expected"]) == question["answerable"] for question in QUESTIONS)
    texts = [" ".join(pdf_pages(path)) for path in FILES if path.suffix == ".pdf"]
    texts += [text for path in FILES if path.suffix == ".docx" for _, text in docx_sections(path)]
    assert not any("dental" in text.lower() or "dentist" in text.lower() for text in texts)
