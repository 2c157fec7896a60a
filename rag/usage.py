"""The ledger: every call to a models' server, what it took and what it cost.

Local models cost nothing and are not entered. Months are calendar months in UTC, amounts are US dollars.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from csv import writer
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, case, func, insert, or_, select

from rag.database import Database, calls, now
from rag.domain import CallStage, Price, Spending, Usage
from rag.errors import OverBudget

Grouping = Literal["day", "collection", "model", "stage"]

_MOST = 10**12
"""No call takes more tokens or dollars: a larger figure is a server's nonsense, and could overflow a sum."""
_LONGEST_NAME = 200
_PLACES = 9
"""A billionth of a dollar is nothing."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_COLUMNS = (
    "time",
    "purpose",
    "collection",
    "about",
    "model",
    "provider",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "search_units",
    "cost_usd",
    "estimated",
    "seconds",
    "retries",
    "outcome",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call: when it ended, what for, for which collection (its name at the time) and on account of what.

    `about` is the id of the message or the document's version that it was made for, "" for neither.
    """

    at: datetime
    stage: CallStage
    collection_id: str | None
    collection: str
    about: str
    spending: Spending


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over the calls of one day (ISO date, UTC), collection, model or stage.

    `failed` counts the calls that brought nothing, `unpriced` those whose cost is unknown: `cost` is then more than
    it says. `estimated` is the part of `cost` that was not reported but worked out.
    """

    name: str
    calls: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    search_units: int
    cost: float
    estimated: float
    seconds: float
    unpriced: int

    def __add__(self, other: "Total") -> "Total":
        return Total(
            self.name,
            self.calls + other.calls,
            self.failed + other.failed,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.search_units + other.search_units,
            self.cost + other.cost,
            self.estimated + other.estimated,
            self.seconds + other.seconds,
            self.unpriced + other.unpriced,
        )


NOTHING = Total("", 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0)
"""The sum over no calls."""


def priced(spending: Spending, price: Price | None) -> Spending:
    """The same with its cost: as reported, else from list prices and marked as estimated, else still unknown.

    It stays unknown where a price is missing for anything that was taken; only what is priced by the request may have
    none for tokens. A request that failed is not charged for.
    """
    usage = spending.usage
    if usage.cost is not None or price is None:
        return spending
    requests = usage.search_units or int(price.request is not None and spending.outcome != "failed")
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    token_price = 0.0 if price.request else None
    prompt_price = token_price if price.prompt is None else price.prompt
    taken = (
        (usage.prompt_tokens - cached, prompt_price),
        (cached, prompt_price if price.cached is None else price.cached),
        (usage.completion_tokens, token_price if price.completion is None else price.completion),
        (requests, price.request),
    )
    cost = 0.0
    for amount, each in taken:
        if amount and each is None:
            return spending
        cost += amount * (each or 0.0)
    return replace(spending, usage=replace(usage, cost=cost, estimated=True))


class Ledger:
    """The calls of a data folder. They outlive the collections and conversations they were made for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing = threading.Lock()
        # The month that was asked about last and its cost so far, so that no question waits for a sum over all of its
        # calls. Replaced as a whole: reading it needs no lock.
        self._running = self._summed(month_of(now()))

    def record(self, entries: Sequence[Entry]) -> None:
        """Enter calls, all or none."""
        rows = [_values(entry) for entry in entries]
        if not rows:
            return
        with self._writing:
            with self._database.write() as connection:
                connection.execute(insert(calls), rows)
            month, cost = self._running
            self._running = month, cost + sum(row["cost"] or 0.0 for row in rows if month_of(row["at"]) == month)

    def spent(self, since: datetime) -> float:
        """What the calls from then on cost, as far as it is known."""
        with self._database.read() as connection:
            return float(connection.execute(select(func.total(calls.c.cost)).where(calls.c.at >= since)).scalar_one())

    def spent_in_month(self, moment: datetime | None = None) -> float:
        """What the calls of that calendar month, by default the present one, cost; without reading them again."""
        month = month_of(moment or now())
        running = self._running
        if running[0] != month:
            with self._writing:
                running = self._running = self._summed(month)
        return running[1]

    def check(self, budget: float | None, moment: datetime | None = None) -> None:
        """Raise OverBudget when the calls of this calendar month have cost the whole budget (None: no limit)."""
        if budget is None:
            return
        moment = moment or now()
        spent = self.spent_in_month(moment)
        if spent >= budget:
            following = next_month(moment)
            raise OverBudget(
                f"This month's budget of {dollars(budget)} is spent: {dollars(spent)} so far. Raise it in "
                f"Settings → Usage, or wait until {following.day} {following:%B %Y} (UTC)."
            )

    def totals(self, by: Grouping, since: datetime | None = None, until: datetime | None = None) -> tuple[Total, ...]:
        """Sums from `since` until before `until` (None: without limit): days in order, others by falling cost."""
        key, name = _groups(by)
        columns = calls.c
        usage = (columns.prompt_tokens, columns.completion_tokens, columns.search_units)
        is_failed = columns.outcome == "failed"
        is_unpriced = and_(columns.cost.is_(None), or_(~is_failed, *(amount > 0 for amount in usage)))
        cost = func.total(columns.cost)
        with self._database.read() as connection:
            rows = connection.execute(
                select(
                    name.label("name"),
                    func.count().label("calls"),
                    _number_where(is_failed).label("failed"),
                    func.sum(columns.prompt_tokens).label("prompt_tokens"),
                    func.sum(columns.completion_tokens).label("completion_tokens"),
                    func.sum(columns.cached_tokens).label("cached_tokens"),
                    func.sum(columns.search_units).label("search_units"),
                    cost.label("cost"),
                    func.total(case((columns.estimated, columns.cost))).label("estimated"),
                    func.total(columns.seconds).label("seconds"),
                    _number_where(is_unpriced).label("unpriced"),
                    func.max(columns.serial),  # SQLite then takes the name from the newest call of the group
                )
                .where(*_within(since, until))
                .group_by(key)
                .order_by(*((key,) if by == "day" else (cost.desc(), name)))
            ).all()
        return tuple(Total(*row[:-1]) for row in rows)

    def entries(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Entry]:
        """The calls from `since` until before `until` (None: without limit), newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(calls).where(*_within(since, until)).order_by(calls.c.at.desc(), calls.c.serial.desc())
            )
            for row in rows:
                yield _entry(row)

    def _summed(self, month: datetime) -> tuple[datetime, float]:
        with self._database.read() as connection:
            cost = connection.execute(
                select(func.total(calls.c.cost)).where(*_within(month, next_month(month)))
            ).scalar_one()
        return month, float(cost)


def csv(entries: Iterable[Entry]) -> str:
    """The calls as CSV (RFC 4180) with a header row; no cell can be taken for a formula by a spreadsheet."""
    content = StringIO()
    table = writer(content)
    table.writerow(_COLUMNS)
    for entry in entries:
        spending, usage = entry.spending, entry.spending.usage
        table.writerow(
            (
                entry.at.astimezone(UTC).isoformat(timespec="seconds"),
                entry.stage,
                _harmless(entry.collection),
                _harmless(entry.about),
                _harmless(spending.model),
                _harmless(spending.provider),
                usage.prompt_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                usage.completion_tokens,
                usage.reasoning_tokens,
                usage.search_units,
                "" if usage.cost is None else _plain(usage.cost),
                "yes" if usage.estimated else "no",
                f"{spending.seconds:.3f}",
                spending.retries,
                spending.outcome,
            )
        )
    return content.getvalue()


def dollars(amount: float) -> str:
    """ "$1,204.50", "$0.31"; below one dollar two significant digits: "$0.0031"."""
    rounded = float(f"{round(amount, _PLACES):.1e}")
    if not 0 < rounded < 1:
        return f"${amount:,.2f}"
    places = 1 - Decimal(f"{rounded:.1e}").adjusted()
    return f"${rounded:.{max(places, 2)}f}"


def month_of(moment: datetime) -> datetime:
    """The beginning of its calendar month in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(moment: datetime) -> datetime:
    """The beginning of the calendar month after it, in UTC."""
    month = month_of(moment)
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _groups(by: Grouping) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What tells the groups apart, and what each is called."""
    columns = calls.c
    match by:
        case "day":
            day = func.substr(columns.at, 1, len("2026-11-21"), type_=columns.stage.type)
            return day, day
        case "collection":
            return columns.collection_id, columns.collection
        case "model":
            return columns.model, columns.model
        case "stage":
            return columns.stage, columns.stage


def _number_where(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _within(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        conditions.append(calls.c.at >= since)
    if until is not None:
        conditions.append(calls.c.at < until)
    return conditions


def _values(entry: Entry) -> dict[str, Any]:
    spending, usage = entry.spending, entry.spending.usage
    return {
        "at": entry.at,
        "stage": entry.stage,
        "collection_id": entry.collection_id,
        "collection": entry.collection,
        "about": entry.about,
        "model": _name(spending.model),
        "provider": _name(spending.provider),
        "prompt_tokens": min(usage.prompt_tokens, _MOST),
        "completion_tokens": min(usage.completion_tokens, _MOST),
        "cached_tokens": min(usage.cached_tokens, _MOST),
        "cache_write_tokens": min(usage.cache_write_tokens, _MOST),
        "reasoning_tokens": min(usage.reasoning_tokens, _MOST),
        "search_units": min(usage.search_units, _MOST),
        "cost": None if usage.cost is None else min(usage.cost, _MOST),
        "estimated": usage.estimated,
        "seconds": spending.seconds,
        "retries": spending.retries,
        "outcome": spending.outcome,
    }


def _entry(row: Row[Any]) -> Entry:
    usage = Usage(
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        search_units=row.search_units,
        cost=row.cost,
        cached_tokens=row.cached_tokens,
        cache_write_tokens=row.cache_write_tokens,
        reasoning_tokens=row.reasoning_tokens,
        estimated=row.estimated,
    )
    spending = Spending(row.model, row.provider, usage, row.seconds, row.retries, row.outcome)
    return Entry(row.at, row.stage, row.collection_id, row.collection, row.about, spending)


def _name(text: str) -> str:
    """A name as a server gave it, made fit to be stored: not endless, and without halves of characters."""
    return text[:_LONGEST_NAME].encode(errors="replace").decode()


def _harmless(text: str) -> str:
    """A cell that a spreadsheet shows instead of computing it."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _plain(number: float) -> str:
    """All its digits, never as a power of ten."""
    return format(Decimal(repr(number)), "f")
