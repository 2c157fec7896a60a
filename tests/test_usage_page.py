"""The Usage part of the settings, and the line under an answer: what was spent is said, and what is not known too."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import cost, usage
from rag import services
from rag.database import now
from rag.domain import CallStage, Failure, Spending, Usage
from rag.errors import ProviderDown
from rag.openrouter.models import KeyInfo
from rag.preferences import Preferences
from rag.usage import Entry, month_of
from tests.fakes_ui import FakeServices

SHELL = Path(__file__).parents[1] / "pages" / "shell.py"
HOSTILE = '=HYPERLINK("http://evil.example") **bold** $x$'


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServices]:
    built = FakeServices(tmp_path)
    services.use(built)  # type: ignore[arg-type]
    yield built
    services.use(None)


@pytest.fixture
def served(fake: FakeServices) -> FakeServices:
    """Answers are written by a models' server."""
    fake.settings.chat = "openrouter"
    fake.models.local = False
    return fake


def entry(
    cost: float | None = 1.5,
    at: datetime | None = None,
    stage: CallStage = "writing",
    collection: tuple[str, str] = ("c1", "Policies"),
    model: str = "maker/writer",
    **figures: Any,
) -> Entry:
    took = Usage(**({"prompt_tokens": 1000, "completion_tokens": 200, "cost": cost} | figures))
    return Entry(at or now(), stage, *collection, "m1", Spending(model, "Provider", took, 1.0, 0, "done"))


def last_month() -> datetime:
    return month_of(now()) - timedelta(days=1)


def opened() -> AppTest:
    app = AppTest.from_file(SHELL, default_timeout=20)
    app.session_state["settings_tab"] = "Usage"
    return sound(app.run().switch_page("settings.py").run())


