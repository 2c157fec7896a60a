"""Text of strangers, on its way into Markdown."""

import random
import re

import pytest

from pages.parts.untrusted import answer, chip, extracts, literal, marked, plain, shortened, snippet

JOINER = "\u2060"
NASTY = (
    "![x](http://evil.example/?q=1)",
    "![x][ref]\n\n[ref]: http://evil.example/a.png",
    "[click](http://evil.example)",
    "[click](javascript:alert(1))",
    "<http://evil.example>",
    "http://evil.example and www.evil.example",
    "HTTPS://EVIL.example",
    "write to me@evil.example",
    "<img src=http://evil.example/x onerror=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    '```mermaid\ngraph TD; A@{ img: "http://evil.example/x" }\n```',
    "~~~ MERMAID\nA\n~~~",
    "- ```mermaid\n  A\n  ```",
    "> ~~~mermaid;x\n> A",
    "```&#109;ermaid\nA\n```",
    "```mer\\maid\nA\n```",
    "$$\\href{http://evil.example}{x}$$ costs $5 and $6",
    ":red[hidden] :material/bug_report: :smile: at 10:30[2]",
    "`code ![x](http://evil.example)` and ``a`b`` ![x](http://evil.example)",
    "| `a ![x](http://evil.example) | b` |\n|---|---|\n| `[y](http://evil.example) | c` |",
    "\\[a](http://evil.example) \\![b](http://evil.example) \\\\[c](http://evil.example)",
    "[^1]: ![x](http://evil.example)\n\nnote[^1]",
    "-> <- -- >= :streamlit:",
    "../<img src=x onerror=alert(1)>[a](http://evil).pdf",
)
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
FENCE_INFO = re.compile(r"(?im)^[^a-z\n]*?(?:`{3,}|~{3,})[ \t]*([^\s]*)")


def harmless(info: str) -> bool:
    """Whether the first word behind a code fence cannot spell a diagram, however it is written."""
    return bool(re.fullmatch(r"(?i)(?!mermaid)[a-z0-9+#]*", info))


def shown(markdown: str) -> str:
    """What a reader sees of Markdown in which every punctuation sign is escaped."""
    return ESCAPED.sub(r"\1", markdown).replace(JOINER, "")


@pytest.mark.parametrize("text", NASTY)
def test_a_label_shows_every_character_of_a_text(text: str) -> None:
    """Unescaping a label gives the text back, on one line."""
    assert shown(literal(text)) == " ".join(text.split())


@pytest.mark.parametrize("text", NASTY)
def test_a_label_leaves_no_sign_that_markdown_could_read(text: str) -> None:
    """Every punctuation sign of a label stands behind a backslash."""
    assert not re.search(r"[!-/:-@\[-`{-~]", ESCAPED.sub("", literal(text)))


@pytest.mark.parametrize("text", NASTY)
def test_an_answer_holds_nothing_that_could_load_or_link(text: str) -> None:
    """No image, inline link, reference, bare address, e-mail link or diagram survives, inside code or outside."""
    markdown = answer(text, "m1", {1})
    assert "![" not in markdown
    assert not re.search(r"\][(\[:]", markdown)
    assert not re.search(r"(?i)(https?|ftp|mailto)[:.]|www\.", markdown)
    assert not re.search(r"\w@\w", markdown)
    assert all(harmless(info) for info in FENCE_INFO.findall(markdown))


def test_random_mixtures_hold_nothing_that_could_load_or_link() -> None:
    """Ten thousand random strings of the signs that matter leave no image and no link."""
    dice = random.Random(7)
    signs = [
        "!",
        "[",
        "]",
        "(",
        ")",
        "`",
        "```",
        "\n",
        "\\",
        ":",
        "http://e.x",
        "[1]",
        "a",
        " ",
        "<",
        "|",
        "~~~",
        "mermaid",
    ]
    for _ in range(10_000):
        text = "".join(dice.choice(signs) for _ in range(dice.randint(1, 14)))
        markdown = answer(text, "m", {1}).replace(chip("m", 1), "")
        assert "![" not in markdown, text
        assert not re.search(r"\][(\[:]", markdown), text
        assert "http:" not in markdown, text
        assert all(harmless(info) for info in FENCE_INFO.findall(markdown)), text


def test_an_answer_keeps_what_helps_reading() -> None:
    """Bold text, lists and tables stay as they were written."""
    text = "**Bold** and *thin*\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    assert answer(text, "m1", set()) == text


