"""The settings page over services in memory: nothing acts before it was explained, and no key is ever shown."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from rag import services
from rag.domain import Failure, ModelInfo, Price
from rag.errors import InvalidRequest, ProviderError
from rag.openrouter.models import KeyInfo, Provider
from rag.openrouter.routing import Routing
from rag.preferences import Preferences
from rag.services import Reindexing
from tests.fakes_ui import NOW, FakeChoice, FakeServices

SHELL = Path(__file__).parents[1] / "pages" / "shell.py"
STAGES = ("chat", "embeddings", "rerank")
SECRET = "sk-or-v1-very-secret-0123456789"
DOWN = ProviderError("The server is down.", failure=Failure(503, "Azure", "gen-77", "overloaded", "wait"))

WRITER = ModelInfo("a/writer", "Writer", "chat", 400_000, Price(prompt=2.5e-7, completion=2e-6), True, ())
HOSTILE = ModelInfo("a/evil", "[free](http://evil.example) $x$", "chat", None, Price(), False, ())
SMALL = ModelInfo("a/small", "Small", "embeddings", 8_192, Price(prompt=2.5e-8), False, ())
LARGE = ModelInfo("a/large", "Large", "embeddings", 8_192, Price(prompt=1.3e-7), False, ())
RANKER = ModelInfo("a/ranker", "Ranker", "rerank", None, Price(request=0.002), False, ())


class Choice(FakeChoice):
    """Each stage has a server of its own name, and keys are one word."""

    def client(self, stage: str) -> Any:
        return SimpleNamespace(host=self.settings.hosts[stage])

    def type_key(self, stage: str | None, key: str) -> None:
        if " " in key:
            raise InvalidRequest("A key is one word of plain letters, digits and signs.")
        super().type_key(stage, key)

    def offer(self, kind: str, *models: ModelInfo) -> None:
        self.models_on_offer = tuple(model for model in self.models_on_offer if model.kind != kind) + models


class Served(FakeServices):
    """A server that uses OpenRouter for everything, with one collection of 48 passages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        vars(self.settings).update(
            embeddings="openrouter",
            rerank="openrouter",
            chat="openrouter",
            openrouter_base_url="https://openrouter.ai/api/v1",
            embedding_model="a/small",
            rerank_model="a/ranker",
            chat_model="a/writer",
            hosts=dict.fromkeys(STAGES, "openrouter.ai"),
        )
        vars(self.models).update(
            embeddings="openrouter:a/small", rerank="a/ranker", chat="a/writer", bands=None, local=False
        )
        self.choice = Choice(self.settings, self.models)
        self.choice.environment = set(STAGES)
        self.choice.models_on_offer = (WRITER, HOSTILE, SMALL, LARGE, RANKER)
        self.choice.providers_of_models = (Provider("Azure", "azure", Price(prompt=3e-7, completion=2e-6), 128_000),)
        self.choice.known_key = KeyInfo("Team", 100.0, 74.5, "monthly", 25.5, 5.0, False)
        self.fetched_at: datetime | None = NOW
        self.catalogue = SimpleNamespace(fetched_at=lambda server, kind: self.fetched_at)
        collection = self.library.create_collection("Hand*books", "openrouter:a/small")
        self.library.add(collection.id, "a.pdf", BytesIO(b"a"))
        self.cost: float | None = 0.0024
        self.known = 0
        self.reindexing = self._effort  # type: ignore[method-assign]

    def _effort(self, model: str, dimensions: int | None) -> Reindexing:
        name = f"openrouter:{model}" + (f"@{dimensions}" if dimensions else "")
        moving = tuple(one for one in self.library.collections() if one.embedding_model != name)
        return Reindexing(moving, 48 * len(moving), self.known, 18_000 * len(moving), self.cost)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Served]:
    built = Served(tmp_path)
    services.use(built)  # type: ignore[arg-type]
    st.cache_data.clear()
    yield built
    services.use(None)


