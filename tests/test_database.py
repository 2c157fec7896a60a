"""The catalogue is one file, survives mistakes, and grows from version to version."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from rag.database import BATCH, MIGRATIONS, Database, batches, conversations, migrate, new_id, now
from rag.errors import FootnoteError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "catalogue.db"


def add_conversation(database: Database, title: str) -> None:
    with database.write() as connection:
        connection.execute(insert(conversations).values(id=new_id(), title=title, created_at=now(), updated_at=now()))


def titles(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(conversations.c.title)).scalars())


def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    """A transaction that ended is on disk."""
    first = Database(path)
    add_conversation(first, "Leave")
    first.close()
    assert titles(Database(path)) == {"Leave"}


def test_an_error_undoes_the_whole_transaction(path: Path) -> None:
    """Nothing of a transaction stays when its block raises."""
    database = Database(path)
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(insert(conversations).values(id="a", title="Half", created_at=now(), updated_at=now()))
        _ = 1 / 0
    assert titles(database) == set()


def test_safety_is_switched_on(path: Path) -> None:
    """Each connection uses the write-ahead log, syncs fully, and checks foreign keys."""
    with Database(path).read() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


def test_a_reader_sees_one_state_throughout(path: Path) -> None:
    """What is committed amid a read is not seen by it, and does not wait for it."""
    database = Database(path)
    with database.read() as connection:
        before = connection.execute(select(conversations.c.id)).all()
        add_conversation(database, "Meanwhile")
        after = connection.execute(select(conversations.c.id)).all()
    assert before == after == []
    assert titles(database) == {"Meanwhile"}


def test_writers_wait_for_one_another(path: Path) -> None:
    """Many threads that read and then write lose nothing."""
    database = Database(path)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (value INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (0)")

    def count() -> None:
        for _ in range(10):
            with database.write() as connection:
                value = connection.exec_driver_sql("SELECT value FROM counter").scalar_one()
                connection.exec_driver_sql(f"UPDATE counter SET value = {value + 1}")  # noqa: S608

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM counter").scalar_one() == 60


def test_migrations_run_once_and_in_order(path: Path) -> None:
    """A file of an older schema takes exactly the steps it lacks; a new one takes none."""
    database = Database(path)
    steps = [
        *MIGRATIONS,
        ["ALTER TABLE conversation ADD COLUMN colour TEXT"],
        ["UPDATE conversation SET colour = 'blue'"],
    ]
    add_conversation(database, "Old")
    for _ in range(2):
        with database.write() as connection:
            migrate(connection, steps)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT colour FROM conversation").scalars().all() == ["blue"]
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == len(steps) + 1


def columns(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """Every table with the name, nullability and key of its columns."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: {(column[1], column[3], column[5] > 0) for column in connection.execute(f"PRAGMA table_info({name})")}
            for name in names
        }


def test_a_file_of_the_first_schema_becomes_like_a_new_one(path: Path) -> None:
    """Whatever a new file has, a migrated one has too, and it keeps what was in it."""
    new = path.with_name("new.db")
    Database(new).close()
    database = Database(path)
    add_conversation(database, "Old")
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("figure", "preference", "catalogue", "call"):
            connection.execute(f"DROP TABLE {table}")
        for table, column in (
            ("collection", "figures"),
            ("chunk", "figure"),
            ("message", "failure"),
            ("version", "failure"),
        ):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    migrated = Database(path)
    assert titles(migrated) == {"Old"}
    migrated.close()
    assert columns(path) == columns(new)


def test_a_newer_file_is_refused(path: Path) -> None:
    """A file written by a newer Footnote is left alone, with a sentence."""
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FootnoteError, match="newer version"):
        Database(path)


def test_a_damaged_file_is_a_sentence(path: Path) -> None:
    """A file that is no database raises our error, never SQLAlchemy's."""
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(FootnoteError, match="catalogue"):
        Database(path)


def test_an_error_never_shows_values(path: Path) -> None:
    """Text that was being written appears neither in the error nor in its cause, which reaches the log."""
    database = Database(path)
    with pytest.raises(FootnoteError) as caught, database.write() as connection:
        for _ in range(2):
            connection.execute(
                insert(conversations).values(id="a", title="top secret", created_at=now(), updated_at=now())
            )
    assert "top secret" not in f"{caught.value} {caught.value.__cause__}"


def test_identifiers_are_short_and_distinct() -> None:
    """16 hexadecimal characters, never the same twice."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in ids)


def test_batches_fit_a_statement_and_keep_everything() -> None:
    """Pieces of at most the limit that give the whole again."""
    items = list(range(2 * BATCH + 1))
    pieces = list(batches(items))
    assert [len(piece) for piece in pieces] == [BATCH, BATCH, 1]
    assert [item for piece in pieces for item in piece] == items
