"""The catalogue: one SQLite file that is the truth about everything; vectors and keywords are derived from it.

SQLAlchemy Core is used here and in the stores that stand on this module (library, passages, figures, vectors,
keywords, conversations, preferences, catalogue, usage) and nowhere else; none of its types and exceptions leave them.
"""

import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
    false,
)
from sqlalchemy.exc import DBAPIError

from rag.errors import FootnoteError

BATCH = 500
"""How many values one statement may bind; SQLite's smallest limit in use is 999."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "ALTER TABLE collection ADD COLUMN figures BOOLEAN NOT NULL DEFAULT 0",
        "ALTER TABLE chunk ADD COLUMN figure TEXT",
        "ALTER TABLE message ADD COLUMN failure JSON",
        "ALTER TABLE version ADD COLUMN failure JSON",
        """CREATE TABLE figure (
            version_id TEXT NOT NULL REFERENCES version (id) ON DELETE CASCADE,
            key TEXT NOT NULL,
            media_type TEXT NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (version_id, key)
        )""",
        "CREATE TABLE preference (key TEXT NOT NULL PRIMARY KEY, value JSON NOT NULL)",
        """CREATE TABLE catalogue (
            server TEXT NOT NULL,
            kind TEXT NOT NULL,
            fetched_at TEXT NOT NULL,
            models JSON NOT NULL,
            PRIMARY KEY (server, kind)
        )""",
        """CREATE TABLE call (
            serial INTEGER NOT NULL PRIMARY KEY,
            at TEXT NOT NULL,
            stage TEXT NOT NULL,
            collection_id TEXT,
            collection TEXT NOT NULL,
            about TEXT NOT NULL,
            model TEXT NOT NULL,
            provider TEXT NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            cached_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL,
            search_units INTEGER NOT NULL,
            cost FLOAT,
            estimated BOOLEAN NOT NULL,
            seconds FLOAT NOT NULL,
            retries INTEGER NOT NULL,
            outcome TEXT NOT NULL
        )""",
        "CREATE INDEX ix_call_at ON call (at)",
    ),
)
"""`MIGRATIONS[n]` are the statements that lead from schema n + 1 to schema n + 2. Only ever append."""

_BUSY_SECONDS = 30

Item = TypeVar("Item")

Record = Row[*tuple[Any, ...]]
"""A row of any columns."""


class Moment(TypeDecorator[datetime]):
    """A point in time, kept as ISO 8601 text in UTC, so that text order is time order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        """Time to text."""
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        """Text to time."""
        return datetime.fromisoformat(value) if value else None


_metadata = MetaData()

collections = Table(
    "collection",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),  # the name without regard to case, see library.folded
    Column("chunk_size", Integer, nullable=False),
    Column("chunk_overlap", Integer, nullable=False),
    Column("embedding_model", Text, nullable=False),
    Column("dimension", Integer),
    Column("generation", Integer, nullable=False),
    Column("reindexing_to", Text),
    Column("removed", Boolean, nullable=False, server_default=false()),
    Column("created_at", Moment, nullable=False),
    Column("figures", Boolean, nullable=False, server_default=false()),
)
Index("collection_name", collections.c.folded, unique=True, sqlite_where=collections.c.removed.is_(False))

