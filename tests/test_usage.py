"""The ledger: nothing that was spent is lost, counted twice, or made up."""

import threading
from csv import DictReader
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from rag.database import Database, now
from rag.domain import CallStage, Price, Spending, Usage
from rag.errors import OverBudget
from rag.usage import Entry, Ledger, Total, csv, dollars, month_of, next_month, priced

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "footnote.db")


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def spending(cost: float | None = 0.25, **changes: Any) -> Spending:
    usage = Usage(**({"prompt_tokens": 100, "completion_tokens": 10, "cost": cost} | changes.pop("usage", {})))
    return replace(Spending("maker/writer", "Provider", usage, 1.5, 0, "done"), **changes)


def entry(
    cost: float | None = 0.25,
    at: datetime = NOON,
    stage: CallStage = "writing",
    collection: tuple[str | None, str] = ("c1", "Policies"),
    **changes: Any,
) -> Entry:
    return Entry(at, stage, *collection, "m1", spending(cost, **changes))


def names_and_costs(totals: tuple[Total, ...]) -> list[tuple[str, float]]:
    return [(total.name, total.cost) for total in totals]


# ---------------------------------------------------------------- entries


def test_an_entry_comes_back_as_it_was(ledger: Ledger) -> None:
    """Every figure, the unknown ones too."""
    usage = Usage(10, 5, 2, None, 3, 4, 1, estimated=True)
    entered = Entry(NOON, "reranking", None, "", "", Spending("maker/r", "", usage, 0.125, 3, "stopped"))
    ledger.record([entered])
    assert list(ledger.entries()) == [entered]


def test_entries_come_newest_first(ledger: Ledger) -> None:
    """By when they ended, and those of the same moment by when they were entered."""
    ledger.record([entry(1), entry(2, at=NOON - timedelta(hours=1)), entry(3)])
    assert [one.spending.usage.cost for one in ledger.entries()] == [3, 1, 2]


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(ledger: Ledger) -> None:
    """So that periods that follow one another count each call once."""
    moments = [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=2)]
    ledger.record([entry(at=moment) for moment in moments])
    assert [one.at for one in ledger.entries(moments[0], moments[2])] == [moments[1], moments[0]]
    assert ledger.totals("model", moments[0], moments[2])[0].calls == 2


def test_entries_are_recorded_all_or_none(ledger: Ledger) -> None:
    """Half an account would look like a whole one, and the budget does not count it either."""
    broken = replace(entry(), collection=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="catalogue"):
        ledger.record([entry(at=now()), broken])
    assert not list(ledger.entries())
    assert ledger.spent_in_month() == 0


def test_names_from_a_server_cannot_break_the_ledger(ledger: Ledger) -> None:
    """Halves of characters cannot be stored, and nothing is endless."""
    ledger.record([entry(model="maker/\ud800", provider="p" * 10_000)])
    found = next(ledger.entries()).spending
    assert found.model == "maker/?" and len(found.provider) == 200


def test_absurd_figures_do_not_break_the_sums(ledger: Ledger) -> None:
    """A server may report more tokens than the database can count."""
    absurd = {"prompt_tokens": 10**40, "completion_tokens": 2**63 - 1, "cached_tokens": 10**30}
    ledger.record([entry(1e308, usage=absurd)] * 20)
    (total,) = ledger.totals("model")
    assert total.prompt_tokens == 20 * 10**12 and total.cost == 20 * 10**12


# ---------------------------------------------------------------- totals


def test_totals_add_up_each_figure(ledger: Ledger) -> None:
    """Of two calls of one model."""
    ledger.record(
        [
            entry(0.25, usage={"prompt_tokens": 100, "cached_tokens": 60, "search_units": 1}),
            entry(0.5, usage={"prompt_tokens": 20, "completion_tokens": 7, "estimated": True}, seconds=0.5),
        ]
    )
    assert ledger.totals("model") == (Total("maker/writer", 2, 0, 120, 17, 60, 1, 0.75, 0.5, 2.0, 0),)


def test_days_are_days_in_utc_and_in_order(ledger: Ledger) -> None:
    """Whatever zone the moments were given in."""
    late_in_new_york = datetime(2026, 11, 20, 23, tzinfo=timezone(timedelta(hours=-5)))  # the 21st, 4:00 UTC
    ledger.record([entry(4, at=late_in_new_york), entry(1, at=NOON - timedelta(days=1)), entry(2)])
    assert names_and_costs(ledger.totals("day")) == [("2026-11-20", 1), ("2026-11-21", 6)]


def test_models_and_stages_come_by_falling_cost(ledger: Ledger) -> None:
    """What costs most comes first."""
    ledger.record([entry(1, stage="indexing", model="maker/a"), entry(3, model="maker/b"), entry(1, model="maker/b")])
    assert names_and_costs(ledger.totals("model")) == [("maker/b", 4), ("maker/a", 1)]
    assert names_and_costs(ledger.totals("stage")) == [("writing", 4), ("indexing", 1)]


