"""Whether the page, and the document, that holds the answer is among the first found in a library of PDFs; local mode.

    python benchmarks/page_recall.py FOLDER [FOLDER ...]

Each folder has pdfs/, queries.jsonl (id, text) and qrels.tsv (query, FILE.pdf or FILE.pdf#page=N, relevance). All PDFs
of a folder are one collection. "first stage" is the fused order, "reranked" the final one; refused is the share of
these answerable questions whose best passage lies below the threshold.
"""

import argparse
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest import filled, pdfs
from measuring import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    rows = [row for folder in options.folders for row in measured(folder)]
    print(table(rows, ["set", "questions", "order", "page@1", "page@5", "document@1", "document@5", "refused"]))


def measured(folder: Path) -> list[dict[str, Any]]:
    """One row per order."""
    gold = relevant(folder / "qrels.tsv")
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [question for question in map(json.loads, lines) if question["id"] in gold]
    sums: dict[str, Counter[str]] = {"first stage": Counter(), "reranked": Counter()}
    with tempfile.TemporaryDirectory() as data:
        os.environ |= {"FOOTNOTE_DATA_DIR": data, "OPENROUTER_API_KEY": ""}
        opened, collection = filled(pdfs([folder / "pdfs"]))
        from rag.stopping import Stop

        for question in questions:
            found = opened.pipeline.search(collection.id, question["text"], Stop())
            wanted = gold[question["id"]]
            fused = sorted(found.hits, key=lambda hit: hit.fused_rank or 0)
            for order, hits in (("first stage", fused), ("reranked", found.hits)):
                sums[order].update(shares(hits, wanted))
            best = found.hits[0].relevance if found.hits else None
            sums["reranked"]["refused"] += (best or 0.0) < (found.bands.not_found if found.bands else 0.0)
        opened.close()
    return [
        {"set": folder.name, "questions": len(questions), "order": order}
        | {name: value / len(questions) for name, value in counts.items()}
        for order, counts in sums.items()
    ]


def relevant(path: Path) -> dict[str, set[str]]:
    """Question → pages or documents that answer it."""
    gold: dict[str, set[str]] = defaultdict(set)
    for line in path.read_text(encoding="utf-8").splitlines():
        query, target, relevance = [*line.split("\t"), "", ""][:3]
        if relevance.isdigit() and int(relevance) > 0:
            gold[query].add(target)
    return gold


def shares(hits: Sequence[Any], wanted: set[str]) -> dict[str, float]:
    """Whether a wanted page is among the first (1 or 0), and which share of the wanted documents is."""
    pages = [
        f"{hit.document}#page={page}" for hit in hits for page in range(hit.chunk.page_first, hit.chunk.page_last + 1)
    ]
    documents = list(dict.fromkeys(hit.document for hit in hits))
    wanted_documents = {target.split("#page=")[0] for target in wanted}
    found = {
        "document@1": float(documents[0] in wanted_documents),
        "document@5": len(wanted_documents & set(documents[:5])) / len(wanted_documents),
    }
    if any("#page=" in target for target in wanted):
        distinct = list(dict.fromkeys(pages))
        found |= {"page@1": float(distinct[0] in wanted), "page@5": float(bool(wanted & set(distinct[:5])))}
    return found


if __name__ == "__main__":
    main()
