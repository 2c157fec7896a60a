"""The dependency rule of ARCHITECTURE.md, enforced by reading imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [*sorted(path for folder in ("rag", "pages") for path in (ROOT / folder).rglob("*.py")), ROOT / "app.py"]

# The level of each module of ours; a package's modules share its level. Imports may stay on a level or go down.
LEVELS = {
    0: ("domain", "errors", "settings", "stopping"),
    1: (
        "account",
        "catalogue",
        "chroma",
        "chunking",
        "citations",
        "conversations",
        "database",
        "figures",
        "headers",
        "interfaces",
        "keywords",
        "library",
        "links",
        "local",
        "lock",
        "models",
        "openrouter",
        "originals",
        "parsing",
        "passages",
        "pictures",
        "preferences",
        "preflight",
        "prompts",
        "retrieval",
        "showing",
        "stores",
        "usage",
        "vectors",
        "words",
    ),
    2: ("asking", "search", "writing", "pipeline"),
    3: ("chat", "indexing", "recovery"),
    4: ("model_choice", "services", "replies", "api"),
    5: ("pages", "app"),
}
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}

STORES = {
    "rag.catalogue",
    "rag.conversations",
    "rag.database",
    "rag.figures",
    "rag.keywords",
    "rag.library",
    "rag.passages",
    "rag.preferences",
    "rag.usage",
    "rag.vectors",
}
HOMES = {
    "chromadb": {"rag.chroma"},
    "docx": set(),
    "filelock": {"rag.lock"},
    "httpcore": {"rag.openrouter"},
    "httpx": {"rag.openrouter"},
    "itsdangerous": {"rag.links"},
    "lxml": {"rag.parsing"},
    "PIL": {"rag.parsing"},
    "pydantic_settings": {"rag.settings"},
    "pypdf": {"rag.parsing.pdf"},
    "pypdfium2": {"rag.parsing"},
    "safetensors": {"rag.local.embeddings"},
    "sqlalchemy": STORES,
    "starlette": {"rag.api", "app"},
    "Stemmer": {"rag.words"},
    "streamlit": {"pages", "app"},
    "tokenizers": {"rag.local.embeddings"},
}
MAY_START_THREADS = {"rag.chat", "rag.indexing", "rag.services", "rag.openrouter", "rag.parsing"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module in {"rag", "pages", "pages.parts"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def level(module: str) -> int:
    parts = module.split(".")
    return LEVEL_OF[parts[1] if parts[0] == "rag" and len(parts) > 1 else parts[0]]


def within(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(home + ".") for home in homes)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_only_go_down(path: Path) -> None:
    """No module imports one of a higher level."""
    importer = module_name(path)
    if importer == "rag":
        return
    for imported in imports(path):
        if imported.split(".")[0] in {"rag", "pages"} and imported != "rag":
            assert level(imported) <= level(importer), f"{importer} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_each_foreign_library_has_one_home(path: Path) -> None:
    """A library's types stay where the library is at home."""
    importer = module_name(path)
    for imported in imports(path):
        homes = HOMES.get(imported.split(".")[0])
        if homes is not None:
            assert within(importer, homes), f"{importer} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_settings_reads_the_environment(path: Path) -> None:
    """The environment is read in one place."""
    if module_name(path) not in {"rag.settings", "app"}:
        assert not re.search(r"\bos\.(environ|getenv)\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_few_modules_start_threads(path: Path) -> None:
    """Threads begin where somebody also ends them."""
    if not within(module_name(path), MAY_START_THREADS):
        assert not re.search(r"\bThread\(|ThreadPoolExecutor\(", path.read_text(encoding="utf-8"))


def test_every_module_has_a_level() -> None:
    """A new module says where it belongs."""
    for path in SOURCES:
        if module_name(path) != "rag":
            level(module_name(path))
