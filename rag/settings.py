"""Every setting, with its default, read once from the environment and `.env`. The only reader of the environment."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rag.errors import InvalidRequest

Backend = Literal["openrouter", "local"]
RerankBackend = Literal["openrouter", "local", "off"]
Stage = Literal["embeddings", "rerank", "chat"]


def _variable(name: str) -> AliasChoices:
    return AliasChoices(name)


class Settings(BaseSettings):
    """What the server was started with. Empty variables count as not set."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    data_dir: Path = Field(default=Path("data"), validation_alias=_variable("FOOTNOTE_DATA_DIR"))
    api_token: SecretStr | None = Field(default=None, validation_alias=_variable("FOOTNOTE_API_TOKEN"))
    max_upload_mb: int = Field(default=200, ge=1, le=2000, validation_alias=_variable("FOOTNOTE_MAX_UPLOAD_MB"))

    openrouter_api_key: SecretStr | None = Field(default=None, validation_alias=_variable("OPENROUTER_API_KEY"))
    openrouter_base_url: HttpUrl = Field(
        default=HttpUrl("https://openrouter.ai/api/v1"), validation_alias=_variable("OPENROUTER_BASE_URL")
    )

    embeddings_setting: Backend | None = Field(default=None, validation_alias=_variable("FOOTNOTE_EMBEDDINGS"))
    rerank_setting: RerankBackend | None = Field(default=None, validation_alias=_variable("FOOTNOTE_RERANK"))
    chat_setting: Backend | None = Field(default=None, validation_alias=_variable("FOOTNOTE_CHAT"))

    embeddings_base_url: HttpUrl | None = Field(
        default=None, validation_alias=_variable("FOOTNOTE_EMBEDDINGS_BASE_URL")
    )
    embeddings_api_key: SecretStr | None = Field(
        default=None, validation_alias=_variable("FOOTNOTE_EMBEDDINGS_API_KEY")
    )
    rerank_base_url: HttpUrl | None = Field(default=None, validation_alias=_variable("FOOTNOTE_RERANK_BASE_URL"))
    rerank_api_key: SecretStr | None = Field(default=None, validation_alias=_variable("FOOTNOTE_RERANK_API_KEY"))
    chat_base_url: HttpUrl | None = Field(default=None, validation_alias=_variable("FOOTNOTE_CHAT_BASE_URL"))
    chat_api_key: SecretStr | None = Field(default=None, validation_alias=_variable("FOOTNOTE_CHAT_API_KEY"))

    site_url: HttpUrl | None = Field(default=None, validation_alias=_variable("FOOTNOTE_SITE_URL"))
    site_name: str = Field(default="Footnote", max_length=100, validation_alias=_variable("FOOTNOTE_SITE_NAME"))

    embedding_model: str = Field(
        default="openai/text-embedding-3-small", validation_alias=_variable("FOOTNOTE_EMBEDDING_MODEL")
    )
    rerank_model: str = Field(default="cohere/rerank-v3.5", validation_alias=_variable("FOOTNOTE_RERANK_MODEL"))
    chat_model: str = Field(default="~openai/gpt-mini-latest", validation_alias=_variable("FOOTNOTE_CHAT_MODEL"))

    @field_validator("openrouter_base_url", "embeddings_base_url", "rerank_base_url", "chat_base_url")
    @classmethod
    def _plain_address(cls, value: HttpUrl | None) -> HttpUrl | None:
        # Addresses are shown, logged and kept; a password in one would be, too.
        if value and (value.username or value.password or value.query or value.fragment):
            raise ValueError(
                "must be an address alone: no user, password or parameters (the key has a setting of its own)"
            )
        return value

    @field_validator("site_name")
    @classmethod
    def _sendable_name(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("must be plain letters, digits and signs")
        return value

    @field_validator("openrouter_api_key", "embeddings_api_key", "rerank_api_key", "chat_api_key", "api_token")
    @classmethod
    def _sendable_secret(cls, value: SecretStr | None) -> SecretStr | None:
        # Header values are ASCII without spaces; a pasted line break would otherwise fail at the first request.
        secret = value.get_secret_value() if value else ""
        if value and not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise ValueError("must be one word of plain letters, digits and signs")
        return value

    def server(self, stage: Stage) -> tuple[str, SecretStr | None]:
        """The base URL of a stage's server and the key for it: its own, else OpenRouter's.

        A key goes only to the server it was given for: a stage with an address of its own needs a key of its own.
        """
        address: HttpUrl | None = getattr(self, f"{stage}_base_url")
        key: SecretStr | None = getattr(self, f"{stage}_api_key")
        if address is not None:
            return str(address), key
        return str(self.openrouter_base_url), key or self.openrouter_api_key

    def server_settings(self, stage: Stage) -> tuple[str, str]:
        """The names of the variables that hold the address and the key of a stage's server."""
        if getattr(self, f"{stage}_base_url") is None:
            return "OPENROUTER_BASE_URL", "OPENROUTER_API_KEY"
        return f"FOOTNOTE_{stage.upper()}_BASE_URL", f"FOOTNOTE_{stage.upper()}_API_KEY"

    def _default_backend(self, stage: Stage) -> Backend:
        address = getattr(self, f"{stage}_base_url")
        return "openrouter" if address is not None or self.server(stage)[1] else "local"

    @property
    def embeddings(self) -> Backend:
        """Where vectors are made: a server when there is a key or an address for it, unless set otherwise."""
        return self.embeddings_setting or self._default_backend("embeddings")

    @property
    def rerank(self) -> RerankBackend:
        """Where candidates are reranked."""
        return self.rerank_setting or self._default_backend("rerank")

    @property
    def chat(self) -> Backend:
        """Where answers are written; "local" picks sentences instead of writing."""
        return self.chat_setting or self._default_backend("chat")

    @property
    def max_upload_bytes(self) -> int:
        """The largest file accepted, in bytes."""
        return self.max_upload_mb * 1024 * 1024


def load() -> Settings:
    """The settings of this process.

    Raises InvalidRequest naming the first variable with a wrong value, and never its value (it may be a key).
    """
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise InvalidRequest(
            f"The setting {problem['loc'][0]} has a value that cannot be used: {problem['msg']}."
        ) from None
