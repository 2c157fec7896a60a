"""The Usage part of the settings: what calls to models' servers took, the monthly budget, the key's own limit."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import streamlit as st

from pages.parts import failures, prices, stages
from pages.parts.untrusted import literal
from pages.parts.words import count
from rag import services
from rag.errors import OverBudget
from rag.openrouter.models import KeyInfo
from rag.usage import NOTHING, Grouping, Total, csv, dollars, month_of, next_month

_MONTH, _DAYS, _ALWAYS = "This month", "Last 30 days", "All time"
_GROUPINGS: Mapping[str, Grouping] = {"Model": "model", "Collection": "collection", "Stage": "stage", "Day": "day"}
_STAGES: Mapping[str, str] = {
    "indexing": "Indexing documents",
    "searching": "Searching",
    "reranking": "Reranking",
    "rewriting": "Understanding questions",
    "writing": "Writing answers",
    "checking": "Checking citations",
}
_LONGEST_BY_DAY = 120  # days in the chart; longer times are shown by month
_MOST_PLACES = 6
_ROWS_SHOWN = 10
_CENTS_TELL = 0.1  # from this height of the chart on cents tell its lines apart
_CHART_HEIGHT = 220
_NAME_WIDTH = 210  # leaves room for the cost beside it on a telephone
_AMOUNT_WIDTH = 90


def draw() -> None:
    """The whole part."""
    ledger = services.get().ledger
    if not ledger.totals("stage"):
        _nothing_yet()
    else:
        _budget_state()
        _this_month(ledger.totals("stage", month_of(_now())))
        _breakdown()
    _budget()
    _key_limit()


def warning() -> str | None:
    """A sentence, not yet Markdown, for other pages: from the chosen share of the month's budget on; None before."""
    built = services.get()
    budget = built.preferences.monthly_budget
    if budget is None:
        return None
    try:
        built.ledger.check(budget)
    except OverBudget as error:
        return str(error)
    spent = built.ledger.spent_in_month()
    if spent < budget * built.preferences.warns_at:
        return None
    return (
        f"{spent / budget * 100:.0f} % of this month's budget is spent: {dollars(spent)} of {dollars(budget)}. At "
        "100 % nothing more is sent to models. It can be raised in Settings → Usage."
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _nothing_yet() -> None:
    st.markdown(
        "**Nothing has been spent.** What is done on this machine costs nothing. Calls to a models' server will be "
        "listed here: by day, collection, model and stage, with what each of them cost."
    )


# ---------------------------------------------------------------- this month


def _budget_state() -> None:
    sentence = warning()
    if sentence is None:
        return
    is_spent = services.get().ledger.spent_in_month() >= (services.get().preferences.monthly_budget or 0)
    (st.error if is_spent else st.warning)(literal(sentence), icon=":material/account_balance_wallet:")


def _this_month(stages_of_month: Sequence[Total]) -> None:
    total = sum(stages_of_month, NOTHING)
    budget = services.get().preferences.monthly_budget
    st.subheader(f"{_now():%B %Y}", anchor=False)
    with st.container(horizontal=True, key="month"):
        st.metric("Cost", dollars(total.cost))
        st.metric("Calls", f"{total.calls:,}")
        st.metric("Tokens sent", prices.tokens(total.prompt_tokens))
        st.metric("From cache", prices.tokens(total.cached_tokens))
        st.metric("Tokens written", prices.tokens(total.completion_tokens))
    if budget is not None:
        spent = services.get().ledger.spent_in_month()
        left = f"{dollars(max(budget - spent, 0))} of {dollars(budget)} left until the end of the month"
        st.progress(min(spent / budget, 1.0), text=f":small[{literal(left)}]")
    _reservations(total)


def _reservations(total: Total) -> None:
    """How far the cost can be trusted."""
    said = []
    if total.estimated > 0:
        share = f"{total.estimated / total.cost * 100:.0f} %"
        said.append(f"{share} of the cost was not reported by the server and is estimated from list prices.")
    if total.unpriced:
        said.append(f"What {count(total.unpriced, 'call')} cost is not known, so the sum is higher than shown.")
    if said:
        st.caption(literal(" ".join(said)))


# ---------------------------------------------------------------- where it went


def _beginning(period: str) -> datetime | None:
    today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
    return {_MONTH: month_of(today), _DAYS: today - timedelta(days=29), _ALWAYS: None}[period]


def _breakdown() -> None:
    ledger = services.get().ledger
    st.subheader("Where it went", anchor=False)
    with st.container(horizontal=True, horizontal_alignment="distribute", key="usage-choice"):
        period = st.segmented_control(
            "Period",
            (_MONTH, _DAYS, _ALWAYS),
            default=_MONTH,
            key="usage-period",
            required=True,
            label_visibility="collapsed",
        )
        grouping = st.segmented_control(
            "By", list(_GROUPINGS), default="Model", key="usage-by", required=True, label_visibility="collapsed"
        )
    since = _beginning(period)
    days = ledger.totals("day", since)
    if not days:
        st.caption("No calls in this time.")
        return
    _chart(days, since)
    by = _GROUPINGS[grouping]
    _table(grouping, days[::-1] if by == "day" else ledger.totals(by, since))
    if period != _MONTH:
        _reservations(sum(days, NOTHING))
    _download(since)


def _chart(days: Sequence[Total], since: datetime | None) -> None:
    """Cost by day, also of days without any; by month where there are many days."""
    costs = {date.fromisoformat(day.name): day.cost for day in days}
    first = since.date() if since is not None else min(costs)
    length = (_now().date() - first).days + 1
    is_short = length <= _LONGEST_BY_DAY
    bars: dict[str, float] = {}
    for offset in range(length):
        day = first + timedelta(days=offset)
        name = f"{day.day} {day:%b}" if is_short else f"{day:%b %Y}"
        bars[name] = bars.get(name, 0.0) + costs.get(day, 0.0)
    unit = "Day" if is_short else "Month"
    names = {"field": unit, "type": "ordinal", "sort": list(bars), "title": None}
    amounts = {"field": "Cost", "type": "quantitative", "title": None}
    form = "$,.2f" if max(bars.values()) >= _CENTS_TELL else "$,.2~r"
    st.vega_lite_chart(
        {unit: list(bars), "Cost": list(bars.values())},
        {
            "mark": {"type": "bar", "cornerRadiusEnd": 2},
            "encoding": {
                "x": names | {"axis": {"labelAngle": 0, "labelOverlap": "greedy", "labelSeparation": 8}},
                "y": amounts | {"axis": {"format": form, "tickCount": 4}},
                "tooltip": [{"field": unit}, {"field": "Cost", "format": "$,.4~r"}],
            },
        },
        height=_CHART_HEIGHT,
        alt=f"Cost by {unit.lower()} in US dollars",
    )


def _table(grouping: str, totals: Sequence[Total]) -> None:
    whole = sum(totals, NOTHING)
    amount = st.column_config.NumberColumn(format=f"$%.{_places(totals)}f", width=_AMOUNT_WIDTH)
    number = st.column_config.NumberColumn(format="localized")
    columns: dict[str, list[Any]] = {
        grouping: [_label(grouping, total.name) for total in totals],
        "Cost": [total.cost for total in totals],
        "Calls": [total.calls for total in totals],
        "Tokens sent": [total.prompt_tokens for total in totals],
        "From cache": [total.cached_tokens for total in totals],
        "Tokens written": [total.completion_tokens for total in totals],
        "Searches": [total.search_units for total in totals],
    }
    if whole.estimated:
        columns["Estimated"] = [total.estimated for total in totals]
    if whole.unpriced:
        columns["Cost unknown"] = [total.unpriced for total in totals]
    if whole.failed:
        columns["Failed"] = [total.failed for total in totals]
    name = st.column_config.TextColumn(width=_NAME_WIDTH if grouping in ("Model", "Collection") else None)
    shown = dict.fromkeys(columns, number) | {grouping: name, "Cost": amount, "Estimated": amount}
    st.dataframe(
        columns,
        hide_index=True,
        column_config=shown,
        height="content" if len(totals) <= _ROWS_SHOWN else 35 * (_ROWS_SHOWN + 1),
    )


def _label(grouping: str, name: str) -> str:
    """What a row is called. Cells of a data frame are text, not Markdown."""
    if grouping == "Stage":
        return _STAGES[name]
    return name or "none"


def _places(totals: Sequence[Total]) -> int:
    """Decimal places that show two digits of the smallest cost in the table."""
    least = min((total.cost for total in totals if total.cost > 0), default=1.0)
    places = 2
    while places < _MOST_PLACES and least * 10**places < 10:
        places += 1
    return places


def _download(since: datetime | None) -> None:
    ledger = services.get().ledger
    st.download_button(
        "Download each call (CSV)",
        # Made when it is asked for; the mark at its beginning tells Excel that it is UTF-8.
        lambda: csv(ledger.entries(since)).encode("utf-8-sig"),
        file_name=f"footnote-usage-{_now():%Y-%m-%d}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        key="usage-csv",
    )


# ---------------------------------------------------------------- budget


@failures.acting
def _keep_budget() -> None:
    choice = services.get().choice
    budget = st.session_state["usage-budget"]
    warns_at = st.session_state.get("usage-warns-at", round(choice.preferences.warns_at * 100)) / 100
    choice.change(monthly_budget=budget, warns_at=warns_at)


def _budget() -> None:
    preferences = services.get().preferences
    following = next_month(_now())
    st.session_state["usage-budget"] = preferences.monthly_budget
    st.session_state["usage-warns-at"] = round(preferences.warns_at * 100)
    st.subheader("Monthly budget", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        st.number_input(
            "US dollars a month",
            value=None,  # what it stands for when it is emptied
            min_value=0.01,
            step=1.0,
            format="%.2f",
            key="usage-budget",
            placeholder="no limit",
            on_change=_keep_budget,
        )
    with right:
        st.number_input(
            "Warn at (%)",
            min_value=1,
            max_value=100,
            step=5,
            key="usage-warns-at",
            disabled=preferences.monthly_budget is None,
            on_change=_keep_budget,
        )
    st.caption(
        "When it is spent, nothing more is sent to models: questions and indexing wait until it is raised, or until "
        f"{following.day} {following:%B} (UTC). Empty it for no limit. What is on its way is finished, so that a month "
        "may end a little above it."
    )


# ---------------------------------------------------------------- the key's own limit


def _key_limit() -> None:
    stage = next((stage for stage in stages.STAGES if stages.is_served(stage)), None)
    if stage is None:
        return
    st.subheader("Limit of the key", anchor=False)
    st.caption(f"A key can have a spending limit of its own, set where it was made ({literal(stages.where(stage))}).")
    if st.button("Look up the key's limit", key="key-limit", icon=":material/key:"):
        with failures.shown():
            with st.spinner("Asking the server"):
                info = services.get().choice.key_info(stage)
            _key(info)


def _key(info: KeyInfo) -> None:
    with st.container(horizontal=True, key="key-limit-found"):
        st.metric("Limit", "none" if info.limit is None else dollars(info.limit))
        if info.limit_remaining is not None:
            st.metric("Left", dollars(max(info.limit_remaining, 0.0)))
        if info.limit_reset:
            st.metric("Starts anew", literal(info.limit_reset))
        if info.usage_monthly is not None:
            st.metric("Spent this month", dollars(info.usage_monthly))
    if info.is_free_tier:
        st.caption("The account has bought no credit yet: only free models answer, and few times a day.")