def test_a_renamed_collection_is_one_line_with_its_newest_name(ledger: Ledger) -> None:
    """And another of the same name is another line."""
    ledger.record(
        [
            entry(1, collection=("c1", "Drafts")),
            entry(2, collection=("c1", "Policies")),
            entry(1, collection=("c2", "Policies")),
        ]
    )
    assert names_and_costs(ledger.totals("collection")) == [("Policies", 3), ("Policies", 1)]


def test_a_call_of_unknown_cost_is_counted_apart(ledger: Ledger) -> None:
    """Its total must not look complete."""
    ledger.record([entry(0.25), entry(None)])
    (total,) = ledger.totals("model")
    assert (total.cost, total.unpriced, total.calls) == (0.25, 1, 2)


def test_a_failed_call_that_took_nothing_is_not_of_unknown_cost(ledger: Ledger) -> None:
    """It is counted as failed; one that failed after it had taken something is both."""
    nothing = {"prompt_tokens": 0, "completion_tokens": 0}
    ledger.record([entry(None, usage=nothing, outcome="failed"), entry(None, outcome="failed")])
    (total,) = ledger.totals("model")
    assert (total.failed, total.unpriced) == (2, 1)


def test_nothing_recorded_is_no_totals(ledger: Ledger) -> None:
    """Not a line of zeros."""
    assert ledger.totals("day") == ()


def test_spent_counts_from_the_moment_on(ledger: Ledger) -> None:
    """In dollars, of what is known."""
    ledger.record([entry(1, at=NOON - timedelta(seconds=1)), entry(2), entry(None), entry(0.5, at=NOON)])
    assert ledger.spent(NOON) == 2.5


# ---------------------------------------------------------------- budget


def test_within_the_budget_nothing_is_raised(ledger: Ledger) -> None:
    """Not even a cent below it."""
    ledger.record([entry(19.99)])
    ledger.check(20, NOON)


def test_the_budget_is_over_once_it_is_reached(ledger: Ledger) -> None:
    """The sentence has both figures and both ways out."""
    ledger.record([entry(20.0)])
    with pytest.raises(OverBudget) as raised:
        ledger.check(20, NOON)
    assert str(raised.value) == (
        "This month's budget of $20.00 is spent: $20.00 so far. Raise it in Settings → Usage, or wait until "
        "1 December 2026 (UTC)."
    )


def test_without_a_budget_there_is_no_limit(ledger: Ledger) -> None:
    """However much was spent."""
    ledger.record([entry(1e6)])
    ledger.check(None, NOON)


def test_each_month_has_its_own_budget(ledger: Ledger) -> None:
    """It begins with the first moment of the month in UTC, not with the first call in it, and not where people live."""
    ledger.record([entry(20, at=NOVEMBER - timedelta(microseconds=1)), entry(1, at=NOVEMBER)])
    with pytest.raises(OverBudget):
        ledger.check(20, NOVEMBER - timedelta(days=1))
    ledger.check(20, NOVEMBER)
    ledger.check(20, datetime(2026, 10, 31, 23, tzinfo=timezone(timedelta(hours=-5))))
    assert ledger.spent_in_month(NOON) == 1


def test_the_cost_so_far_survives_a_restart(database: Database) -> None:
    """It is summed up anew when the ledger is opened."""
    Ledger(database).record([entry(3, at=now()), entry(0.5, at=now())])
    assert Ledger(database).spent_in_month() == 3.5


def test_calls_recorded_later_count_at_once(ledger: Ledger) -> None:
    """In the month that is being watched, and only those made in it."""
    ledger.check(20, NOON)
    ledger.record([entry(3), entry(5, at=NOVEMBER - timedelta(days=1)), entry(None)])
    assert ledger.spent_in_month(NOON) == 3


def test_the_cost_so_far_is_right_after_the_month_changed(ledger: Ledger) -> None:
    """And also for calls that were begun in the old month and entered in the new one."""
    december = next_month(NOON)
    ledger.record([entry(3, at=december - timedelta(seconds=1))])
    assert ledger.spent_in_month(december) == 0
    ledger.record([entry(1, at=december - timedelta(seconds=1)), entry(2, at=december)])
    assert ledger.spent_in_month(december) == 2
    assert ledger.spent_in_month(NOON) == 4


def test_calls_of_many_threads_are_all_counted(ledger: Ledger) -> None:
    """Batches are billed from several threads while others ask how much was spent."""
    months = (NOON, next_month(NOON))

    def spend() -> None:
        for number in range(10):
            ledger.record([entry(1, at=months[number % 2])])
            ledger.spent_in_month(months[number % 2])

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ledger.spent_in_month(month) for month in months] == [20, 20]


