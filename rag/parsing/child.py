"""The limited child process: `python -m rag.parsing.child` reads hostile files so that the server does not have to.

One JSON object per line. The parent asks `{"task": "read", "path": …, "media_type": …, "figures": …}` or
`{"task": "picture", …}`; the child answers a `read` with `begin`, one `page` per page, `text`, one `figure` per picture
where those are wanted, then `end`; a `picture` with `picture`; either with `unreadable` and a sentence. All text comes
before the pictures, so that it is not lost if they end this process. JSON, because what a compromised child could say
must not be able to run in the server.

A file that makes a library abort, or takes too much memory or processor time, ends this process; the parent tells
from the closed pipe. When the parent ends, however it ends, standard input closes and so does this process.
"""

import base64
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from rag.domain import DOCX, Figure, Page, Run
from rag.errors import UnreadableDocument
from rag.parsing import budget
from rag.parsing.ending import NoText

MEMORY_BYTES = 1536 * 1024**2
"""Address space of the process, libraries included; ordinary files stay below 400 MB."""

NOTHING_TO_SEARCH = "This file has no text, and no pictures that can be searched: it is blank or damaged."

Message = dict[str, Any]


def main() -> None:
    """Answer the parent's requests until it closes the pipe."""
    replies = _private_output()
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    _limit_memory()

    def say(message: Message) -> None:
        replies.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        replies.flush()

    while True:
        request = requests.get()
        _limit_processor_time()
        try:
            _TASKS[request["task"]](request, say)
        except UnreadableDocument as error:
            say({"kind": "unreadable", "problem": str(error)})
        except (MemoryError, RecursionError):
            say({"kind": "unreadable", "problem": budget.TOO_HEAVY})
        except BrokenPipeError:
            os._exit(0)
        except Exception:  # whatever a library raises on a hostile file is this file's failure
            say({"kind": "unreadable", "problem": "This file is damaged and cannot be read."})


def _private_output() -> BinaryIO:
    """Keep the pipe to the parent for our own messages: libraries written in C may print to standard output."""
    replies = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    return replies


def _listen(source: BinaryIO, requests: "queue.SimpleQueue[Message]") -> None:
    for line in source:
        requests.put(json.loads(line))
    os._exit(0)  # the parent is gone: end at once, even amid a file


def _limit_memory() -> None:
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):
        return  # macOS refuses; the parent's time limit still holds


def _limit_processor_time() -> None:
    """Allow this much more processor time than was used so far; the kernel ends the process after that."""
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime + budget.MAX_SECONDS) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY or allowed < most:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, most))


# ---------------------------------------------------------------- tasks


def _read(request: Message, say: Callable[[Message], None]) -> None:
    path, is_docx, wanted = Path(request["path"]), request["media_type"] == DOCX, bool(request["figures"])
    pages: list[Page] = []
    pictured: set[int] = set()
    textless = False

    def begin(count: int) -> None:
        pages.clear()
        say({"kind": "begin", "pages": count})

    def page(read: Page) -> None:
        runs = (
            None
            if read.runs is None
            else [number for run in read.runs for number in (run.start, run.source, run.length)]
        )
        pages.append(read)
        say({"kind": "page", "number": read.number, "label": read.label, "text": read.text, "runs": runs})

    def figure(found: Figure) -> None:
        pictured.add(found.page)
        say(
            {
                "kind": "figure",
                "page": found.page,
                "whole_page": found.whole_page,
                "media_type": found.image.media_type,
                "image": base64.b64encode(found.image.data).decode("ascii"),
                "caption": found.caption,
                "headings": found.headings,
            }
        )

    # Each child loads only the libraries it needs.
    try:
        if is_docx:
            from rag.parsing import docx  # noqa: PLC0415

            ending = docx.read(path, begin, page)
        else:
            from rag.parsing import pdf  # noqa: PLC0415

            ending = pdf.read(path, begin, page)
    except NoText as error:
        if not wanted:
            raise
        ending, textless = error.ending, True
    blocks = [
        [block.kind, block.page, block.start, block.end, block.headings, block.level, block.header_end]
        for block in ending.blocks
    ]
    say({"kind": "text", "blocks": blocks, "paged": not is_docx, "warnings": ending.warnings})
    warnings: tuple[str, ...] = ()
    if wanted and is_docx:
        from rag.parsing import figures_docx  # noqa: PLC0415

        warnings = figures_docx.read(path, ending.pictures, figure)
    elif wanted:
        from rag.parsing import figures_pdf  # noqa: PLC0415

        warnings = figures_pdf.read(path, pages, ending.blocks, figure)
    if textless and not pictured:
        raise UnreadableDocument(NOTHING_TO_SEARCH)
    if not is_docx:
        silent = [number for number in ending.silent if number not in pictured]
        warnings = (*pdf.silent(silent, len(pages), wanted), *warnings)
    say({"kind": "end", "warnings": warnings})


def _picture(request: Message, say: Callable[[Message], None]) -> None:
    from rag.parsing import render  # noqa: PLC0415

    runs = None if request["runs"] is None else [Run(*run) for run in request["runs"]]
    picture = render.page(Path(request["path"]), request["number"], runs, request["spans"], request["width"])
    image = base64.b64encode(picture.image).decode("ascii")
    say({"kind": "picture", "image": image, "media_type": picture.media_type, "marked": picture.marked})


_TASKS: dict[str, Callable[[Message, Callable[[Message], None]], None]] = {"read": _read, "picture": _picture}

if __name__ == "__main__":
    main()
