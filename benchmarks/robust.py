"""Reads a folder of hostile and odd files and prints, by class, how each ended.

    python benchmarks/robust.py FOLDER

The class is what stands before "__" in a file's name. Every file must end as read or as unreadable with a reason;
anything else is printed as a fault and makes the script fail.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rag.errors import UnreadableDocument
from rag.parsing import sniff
from rag.parsing.reader import Reader
from rag.stopping import Stop


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--reasons", action="store_true", help="print every file with what came of it")
    options = arguments.parse_args()
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reader = Reader()
    slowest = (0.0, "")
    faults = 0
    for path in sorted(path for path in options.folder.iterdir() if path.suffix.lower() in {".pdf", ".docx", ".doc"}):
        started = time.monotonic()
        try:
            media_type = sniff.media_type(path.read_bytes()[: sniff.HEAD_BYTES], path.name)
            parsed = reader.read(path, media_type, lambda done, total: None, Stop())
        except UnreadableDocument as error:
            outcome = str(error)
        except Exception as error:
            outcome = f"FAULT {type(error).__name__}: {error}"
            faults += 1
        else:
            characters = sum(len(page.text) for page in parsed.pages)
            outcome = "read" if not parsed.warnings else "read, with warnings"
            if options.reasons:
                print(f"{path.name}: {len(parsed.pages)} pages, {characters} characters, {parsed.warnings}")
        if options.reasons and not outcome.startswith("read"):
            print(f"{path.name}: {outcome}")
        outcomes[path.name.partition("__")[0]][outcome] += 1
        slowest = max(slowest, (time.monotonic() - started, path.name))
    reader.close()
    for kind, counts in sorted(outcomes.items()):
        print(f"\n{kind} ({counts.total()})")
        for outcome, count in counts.most_common():
            print(f"  {count:4}  {outcome}")
    print(
        f"\n{sum(counts.total() for counts in outcomes.values())} files, {faults} faults; "
        f"slowest {slowest[0]:.1f} s: {slowest[1]}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
