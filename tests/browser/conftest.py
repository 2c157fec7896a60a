"""The real app in a real browser: each server has a port and a data folder of its own, the pages no network."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, Route, expect, sync_playwright
from reportlab.lib.pagesizes import A5
from reportlab.pdfgen.canvas import Canvas

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
NEW_VIEW = Callable[..., Page]
PDF_OF = Callable[..., bytes]
IDLE = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app?.dataset.testScriptState === "notRunning" && app?.dataset.testConnectionState === "CONNECTED";
}"""


# ---------------------------------------------------------------- the server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:  # noqa: S310 - our own server
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def serving(folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """The address of an app on an empty data folder; its log must be free of tracebacks at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTNOTE_", "OPENROUTER_"))}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "streamlit", "run", str(ROOT / "app.py")),
                *(f"--server.port={port}", "--server.address=127.0.0.1"),
            ],
            cwd=folder,
            env={**inherited, "FOOTNOTE_DATA_DIR": str(folder / "data"), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + PATIENCE
        while not is_healthy(url):
            assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    said = log.read_text(encoding="utf-8")
    assert "Traceback" not in said, said


@pytest.fixture
def empty_app(tmp_path: Path) -> Iterator[str]:
    """An app that nobody has used yet."""
    with serving(tmp_path, {}) as url:
        yield url


@pytest.fixture(scope="session")
def samples_app(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """An app whose sample documents are all ready."""
    with serving(tmp_path_factory.mktemp("samples"), {}) as url, viewing(browser) as view:
        page = view(url)
        page.get_by_role("button", name="Try the sample documents").click()
        # Going on before the click has arrived would cancel it.
        expect(page.locator(".st-key-collection")).to_be_visible(timeout=PATIENCE * 1000)
        page.get_by_role("link", name="Documents").click()
        expect(page.locator(".st-key-document-list").get_by_text("passages")).to_have_count(5, timeout=PATIENCE * 1000)
        yield url


@pytest.fixture(scope="session")
def pdf_of() -> PDF_OF:
    """Makes a PDF with one line per page."""

    def made(*lines: str) -> bytes:
        content = BytesIO()
        paper = Canvas(content, pagesize=A5)
        for line in lines:
            paper.drawString(60, 480, line)
            paper.showPage()
        paper.save()
        return content.getvalue()

    return made


# ---------------------------------------------------------------- the browser


def executable(playwright: Playwright) -> str | None:
    """A Chromium of this machine, else Playwright's own, else None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = executable(playwright)
        if found is None:
            reason = "No Chromium: install it, or run `playwright install chromium`."
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        launched = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield launched
        launched.close()


@contextmanager
def viewing(browser: Browser) -> Iterator[NEW_VIEW]:
    """A function that opens an address in a browser of its own. The page may neither fail nor leave this machine."""
    errors: list[str] = []
    abroad: list[str] = []

    def leave(route: Route) -> None:
        abroad.append(route.request.url)
        route.abort()

    def opened(url: str, dark: bool = False, width: int = 1280, height: int = 900, settled: bool = True) -> Page:
        context: BrowserContext = contexts.enter_context(
            browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                permissions=["clipboard-read", "clipboard-write"],
            )
        )
        context.set_default_timeout(20_000)
        context.route(lambda address: not address.startswith(LOCAL), leave)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        if settled:
            idle(page)
        return page

    with ExitStack() as contexts:
        yield opened
    assert not abroad, f"The page tried to load {abroad}"
    assert not errors, errors


@pytest.fixture
def view(browser: Browser) -> Iterator[NEW_VIEW]:
    expect.set_options(timeout=20_000)
    with viewing(browser) as opened:
        yield opened


def copied(page: Page, answer: Locator) -> str:
    """What the clipboard holds after Copy; a click amid a redraw may land nowhere, as a person's would."""
    for _ in range(5):
        answer.get_by_role("button", name="Copy").click()
        with suppress(AssertionError):
            expect(page.locator("#footnote-card")).to_contain_text("Copied", timeout=3000)
            return str(page.evaluate("navigator.clipboard.readText()"))
    raise AssertionError("nothing was copied")


def idle(page: Page) -> None:
    """Wait until Streamlit has nothing left to draw."""
    page.wait_for_function(IDLE)


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    expect(box).to_be_enabled()
    box.fill(question)
    box.press("Enter")
    expect(page.get_by_test_id("stChatMessage").nth(-2)).to_contain_text(question)
