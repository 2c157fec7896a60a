"""The real server, as `streamlit run app.py` starts it."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
TOKEN = "secret-token"
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    home: Path, data: Path, port: int, settings: Mapping[str, str] = {}, secrets: str = ""
) -> subprocess.Popen[str]:
    """The server with these settings alone: none of the developer's, from neither environment, .env nor secrets."""
    folder = Path(tempfile.mkdtemp(dir=home))
    if secrets:
        (folder / "secrets.toml").write_bytes(secrets)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTNOTE_", "OPENROUTER_"))}
    return subprocess.Popen(
        [
            sys.executable,
            *("-m", "streamlit", "run", str(ROOT / "app.py")),
            *(f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"),
            f"--secrets.files={folder / 'secrets.toml'}",
        ],
        cwd=folder,
        env={**inherited, "FOOTNOTE_DATA_DIR": str(data), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def refused(process: subprocess.Popen[str]) -> str:
    """What a server that does not start says; it must end by itself, with code 1 and without a traceback."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Traceback" not in said
    return said


@contextmanager
def running(process: subprocess.Popen[str], port: int) -> Iterator[httpx.Client]:
    """A client of the server once it is healthy; afterwards the server must end cleanly."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        try:
            until = time.monotonic() + PATIENCE
            while not healthy(client):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < until
                time.sleep(0.05)
            yield client
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said, said


def healthy(client: httpx.Client) -> bool:
    try:
        response = client.get("/health")
    except httpx.TransportError:
        return False
    assert (response.status_code, response.json()) in [
        (200, {"status": "ok"}),
        (503, {"status": "starting"}),
    ]
    return response.status_code == 200


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[httpx.Client]:
    """A server whose API token came from secrets.toml."""
    port = free_port()
    with running(
        start(home, home / "data", port, secrets=f'FOOTNOTE_API_TOKEN = "{TOKEN}"\n'.encode()), port
    ) as client:
        yield client


def test_the_server_becomes_healthy(server: httpx.Client) -> None:
    """With nothing configured the server starts, in local mode, and says so at /health."""
    assert server.get("/health").json() == {"status": "ok"}


def test_secrets_of_streamlit_are_settings(server: httpx.Client) -> None:
    """The API is on because secrets.toml holds its token."""
    assert server.get("/api/v1/documents/none").status_code == 401
    allowed = server.get("/api/v1/documents/none", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (allowed.status_code, allowed.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/documents", 200),
        ("/static/js/", None),
        ("/favicon.png", 200),
        ("/media/none.png", 404),
        ("/_stcore/health", 200),
        ("/health", 200),
        ("/api", 401),
        ("/api/nothing", 401),
        ("/pictures/wrong", 404),
        ("/..%2f..%2fetc/passwd", None),
    ],
)
def test_every_reply_has_the_security_headers(server: httpx.Client, path: str, status: int | None) -> None:
    """Pages, files, errors and the API all carry the policy, once."""
    response = server.get(path)
    assert status is None or response.status_code == status
    assert response.headers.get_list("content-security-policy")[0].startswith("default-src 'self'; ")
    assert len(response.headers.get_list("content-security-policy")) == 1
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-frame-options"] == "SAMEORIGIN"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert "geolocation=()" in response.headers["permissions-policy"]


def test_the_policy_fits_the_page_that_is_served(server: httpx.Client) -> None:
    """Each inline script of the page is allowed by its hash; otherwise the page would stay empty."""
    page = server.get("/")
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


def test_nothing_under_api_is_the_page(server: httpx.Client) -> None:
    """Unknown addresses of the API are JSON, never Streamlit's page."""
    for path in ("/api", "/api/", "/api/v1/nothing"):
        error = json.loads(server.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).content)
        assert error["error"]["code"] == "not_found"


def test_a_second_server_on_the_same_data_stops(server: httpx.Client, home: Path) -> None:
    """The second one says which folder is taken and ends; the first one serves on."""
    said = refused(start(home, home / "data", free_port()))
    assert f"Footnote did not start. Another Footnote process uses the data folder {home.resolve() / 'data'}." in said
    assert server.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("FOOTNOTE_CHAT", "nonsense"), ("FOOTNOTE_API_TOKEN", "two words"), ("OPENROUTER_BASE_URL", "no address")],
)
def test_a_wrong_setting_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    """The sentence names the setting and keeps its value, which may be a key, to itself."""
    said = refused(start(tmp_path, tmp_path / "data", free_port(), {name: value}))
    assert f"Footnote did not start. The setting {name} has a value that cannot be used: " in said
    assert value not in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b'FOOTNOTE_API_TOKEN = "unfinished', b'FOOTNOTE_API_TOKEN = "unfinished \xff"'])
def test_secrets_that_cannot_be_read_stop_the_start(tmp_path: Path, content: bytes) -> None:
    """A slip in secrets.toml is not a server without its token."""
    said = refused(start(tmp_path, tmp_path / "data", free_port(), secrets=content))
    assert "secrets.toml cannot be read: it must be valid TOML." in said
    assert "unfinished" not in said


def test_a_data_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    """A file in the way is a sentence."""
    (tmp_path / "file").write_text("in the way")
    said = refused(start(tmp_path, tmp_path / "file" / "data", free_port()))
    assert "Set FOOTNOTE_DATA_DIR to a folder that can be written." in said
