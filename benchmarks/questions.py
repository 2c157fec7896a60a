"""How long a question takes: time to the first token beside the stub's own latencies, and full answers in local mode.

    python benchmarks/questions.py FOLDER [FOLDER ...] --questions QUERIES.jsonl [--count 200]

The stub's latencies (embedding, rerank, first token) are subtracted from the time to the first token, so that what
remains is what Footnote itself adds. Local mode needs no server: the whole answer is timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ingest import filled, pdfs
from measuring import Stub, percentile, table

HERE = Path(__file__).parent
STUB_SECONDS = (0.080 + 0.0002) + 0.120 + 0.200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options)))
        return
    rows = []
    for mode in ("stub", "local"):
        with Stub() as stub, tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"FOOTNOTE_DATA_DIR": folder}
            environment |= stub.environment if mode == "stub" else {"OPENROUTER_API_KEY": ""}
            command = [sys.executable, __file__, *sys.argv[1:], "--inside"]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            found = json.loads(output)
        less = STUB_SECONDS if mode == "stub" else 0.0
        for name, values in found["times"].items():
            own = [1000 * (value - (less if name == "first token" else 0.0)) for value in values]
            rows.append(
                {
                    "mode": mode,
                    "chunks": found["chunks"],
                    "what": name + (", stub's latencies subtracted" if less and name == "first token" else ""),
                    "questions": len(own),
                    "p50_ms": statistics.median(own),
                    "p95_ms": percentile(own, 0.95),
                }
            )
        rows.append({"mode": mode, "what": "CPU per question, ms", "p50_ms": 1000 * found["cpu"]})
    print(table(rows, ["mode", "chunks", "what", "questions", "p50_ms", "p95_ms"]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    opened, collection = filled(pdfs(options.folders))
    from rag.domain import Answered, Refused, TextDelta
    from rag.stopping import Stop

    lines = options.questions.read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["text"] for line in lines]
    questions = questions[:: max(1, len(questions) // options.count)][: options.count]
    times: dict[str, list[float]] = {"first token": [], "full answer": []}
    for question in questions[:3]:
        list(opened.pipeline.answer(question, [], collection.id, Stop()))
    used = time.process_time()
    for question in questions:
        started = time.perf_counter()
        first = None
        for event in opened.pipeline.answer(question, [], collection.id, Stop()):
            if first is None and isinstance(event, TextDelta):
                first = time.perf_counter() - started
            refused = (isinstance(event, Answered) and event.answer.refused) or isinstance(event, Refused)
        if first is not None:
            times["first token"].append(first)
        if not refused or first is None:
            times["full answer"].append(time.perf_counter() - started)
    used = time.process_time() - used
    documents = opened.library.documents(collection.id)
    opened.close()
    return {
        "times": times,
        "cpu": used / len(questions),
        "chunks": sum(document.newest.chunks for document in documents),
    }


if __name__ == "__main__":
    main()
