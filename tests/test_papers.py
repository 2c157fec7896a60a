"""What the papers of the repository say agrees with the code."""

import re
import tomllib
from pathlib import Path

import pytest

from rag.settings import Settings

ROOT = Path(__file__).parent.parent
VARIABLES = {str(field.validation_alias.choices[0]) for field in Settings.model_fields.values()}  # type: ignore[union-attr]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_example_file_names_every_setting() -> None:
    """No variable is missing from .env.example, and none is invented."""
    assert set(re.findall(r"^([A-Z_]+)=", text(".env.example"), re.MULTILINE)) == VARIABLES


def test_the_example_file_as_it_is_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of .env.example without edits starts with the defaults."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert Settings(_env_file=ROOT / ".env.example") == Settings(_env_file=None)


def test_the_readme_names_every_setting() -> None:
    """The configuration table has one row for each variable."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", text("README.md"), re.MULTILINE)) == VARIABLES


@pytest.mark.parametrize("name", ["README.md", ".env.example"])
@pytest.mark.parametrize("field", ["embedding_model", "rerank_model", "chat_model", "max_upload_mb", "data_dir"])
def test_the_papers_give_the_defaults(name: str, field: str) -> None:
    """Defaults are written down as they are."""
    assert str(Settings.model_fields[field].default) in text(name)


def test_the_readme_has_the_two_commands() -> None:
    """Starting and testing take one command each."""
    assert "\npip install -r requirements.txt && streamlit run app.py\n" in text("README.md")
    assert "\npip install -r requirements-dev.txt && pytest\n" in text("README.md")


def test_the_architecture_names_every_module() -> None:
    """Whoever meets a module or package of the engine finds it on the map."""
    modules = {f"`{path.stem}`" for path in (ROOT / "rag").glob("*.py") if path.stem != "__init__"}
    packages = {f"`{path.parent.name}/`" for path in (ROOT / "rag").glob("*/__init__.py")}
    named = set(re.findall(r"`[a-z_]+/?`", text("ARCHITECTURE.md")))
    assert modules | packages <= named


def test_streamlit_and_footnote_have_the_same_upload_limit() -> None:
    """A file is not refused by one after the other has let it in."""
    limit = tomllib.loads(text(".streamlit/config.toml"))["server"]["maxUploadSize"]
    assert limit == Settings.model_fields["max_upload_mb"].default


def test_no_secret_is_committed() -> None:
    """The committed configuration holds no cookie secret, and the example file no value at all."""
    assert "cookieSecret" not in tomllib.loads(text(".streamlit/config.toml"))["server"]
    assert re.findall(r"^[A-Z_]+=(.+)$", text(".env.example"), re.MULTILINE) == []
