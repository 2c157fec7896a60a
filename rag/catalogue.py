"""The models that servers offered when they were last asked: for choosing one, and for what a call costs.

Kept for a day, and readable without a network for as long as nobody asks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.dialects import sqlite

from rag.database import Database, catalogues, now
from rag.domain import ModelInfo, ModelKind

FRESH = timedelta(days=1)
"""How long a list counts as new."""

_LIST = TypeAdapter(tuple[ModelInfo, ...])


@dataclass(frozen=True, slots=True)
class _Kept:
    fetched_at: datetime | None
    models: tuple[ModelInfo, ...]
    by_name: Mapping[str, ModelInfo]


class Catalogue:
    """The lists of a data folder, one for each server and kind of model. Nothing here uses a network."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: dict[tuple[str, ModelKind], _Kept] = {}  # each call that is priced looks here

    def models(self, server: str, kind: ModelKind) -> tuple[ModelInfo, ...]:
        """The models as last fetched; () when they never were, or the server has no list."""
        return self._kept(server, kind).models

    def fetched_at(self, server: str, kind: ModelKind) -> datetime | None:
        """When the list was fetched; None when it never was."""
        return self._kept(server, kind).fetched_at

    def is_stale(self, server: str, kind: ModelKind) -> bool:
        """Whether the list is a day old, or was never fetched."""
        fetched_at = self.fetched_at(server, kind)
        return fetched_at is None or now() - fetched_at >= FRESH

    def find(self, server: str, kind: ModelKind, model_id: str) -> ModelInfo | None:
        """The model of this name, or the one that an alias of this name stands for; None when it is not listed."""
        return self._kept(server, kind).by_name.get(model_id)

    def keep(self, server: str, kind: ModelKind, models: tuple[ModelInfo, ...]) -> None:
        """Put a list that was just fetched in the place of the one before."""
        fetched_at = now()
        value = {"fetched_at": fetched_at, "models": _LIST.dump_python(models, mode="json")}
        with self._database.write() as connection:
            connection.execute(
                sqlite.insert(catalogues)
                .values(server=server, kind=kind, **value)
                .on_conflict_do_update(index_elements=["server", "kind"], set_=value)
            )
        self._read[server, kind] = _Kept(fetched_at, models, _by_name(models))

    def _kept(self, server: str, kind: ModelKind) -> _Kept:
        known = self._read.get((server, kind))
        if known is None:
            known = self._read[server, kind] = self._stored(server, kind)
        return known

    def _stored(self, server: str, kind: ModelKind) -> _Kept:
        """The list on disk. One that cannot be read any more counts as never fetched."""
        try:
            with self._database.read() as connection:
                row = connection.execute(
                    select(catalogues.c.fetched_at, catalogues.c.models).where(
                        catalogues.c.server == server, catalogues.c.kind == kind
                    )
                ).one_or_none()
            if row is None or row.fetched_at.tzinfo is None:
                return _Kept(None, (), {})
            models = _LIST.validate_python(row.models)
        except ValueError:  # no JSON, no date, or not of this form
            return _Kept(None, (), {})
        return _Kept(row.fetched_at, models, _by_name(models))


def _by_name(models: tuple[ModelInfo, ...]) -> Mapping[str, ModelInfo]:
    """Models by their own names, and by what aliases of them stand for where that is not listed itself."""
    return {model.alias_of: model for model in models if model.alias_of} | {model.id: model for model in models}
