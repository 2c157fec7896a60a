"""Reads uploaded files, in limited child processes that are kept warm."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rag.domain import Block, Figure, MediaType, Page, Parsed, Run
from rag.errors import UnreadableDocument
from rag.parsing.budget import Budget
from rag.parsing.pictures import Pictures
from rag.parsing.process import Children
from rag.stopping import Stop

PICTURES_FAILED = "Some pictures of this file could not be read and cannot be found."


class Reader:
    """Reads at most `processes` files at a time; a hostile file ends a child process and nothing else."""

    def __init__(self, processes: int = 2) -> None:
        self._children = Children(processes)
        self._closed = False

    def read(
        self,
        path: Path,
        media_type: MediaType,
        progress: Callable[[int, int], None],
        stop: Stop,
        *,
        figures: bool = False,
    ) -> Parsed:
        """The pages, blocks and, where `figures` are wanted, pictures of a file.

        `progress(pages read, pages in all)` is called from this thread. A file without text is readable as long as it
        gives pictures; pictures that make the reading fail are left out with a warning. Raises UnreadableDocument with
        the reason, and Stopped, promptly also amid a page.
        """
        request = {"task": "read", "path": str(path.resolve()), "media_type": media_type, "figures": figures}
        pages: list[Page] = []
        pictures = Pictures()
        total = 0
        text: dict[str, Any] = {}
        warnings: list[str] = []
        with self._children.child(stop) as child:
            budget = Budget()  # its time begins here: waiting for a child is not reading
            try:
                for message in child.ask(request, stop):
                    match message["kind"]:
                        case "begin":
                            pages.clear()  # a second parser starts anew
                            total = int(message["pages"])
                            budget.pages(total)
                            progress(0, total)
                        case "page":
                            pages.append(_page(message))
                            budget.read(len(pages[-1].text))
                            progress(len(pages), total)
                        case "text":
                            text = message
                            warnings.extend(message["warnings"])
                        case "figure":
                            pictures.add(message, pages)
                        case "end":
                            warnings.extend(message["warnings"])
            except UnreadableDocument:
                if self._closed or not text or not (text["blocks"] or pictures.found):
                    raise
                warnings.append(PICTURES_FAILED)
        return _parsed(pages, text, pictures.found, warnings)

    def close(self) -> None:
        """End the child processes; whoever is reading gets UnreadableDocument or Stopped."""
        self._closed = True
        self._children.close()


def _page(message: dict[str, Any]) -> Page:
    numbers = message["runs"]
    runs = None
    if numbers is not None:
        runs = tuple(Run(*numbers[index : index + 3]) for index in range(0, len(numbers), 3))
    return Page(message["number"], message["label"], message["text"], runs)


def _parsed(
    pages: Sequence[Page], message: dict[str, Any], figures: Sequence[Figure], warnings: Sequence[str]
) -> Parsed:
    texts = {page.number: page.text for page in pages}
    blocks = tuple(
        Block(kind, texts[number][start:end], number, start, end, tuple(headings), level, header_end)
        for kind, number, start, end, headings, level, header_end in message["blocks"]
    )
    return Parsed(tuple(pages), blocks, message["paged"], tuple(warnings), tuple(figures))