documents = Table(
    "document",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("collection_id", Text, ForeignKey("collection.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    # Versions refer to documents, so these two cannot be foreign keys as well.
    Column("current_id", Text),
    Column("newest_id", Text),
    Column("removed", Boolean, nullable=False, server_default=false()),
)
Index(
    "document_name",
    documents.c.collection_id,
    documents.c.name,
    unique=True,
    sqlite_where=documents.c.removed.is_(False),
)

versions = Table(
    "version",
    _metadata,
    Column("serial", Integer, primary_key=True),  # the order of the queue
    Column("id", Text, nullable=False, unique=True),
    Column("document_id", Text, ForeignKey("document.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("sha256", Text, nullable=False, index=True),
    Column("media_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("pages", Integer),
    Column("chunks", Integer, nullable=False),
    # No index: the planner would take it for "ready", which nearly all are, and read every chunk for a question.
    Column("status", Text, nullable=False),
    Column(
        "claimed", Boolean, nullable=False, server_default=false()
    ),  # somebody is at work on it, whatever its status
    Column("stage", Text, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("problem", Text),
    Column("warnings", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("failure", JSON(none_as_null=True)),
    UniqueConstraint("document_id", "number"),
    sqlite_autoincrement=True,
)

pages = Table(
    "page",
    _metadata,
    Column("version_id", Text, ForeignKey("version.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("label", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("runs", JSON(none_as_null=True)),
    Column("blocks", JSON, nullable=False),
)

chunks = Table(
    "chunk",
    _metadata,
    Column("serial", Integer, primary_key=True),  # the row's id in the keyword table
    Column("id", Text, nullable=False, unique=True),
    Column("version_id", Text, ForeignKey("version.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("page_first", Integer),
    Column("page_last", Integer),
    Column("headings", JSON, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("text_hash", LargeBinary, nullable=False, index=True),
    Column("figure", Text),  # the key of the image of a chunk that is a picture
    UniqueConstraint("version_id", "ordinal"),
    sqlite_autoincrement=True,
)

figures = Table(
    "figure",
    _metadata,
    Column("version_id", Text, ForeignKey("version.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

embedding_models = Table(
    "embedding_model",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("dimension", Integer, nullable=False),
)

embeddings = Table(
    "embedding",
    _metadata,
    # A table without row ids would read 8 to 10 times slower with values of this size.
    Column("serial", Integer, primary_key=True),
    Column("text_hash", LargeBinary, nullable=False),
    Column("model_id", Integer, ForeignKey("embedding_model.id"), nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little endian
    UniqueConstraint("text_hash", "model_id"),
)

keyword_totals = Table(
    "keyword_total",
    _metadata,
    Column("collection_id", Text, ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True),
    Column("chunks", Integer, nullable=False),
    Column("terms", Integer, nullable=False),
    Column("analyzer", Integer, nullable=False),  # words.ANALYZER at the time
)

keyword_terms = Table(
    "keyword_term",
    _metadata,
    Column("collection_id", Text, ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True),
    Column("term", Text, primary_key=True),
    Column("chunks", Integer, nullable=False),
    sqlite_with_rowid=False,
)

identity_terms = Table(
    "identity_term",
    _metadata,
    Column("collection_id", Text, ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True),
    Column("term", Text, primary_key=True),
    Column("version_id", Text, ForeignKey("version.id", ondelete="CASCADE"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

conversations = Table(
    "conversation",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("collection_id", Text, ForeignKey("collection.id", ondelete="SET NULL"), index=True),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

messages = Table(
    "message",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("conversation_id", Text, ForeignKey("conversation.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("answer", JSON(none_as_null=True)),
    Column("problem", Text),
    Column("created_at", Moment, nullable=False),
    Column("failure", JSON(none_as_null=True)),
    UniqueConstraint("conversation_id", "ordinal"),
)

preferences = Table(
    "preference",
    _metadata,
    Column("key", Text, primary_key=True),
    Column("value", JSON, nullable=False),
)

catalogues = Table(
    "catalogue",
    _metadata,
    Column("server", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("fetched_at", Moment, nullable=False),
    Column("models", JSON, nullable=False),
)

calls = Table(
    "call",
    _metadata,
    Column("serial", Integer, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("stage", Text, nullable=False),
    # No foreign key, and the name at the time: what was spent stays on the books when its collection goes.
    Column("collection_id", Text),
    Column("collection", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("search_units", Integer, nullable=False),
    Column("cost", Float),  # US dollars
    Column("estimated", Boolean, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
)


class Database:
    """One SQLite file, created or brought up to date when it is opened. Each operation has its own connection.

    Raises FootnoteError when the file cannot be used, or was written by a newer Footnote.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            # Transactions are begun below, so that readers see one state and writers queue up from their first line.
            connect_args={"isolation_level": None, "timeout": _BUSY_SECONDS},
            hide_parameters=True,  # they hold document text, and errors reach the log
            max_overflow=-1,
        )
        event.listen(self._engine, "connect", _configure)
        # Connections wait in the engine's pool; they must be closed even where nobody calls `close`.
        weakref.finalize(self, self._engine.dispose)
        with self.write() as connection:
            migrate(connection, MIGRATIONS)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the catalogue throughout. Raises FootnoteError."""
        with _translated(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection that nobody else writes beside; on disk when left, undone by any error. Raises FootnoteError."""
        with _translated(), self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def migrate(connection: Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Bring the schema up to date. Raises FootnoteError when it is newer than this program."""
    latest = len(migrations) + 1
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > latest:
        raise FootnoteError("The data folder was written by a newer version of Footnote. Start that version instead.")
    if found == 0:
        _metadata.create_all(connection)
    for statements in migrations[found - 1 :] if found else ():
        for statement in statements:
            connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"PRAGMA user_version = {latest}")


def new_id() -> str:
    """A new identifier: 16 hexadecimal characters."""
    return secrets.token_hex(8)


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items in pieces that one statement can bind."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise FootnoteError(
            "The catalogue in the data folder cannot be read or written. "
            f"Check the free space and the rights of that folder. ({error.orig})"
        ) from error
