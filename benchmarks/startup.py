"""Seconds from `streamlit run app.py` to the first page, and to being ready for questions.

python benchmarks/startup.py [--runs 5]
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import table, wait_for

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rows = [one_start(run) for run in range(1, options.runs + 1)]
    print(table(rows, ["run", "first_page_s", "ready_s"]))


def one_start(run: int) -> dict[str, float]:
    """One start with an empty data folder; the first page is there when its HTML and Streamlit's health are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FOOTNOTE_DATA_DIR": folder, "OPENROUTER_API_KEY": ""}
        command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--server.address=127.0.0.1"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", 60)
            wait_for(f"http://127.0.0.1:{port}/", 60)
            page = time.perf_counter() - started
            wait_for(f"http://127.0.0.1:{port}/health", 60)
            return {"run": run, "first_page_s": page, "ready_s": time.perf_counter() - started}
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