def sound(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def texts(app: AppTest) -> str:
    kinds = (app.subheader, app.markdown, app.caption, app.warning, app.error, app.info, app.text)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def choose(app: AppTest, key: str, value: str) -> AppTest:
    chosen = next(one for one in app.segmented_control if one.key == key)
    return sound(chosen.set_value(value).run())


def table(app: AppTest) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = app.dataframe[0].value.to_dict("records")
    return rows


def bars(app: AppTest) -> list[Any]:
    return list(json.loads(app.get("vega_lite_chart")[0].proto.spec)["encoding"]["x"]["sort"])


# ---------------------------------------------------------------- the ledger


def test_an_empty_ledger_says_that_local_work_costs_nothing(fake: FakeServices) -> None:
    """No chart of nothing, but what will be here."""
    app = opened()
    assert "What is done on this machine costs nothing" in texts(app)
    assert not app.metric and not app.dataframe


def test_the_month_to_date_is_summed_up(fake: FakeServices) -> None:
    """Calls of the month before are not part of it."""
    fake.ledger.record([entry(9.0, at=last_month()), entry(1.5, cached_tokens=600), entry(0.25)])
    assert metrics(opened()) == {
        "Cost": "$1.75",
        "Calls": "2",
        "Tokens sent": "2K",
        "From cache": "600",
        "Tokens written": "400",
    }


def test_what_is_estimated_or_not_known_is_said(fake: FakeServices) -> None:
    """A quarter of the cost, and one call."""
    fake.ledger.record([entry(3.0), entry(1.0, estimated=True), entry(None)])
    said = texts(opened())
    assert "25 % of the cost was not reported by the server and is estimated" in said
    assert "What 1 call cost is not known" in said


def test_reported_costs_have_no_reservations(fake: FakeServices) -> None:
    """Where everything is known nothing is said."""
    fake.ledger.record([entry()])
    said = texts(opened())
    assert "estimated" not in said and "not known" not in said


def test_the_table_groups_by_what_is_chosen(fake: FakeServices) -> None:
    """With exact figures."""
    fake.ledger.record([entry(1.5), entry(0.5, stage="reranking", collection=("c2", "Contracts"), search_units=2)])
    app = opened()
    assert [(row["Model"], row["Cost"], row["Tokens sent"]) for row in table(app)] == [("maker/writer", 2.0, 2000)]
    choose(app, "usage-by", "Stage")
    assert [(row["Stage"], row["Cost"]) for row in table(app)] == [("Writing answers", 1.5), ("Reranking", 0.5)]
    choose(app, "usage-by", "Collection")
    assert [(row["Collection"], row["Searches"]) for row in table(app)] == [("Policies", 0), ("Contracts", 2)]
    choose(app, "usage-by", "Day")
    assert [row["Day"] for row in table(app)] == [now().date().isoformat()]


def test_every_stage_has_a_name(fake: FakeServices) -> None:
    """A call for any purpose can be shown."""
    stages: tuple[CallStage, ...] = ("indexing", "searching", "reranking", "rewriting", "writing", "checking")
    fake.ledger.record([entry(stage=stage) for stage in stages])
    app = choose(opened(), "usage-by", "Stage")
    assert len({row["Stage"] for row in table(app)}) == 6


def test_the_period_can_be_chosen(fake: FakeServices) -> None:
    """All time has what this month has not."""
    fake.ledger.record([entry(1.0), entry(9.0, at=now() - timedelta(days=40))])
    app = opened()
    assert table(app)[0]["Cost"] == 1.0
    choose(app, "usage-period", "All time")
    assert table(app)[0]["Cost"] == 10.0
    choose(app, "usage-period", "Last 30 days")
    assert table(app)[0]["Cost"] == 1.0


def test_a_time_without_calls_says_so(fake: FakeServices) -> None:
    """They may all be long ago."""
    fake.ledger.record([entry(at=now() - timedelta(days=40))])
    assert "No calls in this time." in texts(opened())


def test_days_without_calls_are_in_the_chart(fake: FakeServices) -> None:
    """A gap must look like one; of the last 30 days there are 30 bars."""
    fake.ledger.record([entry()])
    app = choose(opened(), "usage-period", "Last 30 days")
    today = now()
    assert len(bars(app)) == 30 and bars(app)[-1] == f"{today.day} {today:%b}"


def test_long_times_are_drawn_by_month(fake: FakeServices) -> None:
    """Thirteen or fourteen of them cover 400 days."""
    fake.ledger.record([entry(at=now() - timedelta(days=400))])
    app = choose(opened(), "usage-period", "All time")
    assert len(bars(app)) in (14, 15) and bars(app)[-1] == f"{now():%b %Y}"


def test_hostile_names_are_cells_and_nothing_else(fake: FakeServices) -> None:
    """They stay as they are, and never become Markdown."""
    fake.ledger.record([entry(collection=("c1", HOSTILE), model=HOSTILE)])
    app = opened()
    assert table(app)[0]["Model"] == HOSTILE
    assert table(choose(app, "usage-by", "Collection"))[0]["Collection"] == HOSTILE
    assert "evil" not in texts(app)


def test_the_calls_can_be_downloaded(fake: FakeServices) -> None:
    """Where there are any."""
    fake.ledger.record([entry()])
    assert [one.proto.label for one in opened().get("download_button")] == ["Download each call (CSV)"]


# ---------------------------------------------------------------- the budget


def test_a_budget_is_kept_at_once(fake: FakeServices) -> None:
    """And can be taken away again."""
    fake.choice.preferences = Preferences(chat_model="maker/kept")
    app = opened()
    sound(app.number_input(key="usage-budget").set_value(20.0).run())
    assert fake.preferences == Preferences(chat_model="maker/kept", monthly_budget=20.0)
    sound(app.number_input(key="usage-warns-at").set_value(60).run())
    assert fake.preferences.warns_at == 0.6
    sound(app.number_input(key="usage-budget").set_value(None).run())
    assert fake.preferences.monthly_budget is None


def test_what_is_left_of_the_budget_is_shown(fake: FakeServices) -> None:
    """Without a warning while there is enough."""
    fake.choice.preferences = Preferences(monthly_budget=20.0)
    fake.ledger.record([entry(5.0)])
    app = opened()
    assert [one.proto.text for one in app.get("progress")] == [
        ":small[\\$15\\.00 of \\$20\\.00 left until the end of the month]"
    ]
    assert not app.warning and usage.warning() is None


def test_the_warning_comes_at_the_chosen_share(fake: FakeServices) -> None:
    """Not before it."""
    fake.choice.preferences = Preferences(monthly_budget=20.0, warns_at=0.8)
    fake.ledger.record([entry(15.99)])
    assert usage.warning() is None
    fake.ledger.record([entry(0.01)])
    sentence = "80 % of this month's budget is spent: $16.00 of $20.00."
    assert (usage.warning() or "").startswith(sentence)
    assert sentence in texts(opened())


def test_a_spent_budget_is_an_error(fake: FakeServices) -> None:
    """It says what stops it and both ways out."""
    fake.choice.preferences = Preferences(monthly_budget=20.0)
    fake.ledger.record([entry(21.0)])
    app = opened()
    assert "This month's budget of $20.00 is spent: $21.00 so far." in app.error[0].value.replace("\\", "")
    assert "Raise it in Settings → Usage, or wait until 1 " in (usage.warning() or "")


def test_without_a_budget_there_is_no_warning(fake: FakeServices) -> None:
    """Whatever was spent."""
    fake.ledger.record([entry(1e6)])
    assert usage.warning() is None


# ---------------------------------------------------------------- the key


def look_up(app: AppTest) -> AppTest:
    return sound(app.button(key="key-limit").click().run())


def test_the_limit_of_the_key_is_looked_up(served: FakeServices) -> None:
    """Only when asked for."""
    served.choice.known_key = KeyInfo("", 100.0, 74.5, "monthly", 25.5, 5.25, True)
    app = opened()
    assert "Limit" not in metrics(app)
    look_up(app)
    assert metrics(app) == {"Limit": "$100.00", "Left": "$74.50", "Starts anew": "monthly", "Spent this month": "$5.25"}
    assert "no credit yet" in texts(app)


def test_a_key_without_a_limit_says_so(served: FakeServices) -> None:
    """None is not zero."""
    assert metrics(look_up(opened())) == {"Limit": "none"}


def test_a_failed_look_up_says_what_to_do(served: FakeServices) -> None:
    """As every failure does."""
    failure = Failure(503, "", "", "", "wait")
    served.choice.failure = ProviderDown("The server is down. Try later.", failure=failure)
    assert "The server is down. Try later." in texts(look_up(opened()))


def test_local_work_has_no_key_to_look_up(fake: FakeServices) -> None:
    """There is no server to ask."""
    assert all(one.key != "key-limit" for one in opened().button)


# ---------------------------------------------------------------- under an answer


def test_an_answer_says_what_it_took() -> None:
    """Tokens sent and written, those from the cache, searches and cost."""
    took = Usage(1840, 21, 1, 0.0031, cached_tokens=1200)
    assert cost.line(took).replace("\\", "") == "1,840 + 21 tokens (1,200 from cache) · 1 search · $0.0031"


def test_an_estimate_says_about() -> None:
    """It is not what will be on the bill."""
    assert cost.line(Usage(10, 0, 0, 0.5, estimated=True)).replace("\\", "") == "10 tokens · about $0.50"


def test_a_cost_that_was_not_reported_is_not_left_out() -> None:
    """Nothing would look like for free."""
    assert cost.line(Usage(10, 5, 2)) == "10 + 5 tokens · 2 searches · cost not reported"


def test_local_answers_have_no_line() -> None:
    """Nothing was spent."""
    assert cost.line(Usage()) == ""


def test_the_line_is_no_formula() -> None:
    """Two dollar signs on a page would make one of what is between them."""
    assert cost.line(replace(Usage(), cost=0.25)) == "\\$0\\.25"