@pytest.fixture
def alone(fake: Served) -> Served:
    """A server without any key."""
    fake.settings.embeddings = fake.settings.rerank = fake.settings.chat = "local"
    fake.models.local, fake.models.chat = True, None
    fake.choice.environment = set()
    return fake


def opened(part: str = "Models") -> AppTest:
    app = AppTest.from_file(SHELL, default_timeout=20).run()
    app.session_state["settings_tab"] = part
    return sound(app.switch_page("settings.py").run())


def sound(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def texts(app: AppTest) -> str:
    """Everything on the page that is text."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.text, app.info, app.success, app.error, app.code)
    return "\n".join(element.value for kind in kinds for element in kind)


def keys_of(app: AppTest) -> set[str]:
    return {one.key for one in app.button if one.key}


def click(app: AppTest, key: str) -> AppTest:
    return sound(app.button(key=key).click().run())


def typed(app: AppTest, key: str, name: str) -> AppTest:
    """A name that is not on the list, typed."""
    box = app.selectbox(key=key)
    box.options.append(name)
    return sound(box.set_value(name).run())


def everything_kept(app: AppTest) -> str:
    """All that the session remembers, widgets that are gone included."""
    return repr(app.session_state) + repr(app.session_state._state._state)  # type: ignore[union-attr]


# ---------------------------------------------------------------- without a key


def test_without_a_key_the_page_is_short_and_says_what_one_adds(alone: Served) -> None:
    """No widget that does nothing; one way on."""
    app = opened()
    assert not (app.selectbox or app.multiselect or app.toggle or app.number_input)
    assert "adds answers in plain words" in texts(app)
    assert texts(app).count("this machine") >= 3
    app = click(app, "enter-keys")
    assert app.session_state["settings_tab"] == "Keys"
    assert "Add a key" in texts(app)


def test_without_a_key_parts_that_need_a_server_are_not_offered(alone: Served) -> None:
    """Also when the address asks for them."""
    app = opened("Routing")
    assert app.session_state["settings_tab"] == "Models"
    assert app.segmented_control[0].options == ["Models", "Keys", "Usage", "Server"]


# ---------------------------------------------------------------- models


def test_each_stage_says_where_it_runs_and_what_its_model_costs(fake: Served) -> None:
    """Per million tokens, or per 1,000 searches; with its longest input, and whether it takes pictures."""
    shown = texts(opened()).replace("\\", "")
    assert shown.count(":gray-badge[openrouter.ai]") == 3
    assert "$0.25 in, $2.00 out per million tokens · reads 400K tokens · takes pictures" in shown
    assert "$0.025 per million tokens · reads 8K tokens" in shown
    assert "$2.00 per 1,000 searches" in shown
    assert "2 models listed on 21 Nov 2026, 09:30 UTC" in shown


def test_another_writer_acts_at_once(fake: Served) -> None:
    """Any name can be typed."""
    typed(opened(), "model-chat", "a/typed")
    assert fake.choice.preferences.chat_model == "a/typed"


def test_another_reranker_acts_at_once_and_can_be_taken_back(fake: Served) -> None:
    """To what the server was started with."""
    app = typed(opened(), "model-rerank", "a/other")
    assert fake.choice.preferences.rerank_model == "a/other"
    assert "Not in the server's list" in texts(app)
    app = click(app, "reset-rerank")
    assert fake.choice.preferences.rerank_model is None
    assert "reset-rerank" not in keys_of(app)


def test_a_name_that_cannot_be_one_is_refused_with_the_reason(fake: Served) -> None:
    """And the model in use stays."""
    app = typed(opened(), "model-chat", "a/two words")
    assert "A model's name is one word" in app.error[0].value.replace("\\", "")
    assert app.selectbox(key="model-chat").value == "a/writer"
    assert fake.choice.preferences == Preferences()


def test_words_that_were_typed_to_search_are_not_taken_for_a_name(fake: Served) -> None:
    """Enter takes what was typed: the one model they mean, or none when they could mean several."""
    typed(opened(), "model-chat", "WRITER")
    assert fake.choice.preferences.chat_model == "a/writer"
    app = typed(opened(), "model-chat", "a")
    assert "is the whole name of no model" in app.error[0].value
    assert fake.choice.preferences.chat_model == "a/writer"


def test_any_word_is_a_name_at_a_server_whose_models_have_no_maker(fake: Served) -> None:
    """As with Ollama or llama.cpp."""
    fake.choice.offer("chat", replace(WRITER, id="qwen3:8b", name="qwen3:8b"))
    typed(opened(), "model-chat", "qwen3")
    assert fake.choice.preferences.chat_model == "qwen3"


def test_the_list_to_choose_from_tells_what_is_known_of_each_model(fake: Served) -> None:
    """Name, price, longest input, pictures."""
    fake.choice.offer("chat", WRITER, HOSTILE, replace(WRITER, id="a/free", name="a/free", price=Price(0.0, 0.0)))
    assert opened().selectbox(key="model-chat").options == [
        "Writer (a/writer) · $0.25 in, $2.00 out · 400K · pictures",
        "[free](http://evil.example) $x$ (a/evil)",
        "a/free · free · 400K · pictures",
    ]


def test_models_that_stand_in_are_kept_in_order(fake: Served) -> None:
    """At most three."""
    sound(opened().multiselect(key="fallbacks").set_value(["a/evil", "a/writer"]).run())
    assert fake.choice.preferences.fallback_models == ("a/evil", "a/writer")


def test_providers_are_shown_when_they_are_asked_for(fake: Served) -> None:
    """With the name that routing knows them by."""
    app = opened()
    assert "Azure" not in texts(app)
    app = click(app, "providers-chat")
    assert "| Azure | azure | $0.30 in, $2.00 out per million tokens | 128K |" in texts(app).replace("\\", "")
    assert "Azure" not in texts(click(app, "providers-chat"))


def test_providers_that_cannot_be_had_leave_the_page_usable(fake: Served) -> None:
    """The sentence, and the details folded under it."""
    fake.choice.failure = DOWN
    app = click(opened(), "providers-chat")
    assert app.error[0].value == "The server is down\\."
    assert "Request id: gen-77" in texts(app).replace("\\", "")
    assert app.selectbox(key="model-chat").value == "a/writer"


def test_a_list_is_fetched_again_on_demand(fake: Served) -> None:
    """That of the stage asked for."""
    click(opened(), "refresh-rerank")
    assert fake.choice.refreshed == ["rerank"]


def test_without_a_network_the_names_in_use_still_work(fake: Served) -> None:
    """The list is empty and cannot be fetched: it is said, and names can be typed."""
    fake.choice.models_on_offer = ()
    fake.fetched_at, fake.choice.failure = None, DOWN
    app = opened()
    assert "The list of models has not been loaded yet. Any name can be typed." in texts(app)
    assert app.selectbox(key="model-chat").value == "a/writer"
    app = click(app, "refresh-chat")
    assert app.error[0].value == "The server is down\\."
    assert "The names in use go on working" in texts(app)


def test_a_server_without_a_list_is_told_apart(fake: Served) -> None:
    """It was asked, and has none."""
    fake.choice.offer("chat")
    assert "This server has no list of models" in texts(opened())


def test_names_from_the_server_are_shown_as_they_are(fake: Served) -> None:
    """They are no Markdown: neither in what is chosen nor in tables."""
    fake.choice.preferences = Preferences(chat_model="a/evil")
    fake.choice.providers_of_models = (Provider("![x](http://evil.example)", "a|b", Price(), None),)
    fake.choice.offer("chat", replace(HOSTILE, alias_of="[x](http://evil.example)"))
    app = click(opened(), "providers-chat")
    assert "](http" not in texts(app)
    assert "| a\\|b |" in texts(app)


# ---------------------------------------------------------------- the embedding model


def test_another_embedding_model_is_explained_before_anything_starts(fake: Served) -> None:
    """Which collections, how many passages and tokens, what it costs, and what happens meanwhile."""
    app = sound(opened().selectbox(key="model-embeddings").set_value("a/large").run())
    shown = texts(app).replace("\\", "")
    assert "- Hand*books: 48 passages" in shown
    assert "About 18,000 tokens will be embedded. At the list price that costs **about $0.0024**." in shown
    assert "Nothing has started yet" in shown
    assert fake.choice.preferences == Preferences()
    assert fake.reindexed == []


def test_a_confirmed_embedding_model_moves_every_collection(fake: Served) -> None:
    """The preference first, then each collection."""
    app = sound(opened().selectbox(key="model-embeddings").set_value("a/large").run())
    app = click(app, "confirm-embedding")
    assert fake.choice.preferences.embedding_model == "a/large"
    assert fake.reindexed == ["c0"]
    assert "confirm-embedding" not in keys_of(app)


def test_a_cancelled_embedding_model_changes_nothing(fake: Served) -> None:
    """The list shows the one in use again."""
    app = sound(opened().selectbox(key="model-embeddings").set_value("a/large").run())
    app = click(app, "cancel-embedding")
    assert fake.choice.preferences == Preferences()
    assert fake.reindexed == []
    assert app.selectbox(key="model-embeddings").value == "a/small"


def test_what_is_not_known_about_the_cost_is_said(fake: Served) -> None:
    """No price, no figure; vectors that are known already cost nothing."""
    fake.cost, fake.known = None, 12
    shown = texts(sound(opened().selectbox(key="model-embeddings").set_value("a/large").run()))
    assert "12 of 48 passages are known already and cost nothing" in shown
    assert "What that costs is not known" in shown


def test_shorter_vectors_go_the_same_way(fake: Served) -> None:
    """The length is set in the dialog, and counts as another model."""
    app = click(opened(), "change-length")
    assert "No collection has to be embedded anew." in texts(app)
    app = sound(app.number_input(key="embedding-dimensions").set_value(256).run())
    assert "Hand" in texts(app)
    click(app, "confirm-embedding")
    assert fake.choice.preferences.dimensions == 256
    assert fake.reindexed == ["c0"]


def test_collections_of_another_model_can_be_moved(fake: Served) -> None:
    """As after a key was typed."""
    fake.library.create_collection("Old", "local:wordllama-256")
    app = opened()
    assert "Still indexed with another model: Old" in texts(app)
    click(click(app, "move-collections"), "confirm-embedding")
    assert fake.reindexed == ["c1"]


def test_back_to_the_first_embedding_model_is_explained_too(fake: Served) -> None:
    """It embeds anew like any other change."""
    fake.choice.preferences = Preferences(embedding_model="a/large", dimensions=256)
    fake.library.all_collections["c0"] = replace(
        fake.library.all_collections["c0"], embedding_model="openrouter:a/large@256"
    )
    app = click(opened(), "reset-embeddings")
    assert "Hand" in texts(app)
    click(app, "confirm-embedding")
    assert fake.choice.preferences == Preferences()


# ---------------------------------------------------------------- answers


def test_answer_settings_are_kept_at_once(fake: Served) -> None:
    """An empty temperature leaves it to the model; zero is a temperature."""
    app = opened("Answers")
    app = sound(app.number_input(key="answers-temperature").set_value(0.0).run())
    assert fake.choice.preferences.temperature == 0.0
    app = sound(app.number_input(key="answers-temperature").set_value(None).run())
    app = sound(app.number_input(key="answers-longest_answer").set_value(2_000).run())
    app = sound(app.selectbox(key="answers-reasoning").set_value("low").run())
    for name in ("shows_reasoning", "checks_citations", "splits_questions"):
        app = sound(app.toggle(key=f"answers-{name}").set_value(True).run())
    assert fake.choice.preferences == Preferences(
        temperature=None,
        longest_answer=2_000,
        reasoning="low",
        shows_reasoning=True,
        checks_citations=True,
        splits_questions=True,
    )
    sound(app.selectbox(key="answers-reasoning").set_value("").run())
    assert fake.choice.preferences.reasoning is None


def test_what_a_citation_check_costs_is_said(fake: Served) -> None:
    """Before it is switched on."""
    assert "one more call per answer with the same sources" in texts(opened("Answers"))


# ---------------------------------------------------------------- routing


def test_routing_is_previewed_as_it_will_be_sent_and_saved_on_demand(fake: Served) -> None:
    """Names are made short names; prices are text per million tokens."""
    app = opened("Routing")
    app.multiselect(key="routing-chat-order").set_value(["Azure ", "deepinfra/fp8"])
    app.selectbox(key="routing-chat-data_collection").set_value("deny")
    app = sound(app.number_input(key="routing-chat-max_prompt_price").set_value(1.5).run())
    assert '"order": [\n      "azure",\n      "deepinfra/fp8"\n    ]' in app.code[0].value
    assert '"max_price": {\n      "prompt": "1.5"\n    }' in app.code[0].value
    assert fake.choice.preferences == Preferences()
    click(app, "save-routing")
    wanted = Routing(order=("azure", "deepinfra/fp8"), data_collection="deny", max_prompt_price=1.5)
    assert fake.choice.preferences == Preferences(chat_routing=wanted)


def test_routing_that_cannot_be_sent_says_why_and_loses_nothing(fake: Served) -> None:
    """It cannot be saved either."""
    app = opened("Routing")
    app.multiselect(key="routing-chat-only").set_value(["azure"])
    app = sound(app.multiselect(key="routing-chat-ignore").set_value(["azure"]).run())
    assert "both wanted and ignored" in app.error[0].value
    assert app.button(key="save-routing").disabled
    assert app.multiselect(key="routing-chat-only").value == ["azure"]


def test_each_stage_has_its_own_routing(fake: Served) -> None:
    """What is saved for one is not for the others."""
    fake.choice.preferences = Preferences(rerank_routing=Routing(zdr=True))
    app = opened("Routing")
    assert app.selectbox(key="routing-chat-zdr").value is None
    app = sound(app.segmented_control(key="routing-of").set_value("rerank").run())
    assert app.selectbox(key="routing-rerank-zdr").value is True
    app = sound(app.number_input(key="routing-rerank-max_request_price").set_value(0.002).run())
    click(app, "save-routing")
    wanted = Routing(zdr=True, max_request_price=0.002)
    assert fake.choice.preferences == Preferences(rerank_routing=wanted)


def test_changes_of_routing_can_be_discarded(fake: Served) -> None:
    """The form shows what is saved again."""
    fake.choice.preferences = Preferences(chat_routing=Routing(sort="price"))
    app = opened("Routing")
    app = sound(app.selectbox(key="routing-chat-sort").set_value("latency").run())
    app = click(app, "discard-routing")
    assert app.selectbox(key="routing-chat-sort").value == "price"
    app = click(app, "clear-routing")
    assert "Nothing is sent" in texts(app)
    assert fake.choice.preferences.chat_routing == Routing(sort="price")


def test_the_providers_of_the_model_are_suggested(fake: Served) -> None:
    """When they are asked for."""
    app = click(opened("Routing"), "suggest")
    assert app.multiselect(key="routing-chat-only").options == ["azure"]


def test_routing_at_another_server_says_that_it_may_be_ignored(fake: Served) -> None:
    """Only OpenRouter has providers."""
    assert not opened("Routing").info
    fake.settings.hosts["chat"] = "models.example:8000"
    assert "Only OpenRouter has providers" in opened("Routing").info[0].value


# ---------------------------------------------------------------- keys


def test_a_typed_key_is_taken_and_leaves_no_trace(fake: Served) -> None:
    """Neither on the page nor in the session; the field is empty again."""
    app = opened("Keys")
    app.text_input[0].set_value(SECRET)
    app = sound(app.button(key="FormSubmitter:key-Use this key").click().run())
    assert fake.choice.typed == {None: SECRET}
    assert "in use from now on" in texts(app)
    assert app.text_input[0].value == ""
    assert SECRET not in everything_kept(app)
    assert "secret" not in texts(app)


def test_after_a_key_was_typed_the_lists_of_models_are_loaded(fake: Served) -> None:
    """Those that are missing; and if the server cannot be reached, that is said at once."""
    fake.choice.offer("chat")
    app = opened("Keys")
    app.text_input[0].set_value(SECRET)
    sound(app.button(key="FormSubmitter:key-Use this key").click().run())
    assert fake.choice.refreshed == ["chat"]
    fake.choice.failure = DOWN
    app.text_input[0].set_value(SECRET)
    app = sound(app.button(key="FormSubmitter:key-Use this key").click().run())
    assert app.error[0].value == "The server is down\\."
    assert fake.choice.typed == {None: SECRET}


def test_a_key_can_be_for_one_stage(fake: Served) -> None:
    """It is said which server will see it."""
    fake.settings.hosts["chat"] = "models.example:8000"
    app = opened("Keys")
    app = sound(app.segmented_control(key="key-for").set_value("chat").run())
    assert "It is sent to models\\.example\\:8000 alone" in texts(app)
    app.text_input[0].set_value(SECRET)
    sound(app.button(key="FormSubmitter:key-Use this key").click().run())
    assert fake.choice.typed == {"chat": SECRET}


def test_a_key_that_cannot_be_one_is_refused_and_forgotten(fake: Served) -> None:
    """The reason is shown without the key."""
    app = opened("Keys")
    app.text_input[0].set_value("sk two words")
    app = sound(app.button(key="FormSubmitter:key-Use this key").click().run())
    assert "one word" in app.error[0].value
    assert "two words" not in texts(app) + everything_kept(app)
    assert fake.choice.typed == {}


def test_typed_keys_can_be_forgotten(fake: Served) -> None:
    """All of them, wherever they were typed for."""
    app = opened("Keys")
    assert "forget" not in keys_of(app)
    fake.choice.typed = {None: SECRET, "chat": SECRET}
    click(opened("Keys"), "forget")
    assert fake.choice.typed == {}


def test_where_each_key_comes_from_is_said(fake: Served) -> None:
    """Environment, typed, none."""
    fake.choice.environment, fake.choice.typed = {"chat"}, {"embeddings": SECRET}
    shown = texts(opened("Keys"))
    for said in ("Key from the environment", "Key typed here", "No key"):
        assert said in shown


def test_stages_with_one_server_and_one_key_stand_together(fake: Served) -> None:
    """Each key is tested once; one that only a stage has stands alone."""
    assert "**Answers, Embeddings, Reranking**" in texts(opened("Keys"))
    own = ("https://openrouter.ai/api/v1", SecretStr(SECRET))
    fake.settings.server = lambda stage: own if stage == "chat" else (own[0], SecretStr("shared"))
    app = opened("Keys")
    assert "**Answers**" in texts(app)
    assert "**Embeddings, Reranking**" in texts(app)
    assert {"test-chat", "test-embeddings"} <= keys_of(app)


def test_a_tested_key_tells_what_is_left(fake: Served) -> None:
    """Its name, limit and use, as the server says."""
    app = click(opened("Keys"), "test-chat")
    assert app.success[0].value.replace("\\", "") == (
        "The key works. It is called “Team”. $74.50 of $100.00 is left (monthly limit). Spent this month: $5.00."
    )


def test_a_key_that_does_not_work_says_why(fake: Served) -> None:
    """With the details folded."""
    fake.choice.failure = DOWN
    app = click(opened("Keys"), "test-chat")
    assert app.error[0].value == "The server is down\\."
    assert "Request id: gen-77" in texts(app).replace("\\", "")


# ---------------------------------------------------------------- the server


def test_the_server_part_names_limits_and_data(fake: Served) -> None:
    """The upload limit in the unit it is set in, also when it is one."""
    fake.settings.max_upload_mb = 1
    shown = texts(opened("Server"))
    assert "Files of up to 1 MB." in shown
    assert "Reranking is off" in shown


def test_limits_of_an_answer_are_told(alone: Served) -> None:
    """As they are for the reranker in use."""
    alone.models.bands = SimpleNamespace(not_found=0.1, confident=0.3, fitted=True)
    assert "Below relevance 0.10 the answer is “Not in your documents”." in texts(opened("Server"))
