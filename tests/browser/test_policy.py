"""The content security policy in a real browser: it never hinders the app, and it stops what should not be there."""

from collections.abc import Iterator

import pytest
from conftest import NEW_VIEW, idle, serving
from playwright.sync_api import expect

REFUSED_DIRECTIVE = """([tag, properties]) => new Promise(resolve => {
    document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective), {once: true});
    document.body.append(Object.assign(document.createElement(tag), properties));
})"""
TITLE_AFTER_FRAME = """markup => new Promise(resolve => {
    const frame = Object.assign(document.createElement("iframe"), {srcdoc: markup});
    frame.addEventListener("load", () => resolve(document.title));
    document.body.append(frame);
})"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("policy"), {}) as url:
        yield url


@pytest.mark.parametrize("path", ["/", "/documents", "/settings"])
def test_the_policy_does_not_hinder_the_app(app: str, view: NEW_VIEW, path: str) -> None:
    """No page breaks the policy: the browser has nothing to say about it."""
    said: list[str] = []
    page = view(app + path)
    page.on("console", lambda message: said.append(message.text))
    page.reload()
    idle(page)
    expect(page.get_by_test_id("stMain")).not_to_be_empty()
    assert [text for text in said if "Security Policy" in text] == []


@pytest.mark.parametrize(
    ("tag", "properties", "directive"),
    [
        ("img", {"src": "http://127.0.0.1:9/picture.png?text=secret"}, "img-src"),
        ("iframe", {"src": "http://127.0.0.1:9/frame"}, "frame-src"),
        ("video", {"src": "http://127.0.0.1:9/film.mp4"}, "media-src"),
        ("script", {"src": "http://127.0.0.1:9/script.js"}, "script-src-elem"),
        ("script", {"textContent": "document.title = 'taken over'"}, "script-src-elem"),
    ],
)
def test_what_gets_into_the_page_is_not_loaded(
    app: str, view: NEW_VIEW, tag: str, properties: dict[str, str], directive: str
) -> None:
    """Markup that slipped through every escape can neither carry text away nor run."""
    assert view(app).evaluate(REFUSED_DIRECTIVE, [tag, properties]) == directive


def test_a_frames_own_markup_cannot_reach_the_page(app: str, view: NEW_VIEW) -> None:
    """A frame that brings its script along does not run it, although it is of the same origin."""
    markup = "<script>parent.document.title = 'taken over'</script>"
    assert view(app).evaluate(TITLE_AFTER_FRAME, markup) != "taken over"
