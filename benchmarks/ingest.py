"""How fast, and in how much memory, a folder of PDFs becomes searchable, against a plain baseline in the same run.

    python benchmarks/ingest.py FOLDER [FOLDER ...]

Both sides ask the same stub for embeddings (its CPU is not counted). The baseline is what a short script does: pypdf,
chunks of 1,000 characters, one embedding request of 100 texts after another, upsert with texts into Chroma as it comes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Stub, table

HERE = Path(__file__).parent
MODEL = "openai/text-embedding-3-small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--side", choices=["footnote", "baseline"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = pdfs(options.folders)
    if options.side:
        print(json.dumps({"footnote": footnote, "baseline": baseline}[options.side](files)))
        return
    rows = []
    for side in ("footnote", "baseline"):
        with Stub() as stub, tempfile.TemporaryDirectory() as folder:
            environment = os.environ | stub.environment | {"FOOTNOTE_DATA_DIR": folder, "FOOTNOTE_API_TOKEN": ""}
            command = [sys.executable, __file__, "--side", side, *map(str, options.folders)]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            rows.append({"side": side, "requests": stub.stats()["requests"]["embeddings"]} | json.loads(output))
    print(table(rows, ["side", "files", "pages", "chunks", "cpu", "wall", "peak_mb", "requests", "again_requests"]))
    ours, plain = rows
    print(f"pages per CPU second: {ours['pages'] / ours['cpu']:.0f} (baseline {plain['pages'] / plain['cpu']:.0f})")
    print(f"baseline / footnote: CPU {plain['cpu'] / ours['cpu']:.1f}x, wall {plain['wall'] / ours['wall']:.1f}x")


def footnote(files: list[Path]) -> dict[str, Any]:
    """The product itself, without its pages."""
    started = time.perf_counter()
    opened, collection = filled(files)
    wall = time.perf_counter() - started
    documents = opened.library.documents(collection.id)
    failed = [document.name for document in documents if document.newest.status != "ready"]
    if failed:
        raise SystemExit(f"Not ready: {failed}")
    before = requests()
    add(opened, collection.id, files)
    wait(opened)
    again = requests() - before
    opened.close()
    return {
        "files": len(documents),
        "pages": sum(document.newest.pages or 0 for document in documents),
        "chunks": sum(document.newest.chunks for document in documents),
        "cpu": cpu_seconds(),
        "wall": wall,
        "peak_mb": peak_megabytes(),
        "again_requests": again,
    }


def pdfs(folders: list[Path]) -> list[Path]:
    """Every PDF in the folders and below them."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() == ".pdf")


def filled(files: list[Path]) -> tuple[Any, Any]:
    """The services on the data folder of the environment, and a collection in which all files are indexed."""
    sys.path.insert(0, str(HERE.parent))
    from rag import services
    from rag.settings import load

    opened = services.open(load())
    opened.wait_until_ready(120)
    collection = opened.library.create_collection("Benchmark", opened.models.embeddings)
    add(opened, collection.id, files)
    wait(opened)
    return opened, collection


def add(opened: Any, collection_id: str, files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as stream:
            opened.library.add(collection_id, path.name, stream)
    opened.indexer.wake()


def wait(opened: Any) -> None:
    while True:
        activity = opened.library.activity()
        if activity.waiting + activity.working == 0:
            return
        time.sleep(0.1)


def requests() -> int:
    import httpx

    return int(
        httpx.get(os.environ["OPENROUTER_BASE_URL"].rsplit("/api", 1)[0] + "/stats").json()["requests"]["embeddings"]
    )


def baseline(files: list[Path]) -> dict[str, Any]:
    """What a short script does with the same packages."""
    import chromadb
    import httpx
    import pypdf
    from chromadb.config import Settings

    started = time.perf_counter()
    client = chromadb.PersistentClient(os.environ["FOOTNOTE_DATA_DIR"], settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("benchmark", embedding_function=None)
    http = httpx.Client(
        base_url=os.environ["OPENROUTER_BASE_URL"] + "/",
        headers={"Authorization": f"Bearer {os.environ['OPENROUTER_API_KEY']}"},
        timeout=60,
    )
    pages = chunks = 0
    for path in files:
        with pypdf.apply_configuration(array_maximum_element_count=2_000_000):
            texts = [page.extract_text() for page in pypdf.PdfReader(path).pages]
        pages += len(texts)
        pieces = [
            text[at : at + 1000] for text in texts for at in range(0, len(text), 1000) if text[at : at + 1000].strip()
        ]
        pieces = [piece.encode("utf-8", "ignore").decode() for piece in pieces]
        for first in range(0, len(pieces), 100):
            batch = pieces[first : first + 100]
            reply = http.post("embeddings", json={"model": MODEL, "input": batch}).raise_for_status().json()
            vectors = [row["embedding"] for row in sorted(reply["data"], key=lambda row: row["index"])]
            ids = [f"{path.name}-{first + number}" for number in range(len(batch))]
            collection.upsert(
                ids=ids, embeddings=vectors, documents=batch, metadatas=[{"file": path.name}] * len(batch)
            )
        chunks += len(pieces)
    return {
        "files": len(files),
        "pages": pages,
        "chunks": chunks,
        "cpu": cpu_seconds(),
        "wall": time.perf_counter() - started,
        "peak_mb": peak_megabytes(),
        "again_requests": None,
    }


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_megabytes() -> float:
    """The largest resident set this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