def test_december_is_followed_by_january() -> None:
    """Of the next year."""
    assert next_month(datetime(2026, 12, 31, 23, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert month_of(NOON) == NOVEMBER


# ---------------------------------------------------------------- prices

PRICE = Price(prompt=2.0, completion=10.0, cached=0.5)


def test_a_reported_cost_stays() -> None:
    """List prices never overrule what the server says, not even when it says nothing was charged."""
    assert priced(spending(0.25), PRICE) == spending(0.25)
    assert priced(spending(0.0), PRICE) == spending(0.0)


def test_a_cost_that_was_not_reported_is_worked_out_and_marked() -> None:
    """100 tokens at 2 and 10 at 10."""
    usage = priced(spending(None), PRICE).usage
    assert (usage.cost, usage.estimated) == (300.0, True)


def test_cached_tokens_have_their_own_price() -> None:
    """They are part of the prompt: 40 at 2, 60 at 0.5, and 10 at 10. Without such a price they cost what others do."""
    taken = spending(None, usage={"cached_tokens": 60})
    assert priced(taken, PRICE).usage.cost == 210.0
    assert priced(taken, replace(PRICE, cached=None)).usage.cost == 300.0


def test_more_cached_tokens_than_tokens_are_not_paid_back() -> None:
    """A server may report nonsense; no cost is negative."""
    usage = priced(spending(None, usage={"cached_tokens": 500, "completion_tokens": 0}), PRICE).usage
    assert usage.cost == 50.0


def test_searches_are_priced_by_the_unit() -> None:
    """Three search units at 0.002; the tokens of a reranker that is priced by search are free."""
    taken = spending(None, usage={"completion_tokens": 0, "search_units": 3})
    assert priced(taken, Price(request=0.002)).usage.cost == pytest.approx(0.006)


def test_a_price_per_request_is_charged_once_and_not_for_failures() -> None:
    """With the tokens: 300 and 1."""
    price = replace(PRICE, request=1.0)
    assert priced(spending(None), price).usage.cost == 301.0
    assert priced(spending(None, outcome="failed"), price).usage.cost == 300.0


def test_without_a_price_a_cost_stays_unknown() -> None:
    """With none at all, and also where one is missing for anything that was taken."""
    assert priced(spending(None), None) == spending(None)
    assert priced(spending(None), Price(prompt=2.0)) == spending(None)
    searched = spending(None, usage={"search_units": 1})
    assert priced(searched, PRICE) == searched


def test_a_missing_price_does_not_matter_for_what_was_not_taken() -> None:
    """Embeddings have no completion."""
    usage = priced(spending(None, usage={"completion_tokens": 0}), Price(prompt=2.0)).usage
    assert usage.cost == 200.0


# ---------------------------------------------------------------- CSV


def rows(*entries: Entry) -> list[dict[str, str]]:
    return list(DictReader(StringIO(csv(entries), newline=""), strict=True))


def test_csv_has_a_row_per_call_with_plain_figures() -> None:
    """Times in UTC, numbers without grouping or powers of ten."""
    at = datetime(2026, 11, 21, 7, tzinfo=timezone(timedelta(hours=-5)))
    (row,) = rows(entry(0.0000012, at=at, usage={"prompt_tokens": 1_234_567}))
    assert row["time"] == "2026-11-21T12:00:00+00:00"
    assert row["prompt_tokens"] == "1234567"
    assert row["cost_usd"] == "0.0000012"
    assert (row["purpose"], row["collection"], row["model"]) == ("writing", "Policies", "maker/writer")
    assert (row["estimated"], row["outcome"]) == ("no", "done")


def test_an_unknown_cost_is_an_empty_cell() -> None:
    """Not a zero."""
    assert rows(entry(None))[0]["cost_usd"] == ""


def test_without_calls_csv_is_its_header() -> None:
    """Ended as RFC 4180 wants lines ended."""
    assert csv(()).startswith("time,purpose,") and csv(()).count("\r\n") == 1


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_is_a_formula(beginning: str) -> None:
    """Names of collections, models and providers are other people's text."""
    hostile = f"{beginning}HYPERLINK(1)"
    (row,) = rows(entry(collection=("c1", hostile), model=hostile, provider=hostile))
    assert {row["collection"], row["model"], row["provider"]} == {f"'{hostile}"}


def test_quotes_commas_and_line_ends_stay_in_their_cell() -> None:
    """As RFC 4180 says."""
    name = 'A, "B"\r\nC'
    assert rows(entry(collection=("c1", name)))[0]["collection"] == name


# ---------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (1204.5, "$1,204.50"),
        (1, "$1.00"),
        (0.999, "$1.00"),
        (0.31, "$0.31"),
        (0.1, "$0.10"),
        (0.0996, "$0.10"),
        (0.0123, "$0.012"),
        (0.0031, "$0.0031"),
        (0.00000012, "$0.00000012"),
        (0.0000000001, "$0.00"),
    ],
)
def test_amounts_are_short_and_never_powers_of_ten(amount: float, shown: str) -> None:
    """Cents from a dollar on, two significant digits below."""
    assert dollars(amount) == shown
