"""What people set on the settings page: kept in the catalogue, in force at once, for the whole server.

What the server was started with (`settings`) stands behind it: None here means "as it was started".
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.dialects import sqlite

from rag.database import Database, preferences
from rag.domain import Effort
from rag.errors import InvalidRequest
from rag.openrouter.routing import ANY_PROVIDER, Routing, checked

logger = logging.getLogger(__name__)

MOST_FALLBACKS = 3
"""How many models may follow the first; OpenRouter refuses more."""

_LONGEST_NAME = 200
_LENGTH = re.compile(r"@\d+$")  # how the length of its vectors is added to an embedding model's name
_KEY = "preferences"


@dataclass(frozen=True, slots=True)
class Preferences:
    """Everything that can be set while the server runs.

    `dimensions` shortens embeddings of models that allow it. `longest_answer` is in tokens, thinking included.
    `reasoning` is how much a model that thinks should think (None: as it likes); `shows_reasoning` keeps its thoughts
    for the reader. `checks_citations` has a second call judge each citation, `splits_questions` has the model find the
    questions within a question. `monthly_budget` is in US dollars, `warns_at` a share of it.
    """

    embedding_model: str | None = None
    dimensions: int | None = None
    rerank_model: str | None = None
    chat_model: str | None = None
    fallback_models: tuple[str, ...] = ()
    temperature: float | None = 0.2
    longest_answer: int | None = 8_000
    reasoning: Effort | None = None
    shows_reasoning: bool = False
    checks_citations: bool = False
    splits_questions: bool = False
    embedding_routing: Routing = ANY_PROVIDER
    rerank_routing: Routing = ANY_PROVIDER
    chat_routing: Routing = ANY_PROVIDER
    monthly_budget: float | None = None
    warns_at: float = 0.8


_FORM = TypeAdapter(Preferences)


class PreferenceStore:
    """The preferences of a data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> Preferences:
        """What was set last. What cannot be used any more counts as not set."""
        try:
            with self._database.read() as connection:
                stored = connection.execute(select(preferences.c.value).where(preferences.c.key == _KEY)).scalar()
        except ValueError:  # no JSON
            stored = None
        members = stored if isinstance(stored, dict) else {}
        usable = {name: value for name, value in members.items() if _is_usable({name: value})}
        if len(usable) < len(members):
            logger.warning("Preferences that cannot be used any more: %s", ", ".join(sorted(members.keys() - usable)))
        return _FORM.validate_python(usable)

    def save(self, wanted: Preferences) -> None:
        """Keep these from now on. Raises InvalidRequest when one of them cannot be."""
        value = _FORM.dump_python(validated(wanted), mode="json")
        with self._database.write() as connection:
            connection.execute(
                sqlite.insert(preferences)
                .values(key=_KEY, value=value)
                .on_conflict_do_update(index_elements=["key"], set_={"value": value})
            )


def _is_usable(members: Mapping[str, object]) -> bool:
    try:
        validated(_FORM.validate_python(members))
    except (ValueError, InvalidRequest):
        return False
    return True


def validated(wanted: Preferences) -> Preferences:
    """The same preferences when they can be used. Raises InvalidRequest with what is wrong."""
    models = (wanted.embedding_model, wanted.rerank_model, wanted.chat_model, *wanted.fallback_models)
    for model in models:
        if model is not None and not (
            0 < len(model) <= _LONGEST_NAME and model.isprintable() and " " not in model and not _LENGTH.search(model)
        ):
            raise InvalidRequest("A model's name is one word, like “openai/gpt-5-mini”.")
    if len(wanted.fallback_models) > MOST_FALLBACKS:
        raise InvalidRequest(f"At most {MOST_FALLBACKS} models can stand in for the first.")
    if wanted.dimensions is not None and not 1 <= wanted.dimensions <= 10_000:
        raise InvalidRequest("The length of vectors must be 1 to 10,000 numbers.")
    if wanted.temperature is not None and not 0 <= wanted.temperature <= 2:
        raise InvalidRequest("The temperature must be 0 to 2.")
    if wanted.longest_answer is not None and not 16 <= wanted.longest_answer <= 1_000_000:
        raise InvalidRequest("The longest answer must be 16 tokens or more.")
    if wanted.monthly_budget is not None and not (wanted.monthly_budget > 0 and math.isfinite(wanted.monthly_budget)):
        raise InvalidRequest("The monthly budget must be more than zero US dollars.")
    if not 0 < wanted.warns_at <= 1:
        raise InvalidRequest("The warning must come at 1 to 100 % of the budget.")
    for routing in (wanted.embedding_routing, wanted.rerank_routing, wanted.chat_routing):
        checked(routing)
    return wanted