def test_code_in_an_answer_is_not_escaped() -> None:
    """Signs within code stay alone, in spans and in blocks."""
    text = "`a < b & c[1]`\n\n```python\nif a < b: cost = '$1'\n```"
    assert answer(text, "m1", {1}) == text


def test_known_citations_become_chips_and_unknown_ones_stay_text() -> None:
    """Only numbers the answer really has open a source."""
    assert answer("Five days [1][7].", "m1", {1}) == f"Five days\u00a0{chip('m1', 1)}{JOINER}\\[7\\]."


def test_a_citation_behind_a_colon_is_not_lost() -> None:
    """Streamlit would read "10:30[2]" as one of its directives and drop the citation."""
    assert answer("at 10:30[2]", "m1", {2}) == f"at 10\\:30{chip('m1', 2)}"


def test_an_answer_shows_names_between_colons_as_they_are() -> None:
    """Streamlit would draw them as pictures, escaped or not."""
    assert answer(":smile:", "m", set()) == f"\\:{JOINER}smile\\:"
    assert literal(":material/home:") == f"\\:{JOINER}material\\/home\\:"


def test_code_within_a_list_is_code() -> None:
    """Models put code blocks into list items."""
    text = "- step\n\n    ```sh\n    echo $HOME\n    ```"
    assert answer(text, "m", set()) == text


def test_an_unfinished_code_block_counts_as_code() -> None:
    """While an answer streams, a block may still lack its end."""
    assert answer("```\na[1] < b", "m1", {1}) == "```\na[1] < b"


def test_a_backslash_before_a_sign_does_not_free_it() -> None:
    """An escape of the model's own is kept and does not turn ours off."""
    assert answer("\\<b>", "m1", set()) == "\\<b>"
    assert answer("\\\\<b>", "m1", set()) == "\\\\\\<b>"


def test_control_and_direction_characters_are_dropped() -> None:
    """They could hide or reorder what is shown."""
    assert answer("a\x00b\u202ec", "m", set()) == "abc"
    assert literal("a\x1bb\u2066c") == "abc"


def test_plain_text_keeps_everything_else() -> None:
    """It is shown without Markdown, so its signs and line ends stay as they are."""
    assert plain("*a*\n\t$b$\x1b\u202ec") == "*a*\n\t$b$c"


def test_extracts_show_a_documents_own_marks_as_they_are() -> None:
    """Only the number at the end of a paragraph is a citation."""
    assert extracts("*See* [1] there [2]\n\nMore [1]", "m", {1, 2}) == (
        f"\\*See\\* \\[1\\] there\u00a0{chip('m', 2)}\n\nMore\u00a0{chip('m', 1)}"
    )


def test_a_passage_is_shown_whole_with_its_sentence_lit() -> None:
    """The mark covers exactly the given characters."""
    assert marked("One. Two. Three.", 5, 9) == r"One\. :yellow-background[Two\.] Three\."


def test_spaces_at_the_edges_of_a_mark_are_kept() -> None:
    """They would be lost within it."""
    assert marked("ab cd ef", 2, 6) == "ab :yellow-background[cd] ef"


def test_a_mark_over_several_lines_is_drawn_line_by_line() -> None:
    """A directive may not contain a line end."""
    assert marked("ab\ncd\n\nef", 1, 8) == (
        "a:yellow-background[b]  \n:yellow-background[cd]  \n\n:yellow-background[e]f"
    )


@pytest.mark.parametrize("text", NASTY)
def test_a_lit_passage_shows_every_character(text: str) -> None:
    """Marking changes the colour and nothing else."""
    drawn = marked(text, 2, 9)
    plain = re.sub(r"(?<!\\):yellow-background\[((?:\\.|[^\]\\])*)\]", r"\1", drawn)
    assert " ".join(shown(plain).split()) == " ".join(text.split())


def test_a_snippet_is_cut_between_words_on_both_sides() -> None:
    """It shows the sentence, and how it goes on around it."""
    text = "alpha beta gamma. Here it is. delta epsilon zeta"
    start = text.index("Here")
    assert snippet(text, start, start + 11, around=8) == (r"… gamma\. :yellow-background[Here it is\.] delta …")


def test_a_short_text_is_not_shortened_and_a_long_one_ends_at_a_word() -> None:
    """The length includes the sign for what is missing."""
    assert shortened("two\nwords", 9) == "two words"
    assert shortened("several words here", 15) == "several words…"
    assert shortened("x" * 30, 10) == "x" * 9 + "…"
