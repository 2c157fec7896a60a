"""What `streamlit run app.py` starts: the pages, the API beside them and the services behind both.

Importing this module starts a server: it takes the data folder. What stops the start is one sentence on stderr.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from anyio import to_thread
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rag import lock, settings
from rag.errors import FootnoteError
from rag.headers import SecurityHeaders, security_headers

# Ours at INFO, libraries' warnings only: at INFO some of them log addresses.
logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logging.getLogger("rag").setLevel(logging.INFO)


def _start() -> settings.Settings:
    """The settings of this server, once it owns their data folder."""
    # Streamlit puts the root keys of secrets.toml into the environment, where the settings are read.
    try:
        loaded = st.secrets.load_if_toml_exists()
    except (OSError, UnicodeDecodeError):
        loaded = False
    unreadable = [path for path in st.get_option("secrets.files") if Path(path).exists()]
    if unreadable and not loaded:
        raise SystemExit(f"Footnote did not start. {unreadable[0]} cannot be read: it must be valid TOML.")
    try:
        loaded_settings = settings.load()
        lock.take(loaded_settings.data_dir)
    except FootnoteError as error:
        raise SystemExit(f"Footnote did not start. {error}") from None
    return loaded_settings


configured = _start()

# Only now: these import everything there is, and a second process must stop before that.
from rag import api, services  # noqa: E402

headers = security_headers((Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8"))


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Open the services while the first pages are served, and close them with the server."""
    opened = services.open(configured)
    # Streamlit's own greeting is off: on a server it asks a stranger on the internet for this machine's address.
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    address = f"{st.get_option('server.address') or 'localhost'}:{st.get_option('server.port')}"
    print(f"Footnote: {scheme}://{address}", flush=True)
    try:
        yield
    finally:
        await to_thread.run_sync(opened.close)


async def failed(_request: Request, _error: Exception) -> Response:
    """The reply to what nothing else caught; it is sent outside the middleware, so it brings the headers itself."""
    return PlainTextResponse("Something went wrong on the server.", 500, headers)


app = st.App(
    Path(__file__).parent / "pages" / "shell.py",
    lifespan=lifespan,
    routes=api.routes(),
    middleware=[Middleware(SecurityHeaders, headers=headers)],
    exception_handlers={Exception: failed},
)
