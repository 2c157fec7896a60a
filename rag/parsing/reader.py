"""Reads uploaded files, in limited child processes that are kept warm."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rag.domain import Block, MediaType, Page, Parsed, Run
from rag.parsing.budget import Budget
from rag.parsing.process import Children
from rag.stopping import Stop


class Reader:
    """Reads at most `processes` files at a time; a hostile file ends a child process and nothing else."""

    def __init__(self, processes: int = 2) -> None:
        self._children = Children(processes)

    def read(self, path: Path, media_type: MediaType, progress: Callable[[int, int], None], stop: Stop) -> Parsed:
        """The pages and blocks of a file. `progress(pages read, pages in all)` is called from this thread.

        Raises UnreadableDocument with the reason, and Stopped, promptly also amid a page.
        """
        request = {"task": "read", "path": str(path.resolve()), "media_type": media_type}
        pages: list[Page] = []
        total = 0
        ending: dict[str, Any] = {}
        with self._children.child(stop) as child:
            budget = Budget()  # its time begins here: waiting for a child is not reading
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
                    case "end":
                        ending = message
        return _parsed(pages, ending)

    def close(self) -> None:
        """End the child processes; whoever is reading gets UnreadableDocument or Stopped."""
        self._children.close()


def _page(message: dict[str, Any]) -> Page:
    numbers = message["runs"]
    runs = None
    if numbers is not None:
        runs = tuple(Run(*numbers[index : index + 3]) for index in range(0, len(numbers), 3))
    return Page(message["number"], message["label"], message["text"], runs)


def _parsed(pages: Sequence[Page], message: dict[str, Any]) -> Parsed:
    texts = {page.number: page.text for page in pages}
    blocks = tuple(
        Block(kind, texts[number][start:end], number, start, end, tuple(headings), level, header_end)
        for kind, number, start, end, headings, level, header_end in message["blocks"]
    )
    return Parsed(tuple(pages), blocks, message["paged"], tuple(message["warnings"]))
